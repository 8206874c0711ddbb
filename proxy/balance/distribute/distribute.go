// Package distribute chooses among the backends of a rule those that are ready
// (proxy chapter, section 13.1). A choice reads each backend's readiness once
// and allocates nothing.
package distribute

import (
	"math/rand/v2"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Backend is what can be chosen.
type Backend interface {
	// Ready reports whether requests are taken at present. It must be cheap
	// and not block.
	Ready() bool
}

// Distributor chooses among backends. It is immutable; Pick may be called from
// any goroutine.
type Distributor[B Backend] struct {
	kind     model.DistributionKind
	backends []B
	weights  []uint32
}

// New makes a distributor. weights go with backends and matter to random
// distribution only; nil means that all have the same.
func New[B Backend](kind model.DistributionKind, backends []B, weights []uint32) *Distributor[B] {
	if weights == nil {
		weights = make([]uint32, len(backends))
		for i := range weights {
			weights[i] = 1
		}
	}
	return &Distributor[B]{kind, backends, weights}
}

// Pick chooses a backend; ok is false if none is ready, in which case the
// request is to be shed.
func (d *Distributor[B]) Pick() (b B, ok bool) {
	i, ok := d.Index(rand.Uint64N)
	if ok {
		b = d.backends[i]
	}
	return b, ok
}

// Index is Pick with the random number passed in: draw(n) is uniform in [0, n).
func (d *Distributor[B]) Index(draw func(uint64) uint64) (int, bool) {
	switch d.kind {
	case model.DistributionFirstAvailable:
		for i, b := range d.backends {
			if b.Ready() {
				return i, true
			}
		}
	case model.DistributionRandomAvailable:
		return d.random(draw)
	}
	return 0, false
}

// random draws among the ready ones in a single pass: each replaces the choice
// so far with the share of its weight in the sum up to it.
func (d *Distributor[B]) random(draw func(uint64) uint64) (int, bool) {
	chosen, ok := 0, false
	var sum uint64
	for i, b := range d.backends {
		w := uint64(d.weights[i])
		if w == 0 || !b.Ready() {
			continue
		}
		sum += w
		if !ok || draw(sum) < w {
			chosen, ok = i, true
		}
	}
	return chosen, ok
}

// Backends are all backends in order.
func (d *Distributor[B]) Backends() []B { return d.backends }

// Ready reports whether Pick would find one.
func (d *Distributor[B]) Ready() bool {
	for i, b := range d.backends {
		if (d.kind == model.DistributionFirstAvailable || d.kind == model.DistributionRandomAvailable && d.weights[i] > 0) && b.Ready() {
			return true
		}
	}
	return false
}
