package integration

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// TestHostBesideTheAuthority: an HTTP/2 request whose host means something else than
// its authority is malformed, before policies and routes look at the one and the
// application at the other. One that was carried for HTTP/1 has a Host of its own,
// and it is the peer's proxy that says so, not the application.
func TestHostBesideTheAuthority(t *testing.T) {
	const malformed = "PROTOCOL_ERROR"
	for _, c := range []struct {
		name   string
		fields []string
		// inbound and both are what is answered there.
		inbound, both string
	}{
		{"no host, as of gRPC", []string{":authority", "web"}, "200 3", "200 3"},
		{"the same", []string{":authority", "web", "host", "web"}, "200 3", "200 3"},
		{"the same in other letters, with the port", []string{":authority", "web", "host", "WEB:80"}, "200 3", "200 3"},
		{"a host alone", []string{"host", "web"}, "200 3", "200 3"},
		{"another", []string{":authority", "web", "host", "admin"}, malformed, malformed},
		{"another port", []string{":authority", "web", "host", "web:8080"}, malformed, malformed},
		{"no name", []string{":authority", "web", "host", ""}, malformed, malformed},
		{"carried", []string{":authority", "web", "host", "admin", "l5d-orig-proto", "HTTP/1.1"}, "200 5", malformed},
		{"carried in absolute form", []string{":authority", "web", "host", "admin", "l5d-orig-proto", "HTTP/1.1; absolute-form"}, "200 3", malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, viaProxy)
			m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, strings.TrimSuffix(strings.ToLower(r.Host), ":80"))
			}))
			for addr, want := range map[string]string{m.inAddr: c.inbound, m.outAddr: c.both} {
				h := m.hand(t, addr)
				h.headers(1, true, append([]string{":method", "GET", ":scheme", "http", ":path", "/"}, c.fields...)...)
				if got := h.answer(1); got != want {
					t.Errorf("answered %q, want %q", got, want)
				}
				// The connection goes on.
				h.headers(3, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "web")
				if got := h.answer(3); got != "200 3" {
					t.Errorf("the next was answered %q", got)
				}
			}
		})
	}
}

// TestHostOfPeers: upstream's proxies pass on what a route makes of the host, beside
// an authority that it leaves alone.
func TestHostOfPeers(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	cfg := m.ca.Store(t, clientID).ClientConfig(model.DNSTLS(model.MustIdentity(serverID)), false)
	h := handOn(t, tls.Client(m.dial(m.inAddr), cfg))
	h.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "web", "host", "other")
	if got := h.answer(1); got != "200 3" {
		t.Errorf("answered %q", got)
	}
}

// TestRouteThatSetsTheHost: what a route makes of the host, peers take for the
// authority too, whatever the client speaks.
func TestRouteThatSetsTheHost(t *testing.T) {
	m := newMesh(t, viaProxy)
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) }))
	rule(func(r *model.Rule) {
		r.Filters = []model.Filter{{Kind: model.FilterRequestHeaders, Headers: &model.HeaderModifier{
			Set: []model.Header{{Name: "host", Value: "other"}},
		}}}
	})(m)
	for _, http2 := range []bool{false, true} {
		if resp, body := m.get(m.client(http2), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 || body != "other" {
			t.Errorf("HTTP/2 %v: got %d, %q", http2, resp.StatusCode, body)
		}
	}
}
