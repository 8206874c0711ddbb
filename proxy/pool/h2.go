package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
)

// Backoff is how long to wait between attempts to connect (proxy chapter,
// section 13.5).
type Backoff struct {
	// Base is the first delay, which doubles each time up to Max.
	Base, Max time.Duration
	// Jitter is the largest random part of a delay that is added to it.
	Jitter float64
}

// Delay returns the delay after the failure with the given number, from 0. r is
// a random number in [0, 1).
func (b Backoff) Delay(n int, r float64) time.Duration {
	d := b.Max
	if n < 40 && b.Base<<n < b.Max && b.Base<<n > 0 {
		d = b.Base << n
	}
	return d + time.Duration(r*b.Jitter*float64(d))
}

// State is what an endpoint's connection is doing.
type State int

// The states of H2.
const (
	// Idle: nobody has asked for a connection yet.
	Idle State = iota
	// Connecting: an attempt is under way.
	Connecting
	// Ready: connected.
	Ready
	// Failing: the last attempt failed, the next is waited for.
	Failing
	// Closed: the end.
	Closed
)

// String names the state.
func (s State) String() string {
	return [...]string{"idle", "connecting", "ready", "failing", "closed"}[s]
}

// H2Options configure the HTTP/2 connection to an endpoint.
type H2Options struct {
	// Dial opens a connection to the endpoint.
	Dial func(ctx context.Context) (net.Conn, error)
	// HTTP2 are the connection's parameters. Draining is set by the pool.
	HTTP2 h2.Options
	// Backoff is between attempts; 100 ms to 10 s with a tenth of jitter if zero.
	Backoff Backoff
	// Changed, if set, is called with each new state, in order, on one
	// goroutine. err is why an attempt or a connection failed. It must not
	// block for long: connecting waits for it.
	Changed func(s State, err error)
	// Choose says that whoever sends requests has chosen this endpoint among
	// others and can choose again: while there is no connection RoundTrip does
	// not wait for one but fails, unsent, with ErrNotConnected. A request that
	// waited here would wait for this endpoint even if it never came back.
	Choose bool
	// Clock is the machine's if nil.
	Clock clock.Clock
}

// ErrNotConnected is the error of a pool that lost its connection, or has none
// yet, and was told not to wait for it; see H2Options.Choose.
var ErrNotConnected = errors.New("endpoint is not connected")

// H2 keeps one HTTP/2 connection to an endpoint. It connects when it is first
// asked to, by Connect or a request, and from then on again whenever the
// connection is lost or drained, in the background and independent of requests.
//
// Servers limit the streams of a connection, often to a hundred, and the requests
// of many clients meet here: those beyond the limit go over further connections,
// which are closed when they have been idle for a while.
type H2 struct {
	o H2Options

	current atomic.Pointer[h2.ClientConn] // nil unless Ready
	state   atomic.Int32
	lastErr atomic.Pointer[error]

	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup

	// mu guards the rest.
	mu      sync.Mutex
	started bool
	closed  bool
	changed chan struct{} // closed and replaced at each change of state
	// more are further connections, each with a pool of its own, for what the
	// server does not allow on the one; sweeper ends them when they are idle.
	more    []*H2
	sweeper clock.Timer
}

var _ exchange.Client = (*H2)(nil)

// NewH2 makes an unconnected endpoint.
func NewH2(o H2Options) *H2 {
	if o.Backoff == (Backoff{}) {
		o.Backoff = Backoff{100 * time.Millisecond, 10 * time.Second, 0.1}
	}
	if o.Clock == nil {
		o.Clock = clock.System
	}
	p := &H2{o: o, changed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// State returns the present state and, if Failing, why. A pool whose connection
// was found to be draining is not ready any more, also before it has noticed.
func (p *H2) State() (State, error) {
	s := State(p.state.Load())
	if s == Ready && p.current.Load() == nil {
		s = Connecting
	}
	if e := p.lastErr.Load(); s == Failing && e != nil {
		return s, *e
	}
	return s, nil
}

// Connect starts connecting, unless that was done before.
func (p *H2) Connect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started || p.closed {
		return
	}
	p.started = true
	p.wg.Go(p.run)
}

// Close takes no more requests. The connection is closed when its open streams
// have ended. Close does not wait for that; Wait does.
func (p *H2) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	started := p.started
	// Whoever waits for a connection learns at once that there will be none, and
	// not when the last stream of the old ones has ended.
	p.tellLocked()
	more := p.more
	p.more = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	for _, e := range more {
		p.leaveLocked(e)
	}
	p.mu.Unlock()
	p.cancel()
	if !started {
		p.set(Closed, nil)
	}
}

// leaveLocked lets a further connection end, and has Wait wait for it.
func (p *H2) leaveLocked(e *H2) {
	p.wg.Go(func() {
		e.Close()
		e.Wait()
	})
}

// Wait waits until a closed pool's connections have ended.
func (p *H2) Wait() { p.wg.Wait() }

// set changes the state and tells.
func (p *H2) set(s State, err error) {
	if err != nil {
		p.lastErr.Store(&err)
	}
	p.state.Store(int32(s))
	p.mu.Lock()
	p.tellLocked()
	p.mu.Unlock()
	if p.o.Changed != nil {
		p.o.Changed(s, err)
	}
}

// tellLocked wakes whoever waits for a change.
func (p *H2) tellLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// run owns the connection.
func (p *H2) run() {
	defer p.set(Closed, nil)
	var old []*h2.ClientConn // draining, with streams open
	defer func() {
		for _, cc := range old {
			cc.Wait()
		}
	}()
	failures := 0
	for p.ctx.Err() == nil {
		p.set(Connecting, nil)
		nc, err := p.o.Dial(p.ctx)
		if err != nil {
			if p.ctx.Err() != nil {
				return
			}
			p.set(Failing, err)
			p.sleep(p.o.Backoff.Delay(failures, rand.Float64()))
			failures++
			continue
		}
		leaving := make(chan struct{})
		o := p.o.HTTP2
		o.Draining = func() { close(leaving) }
		began := p.o.Clock.Now()
		cc := h2.NewClientConn(nc, o)
		p.current.Store(cc)
		p.set(Ready, nil)
		select {
		case <-leaving:
		case <-p.ctx.Done():
			cc.Drain()
		}
		p.current.Store(nil)
		kept := old[:0]
		for _, c := range append(old, cc) {
			select {
			case <-c.Done():
				c.Wait()
			default:
				kept = append(kept, c)
			}
		}
		old = kept
		if p.ctx.Err() != nil {
			return
		}
		if err := cc.Err(); err != nil && p.o.Clock.Now().Sub(began) < p.o.Backoff.Base {
			// Accepted and dropped at once, as by a proxy without its
			// application: not to be hammered.
			p.set(Failing, err)
			p.sleep(p.o.Backoff.Delay(failures, rand.Float64()))
			failures++
		} else {
			failures = 0
		}
	}
}

// sleep waits, unless the pool is closed.
func (p *H2) sleep(d time.Duration) {
	fired := make(chan struct{})
	t := p.o.Clock.AfterFunc(d, func() { close(fired) })
	defer t.Stop()
	select {
	case <-fired:
	case <-p.ctx.Done():
	}
}

// RoundTrip implements exchange.Client. While there is no connection it waits,
// until there is one, the canceler is cancelled, or the pool is closed: how
// long a request may wait is decided by whoever queues it. See also
// H2Options.Choose.
func (p *H2) RoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	for tries := 0; ; {
		cc := p.current.Load()
		if cc == nil {
			if err := p.connection(cn); err != nil {
				if cancelled(cn) != nil {
					body.Close(err)
					return nil, err
				}
				return nil, &exchange.UnsentError{Err: err}
			}
			continue
		}
		resp, err := cc.TryRoundTrip(cn, head, body)
		if err == nil {
			return resp, nil
		}
		if errors.Is(err, h2.ErrFull) {
			resp, err = p.beyond(cc, cn, head, body)
		}
		if err == nil || !exchange.Unsent(err) || !cc.Draining() || tries == 3 {
			return resp, err
		}
		// The connection was going away; the next one will take it.
		tries++
		p.current.CompareAndSwap(cc, nil)
	}
}

const (
	// maxMore is how many further connections there may be: with those many
	// streams under way more connections are not what helps.
	maxMore = 100
	// moreIdle is how often further connections without streams are closed.
	moreIdle = 10 * time.Second
)

// beyond sends a request for which the server allows no stream on cc. If no other
// connection can be had it waits for one there.
func (p *H2) beyond(cc *h2.ClientConn, cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	for i := range maxMore {
		e := p.further(i)
		if e == nil {
			break
		}
		ec, err := e.soon(cn)
		if err != nil {
			body.Close(err)
			return nil, err
		}
		if ec == nil {
			break
		}
		resp, err := ec.TryRoundTrip(cn, head, body)
		if err == nil || !exchange.Unsent(err) {
			return resp, err
		}
		// It is full as well, or on its way out.
		if errors.Is(err, h2.ErrFull) && ec.Active() == 0 {
			break // the server takes nothing at all: no number of connections helps
		}
	}
	return cc.RoundTrip(cn, head, body)
}

// further gives the further connection with the number, made if there is none. It is
// nil if the pool is closed.
func (p *H2) further(i int) *H2 {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil
	case i < len(p.more):
		return p.more[i]
	}
	e := NewH2(H2Options{Dial: p.o.Dial, HTTP2: p.o.HTTP2, Backoff: p.o.Backoff, Clock: p.o.Clock})
	p.more = append(p.more, e)
	if len(p.more) == 1 {
		if p.sweeper == nil {
			p.sweeper = p.o.Clock.AfterFunc(moreIdle, p.sweep)
		} else {
			p.sweeper.Reset(moreIdle)
		}
	}
	return e
}

// sweep closes the further connections that have nothing to do, the last first.
func (p *H2) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for n := len(p.more); n > 0; n-- {
		e := p.more[n-1]
		cc := e.current.Load()
		if s, _ := e.State(); s == Connecting || cc != nil && cc.Active() > 0 {
			break
		}
		p.more[n-1] = nil
		p.more = p.more[:n-1]
		p.leaveLocked(e)
	}
	if len(p.more) > 0 {
		p.sweeper.Reset(moreIdle)
	}
}

// soon gives the connection, waiting for an attempt to make one; nil if that fails,
// or the pool is closed. An error says that the canceler was cancelled.
func (p *H2) soon(cn *exchange.Canceler) (*h2.ClientConn, error) {
	p.Connect()
	stop := make(chan struct{})
	if cn != nil {
		if err := cn.Bind(func(error) { close(stop) }); err != nil {
			return nil, err
		}
		defer cn.Bind(nil)
	}
	for {
		p.mu.Lock()
		changed, closed := p.changed, p.closed
		p.mu.Unlock()
		if cc := p.current.Load(); cc != nil {
			return cc, nil
		}
		if s, _ := p.State(); closed || s == Failing || s == Closed {
			return nil, nil
		}
		select {
		case <-changed:
		case <-stop:
			return nil, cn.Cause()
		}
	}
}

// connection makes sure that there is a connection, or says why there is none.
func (p *H2) connection(cn *exchange.Canceler) error {
	if !p.o.Choose {
		return p.wait(cn)
	}
	p.Connect()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case p.current.Load() != nil:
		return nil
	}
	return ErrNotConnected
}

// wait waits for a connection.
func (p *H2) wait(cn *exchange.Canceler) error {
	p.Connect()
	stop := make(chan struct{})
	if cn != nil {
		if err := cn.Bind(func(error) { close(stop) }); err != nil {
			return err
		}
		defer cn.Bind(nil)
	}
	for {
		p.mu.Lock()
		changed, closed := p.changed, p.closed
		p.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if p.current.Load() != nil {
			return nil
		}
		select {
		case <-changed:
		case <-stop:
			return cn.Cause()
		}
	}
}
