package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// dial connects a client of this package.
func dial(t testing.TB, addr string, o Options) *ClientConn {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClientConn(netx.NewTCP(nc.(*net.TCPConn)), o)
	t.Cleanup(func() { c.Close(); c.Wait() })
	return c
}

// relay is a handler that sends every request on to c: the smallest proxy.
func relay(c exchange.Client) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
		var reset *exchange.ResetError
		if errors.As(err, &reset) {
			x.Cancel(reset)
			return
		}
		if err != nil {
			var h exchange.ResponseHead
			h.Status = 502
			h.Add("x-error", err.Error())
			x.Respond(&h, exchange.Empty)
			return
		}
		x.Respond(&resp.Head, resp.Body)
		resp.Close()
	})
}

// listen serves connections with h until the test ends.
func listen(t testing.TB, h exchange.Handler, o Options) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var servers []*Server
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s := NewServer(netx.NewTCP(c.(*net.TCPConn)), h, nil, o)
			mu.Lock()
			servers = append(servers, s)
			mu.Unlock()
			wg.Go(func() {
				if err := s.Serve(); err != nil && !netx.IsReset(err) {
					t.Logf("serve: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, s := range servers {
			s.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// standardClient is x/net/http2's client without TLS.
func standardClient(t testing.TB) *http.Client {
	tr := &xhttp2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// standardServer is x/net/http2's server without TLS.
func standardServer(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h2c.NewHandler(h, &xhttp2.Server{}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func app(t testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
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
		case "/early":
			w.WriteHeader(413)
			return
		case "/echo":
			// Both directions progress independently.
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			b := make([]byte, 32<<10)
			for {
				n, err := r.Body.Read(b)
				w.Write(b[:n])
				w.(http.Flusher).Flush()
				if err != nil {
					break
				}
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Method", r.Method)
		for i := range len(r.Trailer) {
			w.Header().Set("X-Trailers", fmt.Sprint(i, r.Trailer))
		}
		w.Write(body)
	})
}

// TestRelayBetweenStandardPeers puts the codec between x/net's client and server.
func TestRelayBetweenStandardPeers(t *testing.T) {
	to := standardServer(t, app(t))
	addr := listen(t, relay(dial(t, to, Options{})), Options{})
	client := standardClient(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 128<<10)
	for _, tc := range []struct {
		method, path string
		body         func() io.Reader
		status       int
		want         string
	}{
		{"GET", "/", nil, 200, ""},
		{"POST", "/", func() io.Reader { return strings.NewReader("small") }, 200, "small"},
		{"PUT", "/", func() io.Reader { return bytes.NewReader(large) }, 200, string(large)},
		{"PUT", "/", func() io.Reader { return io.MultiReader(bytes.NewReader(large)) }, 200, string(large)},
		{"GET", "/stream", nil, 200, "part 0;part 1;part 2;"},
		{"GET", "/trailers", nil, 200, "text"},
		{"HEAD", "/", nil, 200, ""},
		{"GET", "/none", nil, 204, ""},
		{"POST", "/echo", func() io.Reader { return bytes.NewReader(large) }, 200, string(large)},
		{"PUT", "/early", func() io.Reader { return bytes.NewReader(large) }, 413, ""},
	} {
		t.Run(tc.method+tc.path, func(t *testing.T) {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					var body io.Reader
					if tc.body != nil {
						body = tc.body()
					}
					req, _ := http.NewRequest(tc.method, "http://"+addr+tc.path, body)
					resp, err := client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil {
						t.Error(err)
						return
					}
					if resp.StatusCode != tc.status || string(got) != tc.want {
						t.Errorf("status %d, %d bytes %.100q; want %d, %d bytes; error %s", resp.StatusCode, len(got), got, tc.status, len(tc.want), resp.Header.Get("x-error"))
					}
					if tc.path == "/trailers" && resp.Trailer.Get("X-Sum") != "4" {
						t.Errorf("trailers %v", resp.Trailer)
					}
				})
			}
			wg.Wait()
		})
	}
}
