package integration

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/gateway"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

const gatewayID = "gateway.mc.serviceaccount.identity.linkerd.cluster.local"

// newGateway makes a mesh m whose server is a gateway to another mesh. The client's
// endpoint e is the gateway: the transport header names the service, which the
// gateway's own outbound proxy finds in the mesh behind it.
func newGateway(t *testing.T) (m, inner *mesh, e *model.Endpoint) {
	inner = newMesh(t, viaProxy)
	var out *outbound.Proxy
	m = newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		direct(oc, ic)
		gc := *oc
		gc.Lookup, gc.Resolver, gc.TLS = knowledge{inner}, knowledge{inner}, inner.ca.Store(t, gatewayID)
		gc.Dialer = dialVia{inner.net}
		gc.Series = newSeries()
		out = outbound.New(gc)
		ic.Gateway = gateway.New(out, model.MustIdentity(gatewayID))
	})
	t.Cleanup(out.Close)
	e = meshedEndpoint()
	e.TransportPort, e.Authority = proxyAddr.Port(), "web.ns.svc.cluster.local:80"
	m.endpoints.Set(endpoints(e))
	return m, inner, e
}

// TestGatewayTCP: connections whose bytes nobody knows pass the gateway under the
// policy of its own port, as long as that lets them.
func TestGatewayTCP(t *testing.T) {
	m, inner, e := newGateway(t)
	e.Hint = model.HintNone
	m.target.Set(opaqueTarget())
	inner.target.Set(opaqueTarget())
	inner.serveTCP(shout(""))
	c := m.dial(m.outAddr)
	r := bufio.NewReader(c)
	if got := talk(t, c, r, "PING"); got != "PING" {
		t.Fatalf("got %q", got)
	}
	const at = `target_addr="10.0.0.2:4143",target_ip="10.0.0.2",target_port="4143"`
	const tls = `tls="true",client_id="` + clientID + `"} 1`
	m.server.Set(model.DefaultServerPolicy(model.DenyPolicy, nil, time.Second, false))
	if _, err := r.ReadString('\n'); err == nil {
		t.Error("the connection went on under a policy that denies it")
	}
	m.wants(m.in.reg, `inbound_tcp_authz_terminate_total{`+at+`,srv_group="",srv_kind="default",srv_name="deny",srv_port="4143",`+tls)

	// A name that the gateway does not serve.
	m.server.Set(model.DefaultServerPolicy(model.AllUnauthenticated, nil, time.Second, false))
	e2 := *e
	e2.Authority = "other.ns.svc.cluster.local:80"
	m.endpoints.Set(endpoints(&e2))
	eventually(t, "bad domain", func() bool {
		c := m.dial(m.outAddr)
		_, _ = io.WriteString(c, "PING\n")
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		return len(b) == 0
	})
	exports(t, func() string { return string(m.in.reg.AppendText(nil)) }, `inbound_tcp_errors_total{error="gateway domain invalid",`+at+"} ")
}
