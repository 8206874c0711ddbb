package series

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestLabels(t *testing.T) {
	addr := netip.MustParseAddrPort("10.1.0.7:8080")
	service := model.Meta{Group: "core", Kind: "Service", Namespace: "ns", Name: "web", Port: 80, Section: "s"}
	id := model.MustIdentity("a.ns.serviceaccount.identity.linkerd.cluster.local")
	for _, c := range []struct{ got, want string }{
		{Target(addr), `target_addr="10.1.0.7:8080",target_ip="10.1.0.7",target_port="8080"`},
		{Target(netip.MustParseAddrPort("[fd00::1]:80")), `target_addr="[fd00::1]:80",target_ip="fd00::1",target_port="80"`},
		{ServerTLS{State: TLSMesh, Client: id}.Labels(), `tls="true",client_id="a.ns.serviceaccount.identity.linkerd.cluster.local"`},
		{ServerTLS{State: TLSMesh}.Labels(), `tls="true",client_id=""`},
		{ServerTLS{State: TLSOpaque, SNI: "x.y"}.Labels(), `tls="opaque",sni="x.y"`},
		{ServerTLS{Reason: PortSkipped}.Labels(), `tls="no_identity",no_tls_reason="port_skipped"`},
		{ClientTLS(id, ""), `tls="true",server_id="a.ns.serviceaccount.identity.linkerd.cluster.local"`},
		{ClientTLS(model.Identity{}, NotProvided), `tls="no_identity",no_tls_reason="not_provided_by_service_discovery"`},
		{Server(model.Default("deny"), 80), `srv_group="",srv_kind="default",srv_name="deny",srv_port="80"`},
		{Parent(service), `parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="s"`},
		{Backend(model.Default("endpoint")), `backend_group="",backend_kind="default",backend_namespace="",backend_name="endpoint",backend_port="",backend_section_name=""`},
		{Dst(model.Labels{{Key: "namespace", Value: "ns"}, {Key: "odd-key", Value: `q"`}}), `dst_namespace="ns",dst_odd_key="q\""`},
		{Dst(nil), ``},
		{ProfileRoute(OutboundLabel, "web:80", model.Labels{{Key: "route", Value: "GET /"}}), `direction="outbound",dst="web:80",rt_route="GET /"`},
		{Class{Status: 503, Failure: true}.labels(), `status_code="503",classification="failure",grpc_status="",error=""`},
		{Class{GRPC: "0", Status: 200}.labels(), `status_code="200",classification="success",grpc_status="0",error=""`},
		{Result{Status: 200}.labels(false), `http_status="200",error=""`},
		{Result{Error: "FAIL_FAST"}.labels(false), `http_status="",error="FAIL_FAST"`},
		{Result{GRPC: "14"}.labels(true), `grpc_status="UNAVAILABLE",error=""`},
		{Result{GRPC: "99"}.labels(true), `grpc_status="UNKNOWN",error=""`},
		{Result{Error: "IO"}.labels(true), `grpc_status="UNKNOWN",error="IO"`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestBalancersAreAddedUp(t *testing.T) {
	reg := metric.NewRegistry(metric.Options{})
	b := NewBalancer(reg, "outbound_http_balancer")
	one := b.Add(`a="1"`, func() BalancerStats {
		return BalancerStats{Ready: 1, Pending: 2, Add: 3, QueueRequests: 4, GateShut: 1, GateShutAt: time.Unix(10, 0), GateTimeout: 3 * time.Second}
	})
	b.Add(`a="1"`, func() BalancerStats {
		return BalancerStats{Ready: 5, Add: 1, QueueRequests: 1, GateShutAt: time.Unix(20, 0)}
	})
	has := func(lines ...string) {
		t.Helper()
		text := string(reg.AppendText(nil))
		for _, l := range lines {
			if !strings.Contains(text, l+"\n") {
				t.Errorf("no %s in:\n%s", l, text)
			}
		}
	}
	has(`outbound_http_balancer_endpoints{a="1",endpoint_state="ready"} 6`, `outbound_http_balancer_endpoints{a="1",endpoint_state="pending"} 2`,
		`outbound_http_balancer_p2c_endpoints{a="1"} 8`, `outbound_http_balancer_p2c_updates_total{a="1",op="Add"} 4`,
		`outbound_http_balancer_queue_requests_total{a="1"} 5`, `outbound_http_balancer_queue_gate_shut_time_seconds{a="1"} 20`,
		`outbound_http_balancer_queue_gate_timeout_seconds{a="1"} 3`)
	// What a balancer counted outlives it; what it has does not.
	one.Remove()
	has(`outbound_http_balancer_endpoints{a="1",endpoint_state="ready"} 5`, `outbound_http_balancer_p2c_updates_total{a="1",op="Add"} 4`)
}

// TestBalancersThatAreGoneMakeRoom: a proxy may live for months and see any number of
// services come and go.
func TestBalancersThatAreGoneMakeRoom(t *testing.T) {
	reg := metric.NewRegistry(metric.Options{Limit: 10})
	b := NewBalancer(reg, "outbound_http_balancer")
	requests := func(n int) string {
		b.Add(fmt.Sprintf(`a="%d"`, n), func() BalancerStats { return BalancerStats{Ready: 1, QueueRequests: 1} }).Remove()
		return fmt.Sprintf(`outbound_http_balancer_queue_requests_total{a="%d"} `, n)
	}
	for n := range 100 {
		line := requests(n)
		if text := string(reg.AppendText(nil)); !strings.Contains(text, line+"1\n") {
			t.Fatalf("no %s", line)
		}
	}
	if n := len(b.groups); n != 0 {
		t.Errorf("%d groups of balancers that are gone", n)
	}
	// One that comes back goes on counting where it was.
	line := requests(99)
	text := string(reg.AppendText(nil))
	for _, want := range []string{line + "2\n", `outbound_http_balancer_endpoints{a="99",endpoint_state="ready"} 0` + "\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestTransportsAreShared(t *testing.T) {
	reg := metric.NewRegistry(metric.Options{})
	ts := NewTransports[int](New(reg))
	rendered := 0
	labels := func(int) string { rendered++; return `k="1"` }
	a, b := ts.Get(1, labels), ts.Get(1, labels)
	if a != b || rendered != 1 {
		t.Errorf("%d times rendered", rendered)
	}
	a.Open()
	b.Open()
	a.Closed("")
	a.Release()
	b.Closed("")
	b.Release()
	if c := ts.Get(1, labels); c == a || rendered != 2 {
		t.Error("a handle that was released was given out again")
	}
	if text := string(reg.AppendText(nil)); !strings.Contains(text, `tcp_open_total{k="1"} 2`+"\n") {
		t.Error(text)
	}
}
