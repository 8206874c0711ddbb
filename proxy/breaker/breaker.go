// Package breaker is the circuit breaker in front of one endpoint of a balancer
// (proxy chapter, section 14): a gate that shuts after failures, and opens when
// a probe succeeds.
//
//	        trip                    backoff over            probe succeeds
//	Open ─────────► Shut (delay n) ─────────────► Limited ─────────────────► Open
//	                  ▲                               │ probe fails
//	                  └───────────── delay n+1 ◄──────┘
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

// String is for transcripts and logs.
func (s State) String() string { return [...]string{"open", "shut", "limited"}[s] }

// buckets is how many parts the window of the success rate has.
const buckets = 10

// minBucket is the least length of such a part.
const minBucket = 10 * time.Millisecond

// Breaker is one endpoint's breaker. A nil one is always open.
type Breaker struct {
	cfg  model.FailureAccrual
	draw func() float64

	// state is written with mu held and read without.
	state atomic.Uint32

	mu sync.Mutex
	// All that follows is guarded by mu.
	permit      bool // the probe is still to be sent (Limited)
	consecutive uint32
	trips       int // delays used since the gate was last open
	until       time.Time
	window      window
}

// New makes a breaker; cfg nil makes none. draw gives the random part of the
// delays, uniform in [0, 1); nil means math/rand.
func New(cfg *model.FailureAccrual, draw func() float64) *Breaker {
	if cfg == nil {
		return nil
	}
	if draw == nil {
		draw = rand.Float64
	}
	b := &Breaker{cfg: *cfg, draw: draw}
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
// that asks is the probe, and probe is true for it: if it ends without an
// outcome Return has to be called.
func (b *Breaker) Admit() (ok, probe bool) {
	switch b.State() {
	case Open:
		return true, false
	case Shut:
		return false, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.State() {
	case Open:
		return true, false
	case Limited:
		if b.permit {
			b.permit = false
			return true, true
		}
	}
	return false, false
}

// Return gives the probe's permit back: the request ended before the endpoint
// could prove anything.
func (b *Breaker) Return() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.State() == Limited {
		b.permit = true
	}
}

// Record counts a response and reports whether the state changed. Responses
// while the gate is shut are ignored; in the limited state the first one
// decides, whichever request it answers.
func (b *Breaker) Record(now time.Time, o Outcome) (changed bool) {
	if b == nil || o == Unknown {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.State() {
	case Open:
		if b.countLocked(now, o) {
			b.shutLocked(now)
			return true
		}
	case Limited:
		if o == Failure || o == RateLimited && b.cfg.Unified {
			b.shutLocked(now)
		} else {
			b.consecutive, b.trips = 0, 0
			b.window.clear()
			b.state.Store(uint32(Open))
		}
		return true
	}
	return false
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

// shutLocked shuts the gate for the next delay.
func (b *Breaker) shutLocked(now time.Time) {
	b.until = now.Add(backoff.Delay(b.cfg.Backoff, b.trips, b.draw()))
	b.trips++
	b.consecutive = 0
	b.window.clear()
	b.permit = false
	b.state.Store(uint32(Shut))
}

// Until returns when a shut gate is to be looked at again with Advance; ok is
// false if it is not shut.
func (b *Breaker) Until() (at time.Time, ok bool) {
	if b.State() != Shut {
		return time.Time{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until, b.State() == Shut
}

// Advance lets a probe pass if the gate was shut for long enough, and reports
// whether the state changed.
func (b *Breaker) Advance(now time.Time) (changed bool) {
	if b.State() != Shut {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.State() != Shut || now.Before(b.until) {
		return false
	}
	b.permit = true
	b.state.Store(uint32(Limited))
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
