package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

// message is what matters of a request to whoever is behind the proxy.
type message struct{ method, target, body string }

// parseOurs feeds in to a server and returns the requests that came of it.
func parseOurs(in []byte) (got []message, ended error) {
	ours, theirs := faultconn.Pipe(1 << 20)
	theirs.Write(in)
	theirs.(interface{ CloseWrite() error }).CloseWrite()
	done := make(chan struct{})
	go func() { io.Copy(io.Discard, theirs); theirs.Close(); close(done) }()
	ended = Serve(ours, exchange.HandlerFunc(func(x *exchange.Exchange) {
		m := message{method: string(x.Request.Method), target: string(x.Request.Path)}
		body, _, err := readAll(x.Body)
		if err != nil {
			return
		}
		m.body = body
		got = append(got, m)
		h := exchange.ResponseHead{Status: 200}
		x.Respond(&h, exchange.Empty)
	}), ServerOptions{})
	<-done
	return got, ended
}

// parseTheirs is the same with net/http.
func parseTheirs(in []byte) (got []message) {
	r := bufio.NewReader(bytes.NewReader(in))
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return got
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return got
		}
		got = append(got, message{req.Method, req.RequestURI, string(body)})
		if req.Close {
			return got
		}
	}
}

// FuzzRequests: whatever arrives, the server neither panics nor hangs, and it
// does not find other requests in it than net/http does. Two parsers that
// disagree about where a request ends are how requests are smuggled.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 1<<16 {
			return
		}
		got, _ := parseOurs(in)
		want := parseTheirs(in)
		for i, m := range got {
			if i >= len(want) {
				// net/http refuses more, and stops at what it refuses.
				return
			}
			w := want[i]
			if m.method != w.method || m.body != w.body {
				t.Errorf("request %d: %+v, net/http has %+v", i, m, w)
			}
			w.target, _, _ = strings.Cut(w.target, "#") // dropped by us alone
			if strings.HasPrefix(w.target, "/") && m.target != w.target {
				t.Errorf("request %d: target %q, net/http has %q", i, m.target, w.target)
			}
		}
	})
}

// FuzzResponses: whatever a server sends, the client neither panics nor hangs.
func FuzzResponses(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), false)
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		if len(in) > 1<<16 {
			return
		}
		ours, theirs := faultconn.Pipe(1 << 20)
		theirs.Write(in)
		theirs.(interface{ CloseWrite() error }).CloseWrite()
		c := NewConn(ours, ClientOptions{})
		req := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte("GET"), Path: slash}
		if head {
			req.Method = []byte("HEAD")
		}
		resp, err := c.RoundTrip(nil, req, exchange.Empty)
		if err != nil {
			return
		}
		readAll(resp.Body)
		resp.Close()
		ours.Close()
	})
}
