package h1

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// relayTo is a handler that sends every request over a connection of its own to
// addr: the smallest proxy.
func relayTo(t testing.TB, addr string) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		c := NewConn(netx.NewTCP(nc.(*net.TCPConn)), ClientOptions{Released: func(c *Conn, reusable bool) {
			if reusable {
				c.Close()
			}
		}})
		if !x.Request.Upgrade {
			exchange.StripConnection(&x.Request.Fields)
		}
		resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
		if err != nil {
			var h exchange.ResponseHead
			h.Status = 502
			h.ContentLength = 0
			h.Add("x-error", err.Error())
			x.Respond(&h, exchange.Empty)
			return
		}
		if resp.Upgraded != nil {
			x.Tunnel(&resp.Head, resp.Upgraded)
		} else {
			exchange.StripConnection(&resp.Head.Fields)
			x.Respond(&resp.Head, resp.Body)
		}
		resp.Close()
	})
}

// listen serves connections with h until the test ends.
func listen(t testing.TB, h exchange.Handler) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		n := 0
		ended := make(chan struct{}, 1000)
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
			n++
			go func() {
				Serve(netx.NewTCP(c.(*net.TCPConn)), h, ServerOptions{})
				ended <- struct{}{}
			}()
		}
		for _, c := range conns {
			c.Close()
		}
		for range n {
			<-ended
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// TestRelayBetweenStandardPeers puts the codec between net/http's client and
// server.
func TestRelayBetweenStandardPeers(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/chunked":
			for i := range 3 {
				fmt.Fprintf(w, "part %d;", i)
				w.(http.Flusher).Flush()
			}
			return
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "text")
			w.Header().Set("X-Sum", "4")
			return
		case "/none":
			w.WriteHeader(204)
			return
		}
		w.Header().Set("X-Method", r.Method)
		w.Header().Set("X-Encoding", strings.Join(r.TransferEncoding, ","))
		w.Write(body)
	}))
	defer app.Close()
	addr := listen(t, relayTo(t, app.Listener.Addr().String()))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for _, tc := range []struct {
		method, path string
		body         io.Reader
		status       int
		want         string
		header       string
	}{
		{"GET", "/", nil, 200, "", ""},
		{"POST", "/", strings.NewReader("small"), 200, "small", ""},
		{"POST", "/", io.MultiReader(strings.NewReader("chun"), strings.NewReader("ked")), 200, "chunked", "chunked"},
		{"PUT", "/", bytes.NewReader(large), 200, string(large), ""},
		{"PUT", "/", io.MultiReader(bytes.NewReader(large)), 200, string(large), "chunked"},
		{"GET", "/chunked", nil, 200, "part 0;part 1;part 2;", ""},
		{"GET", "/trailers", nil, 200, "text", ""},
		{"HEAD", "/", nil, 200, "", ""},
		{"GET", "/none", nil, 204, "", ""},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			req, _ := http.NewRequest(tc.method, "http://"+addr+tc.path, tc.body)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.status || string(got) != tc.want {
				t.Errorf("status %d, %d bytes %.100q; want %d, %d bytes; error %s", resp.StatusCode, len(got), got, tc.status, len(tc.want), resp.Header.Get("x-error"))
			}
			if h := resp.Header.Get("X-Encoding"); h != tc.header {
				t.Errorf("request arrived with encoding %q, want %q", h, tc.header)
			}
			if tc.path == "/trailers" && resp.Trailer.Get("X-Sum") != "4" {
				t.Errorf("trailers %v", resp.Trailer)
			}
		})
	}
}
