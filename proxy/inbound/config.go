package inbound

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
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

// TLS has what handshakes need; *meshtls.Store is one.
type TLS interface {
	// ServerName is the name that clients of this workload ask for.
	ServerName() string
	// ServerConfig is for all ports but the proxy's own, which takes
	// DirectConfig.
	ServerConfig() *tls.Config
	DirectConfig() *tls.Config
}

// Gateway takes over direct connections that are for a name.
type Gateway interface {
	// HTTP serves a connection of HTTP; info tells about the client. Requests
	// it lets through were authorized by the inbound proxy.
	HTTP(name string, port uint16, client model.Identity) (exchange.Handler, func(), error)
	// TCP joins the connection with a backend and returns when it is over.
	TCP(c net.Conn, name string, port uint16) error
}

// Config is what the inbound proxy is made of. All fields are required unless
// they say otherwise.
type Config struct {
	// Port is the inbound listener's; connections that were not redirected
	// are for it.
	Port uint16
	// IPs are the addresses the pod may receive for; empty accepts any.
	IPs []netip.Addr
	// Ports are those that the pod declares; nil for none.
	Ports interface{ Contains(port uint16) bool }
	// Proxied are the ports where connections may begin with a header of the
	// PROXY protocol; nil for none.
	Proxied interface{ Contains(port uint16) bool }
	// Detect limits the detection of TLS and transport headers.
	Detect time.Duration
	// Queue and FailFast bound how requests wait for the application.
	Queue    int
	FailFast time.Duration
	// MaxInFlight requests may wait for response heads.
	MaxInFlight int
	// MaxIdleConns and IdleTimeout bound the HTTP/1 pool.
	MaxIdleConns int
	IdleTimeout  time.Duration
	// Backoff is between attempts to connect over HTTP/2.
	Backoff pool.Backoff
	// HTTP2Server and HTTP2Client configure the codec.
	HTTP2Server h2.Options
	HTTP2Client h2.Options
	// AuthorityLabels adds the request's authority to metrics.
	AuthorityLabels bool
	// ProfileSuffixes match names that may have profiles; nil for none.
	ProfileSuffixes interface{ Match(name string) bool }
	// ProfileTimeout is how long a request waits for its profile.
	ProfileTimeout time.Duration

	Policies lookup.Inbound
	Profiles lookup.Profiler
	TLS      TLS
	// Dialer connects to the application.
	Dialer      netx.Dialer
	OriginalDst netx.OriginalDst
	Series      *series.Set
	Drain       *drain.Drain
	Clock       clock.Clock
	Log         *slog.Logger
	// AccessLog may be nil.
	AccessLog *accesslog.Log
	// ForwardedFor tells the application who its clients are.
	ForwardedFor ForwardedFor
	// Gateway is nil if the proxy is no gateway.
	Gateway Gateway
	// Memory tells when load has to be shed; nil never does.
	Memory *overload.Guard
	// Tap and Tracer may be nil.
	Tap    *tap.Hub
	Tracer *tracing.Tracer
}
