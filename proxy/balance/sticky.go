package balance

import (
	"math"

	"github.com/linkerd-go/linkerd-go/proxy/balance/affinity"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// PickFor is Pick for a request of the session with the given key (see package
// affinity): it goes to the session's endpoint, or if that is not ready, to the
// next in the session's order. 0 is no session.
func (b *Balancer[S]) PickFor(c *exchange.Canceler, key uint64) (Pick[S], error) {
	b.requests.Add(1)
	if !b.queue.shut.Load() {
		if p, ok := b.tryFor(key); ok {
			if b.cfg.QueueLatency != nil {
				b.cfg.QueueLatency(0)
			}
			return p, nil
		}
	}
	return b.wait(c, key)
}

// tryFor is try for a session.
func (b *Balancer[S]) tryFor(key uint64) (Pick[S], bool) {
	if key == 0 {
		return b.try()
	}
	ready := b.ready.Load()
	now := b.now()
	below := math.Inf(1)
	for range draws {
		at, score := affinity.Choose(key, below, b.cfg.MaxLoad, ready.members, (*member[S]).candidate)
		if at < 0 {
			break
		}
		if p, ok := b.admit(ready.members[at], now, ready.anyway); ok {
			return p, true
		}
		// It is not ready any more: the owner takes it out.
		b.notify()
		below = score
	}
	// Whoever is left is as good as any other.
	return b.try()
}

// candidate is the member as a session sees it.
func (m *member[S]) candidate() affinity.Candidate {
	return affinity.Candidate{Hash: m.hash, Weight: m.weight, InFlight: m.load.Pending()}
}
