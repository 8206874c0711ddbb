package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accept"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/sniff"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
)

// Proxy is the outbound proxy. See the package comment.
type Proxy struct {
	cfg     Config
	targets *lookup.Cache[targetKey, *target]
	// src counts the application's connections.
	src *series.Transports[netip.AddrPort]
	// ctx ends with Close.
	ctx      context.Context
	cancel   context.CancelFunc
	inFlight atomic.Int64
	// mirrors counts the copies of requests that are under way.
	mirrors atomic.Int64
	// ending are HTTP/2 connections whose last streams are awaited, and copies
	// of requests.
	ending sync.WaitGroup
	// hungUp notices HTTP/1 clients that leave while they wait.
	hungUp *h1.Watcher
	// scarce tells HTTP/1 connections that memory is; nil without a limit.
	scarce func() bool
	// self is the key of sessions that are all that this proxy sends.
	self uint64
}

// New makes the proxy. Close has to be called in the end.
func New(cfg Config) *Proxy {
	p := &Proxy{cfg: cfg, src: series.NewTransports[netip.AddrPort](cfg.Series), hungUp: h1.NewWatcher(cfg.Clock, 0)}
	p.cfg.Log = logs.For(cfg.Log, "linkerd_app_outbound", "outbound")
	if cfg.Memory != nil {
		p.scarce = cfg.Memory.Full
	}
	p.self = self(cfg.Own)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.targets = lookup.NewCache(cfg.Idle, p.watchTarget)
	return p
}

// Close ends what the proxy keeps, after its connections have ended.
func (p *Proxy) Close() {
	p.cancel()
	p.targets.Close()
	p.ending.Wait()
}

// Conn is a connection of the application.
type Conn struct {
	p     *Proxy
	drain *drain.Handle
	// conn is where bytes are read and written, with what was read ahead put
	// back; counted is below it.
	conn, counted net.Conn
	client        netip.AddrPort
	dst           netip.AddrPort
	target        *target
	// way is set if the server was the first to speak.
	way *way
	// lease holds target; nil if requests say themselves where they go.
	lease *lookup.Lease[*target]
	// http1 is the codec of a connection that was found to be HTTP/1.
	http1 *h1.Server
	// standing is what it has if memory is scarce.
	standing *overload.Standing
}

// Client is the application's address.
func (c *Conn) Client() netip.AddrPort { return c.client }

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
	c.release()
}

// release gives back what the connection held, and closes it.
func (c *Conn) release() {
	if c.lease != nil {
		c.lease.Release()
	}
	c.counted.Close()
}

// open makes the connection's state. It is nil if nobody knows where the
// connection goes.
func (p *Proxy) open(raw net.Conn, h *drain.Handle) *Conn {
	// Where was the connection going before it was redirected here?
	dst, err := p.cfg.OriginalDst(raw)
	if err != nil {
		p.cfg.Log.Warn("Server failed to accept connection", "error", err)
		return nil
	}
	c := &Conn{p: p, drain: h, client: netx.AddrPort(raw.RemoteAddr()), dst: dst, standing: overload.StandingOf(raw)}
	c.counted = transport.CountOwn(raw, p.src.Get(dst, srcLabels))
	c.conn = c.counted
	// Until it is known what the connection is for, a drain just closes it.
	h.OnStart(func() { raw.Close() })
	return c
}

// find goes the way of the connection up to where it is HTTP/1, or to its end.
func (c *Conn) find() (http1 bool) {
	// Whatever the steps return is why the connection ended.
	if err := c.accept(); err != nil {
		c.p.failed(c, err)
	}
	return c.http1 != nil
}

// srcLabels are those of the application's connections to a destination.
func srcLabels(dst netip.AddrPort) string {
	return metric.Join(series.OutboundLabel, series.SrcLabel, series.Target(dst), series.ClientTLS(model.Identity{}, series.Loopback))
}

// accept is Accept once the connection has a destination. HTTP/1 is left to be
// served, and what the connection holds to be released.
func (c *Conn) accept() error {
	p := c.p
	// An ingress controller's requests say themselves where they go.
	if p.cfg.Ingress {
		return c.ingress()
	}
	// Ask the control plane about the destination; wait for its answer.
	lease, err := p.targets.Get(p.ctx, targetKey{addr: c.dst})
	if err != nil {
		return fmt.Errorf("discover %s: %w", c.dst, err)
	}
	c.lease = lease
	c.target = lease.Value()
	now := c.target.state.Load().target
	// What is spoken decides who serves it.
	plan := afterDiscovery(now)
	parent := series.Parent(now.Policy.Parent)
	p.cfg.Series.OutboundProtocols.Count(metric.Join(metric.Labels("protocol", protocolLabel(plan)), parent))
	if plan == planSniff {
		if plan, err = c.sniff(parent); err != nil {
			return err
		}
	}
	return c.serve(plan)
}

// serve hands the connection to what takes its protocol.
func (c *Conn) serve(plan plan) error {
	switch plan {
	case planHTTP1:
		c.http1 = c.newHTTP1(&Handler{p: c.p, target: c.target, conn: c})
		return nil
	case planHTTP2:
		return c.serveHTTP2(&Handler{p: c.p, target: c.target, conn: c})
	case planTLS:
		return c.serveTLS()
	case planMaybeTLS:
		if done, err := c.serveRoutedTLS(); done {
			return err
		}
	}
	// There is no way to say that memory is scarce but to close.
	if c.p.cfg.Memory.Full() {
		if c.way != nil {
			c.way.server.Close()
			c.way.pick.Release()
		}
		return balance.ErrLoadShed
	}
	// Bytes may be on their way from now on: a drain waits for the end.
	c.drain.Bytes()
	return c.p.opaque(c.conn, c.target, c.dst, c.way, c.log())
}

// look looks at the first bytes, whoever sends them.
func (c *Conn) look() (detect.Protocol, error) {
	if c.target != nil {
		conn, server, who, err := sniff.First(c.conn, c.detect(), func() (net.Conn, error) {
			w, err := c.p.connect(c.target, nil)
			if err != nil {
				return nil, err
			}
			c.way = w
			return w.server, nil
		})
		c.conn = conn
		if c.way != nil && server == nil {
			c.way.pick.Release()
			c.way = nil
		}
		switch {
		case err != nil:
			return detect.NotHTTP, err
		case who == sniff.Server:
			c.way.server = server
			return detect.NotHTTP, nil
		case who == sniff.Nobody:
			return detect.Undecided, sniff.ErrReadTimeout
		}
	}
	conn, found, err := sniff.HTTP(c.conn, c.detect())
	c.conn = conn
	return found, err
}

// detect is how long the first bytes are waited for.
func (c *Conn) detect() time.Duration {
	if c.target != nil {
		if d := c.target.state.Load().target.Policy.Detect; d > 0 {
			return d
		}
	}
	return c.p.cfg.Detect
}

// sniff looks at the first bytes.
func (c *Conn) sniff(parent string) (plan, error) {
	d := &c.p.cfg.Series.OutboundDetect
	began := c.p.cfg.Clock.Now()
	found, err := c.look()
	duration := d.Duration.Histogram(parent)
	duration.ObserveDuration(c.p.cfg.Clock.Now().Sub(began))
	duration.Release()
	result := found.String()
	switch {
	case errors.Is(err, sniff.ErrReadTimeout):
		result, found, err = "read_timeout", detect.Undecided, nil
		c.log().Info("Continuing after timeout", "timeout", netx.Duration(c.detect()))
	case err != nil:
		result = "error"
	}
	d.Results.Count(metric.Join(metric.Labels("result", result), parent))
	if err != nil && !errors.Is(err, sniff.ErrClosed) {
		return planOpaque, err
	}
	if err != nil {
		// A client that connected and left is nothing to speak of.
		c.log().Debug("Connection closed", "error", err)
		return planOpaque, errSilent
	}
	if c.target == nil {
		return afterSniff(noTarget, found, false), nil
	}
	return afterSniff(c.target.state.Load().target, found, c.way == nil), nil
}

// noTarget stands for the destination of a connection whose requests say
// themselves where they go.
var noTarget = &model.Target{Policy: &model.ClientPolicy{}}

// errSilent ends a connection without counting it as an error.
var errSilent = errors.New("connection closed")

func (c *Conn) newHTTP1(h exchange.Handler) *h1.Server {
	return h1.NewServer(c.conn, h, h1.ServerOptions{Info: c, Watcher: c.p.hungUp, Scarce: c.p.scarce, Again: true})
}

func (c *Conn) serveHTTP2(h exchange.Handler) error {
	o := c.p.cfg.HTTP2Server
	if c.p.scarce != nil {
		o.Scarce = c.p.cfg.Memory.TakeOn(c.standing)
	}
	s := h2.NewServer(c.conn, h, c, o)
	c.drain.OnWeigh(s.Held)
	c.drain.OnStart(s.Drain)
	if err := s.Serve(); err != nil {
		c.closed(err)
	}
	return nil
}

// closed tells why a connection ended that was no error of the proxy.
func (c *Conn) closed(err error) { c.log().Debug("Connection closed", "error", err) }

// log is the connection's logger; it is made only where something is logged.
func (c *Conn) log() *slog.Logger {
	return logs.For(c.p.cfg.Log, "linkerd_app_outbound", fmt.Sprintf("accept{client.addr=%s}", c.client), fmt.Sprintf("proxy{addr=%s}", c.dst))
}

// failed counts and logs a connection that ended for a reason of the proxy.
func (p *Proxy) failed(c *Conn, err error) {
	if errors.Is(err, errSilent) {
		return
	}
	label := tcpLabel(err)
	p.cfg.Series.OutboundTCPErrors.Count(metric.Join(series.Target(c.dst), metric.Labels("error", label)))
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
