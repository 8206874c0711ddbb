package outbound

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
	"github.com/linkerd-go/linkerd-go/proxy/pool"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

// TLS makes the configuration of handshakes; *meshtls.Store is one.
type TLS interface {
	// ClientConfig is for connections to the named server; transport offers
	// the transport header protocol.
	ClientConfig(id model.TLSIdentity, transport bool) *tls.Config
}

// Queue bounds what waits for a backend.
type Queue struct {
	Capacity int
	FailFast time.Duration
}

// Config is what the outbound proxy is made of. All fields are required unless
// they say otherwise.
type Config struct {
	// Own are the pod's addresses; an endpoint with one of them is this pod.
	Own []netip.Addr
	// Detect limits the detection of HTTP and of TLS server names.
	Detect time.Duration
	// ConnectTimeout limits connecting to an endpoint, TLS included.
	ConnectTimeout time.Duration
	// Idle is how long what was discovered outlives its last use.
	Idle time.Duration
	// HTTPQueue and TCPQueue are in front of balancers.
	HTTPQueue, TCPQueue Queue
	// MaxInFlight requests may wait for response heads.
	MaxInFlight int
	// MaxIdleConns and IdleTimeout bound HTTP/1 pools.
	MaxIdleConns int
	IdleTimeout  time.Duration
	// Backoff is between attempts to connect over HTTP/2.
	Backoff pool.Backoff
	// HTTP2Server and HTTP2Client configure the codec; endpoints may have
	// client parameters of their own.
	HTTP2Server h2.Options
	HTTP2Client h2.Options
	// Ingress routes each request by what it asks for.
	Ingress bool
	// Quiet leaves out the headers that explain refusals.
	Quiet bool
	// HostnameLabels adds request hosts to route metrics.
	HostnameLabels bool

	Lookup   lookup.Outbound
	Resolver lookup.Resolver
	TLS      TLS
	// Dialer connects to endpoints.
	Dialer      netx.Dialer
	OriginalDst netx.OriginalDst
	Series      *series.Set
	Drain       *drain.Drain
	Clock       clock.Clock
	Log         *slog.Logger
	// Memory tells when load has to be shed; nil never does.
	Memory *overload.Guard
	// AccessLog, Tap and Tracer may be nil.
	AccessLog *accesslog.Log
	Tap       *tap.Hub
	Tracer    *tracing.Tracer
}
