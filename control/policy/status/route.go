package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
)

// Route is the status of a route of any kind.
type Route struct {
	core.Object
	Resource   schema.GroupVersionResource
	Kind       core.RouteKind
	Generation int64
	// Parents are the references to parents of the mesh, in order.
	Parents []core.ParentRef
	// Backends are the references to backends of all rules, in order.
	Backends []Backend
	// Problem, if not empty, says why the controller cannot use the route.
	Problem string
	// Status is what is written there, also by other controllers.
	Status []gatewayv1.RouteParentStatus
	// Version is that of the object if others have written there: a patch has to repeat what they wrote, and must not undo
	// what they write meanwhile.
	Version string
}

var _ Object = (*Route)(nil)

// Backend is a reference to a backend.
type Backend struct {
	// Kind is empty if the mesh knows nothing of it.
	Kind core.BackendKind
	// Namespace is empty for that of the parent.
	core.ID
}

// NewRoute returns the status of a route. problem is the error of reading it, or nil.
func NewRoute(gvr schema.GroupVersionResource, kind core.RouteKind, o metav1.Object, spec gatewayv1.CommonRouteSpec,
	backends []gatewayv1.BackendRef, status gatewayv1.RouteStatus, problem error,
) *Route {
	r := &Route{
		Object:     core.Object{ID: core.ID{Namespace: o.GetNamespace(), Name: o.GetName()}, Created: o.GetCreationTimestamp().Time},
		Resource:   gvr,
		Kind:       kind,
		Generation: o.GetGeneration(),
		Status:     status.Parents,
	}
	if slices.ContainsFunc(r.Status, foreign) {
		r.Version = o.GetResourceVersion()
	}
	if problem != nil {
		r.Problem = problem.Error()
	}
	for _, ref := range spec.ParentRefs {
		parent, ok := resource.ParentOf(ref, o.GetNamespace())
		if parent.Kind == core.ParentServer {
			parent.Port = 0
		}
		if ok && !slices.Contains(r.Parents, parent) {
			r.Parents = append(r.Parents, parent)
		}
	}
	for _, ref := range backends {
		backend := Backend{Kind: resource.BackendKind(ref.BackendObjectReference), ID: core.ID{Name: string(ref.Name)}}
		if ref.Namespace != nil {
			backend.Namespace = string(*ref.Namespace)
		}
		r.Backends = append(r.Backends, backend)
	}
	return r
}

// foreign reports whether an entry was written by another controller.
func foreign(s gatewayv1.RouteParentStatus) bool { return s.ControllerName != names.ControllerPolicy }

// Key implements Object.
func (r *Route) Key() Key { return Key{r.Resource, r.ID} }

// rank orders the kinds of routes; higher ones displace lower ones at a parent.
func rank(kind core.RouteKind) int {
	return slices.Index([]core.RouteKind{core.TCPRoute, core.TLSRoute, core.HTTPRoute, core.GRPCRoute}, kind)
}

// accepted says whether the route is in force at a parent. Source: control plane chapter, section 8.
func (r *Route) accepted(lookup Lookup, parent core.ParentRef) result {
	switch parent.Kind {
	case core.ParentServer:
		if parent.Namespace != r.Namespace || lookup.Server(parent.ID) == nil {
			return result{reason: reasonNoMatchingParent}
		}
	case core.ParentService:
		service := lookup.Service(parent.ID)
		if service == nil {
			return result{reason: reasonNoMatchingParent}
		}
		if len(service.ClusterIPs) == 0 {
			return result{reason: reasonNoMatchingParent, message: "parent service must have a ClusterIP"}
		}
	case core.ParentEgressNetwork:
		network := lookup.EgressNetwork(parent.ID)
		if network == nil {
			return result{reason: reasonNoMatchingParent}
		}
		if !network.Accepted {
			return result{reason: reasonNoMatchingParent, message: "EgressNetwork parent has not been accepted"}
		}
	}
	displaced := r.displaced(lookup, parent)
	if displaced.by != "" {
		return result{reason: reasonConflicted, message: displaced.by + " takes its place"}
	}
	if r.Problem != "" {
		return result{reason: reasonUnsupported, message: r.Problem}
	}
	accepted := result{ok: true, reason: reasonAccepted}
	if len(displaced.at) > 0 {
		accepted.message = "but " + strings.Join(displaced.at, ", and ")
	}
	return accepted
}

// displacement is which other routes are in force in a route's place.
type displacement struct {
	// by is a route that takes all of its place; empty if none does.
	by string
	// at has the routes that take its place at some ports.
	at []string
}

// displaced looks for the routes that are in force in the route's place at a parent: those of a kind that goes before its own,
// and of TCPRoutes, of which one can be in force at a port, the older ones. A route for a port takes the place of one for all
// ports there, and of no more.
func (r *Route) displaced(lookup Lookup, parent core.ParentRef) displacement {
	var found displacement
	others := slices.SortedFunc(slices.Values(lookup.RouteStatuses(parent.Parent)), func(a, b *Route) int {
		switch {
		case rank(a.Kind) != rank(b.Kind):
			return rank(b.Kind) - rank(a.Kind)
		case core.Older(a.Object, b.Object):
			return -1
		case core.Older(b.Object, a.Object):
			return 1
		}
		return cmp.Compare(a.Resource.Group, b.Resource.Group)
	})
	for _, other := range others {
		// TLS has room beside HTTP: what is one is not the other.
		before := rank(other.Kind) > rank(r.Kind) && r.Kind != core.TLSRoute
		if other.Kind == core.TCPRoute && r.Kind == core.TCPRoute {
			before = core.Older(other.Object, r.Object)
		}
		// A route that cannot be used does nothing, and must not keep another from working. A consumer's route is in force for
		// the consumer alone.
		if !before || other.Problem != "" || other.Namespace != parent.Namespace && other.Namespace != r.Namespace {
			continue
		}
		what := string(other.Kind) + " " + other.ID.String()
		for _, theirs := range other.Parents {
			switch {
			case theirs.Parent != parent.Parent:
			case theirs.Port == parent.Port, theirs.Port == 0:
				found.by = cmp.Or(found.by, what)
			case parent.Port == 0:
				found.at = append(found.at, fmt.Sprintf("%s takes its place at port %d", what, theirs.Port))
			}
		}
	}
	return found
}

// resolved says whether the route's backends are there.
func (r *Route) resolved(lookup Lookup, parent core.ParentRef) result {
	for _, backend := range r.Backends {
		id := backend.ID
		if id.Namespace == "" {
			id.Namespace = parent.Namespace // as traffic is sent
		}
		switch backend.Kind {
		case core.BackendService:
			if lookup.Service(id) == nil {
				return result{reason: reasonBackendNotFound}
			}
			from := core.GrantedRoutes{Group: r.Resource.Group, Kind: r.Kind, Namespace: r.Namespace}
			if backend.Namespace != "" && !core.Permitted(lookup.ReferenceGrants(id.Namespace), from, id) {
				return result{reason: reasonRefNotPermitted, message: fmt.Sprintf("no ReferenceGrant of namespace %s lets %ss of namespace %s refer to Service %s",
					id.Namespace, r.Kind, r.Namespace, id.Name)}
			}
		case core.BackendEgressNetwork:
			if lookup.EgressNetwork(id) == nil {
				return result{reason: reasonBackendNotFound}
			}
			own := core.Parent{Kind: core.ParentEgressNetwork, ID: id}
			if !slices.ContainsFunc(r.Parents, func(p core.ParentRef) bool { return p.Parent == own }) {
				return result{reason: reasonInvalidKind, message: "EgressNetwork backend needs to be on a route that has an EgressNetwork parent"}
			}
		default:
			return result{reason: reasonInvalidKind}
		}
	}
	return result{ok: true, reason: reasonResolvedRefs}
}

// reference is how a parent is named in a status.
func reference(parent core.ParentRef) gatewayv1.ParentReference {
	group, kind, namespace := gatewayv1.Group(core.GroupPolicy), gatewayv1.Kind(parent.Kind), gatewayv1.Namespace(parent.Namespace)
	if parent.Kind == core.ParentService {
		group = core.GroupCore
	}
	ref := gatewayv1.ParentReference{Group: &group, Kind: &kind, Namespace: &namespace, Name: gatewayv1.ObjectName(parent.Name)}
	if parent.Port != 0 {
		port := gatewayv1.PortNumber(parent.Port)
		ref.Port = &port
	}
	return ref
}

// Patch implements Object.
func (r *Route) Patch(lookup Lookup, now time.Time) []byte {
	want := make([]gatewayv1.RouteParentStatus, 0, len(r.Status)+len(r.Parents))
	before := make(map[core.ParentRef][]metav1.Condition)
	var own []gatewayv1.RouteParentStatus
	for _, s := range r.Status {
		if foreign(s) {
			want = append(want, s)
			continue
		}
		own = append(own, s)
		if parent, ok := resource.ParentOf(s.ParentRef, r.Namespace); ok {
			before[parent] = s.Conditions
		}
	}
	others := len(want)
	for _, parent := range r.Parents {
		conditions := []metav1.Condition{r.accepted(lookup, parent).condition(conditionAccepted, r.Generation)}
		if parent.Kind != core.ParentServer {
			conditions = append(conditions, r.resolved(lookup, parent).condition(conditionResolvedRefs, r.Generation))
		}
		want = append(want, gatewayv1.RouteParentStatus{ParentRef: reference(parent), ControllerName: names.ControllerPolicy, Conditions: conditions})
	}
	if r.same(own, want[others:]) {
		return nil
	}
	for i, parent := range r.Parents {
		stamp(want[others+i].Conditions, before[parent], now)
	}
	return patch(r.Resource, string(r.Kind), r.Version, gatewayv1.RouteStatus{Parents: want})
}

// same reports whether two lists of entries say the same, in whatever order.
func (r *Route) same(a, b []gatewayv1.RouteParentStatus) bool {
	type entry struct {
		parent     core.ParentRef
		conditions []metav1.Condition
	}
	entries := func(list []gatewayv1.RouteParentStatus) []entry {
		var entries []entry
		for _, s := range list {
			parent, _ := resource.ParentOf(s.ParentRef, r.Namespace)
			entries = append(entries, entry{parent, s.Conditions})
		}
		slices.SortFunc(entries, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.parent.Kind, b.parent.Kind), cmp.Compare(a.parent.Namespace, b.parent.Namespace),
				cmp.Compare(a.parent.Name, b.parent.Name), cmp.Compare(a.parent.Port, b.parent.Port))
		})
		return entries
	}
	return slices.EqualFunc(entries(a), entries(b), func(a, b entry) bool {
		return a.parent == b.parent && sameConditions(a.conditions, b.conditions)
	})
}
