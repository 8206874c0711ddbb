// Package pool keeps connections to one endpoint: H1 many that carry one
// request at a time, H2 one that carries all. Both are exchange.Client.
//
//	p := pool.NewH1(pool.H1Options{Dial: dial, IdleTimeout: 3 * time.Second})
//	defer p.Close()
//	resp, err := p.RoundTrip(&x.Canceler, x.Request, x.Body)
//
// Both are safe for concurrent use.
package pool

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h1"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// ErrClosed is the error of a pool that was closed.
var ErrClosed = errors.New("connection pool is closed")

// H1Options configure a pool of HTTP/1 connections.
type H1Options struct {
	// Dial opens a connection to the endpoint.
	Dial func(ctx context.Context) (net.Conn, error)
	// MaxIdle is how many idle connections are kept for each authority and
	// form of request; 10,000 if 0.
	MaxIdle int
	// IdleTimeout is how long an idle connection is kept; 3 s if 0.
	IdleTimeout time.Duration
	// Clock is the machine's if nil.
	Clock clock.Clock
}

// H1 is a pool of HTTP/1 connections to one endpoint (proxy chapter, section
// 7.4). Requests to different authorities never share a connection, nor do
// absolute-form and origin-form ones. HTTP/1.0 requests and requests without a
// Host use a connection of their own.
type H1 struct {
	o H1Options

	// mu guards the rest.
	mu sync.Mutex
	// origin and absolute hold the idle connections by authority.
	origin, absolute map[string]*bucket
	idle             int
	closed           bool
	sweeping         bool
	sweeper          clock.Timer
}

var _ exchange.Client = (*H1)(nil)

// bucket holds the idle connections for one kind of request, the one used last
// on top.
type bucket struct{ idle []idleConn }

type idleConn struct {
	c     *h1.Conn
	since time.Time
}

// NewH1 makes an empty pool.
func NewH1(o H1Options) *H1 {
	if o.MaxIdle == 0 {
		o.MaxIdle = 10000
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = 3 * time.Second
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	return &H1{o: o, origin: make(map[string]*bucket), absolute: make(map[string]*bucket)}
}

// Close closes the idle connections, and those in use when their exchange is
// over. It does not wait for them.
func (p *H1) Close() {
	p.mu.Lock()
	p.closed = true
	var conns []*h1.Conn
	for _, m := range []map[string]*bucket{p.origin, p.absolute} {
		for _, b := range m {
			for _, i := range b.idle {
				conns = append(conns, i.c)
			}
			b.idle = nil
		}
		clear(m)
	}
	p.idle = 0
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// Idle returns how many idle connections there are.
func (p *H1) Idle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.idle
}

// trusted is how long a connection may have been idle to be used for a request
// that can be repeated, without looking whether the server has closed it. It
// saves a system call for each request on busy connections.
const trusted = 5 * time.Millisecond

// RoundTrip implements exchange.Client. A pooled connection that turns out to
// be closed is replaced, if the server cannot have seen the request or the
// request can be repeated.
func (p *H1) RoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	authority := head.Authority
	host := head.Get("host")
	if len(authority) == 0 {
		authority = host
	}
	connect := string(head.Method) == "CONNECT"
	if head.Version == exchange.HTTP10 || len(host) == 0 && !head.AbsoluteForm && len(head.Authority) == 0 || connect {
		return p.fresh(cn, head, body, nil, "")
	}
	m := p.origin
	if head.AbsoluteForm {
		m = p.absolute
	}
	repeatable := body.Ended() && idempotent(head.Method)
	if c := p.take(m, authority, repeatable); c != nil {
		resp, err := c.RoundTrip(cn, head, body)
		if err == nil || !exchange.Unsent(err) && !(repeatable && c.NoReply() && uncancelled(cn)) {
			return resp, err
		}
	}
	return p.fresh(cn, head, body, m, string(authority))
}

func uncancelled(cn *exchange.Canceler) bool { return cn == nil || cn.Cause() == nil }

// idempotent reports whether a request may be sent twice (RFC 9110, section
// 9.2.2).
func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// take returns an idle connection, nil if there is none.
func (p *H1) take(m map[string]*bucket, authority []byte, repeatable bool) *h1.Conn {
	for {
		p.mu.Lock()
		b := m[string(authority)]
		if b == nil || len(b.idle) == 0 {
			p.mu.Unlock()
			return nil
		}
		i := b.idle[len(b.idle)-1]
		b.idle[len(b.idle)-1] = idleConn{}
		b.idle = b.idle[:len(b.idle)-1]
		p.idle--
		p.mu.Unlock()
		age := p.o.Clock.Now().Sub(i.since)
		if age < p.o.IdleTimeout && (repeatable && age < trusted || netx.Alive(i.c.NetConn())) {
			return i.c
		}
		i.c.Close()
	}
}

// fresh sends the request on a new connection, which is pooled in m under key
// afterwards unless m is nil.
func (p *H1) fresh(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body, m map[string]*bucket, key string) (*exchange.Response, error) {
	nc, err := dial(cn, p.o.Dial)
	if err != nil {
		if cause := cancelled(cn); cause != nil {
			body.Close(cause)
			return nil, cause
		}
		return nil, &exchange.UnsentError{Err: err}
	}
	c := h1.NewConn(nc, h1.ClientOptions{Released: func(c *h1.Conn, reusable bool) {
		if reusable {
			p.put(m, key, c)
		}
	}})
	return c.RoundTrip(cn, head, body)
}

// put makes c idle.
func (p *H1) put(m map[string]*bucket, key string, c *h1.Conn) {
	if m == nil {
		c.Close()
		return
	}
	now := p.o.Clock.Now()
	p.mu.Lock()
	b := m[key]
	if b == nil && !p.closed {
		b = &bucket{}
		m[key] = b
	}
	if p.closed || len(b.idle) >= p.o.MaxIdle {
		p.mu.Unlock()
		c.Close()
		return
	}
	b.idle = append(b.idle, idleConn{c, now})
	p.idle++
	if !p.sweeping {
		p.sweeping = true
		if p.sweeper == nil {
			p.sweeper = p.o.Clock.AfterFunc(p.o.IdleTimeout, p.sweep)
		} else {
			p.sweeper.Reset(p.o.IdleTimeout)
		}
	}
	p.mu.Unlock()
}

// sweep closes connections that were idle for too long and forgets authorities
// without any.
func (p *H1) sweep() {
	now := p.o.Clock.Now()
	var old []*h1.Conn
	p.mu.Lock()
	next := p.o.IdleTimeout
	for _, m := range []map[string]*bucket{p.origin, p.absolute} {
		for key, b := range m {
			n := 0
			for n < len(b.idle) && now.Sub(b.idle[n].since) >= p.o.IdleTimeout {
				old = append(old, b.idle[n].c)
				n++
			}
			kept := copy(b.idle, b.idle[n:])
			clear(b.idle[kept:])
			b.idle = b.idle[:kept]
			if kept == 0 {
				delete(m, key)
			} else if left := p.o.IdleTimeout - now.Sub(b.idle[0].since); left < next {
				next = left
			}
		}
	}
	p.idle -= len(old)
	p.sweeping = p.idle > 0 && !p.closed
	if p.sweeping {
		// Not sooner than a quarter, so that a busy pool is not swept
		// for each of its connections.
		p.sweeper.Reset(max(next, p.o.IdleTimeout/4))
	}
	p.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// cancelled returns cn's cause.
func cancelled(cn *exchange.Canceler) error {
	if cn == nil {
		return nil
	}
	return cn.Cause()
}

// dial calls open with a context that ends when cn is cancelled.
func dial(cn *exchange.Canceler, open func(context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if cn != nil {
		if err := cn.Bind(func(error) { cancel() }); err != nil {
			return nil, err
		}
		defer cn.Bind(nil)
	}
	return open(ctx)
}
