package model

import (
	"net/netip"
	"time"
)

// Protocol says how a port's or target's bytes are to be taken.
type Protocol uint8

// The protocols.
const (
	ProtocolDetect Protocol = iota + 1
	ProtocolHTTP1
	ProtocolHTTP2
	ProtocolGRPC
	ProtocolOpaque
	ProtocolTLS
)

// String is for logs and the protocol label of detection metrics.
func (p Protocol) String() string {
	switch p {
	case ProtocolDetect:
		return "detect"
	case ProtocolHTTP1:
		return "http/1"
	case ProtocolHTTP2:
		return "http/2"
	case ProtocolGRPC:
		return "grpc"
	case ProtocolOpaque:
		return "opaq"
	case ProtocolTLS:
		return "tls"
	}
	return "unknown"
}

// IsHTTP reports whether traffic is HTTP without detection.
func (p Protocol) IsHTTP() bool {
	return p == ProtocolHTTP1 || p == ProtocolHTTP2 || p == ProtocolGRPC
}

// ServerPolicy is the policy of one inbound port.
type ServerPolicy struct {
	// Meta is the server: its labels group, kind and name.
	Meta Meta
	// Protocol is what the port speaks.
	Protocol Protocol
	// DetectTimeout limits detection, set with ProtocolDetect only.
	DetectTimeout time.Duration
	// Routes is used with Detect, HTTP1, HTTP2 and GRPC, never empty there.
	Routes Routes
	// Authorizations apply to TCP connections, and to HTTP requests after
	// the route's own.
	Authorizations []Authorization
	// RateLimit is nil for none.
	RateLimit *RateLimit
	// Invalid is why the policy that was received cannot be used; the fields
	// above are then those of InvalidServerPolicy.
	Invalid string
}

// Authorization permits clients by network and identity.
type Authorization struct {
	Meta     Meta
	Networks []Network
	Authn    Authentication
}

// Network is an address range with exceptions.
type Network struct {
	Net    netip.Prefix
	Except []netip.Prefix
}

// Contains reports whether a, IPv4-mapped or not, is in the network and in
// none of the exceptions.
func (n *Network) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !n.Net.Contains(a) {
		return false
	}
	for _, e := range n.Except {
		if e.Contains(a) {
			return false
		}
	}
	return true
}

// AuthnKind says what a client has to prove.
type AuthnKind uint8

// The kinds of authentication.
const (
	// AuthnNone: anybody.
	AuthnNone AuthnKind = iota + 1
	// AuthnTLS: mesh TLS, with or without a client identity.
	AuthnTLS
	// AuthnIdentity: mesh TLS with one of Identities or Suffixes.
	AuthnIdentity
)

// Authentication is what a client has to prove.
type Authentication struct {
	Kind AuthnKind
	// Identities match exactly.
	Identities []Identity
	// Suffixes match proper subdomains: "a.b" matches "x.a.b", and SPIFFE IDs of
	// the trust domain "x.a.b"; the empty suffix matches every identity. Upstream's
	// match DNS-like identities alone.
	Suffixes []string
}

// RateLimit limits the requests of an HTTP port. Limits are requests per
// second, 0 for unlimited (proxy chapter, section 9.5).
type RateLimit struct {
	Meta Meta
	// Total is the limit of all clients together.
	Total uint32
	// Identity is the limit of each client identity.
	Identity uint32
	// Overrides replace Identity for the clients they name.
	Overrides []RateOverride
	// Burst is for how long what a limit lets through adds up while it is not
	// used, to come at once; 0 is a second.
	Burst time.Duration
	// Shared says that the limits are this proxy's share of those of several, and
	// that their numbers change with how many there are.
	Shared bool
}

// RateOverride is the limit that its clients share.
type RateOverride struct {
	Limit   uint32
	Clients []Identity
}

// DefaultPolicy is the value of LINKERD2_PROXY_INBOUND_DEFAULT_POLICY (proxy
// chapter, section 9.2).
type DefaultPolicy string

// The default policies.
const (
	AllUnauthenticated     DefaultPolicy = "all-unauthenticated"
	AllAuthenticated       DefaultPolicy = "all-authenticated"
	ClusterUnauthenticated DefaultPolicy = "cluster-unauthenticated"
	ClusterAuthenticated   DefaultPolicy = "cluster-authenticated"
	AuditPolicy            DefaultPolicy = "audit"
	DenyPolicy             DefaultPolicy = "deny"
)

// AuditName is the name of authorizations that log each use.
const AuditName = string(AuditPolicy)

// AnyNetworks are all addresses.
func AnyNetworks() []Network {
	return []Network{{Net: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}, {Net: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}
}

// DefaultServerPolicy is the policy of a port for which none was received yet
// (proxy chapter, sections 9.1 and 9.2). opaque ports are not sniffed.
func DefaultServerPolicy(p DefaultPolicy, cluster []netip.Prefix, detect time.Duration, opaque bool) *ServerPolicy {
	s := &ServerPolicy{
		Meta:          Default(string(p)),
		Protocol:      ProtocolDetect,
		DetectTimeout: detect,
		Routes:        DefaultRoutes(),
	}
	networks := AnyNetworks()
	if p == ClusterUnauthenticated || p == ClusterAuthenticated {
		networks = nil
		for _, n := range cluster {
			networks = append(networks, Network{Net: n})
		}
	}
	switch p {
	case DenyPolicy:
		opaque = true
	case AllAuthenticated, ClusterAuthenticated:
		s.Authorizations = []Authorization{{
			Meta: Default(string(p)), Networks: networks,
			// The empty suffix: any DNS-like identity, no SPIFFE ones.
			Authn: Authentication{Kind: AuthnIdentity, Suffixes: []string{""}},
		}}
	default:
		s.Authorizations = []Authorization{{
			Meta: Default(string(p)), Networks: networks, Authn: Authentication{Kind: AuthnNone},
		}}
	}
	if opaque {
		s.Protocol, s.DetectTimeout, s.Routes = ProtocolOpaque, 0, Routes{}
	}
	return s
}

// DefaultRoutes is the one route that matches everything, for ports without
// routes of their own.
func DefaultRoutes() Routes {
	return Routes{List: []Route{{
		Meta:  Default("default"),
		Rules: []Rule{{Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/"}}}}},
	}}}
}

// LocalhostAuthorization permits clients on the loopback interface. It is
// appended to the authorizations of every policy that is received.
func LocalhostAuthorization() Authorization {
	return Authorization{
		Meta: Default(DefaultLocalhost),
		Networks: []Network{
			{Net: netip.MustParsePrefix("127.0.0.1/32")},
			{Net: netip.MustParsePrefix("::1/128")},
		},
		Authn: Authentication{Kind: AuthnNone},
	}
}

// InvalidServerPolicy stands in for a policy that failed validation: nobody is
// authorized, not even localhost, and HTTP requests get to hear why.
func InvalidServerPolicy(detect time.Duration, reason string) *ServerPolicy {
	return &ServerPolicy{
		Meta:          Default(DefaultInvalid),
		Protocol:      ProtocolDetect,
		DetectTimeout: detect,
		Routes:        DefaultRoutes(),
		Invalid:       reason,
	}
}
