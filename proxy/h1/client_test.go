package h1

import (
	"bufio"
	"io"
	"net"
	"net/http"
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

func join(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
