package balance

import (
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance/biaser"
	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Pick is an endpoint chosen for one request. It belongs to that request: its
// methods are called by one goroutine at a time. Release has to be called
// exactly once.
type Pick[S Service] struct {
	b       *Balancer[S]
	m       *member[S]
	started int64
	// probe, if not 0, says that the breaker waits for this request's outcome.
	probe breaker.Probe
	// retryAfter is for how long the server asked to be left alone.
	retryAfter time.Duration
	complete   bool
}

// Pick chooses an endpoint, waiting for one if need be until c is cancelled.
// It fails with ErrFailfast, ErrLoadShed, ErrClosed, the error of the
// resolution, or c's cause. c may be nil.
func (b *Balancer[S]) Pick(c *exchange.Canceler) (Pick[S], error) {
	b.requests.Add(1)
	if !b.queue.shut.Load() {
		if p, ok := b.try(); ok {
			if b.cfg.QueueLatency != nil {
				b.cfg.QueueLatency(0)
			}
			return p, nil
		}
	}
	return b.wait(c, 0)
}

// wait is Pick once nothing is ready.
func (b *Balancer[S]) wait(c *exchange.Canceler, key uint64) (Pick[S], error) {
	entered := time.Now()
	round, err := b.queue.enter()
	if err != nil {
		return Pick[S]{}, err
	}
	defer b.queue.leave()
	var cancelled chan struct{}
	if c != nil {
		cancelled = make(chan struct{})
		if err := c.Bind(func(error) { close(cancelled) }); err != nil {
			return Pick[S]{}, err
		}
		defer c.Bind(nil)
	}
	for {
		// After entering, so that whoever becomes ready from now on closes
		// this round.
		if p, ok := b.tryFor(key); ok {
			if b.cfg.QueueLatency != nil {
				b.cfg.QueueLatency(time.Since(entered))
			}
			return p, nil
		}
		select {
		case <-round:
		case <-cancelled:
			return Pick[S]{}, c.Cause()
		}
		if round, err = b.queue.again(); err != nil {
			return Pick[S]{}, err
		}
	}
}

// draws is how often two are drawn before all are looked through for one that
// still is available.
const draws = 3

// try chooses among those who are ready. When one turns out not to be any more
// the owner is told, who moves it to the pending ones.
func (b *Balancer[S]) try() (Pick[S], bool) {
	ready := b.ready.Load()
	n := len(ready.members)
	if n == 0 {
		return Pick[S]{}, false
	}
	now := b.now()
	for range draws {
		m := ready.members[0]
		if n > 1 {
			var other *member[S]
			m, other = ready.two(b.cfg.IntN)
			// A tie takes the first drawn.
			if other.cost(now) < m.cost(now) {
				m = other
			}
		}
		if p, ok := b.admit(m, now, ready.anyway); ok {
			return p, true
		}
		b.notify()
	}
	start := b.cfg.IntN(n)
	for _, anyway := range [...]bool{ready.anyway, true} {
		for i := range n {
			if p, ok := b.admit(ready.members[(start+i)%n], now, anyway); ok {
				return p, true
			}
		}
	}
	return Pick[S]{}, false
}

// admit chooses a member if it still takes requests, and is not to be avoided or
// is to be taken anyway.
func (b *Balancer[S]) admit(m *member[S], now int64, anyway bool) (Pick[S], bool) {
	if !m.service.Ready() || !anyway && b.avoids(m) {
		return Pick[S]{}, false
	}
	ok, probe := m.breaker.Admit()
	if !ok {
		return Pick[S]{}, false
	}
	if probe != 0 {
		// One request is all that may pass: take it out of the ready ones.
		b.notify()
	}
	m.load.Start()
	return Pick[S]{b: b, m: m, started: now, probe: probe}, true
}

// Service is the chosen endpoint's stack.
func (p *Pick[S]) Service() S { return p.m.service }

// Endpoint is the chosen endpoint.
func (p *Pick[S]) Endpoint() *model.Endpoint { return p.m.endpoint }

// Head tells of the response's head. If the breaker heeds what servers ask for,
// it is noted. If the load biaser is on and the response is to be penalised it
// completes the measurement.
func (p *Pick[S]) Head(head *exchange.ResponseHead) {
	l := &p.b.cfg.Load
	if !l.Penalize && !p.m.breaker.Hints() {
		return
	}
	hint, penalised := biaser.Classify(head, time.Now())
	if !penalised {
		return
	}
	p.retryAfter = hint
	if !l.Penalize || p.complete {
		return
	}
	p.complete = true
	now := p.b.now()
	p.m.load.Penalize(now, max(l.Penalty, min(hint, l.MaxRetryAfter), p.m.load.Estimate(now)))
}

// Complete ends the measurement of the response time: at the first frame of
// the response's body, or its end, or when the connection is there. Further
// calls do nothing.
func (p *Pick[S]) Complete() {
	if !p.complete {
		p.complete = true
		now := p.b.now()
		p.m.load.Complete(now, time.Duration(now-p.started))
	}
}

// Outcome tells the breaker how the response was classified, at its end.
func (p *Pick[S]) Outcome(o breaker.Outcome) {
	if p.m.breaker == nil || o == breaker.Unknown {
		return
	}
	report := breaker.Report{Outcome: o, Probe: p.probe, RetryAfter: p.retryAfter}
	p.probe = 0
	if p.m.breaker.Record(time.Now(), report) {
		p.b.notify()
	}
}

// Release ends the request. A probe without outcome lets the next request be
// the probe.
func (p *Pick[S]) Release() {
	p.Complete()
	if p.probe != 0 {
		p.m.breaker.Return(p.probe)
		p.probe = 0
		p.b.notify()
	}
}
