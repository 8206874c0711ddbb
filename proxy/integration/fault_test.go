package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// always is a delay of every request.
func always(d time.Duration) model.Filter {
	return model.Filter{Kind: model.FilterDelay, Delay: &model.Delay{Time: d, Numerator: 1, Denominator: 1}}
}

// TestDelays: a rule that holds requests does so in either proxy, before all
// else, and not beyond the time that requests may take.
func TestDelays(t *testing.T) {
	const held = 150 * time.Millisecond
	never := model.Filter{Kind: model.FilterDelay, Delay: &model.Delay{Time: time.Hour, Denominator: 1}}
	abort := model.Filter{Kind: model.FilterFailure, Failure: &model.Failure{Status: 503, Message: "fault injected", Numerator: 1, Denominator: 1}}
	for _, c := range []struct {
		name    string
		prepare func(*mesh)
		want    string
		held    time.Duration
	}{
		{"outbound", rule(func(r *model.Rule) { r.Filters = []model.Filter{always(held), never} }), "200 ", held},
		{"outbound, then aborted", rule(func(r *model.Rule) { r.Filters = []model.Filter{always(held), abort} }), "503 fault injected", held},
		{"outbound, longer than the request may take", rule(func(r *model.Rule) {
			r.Filters = []model.Filter{always(time.Hour)}
			r.Timeouts.Request = held
		}), "504 logical service 10.96.0.1:80: route default.http: timed out waiting for response headers: request timeout: 150ms", held},
		{"inbound", port(func(p *model.ServerPolicy) {
			p.Routes.List[0].Rules[0].Filters = []model.Filter{always(held), never}
		}), "200 ", held},
		{"not drawn", rule(func(r *model.Rule) { r.Filters = []model.Filter{never} }), "200 ", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "from the server") }))
			c.prepare(m)
			started := time.Now()
			resp := m.request(m.outAddr, "GET", "/")
			if got := refused(resp); !strings.HasPrefix(got, c.want) {
				t.Errorf("it was answered with %q, want %q", got, c.want)
			}
			if took := time.Since(started); took < c.held {
				t.Errorf("it took %v, want %v and more", took, c.held)
			}
		})
	}
}

// TestInboundFilters: filters that upstream's API has for clients only.
func TestInboundFilters(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", r.Host, r.URL.RequestURI()) }))
	port(func(p *model.ServerPolicy) {
		p.Routes.List[0].Rules[0].Filters = []model.Filter{
			{Kind: model.FilterCORS, CORS: &model.CORS{AnyOrigin: true, Methods: "PUT"}},
			{Kind: model.FilterRewrite, Rewrite: &model.Rewrite{Host: "other.example", Path: model.PathModifier{Full: "/new"}}},
			{Kind: model.FilterResponseHeaders, Headers: &model.HeaderModifier{Set: []model.Header{{Name: "x-set", Value: "here"}}}},
		}
	})(m)
	resp := m.request(m.outAddr, "OPTIONS", "/", "Origin", "https://a.example", "Access-Control-Request-Method", "PUT")
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || len(body) != 0 || resp.Header.Get("Access-Control-Allow-Methods") != "PUT" {
		t.Errorf("preflight: %d %q %v", resp.StatusCode, body, resp.Header)
	}
	resp = m.request(m.outAddr, "PUT", "/old?q=1", "Origin", "https://a.example")
	body, _ = io.ReadAll(resp.Body)
	if string(body) != "other.example /new?q=1" || resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("X-Set") != "here" {
		t.Errorf("request: %q %v", body, resp.Header)
	}
}
