package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Config is what a connection is made from.
type Config struct {
	// Name is who the server is, for errors and the log.
	Name string
	// Authority is the :authority of requests, UserAgent their user-agent.
	Authority, UserAgent string
	// Resolve finds the server's addresses. It is called again when the answer
	// has expired, and after failures.
	Resolve func(context.Context) (dns.Answer, error)
	// Dial connects to one of them, including any handshake, within a time of
	// its own choice.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// Backoff between attempts to connect and to resolve.
	Backoff model.Backoff
	// KeepAlive, if set, is the silence after which a server with calls under way
	// is asked whether it lives; one that does not answer for KeepAliveTimeout has
	// its connection closed. Streams are silent for hours, and a server that was
	// killed, or whose node was, takes no leave.
	KeepAlive, KeepAliveTimeout time.Duration
	// MaxMessage limits what is received, in bytes; 0 means 4 MiB.
	MaxMessage int
	// Hooks are told of what happens.
	Hooks Hooks
	// Log, nil for slog's default.
	Log *slog.Logger
}

// Hooks are told of what happens, for metrics. Any may be nil; they must not
// block.
type Hooks struct {
	// Request: a call was begun.
	Request func()
	// Response: it ended like this, after this time.
	Response func(code Code, took time.Duration)
	// Resolved: the server has so many addresses at present.
	Resolved func(addrs int)
	// Connected: a connection was made (1) or closed (-1).
	Connected func(delta int)
}

// Conn is a connection to a server, or rather one to each of its addresses.
// All methods may be called from any goroutine.
type Conn struct {
	cfg     Config
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	refresh refresher

	// mu guards what follows.
	mu      sync.Mutex
	started bool
	closed  bool
	// endpoints are the addresses in use; resolved says that they are known,
	// failure why they are not.
	endpoints []*endpoint
	resolved  bool
	failure   error
	// changed is closed, and replaced, whenever a call that waits should look
	// again.
	changed chan struct{}
}

// endpoint is one address of the server. Its fields are guarded by Conn.mu.
type endpoint struct {
	addr   netip.AddrPort
	cancel context.CancelFunc
	// conn is nil while there is no connection; failure is then why the last
	// attempt failed, nil during the first.
	conn    *h2.ClientConn
	failure error
	// calls are those under way.
	calls int
	// doubt counts the calls that got no answer since the last that did. A
	// connection may well live while what is behind it does not.
	doubt int
}

// ErrClosed: the connection was closed by its owner.
var ErrClosed = errors.New("connection is closed")

// New makes a connection. Nothing is resolved or dialled before the first call.
// Close has to be called.
func New(cfg Config) *Conn {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 4 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	c := &Conn{cfg: cfg, changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.refresh = refresher{
		backoff: backoff.Series{B: cfg.Backoff}, resolve: cfg.Resolve, hint: make(chan struct{}, 1),
		found: c.found, failed: c.unresolved,
	}
	return c
}

// Close fails all calls, closes the connections and waits for the goroutines.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.wakeLocked()
	c.mu.Unlock()
	c.cancel()
	c.running.Wait()
	return nil
}

func (c *Conn) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// found takes the addresses of the moment: connections to new ones are made,
// those to old ones end with their last call.
func (c *Conn) found(addrs []netip.AddrPort) {
	if c.cfg.Hooks.Resolved != nil {
		c.cfg.Hooks.Resolved(len(addrs))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	old := make(map[netip.AddrPort]*endpoint, len(c.endpoints))
	for _, e := range c.endpoints {
		old[e.addr] = e
	}
	c.endpoints = c.endpoints[:0:0]
	for _, a := range addrs {
		e := old[a]
		delete(old, a)
		if e == nil {
			var ctx context.Context
			e = &endpoint{addr: a}
			ctx, e.cancel = context.WithCancel(c.ctx)
			c.running.Go(func() { c.keep(ctx, e) })
		}
		c.endpoints = append(c.endpoints, e)
	}
	for _, e := range old {
		e.cancel()
	}
	c.resolved, c.failure = true, nil
	c.wakeLocked()
}

func (c *Conn) unresolved(err error) {
	c.cfg.Log.Warn("Failed to resolve controller", "controller", c.cfg.Name, "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	// Addresses that were known go on being used.
	if c.failure = err; !c.resolved {
		c.wakeLocked()
	}
}

// keep keeps a connection to one address until ctx is done.
func (c *Conn) keep(ctx context.Context, e *endpoint) {
	retries := backoff.Series{B: c.cfg.Backoff}
	for ctx.Err() == nil {
		nc, err := c.cfg.Dial(ctx, e.addr)
		if err == nil {
			began := time.Now()
			c.serve(ctx, e, nc)
			c.refresh.again()
			// A server that closes as soon as it has accepted is as good as one
			// that does not accept.
			if time.Since(began) >= c.cfg.Backoff.Min {
				retries.Reset()
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.mu.Lock()
			e.failure = err
			c.wakeLocked()
			c.mu.Unlock()
			c.refresh.again()
		}
		timer := time.NewTimer(retries.Next())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// serve offers a connection to calls until it ends, or ctx is done and with it
// the last call.
func (c *Conn) serve(ctx context.Context, e *endpoint, nc net.Conn) {
	draining := make(chan struct{})
	hc := h2.NewClientConn(nc, h2.Options{
		Draining:          func() { close(draining) },
		KeepAliveInterval: c.cfg.KeepAlive, KeepAliveTimeout: c.cfg.KeepAliveTimeout,
	})
	if c.cfg.Hooks.Connected != nil {
		c.cfg.Hooks.Connected(1)
	}
	c.mu.Lock()
	e.conn, e.failure, e.doubt = hc, nil, 0
	c.wakeLocked()
	c.mu.Unlock()
	select {
	case <-hc.Done():
	case <-draining:
	case <-ctx.Done():
	}
	c.mu.Lock()
	e.conn = nil
	c.mu.Unlock()
	hc.Drain()
	// Another connection must not wait until the last stream of this one, which
	// may last for hours, has ended.
	c.running.Go(func() {
		select {
		case <-hc.Done():
		case <-c.ctx.Done():
			hc.Close()
		}
		hc.Wait()
		if c.cfg.Hooks.Connected != nil {
			c.cfg.Hooks.Connected(-1)
		}
	})
}

// pick gives the less busy of two connections, of those that answer; calls to
// controllers are streams that last, so their number says more than their
// latency, but one that answers none has the fewest. Unless the call is
// to wait for better times it fails as soon as all attempts to connect have
// failed. The caller gives the endpoint back.
func (c *Conn) pick(ctx context.Context, wait bool) (*endpoint, *h2.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.started && !c.closed {
		c.started = true
		c.running.Go(func() { c.refresh.run(c.ctx) })
	}
	for {
		if c.closed {
			return nil, nil, &Error{Code: Canceled, Message: c.cfg.Name + ": " + ErrClosed.Error(), Err: ErrClosed}
		}
		if e := c.readyLocked(); e != nil {
			e.calls++
			return e, e.conn, nil
		}
		if err := c.failureLocked(); err != nil && !wait {
			return nil, nil, &Error{Code: Unavailable, Message: err.Error(), Err: err}
		}
		changed := c.changed
		c.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		}
		c.mu.Lock()
		if err != nil {
			if f := c.failureLocked(); f != nil {
				// What it waited for is what the reader of the log looks for.
				return nil, nil, &Error{Code: CodeOf(err), Message: fmt.Sprintf("%v while waiting for a connection: %v", err, f), Err: err}
			}
			return nil, nil, &Error{Code: CodeOf(err), Message: err.Error(), Err: err}
		}
	}
}

// readyLocked picks a connection, nil if there is none.
func (c *Conn) readyLocked() *endpoint {
	var a, b *endpoint
	n := 0
	for _, e := range c.endpoints {
		if e.conn == nil || e.conn.Draining() || a != nil && e.doubt > a.doubt {
			continue
		}
		if a != nil && e.doubt < a.doubt {
			// Those before are not the best.
			a, b, n = nil, nil, 0
		}
		// Two of n, each as likely as the others.
		switch n++; {
		case a == nil:
			a = e
		case b == nil:
			b = e
		default:
			if i := rand.IntN(n); i == 0 {
				a = e
			} else if i == 1 {
				b = e
			}
		}
	}
	if b != nil && b.calls < a.calls {
		return b
	}
	return a
}

// failureLocked is why there is no connection, nil while one may still come.
func (c *Conn) failureLocked() error {
	if !c.resolved {
		return c.failure
	}
	if len(c.endpoints) == 0 {
		return fmt.Errorf("%s: %w", c.cfg.Name, dns.ErrNotFound)
	}
	var last error
	for _, e := range c.endpoints {
		if e.failure == nil {
			return nil
		}
		last = e.failure
	}
	return last
}

// release gives an endpoint back, after a call that it answered or not; neither
// says that it cannot be told.
func (c *Conn) release(e *endpoint, answered, unanswered bool) {
	c.mu.Lock()
	e.calls--
	switch {
	case answered:
		e.doubt = 0
	case unanswered:
		e.doubt++
	}
	c.mu.Unlock()
	if unanswered && !answered {
		// Perhaps it is not one of the server's any more.
		c.refresh.again()
	}
}
