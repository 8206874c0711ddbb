package integration

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	tappb "github.com/linkerd-go/linkerd-go/api/proto/tap"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

// What proxies of ours do beyond upstream's, as users see it.

// TestForwardedFor: the application sees its clients' addresses if it is to.
func TestForwardedFor(t *testing.T) {
	for _, c := range []struct {
		mode inbound.ForwardedFor
		want string
	}{{inbound.ForwardedForNone, "1.2.3.4"}, {inbound.ForwardedForAppend, "1.2.3.4, 127.0.0.1"}, {inbound.ForwardedForReplace, "127.0.0.1"}} {
		t.Run(string(c.mode), func(t *testing.T) {
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				ic.ForwardedFor = c.mode
			})
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["X-Seen"] = r.Header["X-Forwarded-For"]
			}))
			for _, addr := range []string{m.outAddr, m.inAddr} {
				resp := m.request(addr, "GET", "/", "X-Forwarded-For", "1.2.3.4")
				if got := strings.Join(resp.Header.Values("X-Seen"), "|"); got != c.want {
					t.Errorf("the application sees %q, want %q", got, c.want)
				}
			}
		})
	}
}

// portList is a set of ports.
type portList []uint16

func (l portList) Contains(port uint16) bool { return slices.Contains(l, port) }

// TestProxyProtocol: on the ports that are for it, and on no others, policy,
// application and log go by the client that a load balancer names.
func TestProxyProtocol(t *testing.T) {
	const (
		v1 = "PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
		v2 = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x9c\x40\x01\xbb"
	)
	for _, c := range []struct {
		name  string
		ports portList
		begin string
		want  string
	}{
		{"version 1", portList{8080}, v1, "200 203.0.113.7"},
		{"version 2", portList{8080}, v2, "200 203.0.113.7"},
		{"a balancer's own", portList{8080}, "PROXY UNKNOWN\r\n", "403 "},
		{"no header", portList{8080}, "", "403 "},
		{"a wrong one", portList{8080}, "PROXY TCP4 a b c d\r\n", "closed"},
		// Elsewhere it is the beginning of a request that is none.
		{"another port", portList{8081}, v1, "400 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
				viaProxy(oc, ic)
				ic.ForwardedFor, ic.Proxied = inbound.ForwardedForReplace, c.ports
			})
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["X-Seen"] = r.Header["X-Forwarded-For"]
			}))
			port(func(p *model.ServerPolicy) {
				p.Protocol = model.ProtocolHTTP1
				p.Authorizations[0].Networks = []model.Network{{Net: netip.MustParsePrefix("203.0.113.0/24")}}
			})(m)
			conn := m.dial(m.inAddr)
			if _, err := io.WriteString(conn, c.begin+"GET / HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			got := "closed"
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				resp.Body.Close()
				got = fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("X-Seen"))
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestSPIFFEClientsAreAuthenticated: to defaults that ask for an identity a SPIFFE
// ID is one.
func TestSPIFFEClientsAreAuthenticated(t *testing.T) {
	m := newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		ca := testca.New(t)
		oc.TLS, ic.TLS = ca.Store(t, "spiffe://vm.example/web"), ca.Store(t, serverID)
	})
	m.serve(http.HandlerFunc(echo))
	m.server.Set(model.DefaultServerPolicy(model.AllAuthenticated, nil, 10*time.Second, false))
	eventually(t, "a stranger denied", func() bool { return m.request(m.inAddr, "GET", "/").StatusCode == 403 })
	if resp := m.request(m.outAddr, "GET", "/"); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
	port(func(p *model.ServerPolicy) {
		p.Authorizations[0].Authn = model.Authentication{Kind: model.AuthnIdentity, Suffixes: []string{"other"}}
	})(m)
	eventually(t, "another trust domain's suffix denies", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 403 })
	port(func(p *model.ServerPolicy) {
		p.Authorizations[0].Authn = model.Authentication{Kind: model.AuthnIdentity, Suffixes: []string{"example"}}
	})(m)
	eventually(t, "its own permits", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 200 })
}

// TestInvalidPolicyIsTold: requests and connections that an unusable policy stops
// are counted as that, and the log says what is wrong with it.
func TestInvalidPolicyIsTold(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(shout(""))
	m.server.Set(model.InvalidServerPolicy(time.Second, "networks are missing in é"))
	eventually(t, "refused", func() bool { return m.request(m.outAddr, "GET", "/").StatusCode == 500 })
	c := m.dial(m.inAddr)
	_, _ = io.WriteString(c, "PING\n")
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("got %q", b)
	}
	const target = `inbound_policy_invalid_total{target_addr="10.0.0.2:8080",target_ip="10.0.0.2",target_port="8080",srv_group="",srv_kind="default",srv_name="invalid",srv_port="8080",`
	m.wants(m.in.reg, target+`tls="no_identity",no_tls_reason="no_tls_from_remote"} 1`)
	if text := string(m.in.reg.AppendText(nil)); !strings.Contains(text, target+`tls="true",client_id="`+clientID+`"}`) {
		t.Errorf("requests are not counted in:\n%s", text)
	}
	eventually(t, "told in the log", func() bool {
		return strings.Contains(m.log.String(), "invalid server policy: invalid server configuration: networks are missing in ??")
	})
}

// TestRateLimitsOutliveChanges: a change of something else in a policy gives no
// client a burst more.
func TestRateLimitsOutliveChanges(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	ask := func() int {
		resp := m.request(m.outAddr, "GET", "/")
		if got := resp.Header.Get("Retry-After"); resp.StatusCode == 429 && got != "1" {
			t.Errorf("retry after %q", got)
		}
		return resp.StatusCode
	}
	set := func(permit bool) {
		port(func(p *model.ServerPolicy) {
			p.RateLimit = &model.RateLimit{Identity: 1}
			if !permit {
				p.Authorizations = nil
			}
		})(m)
	}
	started := time.Now()
	passed := 0
	for range 20 {
		// Who is denied uses nothing of the limit up.
		set(false)
		eventually(t, "denied", func() bool { return ask() == 403 })
		set(true)
		var status int
		eventually(t, "permitted", func() bool { status = ask(); return status != 403 })
		if status == 200 {
			passed++
		}
	}
	// The burst, which is one, and one for each second.
	if most := 2 + int(time.Since(started)/time.Second); passed > most {
		t.Errorf("%d requests passed in %v", passed, time.Since(started))
	}
}

// TestSharedRateLimit: a share of a limit that becomes another share, because there
// are fewer proxies, fills no bucket.
func TestSharedRateLimit(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(echo))
	c := m.client(false)
	ask := func() int {
		resp, _ := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode
	}
	set := func(rate uint32) {
		// Who is denied uses nothing of the limit up, and says that the change is there.
		for _, permit := range []bool{false, true} {
			port(func(p *model.ServerPolicy) {
				p.RateLimit = &model.RateLimit{Total: rate, Burst: 100 * time.Second, Shared: true}
				if !permit {
					p.Authorizations = nil
				}
			})(m)
			if !permit {
				eventually(t, "denied", func() bool { return ask() == 403 })
			}
		}
	}
	passed := func() (n int) {
		var status int
		eventually(t, "permitted", func() bool { status = ask(); return status != 403 })
		for ; status == 200; status = ask() {
			n++
		}
		return n
	}
	started := time.Now()
	set(1)
	if n, most := passed(), 101+int(time.Since(started)/time.Second); n < 100 || n > most {
		t.Errorf("%d requests passed at once, want 100 to %d", n, most)
	}
	started = time.Now()
	set(3)
	if n, most := passed(), 3+3*int(time.Since(started)/time.Second+1); n > most {
		t.Errorf("%d requests passed because the share became larger, want %d at most", n, most)
	}
}

// TestRateLimitedCalls: gRPC servers are limited too, and calls are told to come
// back in the way that gRPC clients heed.
func TestRateLimitedCalls(t *testing.T) {
	ctl, _, m, _, _ := meshed(t, nil)
	m.serve(http.HandlerFunc(grpcApp))
	server := testcontrol.OpenServer()
	server.Protocol.Kind = &inboundpb.ProxyProtocol_Grpc_{Grpc: &inboundpb.ProxyProtocol_Grpc{
		LocalRateLimit: &inboundpb.HttpLocalRateLimit{
			Metadata: testcontrol.Resource("HTTPLocalRateLimitPolicy", "ns", "limit", 0),
			Total:    &inboundpb.HttpLocalRateLimit_Limit{RequestsPerSecond: 1},
		},
	}}
	ctl.SetInbound(8080, server)
	eventually(t, "limited", func() bool { return m.call("/s/Ok") == `200 "" head 8 total rate limit exceeded: 1rps` })
	req, err := http.NewRequest("POST", "http://web.ns.svc.cluster.local/s/Ok", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	c := m.client(true)
	eventually(t, "told when to come back", func() bool {
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		n, err := strconv.Atoi(resp.Header.Get("Grpc-Retry-Pushback-Ms"))
		return err == nil && n >= 1 && n <= 1000
	})
}

// TestEnvironmentHidesSecrets: not even the pod is shown what may be one.
func TestEnvironmentHidesSecrets(t *testing.T) {
	t.Setenv("DATABASE_PASSWORD", "hunter2")
	_, _, _, _, server := meshed(t, nil)
	status, body := server.adminGet(t, "/env.json?DATABASE_PASSWORD")
	if status != 200 || body != `{"DATABASE_PASSWORD":"REDACTED"}` {
		t.Errorf("got %d %s", status, body)
	}
}

// TestLostEventsAreTold: an observer that does not keep up hears, once it does, how
// many events it missed, and so do the metrics and the log.
func TestLostEventsAreTold(t *testing.T) {
	_, _, m, _, server := meshed(t, map[string]string{
		"TAP_SVC_NAME": "tap.linkerd-viz.serviceaccount.identity.linkerd.cluster.local", "CONTROL_LISTEN_ADDR": "127.0.0.1:0",
	})
	conn, err := grpc.NewClient(server.Addrs().Tap.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const limit = 2000
	s, err := tappb.NewTapClient(conn).Observe(ctx, &tappb.ObserveRequest{
		Limit: limit, Match: &tappb.ObserveRequest_Match{Match: &tappb.ObserveRequest_Match_All{All: &tappb.ObserveRequest_Match_Seq{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Requests until the tap has had enough of them, while nobody reads.
	c := m.client(false)
	for n := 0; strings.Contains(server.Metrics(), "\ntap_events_dropped_total 0\n"); n++ {
		if n > 10*limit {
			t.Fatal("no events were lost")
		}
		for range 100 {
			m.get(c, "http://web.ns.svc.cluster.local/")
		}
	}
	events := 0
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := s.Recv(); err != nil {
				done <- err
				return
			}
			events++
		}
	}()
	// The rest, so that the tap ends.
	for {
		select {
		case err := <-done:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			lost := s.Trailer().Get("l5d-tap-lost-events")
			if len(lost) != 1 || lost[0] == "0" || fmt.Sprint(3*limit-events) != lost[0] {
				t.Errorf("%d events came, %v were lost", events, lost)
			}
			exports := "tap_events_dropped_total " + strings.Join(lost, "")
			if text := server.Metrics(); !strings.Contains(text, exports+"\n") {
				t.Errorf("no %s in the metrics", exports)
			}
			eventually(t, "told in the log", func() bool { return strings.Contains(server.log.String(), "Tap was too slow for some events") })
			return
		default:
			m.get(c, "http://web.ns.svc.cluster.local/")
		}
	}
}

// TestDrainEndsWhatIsHTTP: at the start of a drain a connection that is busy is
// told that it ends, in its own protocol, and bytes that are joined go on until
// the grace period ends.
func TestDrainEndsWhatIsHTTP(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serveTCP(shout(""))
	opaque := m.dial(m.inAddr)
	_ = opaque.SetDeadline(time.Now().Add(time.Minute))
	lines := bufio.NewReader(opaque)
	if got := talk(t, opaque, lines, "PING"); got != "PING" {
		t.Fatalf("got %q", got)
	}
	began, proceed := make(chan struct{}, 2), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-proceed
		_, _ = io.WriteString(w, r.Proto)
	}))
	type answer struct {
		proto, body string
		close       bool
		err         error
	}
	answers := make(chan answer, 2)
	clients := map[bool]*http.Client{}
	for _, http2 := range []bool{false, true} {
		c := clientTo(t, m.inAddr, http2)
		clients[http2] = c
		go func() {
			resp, err := c.Get("http://web.ns.svc.cluster.local/")
			if err != nil {
				answers <- answer{err: err}
				return
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			answers <- answer{resp.Proto, string(b), resp.Close, err}
		}()
	}
	<-began
	<-began
	ctx, expire := context.WithCancel(t.Context())
	defer expire()
	drained := make(chan error, 1)
	go func() { drained <- m.in.drain.Drain(ctx) }()
	<-m.in.drain.Started()
	// Bytes are still joined.
	if got := talk(t, opaque, lines, "PONG"); got != "PONG" {
		t.Errorf("got %q", got)
	}
	close(proceed)
	for range 2 {
		a := <-answers
		if a.err != nil || a.body == "" || a.proto == "HTTP/1.1" && !a.close {
			t.Errorf("got %+v", a)
		}
	}
	// Nothing but the bytes is left, and they do not outlive the grace period.
	eventually(t, "requests' connections gone", func() bool { return m.in.drain.Held() == 1 })
	for _, http2 := range []bool{false, true} {
		if resp, err := clients[http2].Get("http://web.ns.svc.cluster.local/"); err == nil {
			resp.Body.Close()
			t.Errorf("HTTP/2 %v: a request on a connection that had ended", http2)
		}
	}
	select {
	case err := <-drained:
		t.Errorf("the drain did not wait for bytes: %v", err)
	default:
	}
	expire()
	if err := <-drained; err == nil || !strings.Contains(err.Error(), "1 connections still open") {
		t.Errorf("got %v", err)
	}
	if _, err := lines.ReadString('\n'); err == nil {
		t.Error("the bytes outlived the grace period")
	}
}

// TestBytesAreCutBeforeRequests: with a limit of their own, bytes and what HTTP was
// upgraded to do not hold a drain up, and requests still get the time they need.
func TestBytesAreCutBeforeRequests(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.in.drain.LimitBytes(time.Millisecond)
	m.serveTCP(shout(""))
	opaque := m.dial(m.inAddr)
	lines := bufio.NewReader(opaque)
	if got := talk(t, opaque, lines, "PING"); got != "PING" {
		t.Fatalf("got %q", got)
	}
	began, proceed := make(chan struct{}), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			close(began)
			<-proceed
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(101)
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, rw)
	}))
	upgraded := m.dial(m.inAddr)
	_, _ = io.WriteString(upgraded, "GET / HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	answer := bufio.NewReader(upgraded)
	if resp, err := http.ReadResponse(answer, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	status := make(chan int, 1)
	go func() { status <- m.request(m.inAddr, "GET", "/").StatusCode }()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- m.in.drain.Drain(ctx) }()
	if _, err := lines.ReadString('\n'); err == nil {
		t.Error("bytes went on")
	}
	if _, err := answer.ReadByte(); err == nil {
		t.Error("an upgraded connection went on")
	}
	close(proceed)
	if got := <-status; got != 200 {
		t.Errorf("the request got %d", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
