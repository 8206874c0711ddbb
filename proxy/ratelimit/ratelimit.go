// Package ratelimit limits the requests of an inbound port (proxy chapter,
// section 9.5) with the generic cell rate algorithm: a bucket is one number,
// the time at which it would be full again.
//
// A Limiter is made for each policy that arrives. It goes on with the buckets of
// the one before where the limits are the same, or a share that changes with the
// number of proxies; upstream's start full each time.
// Allow may be called from any goroutine; the time is passed in.
package ratelimit

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// maxIdentities is how many client identities have buckets of their own. It
// bounds memory where clients are without number; more of them than this
// within a second share one bucket.
const maxIdentities = 10000

// Scope says which limit was exceeded.
type Scope uint8

// The scopes.
const (
	ScopeTotal Scope = iota + 1
	ScopeIdentity
	ScopeOverride
)

// Exceeded says that a request is to be refused with 429.
type Exceeded struct {
	Scope Scope
	// Limit is the limit in requests per second.
	Limit uint32
	// Wait is how long it will be until a request may pass, if no other comes
	// before it. It is at most about a second.
	Wait time.Duration
}

// Label is the value of the metric label ratelimit_scope.
func (e *Exceeded) Label() string {
	if e.Scope == ScopeTotal {
		return "total"
	}
	return "identity"
}

// Error is the text that clients get.
func (e *Exceeded) Error() string {
	switch e.Scope {
	case ScopeTotal:
		return fmt.Sprintf("total rate limit exceeded: %drps", e.Limit)
	case ScopeIdentity:
		return fmt.Sprintf("per-identity rate limit exceeded: %drps", e.Limit)
	}
	return fmt.Sprintf("override rate limit exceeded: %drps", e.Limit)
}

// bucket is the theoretical arrival time in nanoseconds since the limiter's
// start.
type bucket struct{ tat atomic.Int64 }

// take takes a token from the bucket of a limit of rps requests per second, which
// holds as many as come in the time burst, or says how long it will be until there
// is one. What is in a bucket is time, so that its limit may change.
func (b *bucket) take(now int64, rps uint32, full time.Duration) (wait time.Duration, ok bool) {
	cell := int64(time.Second) / int64(rps)
	burst := cell * max(int64(rps)*full.Milliseconds()/1000-1, 0)
	for {
		tat := b.tat.Load()
		if early := tat - burst - now; early > 0 {
			return time.Duration(early), false
		}
		if b.tat.CompareAndSwap(tat, max(tat, now)+cell) {
			return 0, true
		}
	}
}

// Limiter limits the requests of one port. A nil one lets everything pass.
type Limiter struct {
	cfg   model.RateLimit
	burst time.Duration
	start time.Time
	total *bucket
	// list are the buckets of cfg.Overrides, overrides the same by client.
	list      []*bucket
	overrides map[model.Identity]int
	clients   *clients
}

// clients are the buckets of client identities.
type clients struct {
	mu sync.Mutex
	// buckets is guarded by mu, what it leads to is not.
	buckets map[model.Identity]*bucket
	// swept is when buckets was last looked through, guarded by mu.
	swept int64
	// others is the bucket of clients that found buckets full.
	others bucket
}

// New makes a limiter with full buckets; cfg nil makes none.
func New(cfg *model.RateLimit, now time.Time) *Limiter { return Next(nil, cfg, now) }

// Next makes the limiter of a policy that takes the place of another's. Limits
// that are still the same keep their buckets, which both limiters then share: a
// change of something else gives nobody a burst more. So do shares, which change
// by themselves. old may be nil, and cfg nil makes none.
func Next(old *Limiter, cfg *model.RateLimit, now time.Time) *Limiter {
	if cfg == nil || cfg.Total == 0 && cfg.Identity == 0 && len(cfg.Overrides) == 0 {
		return nil
	}
	if old == nil {
		old = &Limiter{start: now}
	}
	l := &Limiter{cfg: *cfg, burst: burst(cfg.Burst), start: old.start, overrides: make(map[model.Identity]int)}
	if l.total = old.total; l.total == nil || !l.same(old, old.cfg.Total, cfg.Total) {
		l.total = new(bucket)
	}
	if l.clients = old.clients; l.clients == nil || !l.same(old, old.cfg.Identity, cfg.Identity) {
		l.clients = &clients{buckets: make(map[model.Identity]*bucket), swept: -int64(time.Second)}
	}
	for i, o := range cfg.Overrides {
		l.list = append(l.list, l.override(old, o))
		for _, id := range o.Clients {
			// The first that names a client counts.
			if _, ok := l.overrides[id]; !ok {
				l.overrides[id] = i
			}
		}
	}
	return l
}

// same reports whether a limit is the same as an older limiter's, or another
// share of it.
func (l *Limiter) same(old *Limiter, was, is uint32) bool {
	return was == is || l.cfg.Shared && old.cfg.Shared && was != 0 && is != 0
}

// override is the bucket of the older limiter's equal override, or a new one.
func (l *Limiter) override(old *Limiter, o model.RateOverride) *bucket {
	for i, was := range old.cfg.Overrides {
		if l.same(old, was.Limit, o.Limit) && slices.Equal(was.Clients, o.Clients) {
			return old.list[i]
		}
	}
	return new(bucket)
}

// maxBurst bounds bursts, for the arithmetic's sake.
const maxBurst = 24 * time.Hour

// burst is what was asked for, or the time that there is without.
func burst(asked time.Duration) time.Duration {
	if asked <= 0 {
		return time.Second
	}
	return min(asked, maxBurst)
}

// Meta is the resource that the limits come from.
func (l *Limiter) Meta() model.Meta { return l.cfg.Meta }

// Allow takes a request of the client, whose identity may be zero, into account
// and returns nil if it may pass. The total is used up even by requests that a
// later limit refuses.
func (l *Limiter) Allow(now time.Time, id model.Identity) *Exceeded {
	if l == nil {
		return nil
	}
	at := int64(now.Sub(l.start))
	if n := l.cfg.Total; n > 0 {
		if wait, ok := l.total.take(at, n, l.burst); !ok {
			return &Exceeded{ScopeTotal, n, wait}
		}
	}
	if i, ok := l.overrides[id]; ok {
		if n := l.cfg.Overrides[i].Limit; n > 0 {
			if wait, ok := l.list[i].take(at, n, l.burst); !ok {
				return &Exceeded{ScopeOverride, n, wait}
			}
		}
		return nil
	}
	if n := l.cfg.Identity; n > 0 {
		if wait, ok := l.clients.bucket(at, id).take(at, n, l.burst); !ok {
			return &Exceeded{ScopeIdentity, n, wait}
		}
	}
	return nil
}

func (c *clients) bucket(now int64, id model.Identity) *bucket {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.buckets[id]
	if b != nil {
		return b
	}
	if len(c.buckets) >= maxIdentities && now-c.swept >= int64(time.Second) {
		// A bucket that is full again is as good as a new one. Once a second
		// is enough: without longer bursts none takes longer to fill.
		c.swept = now
		for k, b := range c.buckets {
			if b.tat.Load() <= now {
				delete(c.buckets, k)
			}
		}
	}
	if len(c.buckets) >= maxIdentities {
		return &c.others
	}
	b = new(bucket)
	c.buckets[id] = b
	return b
}
