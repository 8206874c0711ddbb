package netlab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// shuffledLimit ends a test whose bytes do not arrive.
const shuffledLimit = 2 * time.Minute

// pair is two proxies with a shuffled cable between them: the client's, which
// takes connections on the loopback, and the server's in another namespace.
type pair struct {
	client, server *app.App
	// application is where the server's proxy finds it.
	application atomic.Value
}

// startPair starts the pair; in is run where the server's sockets are to be.
func startPair(t *testing.T, in netlab.User, out netx.Dialer) *pair {
	t.Helper()
	const clientID, serverID = "client.ns.serviceaccount.identity.linkerd.cluster.local", "web.ns.serviceaccount.identity.linkerd.cluster.local"
	service, server := netip.MustParseAddrPort("10.96.0.1:80"), netip.MustParseAddrPort("10.0.0.2:8080")
	p := &pair{}
	ctl, ca := testcontrol.New(t), testca.New(t)
	ctl.Identity = ca
	ctl.SetOutbound(service.String(), testcontrol.ServicePolicy("ns", "web", 80))
	ctl.SetProfile(service.String(), nil)
	ctl.SetInbound(8080, testcontrol.OpenServer())
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.MeshedEndpoint(server.String(), serverID, 0))
	start := func(id, listen string, do func(func() error) error, o app.Options) *app.App {
		o.Config = apptest.Config(t, ctl, ca, id, apptest.Env{
			"INBOUND_LISTEN_ADDR": listen, "OUTBOUND_CONNECT_TIMEOUT": "30s", "OUTBOUND_HTTP_FAILFAST_TIMEOUT": "30s",
		})
		var out apptest.Log
		o.Log = out.Logger(t, o.Config)
		started := make(chan struct{})
		o.Started = func() { close(started) }
		o.InboundDst = func(net.Conn) (netip.AddrPort, error) { return server, nil }
		o.OutboundDst = func(net.Conn) (netip.AddrPort, error) { return service, nil }
		var a *app.App
		if err := do(func() (err error) {
			a, err = app.New(o)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		apptest.Run(t, a, id, &out)
		select {
		case <-started:
		case <-time.After(shuffledLimit):
			t.Fatalf("%s did not start", id)
		}
		return a
	}
	local := &netx.TCPDialer{}
	p.server = start(serverID, netlab.PeerShuffledIPv4.String()+":0", in.Do, app.Options{
		InboundDialer: netx.DialerFunc(func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return local.Dial(ctx, netip.MustParseAddrPort(p.application.Load().(string)))
		}),
	})
	here := func(f func() error) error { return f() }
	p.client = start(clientID, "127.0.0.1:0", here, app.Options{OutboundDialer: out, InboundDialer: local})
	return p
}

// echo sends every connection's bytes back, to its end.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// TestReorderedSegments sends bytes through a pair of proxies whose segments
// overtake each other on the way, in every protocol: all of them arrive as they
// were sent, and the connections live.
func TestReorderedSegments(t *testing.T) {
	lab := netlab.New(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d", seed)
	cable := lab.Shuffle(t, seed)
	var p *pair
	pod := lab.Pod.Root()
	dial := func(ctx context.Context) (net.Conn, error) {
		return pod.Dial(ctx, "tcp4", p.server.Addrs().Inbound.String())
	}
	p = startPair(t, lab.Peer.Root(), netx.DialerFunc(func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) { return dial(ctx) }))

	random := rand.New(rand.NewPCG(seed, 2))
	bytesOf := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	ctx, cancel := context.WithTimeout(t.Context(), shuffledLimit)
	defer cancel()
	meshed := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", p.client.Addrs().Outbound[0].String())
	}

	// Requests, bodies both ways, over connections that are kept.
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sha256.Sum256(b)))
		_, _ = w.Write(b)
	}), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	p.application.Store(l.Addr().String())
	for _, c := range []struct {
		name  string
		http2 bool
		dial  func(context.Context) (net.Conn, error)
	}{
		{"meshed HTTP/1", false, meshed}, {"meshed HTTP/2", true, meshed},
		{"unmeshed HTTP/1", false, dial}, {"unmeshed HTTP/2", true, dial},
	} {
		var connections atomic.Int64
		tr := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			connections.Add(1)
			return c.dial(ctx)
		}}
		tr.Protocols.SetHTTP1(!c.http2)
		tr.Protocols.SetUnencryptedHTTP2(c.http2)
		client := &http.Client{Transport: tr}
		for i, n := range []int{0, 1, 20_000, 300_000, 70_000} {
			sent := bytesOf(n)
			req, err := http.NewRequestWithContext(ctx, "POST", "http://web.ns.svc.cluster.local/", bytes.NewReader(sent))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatalf("%s, request %d: %v", c.name, i, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, sent) || resp.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(sent)) {
				t.Errorf("%s, %d bytes: status %d, %d bytes came back, %v", c.name, n, resp.StatusCode, len(got), err)
			}
		}
		tr.CloseIdleConnections()
		if n := connections.Load(); n != 1 {
			t.Errorf("%s: %d connections for requests one after the other", c.name, n)
		}
	}

	// Bytes of no protocol, up to both ends of the stream.
	p.application.Store(echo(t))
	for _, c := range []struct {
		name string
		dial func(context.Context) (net.Conn, error)
	}{{"meshed TCP", meshed}, {"unmeshed TCP", dial}} {
		conn, err := c.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(shuffledLimit))
		sent := append([]byte("no HTTP at all\x00\n"), bytesOf(1<<20)...)
		wrote := make(chan error, 1)
		go func() {
			_, err := conn.Write(sent)
			if err == nil {
				err = conn.(*net.TCPConn).CloseWrite()
			}
			wrote <- err
		}()
		got, err := io.ReadAll(conn)
		if werr := <-wrote; err != nil || werr != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d of %d bytes came back, the same: %v; %v, %v", c.name, len(got), len(sent), bytes.Equal(got, sent), err, werr)
		}
		conn.Close()
	}

	t.Logf("%d of %d packets were overtaken", cable.Passed(), cable.Moved())
	if cable.Passed() < 100 {
		t.Errorf("only %d of %d packets were overtaken: nothing was tested", cable.Passed(), cable.Moved())
	}
	if !strings.Contains(p.client.Metrics(), `outbound_http_route_backend_response_statuses_total`) {
		t.Error("requests did not go through the client's proxy")
	}
}
