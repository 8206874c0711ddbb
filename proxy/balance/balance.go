package balance

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance/ewma"
	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Reasons why a request is not sent to any endpoint. Callers branch on them;
// the texts reach clients.
var (
	// ErrFailfast: nothing was ready for too long.
	ErrFailfast = errors.New("service in fail-fast")
	// ErrLoadShed: the queue is full.
	ErrLoadShed = errors.New("service unavailable")
	// ErrClosed: the balancer was closed.
	ErrClosed = errors.New("balancer is closed")
)

// Service is what the balancer has to know of an endpoint's stack.
type Service interface {
	// Ready reports whether a request could be sent now. It is called for
	// each pick, must be cheap and not block. Stacks that connect on demand
	// are always ready.
	Ready() bool
	// Close is called once, on the balancer's goroutine, when the endpoint
	// is gone or replaced. It must not block. Requests in flight go on; what
	// they need is freed after the last of them.
	Close()
}

// Config is what a balancer is made from.
type Config[S Service] struct {
	// Endpoints are watched; nil in it means that nothing is known yet.
	Endpoints lookup.Endpoints
	// New makes the stack of an endpoint, on the balancer's goroutine, without
	// blocking. The stack calls notify, from any goroutine and also from
	// within New, whenever Ready may have changed; notify does not block.
	New func(e *model.Endpoint, notify func()) S
	// Load says how load is estimated.
	Load model.Load
	// Accrual configures the breakers, nil for none.
	Accrual *model.FailureAccrual
	// Capacity is how many requests may wait, and Failfast how long, before
	// all that wait are refused.
	Capacity int
	Failfast time.Duration
	// QueueLatency, if not nil, is called for every request that gets an
	// endpoint with the time it waited.
	QueueLatency func(time.Duration)
	// IntN and Float64 replace math/rand in tests.
	IntN    func(n int) int
	Float64 func() float64
}

// Balancer balances over the endpoints of one backend. All methods may be
// called from any goroutine.
type Balancer[S Service] struct {
	cfg  Config[S]
	base time.Time // zero of the estimates' clock

	cancel context.CancelFunc
	done   chan struct{}
	// wake makes the owner look again; it holds at most one token.
	wake chan struct{}

	ready atomic.Pointer[[]*member[S]]
	queue queue

	// Numbers for Stats, written by the owner.
	nReady, nTotal atomic.Int64
	updates        atomic.Pointer[model.EndpointUpdates]
	requests       atomic.Uint64
}

// member is an endpoint in the set. Its fields do not change.
type member[S Service] struct {
	endpoint *model.Endpoint
	service  S
	breaker  *breaker.Breaker
	load     *ewma.Load
}

func (m *member[S]) available() bool { return m.service.Ready() && m.breaker.Available() }

// New makes a balancer and starts its goroutine. Close has to be called.
func New[S Service](cfg Config[S]) *Balancer[S] {
	if cfg.IntN == nil {
		cfg.IntN = rand.IntN
	}
	if cfg.Load.Decay == 0 {
		cfg.Load = model.DefaultLoad()
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Balancer[S]{
		cfg:    cfg,
		base:   time.Now(),
		cancel: cancel,
		done:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	b.queue.init(cfg.Capacity, cfg.Failfast)
	b.ready.Store(new([]*member[S]))
	b.updates.Store(new(model.EndpointUpdates))
	go b.own(ctx)
	return b
}

// Close ends the balancer and its endpoints; requests that wait get ErrClosed.
func (b *Balancer[S]) Close() {
	b.cancel()
	<-b.done
}

// Ready reports whether requests are taken: false while in fail-fast. A
// distribution skips backends that are not ready.
func (b *Balancer[S]) Ready() bool { return !b.queue.shut.Load() }

func (b *Balancer[S]) now() int64 { return int64(time.Since(b.base)) }

func (b *Balancer[S]) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// own is the goroutine that owns the set of endpoints.
func (b *Balancer[S]) own(ctx context.Context) {
	defer close(b.done)
	members := make(map[netip.AddrPort]*member[S])
	probes := time.NewTimer(0)
	probes.Stop()
	defer probes.Stop()
	var applied *model.EndpointSet
	for {
		set, changed := b.cfg.Endpoints.Watch()
		if set != applied {
			applied = set
			b.apply(members, set)
		}
		b.refresh(members, set, probes)
		select {
		case <-changed:
		case <-b.wake:
		case <-probes.C:
		case <-ctx.Done():
			b.ready.Store(new([]*member[S]))
			b.queue.fail(ErrClosed)
			for _, m := range members {
				m.service.Close()
			}
			b.nReady.Store(0)
			b.nTotal.Store(0)
			return
		}
	}
}

// apply makes members those of the set. Endpoints whose description changed
// are replaced: their connections were made for the old one.
func (b *Balancer[S]) apply(members map[netip.AddrPort]*member[S], set *model.EndpointSet) {
	if set == nil {
		return
	}
	keep := make(map[netip.AddrPort]bool, len(set.Endpoints))
	var old []S
	for _, e := range set.Endpoints {
		keep[e.Addr] = true
		if m := members[e.Addr]; m != nil {
			if m.endpoint.Equal(e) {
				continue
			}
			old = append(old, m.service)
		}
		members[e.Addr] = &member[S]{
			endpoint: e,
			service:  b.cfg.New(e, b.notify),
			breaker:  breaker.New(b.cfg.Accrual, b.cfg.Float64),
			load:     ewma.New(b.cfg.Load.DefaultRTT, b.cfg.Load.Decay, b.now()),
		}
	}
	for addr, m := range members {
		if !keep[addr] {
			old = append(old, m.service)
			delete(members, addr)
		}
	}
	// The snapshot goes first, so that nobody is sent to what is closed.
	b.publish(members)
	for _, s := range old {
		s.Close()
	}
	u := set.Updates
	b.updates.Store(&u)
}

// refresh publishes who is ready, lets those who wait try again if somebody
// is, and sets the timer for the next breaker to be looked at.
func (b *Balancer[S]) refresh(members map[netip.AddrPort]*member[S], set *model.EndpointSet, probes *time.Timer) {
	now := time.Now()
	var next time.Time
	for _, m := range members {
		m.breaker.Advance(now)
		if at, ok := m.breaker.Until(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		probes.Stop()
	} else {
		probes.Reset(next.Sub(now))
	}
	n := b.publish(members)
	switch {
	case n > 0:
		b.queue.release()
	case set != nil && set.Err != nil:
		b.queue.fail(set.Err)
	}
}

// publish stores the snapshot of the ready members.
func (b *Balancer[S]) publish(members map[netip.AddrPort]*member[S]) int {
	ready := make([]*member[S], 0, len(members))
	for _, m := range members {
		if m.available() {
			ready = append(ready, m)
		}
	}
	b.ready.Store(&ready)
	b.nReady.Store(int64(len(ready)))
	b.nTotal.Store(int64(len(members)))
	return len(ready)
}

// Stats are numbers about a balancer.
type Stats struct {
	// Ready and Pending endpoints.
	Ready, Pending int
	// Updates applied to the set so far.
	Updates model.EndpointUpdates
	// QueueLength is how many requests wait; QueueRequests counts all.
	QueueLength   int
	QueueRequests uint64
	// Gate tells when and how often fail-fast began and ended.
	Gate GateStats
	// Failfast is the configured time.
	Failfast time.Duration
}

// GateStats are numbers about fail-fast.
type GateStats struct {
	// Opened and Shut count transitions; OpenedAt and ShutAt are the times of
	// the last, zero if there was none. A balancer starts open.
	Opened, Shut     uint64
	OpenedAt, ShutAt time.Time
}

// Stats returns the present numbers. They are read one after the other.
func (b *Balancer[S]) Stats() Stats {
	s := Stats{
		Ready:         int(b.nReady.Load()),
		Updates:       *b.updates.Load(),
		QueueRequests: b.requests.Load(),
		Failfast:      b.cfg.Failfast,
	}
	s.Pending = int(b.nTotal.Load()) - s.Ready
	s.QueueLength, s.Gate = b.queue.stats()
	return s
}
