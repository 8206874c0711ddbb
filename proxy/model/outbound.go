package model

import (
	"net/netip"
	"strings"
	"time"
)

// ClientPolicy is the policy of one outbound target. Which of HTTP1, HTTP2 and
// TCP are set follows from Protocol:
//
//	Detect        HTTP1, HTTP2, and TCP for what is not HTTP; HTTP2 may be for
//	              gRPC alone
//	HTTP1         HTTP1
//	HTTP2, GRPC   HTTP2
//	Opaque, TLS   TCP
type ClientPolicy struct {
	// Parent is what the target is: a Service, an EgressNetwork, a default.
	Parent   Meta
	Protocol Protocol
	HTTP1    *HTTPPolicy
	HTTP2    *HTTPPolicy
	TCP      *TCPPolicy
	// TLS, if it is not nil, is for connections that are detected not to be
	// HTTP and turn out to be TLS, with a server name that one of its routes is
	// for; TCP is for the others.
	TLS *TCPPolicy
	// Detect limits the detection of HTTP; 0 is the proxy's own configuration.
	Detect time.Duration
	// Invalid is why the policy that was received cannot be used: requests
	// fail with an internal error and connections are closed. Protocol is
	// Detect and the three policies have no routes.
	Invalid string
}

// HTTPPolicy has the routes of an HTTP target.
type HTTPPolicy struct {
	Routes Routes
	// Accrual is the circuit breaker of every endpoint, nil for none.
	Accrual *FailureAccrual
}

// Balancing is how the policy wants balancers to be: what is said of a Service
// is the same for all of its routes. A nil policy has the defaults.
func (p *HTTPPolicy) Balancing() Balancing {
	if p != nil {
		for i := range p.Routes.List {
			for j := range p.Routes.List[i].Rules {
				if b, ok := p.Routes.List[i].Rules[j].Distribution.balancing(); ok {
					return b
				}
			}
		}
	}
	return Balancing{Load: DefaultLoad()}
}

// TCPPolicy has the routes of opaque or TLS traffic: exactly one for opaque,
// any number, told apart by SNI, for TLS.
type TCPPolicy struct{ Routes []TCPRoute }

// Balancing is how the policy wants balancers to be. A nil policy has the
// defaults.
func (p *TCPPolicy) Balancing() Balancing {
	if p != nil {
		for i := range p.Routes {
			if b, ok := p.Routes[i].Distribution.balancing(); ok {
				return b
			}
		}
	}
	return Balancing{Load: DefaultLoad()}
}

// TCPRoute is one route of opaque or TLS traffic.
type TCPRoute struct {
	Meta Meta
	// SNIs the route applies to (TLS only); empty means any.
	SNIs         []HostMatch
	Filters      []Filter
	Distribution Distribution
}

// DistributionKind says how a backend is chosen.
type DistributionKind uint8

// The kinds of distribution (proxy chapter, section 13.1).
const (
	DistributionEmpty DistributionKind = iota
	DistributionFirstAvailable
	DistributionRandomAvailable
)

// Distribution chooses among backends.
type Distribution struct {
	Kind     DistributionKind
	Backends []RouteBackend
}

// balancing is that of the first balancer, if there is one.
func (d *Distribution) balancing() (Balancing, bool) {
	for i := range d.Backends {
		if b := d.Backends[i].Backend; b != nil && b.Kind == BackendBalance {
			return Balancing{b.Load, b.Queue, b.Affinity}, true
		}
	}
	return Balancing{}, false
}

// Balancing is how a balancer measures load, lets requests wait, and keeps
// sessions together.
type Balancing struct {
	Load     Load
	Queue    Queue
	Affinity Affinity
}

// RouteBackend is a backend of a rule.
type RouteBackend struct {
	// Weight counts for random distribution; 0 is never chosen.
	Weight  uint32
	Filters []Filter
	Backend *Backend
}

// BackendKind says how a backend is reached.
type BackendKind uint8

// The kinds of backends.
const (
	// BackendFail fails every request: the control plane named no way.
	BackendFail BackendKind = iota
	// BackendForward sends all to Backend.Forward.
	BackendForward
	// BackendBalance balances over the endpoints of Backend.Path.
	BackendBalance
)

// Backend is a place that requests are distributed to.
type Backend struct {
	Meta Meta
	Kind BackendKind
	// Forward is the single endpoint of BackendForward.
	Forward *Endpoint
	// Path is what endpoints are looked up by, "name:port", for
	// BackendBalance, and Load is how their load is measured.
	Path string
	Load Load
	// Queue is what was asked for of the backend's queue.
	Queue Queue
	// Affinity says which requests of BackendBalance go to one endpoint.
	Affinity Affinity
	// Message is what a failing backend says.
	Message string
}

// AffinityKind says what sessions are.
type AffinityKind uint8

// The kinds of affinity.
const (
	// AffinityNone: every request goes where it is served best.
	AffinityNone AffinityKind = iota
	// AffinityHeader and AffinityCookie: requests with the same value of a header
	// field, or a cookie, belong together.
	AffinityHeader
	AffinityCookie
	// AffinityClient: all that this proxy sends belongs together.
	AffinityClient
)

// Affinity says which requests go to one endpoint, as long as that is ready.
type Affinity struct {
	Kind AffinityKind
	// Name is the header field's, in lower case, or the cookie's.
	Name string
	// MaxLoad is how many requests an endpoint may have in flight, in percent of
	// its share of all, before its sessions go elsewhere; 0 does not bound it.
	MaxLoad uint32
}

// Queue is where requests wait for a backend. Fields that are 0 are the proxy's
// own configuration.
type Queue struct {
	Capacity int
	Failfast time.Duration
}

// Load says how the load of endpoints is estimated (proxy chapter, sections
// 13.3 and 13.4).
type Load struct {
	DefaultRTT, Decay time.Duration
	// Penalize turns the load biaser on, with the following two.
	Penalize               bool
	Penalty, MaxRetryAfter time.Duration
	// PenaltyDecay takes the place of Decay after a penalty; 0 does not.
	PenaltyDecay time.Duration
}

// DefaultLoad is used where no policy gives one, for profiles in particular.
func DefaultLoad() Load { return Load{DefaultRTT: DefaultRTT, Decay: DefaultDecay} }

// BackendKey identifies what a backend connects to: policies that are updated
// keep the balancers whose key is unchanged. It is comparable.
type BackendKey struct {
	Meta  Meta
	Kind  BackendKind
	Path  string
	Load  Load
	Queue Queue
	Stick Affinity
	Addr  netip.AddrPort
	TLS   TLSIdentity
	Hint  Hint
	Port  uint16
	Auth  string
	HTTP2 HTTP2Params
	// Labels are the forward endpoint's, joined.
	Labels string
}

// Key returns the backend's key.
func (b *Backend) Key() BackendKey {
	k := BackendKey{Meta: b.Meta, Kind: b.Kind, Path: b.Path, Load: b.Load, Queue: b.Queue, Stick: b.Affinity}
	if e := b.Forward; e != nil {
		k.Addr, k.TLS, k.Hint, k.Port, k.Auth, k.HTTP2 = e.Addr, e.TLS, e.Hint, e.TransportPort, e.Authority, e.HTTP2
		var s strings.Builder
		for _, l := range e.Labels {
			s.WriteString(l.Key + "\x00" + l.Value + "\x00")
		}
		k.Labels = s.String()
	}
	return k
}

// FailureAccrual is a circuit breaker's configuration (proxy chapter, section
// 14).
type FailureAccrual struct {
	// Unified says that the success rate counts too; else only
	// MaxConsecutive does.
	Unified bool
	// MaxConsecutive failures in a row trip; 0 never does.
	MaxConsecutive uint32
	// Threshold is the least success rate in basis points, 0 to turn it off.
	Threshold uint32
	// Window is what the success rate is taken over.
	Window time.Duration
	// MinRequests have to be in the window before the rate counts.
	MinRequests uint32
	// Backoff gives the time an endpoint stays shut.
	Backoff Backoff
	// RetryAfter lets servers lengthen that time, up to the longest of Backoff.
	RetryAfter bool
	// Ejection bounds how many endpoints are shut at a time; zero does not.
	Ejection Ejection
}

// Ejection says how many endpoints circuit breakers have to leave in. The larger
// of both counts.
type Ejection struct {
	// Count is a number of endpoints, Percent a share of all there are.
	Count, Percent uint32
}

// Least is the number of endpoints, of all of them, that have to stay in.
func (e Ejection) Least(all int) int {
	return max(int(e.Count), (all*int(e.Percent)+99)/100)
}

// ForwardPolicy is the policy, called by the default name, that sends all to
// one endpoint, with HTTP detection, no timeouts and no retries (proxy chapter,
// section 10).
func ForwardPolicy(name string, e *Endpoint) *ClientPolicy {
	return simplePolicy(name, &Backend{Meta: Default(name), Kind: BackendForward, Forward: e, Load: DefaultLoad()})
}

// BalancePolicy is the policy, called by the default name, that balances over
// the endpoints of path ("name:port").
func BalancePolicy(name, path string) *ClientPolicy {
	return simplePolicy(name, &Backend{Meta: Default(name), Kind: BackendBalance, Path: path, Load: DefaultLoad()})
}

func simplePolicy(name string, b *Backend) *ClientPolicy {
	meta := Default(name)
	dist := Distribution{Kind: DistributionFirstAvailable, Backends: []RouteBackend{{Weight: 1, Backend: b}}}
	http := &HTTPPolicy{Routes: Routes{List: []Route{{
		Meta: meta,
		Rules: []Rule{{
			Matches:      []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/"}}},
			Distribution: dist,
		}},
	}}}}
	return &ClientPolicy{
		Parent:   meta,
		Protocol: ProtocolDetect,
		HTTP1:    http,
		HTTP2:    http,
		TCP:      &TCPPolicy{Routes: []TCPRoute{{Meta: meta, Distribution: dist}}},
	}
}

// InvalidClientPolicy stands in for a policy that failed validation.
func InvalidClientPolicy(reason string) *ClientPolicy {
	return &ClientPolicy{
		Parent:   Default(DefaultInvalid),
		Protocol: ProtocolDetect,
		HTTP1:    &HTTPPolicy{},
		HTTP2:    &HTTPPolicy{},
		TCP:      &TCPPolicy{},
		Invalid:  reason,
	}
}

// Target is what was found out about an outbound destination: a policy in
// every case, and the service profile if there is one (proxy API chapter,
// section 1.5).
type Target struct {
	// Policy is never nil.
	Policy *ClientPolicy
	// Profile is nil if there is none. Endpoint and parent in it are already
	// worked into Policy.
	Profile *Profile
	// Opaque says that the profile forces opaque handling, whatever Policy
	// says about the protocol.
	Opaque bool
	// ProfileHTTP says that HTTP requests follow the profile's routes and
	// overrides instead of the policy's routes; ProfileTCP the same of
	// opaque connections and overrides.
	ProfileHTTP, ProfileTCP bool
	// Path is the "name:port" that the profile's logical name is balanced
	// over where it has no overrides; empty without a named profile.
	Path string
}

// Protocol is how connections to the target are to be taken.
func (t *Target) Protocol() Protocol {
	if t.Opaque {
		return ProtocolOpaque
	}
	return t.Policy.Protocol
}
