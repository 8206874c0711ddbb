package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// viaProxy makes connections of the outbound proxy to the server arrive at its
// inbound proxy, as redirection does.
func viaProxy(oc *outbound.Config, ic *inbound.Config) {
	inner := oc.Dialer
	oc.Dialer = dialVia{inner}
}

type dialVia struct{ netx.Dialer }

func (d dialVia) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if to == serverAddr {
		to = proxyAddr
	}
	return d.Dialer.Dial(ctx, to)
}

// echo tells what the application saw.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s host=%s client=%s canonical=%s body=%s", r.Proto, r.Method, r.URL.Path, r.Host,
		r.Header.Get("L5d-Client-Id"), r.Header.Get("L5d-Dst-Canonical"), body)
}

func TestHTTPThroughTheMesh(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serve(http.HandlerFunc(echo))
			c := m.client(http2)
			proto := "HTTP/1.1"
			if http2 {
				proto = "HTTP/2.0"
			}
			for range 3 {
				resp, body := m.get(c, "http://web.ns.svc.cluster.local/path")
				want := proto + " GET /path host=web.ns.svc.cluster.local client=" + clientID + " canonical= body="
				if resp.StatusCode != 200 || body != want {
					t.Fatalf("got %d %q, want %q", resp.StatusCode, body, want)
				}
			}
			resp, err := c.Post("http://web.ns.svc.cluster.local/post", "text/plain", strings.NewReader(strings.Repeat("x", 100000)))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || !strings.HasSuffix(string(body), strings.Repeat("x", 100000)) {
				t.Errorf("got %d, %d bytes", resp.StatusCode, len(body))
			}
			out := `{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",server_id="` + serverID + `",dst_namespace="ns",dst_service="web"`
			in := `{direction="inbound",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",client_id="` + clientID + `",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",route_group="",route_kind="default",route_name="default",authz_group="",authz_kind="default",authz_name="all-unauthenticated"`
			parent := `{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name=""`
			route := parent + `,route_group="",route_kind="default",route_namespace="",route_name="http"`
			m.wants(m.out.reg,
				"request_total"+out+"} 4",
				"response_total"+out+`,status_code="200",classification="success",grpc_status="",error=""} 4`,
				"outbound_http_route_request_statuses_total"+route+`,hostname="",http_status="200",error=""} 4`,
				"outbound_http_balancer_endpoints"+parent+`,backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name="",endpoint_state="ready"} 1`,
			)
			m.wants(m.in.reg,
				"request_total"+in+"} 4",
				"response_total"+in+`,status_code="200",classification="success",grpc_status="",error=""} 4`,
				`inbound_http_requests_total{parent_group="",parent_kind="default",parent_name="all-unauthenticated",parent_port="8080",route_group="",route_kind="default",route_name="default"} 4`,
				`inbound_http_statuses_total{parent_group="",parent_kind="default",parent_name="all-unauthenticated",parent_port="8080",route_group="",route_kind="default",route_name="default",status="200"} 4`,
				`tcp_open_total{direction="inbound",peer="src",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",client_id="`+clientID+`",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080"} 1`,
			)
		})
	}
}
