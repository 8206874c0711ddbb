package h1

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// TestChunksAreHTTP11: a request of HTTP/1.0 that was carried over HTTP/2 may have
// a body whose length nobody knows. HTTP/1.0 has no way to say that: a server might
// take the chunks for another request.
func TestChunksAreHTTP11(t *testing.T) {
	for _, c := range []struct {
		length int64
		want   string
	}{
		{-1, "HTTP/1.1 [chunked] hello"},
		{5, "HTTP/1.0 [] hello"},
	} {
		ours, theirs := net.Pipe()
		got := make(chan string, 1)
		go func() {
			defer theirs.Close()
			r, err := http.ReadRequest(bufio.NewReader(theirs))
			if err != nil {
				got <- err.Error()
				return
			}
			body, _ := io.ReadAll(r.Body)
			got <- r.Proto + " [" + join(r.TransferEncoding) + "] " + string(body)
			_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
		}()
		head := &exchange.RequestHead{Version: exchange.HTTP10, Method: []byte("POST"), Path: []byte("/"), ContentLength: c.length}
		head.Add("host", "a")
		resp, err := NewConn(ours, ClientOptions{}).RoundTrip(nil, head, &exchange.Bytes{Data: []byte("hello")})
		if err != nil {
			t.Fatal(err)
		}
		resp.Close()
		if g := <-got; g != c.want {
			t.Errorf("server got %s, want %s", g, c.want)
		}
	}
}

// TestTrailersHaveNoFraming: what HTTP/2 carries in trailers without harm must not
// reach a server that reads them as fields of the request.
func TestTrailersHaveNoFraming(t *testing.T) {
	ours, theirs := net.Pipe()
	got := make(chan string, 1)
	go func() {
		defer theirs.Close()
		b := make([]byte, 4096)
		n := 0
		for !strings.HasSuffix(string(b[:n]), "\r\n0\r\nx-sum: 1\r\n\r\n") {
			m, err := theirs.Read(b[n:])
			if n += m; err != nil || strings.Contains(string(b[:n]), "\r\n\r\n2\r\nok\r\n0\r\n") && strings.HasSuffix(string(b[:n]), "\r\n\r\n") {
				break
			}
		}
		_, trailers, _ := strings.Cut(string(b[:n]), "\r\n0\r\n")
		got <- trailers
		_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
	}()
	head := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte("POST"), Path: []byte("/"), ContentLength: -1}
	head.Add("host", "a")
	trailers := new(exchange.Fields)
	for _, name := range []string{"content-length", "Host", "transfer-encoding", "connection", "x-sum"} {
		trailers.Add(name, "1")
	}
	resp, err := NewConn(ours, ClientOptions{}).RoundTrip(nil, head, &withTrailers{trailers: trailers})
	if err != nil {
		t.Fatal(err)
	}
	resp.Close()
	if g := <-got; g != "x-sum: 1\r\n\r\n" {
		t.Errorf("server got the trailers %q", g)
	}
}

// withTrailers is a body "ok" with trailers.
type withTrailers struct {
	trailers *exchange.Fields
	done     bool
}

func (b *withTrailers) Next() (exchange.Frame, error) {
	b.done = true
	return exchange.Frame{Data: []byte("ok"), End: true, Trailers: b.trailers}, nil
}
func (b *withTrailers) Ready() bool { return true }
func (b *withTrailers) Ended() bool { return b.done }
func (b *withTrailers) Close(error) {}

func join(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
