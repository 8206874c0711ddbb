package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// prefix begins the names of all variables but those that say otherwise.
const prefix = "LINKERD2_PROXY_"

// Defaults that more than one place has to know.
const (
	DefaultLogFilter = "warn,linkerd=info,hickory=error"
	// DefaultPolicy is what a port allows until its policy is known and none
	// was configured.
	DefaultPolicy = "all-unauthenticated"
)

// Problems are the mistakes that Load found.
type Problems struct {
	// Errors make the configuration unusable. Each names its variable.
	Errors []error
	// Warnings were put right by a default.
	Warnings []string
}

// ErrInvalid is wrapped by errors of the configuration, also by those that come
// to light only when it is used; the process then exits with ExitCode.
var ErrInvalid = errors.New("Invalid configuration")

// Err is all errors as one, nil if there are none.
func (p *Problems) Err() error {
	if len(p.Errors) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(p.Errors...))
}

// loader reads variables and collects mistakes.
type loader struct {
	lookup func(string) (string, bool)
	Problems
}

// get parses the variable prefix+name, or gives def if it is not set.
func get[T any](l *loader, name string, parse func(string) (T, error), def T) T {
	v, _ := find(l, name, parse, def)
	return v
}

// find is get for who must know whether the variable was set.
func find[T any](l *loader, name string, parse func(string) (T, error), def T) (T, bool) {
	value, ok := l.lookup(prefix + name)
	if !ok {
		return def, false
	}
	v, err := parse(value)
	if err != nil {
		l.fail(fmt.Errorf("%s%s=%q is not valid: %w", prefix, name, value, err))
		return def, true
	}
	return v, true
}

func (l *loader) fail(err error) { l.Errors = append(l.Errors, err) }
func (l *loader) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...))
}
func (l *loader) duration(name string, def time.Duration) time.Duration {
	return get(l, name, Duration, def)
}

// optional is a duration that an empty value leaves unset.
func (l *loader) optional(name string) time.Duration {
	return get(l, name, func(s string) (time.Duration, error) {
		if s == "" {
			return 0, nil
		}
		return Duration(s)
	}, 0)
}

func (l *loader) required(name string) string {
	v, ok := find(l, name, nonEmpty, "")
	if !ok {
		l.fail(fmt.Errorf("%s%s must be set", prefix, name))
	}
	return v
}

func (l *loader) u32(name string, def uint32) uint32 {
	return uint32(get(l, name, number(32), uint64(def)))
}

// backoff reads a triple. The ends have to come together; with them, the
// jitter's default is none.
func (l *loader) backoff(base string, def Backoff) Backoff {
	lo, hasLo := find(l, base+"_MIN", Duration, 0)
	hi, hasHi := find(l, base+"_MAX", Duration, 0)
	jitter, hasJitter := find(l, base+"_JITTER", fraction, 0)
	switch {
	case !hasLo && !hasHi && !hasJitter:
		return def
	case hasLo != hasHi || !hasLo:
		l.fail(fmt.Errorf("%s%s_MIN and _MAX must be set together", prefix, base))
		return def
	case lo <= 0 || hi < lo || jitter < 0:
		l.fail(fmt.Errorf("%s%s: a backoff needs 0 < MIN <= MAX and a JITTER of at least 0", prefix, base))
		return def
	}
	return Backoff{lo, hi, jitter}
}

// controller reads an address and the identity behind it.
func (l *loader) controller(base string, required bool) Controller {
	addr, hasAddr := find(l, base+"_ADDR", hostPort, HostPort{})
	name, hasName := find(l, base+"_NAME", nonEmpty, "")
	switch {
	case !hasAddr && !hasName:
		if required {
			l.fail(fmt.Errorf("%s%s_ADDR must be set", prefix, base))
		}
		return Controller{}
	case !hasAddr:
		l.fail(fmt.Errorf("%s%s_ADDR must be set if _NAME is", prefix, base))
		return Controller{}
	case addr.Loopback():
		// Nobody else can be at the other end, so no TLS is used.
		return Controller{Addr: addr}
	case !hasName && addr.Host != "":
		l.fail(fmt.Errorf("%s%s_NAME must be set if _ADDR is not loopback", prefix, base))
	}
	return Controller{addr, strings.TrimSuffix(name, ".")}
}

func (l *loader) h2Server(dir string) H2Server {
	base := dir + "_SERVER_HTTP2_"
	s := H2Server{
		Adaptive: get(l, base+"ADAPTIVE_FLOW_CONTROL", Bool, false),
		// The windows are those of the upstream library; a bigger one for
		// the connection lets a slow stream not hold up the others.
		StreamWindow:         65535,
		ConnWindow:           1048576,
		KeepAliveInterval:    l.duration(base+"KEEP_ALIVE_INTERVAL", 0),
		KeepAliveTimeout:     l.duration(base+"KEEP_ALIVE_TIMEOUT", 0),
		MaxConcurrentStreams: l.u32(base+"MAX_CONCURRENT_STREAMS", 0),
		MaxFrameSize:         l.u32(base+"MAX_FRAME_SIZE", 16384),
		MaxHeaderList:        l.u32(base+"MAX_HEADER_LIST_SIZE", 16384),
		MaxPendingResets:     l.u32(base+"MAX_PENDING_ACCEPT_RESET_STREAMS", 20),
		MaxSendBuffer:        l.u32(base+"MAX_SEND_BUF_SIZE", 409600),
	}
	stream, hasStream := find(l, base+"INITIAL_STREAM_WINDOW_SIZE", number(32), 0)
	conn, hasConn := find(l, base+"INITIAL_CONNECTION_WINDOW_SIZE", number(32), 0)
	if hasStream && hasConn {
		s.StreamWindow, s.ConnWindow = uint32(stream), uint32(conn)
	}
	if s.KeepAliveInterval == 0 || s.KeepAliveTimeout == 0 {
		s.KeepAliveInterval, s.KeepAliveTimeout = 0, 0
	}
	return s
}

// defaults are what differs between the directions.
type defaults struct {
	connect   time.Duration
	maxDelay  time.Duration
	failFast  time.Duration
	idleConns string
	discovery time.Duration
}

func (l *loader) direction(dir string, d defaults) Direction {
	return Direction{
		Backlog: l.u32(dir+"_TCP_LISTEN_BACKLOG", 0),
		Accept: Socket{
			KeepAlive:   l.optional(dir + "_ACCEPT_KEEPALIVE"),
			UserTimeout: l.optional(dir + "_ACCEPT_USER_TIMEOUT"),
		},
		Connect: Socket{
			KeepAlive:   l.optional(dir + "_CONNECT_KEEPALIVE"),
			UserTimeout: l.optional(dir + "_CONNECT_USER_TIMEOUT"),
		},
		DetectTimeout:  l.duration(dir+"_DETECT_TIMEOUT", 10*time.Second),
		ConnectTimeout: l.duration(dir+"_CONNECT_TIMEOUT", d.connect),
		ConnectBackoff: l.backoff(dir+"_CONNECT_EXP_BACKOFF", Backoff{100 * time.Millisecond, d.maxDelay, 0.1}),
		HTTPQueue: Queue{
			Capacity: get(l, dir+"_HTTP_QUEUE_CAPACITY", number(32), 10000),
			FailFast: l.duration(dir+"_HTTP_FAILFAST_TIMEOUT", d.failFast),
		},
		MaxIdleConns:       get(l, d.idleConns, number(32), 10000),
		IdleTimeout:        l.duration(dir+"_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT", 3*time.Second),
		MaxInFlight:        get(l, dir+"_MAX_IN_FLIGHT", number(32), 100000),
		DiscoveryIdle:      l.duration(dir+"_DISCOVERY_IDLE_TIMEOUT", d.discovery),
		Server:             l.h2Server(dir),
		ClientStreamWindow: l.u32("HTTP2_INITIAL_STREAM_WINDOW_SIZE", 65535),
		ClientConnWindow:   l.u32("HTTP2_INITIAL_CONNECTION_WINDOW_SIZE", 1048576),
	}
}

// Load reads the environment through lookup, which is os.LookupEnv outside
// tests. cpus is how many processors the process may use. The configuration
// is usable only if the problems contain no errors.
func Load(lookup func(string) (string, bool), cpus int) (*Config, *Problems) {
	l := &loader{lookup: lookup}
	c := &Config{
		Inbound:            l.inbound(),
		Outbound:           l.outbound(),
		Destination:        l.controller("DESTINATION_SVC", true),
		Policy:             l.controller("POLICY_SVC", true),
		DestinationContext: get(l, "DESTINATION_CONTEXT", text, ""),
		PolicyWorkload:     l.required("POLICY_WORKLOAD"),
		Identity:           l.identity(),
		ShutdownGrace:      l.duration("SHUTDOWN_GRACE_PERIOD", 2*time.Minute),
		ShutdownBytes:      l.duration("SHUTDOWN_TCP_GRACE_PERIOD", 0),
		KeepOutbound:       get(l, "SHUTDOWN_KEEP_OUTBOUND", Bool, false),
		Streams: StreamLimits{
			Initial:  l.optional("CONTROL_STREAM_INITIAL_TIMEOUT"),
			Idle:     l.optional("CONTROL_STREAM_IDLE_TIMEOUT"),
			Lifetime: l.optional("CONTROL_STREAM_LIFETIME"),
		},
		DNS: DNS{MinTTL: l.optional("DNS_MIN_TTL"), MaxTTL: l.optional("DNS_MAX_TTL")},
		Trace: Trace{
			Collector:       l.controller("TRACE_COLLECTOR_SVC", false),
			OpenCensus:      get(l, "TRACE_PROTOCOL", text, "") == "opencensus",
			HTTP:            get(l, "TRACE_PROTOCOL", text, "") == "http/protobuf",
			ServiceName:     get(l, "TRACE_SERVICE_NAME", text, ""),
			AttributesPath:  get(l, "TRACE_ATTRIBUTES_PATH", text, ""),
			ExtraAttributes: get(l, "TRACE_EXTRA_ATTRIBUTES", text, ""),
			Sample:          get(l, "TRACE_SAMPLE_RATIO", share, 0),
		},
		Admin: Admin{
			Addr:          get(l, "ADMIN_LISTEN_ADDR", AddrPort, netip.MustParseAddrPort("127.0.0.1:4191")),
			RetainMetrics: l.duration("METRICS_RETAIN_IDLE", 10*time.Minute),
			Shutdown:      get(l, "SHUTDOWN_ENDPOINT_ENABLED", Bool, false),
		},
		Tap: Tap{
			Addr:   get(l, "CONTROL_LISTEN_ADDR", AddrPort, netip.MustParseAddrPort("0.0.0.0:4190")),
			Client: get(l, "TAP_SVC_NAME", text, ""),
		},
		Log:     l.log(),
		Workers: Workers{l.workers(cpus)},
	}
	c.Trace.OTelAttributes, _ = lookup("OTEL_RESOURCE_ATTRIBUTES")
	c.Trace.Hostname, _ = lookup("HOSTNAME")
	l.streamOrder(c.Streams)
	return c, &l.Problems
}

// streamOrder checks initial <= idle <= lifetime among those that are set.
func (l *loader) streamOrder(s StreamLimits) {
	for _, c := range []struct {
		a, b   time.Duration
		an, bn string
	}{
		{s.Initial, s.Idle, "INITIAL_TIMEOUT", "IDLE_TIMEOUT"},
		{s.Initial, s.Lifetime, "INITIAL_TIMEOUT", "LIFETIME"},
		{s.Idle, s.Lifetime, "IDLE_TIMEOUT", "LIFETIME"},
	} {
		if c.a > 0 && c.b > 0 && c.a > c.b {
			l.fail(fmt.Errorf("%sCONTROL_STREAM_%s must not exceed %sCONTROL_STREAM_%s", prefix, c.an, prefix, c.bn))
		}
	}
}

func (l *loader) inbound() Inbound {
	in := Inbound{
		Direction: l.direction("INBOUND", defaults{
			// The application is on this machine: it answers at once or not
			// at all.
			connect: 300 * time.Millisecond, maxDelay: 10 * time.Second, failFast: time.Second,
			idleConns: "MAX_IDLE_CONNS_PER_ENDPOINT", discovery: 90 * time.Second,
		}),
		Addr:               get(l, "INBOUND_LISTEN_ADDR", AddrPort, netip.MustParseAddrPort("0.0.0.0:4143")),
		ProfileTimeout:     l.duration("DESTINATION_PROFILE_INITIAL_TIMEOUT", 500*time.Millisecond),
		ClusterNetworks:    get(l, "POLICY_CLUSTER_NETWORKS", networks, nil),
		Ports:              get(l, "INBOUND_PORTS", portSet, nil),
		OpaquePorts:        get(l, "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", portSet, nil),
		GatewaySuffixes:    get(l, "INBOUND_GATEWAY_SUFFIXES", suffixes, nil),
		IPs:                get(l, "INBOUND_IPS", ipSet, nil),
		ForwardedFor:       get(l, "INBOUND_FORWARDED_FOR", orEmpty(oneOf("append", "replace")), ""),
		ProxyProtocolPorts: get(l, "INBOUND_PROXY_PROTOCOL_PORTS", portSet, nil),
		AuthorityLabels: get(l, "INBOUND_METRICS_AUTHORITY_LABELS", func(s string) (bool, error) {
			switch s {
			case "":
				return false, nil
			case "unsafe":
				return true, nil
			}
			return false, errors.New(`expected "unsafe" or nothing`)
		}, false),
	}
	var set bool
	in.DefaultPolicy, set = find(l, "INBOUND_DEFAULT_POLICY", oneOf(
		"deny", "all-authenticated", "all-unauthenticated", "cluster-authenticated", "cluster-unauthenticated", "audit",
	), DefaultPolicy)
	if !set {
		l.warn("%sINBOUND_DEFAULT_POLICY was not set; using %q", prefix, DefaultPolicy)
	}
	switch in.DefaultPolicy {
	case "cluster-authenticated", "cluster-unauthenticated", "audit":
		if len(in.ClusterNetworks) == 0 {
			l.fail(fmt.Errorf("%sINBOUND_DEFAULT_POLICY=%q is not valid: %sPOLICY_CLUSTER_NETWORKS is empty",
				prefix, in.DefaultPolicy, prefix))
		}
	}
	return in
}

func (l *loader) outbound() Outbound {
	out := Outbound{
		Direction: l.direction("OUTBOUND", defaults{
			connect: time.Second, maxDelay: time.Minute, failFast: 3 * time.Second,
			idleConns: "OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT", discovery: 5 * time.Second,
		}),
		TCPQueue: Queue{
			Capacity: get(l, "OUTBOUND_TCP_QUEUE_CAPACITY", number(32), 10000),
			FailFast: l.duration("OUTBOUND_TCP_FAILFAST_TIMEOUT", 3*time.Second),
		},
		IngressMode:     get(l, "INGRESS_MODE", Bool, false),
		HostnameLabels:  get(l, "OUTBOUND_METRICS_HOSTNAME_LABELS", Bool, false),
		ProfileSuffixes: get(l, "DESTINATION_PROFILE_SUFFIXES", suffixes, Suffixes{"svc.cluster.local."}),
		ProfileNetworks: get(l, "DESTINATION_PROFILE_NETWORKS", networks, nil),
	}
	out.Quiet = get(l, "OUTBOUND_DISABLE_INFORMATIONAL_HEADERS", Bool, out.IngressMode)
	one := get(l, "OUTBOUND_LISTEN_ADDR", AddrPort, netip.MustParseAddrPort("127.0.0.1:4140"))
	out.Addrs = get(l, "OUTBOUND_LISTEN_ADDRS", addrPorts, []netip.AddrPort{one})
	return out
}

func (l *loader) identity() Identity {
	if v, ok := l.lookup(prefix + "IDENTITY_DISABLED"); ok && v != "" {
		l.fail(fmt.Errorf("%sIDENTITY_DISABLED=%q is not valid: identity is mandatory", prefix, v))
	}
	id := Identity{
		TrustAnchors: l.required("IDENTITY_TRUST_ANCHORS"),
		MinRefresh:   l.duration("IDENTITY_MIN_REFRESH", 10*time.Second),
		MaxRefresh:   l.duration("IDENTITY_MAX_REFRESH", 24*time.Hour),
		SPIREBackoff: l.backoff("IDENTITY_SPIRE_EXP_BACKOFF", Backoff{100 * time.Millisecond, time.Second, 0.1}),
	}
	if name, ok := find(l, "IDENTITY_LOCAL_NAME", nonEmpty, ""); ok {
		id.ServerID, id.ServerName = name, name
	} else {
		id.ServerID = l.required("IDENTITY_SERVER_ID")
		id.ServerName = l.required("IDENTITY_SERVER_NAME")
	}
	id.ServerName = strings.TrimSuffix(id.ServerName, ".")
	old := get(l, "IDENTITY_SPIRE_SOCKET", text, "")
	if id.SPIRE = strings.TrimPrefix(get(l, "IDENTITY_SPIRE_WORKLOAD_API_ADDRESS", text, old), "unix:"); id.SPIRE != "" {
		if !strings.HasPrefix(id.ServerID, "spiffe://") {
			l.fail(fmt.Errorf("%sIDENTITY_SERVER_ID=%q is not valid: SPIRE needs a spiffe:// URI", prefix, id.ServerID))
		}
		id.SPIREFederated = get(l, "IDENTITY_SPIRE_FEDERATES_WITH", trustDomains, nil)
		return id
	}
	id.ServerID = strings.TrimSuffix(id.ServerID, ".")
	if id.ServerID != id.ServerName {
		l.fail(fmt.Errorf("%sIDENTITY_SERVER_ID=%q is not valid: without SPIRE it must equal the server name %q",
			prefix, id.ServerID, id.ServerName))
	}
	id.Dir = l.required("IDENTITY_DIR")
	id.TokenFile = l.required("IDENTITY_TOKEN_FILE")
	id.Controller = l.controller("IDENTITY_SVC", true)
	return id
}

func (l *loader) log() Log {
	return Log{
		Filter:         get(l, "LOG", text, DefaultLogFilter),
		JSON:           strings.EqualFold(get(l, "LOG_FORMAT", text, "plain"), "json"),
		Access:         l.accessLog("ACCESS_LOG"),
		OutboundAccess: l.accessLog("OUTBOUND_ACCESS_LOG"),
	}
}

// accessLog reads a format of access logs.
func (l *loader) accessLog(name string) string {
	format := get(l, name, text, "")
	switch format {
	case "", "apache", "apache-extended", "json":
		return format
	}
	l.warn("%s%s=%q is not a known format; access logging is disabled", prefix, name, format)
	return ""
}

// workers decides on the number of data-plane threads. Bad values are only
// warned of: a proxy with one thread is better than none.
func (l *loader) workers(cpus int) int {
	read := func(name string) (int, bool) {
		v, ok := l.lookup(prefix + name)
		if !ok {
			return 0, false
		}
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			l.warn("%s%s=%q is not valid: %v; ignored", prefix, name, v, errNumber)
			return 0, false
		}
		return int(n), true
	}
	lo, ok := read("CORES_MIN")
	if !ok {
		if lo, ok = read("CORES"); !ok {
			lo = 1
		}
	}
	hi, ok := read("CORES_MAX")
	if !ok {
		hi = 1
		if v, ok := l.lookup(prefix + "CORES_MAX_RATIO"); ok {
			ratio, err := fraction(v)
			if err != nil || ratio <= 0 || ratio > 1 {
				l.warn("%sCORES_MAX_RATIO=%q is not valid: expected a number above 0, up to 1; ignored", prefix, v)
			} else {
				hi = int(math.Round(float64(cpus) * ratio))
			}
		}
	}
	return max(1, min(max(lo, hi), cpus))
}
