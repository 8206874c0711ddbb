package integration

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// What routes can do that upstream's cannot.

func TestRewrite(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Host, r.URL.RequestURI()) }))
	rule(func(r *model.Rule) {
		r.Matches = []model.Match{{Path: model.PathMatch{Kind: model.PathPrefix, Value: "/old"}}}
		r.Filters = []model.Filter{{Kind: model.FilterRewrite, Rewrite: &model.Rewrite{
			Host: "other.example", Path: model.PathModifier{HasPrefix: true, Prefix: "/new"},
		}}}
		// Another attempt must begin with what the client sent.
		r.Retry = &model.Retry{Max: 1, MaxRequestBytes: 100}
	})(m)
	for _, http2 := range []bool{false, true} {
		if _, body := m.get(m.client(http2), "http://web.ns.svc.cluster.local/old/x?q=1"); body != "other.example /new/x?q=1" {
			t.Errorf("HTTP/2 %v: server got %q", http2, body)
		}
	}
}

func TestCORS(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "from the server") }))
	rule(func(r *model.Rule) {
		r.Filters = []model.Filter{
			{Kind: model.FilterCORS, CORS: &model.CORS{AnyOrigin: true, Methods: "PUT", MaxAge: "60"}},
			{Kind: model.FilterRequestHeaders, Headers: &model.HeaderModifier{Remove: []string{"origin"}}},
		}
	})(m)
	resp := m.request(m.outAddr, "OPTIONS", "/", "Origin", "https://a.example", "Access-Control-Request-Method", "PUT")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || len(body) != 0 || resp.Header.Get("Access-Control-Allow-Methods") != "PUT" || refused(resp) != "200 " {
		t.Errorf("preflight: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	resp = m.request(m.outAddr, "PUT", "/", "Origin", "https://a.example")
	body, _ = io.ReadAll(resp.Body)
	if string(body) != "from the server" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("request: %q %v", body, resp.Header)
	}
}

func TestMirror(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "server got %d bytes", len(body))
	}))
	var mu sync.Mutex
	var got []string
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, fmt.Sprintf("%s %s %s %q", r.Method, r.URL.Path, r.Header.Get("X-Set"), body))
		mu.Unlock()
		http.Error(w, "nobody reads this", http.StatusTeapot)
	}))
	other.Config.Protocols = new(http.Protocols)
	other.Config.Protocols.SetHTTP1(true)
	other.Config.Protocols.SetUnencryptedHTTP2(true)
	other.Start()
	t.Cleanup(other.Close)
	addr := netip.MustParseAddrPort("10.0.0.9:80")
	m.net.set(addr, other.Listener.Addr().String())
	mirror := &model.Backend{
		Meta: model.Meta{Group: "core", Kind: "Service", Namespace: "ns", Name: "mirror", Port: 80},
		Kind: model.BackendForward, Forward: &model.Endpoint{Addr: addr}, Load: model.DefaultLoad(),
	}
	rule(func(r *model.Rule) {
		r.Filters = []model.Filter{
			{Kind: model.FilterRequestHeaders, Headers: &model.HeaderModifier{Set: []model.Header{{Name: "x-set", Value: "yes"}}}},
			{Kind: model.FilterMirror, Mirror: &model.Mirror{Backend: mirror, Numerator: 1, Denominator: 1}},
			{Kind: model.FilterMirror, Mirror: &model.Mirror{Backend: mirror, Numerator: 0, Denominator: 1}},
		}
	})(m)
	post := func(body string) string {
		resp, err := m.client(false).Post("http://web.ns.svc.cluster.local/p", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, text)
	}
	if got := post(strings.Repeat("x", 100<<10)); got != "200 server got 102400 bytes" {
		t.Errorf("request that is too long to be mirrored: %q", got)
	}
	if got := post("hello"); got != "200 server got 5 bytes" {
		t.Errorf("mirrored request: %q", got)
	}
	if _, body := m.get(m.client(true), "http://web.ns.svc.cluster.local/g"); body != "server got 0 bytes" {
		t.Errorf("mirrored request over HTTP/2: %q", body)
	}
	want := []string{`GET /g yes ""`, `POST /p yes "hello"`}
	eventually(t, "two copies", func() bool {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// An attempt that takes too long is given up and tried again; the whole request
// is not limited by it.
func TestAttemptTimeout(t *testing.T) {
	m := newMesh(t, viaProxy)
	var calls int
	var mu sync.Mutex
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		first := calls == 1
		mu.Unlock()
		if first {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "second")
	}))
	again := func() {
		mu.Lock()
		defer mu.Unlock()
		calls = 0
	}
	attempt := model.Timeouts{Attempt: 200 * time.Millisecond}
	rule(func(r *model.Rule) {
		r.Timeouts = attempt
		r.Retry = &model.Retry{Max: 1, MaxRequestBytes: 100}
	})(m)
	c := m.client(false)
	// On a busy machine the second attempt may take too long as well.
	eventually(t, "an answer of the second attempt", func() bool {
		again()
		resp, body := m.get(c, "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200 && body == "second"
	})
	rule(func(r *model.Rule) { r.Timeouts = attempt })(m)
	const want = "504 logical service 10.96.0.1:80: route default.http: backend Service.ns.web:80: timed out waiting for response headers: backend request timeout: 200ms"
	eventually(t, "a timeout without a retry", func() bool { again(); return refused(m.request(m.outAddr, "GET", "/")) == want })
}
