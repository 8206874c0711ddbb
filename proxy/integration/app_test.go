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
		env[k] = v
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
	p.App, err = app.New(app.Options{
		Config: cfg, Log: l, InboundDialer: n, OutboundDialer: n,
		InboundDst:  func(net.Conn) (netip.AddrPort, error) { return inDst, nil },
		OutboundDst: func(net.Conn) (netip.AddrPort, error) { return outDst, nil },
	})
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
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
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

// adminGet asks the admin server.
func (p *proxyProcess) adminGet(t *testing.T, path string) (int, string) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get("http://" + p.Addrs().Admin.String() + path)
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
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// TestWholeProxies is the thin path with everything real but the kernel's
// redirection: identity, discovery, policy, admin, both proxies.
func TestWholeProxies(t *testing.T) {
	ctl, ca := testcontrol.New(t), testca.New(t)
	ctl.Identity = ca
	ctl.SetOutbound(serviceAddr.String(), testcontrol.ServicePolicy("ns", "web", 80))
	ctl.SetProfile(serviceAddr.String(), nil)
	ctl.SetInbound(8080, testcontrol.OpenServer())
	n := &network{addrs: map[netip.AddrPort]string{}}
	m := &mesh{t: t, net: n}
	m.serve(http.HandlerFunc(echo))
	server := startProxy(t, ctl, ca, serverID, n, serverAddr, serviceAddr, nil)
	client := startProxy(t, ctl, ca, clientID, dialVia{n}, serverAddr, serviceAddr, nil)
	n.set(proxyAddr, server.Addrs().Inbound.String())
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.MeshedEndpoint(serverAddr.String(), serverID, 0))
	for _, p := range []*proxyProcess{server, client} {
		eventually(t, "ready", func() bool {
			status, _ := p.adminGet(t, "/ready")
			return status == 200
		})
	}
	m.outAddr = client.Addrs().Outbound[0].String()
	for _, http2 := range []bool{false, true} {
		resp, body := m.get(m.client(http2), "http://web.ns.svc.cluster.local/x")
		if resp.StatusCode != 200 || !strings.Contains(body, "client="+clientID) {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	}
	_, text := client.adminGet(t, "/metrics")
	for _, want := range []string{
		`control_identity_cert_refreshes_total{result="ok"} `, `proxy_build_info{`,
		`request_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.2:8080"`,
		`outbound_http_balancer_endpoints{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80"`,
		`request_total{direction="inbound",target_addr="` + client.Addrs().Admin.String(),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if strings.Contains(text, ",,") {
		t.Errorf("empty pair in:\n%s", text)
	}
	for _, want := range []string{"Admin interface on ", "Inbound interface on ", "Outbound interface on ", "SNI is " + clientID,
		"Local identity is " + clientID, "Destinations resolved via ", "Certified identity"} {
		if !strings.Contains(client.log.String(), want) {
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
