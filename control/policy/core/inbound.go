package core

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Protocol is how a proxy treats connections.
type Protocol string

// The protocols.
const (
	ProtocolDetect Protocol = "detect"
	ProtocolHTTP1  Protocol = "http1"
	ProtocolHTTP2  Protocol = "http2"
	ProtocolGRPC   Protocol = "grpc"
	ProtocolOpaque Protocol = "opaque"
	ProtocolTLS    Protocol = "tls"
)

// Ref names what a part of a policy comes from: a resource, or what is there without one.
type Ref struct {
	// Default is the name of what is there without a resource; the other fields are then empty.
	Default                      string
	Group, Kind, Namespace, Name string
	Port                         uint16
}

// InboundServer is what a proxy lets in at a port.
type InboundServer struct {
	Ref      Ref
	Protocol Protocol
	// Authorizations apply to all that comes in.
	Authorizations []Authorization
	// HTTPRoutes are set for ProtocolDetect, ProtocolHTTP1 and ProtocolHTTP2, GRPCRoutes for ProtocolGRPC.
	HTTPRoutes, GRPCRoutes []InboundRoute
	// RateLimit is nil if there is none.
	RateLimit *RateLimit
	// Notes are what an operator should know: what was left out, and why.
	Notes []string
}

// InboundRoute is a route of an InboundServer.
type InboundRoute struct {
	Ref   Ref
	Hosts []Host
	Rules []Rule
	// Authorizations are added to those of the server.
	Authorizations []Authorization
}

// Authorization permits clients.
type Authorization struct {
	Ref      Ref
	Networks []Network
	Clients  Clients
}

// NameProbe is the name of the route and the authorization of the kubelet's probes.
const NameProbe = "probe"

// NameDefault is the name of the route to what no other route selects.
const NameDefault = "default"

var allNetworks = []Network{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}, {CIDR: netip.MustParsePrefix("::/0")}}

func networks(prefixes []netip.Prefix) []Network {
	list := make([]Network, len(prefixes))
	for i, prefix := range prefixes {
		list[i].CIDR = prefix
	}
	return list
}

// Selecting returns the Servers for a port of a workload. The first is in force, the others have no effect. Source: proxy API
// chapter, section 5.4.
func Selecting(lookup interface {
	Servers(namespace string) []*Server
}, w *Workload, port uint16) []*Server {
	var selecting []*Server
	for _, s := range lookup.Servers(w.Namespace) {
		if s.For(w) && s.ForPort(w, port) {
			selecting = append(selecting, s)
		}
	}
	slices.SortFunc(selecting, func(a, b *Server) int { return compareAge(a.Object, b.Object) })
	return selecting
}

// Overlaps says which Servers are for ports that a Server, which need not be among them yet, selects. One of its own name is
// left out: it is the Server as it was.
func Overlaps(lookup interface {
	Servers(namespace string) []*Server
}, workloads []*Workload, s *Server) []string {
	var list []string
	for _, w := range workloads {
		if !s.For(w) {
			continue
		}
		for _, port := range s.Ports(w) {
			for _, other := range Selecting(lookup, w, port) {
				if other.Name == s.Name {
					continue
				}
				text := fmt.Sprintf("Server %s is for port %d of the same pods, and in force there, for it is older", other.ID, port)
				if compareAge(s.Object, other.Object) < 0 {
					text = fmt.Sprintf("Server %s is for port %d of the same pods, and has no effect there, for it is younger", other.ID, port)
				}
				if !slices.Contains(list, text) {
					list = append(list, text)
				}
			}
		}
	}
	slices.Sort(list)
	return list
}

// Inbound decides what the proxy of a workload lets in at a port. Source: proxy API chapter, section 5.
func (c *Config) Inbound(lookup Lookup, w *Workload, port uint16) *InboundServer {
	selecting := Selecting(lookup, w, port)
	if len(selecting) == 0 {
		return c.defaultServer(w, port)
	}
	compiled := c.server(lookup, selecting[0], w, port)
	for _, s := range selecting[1:] {
		compiled.Notes = append(compiled.Notes, fmt.Sprintf("Server %s has no effect on port %d of %s: Server %s is older", s.ID, port, w.ID, selecting[0].ID))
	}
	return compiled
}

// defaultServer is what applies to a port that no Server selects. Source: proxy API chapter, section 5.3.
func (c *Config) defaultServer(w *Workload, port uint16) *InboundServer {
	policy := cmp.Or(w.DefaultPolicy, c.DefaultPolicy)
	if w.RequireIdentity.Has(port) {
		policy = policy.authenticated()
	}
	server := &InboundServer{
		Ref:            Ref{Default: string(policy)},
		Protocol:       ProtocolDetect,
		Authorizations: c.defaultAuthorizations(policy),
	}
	if w.Opaque.Has(port) {
		server.Protocol = ProtocolOpaque
	} else {
		server.HTTPRoutes = c.defaultRoutes(w, port)
	}
	return server
}

// defaultAuthorizations are what a default policy permits.
func (c *Config) defaultAuthorizations(policy DefaultPolicy) []Authorization {
	authorization := Authorization{Ref: Ref{Default: string(policy)}, Networks: allNetworks}
	switch policy {
	case AllUnauthenticated, Audit:
	case AllAuthenticated:
		authorization.Clients = Clients{TLS: true, Identities: []string{"*"}}
	case ClusterUnauthenticated:
		authorization.Networks = networks(c.ClusterNetworks)
	case ClusterAuthenticated:
		authorization.Networks = networks(c.ClusterNetworks)
		authorization.Clients = Clients{TLS: true, Identities: []string{"*"}}
	default:
		return nil
	}
	return []Authorization{authorization}
}

// defaultRoutes are the HTTP routes of a server that no route is attached to.
func (c *Config) defaultRoutes(w *Workload, port uint16) []InboundRoute {
	routes := []InboundRoute{{
		Ref:   Ref{Default: NameDefault},
		Rules: []Rule{{HTTP: []HTTPMatch{{PathMatch: PathPrefix, Path: "/"}}}},
	}}
	probe := c.probes()
	for _, path := range w.Probes[port] {
		probe.Rules[0].HTTP = append(probe.Rules[0].HTTP, HTTPMatch{PathMatch: PathExact, Path: path, Method: http.MethodGet})
	}
	if w.HealthChecks[port] {
		probe.Rules[0].HTTP = append(probe.Rules[0].HTTP, HTTPMatch{
			PathMatch: PathExact, Path: "/" + healthService + "/" + healthMethod, Method: http.MethodPost,
		})
	}
	return c.withProbes(routes, probe)
}

// defaultCalls are the gRPC routes of a server that no route is attached to.
func (c *Config) defaultCalls(w *Workload, port uint16) []InboundRoute {
	routes := []InboundRoute{{Ref: Ref{Default: NameDefault}, Rules: []Rule{{GRPC: []GRPCMatch{{}}}}}}
	probe := c.probes()
	if w.HealthChecks[port] {
		probe.Rules[0].GRPC = []GRPCMatch{{Service: healthService, Method: healthMethod}}
	}
	return c.withProbes(routes, probe)
}

// What the kubelet calls to ask about health by gRPC. Source: gRPC's health checking protocol.
const (
	healthService = "grpc.health.v1.Health"
	healthMethod  = "Check"
)

// probes is the route of the kubelet's probes, without any yet. Probes by TCP need none: their connections are accepted
// before anything is decided about them.
func (c *Config) probes() InboundRoute {
	return InboundRoute{
		Ref:            Ref{Default: NameProbe},
		Rules:          []Rule{{}},
		Authorizations: []Authorization{{Ref: Ref{Default: NameProbe}, Networks: networks(c.ProbeNetworks)}},
	}
}

// withProbes adds the route of the probes, if there are any and it is known where they come from.
func (c *Config) withProbes(routes []InboundRoute, probe InboundRoute) []InboundRoute {
	if len(probe.Rules[0].HTTP)+len(probe.Rules[0].GRPC) == 0 || len(c.ProbeNetworks) == 0 {
		return routes
	}
	return append(routes, probe)
}

// server is what a Server makes of a port of a workload. Source: proxy API chapter, section 5.4.
func (c *Config) server(lookup Lookup, s *Server, w *Workload, port uint16) *InboundServer {
	compiled := &InboundServer{
		Ref:      Ref{Group: GroupPolicy, Kind: "server", Name: s.Name},
		Protocol: s.Protocol,
	}
	permits := newPermits(c, lookup, s.Namespace, compiled)
	compiled.Authorizations = permits.server(s)
	routes := lookup.RoutesOf(Parent{ParentServer, s.ID})
	switch s.Protocol {
	case ProtocolDetect, ProtocolHTTP1, ProtocolHTTP2:
		compiled.HTTPRoutes = permits.routes(s, routes, HTTPRoute)
		if len(compiled.HTTPRoutes) == 0 {
			compiled.HTTPRoutes = c.defaultRoutes(w, port)
		}
		compiled.RateLimit = rateLimit(lookup, s)
	case ProtocolGRPC:
		compiled.RateLimit = rateLimit(lookup, s)
		compiled.GRPCRoutes = permits.routes(s, routes, GRPCRoute)
		if len(compiled.GRPCRoutes) == 0 {
			compiled.GRPCRoutes = c.defaultCalls(w, port)
		}
	}
	return compiled
}

// rateLimit finds the limit that is in force at a Server. Source: proxy API chapter, section 5.7.
func rateLimit(lookup Lookup, s *Server) *RateLimit {
	var found *RateLimit
	for _, limit := range lookup.RateLimits(s.Namespace) {
		if limit.Server == s.Name && limit.Accepted && (found == nil || compareAge(limit.Object, found.Object) < 0) {
			found = limit
		}
	}
	if found == nil || !found.Shared {
		return found
	}
	shared := *found
	shared.Replicas = max(lookup.ReadyWorkloads(s), 1)
	return &shared
}

// permits translates the authorizations of one namespace for one server.
type permits struct {
	config         *Config
	lookup         Lookup
	namespace      string
	authorizations []*ServerAuthorization
	policies       []*AuthorizationPolicy
	compiled       *InboundServer // takes the notes
}

func newPermits(c *Config, lookup Lookup, namespace string, compiled *InboundServer) *permits {
	byName := func(a, b Object) int { return cmp.Compare(a.Name, b.Name) }
	return &permits{
		config:    c,
		lookup:    lookup,
		namespace: namespace,
		authorizations: slices.SortedFunc(slices.Values(lookup.ServerAuthorizations(namespace)), func(a, b *ServerAuthorization) int {
			return byName(a.Object, b.Object)
		}),
		policies: slices.SortedFunc(slices.Values(lookup.AuthorizationPolicies(namespace)), func(a, b *AuthorizationPolicy) int {
			return byName(a.Object, b.Object)
		}),
		compiled: compiled,
	}
}

// server returns what is permitted at a Server as a whole. Source: proxy API chapter, section 5.6.
func (p *permits) server(s *Server) []Authorization {
	var list []Authorization
	for _, a := range p.authorizations {
		if !a.For(s) {
			continue
		}
		allowed := a.Networks
		if len(allowed) == 0 {
			allowed = networks(p.config.ClusterNetworks)
		}
		list = append(list, Authorization{
			Ref:      Ref{Group: GroupPolicy, Kind: "serverauthorization", Name: a.Name},
			Networks: allowed,
			Clients:  a.Clients,
		})
	}
	for _, policy := range p.policies {
		if policy.For(s) {
			list = p.add(list, policy)
		}
	}
	return append(list, p.config.defaultAuthorizations(s.AccessPolicy)...)
}

// add appends what a policy permits, or notes why it permits nothing.
func (p *permits) add(list []Authorization, policy *AuthorizationPolicy) []Authorization {
	authorization := Authorization{
		Ref:      Ref{Group: GroupPolicy, Kind: "authorizationpolicy", Name: policy.Name},
		Networks: allNetworks,
	}
	ignored := func(kind string, id ID) []Authorization {
		p.compiled.Notes = append(p.compiled.Notes, fmt.Sprintf("AuthorizationPolicy %s has no effect: there is no %s %s", policy.ID, kind, id))
		return list
	}
	switch {
	case policy.MeshTLS != nil:
		authentication := p.lookup.MeshTLSAuthentication(*policy.MeshTLS)
		if authentication == nil {
			return ignored("MeshTLSAuthentication", *policy.MeshTLS)
		}
		authorization.Clients = Clients{TLS: true, Identities: authentication.Identities}
	case policy.ServiceAccount != nil:
		identity := p.config.ServiceAccountIdentity(*policy.ServiceAccount)
		authorization.Clients = Clients{TLS: true, Identities: []string{identity}}
	}
	if policy.Network != nil {
		authentication := p.lookup.NetworkAuthentication(*policy.Network)
		if authentication == nil {
			return ignored("NetworkAuthentication", *policy.Network)
		}
		authorization.Networks = authentication.Networks
	}
	return append(list, authorization)
}

// routes returns the routes of a kind that are in force at a Server. Source: proxy API chapter, section 5.5.
func (p *permits) routes(s *Server, all []*Route, kind RouteKind) []InboundRoute {
	var list []InboundRoute
	for _, route := range SortRoutes(all) {
		if route.Kind != kind || route.Namespace != s.Namespace || !route.Attached(Parent{ParentServer, s.ID}, 0) {
			continue
		}
		if route.NotInbound != "" {
			p.compiled.Notes = append(p.compiled.Notes, fmt.Sprintf("%s %s has no effect: %s", kind, route.ID, route.NotInbound))
			continue
		}
		compiled := InboundRoute{
			Ref:   Ref{Group: route.Group, Kind: string(kind), Name: route.Name},
			Hosts: route.Hosts,
			Rules: route.faulty(),
		}
		for _, policy := range p.policies {
			if policy.ForRoute(route) {
				compiled.Authorizations = p.add(compiled.Authorizations, policy)
			}
		}
		list = append(list, compiled)
	}
	return list
}

// SortRoutes returns the routes in the order in which proxies try them.
func SortRoutes(routes []*Route) []*Route {
	return slices.SortedFunc(slices.Values(routes), func(a, b *Route) int {
		switch {
		case a.Created.IsZero() != b.Created.IsZero(), !a.Created.Equal(b.Created):
			return compareAge(a.Object, b.Object)
		}
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind), compareAge(a.Object, b.Object))
	})
}

// ServiceAccountIdentity returns the mesh identity of a ServiceAccount.
func (c *Config) ServiceAccountIdentity(account ID) string {
	return names.ServiceAccountIdentity(account.Name, account.Namespace, c.ControllerNamespace, c.TrustDomain)
}

// NamespaceIdentity returns the identities of all ServiceAccounts of a namespace.
func (c *Config) NamespaceIdentity(namespace string) string {
	return names.NamespaceIdentity(namespace, c.ControllerNamespace, c.TrustDomain)
}

// SplitIdentity reads an identity as users write it: either a whole name, or the labels of a suffix, none for `*`. Source:
// proxy API chapter, section 5.6.
func SplitIdentity(identity string) (name string, suffix []string, isSuffix bool) {
	if identity == "*" {
		return "", nil, true
	}
	if rest, ok := strings.CutPrefix(identity, "*."); ok {
		return "", strings.Split(rest, "."), true
	}
	return identity, nil, false
}
