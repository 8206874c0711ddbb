package integration

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// patientQueues never fail fast by themselves.
func patientQueues(oc *outbound.Config, ic *inbound.Config) {
	viaProxy(oc, ic)
	oc.HTTPQueue.FailFast, oc.TCPQueue.FailFast = never, never
}

// TestTimeoutRunsInTheQueue: a request that waits for an endpoint is over when its
// time is.
func TestTimeoutRunsInTheQueue(t *testing.T) {
	for _, retry := range []*model.Retry{nil, {Max: 3, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 500, Max: 599}}}} {
		m := newMesh(t, patientQueues)
		m.endpoints.Set(endpoints())
		rule(func(r *model.Rule) { r.Timeouts.Request, r.Retry = 50*time.Millisecond, retry })(m)
		want := "504 logical service 10.96.0.1:80: route default.http: backend Service.ns.web:80: timed out waiting for response headers: request timeout: 50ms"
		if got := refused(m.request(m.outAddr, "GET", "/")); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		m.wants(m.out.reg, "outbound_http_route_request_statuses_total{"+routeLabels+`,http_status="",error="REQUEST_TIMEOUT"} 1`)
	}
}

// TestTimeoutEndsThePauseBetweenAttempts: nobody waits for an attempt that would
// come too late.
func TestTimeoutEndsThePauseBetweenAttempts(t *testing.T) {
	m := newMesh(t, patientQueues)
	h, calls := failing(100, 503)
	m.serve(h)
	rule(func(r *model.Rule) {
		r.Timeouts.Request = 500 * time.Millisecond
		r.Retry = &model.Retry{
			Max: 3, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 500, Max: 599}},
			Backoff: &model.Backoff{Min: never, Max: never},
		}
	})(m)
	want := "504 logical service 10.96.0.1:80: route default.http: timed out waiting for response headers: request timeout: 500ms"
	if got := refused(m.request(m.outAddr, "GET", "/")); got != want && !strings.Contains(got, "backend Service") || calls.Load() > 1 {
		t.Errorf("got %q after %d calls", got, calls.Load())
	}
	m.wants(m.out.reg, "outbound_http_route_request_statuses_total{"+routeLabels+`,http_status="",error="REQUEST_TIMEOUT"} 1`)
}

// TestPolicySetsTheQueue: what a policy asks for takes the place of the proxy's own
// configuration.
func TestPolicySetsTheQueue(t *testing.T) {
	m := newMesh(t, patientQueues)
	m.endpoints.Set(endpoints())
	queue := func(q model.Queue) {
		rule(func(r *model.Rule) { r.Distribution.Backends[0].Backend.Queue = q })(m)
	}
	queue(model.Queue{Failfast: 50 * time.Millisecond})
	if got := refused(m.request(m.outAddr, "GET", "/")); !strings.Contains(got, "service in fail-fast") {
		t.Errorf("got %q", got)
	}
	// One waits; there is no room for another.
	queue(model.Queue{Capacity: 1})
	ask := func() (net.Conn, *bufio.Reader) {
		c := m.dial(m.outAddr)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
		return c, bufio.NewReader(c)
	}
	first, answer := ask()
	waits := "outbound_http_balancer_queue_length{" + balancerLabels + "} 1"
	eventually(t, "a request in the queue", func() bool {
		if strings.Contains(string(m.out.reg.AppendText(nil)), waits+"\n") {
			return true
		}
		// One that still came under the former policy is answered.
		_ = first.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := answer.Peek(1); err == nil {
			first, answer = ask()
		}
		return false
	})
	_ = first.SetReadDeadline(time.Now().Add(patience))
	if got := refused(m.request(m.outAddr, "GET", "/")); !strings.HasPrefix(got, "503 ") {
		t.Errorf("with the queue full: %q", got)
	}
	m.serve(http.HandlerFunc(echo))
	m.endpoints.Set(endpoints(meshedEndpoint()))
	if resp, err := http.ReadResponse(answer, nil); err != nil || resp.StatusCode != 200 {
		t.Errorf("the one that waited got %v, %v", resp, err)
	}
}

const balancerLabels = `parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name=""`

// TestPolicySetsTheDetectionTimeout: what may yet become a request is passed on
// when the policy's patience is over.
func TestPolicySetsTheDetectionTimeout(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, _ *inbound.Config) { oc.Detect = never })
	m.serveTCP(func(c net.Conn) {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err == nil {
			_, _ = io.WriteString(c, strings.ToLower(string(b))+"\n")
		}
	})
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}))
	m.target.Set(servicePolicy(func(p *model.ClientPolicy) { p.Detect = 20 * time.Millisecond }))
	c := m.dial(m.outAddr)
	_, _ = io.WriteString(c, "GET ")
	if got := talk(t, c, bufio.NewReader(c), ""); got != "get" {
		t.Errorf("got %q", got)
	}
}

// dials counts what is dialled.
type dials struct {
	netx.Dialer
	to netip.AddrPort
	n  atomic.Int64
}

func (d *dials) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if to == d.to {
		d.n.Add(1)
	}
	return d.Dialer.Dial(ctx, to)
}

var crashedAddr = netip.MustParseAddrPort("10.0.0.77:8080")

// TestCrashedEndpoints: an endpoint of HTTP/1 that cannot be connected to costs no
// request, and is left alone until it is back.
func TestCrashedEndpoints(t *testing.T) {
	d := &dials{to: crashedAddr}
	m := newMesh(t, func(oc *outbound.Config, _ *inbound.Config) {
		d.Dialer, oc.Dialer = oc.Dialer, d
		oc.Backoff.Base, oc.Backoff.Max = never, never // it is not tried again
	})
	m.serve(http.HandlerFunc(echo))
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}, &model.Endpoint{Addr: crashedAddr}))
	c := m.client(false)
	for d.n.Load() == 0 {
		// All of each request arrives, whichever endpoint is chosen first.
		resp, err := c.Post("http://web.ns.svc.cluster.local/", "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.HasSuffix(string(body), "body=hello") {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	for range 50 {
		if resp, _ := m.get(c, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	if n := d.n.Load(); n != 1 {
		t.Errorf("the crashed endpoint was asked %d times", n)
	}
	crashed := `{direction="outbound",authority="web.ns.svc.cluster.local:80",target_addr="10.0.0.77:8080",target_ip="10.0.0.77",target_port="8080",tls="no_identity",no_tls_reason="not_provided_by_service_discovery"`
	m.wants(m.out.reg,
		"request_total"+crashed+"} 1",
		"response_total"+crashed+`,status_code="502",classification="failure",grpc_status="",error=""} 1`,
		"outbound_http_balancer_endpoints{"+balancerLabels+`,endpoint_state="pending"} 1`)
}

// TestCrashedEndpointsComeBack: what is avoided is tried in the background.
func TestCrashedEndpointsComeBack(t *testing.T) {
	m := newMesh(t, nil)
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}, &model.Endpoint{Addr: crashedAddr}))
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "first") }))
	c := m.client(false)
	pending := "outbound_http_balancer_endpoints{" + balancerLabels + `,endpoint_state="pending"} 1`
	eventually(t, "the endpoint is found to be down", func() bool {
		m.get(c, "http://web.ns.svc.cluster.local/")
		return strings.Contains(string(m.out.reg.AppendText(nil)), pending+"\n")
	})
	server := m.net.get(serverAddr)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "second") }))
	m.net.set(crashedAddr, m.net.get(serverAddr))
	m.net.set(serverAddr, server)
	eventually(t, "the endpoint is used again", func() bool {
		_, body := m.get(c, "http://web.ns.svc.cluster.local/")
		return body == "second"
	})
}

// TestCrashedEndpointsOfConnections: connections that are not HTTP go to an endpoint
// that takes them.
func TestCrashedEndpointsOfConnections(t *testing.T) {
	d := &dials{to: crashedAddr}
	m := newMesh(t, func(oc *outbound.Config, _ *inbound.Config) {
		d.Dialer, oc.Dialer = oc.Dialer, d
		oc.Backoff.Base, oc.Backoff.Max = never, never
	})
	m.serveTCP(shout(""))
	m.target.Set(opaqueTarget())
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: serverAddr}, &model.Endpoint{Addr: crashedAddr}))
	for n := 0; d.n.Load() == 0 || n < 10; n++ {
		c := m.dial(m.outAddr)
		if got := talk(t, c, bufio.NewReader(c), "hello"); got != "HELLO" {
			t.Fatalf("got %q", got)
		}
		c.Close()
	}
	if n := d.n.Load(); n != 1 {
		t.Errorf("the crashed endpoint was asked %d times", n)
	}
}

// TestCircuitBreakersEverywhere: what the policy says of breakers counts for service
// profiles and single addresses, too.
func TestCircuitBreakersEverywhere(t *testing.T) {
	for name, change := range map[string]func(*model.Target){
		"profile": func(target *model.Target) {
			target.Profile, target.ProfileHTTP = &model.Profile{Name: "web.ns.svc.cluster.local"}, true
		},
		"forward": func(target *model.Target) {
			b := target.Policy.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend
			b.Kind, b.Path, b.Forward = model.BackendForward, "", meshedEndpoint()
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				oc.HTTPQueue.FailFast = 50 * time.Millisecond
			})
			m.endpoints.Set(endpoints(meshedEndpoint()))
			h, calls := failing(1000, 500)
			m.serve(h)
			target := servicePolicy(func(p *model.ClientPolicy) {
				p.HTTP1.Accrual = &model.FailureAccrual{MaxConsecutive: 3, Backoff: model.Backoff{Min: never, Max: never}}
			})
			change(target)
			m.target.Set(target)
			eventually(t, "the breaker is shut", func() bool {
				got := refused(m.request(m.outAddr, "GET", "/"))
				return calls.Load() >= 3 && strings.Contains(got, "service in fail-fast")
			})
			if n := calls.Load(); n != 3 {
				t.Errorf("%d requests reached the endpoint", n)
			}
		})
	}
}

// TestSessionAffinity: requests with the same header or cookie, or all that a
// client sends, go to one endpoint, and elsewhere if that is gone; others go to any.
func TestSessionAffinity(t *testing.T) {
	type field struct{ name, value string }
	for _, c := range []struct {
		name     string
		affinity model.Affinity
		session  func(i int) field
		sticks   bool
	}{
		{"header", model.Affinity{Kind: model.AffinityHeader, Name: "x-user"}, func(i int) field { return field{"X-User", fmt.Sprint(i)} }, true},
		{"cookie", model.Affinity{Kind: model.AffinityCookie, Name: "sid"}, func(i int) field { return field{"Cookie", fmt.Sprintf("a=b; sid=%d", i)} }, true},
		{"client", model.Affinity{Kind: model.AffinityClient}, func(int) field { return field{"X-Any", "x"} }, true},
		{"no session yet", model.Affinity{Kind: model.AffinityHeader, Name: "x-user"}, func(int) field { return field{"X-Any", "x"} }, false},
	} {
		for _, version := range []string{"1", "2"} {
			t.Run(c.name+" HTTP/"+version, func(t *testing.T) {
				m := newMesh(t, nil)
				var all []*model.Endpoint
				for i := range 3 {
					m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) }))
					addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(80 + i)}), 8080)
					m.net.set(addr, m.net.get(serverAddr))
					all = append(all, &model.Endpoint{Addr: addr})
				}
				m.endpoints.Set(endpoints(all...))
				m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
					p.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend.Affinity = c.affinity
				}))
				client := m.client(version == "2")
				ask := func(i int) string {
					req, err := http.NewRequest("GET", "http://web.ns.svc.cluster.local/", nil)
					if err != nil {
						t.Fatal(err)
					}
					f := c.session(i)
					req.Header.Set(f.name, f.value)
					resp, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != 200 {
						t.Fatalf("got %d %q, %v", resp.StatusCode, body, err)
					}
					return string(body)
				}
				// Over HTTP/2 endpoints are ready once they are connected to.
				ready := "outbound_http_balancer_endpoints{" + balancerLabels + `,endpoint_state="ready"} 3`
				eventually(t, "all endpoints are ready", func() bool {
					ask(0)
					return strings.Contains(string(m.out.reg.AppendText(nil)), ready+"\n")
				})
				seen := map[string]bool{}
				for range 5 {
					at := map[int]string{}
					for i := range 20 {
						first := ask(i)
						at[i], seen[first] = first, true
						if again := ask(i); c.sticks && again != first {
							t.Fatalf("session %d is at %s and %s", i, first, again)
						}
					}
					for i, first := range at {
						if again := ask(i); c.sticks && again != first {
							t.Fatalf("session %d is at %s and %s", i, first, again)
						}
					}
				}
				least, most := 3, 3
				switch {
				case c.affinity.Kind == model.AffinityClient:
					least, most = 1, 1
				case !c.sticks:
					// One that was slow once may be left alone.
					least = 2
				}
				if n := len(seen); n < least || n > most {
					t.Errorf("sessions are at %d endpoints, want %d to %d", n, least, most)
				}
				// Who is left has all of them.
				gone := ask(0)
				var left []*model.Endpoint
				for i, e := range all {
					if fmt.Sprint(i) != gone {
						left = append(left, e)
					}
				}
				m.endpoints.Set(endpoints(left...))
				eventually(t, "the session moves", func() bool { return ask(0) != gone })
			})
		}
	}
}

// TestRetryBudgetOfRoutes: retries are a share of the requests.
func TestRetryBudgetOfRoutes(t *testing.T) {
	m := newMesh(t, viaProxy)
	h, calls := failing(1000, 503)
	m.serve(h)
	rule(func(r *model.Rule) {
		r.Retry = &model.Retry{
			Max: 1, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 500, Max: 599}},
			Budget: &model.RetryBudget{Ratio: 0.25, TTL: time.Minute},
		}
	})(m)
	for range 12 {
		if got := refused(m.request(m.outAddr, "GET", "/")); got != "503 " {
			t.Fatalf("got %q", got)
		}
	}
	if n := calls.Load(); n != 15 {
		t.Errorf("%d calls for 12 requests and 3 retries", n)
	}
	m.wants(m.out.reg,
		"outbound_http_route_retry_requests_total{"+routeLabels+"} 3",
		"outbound_http_route_retry_limit_exceeded_total{"+routeLabels+"} 3",
		"outbound_http_route_retry_overflow_total{"+routeLabels+"} 9")
}
