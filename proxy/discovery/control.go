package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// ControlAddr is where a controller is.
type ControlAddr struct {
	// Host is a name, absolute with a trailing dot, or an IP address.
	Host string
	Port uint16
	// TLS is who the controller is; not used, and allowed to be zero, if Host
	// is loopback.
	TLS model.TLSIdentity
}

// Loopback reports whether the controller is in this pod, so that there is no
// TLS, and streams have no limits.
func (a ControlAddr) Loopback() bool { return dns.IsLoopback(a.Host) }

// Authority is the :authority of requests: the name without its trailing dot,
// and the port unless it is 80.
func (a ControlAddr) Authority() string {
	host := strings.TrimSuffix(a.Host, ".")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.Port == 80 {
		return host
	}
	return host + ":" + strconv.Itoa(int(a.Port))
}

// String is the authority.
func (a ControlAddr) String() string { return a.Authority() }

// ControlConfig is what a connection to a controller is made from.
type ControlConfig struct {
	Addr ControlAddr
	// Resolver resolves Addr.Host. It may be nil if that is an IP address.
	Resolver *dns.Resolver
	// Credentials secure the connection, unless the controller is loopback.
	Credentials *meshtls.Store
	// ConnectTimeout limits connecting and the TLS handshake; 0 means 1s.
	ConnectTimeout time.Duration
	// Backoff between attempts to connect; zero means that of the chapter.
	Backoff model.Backoff
	// Dial replaces the dialer.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Hooks are told of calls, for metrics.
	Hooks ControlHooks
	// Log, nil for slog's default.
	Log *slog.Logger
}

// ControlHooks are called for each call to a controller. Any may be nil; they
// must not block.
type ControlHooks struct {
	// Request: a call was begun.
	Request func()
	// Response: it ended like this, after this time.
	Response func(class classify.Class, took time.Duration)
	// Resolved: the controller has so many addresses at present.
	Resolved func(addrs int)
	// Connected: a connection was made (1) or closed (-1).
	Connected func(delta int)
}

// Backoffs of connections and streams (proxy API chapter, section 1.4). With the chapter's jitter of a tenth, all proxies that lose
// a controller in one moment would be back in one moment, at each step of the backoff; with half of the delay, steps overlap.
var (
	remoteBackoff   = model.Backoff{Min: 100 * time.Millisecond, Max: 60 * time.Second, Jitter: 0.5}
	loopbackBackoff = model.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second, Jitter: 0.1}
)

func (a ControlAddr) backoff() model.Backoff {
	if a.Loopback() {
		return loopbackBackoff
	}
	return remoteBackoff
}

// keepAliveEvery and keepAliveTimeout are as between proxies (the chart's values
// for meshed endpoints, with a little more patience): streams are silent for
// hours, and with a controller that was killed a proxy would know nothing of
// changes until the kernel gives up.
const (
	keepAliveEvery   = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// keepAlive is the silence after which a controller is asked whether it lives. One
// in this pod does not vanish without closing its connections.
func (cfg *ControlConfig) keepAlive() time.Duration {
	if cfg.Addr.Loopback() {
		return 0
	}
	return keepAliveEvery
}

// maxMessage is the size of the largest message taken: the first one about a
// service has all of its endpoints, and this is some hundred thousand.
const maxMessage = 64 << 20

// userAgent is what controllers see us as.
const userAgent = "linkerd-go-proxy"

// Connect makes a connection to a controller: its addresses are resolved again
// as their records expire, one HTTP/2 connection is kept to each, and calls go
// to the less busy of two. Nothing is dialled before the first call. The caller
// closes the connection.
func Connect(cfg ControlConfig) (*rpc.Conn, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return rpc.New(rpc.Config{
		Name: "controller " + cfg.Addr.String(), Authority: cfg.Addr.Authority(), UserAgent: userAgent,
		Resolve: cfg.resolve, Dial: cfg.dial, Backoff: cfg.Backoff, MaxMessage: maxMessage, Log: cfg.Log,
		KeepAlive: cfg.keepAlive(), KeepAliveTimeout: keepAliveTimeout,
		Hooks: rpc.Hooks{
			Request: cfg.Hooks.Request, Resolved: cfg.Hooks.Resolved, Connected: cfg.Hooks.Connected, Response: cfg.Hooks.response(),
		},
	}), nil
}

// Dialer gives a function that makes one connection to a controller, for those
// that do not speak gRPC: to the first of its addresses that takes it. Hooks and
// Backoff are not used.
func Dialer(cfg ControlConfig) (func(context.Context) (net.Conn, error), error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		found, err := cfg.resolve(ctx)
		if err != nil {
			return nil, fmt.Errorf("controller %s: %w", cfg.Addr, err)
		}
		err = fmt.Errorf("controller %s has no address", cfg.Addr)
		for _, addr := range found.Addrs {
			var conn net.Conn
			if conn, err = cfg.dial(ctx, addr); err == nil {
				return conn, nil
			}
		}
		return nil, err
	}, nil
}

// complete checks the configuration and fills in defaults.
func (cfg *ControlConfig) complete() error {
	if !cfg.Addr.Loopback() && (cfg.Credentials == nil || cfg.Addr.TLS.IsZero()) {
		return fmt.Errorf("controller %s: an identity is needed to connect to it", cfg.Addr)
	}
	if cfg.Resolver == nil && !cfg.Addr.Loopback() {
		if _, err := netip.ParseAddr(cfg.Addr.Host); err != nil {
			return fmt.Errorf("controller %s: a resolver is needed to find it", cfg.Addr)
		}
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = time.Second
	}
	if cfg.Backoff == (model.Backoff{}) {
		cfg.Backoff = cfg.Addr.backoff()
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return nil
}

// resolve finds the controller.
func (cfg *ControlConfig) resolve(ctx context.Context) (dns.Answer, error) {
	r := cfg.Resolver
	if r == nil {
		// Without a resolver there are only addresses, which need no servers.
		r = new(dns.Resolver)
	}
	return r.Resolve(ctx, cfg.Addr.Host, cfg.Addr.Port)
}

// response is the hook in the terms of calls.
func (h *ControlHooks) response() func(rpc.Code, time.Duration) {
	if h.Response == nil {
		return nil
	}
	return func(code rpc.Code, took time.Duration) { h.Response(classify.GRPC(uint32(code)), took) }
}

// dial connects and, unless the controller is in this pod, shakes hands.
func (cfg *ControlConfig) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.ConnectTimeout, errConnectTimeout)
	defer cancel()
	conn, err := cfg.Dial(ctx, addr)
	if err == nil && !cfg.Addr.Loopback() {
		t := tls.Client(conn, cfg.Credentials.ClientConfig(cfg.Addr.TLS, false))
		if err = t.HandshakeContext(ctx); err != nil {
			conn.Close()
		}
		conn = t
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), errConnectTimeout) {
			err = fmt.Errorf("connect timed out after %v", cfg.ConnectTimeout)
		}
		return nil, fmt.Errorf("controller %s: endpoint %s: %w", cfg.Addr, addr, err)
	}
	return conn, nil
}

var errConnectTimeout = errors.New("connect timeout")
