package integration

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// proxyProcess is a whole proxy as its process runs it, except that it is
// configured by a map and dials the network of the story.
type proxyProcess struct {
	*app.App
	log  *apptest.Log
	stop func() error
}

// startProxy starts a whole proxy for an identity.
func startProxy(t *testing.T, ctl *testcontrol.Server, ca *testca.CA, id string, n netx.Dialer, inDst, outDst netip.AddrPort, extra map[string]string) *proxyProcess {
	t.Helper()
	cfg := apptest.Config(t, ctl, ca, id, apptest.Env{"SHUTDOWN_ENDPOINT_ENABLED": "true", "IDENTITY_MIN_REFRESH": "1s"}, extra)
	p := &proxyProcess{log: &apptest.Log{}}
	options := app.Options{
		Config: cfg, Log: p.log.Logger(t, cfg), InboundDialer: n, OutboundDialer: n,
		InboundDst:  func(net.Conn) (netip.AddrPort, error) { return inDst, nil },
		OutboundDst: func(net.Conn) (netip.AddrPort, error) { return outDst, nil },
	}
	if accessLog != nil {
		options.AccessLog = accessLog
	}
	options.Memory = memory
	var err error
	if p.App, err = app.New(options); err != nil {
		t.Fatal(err)
	}
	stop := apptest.Run(t, p.App, id, p.log)
	p.stop = sync.OnceValue(func() error {
		exported.add(p.Families(), p.Metrics())
		return stop()
	})
	t.Cleanup(func() { _ = p.stop() }) // apptest tells of its error
	return p
}

// accessLog is where proxies that are started write their access log.
var accessLog *apptest.Log

// memory is that of proxies that are started; nil for no limit.
var memory func() (overload.Usage, error)

// adminGet asks the admin server.
func (p *proxyProcess) adminGet(t *testing.T, path string) (int, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + p.Addrs().Admin.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// eventually waits until f holds.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	if !soon(f) {
		t.Fatalf("%s: did not happen", what)
	}
}

// TestWholeProxies is the thin path with everything real but the kernel's
// redirection: identity, discovery, policy, admin, both proxies.
func TestWholeProxies(t *testing.T) {
	_, _, m, client, _ := meshed(t, nil)
	for _, http2 := range []bool{false, true} {
		resp, body := m.get(m.client(http2), "http://web.ns.svc.cluster.local/x")
		if resp.StatusCode != 200 || !strings.Contains(body, "client="+clientID) {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	}
	var text string
	exports(t, func() string {
		_, text = client.adminGet(t, "/metrics")
		return text
	},
		`control_identity_cert_refreshes_total{result="ok"} `, `proxy_build_info{`,
		`control_destination_balancer_endpoints{addr="127.0.0.1:`, `control_policy_balancer_endpoints{addr="127.0.0.1:`,
		`control_request_total{addr="127.0.0.1:`,
		`request_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.2:8080"`,
		`outbound_http_balancer_endpoints{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80"`,
		`request_total{direction="inbound",target_addr="`+client.Addrs().Admin.String(),
	)
	if strings.Contains(text, ",,") {
		t.Errorf("empty pair in:\n%s", text)
	}
	for _, want := range []string{"Admin interface on ", "Inbound interface on ", "Outbound interface on ", "SNI is " + clientID,
		"Local identity is " + clientID, "Destinations resolved via ", "Certified identity"} {
		if !soon(func() bool { return strings.Contains(client.log.String(), want) }) {
			t.Errorf("no %q in the log", want)
		}
	}
	resp, err := http.Post("http://"+client.Addrs().Admin.String()+"/shutdown", "", nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := client.stop(); err != nil {
		t.Error(err)
	}
}

// meshed starts a client's and a server's whole proxy with an application
// behind, all of it ready.
func meshed(t *testing.T, serverEnv map[string]string) (ctl *testcontrol.Server, ca *testca.CA, m *mesh, client, server *proxyProcess) {
	t.Helper()
	ctl, ca = testcontrol.New(t), testca.New(t)
	ctl.Identity = ca
	ctl.SetOutbound(serviceAddr.String(), testcontrol.ServicePolicy("ns", "web", 80))
	ctl.SetProfile(serviceAddr.String(), nil)
	ctl.SetInbound(8080, testcontrol.OpenServer())
	n := &network{addrs: map[netip.AddrPort]string{}}
	m = &mesh{t: t, net: n}
	m.serve(http.HandlerFunc(echo))
	server = startProxy(t, ctl, ca, serverID, n, serverAddr, serviceAddr, serverEnv)
	client = startProxy(t, ctl, ca, clientID, dialVia{n}, serverAddr, serviceAddr, nil)
	n.set(proxyAddr, server.Addrs().Inbound.String())
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.MeshedEndpoint(serverAddr.String(), serverID, 0))
	for _, p := range []*proxyProcess{server, client} {
		eventually(t, "ready", func() bool {
			status, _ := p.adminGet(t, "/ready")
			return status == 200
		})
	}
	m.outAddr, m.inAddr = client.Addrs().Outbound[0].String(), server.Addrs().Inbound.String()
	return ctl, ca, m, client, server
}

func TestNewCertificatesAreUsed(t *testing.T) {
	_, ca, m, client, server := meshed(t, nil)
	c := m.client(false)
	if resp, _ := m.get(c, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	old := server.Store().Leaf().Get()
	key := testca.NewKey(t)
	if err := server.Store().SetCertificate(ca.Issue(t, key.Public(), serverID), key); err != nil {
		t.Fatal(err)
	}
	if server.Store().Leaf().Get() == old {
		t.Error("the certificate was not replaced")
	}
	// The connection there is goes on; a new one uses the new certificate.
	if resp, _ := m.get(c, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
		t.Error(resp.StatusCode)
	}
	stranger := testca.NewKey(t)
	if err := client.Store().SetCertificate(testca.New(t).Issue(t, stranger.Public(), clientID), stranger); err == nil {
		t.Error("a certificate of another authority was taken")
	}
}

func TestAccessLog(t *testing.T) {
	var log apptest.Log
	accessLog = &log
	defer func() { accessLog = nil }()
	_, _, m, _, _ := meshed(t, map[string]string{"ACCESS_LOG": "apache"})
	m.get(m.client(false), "http://web.ns.svc.cluster.local/path?q=1")
	eventually(t, "access log", func() bool {
		return strings.Contains(log.String(), " "+clientID+" - [") &&
			strings.Contains(log.String(), `] "GET http://web.ns.svc.cluster.local/path?q=1 HTTP/1.1" 200`+"\n")
	})
}

func TestEndpointsAndPolicyChangeLive(t *testing.T) {
	ctl, _, m, _, _ := meshed(t, nil)
	c := m.client(false)
	status := func() int {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode
	}
	if got := status(); got != 200 {
		t.Fatal(got)
	}
	// Clients on this machine are always permitted, so a policy that cannot be
	// used shows the change.
	bad := testcontrol.OpenServer()
	bad.Labels = nil
	ctl.SetInbound(8080, bad)
	eventually(t, "refused", func() bool { return status() == 500 })
	ctl.SetInbound(8080, testcontrol.OpenServer())
	eventually(t, "permitted", func() bool { return status() == 200 })
	// A controller that goes away takes nothing with it.
	ctl.DropStreams()
	if got := status(); got != 200 {
		t.Error(got)
	}
	ctl.SetEndpoints("web.ns.svc.cluster.local:80")
	eventually(t, "no endpoints", func() bool { return status() == 504 })
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.MeshedEndpoint(serverAddr.String(), serverID, 0))
	eventually(t, "endpoint again", func() bool { return status() == 200 })
}

func TestAdmin(t *testing.T) {
	_, _, _, _, server := meshed(t, nil)
	status, body := server.adminGet(t, "/config.json")
	if status != 200 || !strings.Contains(body, `"ServerName": "`+serverID+`"`) {
		t.Errorf("got %d %s", status, body)
	}
	if status, body := server.adminGet(t, "/proxy-log-level"); status != 200 || body != "info" {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := server.adminGet(t, "/live"); status != 200 {
		t.Errorf("got %d", status)
	}
}

func TestBadPortStopsTheStart(t *testing.T) {
	ctl, ca := testcontrol.New(t), testca.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cfg := apptest.Config(t, ctl, ca, clientID, apptest.Env{"OUTBOUND_LISTEN_ADDR": ln.Addr().String()})
	var log apptest.Log
	if _, err := app.New(app.Options{Config: cfg, Log: log.Logger(t, cfg)}); err == nil || !strings.Contains(err.Error(), "failed to bind outbound listener on "+ln.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
