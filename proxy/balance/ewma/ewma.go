// Package ewma estimates the load of one endpoint as a peak-sensitive moving
// average of its response times, multiplied by the requests in flight (proxy
// chapter, section 13.3).
//
// Times are nanoseconds on a monotonic clock whose zero does not matter; they
// are passed in. All methods may be called from any goroutine.
package ewma

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// minRTT is the least initial estimate.
const minRTT = time.Millisecond

// Load is the estimate of one endpoint.
type Load struct {
	decay, penaltyDecay float64
	pending             atomic.Int64

	mu sync.Mutex
	// estimate, in nanoseconds as of at, is guarded by mu; so is whether it
	// comes from a penalty.
	estimate  float64
	at        int64
	penalised bool
}

// New starts with the given estimate, decaying with the given time constant, and
// with penaltyDecay after a penalty; 0 is decay.
func New(initial, decay, penaltyDecay time.Duration, now int64) *Load {
	if penaltyDecay <= 0 {
		penaltyDecay = decay
	}
	return &Load{
		decay: float64(max(decay, 1)), penaltyDecay: float64(max(penaltyDecay, 1)),
		estimate: float64(max(initial, minRTT)), at: now,
	}
}

// Cost is what choosing this endpoint costs: the estimate, which decays towards
// zero so that an endpoint that was slow once is tried again, for every request
// in flight and the one to come.
func (l *Load) Cost(now int64) float64 {
	l.mu.Lock()
	r := l.readLocked(now)
	l.mu.Unlock()
	return r * float64(l.pending.Load()+1)
}

// Estimate is the decayed estimate alone.
func (l *Load) Estimate(now int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.readLocked(now))
}

func (l *Load) readLocked(now int64) float64 {
	// Readings may come out of order by a little: never decay backwards.
	if d := now - l.at; d > 0 {
		l.estimate *= math.Exp(-float64(d) / l.decayLocked())
		l.at = now
	}
	return l.estimate
}

// decayLocked is the time constant at present.
func (l *Load) decayLocked() float64 {
	if l.penalised {
		return l.penaltyDecay
	}
	return l.decay
}

// Start counts a request as in flight.
func (l *Load) Start() { l.pending.Add(1) }

// Complete takes a request out of flight and feeds its response time in: a
// peak at once, a lesser one by how long it is since the last.
func (l *Load) Complete(now int64, rtt time.Duration) {
	l.pending.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feedLocked(now, float64(max(rtt, 0)))
}

// Penalize is Complete with a response time that was made up. What is made of it
// counts as a penalty until a real response takes longer.
func (l *Load) Penalize(now int64, rtt time.Duration) {
	l.pending.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.feedLocked(now, float64(max(rtt, 0)))
	l.penalised = true
}

func (l *Load) feedLocked(now int64, r float64) {
	if r > l.estimate {
		l.estimate, l.penalised = r, false
	} else {
		w := math.Exp(-float64(max(now-l.at, 0)) / l.decayLocked())
		l.estimate = l.estimate*w + r*(1-w)
	}
	l.at = max(l.at, now)
}

// Pending is the number of requests in flight.
func (l *Load) Pending() int { return int(l.pending.Load()) }
