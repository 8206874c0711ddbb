package core

import (
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// Destination is the kind of thing that an address means to a client.
type Destination string

// The kinds of destinations. Source: proxy API chapter, section 6.2.
const (
	// ToService is a port of a Service.
	ToService Destination = "service"
	// ToUndefinedPort is a port that a Service does not have.
	ToUndefinedPort Destination = "undefined-port"
	// ToEgressNetwork is an address in an EgressNetwork.
	ToEgressNetwork Destination = "egress-network"
	// ToFallback is an address outside the cluster that no EgressNetwork contains.
	ToFallback Destination = "egress-fallback"
)

// Target is what a client asks about. It is comparable.
type Target struct {
	Destination Destination
	// ID is the Service or the EgressNetwork.
	ID   ID
	Port uint16
	// Instance is the hostname of one of the Service's endpoints, for clients that ask for that one; empty for all.
	Instance string
	// Addr is where the client connects to; set for egress.
	Addr netip.AddrPort
}

// Resolve finds what an address means to clients of a namespace. It returns false if nothing is known of it, as for pods.
// Source: proxy API chapter, section 6.2.
func (c *Config) Resolve(lookup Lookup, addr netip.AddrPort, namespace string) (Target, bool) {
	if service := first(lookup.ServicesAt(addr.Addr()), func(s *Service) Object { return s.Object }); service != nil {
		target := Target{Destination: ToService, ID: service.ID, Port: addr.Port()}
		if _, ok := service.Ports[addr.Port()]; !ok {
			target.Destination = ToUndefinedPort
		}
		return target, true
	}
	if network := c.egressNetwork(lookup, addr.Addr(), namespace); network != nil {
		return Target{Destination: ToEgressNetwork, ID: network.ID, Port: addr.Port(), Addr: addr}, true
	}
	if c.inCluster(addr.Addr()) {
		return Target{}, false
	}
	return Target{Destination: ToFallback, Port: addr.Port(), Addr: addr}, true
}

// first returns the oldest object, or nil.
func first[T any](list []*T, object func(*T) Object) *T {
	if len(list) == 0 {
		return nil
	}
	return slices.MinFunc(list, func(a, b *T) int { return compareAge(object(a), object(b)) })
}

// egressNetwork chooses the EgressNetwork for an address: that with the smallest block around it, of those in the client's
// namespace if there are any there, else of the global ones. Addresses of the cluster have none: a network that overlaps it is
// not accepted for that, but goes on for what is outside, since who denied all of 0.0.0.0/0 did not mean to leave it open.
func (c *Config) egressNetwork(lookup Lookup, addr netip.Addr, namespace string) *EgressNetwork {
	if c.inCluster(addr) {
		return nil
	}
	candidates := lookup.EgressNetworks(namespace)
	if len(candidates) == 0 {
		candidates = lookup.EgressNetworks(c.GlobalEgressNamespace)
	}
	var best *EgressNetwork
	var bestSize *big.Int
	for _, network := range candidates {
		size := c.blockSize(network, addr)
		if size == nil {
			continue
		}
		if best != nil {
			if order := size.Cmp(bestSize); order > 0 || order == 0 && compareAge(best.Object, network.Object) < 0 {
				continue
			}
		}
		best, bestSize = network, size
	}
	return best
}

// InsideCluster reports whether an EgressNetwork has addresses of the cluster, for which it is not in force. Source:
// control plane chapter, section 8.
func (c *Config) InsideCluster(n *EgressNetwork) bool {
	for _, block := range n.Networks {
		for _, cluster := range c.ClusterNetworks {
			if !block.CIDR.Overlaps(cluster) {
				continue
			}
			// What both have is the smaller of the two; an exception must cover it.
			both := cluster
			if block.CIDR.Bits() > cluster.Bits() {
				both = block.CIDR
			}
			if !slices.ContainsFunc(block.Except, func(hole netip.Prefix) bool {
				return hole.Bits() <= both.Bits() && hole.Contains(both.Addr())
			}) {
				return true
			}
		}
	}
	return false
}

// blockSize returns how many addresses the smallest block of a network that contains addr has, or nil if none does.
func (c *Config) blockSize(network *EgressNetwork, addr netip.Addr) *big.Int {
	blocks := network.Networks
	if len(blocks) == 0 {
		blocks = c.OutsideCluster()
	}
	var smallest *big.Int
	for _, block := range blocks {
		if !block.Contains(addr) {
			continue
		}
		size := addresses(block.CIDR)
		for _, hole := range block.Except {
			size.Sub(size, addresses(hole))
		}
		if smallest == nil || size.Cmp(smallest) < 0 {
			smallest = size
		}
	}
	return smallest
}

func addresses(block netip.Prefix) *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(block.Addr().BitLen()-block.Bits()))
}

// OutsideCluster is the networks of an EgressNetwork that lists none.
func (c *Config) OutsideCluster() []Network {
	v4, v6 := Network{CIDR: allNetworks[0].CIDR}, Network{CIDR: allNetworks[1].CIDR}
	for _, network := range c.ClusterNetworks {
		if network.Addr().Is4() {
			v4.Except = append(v4.Except, network)
		} else {
			v6.Except = append(v6.Except, network)
		}
	}
	return []Network{v4, v6}
}

// OutboundPolicy is where a proxy sends what it is asked to send.
type OutboundPolicy struct {
	// Parent is what the policy belongs to.
	Parent   Ref
	Protocol Protocol
	// HTTPRoutes are set for ProtocolDetect, ProtocolHTTP1 and ProtocolHTTP2; GRPCRoutes, TLSRoutes for those; OpaqueRoutes
	// for ProtocolDetect and ProtocolOpaque. With ProtocolGRPC, HTTPRoutes and OpaqueRoutes are both set if HTTP/1 and other
	// protocols may come to the port as well; then, and with ProtocolDetect, TLSRoutes are for TLS that they take, if there are
	// any.
	HTTPRoutes, GRPCRoutes, TLSRoutes, OpaqueRoutes []OutboundRoute
	// Accrual is nil if endpoints are never taken out.
	Accrual *FailureAccrual
	// Detect is how long the first bytes of a connection are waited for; 0 is left to the proxies.
	Detect time.Duration
	// Notes are what an operator should know: what was left out, and why.
	Notes []string
}

// OutboundRoute is a route of an OutboundPolicy.
type OutboundRoute struct {
	Ref   Ref
	Hosts []Host
	Rules []OutboundRule
}

// OutboundRule says what happens to requests that one of its matches selects.
type OutboundRule struct {
	HTTP     []HTTPMatch
	GRPC     []GRPCMatch
	Filters  []Filter
	Backends Distribution
	// Timeouts are nil where there are none by design (egress fallback); elsewhere they may be all 0.
	Timeouts *Timeouts
	// AttemptTimeout limits each attempt at a backend; 0 does not.
	AttemptTimeout time.Duration
	Retry          *Retry
	// AllowRequestHeaders lets clients set timeouts and retries.
	AllowRequestHeaders bool
}

// Distribution is how requests are shared.
type Distribution struct {
	// Random shares requests by weight; otherwise the only backend gets them all. No backends: nobody does.
	Random   bool
	Backends []Backend
}

// Backend is where requests go: through a balancer, to one address, or, if neither is set, nowhere.
type Backend struct {
	Ref    Ref
	Weight uint32
	// Path is the name whose endpoints are balanced over.
	Path string
	// Biaser makes failing endpoints of a balancer look slow; nil does not.
	Biaser *LoadBiaser
	// Affinity says which requests go to one endpoint of a balancer.
	Affinity Affinity
	// Forward is the only address.
	Forward netip.AddrPort
	// Queue is how requests wait for it.
	Queue Queue
	// Invalid, if not empty, is what requests are refused with.
	Invalid string
	Filters []Filter
}

// Names of what is there without a resource.
const (
	nameHTTP          = "http"
	nameOpaque        = "opaq"
	nameInvalid       = "invalid"
	nameFallback      = "egress-fallback"
	nameUndefinedPort = "undefined-port"
	denied            = "traffic not allowed"
)

// codePermissionDenied is the gRPC code of refused traffic.
const codePermissionDenied = 7

// Outbound decides what clients of a namespace do with a target. Source: proxy API chapter, section 6.
func (c *Config) Outbound(lookup Lookup, target Target, namespace string) *OutboundPolicy {
	switch target.Destination {
	case ToFallback:
		return fallback(target)
	case ToUndefinedPort:
		return undefinedPort(target)
	}
	return c.parent(lookup, target).policy(namespace)
}

// HasOwnRoutes reports whether clients of a namespace have routes of their own at a target. If not, Outbound gives them what it
// gives to clients of any namespace without.
func (c *Config) HasOwnRoutes(lookup Lookup, target Target, namespace string) bool {
	var parent Parent
	switch target.Destination {
	case ToService:
		parent = Parent{ParentService, target.ID}
	case ToEgressNetwork:
		parent = Parent{ParentEgressNetwork, target.ID}
	default:
		return false
	}
	return namespace != parent.Namespace && slices.ContainsFunc(lookup.RoutesOf(parent), func(r *Route) bool { return r.Namespace == namespace })
}

func serviceRef(id ID, port uint16) Ref {
	return Ref{Group: GroupCore, Kind: "Service", Namespace: id.Namespace, Name: id.Name, Port: port}
}

func egressRef(id ID, port uint16) Ref {
	return Ref{Group: GroupPolicy, Kind: "EgressNetwork", Namespace: id.Namespace, Name: id.Name, Port: port}
}

// fallback is the policy for addresses outside the cluster that nothing is said about. Source: proxy API chapter, section 6.3.
func fallback(target Target) *OutboundPolicy {
	ref := Ref{Default: nameFallback}
	only := Distribution{Backends: []Backend{{Ref: ref, Forward: target.Addr}}}
	return &OutboundPolicy{
		Parent:       ref,
		Protocol:     ProtocolDetect,
		HTTPRoutes:   []OutboundRoute{{Ref: ref, Rules: []OutboundRule{{HTTP: []HTTPMatch{{}}, Backends: only}}}},
		OpaqueRoutes: []OutboundRoute{{Ref: ref, Rules: []OutboundRule{{Backends: only}}}},
	}
}

// undefinedPort refuses connections to a port that a Service does not have.
func undefinedPort(target Target) *OutboundPolicy {
	return &OutboundPolicy{
		Parent:       serviceRef(target.ID, target.Port),
		Protocol:     ProtocolOpaque,
		OpaqueRoutes: []OutboundRoute{{Ref: Ref{Default: nameUndefinedPort}, Rules: []OutboundRule{{Filters: []Filter{{Forbidden: true}}}}}},
	}
}

// outboundParent is a port of a Service or of an EgressNetwork, on the way to its policy.
type outboundParent struct {
	config  *Config
	lookup  Lookup
	target  Target
	parent  Parent
	ref     Ref
	app     AppProtocol
	traffic Traffic
	// allow is what an EgressNetwork does with traffic that no route governs.
	allow bool
}

func (c *Config) parent(lookup Lookup, target Target) *outboundParent {
	p := &outboundParent{config: c, lookup: lookup, target: target, parent: Parent{ParentService, target.ID}, ref: serviceRef(target.ID, target.Port)}
	var opaque OpaquePorts
	if target.Destination == ToEgressNetwork {
		p.parent.Kind, p.ref = ParentEgressNetwork, egressRef(target.ID, target.Port)
		if network := lookup.EgressNetwork(target.ID); network != nil {
			p.traffic, p.allow, opaque = network.Traffic, network.Allow, network.Opaque
		}
	} else if service := lookup.Service(target.ID); service != nil {
		p.traffic, p.app, opaque = service.Traffic, service.Ports[target.Port], service.Opaque
	}
	ports := opaque.Ports
	if !opaque.Present {
		ports = c.DefaultOpaquePorts
	}
	if p.app == AppUnset && ports.Has(target.Port) {
		p.app = AppOpaque
	}
	return p
}

// routes returns the routes of one kind that are in force at the port for clients of a namespace.
func (p *outboundParent) routes(all []*Route, kind RouteKind, namespace string) []*Route {
	var list []*Route
	for _, route := range all {
		// A route beside its parent is the producer's, and for everybody; others are a consumer's own.
		if route.Kind == kind && (route.Namespace == p.parent.Namespace || route.Namespace == namespace) && route.Attached(p.parent, p.target.Port) {
			list = append(list, route)
		}
	}
	return list
}

// policy chooses the protocol of the port and compiles its routes. Source: proxy API chapter, section 6.4.
func (p *outboundParent) policy(namespace string) *OutboundPolicy {
	all := SortRoutes(p.lookup.RoutesOf(p.parent))
	grpc, http := p.routes(all, GRPCRoute, namespace), p.routes(all, HTTPRoute, namespace)
	tls, tcp := p.routes(all, TLSRoute, namespace), p.routes(all, TCPRoute, namespace)

	policy := &OutboundPolicy{Parent: p.ref, Detect: p.traffic.Detect}
	switch {
	case p.app == AppHTTP1:
		policy.Protocol = ProtocolHTTP1
	case p.app == AppHTTP2 && len(grpc) > 0:
		policy.Protocol = ProtocolGRPC
	case p.app == AppHTTP2:
		policy.Protocol = ProtocolHTTP2
	case p.app == AppOpaque:
		policy.Protocol = ProtocolOpaque
	case len(grpc) > 0:
		policy.Protocol = ProtocolGRPC
	case len(http) > 0:
		policy.Protocol = ProtocolDetect
	case len(tls) > 0:
		policy.Protocol = ProtocolTLS
	case len(tcp) > 0:
		policy.Protocol = ProtocolOpaque
	default:
		policy.Protocol = ProtocolDetect
	}
	switch policy.Protocol {
	case ProtocolHTTP1, ProtocolHTTP2, ProtocolDetect:
		policy.HTTPRoutes = p.compile(http, HTTPRoute)
		policy.Accrual = p.traffic.Accrual
		if policy.Protocol == ProtocolDetect {
			policy.OpaqueRoutes, policy.TLSRoutes = p.compile(nil, TCPRoute), p.beside(tls)
		}
	case ProtocolGRPC:
		policy.GRPCRoutes = p.compile(grpc, GRPCRoute)
		policy.Accrual = p.traffic.Accrual
		if p.app == AppUnset {
			// Who adds a GRPCRoute does not mean to shut out the HTTP/1 that the port serves beside it.
			policy.HTTPRoutes, policy.OpaqueRoutes = p.compile(http, HTTPRoute), p.compile(nil, TCPRoute)
			policy.TLSRoutes = p.beside(tls)
		}
	case ProtocolTLS:
		policy.TLSRoutes = p.compile(tls, TLSRoute)
	case ProtocolOpaque:
		if len(tcp) > 1 {
			policy.Notes = append(policy.Notes, "TCPRoute "+tcp[1].ID.String()+" has no effect: TCPRoute "+tcp[0].ID.String()+" is older")
			tcp = tcp[:1]
		}
		policy.OpaqueRoutes = p.compile(tcp, TCPRoute)
	}
	return policy
}

// beside translates the TLSRoutes of a port that HTTP comes to as well. If there are none, TLS is bytes like others.
func (p *outboundParent) beside(tls []*Route) []OutboundRoute {
	if len(tls) == 0 {
		return nil
	}
	return p.compile(tls, TLSRoute)
}

// compile translates routes of one kind and adds the parent's default.
func (p *outboundParent) compile(routes []*Route, kind RouteKind) []OutboundRoute {
	var list []OutboundRoute
	for _, route := range routes {
		list = append(list, p.route(route))
	}
	if byDefault := p.defaultRoute(kind, len(routes) > 0); byDefault != nil {
		list = append(list, *byDefault)
	}
	return list
}

// defaultRoute returns the route for what no route of the user's selects, or nil. Source: proxy API chapter, section 6.5.
func (p *outboundParent) defaultRoute(kind RouteKind, hasRoutes bool) *OutboundRoute {
	route := &OutboundRoute{Rules: []OutboundRule{{Backends: Distribution{Backends: []Backend{p.defaultBackend()}}}}}
	rule := &route.Rules[0]
	timeouts := p.traffic.Timeouts.timeouts()
	switch kind {
	case HTTPRoute:
		rule.HTTP = []HTTPMatch{{PathMatch: PathPrefix, Path: "/"}}
		rule.Timeouts, rule.Retry = &timeouts, p.traffic.HTTPRetry.retry()
	case GRPCRoute:
		rule.GRPC = []GRPCMatch{{}}
		rule.Timeouts, rule.Retry = &timeouts, p.traffic.GRPCRetry.retry()
	}
	rule.Filters = p.traffic.Faults.filters(kind, p.who())
	if p.parent.Kind == ParentService {
		switch {
		case kind == HTTPRoute && !hasRoutes:
			route.Ref.Default = nameHTTP
		case kind == TCPRoute && !hasRoutes:
			route.Ref.Default = nameOpaque
		default:
			return nil
		}
		return route
	}
	if kind == TCPRoute && hasRoutes {
		return nil
	}
	prefix := map[RouteKind]string{HTTPRoute: "http", GRPCRoute: "grpc", TLSRoute: "tls", TCPRoute: "tcp"}[kind]
	if p.allow {
		route.Ref.Default = prefix + "-egress-allow"
		return route
	}
	route.Ref.Default = prefix + "-egress-deny"
	switch kind {
	case HTTPRoute, GRPCRoute:
		rule.Filters = []Filter{{Fail: &Failure{Status: 403, Code: codePermissionDenied, Message: denied}}}
	default:
		rule.Filters = []Filter{{Forbidden: true}}
	}
	return route
}

// defaultBackend is the parent itself.
func (p *outboundParent) defaultBackend() Backend {
	if p.parent.Kind == ParentEgressNetwork {
		return Backend{Ref: p.ref, Forward: p.target.Addr, Queue: p.traffic.Queue}
	}
	backend := Backend{Ref: p.ref, Path: p.path(p.target.ID, p.target.Port), Queue: p.traffic.Queue, Affinity: p.traffic.Affinity}
	if p.app != AppOpaque {
		backend.Biaser = p.traffic.Biaser
	}
	return backend
}

// path is the name under which the endpoints of a Service's port are found.
func (c *Config) path(id ID, port uint16) string {
	return id.Name + "." + id.Namespace + ".svc." + c.ClusterDomain + ":" + strconv.Itoa(int(port))
}

// path is where the endpoints of a backend are found. To a client that asks for one instance of a Service the Service is that
// instance, also as a backend of its own routes; other Services are whole.
func (p *outboundParent) path(id ID, port uint16) string {
	path := p.config.path(id, port)
	if p.target.Instance != "" && id == p.target.ID {
		path = p.target.Instance + "." + path
	}
	return path
}

func (p *outboundParent) route(route *Route) OutboundRoute {
	compiled := OutboundRoute{
		Ref:   Ref{Group: route.Group, Kind: string(route.Kind), Namespace: route.Namespace, Name: route.Name},
		Hosts: route.Hosts,
	}
	for _, rule := range route.Rules {
		compiled.Rules = append(compiled.Rules, p.rule(route, rule))
	}
	return compiled
}

// rule compiles one rule. Source: proxy API chapter, sections 6.7 and 6.8.
func (p *outboundParent) rule(route *Route, rule Rule) OutboundRule {
	compiled := OutboundRule{HTTP: rule.HTTP, GRPC: rule.GRPC, Filters: p.filters(route, rule.Filters), AttemptTimeout: rule.AttemptTimeout}
	if route.Kind == HTTPRoute || route.Kind == GRPCRoute {
		// The route's annotations go before the rule's own timeout, and both before what the parent says, field by field.
		own := route.Timeouts.over(TimeoutSettings{Request: rule.Timeout})
		timeouts := own.over(p.traffic.Timeouts).timeouts()
		retry := p.traffic.HTTPRetry
		if route.Kind == GRPCRoute {
			retry = p.traffic.GRPCRetry
		}
		compiled.Timeouts, compiled.Retry = &timeouts, route.Retry.over(retry).retry()
		compiled.AllowRequestHeaders = p.config.AllowRequestHeaders
		faults := p.traffic.Faults.filters(route.Kind, p.who())
		if route.Faults != nil {
			faults = route.Faults.filters(route.Kind, route.who())
		}
		compiled.Filters = append(faults, compiled.Filters...)
	}
	if len(rule.Backends) == 0 {
		compiled.Backends.Backends = []Backend{p.defaultBackend()}
		return compiled
	}
	compiled.Backends.Random = true
	for _, ref := range rule.Backends {
		backend := p.backend(route, ref)
		if route.Kind == TLSRoute || route.Kind == TCPRoute {
			backend.Biaser = nil
		}
		compiled.Backends.Backends = append(compiled.Backends.Backends, backend)
	}
	return compiled
}

// filters compiles filters: mirrors get their backends, and one whose backend cannot be used is left out, since nobody waits
// for what it answers.
func (p *outboundParent) filters(route *Route, list []Filter) []Filter {
	if !slices.ContainsFunc(list, func(f Filter) bool { return f.Mirror != nil }) {
		return list
	}
	var compiled []Filter
	for _, f := range list {
		if f.Mirror != nil {
			backend := p.backend(route, f.Mirror.To)
			if backend.Invalid != "" {
				continue
			}
			mirror := *f.Mirror
			mirror.Backend = &backend
			f.Mirror = &mirror
		}
		compiled = append(compiled, f)
	}
	return compiled
}

// backend compiles a route's reference. What cannot be used keeps its weight and refuses what it gets, so that a mistake in one
// reference does not send its share elsewhere.
func (p *outboundParent) backend(route *Route, ref BackendRef) Backend {
	backend := Backend{Weight: ref.Weight, Filters: p.filters(route, ref.Filters)}
	if ref.Invalid != "" {
		backend.Ref, backend.Invalid, backend.Filters = Ref{Default: nameInvalid}, ref.Invalid, nil
		return backend
	}
	id := ref.ID
	if id.Namespace == "" {
		// The Gateway API means the route's namespace, but consumer routes in the field count on this. It asks for no grant:
		// who sends to the parent sends to its namespace anyway.
		id.Namespace = p.parent.Namespace
	}
	refuse := func(r Ref, message string) Backend {
		backend.Ref, backend.Invalid, backend.Filters = r, message, nil
		return backend
	}
	if ref.Kind == BackendService {
		backend.Ref = serviceRef(id, ref.Port)
		if p.lookup.Service(id) == nil {
			return refuse(backend.Ref, "Service not found "+id.Name)
		}
		if ref.ID.Namespace != "" && !Permitted(p.lookup.ReferenceGrants(id.Namespace), route.Granted(), id) {
			return refuse(backend.Ref, "Service "+id.String()+" not permitted by any ReferenceGrant of its namespace")
		}
		backend.Path, backend.Biaser, backend.Queue = p.path(id, ref.Port), p.traffic.Biaser, p.traffic.Queue
		backend.Affinity = p.traffic.Affinity
		return backend
	}
	port := ref.Port
	if port == 0 {
		port = p.target.Port
	}
	backend.Ref = egressRef(id, port)
	switch {
	case p.lookup.EgressNetwork(id) == nil:
		return refuse(backend.Ref, "EgressNetwork not found "+id.Name)
	case p.parent.Kind != ParentEgressNetwork:
		return refuse(backend.Ref, "EgressNetwork backends attach to EgressNetwork parents only")
	case p.parent.ID != id:
		return refuse(backend.Ref, "Route with EgressNetwork backend needs to have the same EgressNetwork as a parent")
	case !p.target.Addr.IsValid():
		return refuse(backend.Ref, "EgressNetwork can be resolved from an ip:port combo only")
	}
	backend.Forward, backend.Queue = p.target.Addr, p.traffic.Queue
	return backend
}
