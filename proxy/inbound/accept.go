package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accept"
	"github.com/linkerd-go/linkerd-go/proxy/authz"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/origproto"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/sniff"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
)

// Proxy is the inbound proxy. See the package comment.
type Proxy struct {
	cfg   Config
	ports *lookup.Cache[uint16, *port]
	// src counts the connections of clients, dst those to the application.
	src *series.Transports[srcKey]
	dst *series.Transport
	// ctx ends with Close.
	ctx      context.Context
	cancel   context.CancelFunc
	inFlight atomic.Int64
	profiles *profiles
	// ending are HTTP/2 connections whose last streams are awaited.
	ending sync.WaitGroup
	// hungUp notices HTTP/1 clients that leave while they wait.
	hungUp *h1.Watcher
	// scarce tells HTTP/1 connections that memory is; nil without a limit.
	scarce func() bool
}

// New makes the proxy. Close has to be called in the end.
func New(cfg Config) *Proxy {
	p := &Proxy{cfg: cfg, src: series.NewTransports[srcKey](cfg.Series), dst: cfg.Series.Transport(dstLabels), hungUp: h1.NewWatcher(cfg.Clock, 0)}
	p.cfg.Log = logs.For(cfg.Log, "linkerd_app_inbound", "inbound")
	if cfg.Memory != nil {
		p.scarce = cfg.Memory.Full
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.ports = lookup.NewCache(portIdle, p.watchPort)
	p.profiles = newProfiles(p)
	return p
}

// Close ends what the proxy keeps, after its connections have ended.
func (p *Proxy) Close() {
	p.cancel()
	p.profiles.close()
	p.ports.Close()
	p.ending.Wait()
	p.dst.Release()
}

// Reasons why connections are refused. The texts reach the log.
var (
	errDirectTLS = errors.New("direct connections must be mutually authenticated")
	errNoHeader  = errors.New("direct connections require transport header negotiation")
)

// errAddress refuses a connection for an address that is not the pod's.
type errAddress netip.Addr

func (e errAddress) Error() string {
	return fmt.Sprintf("inbound connections are not allowed on this IP address (%s)", netip.Addr(e))
}

// Accept takes one connection from its first byte to its last. It is the path
// that the package is about; what it returns, if anything, is the rest of it.
func (p *Proxy) Accept(raw net.Conn, h *drain.Handle) accept.Rest {
	c := p.open(raw, h)
	if c == nil {
		raw.Close()
		return nil
	}
	if c.find() {
		h.OnStart(c.http1.Drain)
		return c
	}
	c.release()
	raw.Close()
	return nil
}

// GoOn serves HTTP/1. Most connections wait below it for their next request, most of
// the time.
func (c *Conn) GoOn() (again bool) {
	err := c.http1.Serve()
	if err == h1.ErrAgain {
		return true
	}
	c.over(err)
	return false
}

// over ends a connection whose HTTP/1 codec has ended.
//
//go:noinline
func (c *Conn) over(err error) {
	if err != nil {
		c.closed(err)
	}
	c.conn.Close()
	c.release()
}

// open makes the connection's state. It is nil if nobody knows where the
// connection goes.
func (p *Proxy) open(raw net.Conn, h *drain.Handle) *Conn {
	// Where was the connection going before it was redirected here?
	target, err := p.cfg.OriginalDst(raw)
	if err != nil {
		p.cfg.Log.Warn("Server failed to accept connection", "error", err)
		return nil
	}
	// Until it is known what the connection is for, a drain just closes it.
	h.OnStart(func() { raw.Close() })
	return &Conn{
		p: p, drain: h, conn: raw, target: target, standing: overload.StandingOf(raw),
		client: netx.AddrPort(raw.RemoteAddr()), local: netx.AddrPort(raw.LocalAddr()),
	}
}

// find goes the way of the connection up to where it is HTTP/1, or to its end.
func (c *Conn) find() (http1 bool) {
	// Whatever the steps return is why the connection ended.
	if err := c.accept(c.p.cfg.Detect); err != nil {
		c.p.failed(c, err)
	}
	return c.http1 != nil
}

// accept is Accept once the connection has a target. HTTP/1 is left to be served,
// and what the connection holds to be released.
func (c *Conn) accept(detectTimeout time.Duration) error {
	p := c.p
	// Is it for this pod at all?
	if len(p.cfg.IPs) > 0 && !slices.Contains(p.cfg.IPs, c.target.Addr()) {
		return errAddress(c.target.Addr())
	}
	// A connection for the proxy itself says in a header what it is for.
	if c.target.Port() == p.cfg.Port {
		return c.direct()
	}
	// A load balancer says who the client is, where it is to be believed.
	if p.cfg.Proxied != nil && p.cfg.Proxied.Contains(c.target.Port()) {
		if err := c.proxied(); err != nil {
			return err
		}
	}
	// The policy of the target's port decides the rest.
	if err := c.lease(c.target.Port()); err != nil {
		return err
	}
	// Mesh TLS is terminated, unless the port must not be looked at.
	pol := c.port.policy.Load()
	if !wantsTLSSniff(pol.Protocol) {
		c.tls = series.ServerTLS{Reason: series.PortSkipped}
		return c.forward()
	}
	// A server that speaks first need not be announced.
	if pol.Protocol == model.ProtocolDetect {
		switch who, err := c.first(pol, detectTimeout); {
		case err != nil:
			return err
		case who == sniff.Server:
			c.tls = series.ServerTLS{Reason: series.NoTLSFromRemote}
			return c.forward()
		case who == sniff.Nobody:
			return sniff.ErrTLSTimeout
		}
	}
	if err := c.terminate(detectTimeout); err != nil {
		return err
	}
	// What is spoken inside decides who serves it.
	switch c.protocol(pol) {
	case planHTTP1:
		c.http1 = c.newHTTP1(p, true)
		return nil
	case planHTTP2:
		return c.serveHTTP2(p)
	}
	return c.forward()
}

// Conn is a client's connection. Requests on it share it: what does not change
// after the connection was set up may be read by all of them.
type Conn struct {
	p      *Proxy
	drain  *drain.Handle
	conn   net.Conn
	client netip.AddrPort
	local  netip.AddrPort
	// target is where requests or bytes go: the original destination, or what
	// a transport header said.
	target netip.AddrPort
	tls    series.ServerTLS
	alpn   string
	// others are the names of the client's certificate beside tls.Client; nearly
	// all certificates have one name.
	others []model.Identity
	// server is the application's connection, if it spoke first.
	server net.Conn
	// authority is what requests are for that do not say it.
	authority string
	port      *port
	held      *lease
	// next, if set, takes permitted requests instead of the application: the
	// admin server, the gateway.
	next exchange.Handler
	// own says that next is a server of the proxy's own.
	own bool
	// standing is what it has if memory is scarce.
	standing *overload.Standing
	// http1 is the codec of a connection that was found to be HTTP/1.
	http1 *h1.Server

	// permits are those that requests of this connection used, by policy,
	// route and authorization; it is replaced, never changed.
	permits atomic.Pointer[[]heldPermit]
	mu      sync.Mutex // guards replacing permits
}

// Client is the peer's address.
func (c *Conn) Client() netip.AddrPort { return c.client }

// who is the client as authorizations see it.
func (c *Conn) who() authz.Client {
	return authz.Client{Addr: c.client.Addr(), TLS: c.tls.State == series.TLSMesh, ID: c.tls.Client, Others: c.others}
}

// proxied takes the client from the header of a load balancer, if there is one.
func (c *Conn) proxied() error {
	conn, client, err := sniff.Proxy(c.conn)
	c.conn = conn
	if client.IsValid() {
		c.client = client
	}
	return err
}

// lease gets hold of the state of a port.
func (c *Conn) lease(number uint16) error {
	l, err := c.p.ports.Get(c.p.ctx, number)
	if err != nil {
		return fmt.Errorf("policy of port %d: %w", number, err)
	}
	c.held, c.port = l, l.Value()
	return nil
}

// release gives back what the connection held of its port, if it did.
func (c *Conn) release() {
	if c.held == nil {
		return
	}
	if list := c.permits.Swap(nil); list != nil {
		for _, h := range *list {
			c.port.release(h.permit)
		}
	}
	c.held.Release()
	c.held = nil
}

// terminate looks for TLS and, if it is for this workload, does the handshake.
func (c *Conn) terminate(timeout time.Duration) error {
	conn, hello, sni, err := sniff.TLS(c.conn, timeout)
	c.conn = conn
	switch {
	case err != nil:
		return err
	case hello != detect.TLS || sni == "":
		c.tls = series.ServerTLS{Reason: series.NoTLSFromRemote}
		return nil
	case sni != c.p.cfg.TLS.ServerName():
		c.tls = series.ServerTLS{State: series.TLSOpaque, SNI: c.p.cfg.Series.Names.Label(sni)}
		return nil
	}
	cfg := c.p.cfg.TLS.ServerConfig()
	if c.target.Port() == c.p.cfg.Port {
		cfg = c.p.cfg.TLS.DirectConfig()
	}
	t := meshtls.Server(conn, cfg)
	// Upstream sets no limit, which lets a client hold a connection for ever
	// by never finishing.
	ctx, cancel := context.WithTimeout(c.p.ctx, handshakeLimit)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	state := t.ConnectionState()
	c.conn, c.alpn = t, state.NegotiatedProtocol
	c.tls = series.ServerTLS{State: series.TLSMesh}
	c.tls.Client, c.others = meshtls.PeerIdentities(&state)
	return nil
}

// headerLimit is how long the head of an HTTP/1 request may take to arrive.
// Upstream sets no limit, which lets a client hold a connection by sending a
// byte now and then; no honest client is this slow.
const headerLimit = time.Minute

// handshakeLimit is how long a TLS handshake may take.
const handshakeLimit = 10 * time.Second

// protocol decides what is spoken, looking at first bytes if it must.
func (c *Conn) protocol(pol *policy) plan {
	plan := afterTLS(pol.Protocol, c.tls.State)
	if plan != planSniff && plan != planSniffHTTP1 {
		return plan
	}
	timeout := c.p.cfg.Detect
	if plan == planSniff {
		timeout = pol.DetectTimeout
	}
	d := &c.p.cfg.Series.InboundDetect
	began := c.p.cfg.Clock.Now()
	found, err := c.sniff(pol, plan, timeout)
	duration := d.Duration.Histogram(pol.srv)
	duration.ObserveDuration(c.p.cfg.Clock.Now().Sub(began))
	duration.Release()
	result := found.String()
	switch {
	case errors.Is(err, sniff.ErrReadTimeout):
		result = "read_timeout"
		if plan == planSniff {
			c.log().Info("Handling connection as opaque due to policy", "timeout", netx.Duration(timeout))
		}
	case err != nil:
		result = "error"
		c.log().Debug("Connection closed", "error", err)
	}
	d.Results.Count(metric.Join(metric.Labels("result", result), pol.srv))
	return afterSniff(plan, found)
}

// sniff looks at the first bytes inside, whoever sends them.
func (c *Conn) sniff(pol *policy, plan plan, timeout time.Duration) (detect.Protocol, error) {
	if plan == planSniff && c.tls.State == series.TLSMesh {
		switch who, err := c.first(pol, timeout); {
		case err != nil:
			return detect.NotHTTP, err
		case who == sniff.Server:
			return detect.NotHTTP, nil
		case who == sniff.Nobody:
			return detect.Undecided, sniff.ErrReadTimeout
		}
	}
	conn, found, err := sniff.HTTP(c.conn, timeout)
	c.conn = conn
	return found, err
}

// first finds out whether the application speaks before its client does. Only
// clients that may have their bytes forwarded have it asked.
func (c *Conn) first(pol *policy, timeout time.Duration) (sniff.Speaker, error) {
	conn, server, who, err := sniff.First(c.conn, timeout, func() (net.Conn, error) {
		if by, _ := pol.permitted(c.who()); by == nil {
			return nil, errNotPermitted
		}
		return c.p.dial(c.p.ctx, c.target)
	})
	c.conn, c.server = conn, server
	return who, err
}

// errNotPermitted keeps the application from hearing of a client.
var errNotPermitted = errors.New("client is not permitted")

// srcTransport counts the client's connection from now on.
func (c *Conn) srcTransport() {
	k := srcKey{target: c.target, tls: c.tls, srv: c.port.policy.Load().srv}
	c.conn = transport.CountOwn(c.conn, c.p.src.Get(k, srcKey.labels))
}

// srcKey is what the connections of clients are labelled with.
type srcKey struct {
	target netip.AddrPort
	tls    series.ServerTLS
	srv    string
}

func (k srcKey) labels() string {
	return metric.Join(series.InboundLabel, series.SrcLabel, series.Target(k.target), k.tls.Labels(), k.srv)
}

// httpServer is what both codecs' servers are.
type httpServer interface {
	Serve() error
	Drain()
}

func (c *Conn) serveHTTP1(h exchange.Handler) error { return c.serve(c.newHTTP1(h, false)) }

// newHTTP1 makes the codec. again says that its Serve may return h1.ErrAgain.
func (c *Conn) newHTTP1(h exchange.Handler, again bool) *h1.Server {
	c.srcTransport()
	c.authority = c.target.String()
	o := h1.ServerOptions{Info: c, HeaderTimeout: headerLimit, Watcher: c.p.hungUp, Again: again}
	if !c.own {
		o.Scarce = c.p.scarce
	}
	return h1.NewServer(c.conn, h, o)
}

func (c *Conn) serveHTTP2(h exchange.Handler) error {
	c.srcTransport()
	o := c.p.cfg.HTTP2Server
	o.OwnHost = c.ownHost
	if c.p.scarce != nil && !c.own {
		o.Scarce = c.p.cfg.Memory.TakeOn(c.standing)
	}
	s := h2.NewServer(c.conn, h, c, o)
	if !c.own {
		c.drain.OnWeigh(s.Held)
	}
	return c.serve(s)
}

// ownHost is h2.Options.OwnHost. A peer's proxy has seen to it that its application
// does not choose one name for policies and another for whom it asks; where the two
// differ all the same, a route of an upstream proxy made it so.
func (c *Conn) ownHost(h *exchange.RequestHead) bool {
	return !c.tls.Client.IsZero() || origproto.Carried(h)
}

// serve runs the codec until the connection ends.
func (c *Conn) serve(s httpServer) error {
	c.drain.OnStart(s.Drain)
	if err := s.Serve(); err != nil {
		c.closed(err)
	}
	c.conn.Close()
	return nil
}

// closed tells why a connection ended. It is not an error of the proxy: the
// client, or its network, ended it.
func (c *Conn) closed(err error) { c.log().Debug("Connection closed", "error", err) }

// log is the connection's logger; it is made only where something is logged.
func (c *Conn) log() *slog.Logger {
	return logs.For(c.p.cfg.Log, "linkerd_app_inbound", fmt.Sprintf("server{port=%d}", c.target.Port())).
		With("client.addr", c.client)
}

// failed counts and logs a connection that ended before it was served.
func (p *Proxy) failed(c *Conn, err error) {
	label := tcpLabel(err)
	p.cfg.Series.InboundTCPErrors.Count(metric.Join(metric.Labels("error", label), series.Target(c.target)))
	switch {
	case errors.Is(err, balance.ErrLoadShed):
		// There are many of them, and one line for all.
	case label == ioLabel:
		// That peers go away is nothing to speak of.
		c.closed(err)
	default:
		c.log().Info("Connection closed", "error", err)
	}
}

// ioLabel is the error label of what the network, or the other side, did.
const ioLabel = "i/o"

// tcpLabel is the error label of inbound_tcp_errors_total.
func tcpLabel(err error) string {
	if r := refusal.As(err); r != nil && r.Label != "" {
		return r.Label
	}
	switch {
	case errors.Is(err, sniff.ErrTLSTimeout):
		return "tls detection timeout"
	case errors.Is(err, balance.ErrLoadShed):
		return "loadshed"
	case netx.Errno(err) != "" || netx.IsClosed(err):
		return ioLabel
	}
	return "unexpected"
}
