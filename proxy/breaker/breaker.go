// Package breaker is the circuit breaker in front of one endpoint of a balancer
// (proxy chapter, section 14): a gate that shuts after failures, and opens when
// a probe succeeds.
//
//	        trip                    backoff over            probe succeeds
//	Open ─────────► Shut (delay n) ─────────────► Limited ─────────────────► Open
//	                  ▲                               │ probe fails
//	                  └───────────── delay n+1 ◄──────┘
//
// Limit bounds how many breakers of one balancer may be shut at a time.
//
// It is a state machine without a clock: the caller passes the time and comes
// back at the time it is told. All methods may be called from any goroutine;
// Admit costs one atomic load while the gate is open.
package breaker

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Outcome is how a response is classified for the breaker.
type Outcome uint8

// The outcomes.
const (
	// Unknown: the request ended without telling about the endpoint, such as
	// when the client went away.
	Unknown Outcome = iota
	Success
	Failure
	// RateLimited: HTTP 429 or gRPC RESOURCE_EXHAUSTED. A success to the
	// counter of consecutive failures, a failure to the success rate and to
	// the probe of a unified breaker.
	RateLimited
)

// State is the state of the gate.
type State uint32

// The states.
const (
	// Open lets everything pass.
	Open State = iota
	// Shut lets nothing pass.
	Shut
	// Limited lets one request pass, the probe.
	Limited
)

// Probe marks a request by whose response a breaker decides. 0 is none.
type Probe uint32

// Report is what one request tells about its endpoint.
type Report struct {
	Outcome Outcome
	// Probe is what Admit gave to the request.
	Probe Probe
	// RetryAfter is for how long the server asked to be left alone, 0 if it
	// did not.
	RetryAfter time.Duration
}

// String is for transcripts and logs.
func (s State) String() string { return [...]string{"open", "shut", "limited"}[s] }

// buckets is how many parts the window of the success rate has.
const buckets = 10

// minBucket is the least length of such a part.
const minBucket = 10 * time.Millisecond

// minProbe is the least time that a probe has before there may be another.
const minProbe = time.Second

// Breaker is one endpoint's breaker. A nil one is always open.
type Breaker struct {
	cfg   model.FailureAccrual
	limit *Limit
	draw  func() float64

	// state is written with mu held and read without.
	state atomic.Uint32

	mu sync.Mutex
	// All that follows is guarded by mu.
	permit      bool // a probe is still to be sent (Limited)
	consecutive uint32
	trips       int // delays used since the gate was last open
	// round counts the times that the gate was shut: the probes of one time
	// have it.
	round Probe
	// delay is that of the last time that the gate was shut.
	delay time.Duration
	// until is when a probe may pass (Shut), or another one since the last has
	// taken too long (Limited, without permit); zero if nobody has looked yet.
	until time.Time
	// alone is until when the server asked to be left alone.
	alone  time.Time
	window window
	closed bool
}

// New makes a breaker; cfg nil makes none. limit, which may be nil, is shared by
// the breakers of a balancer. draw gives the random part of the delays, uniform
// in [0, 1); nil means math/rand.
func New(cfg *model.FailureAccrual, limit *Limit, draw func() float64) *Breaker {
	if cfg == nil {
		return nil
	}
	if draw == nil {
		draw = rand.Float64
	}
	b := &Breaker{cfg: *cfg, limit: limit, draw: draw}
	b.window.bucket = max(cfg.Window/buckets, minBucket)
	return b
}

// State returns the state of the gate.
func (b *Breaker) State() State {
	if b == nil {
		return Open
	}
	return State(b.state.Load())
}

// Available reports whether Admit would succeed.
func (b *Breaker) Available() bool {
	switch b.State() {
	case Open:
		return true
	case Shut:
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.State() != Limited || b.permit
}

// Admit reports whether a request may pass. In the limited state the first one
// that asks is the probe: if it ends without an outcome Return has to be called.
func (b *Breaker) Admit() (ok bool, probe Probe) {
	switch b.State() {
	case Open:
		return true, 0
	case Shut:
		return false, 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.State() {
	case Open:
		return true, 0
	case Limited:
		if b.permit {
			b.permit, b.until = false, time.Time{}
			return true, b.round
		}
	}
	return false, 0
}

// Return gives the permit of a probe back: the request ended before the endpoint
// could prove anything.
func (b *Breaker) Return(probe Probe) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.State() == Limited && probe == b.round {
		b.permit, b.until = true, time.Time{}
	}
}

// Hints reports whether servers are heard that ask to be left alone.
func (b *Breaker) Hints() bool { return b != nil && b.cfg.RetryAfter }

// Record counts a response and reports whether the state changed. Responses
// while the gate is shut are ignored; in the limited state only a probe's
// decides, for the others tell of the time before.
func (b *Breaker) Record(now time.Time, r Report) (changed bool) {
	if b == nil || r.Outcome == Unknown {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if alone := now.Add(r.RetryAfter); r.RetryAfter > 0 && alone.After(b.alone) {
		b.alone = alone
	}
	switch b.State() {
	case Open:
		// Without leave the count stands, and the next failure asks again.
		if b.countLocked(now, r.Outcome) && b.limit.take() {
			b.shutLocked(now)
			return true
		}
	case Limited:
		switch {
		case r.Probe != b.round:
			return false
		case r.Outcome == Failure || r.Outcome == RateLimited && b.cfg.Unified:
			b.shutLocked(now)
		default:
			b.consecutive, b.trips = 0, 0
			b.window.clear()
			b.state.Store(uint32(Open))
			b.limit.give()
		}
		return true
	}
	return false
}

// Close says that the endpoint is gone: it does not count as taken out any more.
func (b *Breaker) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed && b.State() != Open {
		b.limit.give()
	}
	b.closed = true
}

// countLocked counts a response and reports whether the breaker trips.
func (b *Breaker) countLocked(now time.Time, o Outcome) bool {
	if o == Failure {
		b.consecutive++
		if b.cfg.MaxConsecutive > 0 && b.consecutive >= b.cfg.MaxConsecutive {
			return true
		}
	} else {
		b.consecutive = 0
	}
	if !b.cfg.Unified || b.cfg.Threshold == 0 {
		return false
	}
	b.window.add(now, o == Success)
	good, all := b.window.sums()
	return all > 0 && all >= uint64(b.cfg.MinRequests) && good*10000 < all*uint64(b.cfg.Threshold)
}

// shutLocked shuts the gate for the next delay, or for as long as the server asked
// for, if that is longer and heard, but not longer than the longest delay.
func (b *Breaker) shutLocked(now time.Time) {
	b.delay = backoff.Delay(b.cfg.Backoff, b.trips, b.draw())
	if b.Hints() {
		b.delay = max(b.delay, min(b.alone.Sub(now), b.cfg.Backoff.Max))
	}
	b.until, b.alone = now.Add(b.delay), time.Time{}
	b.round++
	b.trips++
	b.consecutive = 0
	b.window.clear()
	b.permit = false
	b.state.Store(uint32(Shut))
}

// Until returns when the gate is to be looked at again with Advance; ok is false
// if there is no such time: it is open, or a probe is awaited.
func (b *Breaker) Until() (at time.Time, ok bool) {
	if b.State() == Open {
		return time.Time{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until, b.State() != Open && !b.until.IsZero()
}

// Advance lets a probe pass if the gate was shut for long enough, or if the last
// probe takes as long: a stream that does not end must not keep the endpoint out.
// It reports whether one may pass that could not before. It has to be called
// after Admit gave a probe, to start that one's time.
func (b *Breaker) Advance(now time.Time) (changed bool) {
	if b.State() == Open {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.State() {
	case Shut:
		if now.Before(b.until) {
			return false
		}
		b.state.Store(uint32(Limited))
	case Limited:
		if b.permit {
			return false
		}
		if b.until.IsZero() {
			b.until = now.Add(max(b.delay, minProbe))
		}
		if now.Before(b.until) {
			return false
		}
	default:
		return false
	}
	b.permit, b.until = true, time.Time{}
	return true
}

// window counts the responses of the recent past in buckets of equal length.
type window struct {
	bucket time.Duration
	// slot is the number of the newest bucket since the zero of t0.
	t0        time.Time
	slot      int64
	good, all [buckets]uint32
}

func (w *window) clear() {
	*w = window{bucket: w.bucket}
}

// add counts one response.
func (w *window) add(now time.Time, good bool) {
	if w.t0.IsZero() {
		w.t0 = now
	}
	slot := int64(now.Sub(w.t0) / w.bucket)
	// A clock that goes back counts into the newest bucket.
	for i := 0; w.slot < slot; i++ {
		if i == buckets {
			w.slot = slot
			break
		}
		w.slot++
		w.good[w.slot%buckets], w.all[w.slot%buckets] = 0, 0
	}
	w.all[w.slot%buckets]++
	if good {
		w.good[w.slot%buckets]++
	}
}

// sums adds the buckets up.
func (w *window) sums() (good, all uint64) {
	for i := range buckets {
		good += uint64(w.good[i])
		all += uint64(w.all[i])
	}
	return good, all
}
