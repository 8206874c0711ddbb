package integration

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// serveTCP starts an application that handles each connection.
func (m *mesh) serveTCP(handle func(net.Conn)) {
	m.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	m.net.set(serverAddr, ln.Addr().String())
	m.t.Cleanup(func() {
		ln.Close()
		<-done
	})
}

// dial connects to the outbound proxy.
func (m *mesh) dial(addr string) net.Conn {
	m.t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		m.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	m.t.Cleanup(func() { c.Close() })
	return c
}

// shout answers each line in capitals, after a greeting if there is one.
func shout(greeting string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, greeting)
		for lines := bufio.NewScanner(c); lines.Scan(); {
			_, _ = io.WriteString(c, strings.ToUpper(lines.Text())+"\n")
		}
	}
}

// talk sends a line and gives the answer.
func talk(t *testing.T, c net.Conn, r *bufio.Reader, line string) string {
	t.Helper()
	if line != "" {
		if _, err := io.WriteString(c, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

// opaqueTarget makes the service's port opaque on the client's side.
func opaqueTarget() *model.Target {
	return servicePolicy(func(p *model.ClientPolicy) {
		p.Protocol = model.ProtocolOpaque
		p.TCP.Routes[0].Distribution.Backends[0].Backend.Meta = serviceMeta
	})
}

// transported is the server's endpoint as it is for opaque ports: reached at
// its proxy's own port with a transport header.
func transported() *model.Endpoint {
	e := meshedEndpoint()
	e.Hint, e.TransportPort = model.HintNone, proxyAddr.Port()
	return e
}

// direct makes connections of the inbound proxy direct ones.
func direct(oc *outbound.Config, ic *inbound.Config) {
	ic.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return proxyAddr, nil }
}

func TestOpaqueServerSpeaksFirst(t *testing.T) {
	m := newMesh(t, direct)
	m.target.Set(opaqueTarget())
	m.endpoints.Set(endpoints(transported()))
	m.serveTCP(shout("220 hello\n"))
	// The header names the port at the connection's local address.
	m.net.set(netip.MustParseAddrPort("127.0.0.1:8080"), m.net.get(serverAddr))
	c := m.dial(m.outAddr)
	r := bufio.NewReader(c)
	if got := talk(t, c, r, ""); got != "220 hello" {
		t.Errorf("got %q", got)
	}
	if got := talk(t, c, r, "quit"); got != "QUIT" {
		t.Errorf("got %q", got)
	}
	// Half-close: the server sees the end and the client its last words.
	_ = c.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	parent := `parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""`
	m.wants(m.out.reg,
		`outbound_tcp_protocol_connections_total{protocol="opaq",`+parent+`} 1`,
		`outbound_tcp_route_open_total{`+parent+`,route_group="",route_kind="default",route_namespace="",route_name="http",target_ip="10.96.0.1",target_port="80"} 1`,
		`outbound_tcp_route_close_total{`+parent+`,route_group="",route_kind="default",route_namespace="",route_name="http",target_ip="10.96.0.1",target_port="80",error=""} 1`,
		`tcp_open_total{direction="outbound",peer="dst",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",server_id="`+serverID+`",dst_namespace="ns",dst_service="web"} 1`,
		`outbound_tcp_transfer_cost_bytes_total{op="Send",zone_locality="Local"} 5`,
	)
	m.wants(m.in.reg,
		`inbound_tcp_transport_header_connections_total{session_protocol="",target_port="8080",target_name="",client_id="`+clientID+`"} 1`,
		`inbound_tcp_authz_allow_total{target_addr="127.0.0.1:8080",target_ip="127.0.0.1",target_port="8080",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",authz_group="",authz_kind="default",authz_name="all-unauthenticated",tls="true",client_id="`+clientID+`"} 1`,
	)
}

func TestDetectedAsOpaque(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(shout(""))
	c := m.dial(m.outAddr)
	if got := talk(t, c, bufio.NewReader(c), "PING"); got != "PING" {
		t.Errorf("got %q", got)
	}
	c.Close()
	m.wants(m.out.reg, `outbound_tcp_detect_http_results_total{result="not_http",parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""} 1`)
	m.wants(m.in.reg, `inbound_tcp_detect_http_results_total{result="not_http",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080"} 1`)
}

func TestDirectConnectionsMustBeMeshed(t *testing.T) {
	m := newMesh(t, direct)
	c := m.dial(m.inAddr)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q", b)
	}
	m.wants(m.in.reg, `inbound_tcp_errors_total{error="unexpected",target_addr="10.0.0.2:4143",target_ip="10.0.0.2",target_port="4143"} 1`)
	m.says("direct connections must be mutually authenticated")
}

func TestTLSPassesThrough(t *testing.T) {
	// The application has TLS of its own: the inbound proxy lets it pass.
	m := newMesh(t, nil)
	pair := m.ca.Store(t, "app.example").Leaf().Get().Certificate
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*pair}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(ln, http.HandlerFunc(echo)) }()
	t.Cleanup(func() { ln.Close() })
	m.net.set(serverAddr, ln.Addr().String())
	c := tls.Client(m.dial(m.inAddr), &tls.Config{ServerName: "app.example", InsecureSkipVerify: true})
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "200 OK") {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	m.wants(m.in.reg, `tcp_open_total{direction="inbound",peer="src",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="opaque",sni="app.example",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080"} 1`)
}

func TestTLSRoutes(t *testing.T) {
	m := newMesh(t, nil)
	pair := m.ca.Store(t, "app.example").Leaf().Get().Certificate
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*pair}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(ln, http.HandlerFunc(echo)) }()
	t.Cleanup(func() { ln.Close() })
	m.net.set(serverAddr, ln.Addr().String())
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}))
	m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
		p.Protocol = model.ProtocolTLS
		p.TCP.Routes[0].SNIs = []model.HostMatch{{Name: "app.example"}}
		p.TCP.Routes[0].Meta = model.Meta{Group: "gateway.networking.k8s.io", Kind: "TLSRoute", Namespace: "ns", Name: "r"}
	}))
	good := tls.Client(m.dial(m.outAddr), &tls.Config{ServerName: "app.example", InsecureSkipVerify: true})
	_, _ = io.WriteString(good, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(good); err != nil || !strings.Contains(string(b), "200 OK") {
		t.Errorf("got %q, %v", b, err)
	}
	good.Close()
	bad := tls.Client(m.dial(m.outAddr), &tls.Config{ServerName: "other.example", InsecureSkipVerify: true})
	if err := bad.Handshake(); err == nil {
		t.Error("a name without a route was let through")
	}
	m.wants(m.out.reg,
		`outbound_tls_route_open_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="TLSRoute",route_namespace="ns",route_name="r",hostname="app.example"} 1`,
		`outbound_tcp_errors_total{target_addr="10.96.0.1:80",target_ip="10.96.0.1",target_port="80",error="unexpected"} 1`,
	)
}

// Of a port that HTTP comes to as well, TLS is routed by its server name, and goes as bytes do if no route is for it.
func TestTLSBesideHTTP(t *testing.T) {
	m := newMesh(t, nil)
	pair := m.ca.Store(t, "app.example").Leaf().Get().Certificate
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*pair}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = http.Serve(ln, http.HandlerFunc(echo)) }()
	t.Cleanup(func() { ln.Close() })
	m.net.set(serverAddr, ln.Addr().String())
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}))
	m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
		routed := p.TCP.Routes[0]
		routed.SNIs = []model.HostMatch{{Name: "app.example"}}
		routed.Meta = model.Meta{Group: "gateway.networking.k8s.io", Kind: "TLSRoute", Namespace: "ns", Name: "r"}
		p.TLS = &model.TCPPolicy{Routes: []model.TCPRoute{routed}}
	}))
	for _, name := range []string{"app.example", "other.example"} {
		c := tls.Client(m.dial(m.outAddr), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "200 OK") {
			t.Errorf("%s: got %q, %v", name, b, err)
		}
		c.Close()
	}
	m.wants(m.out.reg,
		`outbound_tls_route_open_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="gateway.networking.k8s.io",route_kind="TLSRoute",route_namespace="ns",route_name="r",hostname="app.example"} 1`,
	)
	// What is not TLS is what it was.
	m.serveTCP(shout(""))
	c := m.dial(m.outAddr)
	if got := talk(t, c, bufio.NewReader(c), "PING"); got != "PING" {
		t.Errorf("got %q", got)
	}
}

func TestTCPPolicyChangeEndsConnections(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(shout(""))
	c := m.dial(m.outAddr)
	r := bufio.NewReader(c)
	if got := talk(t, c, r, "PING"); got != "PING" {
		t.Fatalf("got %q", got)
	}
	m.server.Set(model.DefaultServerPolicy(model.DenyPolicy, nil, time.Second, false))
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("the connection went on")
	}
	m.wants(m.in.reg, `inbound_tcp_authz_terminate_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="deny",srv_port="8080",tls="true",client_id="`+clientID+`"} 1`)
	c = m.dial(m.inAddr)
	_, _ = io.WriteString(c, "PING\n")
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q", b)
	}
	m.wants(m.in.reg, `inbound_tcp_authz_deny_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="deny",srv_port="8080",tls="no_identity",no_tls_reason="port_skipped"} 1`)
	m.says("Connection denied", "Connection terminated due to policy change")
}

func TestForeignAddressIsRefused(t *testing.T) {
	m := newMesh(t, func(_ *outbound.Config, ic *inbound.Config) {
		ic.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	})
	c := m.dial(m.inAddr)
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q", b)
	}
	m.wants(m.in.reg, `inbound_tcp_errors_total{error="unexpected",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080"} 1`)
	m.says("inbound connections are not allowed on this IP address (10.0.0.2)")
}

func TestServerSpeaksFirstWithoutBeingAnnounced(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(shout("220 hello\n"))
	for _, addr := range []string{m.outAddr, m.inAddr} {
		// With detection's own limit it would take far longer than patience.
		c := m.dial(addr)
		r := bufio.NewReader(c)
		if got := talk(t, c, r, ""); got != "220 hello" {
			t.Errorf("got %q", got)
		}
		if got := talk(t, c, r, "quit"); got != "QUIT" {
			t.Errorf("got %q", got)
		}
		c.Close()
	}
	m.wants(m.in.reg, `inbound_tcp_authz_allow_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",authz_group="",authz_kind="default",authz_name="all-unauthenticated",tls="true",client_id="`+clientID+`"} 1`)
}

func TestSilentClientOfAnHTTPServerIsWaitedFor(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	c := m.dial(m.outAddr)
	time.Sleep(300 * time.Millisecond)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "client="+clientID) {
		t.Errorf("got %q, %v", b, err)
	}
}
