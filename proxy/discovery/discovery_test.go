package discovery_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const webAddr, webName = "10.96.0.1:80", "web.ns.svc.cluster.local:80"

func client(t *testing.T, ctl *testcontrol.Server, change func(*discovery.Config)) *discovery.Client {
	t.Helper()
	conn := ctl.Dial(t)
	cfg := discovery.Config{
		Destination:  discovery.Controller{Conn: conn},
		Policy:       discovery.Controller{Conn: conn},
		ContextToken: `{"ns":"ns"}`, Workload: `{"ns":"ns","pod":"p"}`,
		Limits:          discovery.Limits{Initial: 3 * time.Second, Idle: 5 * time.Minute, Lifetime: time.Hour},
		Backoff:         model.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond},
		ProfileNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		ProfileSuffixes: []string{"svc.cluster.local."},
		GatewaySuffixes: []string{"svc.cluster.local."},
		DefaultPolicy: func(uint16) *model.ServerPolicy {
			return model.DefaultServerPolicy(model.AllUnauthenticated, nil, time.Second, false)
		},
		DetectTimeout: time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	c := discovery.New(cfg)
	t.Cleanup(c.Close)
	return c
}

// until waits for a value that fits. The limit only ends a test that fails.
func until[T any](t *testing.T, r watch.Reader[T], fits func(T) bool) T {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		v, changed := r.Watch()
		if fits(v) {
			return v
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("last value: %+v", v)
		}
	}
}

func addrs(s *model.EndpointSet) string {
	if s == nil {
		return "pending"
	}
	var out []string
	for _, e := range s.Endpoints {
		out = append(out, e.Addr.String())
	}
	return strings.Join(out, " ")
}

func TestEndpoints(t *testing.T) {
	ctl := testcontrol.New(t)
	c := client(t, ctl, nil)
	l, err := c.Endpoints(webName)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	is := func(want string) func(*model.EndpointSet) bool {
		return func(s *model.EndpointSet) bool { return addrs(s) == want }
	}
	until(t, l.Value(), is("pending"))
	a, b := testcontrol.Endpoint("10.0.0.1:80"), testcontrol.MeshedEndpoint("10.0.0.2:80", "web.ns.id", 4143)
	ctl.SetEndpoints(webName, a, b)
	s := until(t, l.Value(), is("10.0.0.1:80 10.0.0.2:80"))
	if e := s.Endpoints[1]; e.TLS.ServerName != "web.ns.id" || e.Hint != model.HintH2 || e.TransportPort != 4143 {
		t.Errorf("%+v", e)
	}
	ctl.SetEndpoints(webName, b)
	until(t, l.Value(), is("10.0.0.2:80"))
	// What a new stream says first replaces all, and until then the old holds.
	ctl.DropStreams()
	ctl.SetEndpoints(webName, testcontrol.Endpoint("10.0.0.3:80"))
	until(t, l.Value(), is("10.0.0.3:80"))
	for _, r := range ctl.Requests() {
		if g := r.(*destinationpb.GetDestination); g.GetPath() != webName || g.GetContextToken() != `{"ns":"ns"}` {
			t.Errorf("asked %v", g)
		}
	}
	ctl.FailEndpoints(webName, codes.NotFound)
	ctl.SetEndpoints(webName, a)
	until(t, l.Value(), is("10.0.0.1:80"))
	ctl.FailEndpoints(webName, codes.InvalidArgument)
	until(t, l.Value(), func(s *model.EndpointSet) bool { return s.Err != nil })
}

func TestTargets(t *testing.T) {
	ep := testcontrol.MeshedEndpoint("10.1.0.9:8080", "a.ns.id", 0)
	logical := &destinationpb.DestinationProfile{FullyQualifiedName: "web.ns.svc.cluster.local"}
	split := proto.Clone(logical).(*destinationpb.DestinationProfile)
	split.DstOverrides = []*destinationpb.WeightedDst{{Authority: "v1.ns.svc.cluster.local:80", Weight: 1}, {Authority: "v2.ns.svc.cluster.local:80"}}
	policy := testcontrol.ServicePolicy("ns", "web", 80)
	for _, c := range []struct {
		name    string
		dst     string
		profile *destinationpb.DestinationProfile
		pcode   codes.Code
		policy  *outboundpb.OutboundPolicy
		code    codes.Code
		parent  string
		forward string
		flags   string // opaque, http, tcp
		err     string
	}{
		{name: "policy, plain profile", dst: webAddr, profile: logical, policy: policy, parent: "core/Service/ns/web:80"},
		{name: "policy, split profile", dst: webAddr, profile: split, policy: policy, parent: "core/Service/ns/web:80", flags: "http tcp"},
		{name: "policy, opaque profile", dst: webAddr, profile: &destinationpb.DestinationProfile{OpaqueProtocol: true}, policy: policy, parent: "core/Service/ns/web:80", flags: "opaque"},
		{name: "policy, no profile", dst: webAddr, pcode: codes.InvalidArgument, policy: policy, parent: "core/Service/ns/web:80"},
		{name: "pod", dst: "10.1.0.9:8080", profile: &destinationpb.DestinationProfile{Endpoint: ep}, code: codes.NotFound, parent: "default/endpoint", forward: "10.1.0.9:8080 a.ns.id"},
		{name: "profile without endpoint", dst: "10.1.0.9:8080", profile: &destinationpb.DestinationProfile{}, code: codes.Unimplemented, parent: "default/endpoint", forward: "10.1.0.9:8080 "},
		{name: "nothing known", dst: "10.1.0.9:8080", pcode: codes.FailedPrecondition, code: codes.NotFound, parent: "default/fallback", forward: "10.1.0.9:8080 "},
		{name: "outside the profile networks", dst: "192.0.2.1:443", code: codes.NotFound, parent: "default/fallback", forward: "192.0.2.1:443 "},
		{name: "ipv6", dst: "[fd00::1]:443", policy: policy, parent: "core/Service/ns/web:80"},
		{name: "rejected", dst: webAddr, profile: logical, code: codes.InvalidArgument, err: "set by test"},
		{name: "invalid policy", dst: webAddr, profile: logical, policy: &outboundpb.OutboundPolicy{}, parent: "default/invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctl := testcontrol.New(t)
			if c.profile != nil {
				ctl.SetProfile(c.dst, c.profile)
			} else {
				ctl.FailProfile(c.dst, c.pcode)
			}
			if c.policy != nil {
				ctl.SetOutbound(c.dst, c.policy)
			} else {
				ctl.FailOutbound(c.dst, c.code)
			}
			l, err := client(t, ctl, nil).Addr(t.Context(), netip.MustParseAddrPort(c.dst))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Release()
			got := l.Value().Get()
			if p := got.Policy.Parent.String(); p != c.parent {
				t.Errorf("parent %s", p)
			}
			if c.forward != "" {
				e := got.Policy.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend.Forward
				if s := e.Addr.String() + " " + e.TLS.ID.String(); s != c.forward {
					t.Errorf("forwards to %s", s)
				}
			}
			var flags []string
			for _, f := range []struct {
				name string
				on   bool
			}{{"opaque", got.Opaque}, {"http", got.ProfileHTTP}, {"tcp", got.ProfileTCP}} {
				if f.on {
					flags = append(flags, f.name)
				}
			}
			if s := strings.Join(flags, " "); s != c.flags {
				t.Errorf("flags %q", s)
			}
		})
	}
}

func TestTargetFollowsUpdates(t *testing.T) {
	ctl := testcontrol.New(t)
	ctl.SetProfile(webAddr, &destinationpb.DestinationProfile{})
	ctl.SetOutbound(webAddr, testcontrol.ServicePolicy("ns", "web", 80))
	c := client(t, ctl, nil)
	l, err := c.Addr(t.Context(), netip.MustParseAddrPort(webAddr))
	if err != nil {
		t.Fatal(err)
	}
	ctl.SetProfile(webAddr, &destinationpb.DestinationProfile{OpaqueProtocol: true})
	until(t, l.Value(), func(t *model.Target) bool { return t.Opaque })
	ctl.SetOutbound(webAddr, testcontrol.ServicePolicy("ns", "other", 80))
	until(t, l.Value(), func(t *model.Target) bool { return t.Policy.Parent.Name == "other" })
	// A second lookup shares the streams.
	n := len(ctl.Requests())
	l2, err := c.Addr(t.Context(), netip.MustParseAddrPort("[::ffff:10.96.0.1]:80"))
	if err != nil {
		t.Fatal(err)
	}
	if l2.Value() != l.Value() || len(ctl.Requests()) != n {
		t.Error("lookup is not shared")
	}
	// NOT_FOUND later on leaves what is known.
	ctl.FailOutbound(webAddr, codes.NotFound)
	ctl.SetProfile(webAddr, &destinationpb.DestinationProfile{})
	if got := until(t, l.Value(), func(t *model.Target) bool { return !t.Opaque }); got.Policy.Parent.Name != "other" {
		t.Error(got.Policy.Parent)
	}
	l.Release()
	l2.Release()
}

func TestNamedTargets(t *testing.T) {
	ctl := testcontrol.New(t)
	c := client(t, ctl, nil)
	ep := testcontrol.Endpoint("10.1.0.9:8080")
	for name, p := range map[string]*destinationpb.DestinationProfile{
		"logical": {FullyQualifiedName: "logical.ns.svc.cluster.local"}, "pod": {Endpoint: ep}, "empty": {},
	} {
		ctl.SetProfile(name+".ns.svc.cluster.local:80", p)
	}
	ctl.FailProfile("none.ns.svc.cluster.local:80", codes.InvalidArgument)
	for _, c2 := range []struct {
		name          string
		ingress, gw   string
		ingErr, gwErr bool
	}{
		{name: "logical", ingress: "default/profile", gw: "default/invalid"},
		{name: "pod", ingress: "default/endpoint", gw: "default/gateway"},
		{name: "empty", ingErr: true, gwErr: true},
		{name: "none", ingErr: true, gwErr: true},
	} {
		host := c2.name + ".ns.svc.cluster.local"
		l, err := c.Ingress(t.Context(), host, 80)
		if c2.ingErr != errors.Is(err, lookup.ErrNotDiscovered) {
			t.Errorf("ingress %s: %v", host, err)
		} else if err == nil {
			if s := l.Value().Get().Policy.Parent.String(); s != c2.ingress {
				t.Errorf("ingress %s: %s", host, s)
			}
			l.Release()
		}
		l, err = c.Gateway(t.Context(), host+".", 80)
		if c2.gwErr != errors.Is(err, lookup.ErrNotDiscovered) {
			t.Errorf("gateway %s: %v", host, err)
		} else if err == nil {
			if s := l.Value().Get().Policy.Parent.String(); s != c2.gw {
				t.Errorf("gateway %s: %s", host, s)
			}
			l.Release()
		}
	}
	for _, bad := range []string{"web.example.com", "notsvc.cluster.local", "10.0.0.1"} {
		if _, err := c.Gateway(t.Context(), bad, 80); !errors.Is(err, lookup.ErrNotDiscovered) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestUnreachableControllersDoNotHoldForEver(t *testing.T) {
	ctl := testcontrol.New(t)
	// Long enough for the policy to come, also on a busy machine.
	c := client(t, ctl, func(c *discovery.Config) { c.FirstAnswer = time.Second })
	// The profile never comes: go on without.
	ctl.SetOutbound(webAddr, testcontrol.ServicePolicy("ns", "web", 80))
	l, err := c.Addr(t.Context(), netip.MustParseAddrPort(webAddr))
	if err != nil {
		t.Fatal(err)
	}
	// It may still come later.
	ctl.SetProfile(webAddr, &destinationpb.DestinationProfile{OpaqueProtocol: true})
	until(t, l.Value(), func(t *model.Target) bool { return t.Opaque })
	l.Release()
	ctl.Stop()
	if _, err := c.Addr(t.Context(), netip.MustParseAddrPort("10.96.0.2:80")); err == nil {
		t.Error("lookup without controller succeeded")
	}
}

func TestServers(t *testing.T) {
	ctl := testcontrol.New(t)
	c := client(t, ctl, func(c *discovery.Config) { c.Ports = []uint16{8080} })
	l, err := c.Server(8080)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if p := l.Value().Get(); p.Meta != model.Default("all-unauthenticated") || len(p.Authorizations) != 1 {
		t.Errorf("%+v", p)
	}
	s := testcontrol.OpenServer()
	s.Labels = map[string]string{"group": "policy.linkerd.io", "kind": "server", "name": "web"}
	ctl.SetInbound(8080, s)
	p := until(t, l.Value(), func(p *model.ServerPolicy) bool { return p.Meta.Name == "web" })
	if len(p.Authorizations) != 2 || p.Authorizations[1].Meta.Name != "localhost" {
		t.Errorf("%+v", p.Authorizations)
	}
	ctl.SetInbound(8080, &inboundpb.Server{Labels: map[string]string{"name": "bad"}})
	until(t, l.Value(), func(p *model.ServerPolicy) bool { return p.Invalid != "" && len(p.Authorizations) == 0 })
	ctl.SetInbound(8080, s)
	until(t, l.Value(), func(p *model.ServerPolicy) bool { return p.Meta.Name == "web" })
	// Rejection ends the watch; the last policy stays.
	ctl.FailInbound(8080, codes.FailedPrecondition)
	other, err := c.Server(9090)
	if err != nil {
		t.Fatal(err)
	}
	ctl.SetInbound(9090, s)
	until(t, other.Value(), func(p *model.ServerPolicy) bool { return p.Meta.Name == "web" })
	other.Release()
	if l.Value().Get().Meta.Name != "web" {
		t.Error("policy was lost")
	}
	for _, r := range ctl.Requests() {
		if w := r.(*inboundpb.PortSpec); w.GetWorkload() != `{"ns":"ns","pod":"p"}` {
			t.Error(w)
		}
	}
}

func TestProfiles(t *testing.T) {
	ctl := testcontrol.New(t)
	c := client(t, ctl, nil)
	ctl.SetProfile(webName, &destinationpb.DestinationProfile{FullyQualifiedName: "web.ns.svc.cluster.local"})
	l, err := c.Profile(t.Context(), "WEB.ns.svc.cluster.local.", 80)
	if err != nil || l.Value().Get() == nil || l.Value().Get().Name != "web.ns.svc.cluster.local" {
		t.Fatal(err, l.Value().Get())
	}
	l.Release()
	l, err = c.Profile(t.Context(), "example.com", 80)
	if err != nil || l.Value().Get() != nil {
		t.Fatal(err)
	}
	l.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Profile(ctx, "other.ns.svc.cluster.local", 80); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestControlConnection speaks mutual TLS, resolves localhost and counts.
func TestControlConnection(t *testing.T) {
	ca := testca.New(t)
	const dst, me = "linkerd-destination.linkerd.id", "me.ns.id"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := ca.Store(t, dst)
	ctl := testcontrol.Serve(t, tls.NewListener(l, server.ServerConfig()))
	ctl.SetEndpoints(webName, testcontrol.Endpoint("10.0.0.1:80"))

	var connected, resolved, requests atomic.Int64
	cfg := discovery.ControlConfig{
		Addr: discovery.ControlAddr{Host: "10.0.0.9", Port: 8086, TLS: model.DNSTLS(model.MustIdentity(dst))},
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			if addr.String() != "10.0.0.9:8086" {
				t.Errorf("dials %v", addr)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		Credentials: ca.Store(t, me),
		Hooks: discovery.ControlHooks{
			Connected: func(d int) { connected.Add(int64(d)) },
			Resolved:  func(n int) { resolved.Store(int64(n)) },
			Request:   func() { requests.Add(1) },
		},
	}
	conn, err := discovery.Connect(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := discovery.New(discovery.Config{Destination: discovery.Controller{Conn: conn}, Policy: discovery.Controller{Conn: conn}})
	lease, err := c.Endpoints(webName)
	if err != nil {
		t.Fatal(err)
	}
	until(t, lease.Value(), func(s *model.EndpointSet) bool { return addrs(s) == "10.0.0.1:80" })
	if connected.Load() != 1 || resolved.Load() != 1 || requests.Load() != 1 {
		t.Error(connected.Load(), resolved.Load(), requests.Load())
	}
	lease.Release()
	c.Close()
	conn.Close()

	// Somebody else at that address is not spoken to.
	cfg.Addr.TLS = model.DNSTLS(model.MustIdentity("other.id"))
	if conn, err = discovery.Connect(cfg); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Stream(t.Context(), "/io.linkerd.proxy.destination.Destination/Get", nil)
	if err == nil || !strings.Contains(err.Error(), "controller 10.0.0.9:8086: endpoint 10.0.0.9:8086: certificate does not match TLS identity") {
		t.Error(err)
	}
	conn.Close()
	cfg.Addr.TLS = model.TLSIdentity{}
	if _, err = discovery.Connect(cfg); err == nil {
		t.Error("connects without identity")
	}
	cfg.Addr.TLS, cfg.Addr.Host = model.DNSTLS(model.MustIdentity("other.id")), "name."
	if _, err = discovery.Connect(cfg); err == nil {
		t.Error("connects without resolver")
	}
}

func TestAuthority(t *testing.T) {
	for want, a := range map[string]discovery.ControlAddr{
		"dst.linkerd.svc.cluster.local:8086": {Host: "dst.linkerd.svc.cluster.local.", Port: 8086},
		"localhost":                          {Host: "localhost.", Port: 80},
		"[::1]:8086":                         {Host: "::1", Port: 8086},
	} {
		if a.Authority() != want {
			t.Errorf("%v", a.Authority())
		}
	}
}
