// Package lookup is how the proxy's paths ask what the control plane knows:
// interfaces that discovery implements and inbound, outbound and gateway use,
// so that those need not know of streams and protobuf, and the cache that keeps
// what was looked up while it is in use.
//
// A lookup gives a Lease: a watched snapshot, and the promise that it is kept
// up to date until the lease is released. Connections hold the lease for as
// long as they live.
package lookup

import (
	"context"
	"errors"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// Snapshots of what is looked up.
type (
	// Targets never holds nil.
	Targets = watch.Reader[*model.Target]
	// Endpoints holds nil until the first answer.
	Endpoints = watch.Reader[*model.EndpointSet]
	// Servers never holds nil.
	Servers = watch.Reader[*model.ServerPolicy]
	// Profiles holds nil for "no profile".
	Profiles = watch.Reader[*model.Profile]
)

// Reasons why a lookup fails that callers branch on.
var (
	// ErrNotDiscovered: the name is not one that can be routed to: outside
	// the configured suffixes, or unknown to the control plane.
	ErrNotDiscovered = errors.New("not discovered")
	// ErrClosed: the proxy is stopping.
	ErrClosed = errors.New("discovery is closed")
)

// Outbound looks up where connections and requests of the application go
// (proxy API chapter, section 1.5; proxy chapter, section 10). All methods may
// be called from any goroutine; they block until the control plane has
// answered, ctx is done or the lookup failed.
type Outbound interface {
	// Addr looks up the original destination of a connection.
	Addr(ctx context.Context, dst netip.AddrPort) (*Lease[Targets], error)
	// Ingress looks up the name that a request of an ingress controller asks
	// for (proxy chapter, section 18.1). ErrNotDiscovered is wrapped if
	// there is neither policy nor profile.
	Ingress(ctx context.Context, name string, port uint16) (*Lease[Targets], error)
	// Gateway looks up the name in a transport header (proxy chapter,
	// section 18.2). ErrNotDiscovered is wrapped if the name is outside the
	// gateway's suffixes or has no profile.
	Gateway(ctx context.Context, name string, port uint16) (*Lease[Targets], error)
}

// Resolver finds the endpoints that a balancer balances over.
type Resolver interface {
	// Endpoints starts watching the endpoints of path ("name:port") and
	// returns without waiting for them.
	Endpoints(path string) (*Lease[Endpoints], error)
}

// Inbound looks up the policies of ports.
type Inbound interface {
	// Server returns without waiting: until the control plane has answered
	// the port has the default policy.
	Server(port uint16) (*Lease[Servers], error)
}

// Profiler looks up service profiles by name, for the metric labels of inbound
// requests.
type Profiler interface {
	// Profile blocks until the first answer or ctx is done.
	Profile(ctx context.Context, name string, port uint16) (*Lease[Profiles], error)
}
