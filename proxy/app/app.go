// Package app puts the whole proxy together: what there is, what it is made
// from, in which order it starts and stops (proxy chapter, section 3).
//
//	a, err := app.New(app.Options{Config: cfg, Log: log})   // every socket is bound
//	err = a.Run(ctx)                                        // serves; drains when ctx is done
//
// Everything that touches the outside world can be replaced through Options, so
// that whole proxies run in one test process.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accept"
	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/admin"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/gateway"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
	"github.com/linkerd-go/linkerd-go/proxy/pool"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
	"github.com/linkerd-go/linkerd-go/proxy/tap/observeapi"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

// Options are what a proxy is made from. Config and Log are required; what is
// nil otherwise is the real thing.
type Options struct {
	Config *config.Config
	Log    *logs.Log
	Clock  clock.Clock
	// InboundDialer connects to the application, OutboundDialer to endpoints.
	InboundDialer, OutboundDialer netx.Dialer
	// InboundDst and OutboundDst tell where connections were meant to go.
	InboundDst, OutboundDst netx.OriginalDst
	// AccessLog is where the access log goes; standard error if nil.
	AccessLog interface{ Write([]byte) (int, error) }
	// Profile enables profiling on the admin port.
	Profile bool
	// Memory reads how much memory is in use, and what of; nil if nothing
	// limits it. See overload.Memory.
	Memory func() (overload.Usage, error)
	// Started is called once the proxy accepts connections; it must not block.
	Started func()
	// Trimmed is called after memory was given back because calm followed work.
	// Nil does nothing.
	Trimmed func()
}

// App is a proxy whose sockets are bound.
type App struct {
	o     Options
	cfg   *config.Config
	log   *slog.Logger
	reg   *metric.Registry
	drain *drain.Drain
	// outDrain is that of outbound connections: drain itself, unless they are
	// to outlive the others.
	outDrain *drain.Drain
	// memory is nil without a limit.
	memory *overload.Guard
	// shutdown is closed when the admin server is asked to shut down.
	shutdown     chan struct{}
	shutdownOnce sync.Once

	store    *meshtls.Store
	certify  func(context.Context) error
	client   *discovery.Client
	inbound  *inbound.Proxy
	outbound *outbound.Proxy

	adminLn, inboundLn net.Listener
	outboundLns        []net.Listener
	// tapLn and tap are nil if nobody may tap.
	tapLn net.Listener
	tap   *observeapi.Server
	hub   tap.Hub
	// tracer is nil without a collector.
	tracer *tracing.Tracer

	// closers undo what New did, last first.
	closers []func()
}

// New builds the proxy and binds every socket, so that a bad port stops the
// start. Close, or Run, has to be called.
func New(o Options) (_ *App, err error) {
	if o.Clock == nil {
		o.Clock = clock.System
	}
	a := &App{
		o: o, cfg: o.Config, log: logs.For(o.Log.Logger(), "linkerd_app"),
		drain: drain.New(), shutdown: make(chan struct{}),
	}
	a.outDrain = a.drain
	if a.cfg.KeepOutbound {
		a.outDrain = drain.New()
		a.outDrain.LimitBytes(a.cfg.ShutdownBytes)
	}
	a.drain.LimitBytes(a.cfg.ShutdownBytes)
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	// Counting comes first: everything counts.
	a.reg = metric.NewRegistry(metric.Options{Retain: a.cfg.Admin.RetainMetrics, Now: o.Clock.Now})
	set := series.New(a.reg)
	processMetrics(a.reg, o.Clock.Now())
	droppedSeries(a.reg)
	if o.Memory != nil {
		a.memory = overload.New(overload.Options{
			Read: o.Memory, Conns: a.expendable, Log: logs.For(o.Log.Logger(), "linkerd_app", "memory"), Now: o.Clock.Now,
		})
		memoryMetrics(a.reg, a.memory)
		buf.Watch(func(n int) { a.memory.Take(n) })
		a.closers = append(a.closers, func() { buf.Watch(nil) })
	}
	// Credentials next: every connection of the proxy's own uses them.
	if err := a.credentials(); err != nil {
		return nil, err
	}
	// Then the control plane, which tells what the rest is to do.
	if err := a.control(set); err != nil {
		return nil, err
	}
	// Sockets are bound before anything is served.
	if err := a.bind(); err != nil {
		return nil, err
	}
	// The paths at last: outbound first, for the gateway joins it to inbound.
	a.outbound = outbound.New(a.outboundConfig(set))
	a.closers = append(a.closers, a.outbound.Close)
	ic, err := a.inboundConfig(set)
	if err != nil {
		return nil, err
	}
	a.inbound = inbound.New(ic)
	a.closers = append(a.closers, a.inbound.Close)
	return a, nil
}

// Close undoes New, for who does not call Run.
func (a *App) Close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}

// Addrs are the bound addresses.
type Addrs struct {
	Admin, Inbound net.Addr
	Outbound       []net.Addr
	// Tap is nil if nobody may tap.
	Tap net.Addr
}

// Addrs gives the bound addresses.
func (a *App) Addrs() Addrs {
	out := Addrs{Admin: a.adminLn.Addr(), Inbound: a.inboundLn.Addr()}
	for _, l := range a.outboundLns {
		out.Outbound = append(out.Outbound, l.Addr())
	}
	if a.tapLn != nil {
		out.Tap = a.tapLn.Addr()
	}
	return out
}

// Metrics is the exposition, for tests.
func (a *App) Metrics() string { return string(a.reg.AppendText(nil)) }

// Families describes what Metrics has, for tests.
func (a *App) Families() []metric.Description { return a.reg.Families() }

// Store has the proxy's credentials, for tests.
func (a *App) Store() *meshtls.Store { return a.store }

// waiting is how often the log says that there is no certificate yet.
const waiting = 15 * time.Second

// Run serves until ctx is done or the admin server is asked to shut down, then
// drains, within the grace period. It returns when everything has stopped; an
// expired grace period is logged, and is not an error.
func (a *App) Run(ctx context.Context) error {
	defer a.Close()
	// What serves connections goes on until the last has ended: a proxy that
	// drains for minutes needs its certificate renewed, its memory guarded and
	// its spans sent as much as before.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	a.announce()

	// Admin answers probes from the beginning.
	handler := admin.New(admin.Options{
		Ready: a.store.Valid, Metrics: a.reg.AppendText, Logs: a.o.Log, Environ: os.Environ,
		Shutdown: a.shutdownFunc(), Config: func() ([]byte, error) { return json.MarshalIndent(a.cfg, "", "  ") },
		Profile: a.o.Profile,
	})
	listen := func(ln net.Listener, d *drain.Drain, memory *overload.Guard, handle func(net.Conn, *drain.Handle) accept.Rest) {
		running.Go(func() {
			accept.Loop(ln, accept.Options{Drain: d, Log: a.log, Handle: handle, Memory: memory})
		})
	}
	adminAddr := netx.AddrPort(a.adminLn.Addr())
	listen(a.adminLn, a.drain, nil, accept.Whole(a.inbound.Local(adminAddr, handler)))
	// Series that nobody scrapes must not pile up.
	running.Go(func() { a.expire(work) })
	running.Go(func() { a.trim(work) })
	running.Go(func() { a.memory.Run(work) })
	if a.tracer != nil {
		running.Go(func() { a.tracer.Run(work) })
	}
	// The first certificate opens the doors; connections wait in the kernel.
	running.Go(func() {
		if err := a.certify(work); err != nil && work.Err() == nil {
			a.log.Error("Failed to obtain identity", "error", err)
		}
	})
	if a.identified(ctx) {
		listen(a.inboundLn, a.drain, a.memory, a.inbound.Accept)
		for _, ln := range a.outboundLns {
			listen(ln, a.outDrain, a.memory, a.outbound.Accept)
		}
		if a.tapLn != nil {
			listen(a.tapLn, a.drain, nil, accept.Whole(a.tap.Accept))
		}
		if a.o.Started != nil {
			a.o.Started()
		}
		select {
		case <-ctx.Done():
		case <-a.shutdown:
		}
	}

	// Stop taking work; let what there is end.
	a.log.Debug("Shutting down")
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownGrace)
	defer stop()
	err := a.drain.Drain(grace)
	if a.outDrain != a.drain {
		a.outboundQuiet(grace)
		err = errors.Join(err, a.outDrain.Drain(grace))
	}
	if err != nil {
		a.log.Warn("Shutdown grace period expired", "error", err)
	}
	cancel()
	running.Wait()
	return nil
}

// quiet is how long the application may have no outbound connection before it is
// taken to have ended.
const quiet = time.Second

// outboundQuiet waits until the application has had no outbound connections for a
// while, or ctx is done.
func (a *App) outboundQuiet(ctx context.Context) {
	tick := time.NewTicker(quiet / 10)
	defer tick.Stop()
	since := time.Now()
	for time.Since(since) < quiet {
		// The listeners hold the drain as well.
		if a.outDrain.Held() > len(a.outboundLns) {
			since = time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// connections is how many handles of both drains are out.
func (a *App) connections() int {
	if a.outDrain == a.drain {
		return a.drain.Held()
	}
	return a.drain.Held() + a.outDrain.Held()
}

// expendable are the connections that may be reset if memory runs out.
func (a *App) expendable() []overload.Conn {
	conns := a.drain.Conns()
	if a.outDrain != a.drain {
		conns = append(conns, a.outDrain.Conns()...)
	}
	out := make([]overload.Conn, len(conns))
	for i, c := range conns {
		out[i] = overload.Conn{Conn: c.Conn, Held: int64(c.Weight), Client: netx.AddrPort(c.RemoteAddr()).Addr()}
	}
	return out
}

// shutdownFunc is what POST /shutdown does, nil if it is disabled.
func (a *App) shutdownFunc() func() {
	if !a.cfg.Admin.Shutdown {
		return nil
	}
	return func() { a.shutdownOnce.Do(func() { close(a.shutdown) }) }
}

// identified waits for the first certificate; false means that the proxy is to
// stop instead.
func (a *App) identified(ctx context.Context) bool {
	for {
		leaf, changed := a.store.Leaf().Watch()
		if leaf != nil {
			return true
		}
		t := time.NewTimer(waiting)
		select {
		case <-changed:
		case <-t.C:
			a.log.Warn("Waiting for identity to be initialized...")
		case <-ctx.Done():
			t.Stop()
			return false
		case <-a.shutdown:
			t.Stop()
			return false
		}
		t.Stop()
	}
}

// expire drops idle series once in a while.
func (a *App) expire(ctx context.Context) {
	t := time.NewTicker(max(a.cfg.Admin.RetainMetrics, time.Minute))
	defer t.Stop()
	for {
		select {
		case <-t.C:
			a.reg.Expire()
		case <-ctx.Done():
			return
		}
	}
}

// announce logs where the proxy is and what it uses.
func (a *App) announce() {
	log := logs.For(a.o.Log.Logger(), "linkerd2_proxy")
	cfg := a.cfg
	log.Info(release())
	log.Info("Admin interface on " + a.adminLn.Addr().String())
	log.Info("Inbound interface on " + a.inboundLn.Addr().String())
	for _, ln := range a.outboundLns {
		log.Info("Outbound interface on " + ln.Addr().String())
	}
	if a.tapLn == nil {
		log.Info("Tap DISABLED")
	} else {
		log.Info("Tap interface on " + a.tapLn.Addr().String())
	}
	log.Info("SNI is " + cfg.Identity.ServerName)
	log.Info("Local identity is " + cfg.Identity.ServerID)
	resolved := "Destinations resolved via " + cfg.Destination.Addr.String()
	if cfg.Destination.Name != "" {
		resolved += " (" + cfg.Destination.Name + ")"
	}
	log.Info(resolved)
	if cfg.Trace.Collector.Set() {
		log.Info("Tracing collector at " + cfg.Trace.Collector.Addr.String())
	}
}

// bind binds every socket.
func (a *App) bind() error {
	cfg := a.cfg
	listen := func(what string, addr netip.AddrPort, o netx.ListenOptions) (net.Listener, error) {
		ln, err := netx.Listen(addr, o)
		if err != nil {
			return nil, fmt.Errorf("failed to bind %s listener on %s: %w", what, addr, err)
		}
		a.closers = append(a.closers, func() { ln.Close() })
		return ln, nil
	}
	options := func(d config.Direction) netx.ListenOptions {
		return netx.ListenOptions{SocketOptions: socket(d.Accept), Backlog: int(d.Backlog)}
	}
	var err error
	if a.adminLn, err = listen("admin", cfg.Admin.Addr, netx.ListenOptions{}); err != nil {
		return err
	}
	if a.inboundLn, err = listen("inbound", cfg.Inbound.Addr, options(cfg.Inbound.Direction)); err != nil {
		return err
	}
	if cfg.Tap.Client != "" {
		if a.tapLn, err = listen("tap", cfg.Tap.Addr, netx.ListenOptions{}); err != nil {
			return err
		}
		id, err := model.ParseIdentity(cfg.Tap.Client)
		if err != nil {
			return fmt.Errorf("%w: tap client: %w", config.ErrInvalid, err)
		}
		a.tap = observeapi.New(observeapi.Config{
			Hub: &a.hub, TLS: a.store, Client: id, Log: logs.For(a.o.Log.Logger(), "linkerd_app", "tap"),
		})
		a.closers = append(a.closers, a.tap.Close)
		a.reg.Open("tap_events_dropped", "Total count of events that clients of the tap server were too slow for").
			Func("", func() float64 { return float64(a.hub.Lost()) })
	}
	for _, addr := range cfg.Outbound.Addrs {
		ln, err := listen("outbound", addr, options(cfg.Outbound.Direction))
		if err != nil {
			return err
		}
		a.outboundLns = append(a.outboundLns, ln)
	}
	return nil
}

func socket(s config.Socket) netx.SocketOptions {
	return netx.SocketOptions{KeepAlive: s.KeepAlive, UserTimeout: s.UserTimeout}
}

// control connects to the control plane.
func (a *App) control(set *series.Set) error {
	cfg := a.cfg
	resolutions := a.reg.Open("control_dns_resolutions", "The number of DNS resolutions")
	connect := func(name string, c config.Controller) (discovery.Controller, error) {
		cc, err := a.controlConfig(name, c, set, resolutions)
		if err != nil {
			return discovery.Controller{}, err
		}
		conn, err := discovery.Connect(cc)
		if err != nil {
			return discovery.Controller{}, err
		}
		a.closers = append(a.closers, func() { conn.Close() })
		return discovery.Controller{Conn: conn, Loopback: c.Addr.Loopback()}, nil
	}
	if err := a.identityClient(set, resolutions); err != nil {
		return err
	}
	if cfg.Trace.Collector.Set() {
		if err := a.trace(set, resolutions); err != nil {
			return err
		}
	}
	destination, err := connect("dst", cfg.Destination)
	if err != nil {
		return err
	}
	policy, err := connect("policy", cfg.Policy)
	if err != nil {
		return err
	}
	var ports []uint16
	cfg.Inbound.Ports.Each(func(p uint16) { ports = append(ports, p) })
	ports = append(ports, cfg.Admin.Addr.Port())
	if cfg.Inbound.GatewaySuffixes != nil {
		ports = append(ports, cfg.Inbound.Addr.Port())
	}
	def := model.DefaultPolicy(cfg.Inbound.DefaultPolicy)
	a.client = discovery.New(discovery.Config{
		Destination: destination, Policy: policy,
		ContextToken: cfg.DestinationContext, Workload: cfg.PolicyWorkload,
		Limits: discovery.Limits{
			Initial: cfg.Streams.Initial, Idle: cfg.Streams.Idle, Lifetime: cfg.Streams.Lifetime,
		},
		ProfileNetworks: cfg.Outbound.ProfileNetworks, ProfileSuffixes: cfg.Outbound.ProfileSuffixes,
		GatewaySuffixes: cfg.Inbound.GatewaySuffixes,
		OutboundIdle:    cfg.Outbound.DiscoveryIdle, InboundIdle: cfg.Inbound.DiscoveryIdle,
		DefaultPolicy: func(port uint16) *model.ServerPolicy {
			return model.DefaultServerPolicy(def, cfg.Inbound.ClusterNetworks, cfg.Inbound.DetectTimeout, cfg.Inbound.OpaquePorts.Contains(port))
		},
		DetectTimeout: cfg.Inbound.DetectTimeout,
		Ports:         ports,
		Log:           logs.For(a.o.Log.Logger(), "linkerd_app_core::control"),
	})
	a.closers = append(a.closers, a.client.Close)
	return nil
}

// balancers are the prefixes of the controllers' balancer families, by the name
// of the client in DNS metrics.
var balancers = map[string]string{
	"dst": "control_destination_balancer", "policy": "control_policy_balancer", "identity": "control_identity_balancer",
	"opentelemetry": "opentelemetry_balancer",
}

// controlConfig is how a controller is connected to.
func (a *App) controlConfig(client string, c config.Controller, set *series.Set, resolutions *metric.Family) (discovery.ControlConfig, error) {
	resolver, err := dns.New(dns.Config{
		MinTTL: a.cfg.DNS.MinTTL, MaxTTL: a.cfg.DNS.MaxTTL,
		Count: func(recordType, result string) {
			resolutions.Count(metric.Labels("client", client, "record_type", recordType, "result", result))
		},
	})
	if err != nil {
		return discovery.ControlConfig{}, err
	}
	cc := discovery.ControlConfig{
		Addr:     discovery.ControlAddr{Host: c.Addr.Host, Port: c.Addr.Port},
		Resolver: resolver, Credentials: a.store, ConnectTimeout: a.cfg.Outbound.ConnectTimeout,
		Log: logs.For(a.o.Log.Logger(), "linkerd_app_core::control"),
	}
	tls := metric.Labels("tls", "no_identity", "no_tls_reason", string(series.Loopback))
	if c.Name != "" {
		id, err := model.ParseDNSIdentity(c.Name)
		if err != nil {
			return cc, fmt.Errorf("controller %s: %w", c.Addr, err)
		}
		cc.Addr.TLS = model.DNSTLS(id)
		tls = series.ClientTLS(id, "")
	}
	addr := metric.Labels("addr", strings.TrimSuffix(c.Addr.Host, ".")+fmt.Sprintf(":%d", c.Addr.Port))
	cc.Hooks = controlHooks(set.Control(metric.Join(addr, tls)), series.NewBalancer(a.reg, balancers[client]), addr)
	return cc, nil
}

func http2Server(s config.H2Server) h2.Options {
	return h2.Options{
		InitialStreamWindow: s.StreamWindow, InitialConnectionWindow: s.ConnWindow, AdaptiveWindow: s.Adaptive,
		MaxFrameSize: s.MaxFrameSize, MaxHeaderListSize: s.MaxHeaderList, MaxConcurrentStreams: s.MaxConcurrentStreams,
		MaxPendingResets: int(s.MaxPendingResets), MaxSendBuffer: s.MaxSendBuffer, KeepAliveInterval: s.KeepAliveInterval, KeepAliveTimeout: s.KeepAliveTimeout,
	}
}

func http2Client(d config.Direction) h2.Options {
	return h2.Options{InitialStreamWindow: d.ClientStreamWindow, InitialConnectionWindow: d.ClientConnWindow}
}

func backoff(b config.Backoff) pool.Backoff {
	return pool.Backoff{Base: b.Min, Max: b.Max, Jitter: b.Jitter}
}

// outboundConfig makes the outbound proxy's configuration.
func (a *App) outboundConfig(set *series.Set) outbound.Config {
	c := &a.cfg.Outbound
	dialer := a.o.OutboundDialer
	if dialer == nil {
		dialer = &netx.TCPDialer{SocketOptions: socket(c.Connect), Timeout: c.ConnectTimeout}
	}
	dst := a.o.OutboundDst
	if dst == nil {
		dst = netx.SocketOriginalDst
	}
	return outbound.Config{
		Own: a.cfg.Inbound.IPs, Detect: c.DetectTimeout, ConnectTimeout: c.ConnectTimeout, Idle: c.DiscoveryIdle,
		HTTPQueue:   outbound.Queue{Capacity: int(c.HTTPQueue.Capacity), FailFast: c.HTTPQueue.FailFast},
		TCPQueue:    outbound.Queue{Capacity: int(c.TCPQueue.Capacity), FailFast: c.TCPQueue.FailFast},
		MaxInFlight: int(c.MaxInFlight), MaxIdleConns: int(c.MaxIdleConns), IdleTimeout: c.IdleTimeout,
		Backoff: backoff(c.ConnectBackoff), HTTP2Server: http2Server(c.Server), HTTP2Client: http2Client(c.Direction),
		Ingress: c.IngressMode, Quiet: c.Quiet, HostnameLabels: c.HostnameLabels,
		Lookup: a.client, Resolver: a.client, TLS: a.store, Dialer: dialer, OriginalDst: dst,
		Series: set, Drain: a.outDrain, Clock: a.o.Clock, Log: a.o.Log.Logger(),
		AccessLog: a.accessLog(a.cfg.Log.OutboundAccess, accesslog.Outbound),
		Memory:    a.memory, Tap: &a.hub, Tracer: a.tracer,
	}
}

// accessLog makes an access log; nil if there is to be none.
func (a *App) accessLog(format string, create func(accesslog.Format, io.Writer) *accesslog.Log) *accesslog.Log {
	f, ok := accesslog.ParseFormat(format)
	if !ok {
		return nil
	}
	if a.o.AccessLog != nil {
		return create(f, a.o.AccessLog)
	}
	return create(f, os.Stderr)
}

// inboundConfig makes the inbound proxy's configuration.
func (a *App) inboundConfig(set *series.Set) (inbound.Config, error) {
	c := &a.cfg.Inbound
	dialer := a.o.InboundDialer
	if dialer == nil {
		dialer = &netx.TCPDialer{SocketOptions: socket(c.Connect), Timeout: c.ConnectTimeout}
	}
	dst := a.o.InboundDst
	if dst == nil {
		dst = netx.SocketOriginalDst
	}
	ic := inbound.Config{
		Port: netx.AddrPort(a.inboundLn.Addr()).Port(), IPs: c.IPs, Ports: c.Ports, Proxied: c.ProxyProtocolPorts, Detect: c.DetectTimeout,
		Queue: int(c.HTTPQueue.Capacity), FailFast: c.HTTPQueue.FailFast, MaxInFlight: int(c.MaxInFlight),
		MaxIdleConns: int(c.MaxIdleConns), IdleTimeout: c.IdleTimeout, Backoff: backoff(c.ConnectBackoff),
		HTTP2Server: http2Server(c.Server), HTTP2Client: http2Client(c.Direction), AuthorityLabels: c.AuthorityLabels,
		ProfileSuffixes: a.cfg.Outbound.ProfileSuffixes, ProfileTimeout: c.ProfileTimeout,
		Policies: a.client, Profiles: a.client, TLS: a.store, Dialer: dialer, OriginalDst: dst,
		Series: set, Drain: a.drain, Clock: a.o.Clock, Log: a.o.Log.Logger(),
		AccessLog: a.accessLog(a.cfg.Log.Access, accesslog.New), ForwardedFor: inbound.ForwardedFor(c.ForwardedFor),
		Memory: a.memory, Tap: &a.hub, Tracer: a.tracer,
	}
	if c.GatewaySuffixes != nil {
		id, err := model.ParseIdentity(a.cfg.Identity.ServerID)
		if err != nil {
			return ic, err
		}
		ic.Gateway = gateway.New(a.outbound, id)
	}
	return ic, nil
}
