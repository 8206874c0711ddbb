package inbound

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// TestConnectionsForgetOldPolicies: controllers send a policy again every few
// minutes, changed or not, and a connection between proxies lives for weeks. What
// it keeps for its requests must not grow with each.
func TestConnectionsForgetOldPolicies(t *testing.T) {
	p := &Proxy{cfg: Config{Series: series.New(metric.NewRegistry(metric.Options{}))}}
	pt := &port{p: p, permits: map[permitKey]*permit{}}
	c := &Conn{p: p, port: pt}
	use := func(pol *policy, routes ...string) {
		for _, name := range routes {
			found := route.Found{Route: &model.Route{Meta: model.Default(name)}}
			by := &model.Authorization{Meta: model.Default("all")}
			for range 2 {
				if m := c.permit(pol, found, by, ""); m == nil || m.key.route.Name != name {
					t.Fatalf("permit of %s: %+v", name, m)
				}
			}
		}
	}
	version := func() *policy {
		return &policy{ServerPolicy: &model.ServerPolicy{Meta: model.Default("all")}}
	}
	for range 100 {
		use(version(), "a", "b")
	}
	if n := len(*c.permits.Load()); n != 2 {
		t.Errorf("%d permits for two routes", n)
	}
	// Of a route that is no longer used the permit stays, and nothing else.
	use(version(), "a")
	for _, h := range *c.permits.Load() {
		if h.permit.key.route.Name == "b" && h.pol != nil {
			t.Error("an old policy is kept")
		}
	}
	for _, h := range *c.permits.Load() {
		pt.release(h.permit)
	}
	for k, m := range pt.permits {
		t.Errorf("permit of %s has %d holders after the connection", k.route.Name, m.refs)
	}
}
