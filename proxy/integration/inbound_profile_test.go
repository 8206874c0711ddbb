package integration

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// profiles answers lookups of profiles with one value, after a while.
type profiles struct {
	value *watch.Value[*model.Profile]
	after time.Duration
}

func (p profiles) Profile(ctx context.Context, _ string, _ uint16) (*lookup.Lease[lookup.Profiles], error) {
	select {
	case <-time.After(p.after):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return lookup.NewLease[lookup.Profiles](p.value, nil), nil
}

// profileTimeout is how long the inbound proxy waits for a profile.
const profileTimeout = 500 * time.Millisecond

// withProfiles lets the inbound proxy look profiles up.
func withProfiles(p profiles) func(*outbound.Config, *inbound.Config) {
	return func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		ic.Profiles, ic.ProfileSuffixes, ic.ProfileTimeout = p, config.Suffixes{"svc.cluster.local."}, profileTimeout
	}
}

func TestInboundProfileRoutes(t *testing.T) {
	re, err := model.CompileRegex("/api/.*")
	if err != nil {
		t.Fatal(err)
	}
	route := func(name string) *model.Profile {
		return &model.Profile{Name: "web.ns.svc.cluster.local", Routes: []model.ProfileRoute{{
			Condition: model.RequestMatch{Op: model.OpPath, Path: re}, Labels: model.Labels{{Key: "route", Value: name}},
			Classes: []model.ResponseClass{{Condition: model.ResponseMatch{Op: model.OpStatus, Status: model.StatusRange{Min: 200, Max: 299}}, Failure: true}},
		}}}
	}
	value := watch.New(route("first"))
	m := newMesh(t, withProfiles(profiles{value: value}))
	m.serve(http.HandlerFunc(echo))
	m.request(m.outAddr, "GET", "/api/x")
	m.request(m.outAddr, "GET", "/other")
	m.wants(m.in.reg,
		`route_request_total{direction="inbound",dst="web.ns.svc.cluster.local:80",rt_route="first"} 1`,
		`route_response_total{direction="inbound",dst="web.ns.svc.cluster.local:80",rt_route="first",status_code="200",classification="failure",grpc_status="",error=""} 1`,
		`route_response_total{direction="inbound",dst="web.ns.svc.cluster.local:80",status_code="200",classification="success",grpc_status="",error=""} 1`,
	)
	value.Set(route("second"))
	m.request(m.outAddr, "GET", "/api/x")
	m.wants(m.in.reg, `route_request_total{direction="inbound",dst="web.ns.svc.cluster.local:80",rt_route="second"} 1`)
}

func TestLateProfileIsNotWaitedForTwice(t *testing.T) {
	m := newMesh(t, withProfiles(profiles{value: watch.New[*model.Profile](nil), after: time.Hour}))
	m.serve(http.HandlerFunc(echo))
	ask := func() time.Duration {
		began := time.Now()
		resp := m.request(m.outAddr, "GET", "/")
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, err)
		}
		return time.Since(began)
	}
	if d := ask(); d < profileTimeout {
		t.Errorf("the first request took %v, less than the profile may", d)
	}
	// If each waited anew, none would take less. On a busy machine one may take
	// longer for other reasons.
	eventually(t, "a request that waits for no profile", func() bool { return ask() < profileTimeout })
}
