package index

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/derive"
)

// factKind says what a fact is about.
type factKind string

// The kinds of facts. Those of lists are about all objects of a namespace.
const (
	factWorkload              factKind = "workload"
	factWorkloads             factKind = "workloads"
	factReady                 factKind = "ready"
	factServers               factKind = "servers"
	factServerAuthorizations  factKind = "serverauthorizations"
	factAuthorizationPolicies factKind = "authorizationpolicies"
	factMeshTLS               factKind = "meshtlsauthentication"
	factNetwork               factKind = "networkauthentication"
	factRateLimits            factKind = "ratelimits"
	factReferenceGrants       factKind = "referencegrants"
	factRoutesOf              factKind = "routes"
	factRoute                 factKind = "route"
	factService               factKind = "service"
	factServicesAt            factKind = "services-at"
	factEgressNetwork         factKind = "egressnetwork"
	factEgressNetworks        factKind = "egressnetworks"
	factStatus                factKind = "status"
	factRouteStatuses         factKind = "routestatuses"
)

// fact is something that an answer can be made from.
type fact struct {
	kind factKind
	id   core.ID
	// external tells workloads apart, parent and target routes, addr Services, resource statuses.
	external bool
	parent   core.ParentKind
	target   core.TargetKind
	addr     netip.Addr
	resource schema.GroupVersionResource
}

// node is a topic's place among the answers.
type node = derive.Node[fact]

// reader reads tables on behalf of an answer and notes what it read. It is valid only while the answer is made.
type reader struct {
	tables *tables
	notes  derive.Notes[fact]
	// read, if set, takes the facts as well.
	read *[]fact
}

var (
	_ core.Lookup   = (*reader)(nil)
	_ status.Lookup = (*reader)(nil)
)

func (r *reader) note(f fact) {
	r.notes.Note(f)
	if r.read != nil {
		*r.read = append(*r.read, f)
	}
}

func inNamespace(kind factKind, namespace string) fact {
	return fact{kind: kind, id: core.ID{Namespace: namespace}}
}

func (r *reader) workload(key WorkloadKey) *core.Workload {
	r.note(fact{kind: factWorkload, id: key.ID, external: key.External})
	return r.tables.workloads[key]
}

// Servers implements core.Lookup.
func (r *reader) Servers(namespace string) []*core.Server {
	r.note(inNamespace(factServers, namespace))
	return r.tables.servers.list(namespace)
}

// ServerAuthorizations implements core.Lookup.
func (r *reader) ServerAuthorizations(namespace string) []*core.ServerAuthorization {
	r.note(inNamespace(factServerAuthorizations, namespace))
	return r.tables.serverAuthorizations.list(namespace)
}

// AuthorizationPolicies implements core.Lookup.
func (r *reader) AuthorizationPolicies(namespace string) []*core.AuthorizationPolicy {
	r.note(inNamespace(factAuthorizationPolicies, namespace))
	return r.tables.authorizationPolicies.list(namespace)
}

// RateLimits implements core.Lookup.
func (r *reader) RateLimits(namespace string) []*core.RateLimit {
	r.note(inNamespace(factRateLimits, namespace))
	return r.tables.rateLimits.list(namespace)
}

// ReadyWorkloads implements core.Lookup.
func (r *reader) ReadyWorkloads(s *core.Server) uint32 {
	r.note(inNamespace(factReady, s.Namespace))
	return r.tables.readyWorkloads(s)
}

// MeshTLSAuthentication implements core.Lookup.
func (r *reader) MeshTLSAuthentication(id core.ID) *core.MeshTLSAuthentication {
	r.note(fact{kind: factMeshTLS, id: id})
	return r.tables.meshTLS.get(id)
}

// NetworkAuthentication implements core.Lookup.
func (r *reader) NetworkAuthentication(id core.ID) *core.NetworkAuthentication {
	r.note(fact{kind: factNetwork, id: id})
	return r.tables.networks.get(id)
}

// RoutesOf implements core.Lookup.
func (r *reader) RoutesOf(parent core.Parent) []*core.Route {
	r.note(fact{kind: factRoutesOf, id: parent.ID, parent: parent.Kind})
	routes := make([]*core.Route, 0, len(r.tables.routesOf[parent]))
	for key := range r.tables.routesOf[parent] {
		routes = append(routes, r.tables.routes[key])
	}
	return routes
}

// Service implements core.Lookup.
func (r *reader) Service(id core.ID) *core.Service {
	r.note(fact{kind: factService, id: id})
	return r.tables.services.get(id)
}

// ReferenceGrants implements core.Lookup.
func (r *reader) ReferenceGrants(namespace string) []*core.ReferenceGrant {
	r.note(inNamespace(factReferenceGrants, namespace))
	return r.tables.referenceGrants.list(namespace)
}

// ServicesAt implements core.Lookup.
func (r *reader) ServicesAt(addr netip.Addr) []*core.Service {
	r.note(fact{kind: factServicesAt, addr: addr})
	services := make([]*core.Service, 0, len(r.tables.servicesAt[addr]))
	for id := range r.tables.servicesAt[addr] {
		services = append(services, r.tables.services.get(id))
	}
	return services
}

// EgressNetwork implements core.Lookup.
func (r *reader) EgressNetwork(id core.ID) *core.EgressNetwork {
	r.note(fact{kind: factEgressNetwork, id: id})
	return r.tables.egressNetworks.get(id)
}

// EgressNetworks implements core.Lookup.
func (r *reader) EgressNetworks(namespace string) []*core.EgressNetwork {
	r.note(inNamespace(factEgressNetworks, namespace))
	return r.tables.egressNetworks.list(namespace)
}

func (r *reader) status(key status.Key) status.Object {
	r.note(fact{kind: factStatus, id: key.ID, resource: key.Resource})
	return r.tables.statuses[key]
}

// Server implements status.Lookup. It depends on all Servers of the namespace, which are few and change together.
func (r *reader) Server(id core.ID) *core.Server {
	r.note(inNamespace(factServers, id.Namespace))
	return r.tables.servers.get(id)
}

// Workloads implements status.Lookup.
func (r *reader) Workloads(namespace string) []*core.Workload {
	r.note(inNamespace(factWorkloads, namespace))
	return r.tables.sorts(namespace)
}

// HasRoute implements status.Lookup.
func (r *reader) HasRoute(kind core.TargetKind, id core.ID) bool {
	r.note(fact{kind: factRoute, id: id, target: kind})
	key := routeKey{core.GroupGateway, core.HTTPRoute, id}
	switch kind {
	case core.TargetGRPCRoute:
		key.kind = core.GRPCRoute
	case core.TargetPolicyHTTPRoute:
		key.group = core.GroupPolicy
	default:
	}
	return r.tables.routes[key] != nil
}

// RouteStatuses implements status.Lookup.
func (r *reader) RouteStatuses(parent core.Parent) []*status.Route {
	r.note(fact{kind: factRouteStatuses, id: parent.ID, parent: parent.Kind})
	routes := make([]*status.Route, 0, len(r.tables.statusesOf[parent]))
	for key := range r.tables.statusesOf[parent] {
		routes = append(routes, r.tables.statuses[key].(*status.Route))
	}
	return routes
}
