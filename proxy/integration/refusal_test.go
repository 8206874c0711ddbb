package integration

import (
	"bufio"
	"fmt"
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

// request sends a raw HTTP/1.1 request to an address and gives the response.
func (m *mesh) request(addr, method, path string, fields ...string) *http.Response {
	m.t.Helper()
	c := m.dial(addr)
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: web.ns.svc.cluster.local\r\n", method, path)
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(c, "%s: %s\r\n", fields[i], fields[i+1])
	}
	_, _ = io.WriteString(c, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		m.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp
}

// refused is how a refusal looks to the client.
func refused(r *http.Response) string {
	s := fmt.Sprintf("%d %s", r.StatusCode, r.Header.Get("L5d-Proxy-Error"))
	if r.Close {
		s += " close"
	}
	if v := r.Header.Get("L5d-Proxy-Connection"); v != "" {
		s += " l5d-proxy-connection=" + v
	}
	if v := r.Header.Get("Location"); v != "" {
		s += " location=" + v
	}
	return s
}

// explanation is what the client was told of a refusal.
func explanation(refused string) string {
	_, text, _ := strings.Cut(refused, " ")
	text, _, _ = strings.Cut(text, " close")
	text, _, _ = strings.Cut(text, " location=")
	return text
}

// rule edits the first rule of the outbound policy.
func rule(edit func(*model.Rule)) func(*mesh) {
	return func(m *mesh) {
		m.target.Set(servicePolicy(func(p *model.ClientPolicy) { edit(&p.HTTP1.Routes.List[0].Rules[0]) }))
	}
}

// port edits the inbound policy.
func port(edit func(*model.ServerPolicy)) func(*mesh) {
	return func(m *mesh) {
		p := model.DefaultServerPolicy(model.AllUnauthenticated, nil, 10*time.Second, false)
		edit(p)
		m.server.Set(p)
	}
}

// TestRefusals provokes the refusals of both directions and checks that the
// same words reach client, log and metric.
func TestRefusals(t *testing.T) {
	const logical = "logical service 10.96.0.1:80: "
	const atRoute = logical + "route default.http: "
	const atBackend = atRoute + "backend Service.ns.web:80: "
	for _, c := range []struct {
		name    string
		prepare func(*mesh)
		// plain sends the request to the inbound proxy, without a mesh.
		plain bool
		// down has no application. app is another than the one that echoes.
		down bool
		app  http.HandlerFunc
		// failFast is what the refusal is, so that it comes soon.
		failFast bool
		// slow is refused only if it comes soon enough after the one before, so that
		// it is sent again on a busy machine.
		slow bool
		// status, explanation and so on as refused gives them.
		want string
		// out and in are lines of metrics, log a part of the log.
		out, in, log string
	}{
		{
			name: "denied", prepare: port(func(p *model.ServerPolicy) { p.Authorizations = nil }),
			want: "403 ",
			in:   `inbound_http_authz_deny_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",route_group="",route_kind="default",route_name="default",tls="true",client_id="` + clientID + `"} 1`,
			log:  "unauthorized request on route",
		},
		{
			name: "denied without a mesh", plain: true,
			prepare: func(m *mesh) {
				m.server.Set(model.DefaultServerPolicy(model.AllAuthenticated, nil, 10*time.Second, false))
			},
			want: "403 ",
			in:   `inbound_http_authz_deny_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="all-authenticated",srv_port="8080",route_group="",route_kind="default",route_name="default",tls="no_identity",no_tls_reason="no_tls_from_remote"} 1`,
			log:  "client is not meshed",
		},
		{
			name: "no inbound route", prepare: port(func(p *model.ServerPolicy) {
				p.Routes.List[0].Rules[0].Matches[0].Path.Value = "/other"
			}),
			want: "404 ",
			in:   `inbound_http_route_not_found_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",tls="true",client_id="` + clientID + `"} 1`,
			log:  "No route found for request",
		},
		{
			name: "invalid inbound policy", prepare: func(m *mesh) { m.server.Set(model.InvalidServerPolicy(time.Second, "broken")) },
			want: "500 ",
			in:   `inbound_http_errors_total{error="unexpected",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="invalid",srv_port="8080"} 1`,
			log:  "invalid server policy: invalid server configuration",
		},
		{
			name: "rate limited", slow: true, prepare: func(m *mesh) {
				port(func(p *model.ServerPolicy) { p.RateLimit = &model.RateLimit{Total: 1} })(m)
				m.request(m.outAddr, "GET", "/")
			},
			want: "429 ",
			in:   `inbound_http_local_ratelimit_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",ratelimit_scope="total",tls="true",client_id="` + clientID + `"} 1`,
			log:  "total rate limit exceeded: 1rps",
		},
		{
			name: "inbound redirect", prepare: port(func(p *model.ServerPolicy) {
				p.Routes.List[0].Rules[0].Filters = []model.Filter{{Kind: model.FilterRedirect, Redirect: &model.Redirect{Status: 301, Host: "example.com"}}}
			}),
			want: "301  location=http://example.com/",
		},
		{
			name: "application refuses", down: true,
			want: "502 ",
			in:   `response_total{direction="inbound",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",client_id="` + clientID + `",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",route_group="",route_kind="default",route_name="default",authz_group="",authz_kind="default",authz_name="all-unauthenticated",status_code="502",classification="failure",grpc_status="",error=""} 1`,
			log:  "connection refused",
		},
		{
			name: "no outbound route", prepare: rule(func(r *model.Rule) { r.Matches[0].Path.Value = "/other" }),
			want: "404 no route",
		},
		{
			name: "invalid outbound policy", prepare: func(m *mesh) {
				m.target.Set(&model.Target{Policy: model.InvalidClientPolicy("broken")})
			},
			want: "500 invalid client policy: invalid client policy configuration: broken close l5d-proxy-connection=close",
			out:  `outbound_http_errors_total{error="unexpected"} 1`,
			log:  "invalid client policy: invalid client policy configuration",
		},
		{
			name: "outbound redirect", prepare: rule(func(r *model.Rule) {
				r.Filters = []model.Filter{{Kind: model.FilterRedirect, Redirect: &model.Redirect{Status: 308, Scheme: "https"}}}
			}),
			want: "308 redirected location=https://web.ns.svc.cluster.local/",
		},
		{
			name: "injected failure", prepare: rule(func(r *model.Rule) {
				r.Filters = []model.Filter{{Kind: model.FilterFailure, Failure: &model.Failure{Status: 418, Message: "teapot", Numerator: 1, Denominator: 1}}}
			}),
			want: "418 teapot",
			out:  `outbound_http_route_request_statuses_total{parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="",route_kind="default",route_namespace="",route_name="http",hostname="",http_status="418",error=""} 1`,
		},
		{
			name: "failing backend", prepare: rule(func(r *model.Rule) {
				r.Distribution.Backends[0].Backend = &model.Backend{Meta: serviceMeta, Kind: model.BackendFail, Message: "backend is gone"}
			}),
			want: "502 backend is gone close l5d-proxy-connection=close",
		},
		{
			name: "no backend", prepare: rule(func(r *model.Rule) { r.Distribution = model.Distribution{} }),
			want: "503 " + atRoute + "service unavailable close l5d-proxy-connection=close",
			out:  `outbound_http_errors_total{error="loadshed"} 1`,
		},
		{
			name: "no endpoints", failFast: true, prepare: func(m *mesh) { m.endpoints.Set(endpoints()) },
			want: "504 " + atBackend + "service in fail-fast close l5d-proxy-connection=close",
			out:  `outbound_http_errors_total{error="failfast"} 1`,
			log:  "service in fail-fast",
		},
		{
			name: "endpoint refuses", prepare: func(m *mesh) {
				m.endpoints.Set(endpoints(&model.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.9:1")}))
			},
			want: "502 endpoint 10.0.0.9:1: dial tcp: connection refused close l5d-proxy-connection=close",
			out:  `response_total{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.9:1",target_ip="10.0.0.9",target_port="1",tls="no_identity",no_tls_reason="not_provided_by_service_discovery",status_code="502",classification="failure",grpc_status="",error=""} 1`,
		},
		{
			name: "loopback endpoint", prepare: func(m *mesh) {
				m.endpoints.Set(endpoints(&model.Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:1")}))
			},
			want: "502 endpoint 127.0.0.1:1: Outbound proxy cannot initiate connections on the loopback interface: connection refused close l5d-proxy-connection=close",
		},
		{
			name: "timeout", app: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			prepare: rule(func(r *model.Rule) { r.Timeouts.Request = 100 * time.Millisecond }),
			want:    "504 " + atBackend + "timed out waiting for response headers: request timeout: 100ms",
			out:     `outbound_http_errors_total{error="response timeout"} 1`,
			log:     "Request failed",
		},
		{
			name: "application hangs up", app: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			want: "502 ",
			in:   `response_total{direction="inbound",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="true",client_id="` + clientID + `",srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="8080",route_group="",route_kind="default",route_name="default",authz_group="",authz_kind="default",authz_name="all-unauthenticated",status_code="502",classification="failure",grpc_status="",error=""} 1`,
			log:  "Request failed client.addr",
		},
		{
			name: "another identity", prepare: func(m *mesh) {
				e := meshedEndpoint()
				e.Hint, e.TLS = model.HintNone, model.DNSTLS(model.MustIdentity(serverID))
				e.TLS.ID = model.MustIdentity("other.ns.serviceaccount.identity.linkerd.cluster.local")
				m.endpoints.Set(endpoints(e))
			},
			want: "502 endpoint 10.0.0.2:8080: TLS handshake: certificate does not match TLS identity close l5d-proxy-connection=close",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				if c.failFast {
					failFast(oc, ic)
				}
			})
			if c.app == nil {
				c.app = echo
			}
			if !c.down {
				m.serve(c.app)
			}
			if c.prepare != nil {
				c.prepare(m)
			}
			addr := m.outAddr
			if c.plain {
				addr = m.inAddr
			}
			var got string
			ask := func() bool { got = refused(m.request(addr, "GET", "/")); return got == c.want }
			if !ask() && !(c.slow && soon(ask)) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			m.says(explanation(got), c.log)
			if c.out != "" {
				m.wants(m.out.reg, c.out)
			}
			if c.in != "" {
				m.wants(m.in.reg, c.in)
			}
		})
	}
}

func TestRequiredIdentity(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	if got := refused(m.request(m.outAddr, "GET", "/", "L5d-Require-Id", serverID)); got != "200 " {
		t.Errorf("got %q", got)
	}
	want := "502 required id other; found " + serverID + " close l5d-proxy-connection=close"
	if got := refused(m.request(m.outAddr, "GET", "/", "L5d-Require-Id", "other")); got != want {
		t.Errorf("got %q", got)
	}
	m.wants(m.out.reg, `outbound_http_errors_total{error="identity required"} 1`)
}

func TestQuietProxyExplainsNothing(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		failFast(oc, ic)
		oc.Quiet = true
	})
	m.endpoints.Set(endpoints())
	if got := refused(m.request(m.outAddr, "GET", "/")); got != "504  close" {
		t.Errorf("got %q", got)
	}
}

func TestConnectTimeout(t *testing.T) {
	// A listener that never accepts the handshake: TLS to somebody who does
	// not answer.
	m := newMesh(t, func(oc *outbound.Config, _ *inbound.Config) { oc.ConnectTimeout = 100 * time.Millisecond })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	m.net.set(serverAddr, ln.Addr().String())
	e := meshedEndpoint()
	e.Hint = model.HintNone
	m.endpoints.Set(endpoints(e))
	want := "504 endpoint 10.0.0.2:8080: connect timed out after 100ms close l5d-proxy-connection=close"
	if got := refused(m.request(m.outAddr, "GET", "/")); got != want {
		t.Errorf("got %q", got)
	}
}
