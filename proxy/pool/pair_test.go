package pool

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/allocs"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// Pairs of relays as between two meshed pods: an HTTP/1 application behind an
// inbound relay, which an outbound relay reaches over HTTP/2 and TLS. They have
// none of the proxy's stacks, only the engine.

// freed checks that no buffer stays lent. Who was about to give one back when the
// last connection was closed may need a moment.
func freed(t *testing.T, outstanding func() int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); outstanding() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d buffers were not freed", outstanding())
			return
		}
	}
}

// server runs serve for each connection to a loopback listener.
func server(t testing.TB, serve func(net.Conn)) netip.AddrPort {
	ln, err := netx.Listen(netip.MustParseAddrPort("127.0.0.1:0"), netx.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	closed := false
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed { // it came just before the listener went
				c.Close()
			}
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		closed = true
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return netx.AddrPort(ln.Addr())
}

func dialer(addr netip.AddrPort) func(context.Context) (net.Conn, error) {
	d := &netx.TCPDialer{Timeout: time.Minute}
	return func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, addr) }
}

// relay sends requests on to c. It answers errors with 502.
func relay(c exchange.Client) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		exchange.StripConnection(&x.Request.Fields)
		if x.Request.Version == exchange.HTTP2 {
			x.Request.Version = exchange.HTTP11
		} else {
			x.Request.Authority = x.Request.Get("host")
		}
		resp, err := c.RoundTrip(&x.Canceler, x.Request, x.Body)
		if err != nil {
			h := exchange.ResponseHead{Status: 502}
			h.Add("x-error", err.Error())
			x.Respond(&h, exchange.Empty)
			return
		}
		exchange.StripConnection(&resp.Head.Fields)
		x.Respond(&resp.Head, resp.Body)
		resp.Close()
	})
}

// echoApp answers with the request's body, or with size bytes if there is none.
func echoApp(size int) exchange.Handler {
	data := bytes.Repeat([]byte("x"), size)
	type answer struct {
		h exchange.ResponseHead
		b exchange.Bytes
	}
	answers := sync.Pool{New: func() any { return new(answer) }}
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		a := answers.Get().(*answer)
		defer answers.Put(a)
		a.h.Status, a.h.ContentLength = 200, int64(size)
		if x.Body.Ended() {
			a.b = exchange.Bytes{Data: data}
			x.Respond(&a.h, &a.b)
			return
		}
		a.h.ContentLength = x.Request.ContentLength
		x.Respond(&a.h, x.Body)
	})
}

// serverTLS and clientTLS are configurations that know each other.
func testTLS(t testing.TB) (serverTLS, clientTLS *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	base := tls.Config{
		Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13,
		DynamicRecordSizingDisabled: true, InsecureSkipVerify: true,
	}
	serverTLS = base.Clone()
	serverTLS.ClientAuth = tls.RequireAnyClientCert
	return serverTLS, base.Clone()
}

// mesh starts application, inbound and outbound and returns the outbound's
// address.
func mesh(t testing.TB, app exchange.Handler) netip.AddrPort {
	appAddr := server(t, func(c net.Conn) { h1.Serve(c, app, h1.ServerOptions{}) })
	inPool := NewH1(H1Options{Dial: dialer(appAddr)})
	t.Cleanup(inPool.Close)
	sTLS, cTLS := testTLS(t)
	inAddr := server(t, func(c net.Conn) {
		h2.NewServer(tls.Server(c, sTLS), relay(inPool), nil, h2.Options{}).Serve()
	})
	dialIn := dialer(inAddr)
	outPool := NewH2(H2Options{Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := dialIn(ctx)
		if err != nil {
			return nil, err
		}
		tc := tls.Client(c, cTLS)
		return tc, tc.HandshakeContext(ctx)
	}})
	t.Cleanup(func() { outPool.Close(); outPool.Wait() })
	return server(t, func(c net.Conn) { h1.Serve(c, relay(outPool), h1.ServerOptions{}) })
}

// rawClient is a keep-alive client that allocates nothing.
type rawClient struct {
	c    net.Conn
	req  []byte
	resp []byte // what was read first
	size int    // of a whole response
}

func newRawClient(t testing.TB, addr netip.AddrPort, req string) *rawClient {
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawClient{c: c, req: []byte(req), resp: make([]byte, 64<<10)}
}

// do sends the request and reads the response. The first response tells how
// long all are.
func (r *rawClient) do() error {
	if _, err := r.c.Write(r.req); err != nil {
		return err
	}
	if r.size > 0 {
		_, err := io.ReadFull(r.c, r.resp[:r.size])
		return err
	}
	n := 0
	for {
		m, err := r.c.Read(r.resp[n:])
		if err != nil {
			return err
		}
		n += m
		var body, head int
		if head = bytes.Index(r.resp[:n], []byte("\r\n\r\n")); head < 0 {
			continue
		}
		i := bytes.Index(bytes.ToLower(r.resp[:head]), []byte("content-length: "))
		fmt.Sscanf(string(r.resp[i+len("content-length: "):head+2]), "%d\r\n", &body)
		if n >= head+4+body {
			r.size = head + 4 + body
			if string(r.resp[9:12]) != "200" {
				return fmt.Errorf("response %q", r.resp[:n])
			}
			return nil
		}
	}
}

const getRequest = "GET /some/path?with=query HTTP/1.1\r\nHost: web.default.svc.cluster.local\r\nUser-Agent: test/1.0\r\nAccept: */*\r\n\r\n"
const postRequest = "POST /some/path HTTP/1.1\r\nHost: web.default.svc.cluster.local\r\nUser-Agent: test/1.0\r\nContent-Length: 64\r\n\r\n" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestPairAllocates: a request allocates nothing in outbound, inbound and
// application together. What crypto/tls allocates, a small object for each record
// that it reads, is not counted: how many there are goes by how busy the machine
// is.
func TestPairAllocates(t *testing.T) {
	for _, tc := range []struct{ name, req string }{
		{"GET", getRequest},
		{"POST", postRequest},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newRawClient(t, mesh(t, echoApp(64)), tc.req)
			for range 200 {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
			}
			if raceEnabled {
				return
			}
			got := allocs.Least(1000, func() {
				if err := c.do(); err != nil {
					t.Fatal(err)
				}
			}, "crypto/tls.")
			if got.PerCall > 0.2 {
				t.Errorf("%.2f allocations per request:\n%s", got.PerCall, got.Where)
			}
		})
	}
}

// TestPairGivesBuffersBack runs requests through the pair and expects that no
// buffer stays lent.
func TestPairGivesBuffersBack(t *testing.T) {
	outstanding := buf.Count()
	t.Run("load", func(t *testing.T) {
		addr := mesh(t, echoApp(100<<10))
		var wg sync.WaitGroup
		for i := range 8 {
			c, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer c.Close()
				for range 5 {
					io.WriteString(c, postRequest)
					io.WriteString(c, getRequest)
					if i%2 == 0 {
						// Every second client goes away early.
						io.ReadFull(c, make([]byte, 50<<10))
						return
					}
					if _, err := io.ReadFull(c, make([]byte, 100<<10)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	freed(t, outstanding)
}

func benchmarkClients(b *testing.B, addr netip.AddrPort, req string, clients int) {
	cs := make([]*rawClient, clients)
	for i := range cs {
		cs[i] = newRawClient(b, addr, req)
		if err := cs[i].do(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range cs {
		n := b.N / clients
		if i < b.N%clients {
			n++
		}
		wg.Go(func() {
			for range n {
				if err := c.do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkPair is a request through client, outbound, inbound and application,
// all in one process.
func BenchmarkPair(b *testing.B) {
	for _, bc := range []struct{ name, req string }{{"GET", getRequest}, {"POST", postRequest}} {
		for _, n := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/clients=%d", bc.name, n), func(b *testing.B) {
				benchmarkClients(b, mesh(b, echoApp(64)), bc.req, n)
			})
		}
	}
}

// BenchmarkRelayH1 is a request through one HTTP/1 relay to the application.
func BenchmarkRelayH1(b *testing.B) {
	app := echoApp(64)
	appAddr := server(b, func(c net.Conn) { h1.Serve(c, app, h1.ServerOptions{}) })
	p := NewH1(H1Options{Dial: dialer(appAddr)})
	defer p.Close()
	addr := server(b, func(c net.Conn) { h1.Serve(c, relay(p), h1.ServerOptions{}) })
	benchmarkClients(b, addr, getRequest, 32)
}
