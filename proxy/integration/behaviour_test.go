package integration

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

const routeLabels = `parent_group="core",parent_kind="Service",parent_namespace="ns",parent_name="web",parent_port="80",parent_section_name="",route_group="",route_kind="default",route_namespace="",route_name="http",hostname=""`

// failing answers the first n requests with status, then as echo.
func failing(n int64, status int) (http.HandlerFunc, *atomic.Int64) {
	var calls atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= n {
			w.WriteHeader(status)
			return
		}
		echo(w, r)
	}, &calls
}

func TestRetries(t *testing.T) {
	m := newMesh(t, viaProxy)
	h, calls := failing(2, 503)
	m.serve(h)
	rule(func(r *model.Rule) {
		r.Retry = &model.Retry{Max: 2, MaxRequestBytes: 64 << 10, Statuses: []model.StatusRange{{Min: 500, Max: 599}}}
	})(m)
	resp, err := m.client(false).Post("http://web.ns.svc.cluster.local/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.HasSuffix(string(body), "body=hello") || calls.Load() != 3 {
		t.Errorf("got %d %q after %d calls", resp.StatusCode, body, calls.Load())
	}
	m.wants(m.out.reg,
		"outbound_http_route_retry_requests_total{"+routeLabels+"} 2",
		"outbound_http_route_retry_successes_total{"+routeLabels+"} 1",
		"outbound_http_route_request_statuses_total{"+routeLabels+`,http_status="200",error=""} 1`,
		`outbound_http_route_backend_response_statuses_total{`+strings.TrimSuffix(routeLabels, `,hostname=""`)+`,backend_group="core",backend_kind="Service",backend_namespace="ns",backend_name="web",backend_port="80",backend_section_name="",http_status="503",error=""} 2`,
	)
}

// TestLargeBodiesAreRetried: what a rule allows is kept and sent again, and what is
// longer goes through without being kept.
func TestLargeBodiesAreRetried(t *testing.T) {
	for _, c := range []struct {
		length, calls int
		want          int
	}{{1 << 20, 2, 200}, {1<<20 + 1, 1, 503}} {
		m := newMesh(t, viaProxy)
		var calls atomic.Int64
		m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil || n != int64(c.length) {
				t.Errorf("the application got %d bytes, %v", n, err)
			}
			if calls.Add(1) == 1 {
				w.WriteHeader(503)
			}
		}))
		rule(func(r *model.Rule) {
			r.Retry = &model.Retry{Max: 1, MaxRequestBytes: 1 << 20, Statuses: []model.StatusRange{{Min: 500, Max: 599}}}
		})(m)
		resp, err := m.client(false).Post("http://web.ns.svc.cluster.local/", "text/plain", bytes.NewReader(make([]byte, c.length)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want || calls.Load() != int64(c.calls) {
			t.Errorf("%d bytes: status %d after %d calls", c.length, resp.StatusCode, calls.Load())
		}
	}
}

func TestRetryLimit(t *testing.T) {
	m := newMesh(t, viaProxy)
	h, calls := failing(100, 503)
	m.serve(h)
	rule(func(r *model.Rule) {
		r.Retry = &model.Retry{Max: 1, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 500, Max: 599}}}
	})(m)
	if got := refused(m.request(m.outAddr, "GET", "/")); got != "503 " || calls.Load() != 2 {
		t.Errorf("got %q after %d calls", got, calls.Load())
	}
	m.wants(m.out.reg, "outbound_http_route_retry_limit_exceeded_total{"+routeLabels+"} 1")
}

// TestRetryThatFails: an answer that is not retried again is no success for that.
func TestRetryThatFails(t *testing.T) {
	m := newMesh(t, viaProxy)
	var calls atomic.Int64
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(map[int64]int{1: 503, 2: 501}[calls.Add(1)])
	}))
	rule(func(r *model.Rule) {
		r.Retry = &model.Retry{Max: 2, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 503, Max: 503}}}
	})(m)
	if got := refused(m.request(m.outAddr, "GET", "/")); got != "501 " || calls.Load() != 2 {
		t.Errorf("got %q after %d calls", got, calls.Load())
	}
	m.wants(m.out.reg,
		"outbound_http_route_retry_requests_total{"+routeLabels+"} 1",
		"outbound_http_route_retry_successes_total{"+routeLabels+"} 0")
}

func TestTimeouts(t *testing.T) {
	slow := func(head, body time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(head):
			case <-r.Context().Done():
			}
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			select {
			case <-time.After(body):
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, "late")
		}
	}
	for _, c := range []struct {
		name     string
		timeouts model.Timeouts
		app      http.HandlerFunc
		want     string
		label    string
	}{
		{"request", model.Timeouts{Request: 100 * time.Millisecond}, slow(never, 0), "504 logical service 10.96.0.1:80: route default.http: backend Service.ns.web:80: timed out waiting for response headers: request timeout: 100ms", "REQUEST_TIMEOUT"},
		{"response", model.Timeouts{Response: 100 * time.Millisecond}, slow(never, 0), "504 logical service 10.96.0.1:80: route default.http: backend Service.ns.web:80: timed out waiting for response headers: response stream timeout: 100ms", "RESPONSE_STREAM_TIMEOUT"},
		{"idle", model.Timeouts{Idle: 100 * time.Millisecond}, slow(0, 5*time.Second), "cut", "IDLE_TIMEOUT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serve(c.app)
			rule(func(r *model.Rule) { r.Timeouts = c.timeouts })(m)
			client := m.client(false)
			got := ""
			ask := func() bool {
				got = "cut"
				resp, err := client.Get("http://web.ns.svc.cluster.local/")
				if err == nil {
					if _, err = io.ReadAll(resp.Body); err == nil {
						got = refused(resp)
					}
					resp.Body.Close()
				}
				return got == c.want
			}
			// On a busy machine a stream may be idle for too long before its head is
			// there, which is refused and not cut.
			if !ask() && !(c.want == "cut" && soon(ask)) {
				t.Errorf("got %q", got)
			}
			status := ""
			if c.want == "cut" {
				status = "200"
			}
			m.wants(m.out.reg, "outbound_http_route_request_statuses_total{"+routeLabels+`,http_status="`+status+`",error="`+c.label+`"} 1`)
		})
	}
}

func TestCircuitBreaker(t *testing.T) {
	for _, c := range []struct {
		name string
		shut time.Duration
		want int
	}{
		// Nothing is ready until fail-fast.
		{"shut", never, 504},
		// What comes meanwhile waits for the probe.
		{"probed", 50 * time.Millisecond, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				if c.want == 504 {
					failFast(oc, ic)
				}
			})
			h, calls := failing(3, 500)
			m.serve(h)
			m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
				p.HTTP1.Accrual = &model.FailureAccrual{MaxConsecutive: 3, Backoff: model.Backoff{Min: c.shut, Max: 2 * c.shut}}
			}))
			for range 3 {
				if got := refused(m.request(m.outAddr, "GET", "/")); got != "500 " {
					t.Fatalf("got %q", got)
				}
			}
			if got := m.request(m.outAddr, "GET", "/").StatusCode; got != c.want {
				t.Errorf("got %d", got)
			}
			if n := calls.Load(); c.want == 504 && n != 3 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// TestLoadBiaser: an endpoint that fails at once must not look like the better
// one.
func TestLoadBiaser(t *testing.T) {
	m := newMesh(t, viaProxy)
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	t.Cleanup(bad.Close)
	badAddr := netip.MustParseAddrPort("10.0.0.66:8080")
	m.net.set(badAddr, bad.Listener.Addr().String())
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) }))
	m.endpoints.Set(endpoints(meshedEndpoint(), &model.Endpoint{Addr: badAddr}))
	m.target.Set(servicePolicy(func(p *model.ClientPolicy) {
		load := &p.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend.Load
		load.Penalize, load.Penalty, load.MaxRetryAfter = true, 5*time.Second, 10*time.Second
	}))
	c := m.client(false)
	ask := func() int {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode
	}
	// Both are tried before anything is known of them.
	seen := map[int]bool{}
	eventually(t, "answers of both", func() bool { seen[ask()] = true; return seen[200] && seen[503] })
	failed := 0
	for range 40 {
		if ask() == 503 {
			failed++
		}
	}
	if failed > 0 {
		t.Errorf("%d of 40 requests went to the endpoint that fails", failed)
	}
}

func TestHeaderModifiersAndHostRouting(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "app")
		fmt.Fprintf(w, "%s %s %s", r.Header.Get("X-Set"), r.Header.Values("X-Add"), r.Header.Get("X-Gone"))
	}))
	rule(func(r *model.Rule) {
		r.Filters = []model.Filter{
			{Kind: model.FilterRequestHeaders, Headers: &model.HeaderModifier{
				Add: []model.Header{{Name: "x-add", Value: "2"}}, Set: []model.Header{{Name: "x-set", Value: "yes"}}, Remove: []string{"x-gone"},
			}},
			{Kind: model.FilterResponseHeaders, Headers: &model.HeaderModifier{Set: []model.Header{{Name: "server", Value: "proxy"}}}},
		}
	})(m)
	resp := m.request(m.outAddr, "GET", "/", "X-Add", "1", "X-Gone", "here", "X-Set", "no")
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "yes [1 2] " || resp.Header.Get("Server") != "proxy" {
		t.Errorf("got %q, server %q", body, resp.Header.Get("Server"))
	}
}

func TestClientIDCannotBeForged(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	for addr, want := range map[string]string{m.outAddr: "client=" + clientID + " ", m.inAddr: "client= "} {
		body, _ := io.ReadAll(m.request(addr, "GET", "/", "L5d-Client-Id", "admin").Body)
		if !strings.Contains(string(body), want) {
			t.Errorf("got %q, want %q", body, want)
		}
	}
}

func TestUpgrade(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil || req.Header.Get("Upgrade") != "echo" {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, r)
	})
	c := m.dial(m.outAddr)
	_, _ = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" {
		t.Fatalf("got %+v, %v", resp, err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "early\n" {
		t.Errorf("got %q, %v", line, err)
	}
	if got := talk(t, c, r, "more"); got != "more" {
		t.Errorf("got %q", got)
	}
}

func TestServiceProfile(t *testing.T) {
	m := newMesh(t, viaProxy)
	h, calls := failing(1, 503)
	m.serve(h)
	re, err := model.CompileRegex("/api/.*")
	if err != nil {
		t.Fatal(err)
	}
	target := servicePolicy(nil)
	target.ProfileHTTP = true
	target.Profile = &model.Profile{
		Name: "web.ns.svc.cluster.local",
		Routes: []model.ProfileRoute{{
			Condition: model.RequestMatch{Op: model.OpPath, Path: re}, Labels: model.Labels{{Key: "route", Value: "GET /api"}}, Retryable: true,
		}},
		Budget: &model.RetryBudget{Ratio: 0.2, MinPerSecond: 10, TTL: 10 * time.Second},
	}
	m.target.Set(target)
	resp, body := m.get(m.client(false), "http://web.ns.svc.cluster.local/api/x")
	if resp.StatusCode != 200 || calls.Load() != 2 || !strings.Contains(body, "canonical=web.ns.svc.cluster.local:80") {
		t.Errorf("got %d %q after %d calls", resp.StatusCode, body, calls.Load())
	}
	labels := `{direction="outbound",dst="web.ns.svc.cluster.local:80",rt_route="GET /api"`
	m.wants(m.out.reg, "route_request_total"+labels+"} 1", "route_actual_request_total"+labels+"} 2",
		"route_response_total"+labels+`,status_code="200",classification="success",grpc_status="",error=""} 1`,
		"route_actual_response_total"+labels+`,status_code="503",classification="failure",grpc_status="",error=""} 1`)
}

// TestPolicyBesideProfile: what the policy says of time limits and retries counts
// where a service profile says nothing, and no further.
func TestPolicyBesideProfile(t *testing.T) {
	re, err := model.CompileRegex("/api/.*")
	if err != nil {
		t.Fatal(err)
	}
	type route = model.ProfileRoute
	api := model.RequestMatch{Op: model.OpPath, Path: re}
	unavailable := model.Retry{Max: 2, MaxRequestBytes: 100, Statuses: []model.StatusRange{{Min: 503, Max: 503}}}
	for _, c := range []struct {
		name    string
		profile model.Profile
		rule    model.Rule
		path    string
		fails   int64
		slow    bool
		want    string
		calls   int64
		metrics []string
	}{
		{name: "retries", profile: model.Profile{Routes: []route{{Condition: api}}}, rule: model.Rule{Retry: &unavailable},
			path: "/api/x", fails: 2, want: "200 ", calls: 3, metrics: []string{
				`route_request_total{direction="outbound",dst="web.ns.svc.cluster.local:80"} 1`,
				`route_actual_request_total{direction="outbound",dst="web.ns.svc.cluster.local:80"} 3`,
			}},
		{name: "retries on the default route", profile: model.Profile{Routes: []route{{Condition: api}}}, rule: model.Rule{Retry: &unavailable},
			path: "/", fails: 1, want: "200 ", calls: 2},
		{name: "retries beside shares", profile: model.Profile{Overrides: []model.Override{{Path: "web.ns.svc.cluster.local:80", Weight: 1}}},
			rule: model.Rule{Retry: &unavailable}, path: "/", fails: 1, want: "200 ", calls: 2},
		{name: "retries have a limit", profile: model.Profile{Routes: []route{{Condition: api}}}, rule: model.Rule{Retry: &unavailable},
			path: "/", fails: 9, want: "503 ", calls: 3},
		{name: "retries have a budget", profile: model.Profile{Routes: []route{{Condition: api}}},
			rule: model.Rule{Retry: &model.Retry{
				Max: 2, MaxRequestBytes: 100, Statuses: unavailable.Statuses, Budget: &model.RetryBudget{TTL: time.Minute},
			}},
			path: "/", fails: 9, want: "503 ", calls: 1,
			metrics: []string{`route_retryable_total{direction="outbound",dst="web.ns.svc.cluster.local:80",skipped="no_budget"} 1`}},
		{name: "a profile with retries says which", profile: model.Profile{Routes: []route{{Condition: api, Retryable: true}}},
			rule: model.Rule{Retry: &unavailable}, path: "/", fails: 1, want: "503 ", calls: 1},
		{name: "time limit", profile: model.Profile{Routes: []route{{Condition: api}}},
			rule: model.Rule{Timeouts: model.Timeouts{Request: 50 * time.Millisecond}}, path: "/api/x", slow: true,
			want: "504 ", calls: 1},
		{name: "the profile's time limit counts", profile: model.Profile{Routes: []route{{Condition: api, Timeout: 50 * time.Millisecond}}},
			rule: model.Rule{Timeouts: model.Timeouts{Request: never}}, path: "/api/x", slow: true,
			want: "504 ", calls: 1},
		{name: "both kinds of limits", profile: model.Profile{Routes: []route{{Condition: api, Timeout: 50 * time.Millisecond}}},
			rule: model.Rule{Retry: &model.Retry{Max: 1, MaxRequestBytes: 100, Timeout: never}}, path: "/api/x", slow: true,
			want: "504 ", calls: 1},
		{name: "a rule for other requests", profile: model.Profile{Routes: []route{{Condition: api}}},
			rule: model.Rule{
				Matches: []model.Match{{Path: model.PathMatch{Kind: model.PathPrefix, Value: "/other"}}}, Retry: &unavailable,
			},
			path: "/api/x", fails: 1, want: "503 ", calls: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			h, calls := failing(c.fails, 503)
			if c.slow {
				h = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					calls.Add(1)
					<-r.Context().Done()
				})
			}
			m.serve(h)
			target := servicePolicy(func(p *model.ClientPolicy) {
				r := &p.HTTP1.Routes.List[0].Rules[0]
				r.Timeouts, r.Retry = c.rule.Timeouts, c.rule.Retry
				if c.rule.Matches != nil {
					r.Matches = c.rule.Matches
				}
			})
			c.profile.Name = "web.ns.svc.cluster.local"
			target.Profile, target.ProfileHTTP, target.Path = &c.profile, true, "web.ns.svc.cluster.local:80"
			m.target.Set(target)
			resp := m.request(m.outAddr, "GET", c.path)
			// A busy machine may take all of the time for the connection.
			late := c.slow && calls.Load() < c.calls
			if got := fmt.Sprintf("%d ", resp.StatusCode); got != c.want || calls.Load() != c.calls && !late {
				t.Errorf("got %s%q after %d calls, want %s after %d", got, resp.Header.Get("L5d-Proxy-Error"), calls.Load(), c.want, c.calls)
			}
			m.wants(m.out.reg, c.metrics...)
		})
	}
}

// TestQueueBesideProfile: requests by a profile wait as long as the policy says.
func TestQueueBesideProfile(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.endpoints.Set(endpoints())
	target := servicePolicy(func(p *model.ClientPolicy) {
		p.HTTP1.Routes.List[0].Rules[0].Distribution.Backends[0].Backend.Queue = model.Queue{Failfast: 7 * time.Millisecond}
	})
	target.Profile, target.ProfileHTTP = &model.Profile{Name: "web.ns.svc.cluster.local"}, true
	m.target.Set(target)
	if got := refused(m.request(m.outAddr, "GET", "/")); !strings.Contains(got, "fail-fast") {
		t.Errorf("got %q", got)
	}
	gate := regexp.MustCompile(`(?m)^outbound_http_balancer_queue_gate_timeout_seconds\{.*} (.*)$`).FindSubmatch(m.out.reg.AppendText(nil))
	if gate == nil || string(gate[1]) != "0.007" {
		t.Errorf("the queue's time is %q", gate)
	}
}

func TestEndpointsChangeWhileServing(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		oc.HTTPQueue.FailFast = time.Second
	})
	m.serve(http.HandlerFunc(echo))
	c := m.client(false)
	eventually(t, "served", func() bool {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200
	})
	m.endpoints.Set(endpoints())
	eventually(t, "no endpoint", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 504 })
	m.endpoints.Set(endpoints(meshedEndpoint()))
	eventually(t, "endpoint again", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 200 })
}

func TestPolicyChangeAppliesToNextRequest(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	c := m.client(false)
	if resp, _ := m.get(c, "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	port(func(p *model.ServerPolicy) { p.Authorizations = nil })(m)
	eventually(t, "denied", func() bool {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 403
	})
	port(func(*model.ServerPolicy) {})(m)
	eventually(t, "permitted", func() bool {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200
	})
}

func TestDrainFinishesRequests(t *testing.T) {
	m := newMesh(t, viaProxy)
	began, proceed := make(chan struct{}), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-proceed
		echo(w, r)
	}))
	type answer struct {
		status int
		close  bool
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		resp, err := m.client(false).Get("http://web.ns.svc.cluster.local/")
		if err != nil {
			answers <- answer{err: err}
			return
		}
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		answers <- answer{resp.StatusCode, resp.Close, err}
	}()
	<-began
	drained := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		drained <- m.out.drain.Drain(ctx)
	}()
	<-m.out.drain.Started()
	eventually(t, "listener closed", func() bool {
		c, err := net.Dial("tcp", m.outAddr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(proceed)
	if a := <-answers; a.err != nil || a.status != 200 || !a.close {
		t.Errorf("got %+v", a)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestDrainClosesSilentConnections(t *testing.T) {
	m := newMesh(t, nil)
	var conns []net.Conn
	for _, addr := range []string{m.outAddr, m.inAddr} {
		conns = append(conns, m.dial(addr))
	}
	for name, d := range map[string]*drain.Drain{"outbound": m.out.drain, "inbound": m.in.drain} {
		// The listener holds the drain, and so does the connection.
		eventually(t, name+" accepted", func() bool { return d.Held() == 2 })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := d.Drain(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a silent connection was left open")
		}
	}
}

func TestServerAnswersBeforeTheBodyEnds(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		m := newMesh(t, viaProxy)
		m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
		body, more := io.Pipe()
		go func() {
			for {
				if _, err := more.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		}()
		resp, err := m.client(http2).Post("http://web.ns.svc.cluster.local/", "text/plain", body)
		if err == nil {
			if resp.StatusCode != 413 {
				t.Errorf("got %d", resp.StatusCode)
			}
			resp.Body.Close()
		} else if http2 {
			// Over HTTP/1 the connection may be closed under the client's
			// hands while it sends; a stream is told to stop.
			t.Error(err)
		}
		body.Close()
	}
}

func TestApplicationOnLoopback(t *testing.T) {
	for _, declared := range []bool{false, true} {
		m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
			viaProxy(oc, ic)
			if declared {
				ic.Ports = config.PortSet{{First: 8080, Last: 8080}}
			}
		})
		m.serve(http.HandlerFunc(echo))
		m.net.set(netip.MustParseAddrPort("127.0.0.1:8080"), m.net.get(serverAddr))
		m.net.set(serverAddr, "")
		want := 502
		if declared {
			want = 200
		}
		if got := m.request(m.outAddr, "GET", "/").StatusCode; got != want {
			t.Errorf("declared %v: got %d", declared, got)
		}
	}
}

func TestIngressMode(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		oc.Ingress, oc.Quiet = true, true
		oc.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return serverAddr, nil }
	})
	m.serve(http.HandlerFunc(echo))
	body, _ := io.ReadAll(m.request(m.outAddr, "GET", "/", "L5d-Dst-Override", "web.ns.svc.cluster.local:80").Body)
	if !strings.Contains(string(body), "client="+clientID) {
		t.Errorf("got %q", body)
	}
	// Without it, the original destination.
	body, _ = io.ReadAll(m.request(m.outAddr, "GET", "/").Body)
	if !strings.Contains(string(body), "client= ") {
		t.Errorf("got %q", body)
	}
	m.wants(m.out.reg, `request_total{direction="outbound",target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",tls="no_identity",no_tls_reason="ingress_without_override"} 1`)
	// A name that nobody knows, or an address: no response at all.
	for _, name := range []string{"other.ns.svc.cluster.local", "10.0.0.1:80"} {
		c := m.dial(m.outAddr)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nL5d-Dst-Override: %s\r\n\r\n", name)
		if b, _ := io.ReadAll(c); len(b) != 0 {
			t.Errorf("%s: got %q", name, b)
		}
	}
}

func TestGateway(t *testing.T) {
	m, inner, e := newGateway(t)
	inner.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "forwarded=%s host=%s client=%s", r.Header.Get("Forwarded"), r.Host, r.Header.Get("L5d-Client-Id"))
	}))
	body, _ := io.ReadAll(m.request(m.outAddr, "GET", "/").Body)
	want := "forwarded=by=" + gatewayID + ";for=" + clientID + ";host=web.ns.svc.cluster.local:80;proto=https host=web.ns.svc.cluster.local client=" + gatewayID
	if string(body) != want {
		t.Errorf("got  %q\nwant %q", body, want)
	}
	m.wants(m.in.reg, `inbound_tcp_transport_header_connections_total{session_protocol="http/2",target_port="80",target_name="web.ns.svc.cluster.local",client_id="`+clientID+`"} 1`)
	// A request that was here before. The refusal also closes the connection,
	// so the count of connections has to be looked at before.
	resp := m.request(m.outAddr, "GET", "/", "Forwarded", "by="+gatewayID)
	if resp.StatusCode != 508 {
		t.Errorf("got %d", resp.StatusCode)
	}
	const at = `target_addr="10.0.0.2:4143",target_ip="10.0.0.2",target_port="4143"`
	const srv = `srv_group="",srv_kind="default",srv_name="all-unauthenticated",srv_port="4143"`
	m.wants(m.in.reg, `inbound_http_errors_total{error="gateway loop",`+at+","+srv+"} 1")
	// A name that is not served.
	e2 := *e
	e2.Authority = "other.ns.svc.cluster.local:80"
	m.endpoints.Set(endpoints(&e2))
	eventually(t, "bad domain", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 404 })
	exports(t, func() string { return string(m.in.reg.AppendText(nil)) }, `inbound_http_errors_total{error="gateway domain invalid",`+at+","+srv+"} ")
}
