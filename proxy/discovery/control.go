package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/model"
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

// Backoffs of connections and streams (proxy API chapter, section 1.4).
var (
	remoteBackoff   = model.Backoff{Min: 100 * time.Millisecond, Max: 60 * time.Second, Jitter: 0.1}
	loopbackBackoff = model.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second, Jitter: 0.1}
)

func (a ControlAddr) backoff() model.Backoff {
	if a.Loopback() {
		return loopbackBackoff
	}
	return remoteBackoff
}

// controlBuffer is the size of a connection's buffers, maxMessage that of the
// largest message taken, which is some hundred thousand endpoints.
const (
	controlBuffer = 4 << 10
	maxMessage    = 64 << 20
)

// userAgent is what controllers see us as.
const userAgent = "linkerd-go-proxy"

// Connect makes a connection to a controller: its addresses are resolved again
// as their records expire, one HTTP/2 connection is kept to each, and calls go
// to the less busy of two. Nothing is dialled before the first call. The caller
// closes the connection.
func Connect(cfg ControlConfig) (*grpc.ClientConn, error) {
	if !cfg.Addr.Loopback() && (cfg.Credentials == nil || cfg.Addr.TLS.IsZero()) {
		return nil, fmt.Errorf("controller %s: an identity is needed to connect to it", cfg.Addr)
	}
	if cfg.Resolver == nil && !cfg.Addr.Loopback() {
		if _, err := netip.ParseAddr(cfg.Addr.Host); err != nil {
			return nil, fmt.Errorf("controller %s: a resolver is needed to find it", cfg.Addr)
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
	conn, err := grpc.NewClient(scheme+":///"+cfg.Addr.Authority(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(&builder{cfg}),
		grpc.WithContextDialer(cfg.dial),
		grpc.WithAuthority(cfg.Addr.Authority()),
		grpc.WithUserAgent(userAgent),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0),
		// Updates are few and small, most of the time: the usual 32 KiB each
		// way would be a good part of an idle proxy's memory.
		grpc.WithReadBufferSize(controlBuffer),
		grpc.WithWriteBufferSize(controlBuffer),
		grpc.WithSharedWriteBuffer(true),
		// The first message about a service has all of its endpoints.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"`+policyName+`":{}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: cfg.Backoff.Min, Multiplier: 2, Jitter: cfg.Backoff.Jitter, MaxDelay: cfg.Backoff.Max},
			MinConnectTimeout: cfg.ConnectTimeout,
		}),
		grpc.WithUnaryInterceptor(cfg.Hooks.unary),
		grpc.WithStreamInterceptor(cfg.Hooks.stream),
	)
	if err != nil {
		return nil, fmt.Errorf("controller %s: %w", cfg.Addr, err)
	}
	return conn, nil
}

// dial connects and, unless the controller is in this pod, shakes hands. TLS is
// done here and not by gRPC, which would insist on a protocol being negotiated:
// proxies negotiate none.
func (cfg *ControlConfig) dial(ctx context.Context, addr string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, fmt.Errorf("controller %s: endpoint %s: %w", cfg.Addr, addr, err)
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.ConnectTimeout, errConnectTimeout)
	defer cancel()
	conn, err := cfg.Dial(ctx, ap)
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
		return fail(err)
	}
	if cfg.Hooks.Connected != nil {
		cfg.Hooks.Connected(1)
		conn = &counted{Conn: conn, closed: sync.OnceFunc(func() { cfg.Hooks.Connected(-1) })}
	}
	return conn, nil
}

// counted tells when it is closed.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}

var errConnectTimeout = errors.New("connect timeout")

// scheme is the name of our resolver; it is known to our connections only.
const scheme = "l5d-control"

// builder makes the resolver of a connection.
type builder struct{ cfg ControlConfig }

var _ resolver.Builder = (*builder)(nil)

func (b *builder) Scheme() string { return scheme }

func (b *builder) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &refresher{cfg: b.cfg, cc: cc, cancel: cancel, done: make(chan struct{}), hint: make(chan struct{}, 1)}
	go r.run(ctx, r.resolve)
	return r, nil
}

// refresher resolves a controller's name again and again.
type refresher struct {
	cfg    ControlConfig
	cc     resolver.ClientConn
	cancel context.CancelFunc
	done   chan struct{}
	hint   chan struct{}
}

// leastRefresh is how long an answer is used at least, even if connections to
// it fail.
const leastRefresh = 5 * time.Second

func (r *refresher) run(ctx context.Context, resolve func(context.Context) (dns.Answer, error)) {
	defer close(r.done)
	retries := backoff.Series{B: r.cfg.Backoff}
	for {
		answer, err := resolve(ctx)
		wait := answer.TTL
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			retries.Reset()
			var state resolver.State
			for _, a := range answer.Addrs {
				state.Addresses = append(state.Addresses, resolver.Address{Addr: a.String()})
			}
			if r.cfg.Hooks.Resolved != nil {
				r.cfg.Hooks.Resolved(len(answer.Addrs))
			}
			// A bad state would be reported by calls failing.
			_ = r.cc.UpdateState(state)
		default:
			r.cfg.Log.Warn("Failed to resolve controller", "controller", r.cfg.Addr.String(), "error", err)
			r.cc.ReportError(err)
			if !errors.Is(err, dns.ErrNotFound) {
				wait = retries.Next()
			}
		}
		timer := time.NewTimer(wait)
		if err == nil {
			// A failing connection asks for fresh addresses, but not all
			// the time.
			select {
			case <-ctx.Done():
			case <-timer.C:
				continue
			case <-r.hint:
				timer.Reset(min(wait, leastRefresh))
			}
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (r *refresher) resolve(ctx context.Context) (dns.Answer, error) {
	if r.cfg.Resolver != nil {
		return r.cfg.Resolver.Resolve(ctx, r.cfg.Addr.Host, r.cfg.Addr.Port)
	}
	// Without a resolver there are only addresses, which need no servers.
	return new(dns.Resolver).Resolve(ctx, r.cfg.Addr.Host, r.cfg.Addr.Port)
}

// ResolveNow is called by gRPC when connections fail.
func (r *refresher) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// Close ends the goroutine and waits for it.
func (r *refresher) Close() {
	r.cancel()
	<-r.done
}

// policyName is the name of our balancer in gRPC's registry.
const policyName = "l5d_p2c"

func init() { balancer.Register(base.NewBalancerBuilder(policyName, p2c{}, base.Config{})) }

// p2c picks the less busy of two connections. Calls to controllers are streams
// that last, so their number says more than their latency.
type p2c struct{}

// Build makes a picker for the connections that are ready.
func (p2c) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	out := new(picker)
	for sc := range info.ReadySCs {
		out.conns = append(out.conns, &conn{SubConn: sc})
	}
	return out
}

type conn struct {
	balancer.SubConn
	calls atomic.Int64
}

type picker struct{ conns []*conn }

func (p *picker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	c := p.conns[0]
	if n := len(p.conns); n > 1 {
		i, j := rand.IntN(n), rand.IntN(n-1)
		if j >= i {
			j++
		}
		if c = p.conns[i]; p.conns[j].calls.Load() < c.calls.Load() {
			c = p.conns[j]
		}
	}
	c.calls.Add(1)
	return balancer.PickResult{SubConn: c.SubConn, Done: func(balancer.DoneInfo) { c.calls.Add(-1) }}, nil
}

func (h *ControlHooks) begin() (end func(error)) {
	if h.Request != nil {
		h.Request()
	}
	if h.Response == nil {
		return func(error) {}
	}
	started := time.Now()
	return func(err error) { h.Response(classify.GRPC(uint32(status.Code(err))), time.Since(started)) }
}

func (h *ControlHooks) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	end := h.begin()
	err := invoke(ctx, method, req, reply, cc, opts...)
	end(err)
	return err
}

func (h *ControlHooks) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	end := h.begin()
	s, err := open(ctx, desc, cc, method, append(opts, grpc.OnFinish(end))...)
	return s, err
}
