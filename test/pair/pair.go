// Package pair runs two whole proxies in one process, for tests of what goes
// through both: a client's outbound proxy and a server's inbound proxy, with a
// control plane and real certificates. Only the kernel's redirection is
// missing; addresses of the story exist in dialers and original destinations.
//
//	p := pair.New(t)
//	p.Serve(pair.Web, listener)     // the application of a service
//	conn, err := net.Dial("tcp", p.Outbound(pair.Web))
//
// Each service has an outbound listener of its own, since there is no original
// destination to tell them apart, and an inbound one, for clients without a
// proxy. A Pair may be used from any goroutine once it is made.
package pair

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// A Service is one of those that the client may call.
type Service int

// The services.
const (
	// Web is meshed, and its protocol is detected.
	Web Service = iota
	// Opaque is meshed and marked opaque.
	Opaque
	// HTTP2 is meshed, and its policies say that it speaks HTTP/2, so nothing
	// is detected.
	HTTP2
	// Plain has no proxy.
	Plain
)

// services are all.
var services = []Service{Web, Opaque, HTTP2, Plain}

// String is the name of a service, the first label of its authority.
func (s Service) String() string { return [...]string{"web", "opaque", "http2", "plain"}[s] }

// Authority is the name that a client uses.
func (s Service) Authority() string { return s.String() + ".ns.svc.cluster.local" }

// address is that of the service; endpoint that of its pod.
func (s Service) address() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, 0, byte(s + 1)}), 80)
}

func (s Service) endpoint() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(s + 1)}), 8080+uint16(s))
}

// Identities of the two workloads.
const (
	ClientID = "client.ns.serviceaccount.identity.linkerd.cluster.local"
	ServerID = "web.ns.serviceaccount.identity.linkerd.cluster.local"
)

// Pair is two proxies that run.
type Pair struct {
	Control *testcontrol.Server

	t  testing.TB
	ca *testca.CA
	// client and server are the proxies of each side, by service: they differ
	// in the original destination that their listeners tell.
	client, server map[Service]*app.App

	mu    sync.Mutex
	addrs map[netip.AddrPort]string // guarded by mu; what addresses of the story are
	env   Env
}

// Env is configuration of the proxies besides what a Pair needs.
type Env = apptest.Env

// New starts the pair and stops it with the test.
func New(t testing.TB, env ...Env) *Pair {
	t.Helper()
	p := &Pair{
		Control: testcontrol.New(t), t: t, ca: testca.New(t),
		client: map[Service]*app.App{}, server: map[Service]*app.App{}, addrs: map[netip.AddrPort]string{},
	}
	p.Control.Identity = p.ca
	p.env = Env{}
	for _, e := range env {
		maps.Copy(p.env, e)
	}
	for _, s := range services {
		policy, server := testcontrol.ServicePolicy("ns", s.String(), 80), testcontrol.OpenServer()
		endpoint := testcontrol.MeshedEndpoint(s.endpoint().String(), ServerID, 0)
		switch s {
		case Opaque:
			policy.Protocol.Kind = &outboundpb.ProxyProtocol_Opaque_{Opaque: policy.Protocol.GetDetect().Opaque}
			server.Protocol.Kind = &inboundpb.ProxyProtocol_Opaque_{Opaque: &inboundpb.ProxyProtocol_Opaque{}}
			endpoint = testcontrol.MeshedEndpoint(s.endpoint().String(), ServerID, proxyPort)
		case HTTP2:
			policy.Protocol.Kind = &outboundpb.ProxyProtocol_Http2_{Http2: policy.Protocol.GetDetect().Http2}
			server.Protocol.Kind = &inboundpb.ProxyProtocol_Http2_{Http2: &inboundpb.ProxyProtocol_Http2{}}
		case Plain:
			endpoint = testcontrol.Endpoint(s.endpoint().String())
		}
		name := s.Authority() + ":80"
		p.Control.SetOutbound(s.address().String(), policy)
		p.Control.SetProfile(s.address().String(), nil)
		p.Control.SetProfile(name, nil)
		p.Control.SetInbound(s.endpoint().Port(), server)
		p.Control.SetEndpoints(name, endpoint)
	}
	for _, s := range services {
		p.client[s] = p.start("client-"+s.String(), ClientID, s)
		if s == Plain {
			continue
		}
		p.server[s] = p.start("server-"+s.String(), ServerID, s)
		// What is dialled from outside the pod is redirected to its proxy:
		// both the endpoint and the proxy's port.
		in := p.server[s].Addrs().Inbound.String()
		p.set(outside(s.endpoint()), in)
		p.set(outside(netip.AddrPortFrom(s.endpoint().Addr(), proxyPort)), in)
	}
	for _, a := range p.apps() {
		p.ready(a)
	}
	return p
}

func (p *Pair) apps() []*app.App {
	var all []*app.App
	for _, s := range services {
		for _, a := range []*app.App{p.client[s], p.server[s]} {
			if a != nil {
				all = append(all, a)
			}
		}
	}
	return all
}

// outside marks an address as dialled from outside its pod; a zone, which
// addresses of version 4 have not, cannot be mistaken.
func outside(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()).WithZone("outside"), a.Port())
}

func (p *Pair) set(a netip.AddrPort, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs[a] = to
}

// dialer dials addresses of the story, from inside the pod or from outside.
type dialer struct {
	p       *Pair
	outside bool
}

// Dial is netx.Dialer.
func (d dialer) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d.p.mu.Lock()
	addr, ok := "", false
	if d.outside {
		addr, ok = d.p.addrs[outside(to)]
	}
	if !ok {
		addr, ok = d.p.addrs[to]
	}
	d.p.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if d.outside && to.Port() == proxyPort {
		return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: direct.AsSlice()}}).DialContext(ctx, "tcp", addr)
	}
	var tcp netx.TCPDialer
	return tcp.Dial(ctx, netip.MustParseAddrPort(addr))
}

// proxyPort is that of inbound proxies. Connections to it have direct as their
// source, so that the proxy can be told that they were meant for itself.
const proxyPort = 4143

var direct = netip.MustParseAddr("127.0.0.2")

// start starts a proxy for a service.
func (p *Pair) start(name, id string, s Service) *app.App {
	p.t.Helper()
	cfg := apptest.Config(p.t, p.Control, p.ca, id, apptest.Env{"LOG": "warn,linkerd=info", "SHUTDOWN_GRACE_PERIOD": "5s"}, p.env)
	var out apptest.Log
	var a *app.App
	var err error
	a, err = app.New(app.Options{
		Config: cfg, Log: out.Logger(p.t, cfg), InboundDialer: dialer{p: p}, OutboundDialer: dialer{p: p, outside: true},
		InboundDst: func(c net.Conn) (netip.AddrPort, error) {
			if netx.AddrPort(c.RemoteAddr()).Addr() == direct {
				return netip.AddrPortFrom(s.endpoint().Addr(), netx.AddrPort(a.Addrs().Inbound).Port()), nil
			}
			return s.endpoint(), nil
		},
		OutboundDst: func(net.Conn) (netip.AddrPort, error) { return s.address(), nil },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	apptest.Run(p.t, a, name, &out)
	return a
}

// ready waits until a proxy is.
func (p *Pair) ready(a *app.App) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		resp, err := client.Get("http://" + a.Addrs().Admin.String() + "/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("a proxy is not ready: %v", err)
		}
	}
}

// Serve makes a listener the application of a service.
func (p *Pair) Serve(s Service, l net.Listener) {
	p.set(s.endpoint(), l.Addr().String())
	// The proxy goes there for what was meant for itself.
	p.set(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.endpoint().Port()), l.Addr().String())
}

// Outbound is the address that a service's client reaches it by, through its
// proxy.
func (p *Pair) Outbound(s Service) string { return p.client[s].Addrs().Outbound[0].String() }

// Inbound is the address that a client without a proxy reaches a meshed service
// by.
func (p *Pair) Inbound(s Service) string { return p.server[s].Addrs().Inbound.String() }

// Metrics is the exposition of the client's proxy of a service.
func (p *Pair) Metrics(s Service) string { return p.client[s].Metrics() }
