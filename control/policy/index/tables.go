package index

import (
	"fmt"
	"net/netip"
	"reflect"
	"unique"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

// table has the objects of one kind.
type table[T any] map[string]map[string]*T

func (t table[T]) get(id core.ID) *T { return t[id.Namespace][id.Name] }

func (t table[T]) list(namespace string) []*T {
	list := make([]*T, 0, len(t[namespace]))
	for _, object := range t[namespace] {
		list = append(list, object)
	}
	return list
}

func (t table[T]) ids() []core.ID {
	var ids []core.ID
	for namespace, objects := range t {
		for name := range objects {
			ids = append(ids, core.ID{Namespace: namespace, Name: name})
		}
	}
	return ids
}

// set puts an object in, or takes it out if it is nil, and reports whether that changed anything.
func (t table[T]) set(id core.ID, object *T) bool {
	old := t.get(id)
	if object == nil {
		if old == nil {
			return false
		}
		delete(t[id.Namespace], id.Name)
		if len(t[id.Namespace]) == 0 {
			delete(t, id.Namespace)
		}
		return true
	}
	if old != nil && reflect.DeepEqual(old, object) {
		return false
	}
	if t[id.Namespace] == nil {
		t[id.Namespace] = make(map[string]*T)
	}
	t[id.Namespace][id.Name] = object
	return true
}

// unusableKey names an object that cannot be used.
type unusableKey struct{ group, kind, name string }

// setUnusable notes why an object cannot be used, or that it can if err is nil. No answer is made from it but explanations,
// which nobody subscribes to.
func (t *tables) setUnusable(k *kind, id core.ID, err error) {
	key := unusableKey{k.resource.Group, k.name, id.Name}
	if err == nil {
		delete(t.unusable[id.Namespace], key)
		if len(t.unusable[id.Namespace]) == 0 {
			delete(t.unusable, id.Namespace)
		}
		return
	}
	if t.unusable[id.Namespace] == nil {
		t.unusable[id.Namespace] = make(map[unusableKey]error)
	}
	t.unusable[id.Namespace][key] = err
}

// unusableIDs lists the objects of a kind that cannot be used.
func (t *tables) unusableIDs(k *kind) []core.ID {
	var ids []core.ID
	for namespace, objects := range t.unusable {
		for key := range objects {
			if key.group == k.resource.Group && key.kind == k.name {
				ids = append(ids, core.ID{Namespace: namespace, Name: key.name})
			}
		}
	}
	return ids
}

// routeKey names a route among those of all kinds.
type routeKey struct {
	group string
	kind  core.RouteKind
	id    core.ID
}

// tables has all objects. It belongs to the index's goroutine. Its set methods take nil for objects that are gone.
type tables struct {
	touch func(fact)

	workloads             map[WorkloadKey]*core.Workload
	servers               table[core.Server]
	serverAuthorizations  table[core.ServerAuthorization]
	authorizationPolicies table[core.AuthorizationPolicy]
	meshTLS               table[core.MeshTLSAuthentication]
	networks              table[core.NetworkAuthentication]
	rateLimits            table[core.RateLimit]
	referenceGrants       table[core.ReferenceGrant]
	services              table[core.Service]
	egressNetworks        table[core.EgressNetwork]
	routes                map[routeKey]*core.Route
	statuses              map[status.Key]status.Object
	// unusable has the errors of the objects whose newest version cannot be used, by namespace.
	unusable map[string]map[unusableKey]error

	// What follows is derived.
	// shapes are what makes workloads different, but for their names. Replicas share them.
	shapes map[WorkloadKey]unique.Handle[string]
	// alike has the workloads of a namespace that are alike, by what makes them so.
	alike map[string]map[unique.Handle[string]]alike
	// ready counts those of them that are ready.
	ready      map[string]map[unique.Handle[string]]uint32
	servicesAt map[netip.Addr]map[core.ID]struct{}
	routesOf   map[core.Parent]map[routeKey]struct{}
	statusesOf map[core.Parent]map[status.Key]struct{}
}

func newTables(touch func(fact)) *tables {
	return &tables{
		touch:                 touch,
		workloads:             make(map[WorkloadKey]*core.Workload),
		servers:               make(table[core.Server]),
		serverAuthorizations:  make(table[core.ServerAuthorization]),
		authorizationPolicies: make(table[core.AuthorizationPolicy]),
		meshTLS:               make(table[core.MeshTLSAuthentication]),
		networks:              make(table[core.NetworkAuthentication]),
		rateLimits:            make(table[core.RateLimit]),
		referenceGrants:       make(table[core.ReferenceGrant]),
		services:              make(table[core.Service]),
		egressNetworks:        make(table[core.EgressNetwork]),
		routes:                make(map[routeKey]*core.Route),
		statuses:              make(map[status.Key]status.Object),
		unusable:              make(map[string]map[unusableKey]error),
		shapes:                make(map[WorkloadKey]unique.Handle[string]),
		alike:                 make(map[string]map[unique.Handle[string]]alike),
		ready:                 make(map[string]map[unique.Handle[string]]uint32),
		servicesAt:            make(map[netip.Addr]map[core.ID]struct{}),
		routesOf:              make(map[core.Parent]map[routeKey]struct{}),
		statusesOf:            make(map[core.Parent]map[status.Key]struct{}),
	}
}

// size is how much there is of what can be much.
func (t *tables) size() int {
	return len(t.workloads) + len(t.servicesAt) + len(t.routes) + len(t.statuses)
}

// shrink gives back the memory of what is gone.
func (t *tables) shrink() {
	t.workloads, t.shapes, t.servicesAt = shrink.Map(t.workloads), shrink.Map(t.shapes), shrink.Map(t.servicesAt)
	t.routes, t.routesOf = shrink.Map(t.routes), shrink.Map(t.routesOf)
	t.statuses, t.statusesOf = shrink.Map(t.statuses), shrink.Map(t.statusesOf)
	for namespace, services := range t.services {
		t.services[namespace] = shrink.Map(services)
	}
}

// put adds a member to a set of sets.
func put[K, M comparable](sets map[K]map[M]struct{}, key K, member M) {
	if sets[key] == nil {
		sets[key] = make(map[M]struct{})
	}
	sets[key][member] = struct{}{}
}

// remove takes a member out of a set of sets.
func remove[K, M comparable](sets map[K]map[M]struct{}, key K, member M) {
	delete(sets[key], member)
	if len(sets[key]) == 0 {
		delete(sets, key)
	}
}

func (t *tables) setWorkload(key WorkloadKey, w *core.Workload) {
	old, was := t.workloads[key], t.shapes[key]
	switch {
	case w == nil && old == nil, w != nil && reflect.DeepEqual(old, w):
		return
	case w == nil:
		delete(t.workloads, key)
		t.setShape(key, unique.Handle[string]{}, nil)
	default:
		t.workloads[key] = w
		t.setShape(key, unique.Make(shape(w)), w)
	}
	is := t.shapes[key]
	t.setReady(key.Namespace, was, old != nil && old.Ready, is, w != nil && w.Ready)
	if old == nil || w == nil || was != is {
		t.touch(fact{kind: factWorkload, id: key.ID, external: key.External})
	}
}

// setReady counts a workload that was of one shape and is of another now, or ready, or not.
func (t *tables) setReady(namespace string, was unique.Handle[string], wasReady bool, is unique.Handle[string], isReady bool) {
	if !wasReady && !isReady || wasReady && isReady && was == is {
		return
	}
	counts := t.ready[namespace]
	if counts == nil {
		counts = make(map[unique.Handle[string]]uint32)
		t.ready[namespace] = counts
	}
	if wasReady {
		if counts[was]--; counts[was] == 0 {
			delete(counts, was)
		}
	}
	if isReady {
		counts[is]++
	}
	if len(counts) == 0 {
		delete(t.ready, namespace)
	}
	t.touch(inNamespace(factReady, namespace))
}

// readyWorkloads counts those that a Server is for. It sees each sort of workloads once.
func (t *tables) readyWorkloads(s *core.Server) uint32 {
	var n uint32
	for shape, count := range t.ready[s.Namespace] {
		if s.For(t.alike[s.Namespace][shape].workload) {
			n += count
		}
	}
	return n
}

// alike counts workloads that are alike.
type alike struct {
	count int
	// workload is one of them.
	workload *core.Workload
}

// sorts returns the workloads of a namespace, of those that are alike one.
func (t *tables) sorts(namespace string) []*core.Workload {
	list := make([]*core.Workload, 0, len(t.alike[namespace]))
	for _, a := range t.alike[namespace] {
		list = append(list, a.workload)
	}
	return list
}

// setShape notes what makes a workload different from others, or that it is gone if w is nil. Who asks about the workloads of
// a namespace is told if there is a new sort, or one less, and not of replicas.
func (t *tables) setShape(key WorkloadKey, shape unique.Handle[string], w *core.Workload) {
	old, had := t.shapes[key]
	if had && w != nil && old == shape {
		return
	}
	sorts := t.alike[key.Namespace]
	changed := false
	if had {
		a := sorts[old]
		if a.count--; a.count == 0 {
			delete(sorts, old)
			changed = true
		} else {
			sorts[old] = a
		}
		delete(t.shapes, key)
	}
	if w != nil {
		if sorts == nil {
			sorts = make(map[unique.Handle[string]]alike)
			t.alike[key.Namespace] = sorts
		}
		a, known := sorts[shape]
		if !known {
			a.workload, changed = w, true
		}
		a.count++
		sorts[shape] = a
		t.shapes[key] = shape
	}
	if len(sorts) == 0 {
		delete(t.alike, key.Namespace)
	}
	if changed {
		t.touch(inNamespace(factWorkloads, key.Namespace))
	}
}

// shape tells workloads of a namespace apart that can have different answers. Maps are printed in the order of their keys.
// Whether they are ready is counted, and makes no sorts.
func shape(w *core.Workload) string {
	nameless := *w
	nameless.ID, nameless.Ready = core.ID{}, false
	return fmt.Sprintf("%#v", nameless)
}

func (t *tables) workloadIDs(external bool) []core.ID {
	var ids []core.ID
	for key := range t.workloads {
		if key.External == external {
			ids = append(ids, key.ID)
		}
	}
	return ids
}

func (t *tables) setServer(id core.ID, s *core.Server) {
	if t.servers.set(id, s) {
		t.touch(inNamespace(factServers, id.Namespace))
	}
}

func (t *tables) setServerAuthorization(id core.ID, a *core.ServerAuthorization) {
	if t.serverAuthorizations.set(id, a) {
		t.touch(inNamespace(factServerAuthorizations, id.Namespace))
	}
}

func (t *tables) setAuthorizationPolicy(id core.ID, p *core.AuthorizationPolicy) {
	if t.authorizationPolicies.set(id, p) {
		t.touch(inNamespace(factAuthorizationPolicies, id.Namespace))
	}
}

func (t *tables) setMeshTLS(id core.ID, a *core.MeshTLSAuthentication) {
	if t.meshTLS.set(id, a) {
		t.touch(fact{kind: factMeshTLS, id: id})
	}
}

func (t *tables) setNetwork(id core.ID, a *core.NetworkAuthentication) {
	if t.networks.set(id, a) {
		t.touch(fact{kind: factNetwork, id: id})
	}
}

func (t *tables) setRateLimit(id core.ID, l *core.RateLimit) {
	if t.rateLimits.set(id, l) {
		t.touch(inNamespace(factRateLimits, id.Namespace))
	}
}

func (t *tables) setReferenceGrant(id core.ID, g *core.ReferenceGrant) {
	if t.referenceGrants.set(id, g) {
		t.touch(inNamespace(factReferenceGrants, id.Namespace))
	}
}

func (t *tables) setEgressNetwork(id core.ID, n *core.EgressNetwork) {
	if t.egressNetworks.set(id, n) {
		t.touch(fact{kind: factEgressNetwork, id: id})
		t.touch(inNamespace(factEgressNetworks, id.Namespace))
	}
}

func (t *tables) setService(id core.ID, s *core.Service) {
	old := t.services.get(id)
	if !t.services.set(id, s) {
		return
	}
	t.touch(fact{kind: factService, id: id})
	// The ports of a Service decide what its addresses mean, so that those which stay are touched as well.
	if old != nil {
		for _, addr := range old.ClusterIPs {
			remove(t.servicesAt, addr, id)
			t.touch(fact{kind: factServicesAt, addr: addr})
		}
	}
	if s != nil {
		for _, addr := range s.ClusterIPs {
			put(t.servicesAt, addr, id)
			t.touch(fact{kind: factServicesAt, addr: addr})
		}
	}
}

func (t *tables) setRoute(key routeKey, r *core.Route) {
	old := t.routes[key]
	switch {
	case r == nil && old == nil, r != nil && reflect.DeepEqual(old, r):
		return
	case r == nil:
		delete(t.routes, key)
	default:
		t.routes[key] = r
	}
	if (old == nil) != (r == nil) {
		t.touch(fact{kind: factRoute, id: key.id, target: (&core.Route{Group: key.group, Kind: key.kind}).Target()})
	}
	if old != nil {
		for _, p := range old.Parents {
			remove(t.routesOf, p.Parent, key)
			t.touch(fact{kind: factRoutesOf, id: p.ID, parent: p.Kind})
		}
	}
	if r != nil {
		for _, p := range r.Parents {
			put(t.routesOf, p.Parent, key)
			t.touch(fact{kind: factRoutesOf, id: p.ID, parent: p.Kind})
		}
	}
}

func (t *tables) routeIDs(group string, kind core.RouteKind) []core.ID {
	var ids []core.ID
	for key := range t.routes {
		if key.group == group && key.kind == kind {
			ids = append(ids, key.id)
		}
	}
	return ids
}

// setStatus reports whether that changed anything.
func (t *tables) setStatus(key status.Key, object status.Object) bool {
	old := t.statuses[key]
	switch {
	case object == nil && old == nil, object != nil && reflect.DeepEqual(old, object):
		return false
	case object == nil:
		delete(t.statuses, key)
	default:
		t.statuses[key] = object
	}
	t.touch(fact{kind: factStatus, id: key.ID, resource: key.Resource})
	if route, ok := old.(*status.Route); ok {
		for _, p := range route.Parents {
			remove(t.statusesOf, p.Parent, key)
			t.touch(fact{kind: factRouteStatuses, id: p.ID, parent: p.Kind})
		}
	}
	if route, ok := object.(*status.Route); ok {
		for _, p := range route.Parents {
			put(t.statusesOf, p.Parent, key)
			t.touch(fact{kind: factRouteStatuses, id: p.ID, parent: p.Kind})
		}
	}
	return true
}

func (t *tables) statusIDs(resource schema.GroupVersionResource) []core.ID {
	var ids []core.ID
	for key := range t.statuses {
		if key.Resource == resource {
			ids = append(ids, key.ID)
		}
	}
	return ids
}
