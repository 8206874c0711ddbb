package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// proxyProcess is a whole proxy as its process runs it, except that it is
// configured by a map and dials the network of the story.
type proxyProcess struct {
	*app.App
	log  *lockedBuilder
	stop func() error
}

// startProxy starts a whole proxy for an identity.
func startProxy(t *testing.T, ctl *testcontrol.Server, ca *testca.CA, id string, n netx.Dialer, inDst, outDst netip.AddrPort, extra map[string]string) *proxyProcess {
	t.Helper()
	dir := t.TempDir()
	if err := identityboot.Write(dir, ca.PEM, id); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DESTINATION_SVC_ADDR": ctl.Addr().String(), "POLICY_SVC_ADDR": ctl.Addr().String(), "IDENTITY_SVC_ADDR": ctl.Addr().String(),
		"POLICY_WORKLOAD": `{"ns":"ns","pod":"p"}`, "IDENTITY_DIR": dir, "IDENTITY_TOKEN_FILE": token,
		"IDENTITY_TRUST_ANCHORS": string(ca.PEM), "IDENTITY_LOCAL_NAME": id,
		"INBOUND_LISTEN_ADDR": "127.0.0.1:0", "OUTBOUND_LISTEN_ADDR": "127.0.0.1:0", "ADMIN_LISTEN_ADDR": "127.0.0.1:0",
		"INBOUND_DEFAULT_POLICY": "all-unauthenticated", "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
		"SHUTDOWN_ENDPOINT_ENABLED": "true", "LOG": "info", "IDENTITY_MIN_REFRESH": "1s",
	}
	for k, v := range extra {
		if env[k] = v; v == unset {
			delete(env, k)
		}
	}
	cfg, problems := config.Load(func(name string) (string, bool) {
		v, ok := env[strings.TrimPrefix(name, "LINKERD2_PROXY_")]
		return v, ok
	}, 2)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	p := &proxyProcess{log: &lockedBuilder{}}
	l, err := logs.New(logs.Options{Out: p.log, Filter: cfg.Log.Filter})
	if err != nil {
		t.Fatal(err)
	}
	options := app.Options{
		Config: cfg, Log: l, InboundDialer: n, OutboundDialer: n,
		InboundDst:  func(net.Conn) (netip.AddrPort, error) { return inDst, nil },
		OutboundDst: func(net.Conn) (netip.AddrPort, error) { return outDst, nil },
	}
	if accessLog != nil {
		options.AccessLog = accessLog
	}
	options.Memory = memory
	p.App, err = app.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	p.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		exported.add(p.Families(), p.Metrics())
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * patience):
			return fmt.Errorf("proxy did not stop")
		}
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", id, p.log)
		}
	})
	return p
}

// unset takes a variable away that startProxy would set.
const unset = "unset"

// accessLog is where proxies that are started write their access log.
var accessLog *lockedBuilder

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
	var log lockedBuilder
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
	dir := t.TempDir()
	if err := identityboot.Write(dir, ca.PEM, clientID); err != nil {
		t.Fatal(err)
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"DESTINATION_SVC_ADDR": ctl.Addr().String(), "POLICY_SVC_ADDR": ctl.Addr().String(), "IDENTITY_SVC_ADDR": ctl.Addr().String(),
		"POLICY_WORKLOAD": "w", "IDENTITY_DIR": dir, "IDENTITY_TOKEN_FILE": token, "IDENTITY_TRUST_ANCHORS": string(ca.PEM),
		"IDENTITY_LOCAL_NAME": clientID, "INBOUND_LISTEN_ADDR": "127.0.0.1:0", "ADMIN_LISTEN_ADDR": "127.0.0.1:0",
		"OUTBOUND_LISTEN_ADDR": ln.Addr().String(),
	}
	cfg, problems := config.Load(func(name string) (string, bool) {
		v, ok := env[strings.TrimPrefix(name, "LINKERD2_PROXY_")]
		return v, ok
	}, 1)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	l, err := logs.New(logs.Options{Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.New(app.Options{Config: cfg, Log: l}); err == nil || !strings.Contains(err.Error(), "failed to bind outbound listener on "+ln.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
