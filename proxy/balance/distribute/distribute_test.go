package distribute

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

type backend bool

func (b backend) Ready() bool { return bool(b) }

func TestPick(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    model.DistributionKind
		ready   []backend
		weights []uint32
		// share of each backend, all zero for "none".
		share []float64
	}{
		{"empty", model.DistributionEmpty, nil, nil, nil},
		{"first", model.DistributionFirstAvailable, []backend{true, true}, nil, []float64{1, 0}},
		{"first is down", model.DistributionFirstAvailable, []backend{false, true}, nil, []float64{0, 1}},
		{"none", model.DistributionFirstAvailable, []backend{false, false}, nil, []float64{0, 0}},
		{"weighted", model.DistributionRandomAvailable, []backend{true, true, true}, []uint32{1, 2, 7}, []float64{.1, .2, .7}},
		{"weighted without the down", model.DistributionRandomAvailable, []backend{true, true, false}, []uint32{1, 3, 7}, []float64{.25, .75, 0}},
		{"weight zero", model.DistributionRandomAvailable, []backend{true, true}, []uint32{0, 1}, []float64{0, 1}},
		{"all zero", model.DistributionRandomAvailable, []backend{true, true}, []uint32{0, 0}, []float64{0, 0}},
		{"no weights", model.DistributionRandomAvailable, []backend{true, true}, nil, []float64{.5, .5}},
	} {
		r := rand.New(rand.NewPCG(1, 2))
		d := New(c.kind, c.ready, c.weights)
		const n = 20000
		got := make([]float64, len(c.ready))
		picked := false
		for range n {
			if i, ok := d.Index(r.Uint64N); ok {
				got[i]++
				picked = true
			}
		}
		if picked != d.Ready() {
			t.Errorf("%s: picked %v, ready %v", c.name, picked, d.Ready())
		}
		for i := range got {
			if math.Abs(got[i]/n-c.share[i]) > 0.02 {
				t.Errorf("%s: backend %d got %v, want %v", c.name, i, got[i]/n, c.share[i])
			}
		}
	}
}
