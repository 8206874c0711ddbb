package status_test

import (
	"encoding/json"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
)

// one is a cluster with one Service, web in emo.
type one struct{ status.Lookup }

func (one) Service(id core.ID) *core.Service {
	if id != (core.ID{Namespace: "emo", Name: "web"}) {
		return nil
	}
	return &core.Service{}
}
func (one) RouteStatuses(core.Parent) []*status.Route { return nil }

// TestPatch checks what the transcripts of package serve do not print: times, generations and the version that a patch needs.
func TestPatch(t *testing.T) {
	var route gatewayv1.HTTPRoute
	if err := yaml.Unmarshal([]byte(`
metadata: {namespace: emo, name: r, generation: 3, resourceVersion: "77"}
spec: {parentRefs: [{group: "", kind: Service, name: web}]}
status:
  parents:
  - controllerName: linkerd.io/policy-controller
    parentRef: {group: core, kind: Service, namespace: emo, name: web}
    conditions:
    - {type: Accepted, status: "False", reason: NoMatchingParent, observedGeneration: 3, lastTransitionTime: "2026-01-01T00:00:00Z"}
    - {type: ResolvedRefs, status: "True", reason: ResolvedRefs, observedGeneration: 2, lastTransitionTime: "2026-01-01T00:00:00Z"}
`), &route); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 2, 0, 0, 0, 0, time.UTC)
	read := func() *status.Route {
		return status.NewRoute(resource.GatewayHTTPRoutes, core.HTTPRoute, &route, route.Spec.CommonRouteSpec, nil, route.Status.RouteStatus, nil)
	}
	var patch struct {
		Metadata metav1.ObjectMeta     `json:"metadata"`
		Status   gatewayv1.RouteStatus `json:"status"`
	}
	if err := json.Unmarshal(read().Patch(one{}, now), &patch); err != nil {
		t.Fatal(err)
	}
	if patch.Metadata.ResourceVersion != "" {
		t.Errorf("a patch that repeats nothing of others needs version %q", patch.Metadata.ResourceVersion)
	}
	for i, want := range []metav1.Condition{
		// Service web has no cluster IP: the status of the condition stays, and so does its time.
		{Type: "Accepted", Status: "False", LastTransitionTime: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))},
		{Type: "ResolvedRefs", Status: "True", LastTransitionTime: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		got := patch.Status.Parents[0].Conditions[i]
		if got.Type != want.Type || got.Status != want.Status || got.ObservedGeneration != 3 || !got.LastTransitionTime.Equal(&want.LastTransitionTime) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}

	route.Status.Parents = append(patch.Status.Parents, gatewayv1.RouteParentStatus{ControllerName: "example.com/other"})
	if again := read().Patch(one{}, now); again != nil {
		t.Errorf("what is up to date is patched: %s", again)
	}
	route.Generation = 4
	if err := json.Unmarshal(read().Patch(one{}, now), &patch); err != nil {
		t.Fatal(err)
	}
	if patch.Metadata.ResourceVersion != "77" || len(patch.Status.Parents) != 2 {
		t.Errorf("got version %q and %d entries", patch.Metadata.ResourceVersion, len(patch.Status.Parents))
	}
}
