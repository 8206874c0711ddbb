// Package config turns the environment into one typed, read-only value. It is
// alone in the proxy in reading environment variables (proxy chapter,
// section 2).
//
//	cfg, problems := config.Load(os.LookupEnv, runtime.NumCPU())
//	if len(problems.Errors) > 0 { ... exit config.ExitCode }
//
// Every variable is parsed even when another one is bad, so that one start
// shows all mistakes. Config is not changed after Load and may be read from
// any goroutine.
package config

import (
	"net/netip"
	"time"
)

// ExitCode is the exit status for a configuration that is not valid.
const ExitCode = 64

// Config is everything that can be set.
type Config struct {
	Inbound  Inbound
	Outbound Outbound
	Admin    Admin
	Tap      Tap
	Identity Identity
	// Destination and Policy are the controllers.
	Destination Controller
	Policy      Controller
	// DestinationContext is the token sent with Get and GetProfile.
	DestinationContext string
	// PolicyWorkload is the token sent with policy watches.
	PolicyWorkload string
	Streams        StreamLimits
	DNS            DNS
	Trace          Trace
	Log            Log
	Workers        Workers
	// ShutdownGrace is how long connections may take to end.
	ShutdownGrace time.Duration
	// ShutdownBytes is the same for connections of which only bytes are known;
	// zero gives them as long as the others.
	ShutdownBytes time.Duration
	// KeepOutbound lets the application call others while it ends: outbound
	// connections are taken until inbound ones have ended and it has no more.
	KeepOutbound bool
}

// Backoff is a reconnect delay: Min doubled up to Max, plus up to Jitter of it.
type Backoff struct {
	Min, Max time.Duration
	Jitter   float64
}

// Socket is how sockets of one side are set up; zero leaves the kernel's way.
type Socket struct {
	// KeepAlive is the idle time before TCP keep-alive probes.
	KeepAlive time.Duration
	// UserTimeout is TCP_USER_TIMEOUT.
	UserTimeout time.Duration
}

// Queue bounds what waits for a backend.
type Queue struct {
	Capacity uint64
	// FailFast is how long nothing may become ready before waiting requests
	// are failed.
	FailFast time.Duration
}

// H2Server are the settings of HTTP/2 servers; zero means unset.
type H2Server struct {
	// Adaptive sizes windows by the measured bandwidth-delay product and
	// overrides the fixed ones.
	Adaptive                 bool
	StreamWindow, ConnWindow uint32
	KeepAliveInterval        time.Duration
	KeepAliveTimeout         time.Duration
	MaxConcurrentStreams     uint32
	MaxFrameSize             uint32
	MaxHeaderList            uint32
	MaxPendingResets         uint32
	MaxSendBuffer            uint32
}

// Direction has the settings that both directions have.
type Direction struct {
	// Backlog is the listen backlog, 0 for the system's.
	Backlog         uint32
	Accept, Connect Socket
	DetectTimeout   time.Duration
	ConnectTimeout  time.Duration
	ConnectBackoff  Backoff
	HTTPQueue       Queue
	// MaxIdleConns and IdleTimeout bound HTTP/1 pools.
	MaxIdleConns uint64
	IdleTimeout  time.Duration
	MaxInFlight  uint64
	// DiscoveryIdle is how long what was discovered outlives its last use.
	DiscoveryIdle time.Duration
	Server        H2Server
	// ClientStreamWindow and ClientConnWindow are the HTTP/2 client's.
	ClientStreamWindow, ClientConnWindow uint32
}

// Inbound has the settings of traffic towards the application.
type Inbound struct {
	Direction
	Addr netip.AddrPort
	// AuthorityLabels adds the request's authority to metrics, whatever the
	// client sends.
	AuthorityLabels bool
	// ProfileTimeout is how long a request waits for a profile.
	ProfileTimeout  time.Duration
	ClusterNetworks []netip.Prefix
	DefaultPolicy   string
	// Ports are watched from the start and never given up.
	Ports PortSet
	// OpaquePorts are opaque until the first policy arrives.
	OpaquePorts PortSet
	// GatewaySuffixes are the names served in gateway mode; nil disables it.
	GatewaySuffixes Suffixes
	// IPs are the pod's own addresses; empty accepts any.
	IPs []netip.Addr
	// ForwardedFor is how applications are told the client's address in
	// x-forwarded-for: "", "append" or "replace".
	ForwardedFor string
	// ProxyProtocolPorts are those where connections may begin with a header of
	// the PROXY protocol.
	ProxyProtocolPorts PortSet
}

// Outbound has the settings of traffic from the application.
type Outbound struct {
	Direction
	Addrs       []netip.AddrPort
	TCPQueue    Queue
	IngressMode bool
	// Quiet suppresses informational headers on synthesised responses.
	Quiet           bool
	HostnameLabels  bool
	ProfileSuffixes Suffixes
	ProfileNetworks []netip.Prefix
}

// Admin is the admin listener.
type Admin struct {
	Addr          netip.AddrPort
	RetainMetrics time.Duration
	// Shutdown enables POST /shutdown.
	Shutdown bool
}

// Tap is the tap listener, disabled without a client name.
type Tap struct {
	Addr   netip.AddrPort
	Client string
}

// Controller is a control-plane service.
type Controller struct {
	Addr HostPort
	// Name is the identity the server must have; empty on loopback, where no
	// TLS is used.
	Name string
}

// Set reports whether the controller is configured.
func (c Controller) Set() bool { return c.Addr.Host != "" }

// Identity is where the workload's certificate comes from.
type Identity struct {
	// Dir has key.p8 and csr.der.
	Dir string
	// TrustAnchors is a PEM bundle.
	TrustAnchors string
	TokenFile    string
	// ServerID is the workload's identity, ServerName its TLS name.
	ServerID, ServerName   string
	Controller             Controller
	MinRefresh, MaxRefresh time.Duration
	// SPIRE is the path of the workload API's socket; empty means that the
	// identity controller certifies.
	SPIRE        string
	SPIREBackoff Backoff
	// SPIREFederated are the other trust domains that are believed about their
	// own workloads, if the workload API has their bundles.
	SPIREFederated []string
}

// StreamLimits bound control streams; zero means no limit.
type StreamLimits struct{ Initial, Idle, Lifetime time.Duration }

// DNS clamps how long answers are used.
type DNS struct{ MinTTL, MaxTTL time.Duration }

// Trace is where spans go, disabled without a collector.
type Trace struct {
	Collector Controller
	// OpenCensus says that the collector speaks that and not OTLP; HTTP that it
	// takes OTLP over HTTP/1.1 and not over gRPC.
	OpenCensus, HTTP bool
	// Sample is the share of the requests without a trace that one is started
	// for.
	Sample          float64
	ServiceName     string
	AttributesPath  string
	ExtraAttributes string
	// OTelAttributes is OTEL_RESOURCE_ATTRIBUTES, applied last.
	OTelAttributes string
	Hostname       string
}

// Log is how the process logs.
type Log struct {
	Filter string
	JSON   bool
	// Access is a format of the access log, empty for none, OutboundAccess that
	// for requests of the application.
	Access, OutboundAccess string
}

// Workers says how many threads run the data plane.
type Workers struct{ Count int }
