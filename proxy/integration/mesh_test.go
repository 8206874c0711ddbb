package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accept"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/pool"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// patience bounds what is waited for: a test that fails takes that long, one that
// passes never does, however slow the machine is. The proxies' own limits are long
// past it where a test is not about them.
const (
	patience = 30 * time.Second
	never    = time.Hour
)

// Names of the story.
const (
	clientID = "client.ns.serviceaccount.identity.linkerd.cluster.local"
	serverID = "web.ns.serviceaccount.identity.linkerd.cluster.local"
)

var (
	serviceAddr = netip.MustParseAddrPort("10.96.0.1:80")
	serverAddr  = netip.MustParseAddrPort("10.0.0.2:8080")
	proxyAddr   = netip.MustParseAddrPort("10.0.0.2:4143")
)

// network connects the addresses of the story with listeners.
type network struct {
	mu    sync.Mutex
	addrs map[netip.AddrPort]string
}

func (n *network) set(a netip.AddrPort, to string) {
	n.mu.Lock()
	n.addrs[a] = to
	n.mu.Unlock()
}

// Dial is netx.Dialer.
func (n *network) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	addr := n.addrs[to]
	n.mu.Unlock()
	if addr == "" {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	d := &netx.TCPDialer{}
	return d.Dial(ctx, netip.MustParseAddrPort(addr))
}

// mesh is a client's outbound proxy and a server's inbound proxy.
type mesh struct {
	t       testing.TB
	net     *network
	log     *apptest.Log
	out, in struct {
		reg   *metric.Registry
		drain *drain.Drain
	}
	// outAddr is where the application's connections arrive; inAddr the
	// server's, for clients without a proxy.
	outAddr, inAddr string
	target          *watch.Value[*model.Target]
	server          *watch.Value[*model.ServerPolicy]
	endpoints       *watch.Value[*model.EndpointSet]
	ca              *testca.CA
}

// knowledge is the control plane as values.
type knowledge struct{ m *mesh }

func (k knowledge) Addr(_ context.Context, dst netip.AddrPort) (*lookup.Lease[lookup.Targets], error) {
	if dst == serviceAddr {
		return lookup.NewLease[lookup.Targets](k.m.target, nil), nil
	}
	return lookup.NewLease[lookup.Targets](watch.Const(&model.Target{
		Policy: model.ForwardPolicy(model.DefaultFallback, &model.Endpoint{Addr: dst}),
	}), nil), nil
}

func (k knowledge) Ingress(_ context.Context, name string, port uint16) (*lookup.Lease[lookup.Targets], error) {
	if name == "web.ns.svc.cluster.local" {
		return lookup.NewLease[lookup.Targets](k.m.target, nil), nil
	}
	return nil, fmt.Errorf("%s: %w", name, lookup.ErrNotDiscovered)
}

func (k knowledge) Gateway(ctx context.Context, name string, port uint16) (*lookup.Lease[lookup.Targets], error) {
	return k.Ingress(ctx, name, port)
}

func (k knowledge) Endpoints(string) (*lookup.Lease[lookup.Endpoints], error) {
	return lookup.NewLease[lookup.Endpoints](k.m.endpoints, nil), nil
}

func (k knowledge) Server(uint16) (*lookup.Lease[lookup.Servers], error) {
	return lookup.NewLease[lookup.Servers](k.m.server, nil), nil
}

func (k knowledge) Profile(context.Context, string, uint16) (*lookup.Lease[lookup.Profiles], error) {
	return lookup.NewLease[lookup.Profiles](watch.Const[*model.Profile](nil), nil), nil
}

// serviceMeta is the Service of the story.
var serviceMeta = model.Meta{Group: "core", Kind: "Service", Namespace: "ns", Name: "web", Port: 80}

// servicePolicy balances over the endpoints of the service.
func servicePolicy(edit func(*model.ClientPolicy)) *model.Target {
	p := model.BalancePolicy("http", "web.ns.svc.cluster.local:80")
	p.Parent = serviceMeta
	p.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend.Meta = serviceMeta
	if edit != nil {
		edit(p)
	}
	return &model.Target{Policy: p, Path: "web.ns.svc.cluster.local:80"}
}

// meshedEndpoint is the server with its proxy.
func meshedEndpoint() *model.Endpoint {
	return &model.Endpoint{
		Addr: serverAddr, TLS: model.DNSTLS(model.MustIdentity(serverID)), Hint: model.HintH2,
		Labels: model.MakeLabels(map[string]string{"namespace": "ns", "service": "web"}), Zone: model.LocalityLocal,
	}
}

func endpoints(list ...*model.Endpoint) *model.EndpointSet {
	return &model.EndpointSet{Endpoints: list, Exists: true}
}

// newMesh starts both proxies. edit may change their configuration.
func newMesh(t testing.TB, edit func(*outbound.Config, *inbound.Config)) *mesh {
	t.Helper()
	m := &mesh{
		t: t, net: &network{addrs: map[netip.AddrPort]string{}}, log: &apptest.Log{},
		target:    watch.New(servicePolicy(nil)),
		server:    watch.New(model.DefaultServerPolicy(model.AllUnauthenticated, nil, 10*time.Second, false)),
		endpoints: watch.New(endpoints(meshedEndpoint())),
		ca:        testca.New(t),
	}
	l, err := logs.New(logs.Options{Out: m.log, Filter: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	k := knowledge{m}
	backoff := pool.Backoff{Base: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	m.out.reg, m.out.drain = metric.NewRegistry(metric.Options{Retain: time.Minute}), drain.New()
	m.in.reg, m.in.drain = metric.NewRegistry(metric.Options{Retain: time.Minute}), drain.New()
	oc := outbound.Config{
		Detect: never, ConnectTimeout: patience, Idle: 5 * time.Second,
		HTTPQueue:   outbound.Queue{Capacity: 100, FailFast: patience},
		TCPQueue:    outbound.Queue{Capacity: 100, FailFast: patience},
		MaxInFlight: 1000, Backoff: backoff,
		Lookup: k, Resolver: k, TLS: m.ca.Store(t, clientID), Dialer: m.net,
		OriginalDst: func(net.Conn) (netip.AddrPort, error) { return serviceAddr, nil },
		Series:      series.New(m.out.reg), Drain: m.out.drain, Clock: clock.System, Log: l.Logger(),
	}
	ic := inbound.Config{
		Port: proxyAddr.Port(), Detect: never, Queue: 100, FailFast: patience, MaxInFlight: 1000,
		Backoff: backoff, Policies: k, TLS: m.ca.Store(t, serverID), Dialer: m.net,
		OriginalDst: func(net.Conn) (netip.AddrPort, error) { return serverAddr, nil },
		Series:      series.New(m.in.reg), Drain: m.in.drain, Clock: clock.System, Log: l.Logger(),
	}
	if edit != nil {
		edit(&oc, &ic)
	}
	op, ip := outbound.New(oc), inbound.New(ic)
	var loops sync.WaitGroup
	listen := func(d *drain.Drain, handle func(net.Conn, *drain.Handle) accept.Rest) string {
		ln, err := netx.Listen(netip.MustParseAddrPort("127.0.0.1:0"), netx.ListenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		loops.Go(func() { accept.Loop(ln, accept.Options{Drain: d, Log: l.Logger(), Handle: handle}) })
		return ln.Addr().String()
	}
	m.outAddr, m.inAddr = listen(m.out.drain, op.Accept), listen(m.in.drain, ip.Accept)
	m.net.set(proxyAddr, m.inAddr)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, d := range []*drain.Drain{m.out.drain, m.in.drain} {
			if err := d.Drain(ctx); err != nil {
				t.Error(err)
			}
		}
		loops.Wait()
		op.Close()
		ip.Close()
		if t.Failed() {
			t.Logf("log:\n%s", m.log)
		}
		for name, reg := range map[string]*metric.Registry{"outbound": m.out.reg, "inbound": m.in.reg} {
			text := string(reg.AppendText(nil))
			exported.add(reg.Families(), text)
			if strings.Contains(text, ",,") {
				t.Errorf("%s metrics have an empty pair:\n%s", name, text)
			}
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "tcp_open_connections{") && !strings.HasSuffix(line, " 0\n") {
					t.Errorf("%s connections were not closed: %s", name, line)
				}
			}
		}
	})
	return m
}

// failFast lets what finds no endpoint fail soon.
func failFast(oc *outbound.Config, _ *inbound.Config) { oc.HTTPQueue.FailFast = 200 * time.Millisecond }

// server starts the application.
func (m *mesh) serve(h http.Handler) {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	m.net.set(serverAddr, ln.Addr().String())
	// The endpoint's own address is redirected to its proxy for meshed peers;
	// the dialer of the inbound proxy has it directly.
	m.t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// client is the application's, through the outbound proxy.
func (m *mesh) client(http2 bool) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", m.outAddr)
	}}
	var protocols http.Protocols
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	tr.Protocols = &protocols
	m.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

// get does a GET and returns status and body.
func (m *mesh) get(c *http.Client, url string) (*http.Response, string) {
	m.t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return resp, string(body)
}

// wants checks that metrics have lines, which may come a moment later.
func (m *mesh) wants(reg *metric.Registry, lines ...string) {
	m.t.Helper()
	for i := range lines {
		lines[i] += "\n"
	}
	exports(m.t, func() string { return string(reg.AppendText(nil)) }, lines...)
}

// says checks that the proxies log something, which may come a moment later.
func (m *mesh) says(texts ...string) {
	m.t.Helper()
	for _, text := range texts {
		if !soon(func() bool { return strings.Contains(m.log.String(), text) }) {
			m.t.Errorf("the log does not say %q", text)
		}
	}
}

// exports checks that metrics have each of some parts of a line, which may come a
// moment later.
func exports(t testing.TB, metrics func() string, parts ...string) {
	t.Helper()
	var text string
	for _, part := range parts {
		if soon(func() bool { text = metrics(); return strings.Contains(text, part) }) {
			continue
		}
		// A page of metrics hides what is of interest.
		name := part[:max(strings.IndexAny(part, "{ "), 0)]
		var like strings.Builder
		for line := range strings.Lines(text) {
			if name != "" && strings.HasPrefix(line, name) {
				like.WriteString(line)
			}
		}
		t.Errorf("no line with\n%s\namong those of %q:\n%s", strings.TrimSpace(part), name, &like)
	}
}

// soon waits until f holds, and reports whether it does.
func soon(f func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// get is where an address leads.
func (n *network) get(a netip.AddrPort) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs[a]
}

// newSeries are families that nobody looks at.
func newSeries() *series.Set { return series.New(metric.NewRegistry(metric.Options{})) }
