package core

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// ID names an object of a kind.
type ID struct{ Namespace, Name string }

// String returns namespace/name.
func (id ID) String() string { return id.Namespace + "/" + id.Name }

// Object is what all sources have.
type Object struct {
	ID
	// Created is zero if it is not known, which sorts last.
	Created time.Time
}

// compareAge puts older objects first, those of unknown age last, and then goes by namespace and name.
func compareAge(a, b Object) int {
	switch {
	case a.Created.IsZero() != b.Created.IsZero():
		if a.Created.IsZero() {
			return 1
		}
		return -1
	case !a.Created.Equal(b.Created):
		return a.Created.Compare(b.Created)
	}
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// Network is a block of addresses with holes.
type Network struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Contains reports whether an address is in the block and in none of its holes.
func (n Network) Contains(addr netip.Addr) bool {
	return n.CIDR.Contains(addr) && !slices.ContainsFunc(n.Except, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Workload is a meshed pod or an external workload.
type Workload struct {
	ID
	// External is true for external workloads.
	External bool
	Labels   labels.Set
	// Named are the numbers of the TCP ports by name. Containers of one pod may use a name more than once.
	Named map[string][]uint16
	// Opaque are the ports to treat as opaque where no Server says otherwise.
	Opaque portlist.Set
	// RequireIdentity are the ports whose default policy asks for an identity.
	RequireIdentity portlist.Set
	// DefaultPolicy is what the workload's annotation says, or empty.
	DefaultPolicy DefaultPolicy
	// Probes are the sorted paths of the HTTP probes of each port, HealthChecks the ports with probes by gRPC.
	Probes       map[uint16][]string
	HealthChecks map[uint16]bool
	// Ready says that clients are sent to it.
	Ready bool
}

// Server selects a port of workloads.
type Server struct {
	Object
	Labels labels.Set
	// Pods or Externals selects workloads; the other one is nil.
	Pods, Externals labels.Selector
	// Port is the number, or 0 if PortName is set.
	Port     uint16
	PortName string
	Protocol Protocol
	// AccessPolicy is empty if it is not known, which permits nobody.
	AccessPolicy DefaultPolicy
}

// For reports whether the Server is for a workload of its namespace.
func (s *Server) For(w *Workload) bool {
	selector := s.Pods
	if w.External {
		selector = s.Externals
	}
	return selector != nil && selector.Matches(w.Labels)
}

// ForPort reports whether the Server is for a port of the workloads that it is for.
func (s *Server) ForPort(w *Workload, port uint16) bool {
	return slices.Contains(s.Ports(w), port)
}

// Ports returns the ports of a workload, which the Server is for, that it selects.
func (s *Server) Ports(w *Workload) []uint16 {
	if s.PortName != "" {
		return w.Named[s.PortName]
	}
	return []uint16{s.Port}
}

// Clients are who a policy is about.
type Clients struct {
	// TLS asks for mesh TLS.
	TLS bool
	// Anonymous, with TLS, does not ask for an identity.
	Anonymous bool
	// Identities are those that clients may have, as users write them: whole names, `*` or `*.` and a suffix.
	Identities []string
}

// ServerAuthorization permits clients to connect to Servers of its namespace.
type ServerAuthorization struct {
	Object
	// ServerName or ServerLabels says which Servers.
	ServerName   string
	ServerLabels labels.Selector
	// Networks are where clients may be; none means the cluster.
	Networks []Network
	Clients  Clients
}

// For reports whether the authorization is for a Server of its namespace.
func (a *ServerAuthorization) For(s *Server) bool {
	if a.ServerName != "" {
		return a.ServerName == s.Name
	}
	return a.ServerLabels != nil && a.ServerLabels.Matches(s.Labels)
}

// TargetKind is the kind of object that a policy is attached to.
type TargetKind string

// The kinds that an AuthorizationPolicy may be attached to.
const (
	TargetServer           TargetKind = "Server"
	TargetNamespace        TargetKind = "Namespace"
	TargetPolicyHTTPRoute  TargetKind = "HTTPRoute.policy.linkerd.io"
	TargetGatewayHTTPRoute TargetKind = "HTTPRoute.gateway.networking.k8s.io"
	TargetGRPCRoute        TargetKind = "GRPCRoute"
)

// AuthorizationPolicy permits clients that satisfy all it refers to.
type AuthorizationPolicy struct {
	Object
	Target     TargetKind
	TargetName string
	// MeshTLS, ServiceAccount and Network are what clients have to satisfy; at most one of the first two is set.
	MeshTLS, ServiceAccount, Network *ID
}

// For reports whether the policy is for all that comes in at a Server of its namespace. A policy can only be about its own
// namespace, so that the name of a target Namespace says nothing.
func (p *AuthorizationPolicy) For(s *Server) bool {
	return p.Target == TargetNamespace || p.Target == TargetServer && p.TargetName == s.Name
}

// ForRoute reports whether the policy is for a route of its namespace.
func (p *AuthorizationPolicy) ForRoute(r *Route) bool {
	return p.Target == r.Target() && p.TargetName == r.Name
}

// MeshTLSAuthentication is a set of identities, as users write them.
type MeshTLSAuthentication struct {
	Object
	Identities []string
}

// NetworkAuthentication is a set of networks.
type NetworkAuthentication struct {
	Object
	Networks []Network
}

// RateLimit limits the requests that each proxy of a Server lets in.
type RateLimit struct {
	Object
	Server   string
	Accepted bool
	// Total and Identity are requests per second; 0 is no limit.
	Total, Identity uint32
	Overrides       []RateOverride
	// Burst is for how long what is not used up adds up to what may come at once; 0 is left to the proxies.
	Burst time.Duration
	// Shared says that the limits are for all workloads of the Server together. Replicas is then how many of them are ready,
	// at least 1, in what was decided; else 0.
	Shared   bool
	Replicas uint32
}

// Share returns what one proxy lets in of a limit, rounded up so that it is never nothing.
func (l *RateLimit) Share(limit uint32) uint32 {
	if l.Replicas == 0 || limit == 0 {
		return limit
	}
	return (limit-1)/l.Replicas + 1
}

// RateOverride is a rate for particular clients.
type RateOverride struct {
	RequestsPerSecond uint32
	Identities        []string
}

// ParentKind is the kind of object that a route is attached to.
type ParentKind string

// The kinds of parents.
const (
	ParentServer        ParentKind = "Server"
	ParentService       ParentKind = "Service"
	ParentEgressNetwork ParentKind = "EgressNetwork"
)

// Parent names an object that routes are attached to.
type Parent struct {
	Kind ParentKind
	ID
}

// ParentRef is a route's reference to a parent.
type ParentRef struct {
	Parent
	// Port is the parent's port that is meant, or 0 for all.
	Port uint16
	// Accepted is true once the status says that the route is in force there.
	Accepted bool
}

// RouteKind is the protocol of a route.
type RouteKind string

// The kinds of routes, in the order in which they displace each other at a port.
const (
	GRPCRoute RouteKind = "GRPCRoute"
	HTTPRoute RouteKind = "HTTPRoute"
	TLSRoute  RouteKind = "TLSRoute"
	TCPRoute  RouteKind = "TCPRoute"
)

// Groups of the kinds of routes.
const (
	GroupPolicy  = "policy.linkerd.io"
	GroupGateway = "gateway.networking.k8s.io"
	// GroupCore stands for the empty group in what proxies are told.
	GroupCore = "core"
)

// Route is a route of any kind.
type Route struct {
	Object
	Group   string
	Kind    RouteKind
	Parents []ParentRef
	// NotInbound, if not empty, says why the route cannot be in force at Servers.
	NotInbound string
	Hosts      []Host
	Rules      []Rule
	// Timeouts, Retry and Faults are those of the route's annotations. What they do not say is as the parent has it, but for
	// faults, which are the route's own if it has any.
	Timeouts TimeoutSettings
	Retry    RetrySettings
	Faults   *Faults
}

// Target is the kind of the route as the target of a policy.
func (r *Route) Target() TargetKind {
	switch {
	case r.Kind == GRPCRoute:
		return TargetGRPCRoute
	case r.Group == GroupPolicy:
		return TargetPolicyHTTPRoute
	}
	return TargetGatewayHTTPRoute
}

// Granted is the route as ReferenceGrants name it.
func (r *Route) Granted() GrantedRoutes { return GrantedRoutes{r.Group, r.Kind, r.Namespace} }

// Attached reports whether the route is in force at a port of a parent. Port 0 asks for references to the whole parent.
func (r *Route) Attached(parent Parent, port uint16) bool {
	return slices.ContainsFunc(r.Parents, func(p ParentRef) bool {
		return p.Accepted && p.Parent == parent && (p.Port == 0 || p.Port == port)
	})
}

// Host is a name or, with Suffix, all names below it.
type Host struct {
	Name   string
	Suffix bool
}

// Rule says what happens to requests that one of its matches selects. HTTPRoutes have HTTP matches, GRPCRoutes GRPC
// matches, the others none.
type Rule struct {
	HTTP    []HTTPMatch
	GRPC    []GRPCMatch
	Filters []Filter
	// Backends share the requests; none means the parent itself.
	Backends []BackendRef
	// Timeout is the rule's own limit of requests; nil leaves it to the parent, 0 is none.
	Timeout *time.Duration
	// AttemptTimeout is the limit of each attempt at a backend, or 0.
	AttemptTimeout time.Duration
}

// PathMatch says how a path is compared.
type PathMatch string

// The ways to compare a path. Source: proxy API chapter, section 11.
const (
	PathExact  PathMatch = "exact"
	PathPrefix PathMatch = "prefix"
	PathRegex  PathMatch = "regex"
)

// HTTPMatch selects requests; all its conditions must hold.
type HTTPMatch struct {
	// PathMatch is empty if any path will do.
	PathMatch PathMatch
	Path      string
	Headers   []ValueMatch
	Query     []ValueMatch
	// Method is empty if any will do.
	Method string
}

// ValueMatch selects by a header field or a query parameter.
type ValueMatch struct {
	Name, Value string
	Regex       bool
}

// GRPCMatch selects requests by method and header; empty fields match all.
type GRPCMatch struct {
	Service, Method string
	Headers         []ValueMatch
}

// Filter is one step applied to requests: exactly one of its fields is set.
type Filter struct {
	RequestHeaders  *HeaderModifier
	ResponseHeaders *HeaderModifier
	Redirect        *Redirect
	Rewrite         *Rewrite
	CORS            *CORS
	Mirror          *Mirror
	Delay           *Delay
	// Fail answers instead of the backend.
	Fail *Failure
	// Forbidden refuses the connection.
	Forbidden bool
	// Invalid refuses the connection, with the reason.
	Invalid string
}

// Header is a header field.
type Header struct{ Name, Value string }

// HeaderModifier edits header fields: adds, then sets, then removes.
type HeaderModifier struct {
	Add, Set []Header
	Remove   []string
}

// Redirect answers with another location; what is empty is that of the request.
type Redirect struct {
	Scheme, Host string
	Path         PathModifier
	Port         uint16
	Status       uint16
}

// PathModifier changes a path: Full or Prefix, if not empty, replaces all of it or what a prefix match matched.
type PathModifier struct{ Full, Prefix string }

// Rewrite changes the URL that a request goes on with; what is empty is that of the request.
type Rewrite struct {
	Host string
	Path PathModifier
}

// CORS answers the browsers of other origins. The values are those of the Gateway API.
type CORS struct {
	Origins, Methods, Headers, Expose []string
	Credentials                       bool
	MaxAge                            time.Duration
}

// Mirror sends a copy of Numerator out of Denominator requests to another backend.
type Mirror struct {
	To BackendRef
	// Backend is what To refers to, in compiled rules.
	Backend                *Backend
	Numerator, Denominator uint32
}

// Failure is an answer made by the proxy.
type Failure struct {
	// Status is that of HTTP, Code that of gRPC; which one is meant depends on the route.
	Status  uint16
	Code    uint16
	Message string
	// Numerator out of Denominator requests fail; all if both are 0.
	Numerator, Denominator uint32
}

// BackendKind is the kind of a backend.
type BackendKind string

// The kinds of backends.
const (
	BackendService       BackendKind = "Service"
	BackendEgressNetwork BackendKind = "EgressNetwork"
)

// BackendRef is a route's reference to a backend.
type BackendRef struct {
	// Invalid, if not empty, says why the reference cannot be used. Requests to it fail with this message.
	Invalid string
	Kind    BackendKind
	// Namespace is empty for that of the parent.
	ID
	// Port is 0 if it is not set, which only EgressNetworks may do.
	Port    uint16
	Weight  uint32
	Filters []Filter
}

// Timeouts are limits of requests; 0 is none.
type Timeouts struct{ Request, Response, Idle time.Duration }

// Retry says which requests are tried again.
type Retry struct {
	Limit uint16
	// Timeout is that of each attempt, or 0.
	Timeout time.Duration
	// Statuses and Codes are what is retried, for HTTP and gRPC.
	Statuses []StatusRange
	Codes    GRPCCodes
	// MaxRequestBytes is how long the body of a request may be.
	MaxRequestBytes uint32
	// Budget is nil if each request has its own limit alone.
	Budget *RetryBudget
}

// RetryBudget limits the retries of all requests of a rule, in each proxy.
type RetryBudget struct {
	// Percent of the requests may be retried, and MinPerSecond in any case.
	Percent      float64
	MinPerSecond uint32
}

// TimeoutSettings are what annotations say of timeouts: nil is nothing, and 0 is none.
type TimeoutSettings struct{ Request, Response, Idle *time.Duration }

// RetrySettings are what annotations say of retries for one protocol; nil is nothing.
type RetrySettings struct {
	Limit    *uint16
	Timeout  *time.Duration
	Statuses []StatusRange
	Codes    *GRPCCodes
	// MaxRequestBytes is how long the body of a request may be.
	MaxRequestBytes *uint32
	Budget          *RetryBudget
	// Listed says that there is a list of what to retry, be it of another protocol.
	Listed bool
}

// StatusRange is all statuses from First to Last, both included.
type StatusRange struct{ First, Last uint16 }

// GRPCCodes is a set of gRPC codes.
type GRPCCodes struct {
	Cancelled, DeadlineExceeded, ResourceExhausted, Internal, Unavailable bool
}

// Backoff is how long something stays away, growing each time.
type Backoff struct {
	Min, Max time.Duration
	// Jitter is the random share added, as a ratio.
	Jitter float64
	// RetryAfter lets a server's hint lengthen it.
	RetryAfter bool
}

// FailureAccrual says when an endpoint is taken out.
type FailureAccrual struct {
	// MaxFailures is the number of failures in a row; 0 turns that off.
	MaxFailures uint32
	Backoff     Backoff
	// Unified adds the success rate.
	Unified     bool
	Threshold   float64
	Window      time.Duration
	MinRequests uint32
	Ejection    Ejection
}

// LoadBiaser makes failing endpoints look slow.
type LoadBiaser struct{ Penalty, MaxRetryAfter, PenaltyDecay time.Duration }

// Ejection is how many endpoints failure accrual has to leave in: Count, or Percent of all, if that is more.
type Ejection struct{ Count, Percent uint32 }

// Queue is how requests wait for an endpoint; what is 0 is left to the proxies.
type Queue struct {
	Capacity uint32
	Failfast time.Duration
}

// Affinity says which requests go to one endpoint; none does if it says nothing. At most one of the first three is set.
type Affinity struct {
	// Header and Cookie are names; what has the same value belongs together.
	Header, Cookie string
	// Client is for all that a client sends.
	Client bool
	// MaxLoad is how many requests an endpoint may have in flight, in percent of its share; 0 does not bound it.
	MaxLoad uint32
}

// Traffic are the settings of a parent that shape its traffic. Source: proxy API chapter, section 6.8.
type Traffic struct {
	Timeouts  TimeoutSettings
	HTTPRetry RetrySettings
	GRPCRetry RetrySettings
	Faults    *Faults
	Accrual   *FailureAccrual
	Biaser    *LoadBiaser
	Queue     Queue
	Affinity  Affinity
	// Detect is how long the first bytes of a connection are waited for; 0 is left to the proxies.
	Detect time.Duration
}

// AppProtocol is what a Service says that a port speaks.
type AppProtocol string

// What ports may speak. Source: proxy API chapter, section 6.4.
const (
	AppUnset  AppProtocol = ""
	AppHTTP1  AppProtocol = "http1"
	AppHTTP2  AppProtocol = "http2"
	AppOpaque AppProtocol = "opaque"
)

// OpaquePorts is an annotation that lists ports.
type OpaquePorts struct {
	// Present is false if there is no annotation, which means the defaults.
	Present bool
	Ports   portlist.Set
}

// Service is a Service.
type Service struct {
	Object
	// ClusterIPs is empty for headless Services and external names.
	ClusterIPs []netip.Addr
	Ports      map[uint16]AppProtocol
	Opaque     OpaquePorts
	Traffic    Traffic
}

// EgressNetwork is a set of addresses outside the cluster.
type EgressNetwork struct {
	Object
	// Networks is empty for everything outside the cluster.
	Networks []Network
	Allow    bool
	Accepted bool
	Opaque   OpaquePorts
	Traffic  Traffic
}

// ReferenceGrant permits routes of other namespaces to refer to the Services of its own. What it says of other kinds is left
// out.
type ReferenceGrant struct {
	Object
	// From are the routes, To the names of the Services; an empty name is all of them. Neither is empty.
	From []GrantedRoutes
	To   []string
}

// GrantedRoutes are the routes of one kind in one namespace.
type GrantedRoutes struct {
	Group     string
	Kind      RouteKind
	Namespace string
}

// Permits reports whether the grant lets a route refer to a Service of the grant's namespace.
func (g *ReferenceGrant) Permits(from GrantedRoutes, service string) bool {
	return slices.Contains(g.From, from) &&
		slices.ContainsFunc(g.To, func(name string) bool { return name == "" || name == service })
}

// Permitted reports whether routes may refer to a Service of another namespace. grants are those of the Service's namespace.
//
// The Gateway API refuses what no grant permits. Installations that came from before grants were looked at have references
// without any; so the owner of a namespace decides, by making the first grant, that it is closed.
func Permitted(grants []*ReferenceGrant, from GrantedRoutes, service ID) bool {
	return from.Namespace == service.Namespace || len(grants) == 0 ||
		slices.ContainsFunc(grants, func(g *ReferenceGrant) bool { return g.Permits(from, service.Name) })
}

// Lookup finds sources. Lists are in no particular order. What it returns must not be changed.
type Lookup interface {
	Servers(namespace string) []*Server
	ServerAuthorizations(namespace string) []*ServerAuthorization
	AuthorizationPolicies(namespace string) []*AuthorizationPolicy
	RateLimits(namespace string) []*RateLimit
	// ReadyWorkloads returns how many of a Server's are ready.
	ReadyWorkloads(s *Server) uint32
	// MeshTLSAuthentication and NetworkAuthentication return nil if there is none.
	MeshTLSAuthentication(id ID) *MeshTLSAuthentication
	NetworkAuthentication(id ID) *NetworkAuthentication
	// RoutesOf returns the routes that refer to a parent, in force or not.
	RoutesOf(parent Parent) []*Route
	// Service returns nil if there is none.
	Service(id ID) *Service
	// ReferenceGrants returns those of a namespace.
	ReferenceGrants(namespace string) []*ReferenceGrant
	// ServicesAt returns the Services with a cluster IP.
	ServicesAt(addr netip.Addr) []*Service
	// EgressNetwork returns nil if there is none.
	EgressNetwork(id ID) *EgressNetwork
	EgressNetworks(namespace string) []*EgressNetwork
}

// Older reports whether a came before b, or if that is not known, goes before it by name.
func Older(a, b Object) bool { return compareAge(a, b) < 0 }
