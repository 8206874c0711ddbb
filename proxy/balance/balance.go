package balance

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance/affinity"
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
	// Avoid, if not nil, reports whether an endpoint that is ready is better left
	// alone, because it could not be connected to: it is chosen only if there is
	// no other. It must be cheap and not block; the stack calls notify when it
	// may have changed.
	Avoid func(S) bool
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
	// MaxLoad bounds, in percent of their share, how much endpoints have in
	// flight for the sake of sessions; 0 does not.
	MaxLoad uint32
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

	ready atomic.Pointer[choice[S]]
	queue queue
	// ejected bounds what the breakers take out.
	ejected *breaker.Limit

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
	// weight is the endpoint's, and scale what it makes of its load.
	weight uint64
	scale  float64
	// hash is that of the endpoint's address.
	hash uint64
}

// weigh sets the endpoint and what follows from its weight.
func (m *member[S]) weigh(e *model.Endpoint) {
	m.endpoint, m.weight = e, uint64(e.Weight)
	if m.weight == 0 {
		m.weight = model.UsualWeight
	}
	m.scale = model.UsualWeight / float64(m.weight)
}

// cost is what choosing the member costs: an endpoint of twice the weight is
// worth twice the load.
func (m *member[S]) cost(now int64) float64 { return m.load.Cost(now) * m.scale }

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
	if cfg.Accrual != nil {
		b.ejected = breaker.NewLimit(cfg.Accrual.Ejection)
	}
	b.ready.Store(new(choice[S]))
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

// Spare reports whether there is an endpoint that takes requests and is not to be
// avoided: whoever could not connect to one may try again.
func (b *Balancer[S]) Spare() bool {
	for _, m := range b.ready.Load().members {
		if m.service.Ready() && m.breaker.Available() && !b.avoids(m) {
			return true
		}
	}
	return false
}

func (b *Balancer[S]) avoids(m *member[S]) bool { return b.cfg.Avoid != nil && b.cfg.Avoid(m.service) }

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
			b.ready.Store(new(choice[S]))
			b.queue.fail(ErrClosed)
			for _, m := range members {
				m.close()
			}
			b.nReady.Store(0)
			b.nTotal.Store(0)
			return
		}
	}
}

func (m *member[S]) close() {
	m.breaker.Close()
	m.service.Close()
}

// apply makes members those of the set. Endpoints whose description changed
// are replaced: their connections were made for the old one.
func (b *Balancer[S]) apply(members map[netip.AddrPort]*member[S], set *model.EndpointSet) {
	if set == nil {
		return
	}
	keep := make(map[netip.AddrPort]bool, len(set.Endpoints))
	var old []*member[S]
	for _, e := range set.Endpoints {
		keep[e.Addr] = true
		if m := members[e.Addr]; m != nil {
			if m.endpoint.Equal(e) {
				if m.endpoint.Weight != e.Weight {
					other := *m
					other.weigh(e)
					members[e.Addr] = &other
				}
				continue
			}
			old = append(old, m)
		}
		m := &member[S]{
			service: b.cfg.New(e, b.notify),
			breaker: breaker.New(b.cfg.Accrual, b.ejected, b.cfg.Float64),
			load:    ewma.New(b.cfg.Load.DefaultRTT, b.cfg.Load.Decay, b.cfg.Load.PenaltyDecay, b.now()),
		}
		m.weigh(e)
		m.hash = affinity.Hash(e.Addr)
		members[e.Addr] = m
	}
	for addr, m := range members {
		if !keep[addr] {
			old = append(old, m)
			delete(members, addr)
		}
	}
	// The snapshot goes first, so that nobody is sent to what is closed.
	b.publish(members)
	for _, m := range old {
		m.close()
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

// publish stores the snapshot of the ready members: of those that are not to be
// avoided, if there are any.
func (b *Balancer[S]) publish(members map[netip.AddrPort]*member[S]) int {
	ready := make([]*member[S], 0, len(members))
	var avoided []*member[S]
	reached := 0
	for _, m := range members {
		if !m.service.Ready() {
			continue
		}
		avoid := b.avoids(m)
		if !avoid {
			reached++
		}
		switch {
		case !m.breaker.Available():
		case avoid:
			avoided = append(avoided, m)
		default:
			ready = append(ready, m)
		}
	}
	b.ejected.Resize(len(members), reached)
	c := &choice[S]{members: ready}
	if len(ready) == 0 {
		c.members, c.anyway = avoided, true
	}
	c.weigh()
	b.ready.Store(c)
	b.nReady.Store(int64(len(c.members)))
	b.nTotal.Store(int64(len(members)))
	return len(c.members)
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
