// Package ratelimit limits the requests of an inbound port (proxy chapter,
// section 9.5) with the generic cell rate algorithm: a bucket is one number,
// the time at which it would be full again.
//
// A Limiter is made for each policy that arrives, so its buckets start full.
// Allow may be called from any goroutine; the time is passed in.
package ratelimit

import (
	"fmt"
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

// take takes a token from the bucket of a limit of rps requests per second.
func (b *bucket) take(now int64, rps uint32) bool {
	cell := int64(time.Second) / int64(rps)
	burst := cell * int64(rps-1)
	for {
		tat := b.tat.Load()
		if tat-burst > now {
			return false
		}
		if b.tat.CompareAndSwap(tat, max(tat, now)+cell) {
			return true
		}
	}
}

// Limiter limits the requests of one port. A nil one lets everything pass.
type Limiter struct {
	cfg       model.RateLimit
	start     time.Time
	total     bucket
	overrides map[model.Identity]*override

	mu sync.Mutex
	// clients is guarded by mu, the buckets in it are not.
	clients map[model.Identity]*bucket
	// swept is when clients was last looked through, guarded by mu.
	swept int64
	// others is the bucket of clients that found clients full.
	others bucket
}

type override struct {
	limit uint32
	bucket
}

// New makes a limiter with full buckets; cfg nil makes none.
func New(cfg *model.RateLimit, now time.Time) *Limiter {
	if cfg == nil || cfg.Total == 0 && cfg.Identity == 0 && len(cfg.Overrides) == 0 {
		return nil
	}
	l := &Limiter{cfg: *cfg, start: now, swept: -int64(time.Second), clients: make(map[model.Identity]*bucket), overrides: make(map[model.Identity]*override)}
	for _, o := range cfg.Overrides {
		shared := &override{limit: o.Limit}
		for _, id := range o.Clients {
			if l.overrides[id] == nil {
				l.overrides[id] = shared
			}
		}
	}
	return l
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
	if n := l.cfg.Total; n > 0 && !l.total.take(at, n) {
		return &Exceeded{ScopeTotal, n}
	}
	if o := l.overrides[id]; o != nil {
		if o.limit > 0 && !o.take(at, o.limit) {
			return &Exceeded{ScopeOverride, o.limit}
		}
		return nil
	}
	if n := l.cfg.Identity; n > 0 && !l.client(at, id).take(at, n) {
		return &Exceeded{ScopeIdentity, n}
	}
	return nil
}

func (l *Limiter) client(now int64, id model.Identity) *bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[id]
	if b != nil {
		return b
	}
	if len(l.clients) >= maxIdentities && now-l.swept >= int64(time.Second) {
		// A bucket that is full again is as good as a new one. Once a second
		// is enough: none takes longer to fill.
		l.swept = now
		for k, c := range l.clients {
			if c.tat.Load() <= now {
				delete(l.clients, k)
			}
		}
	}
	if len(l.clients) >= maxIdentities {
		return &l.others
	}
	b = new(bucket)
	l.clients[id] = b
	return b
}
