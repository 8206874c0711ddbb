package balance

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// weighted is a set with weights, in order.
func weighted(weights ...uint32) *model.EndpointSet {
	s := endpoints([]string{a, b, c}[:len(weights)]...)
	for i, w := range weights {
		s.Endpoints[i].Weight = w
	}
	return s
}

// seeded draws the same numbers in every run.
func seeded(cfg *Config[*stub]) { cfg.IntN = rand.New(rand.NewPCG(1, 2)).IntN }

// share is how many of n requests that take as long as one another the endpoints
// get, with so many of them at a time.
func share(t *testing.T, h *bench, n, together int) map[string]int {
	t.Helper()
	counts := map[string]int{}
	var open []Pick[*stub]
	for range n {
		addr, p := h.pick(t)
		counts[addr]++
		if open = append(open, p); len(open) == together {
			time.Sleep(10 * time.Millisecond)
			open[0].Release()
			open = open[1:]
		}
	}
	for i := range open {
		open[i].Release()
	}
	return counts
}

// TestTwo makes every draw there is: the two are never the same, and each pair comes as often as its weights say.
func TestTwo(t *testing.T) {
	for _, weights := range [][]uint64{{1, 1}, {3, 3, 3}, {1, 2}, {3, 1, 2}, {1, 5, 1, 2}} {
		c := &choice[*stub]{}
		index := map[*member[*stub]]int{}
		for i, w := range weights {
			m := &member[*stub]{weight: w}
			c.members = append(c.members, m)
			index[m] = i
		}
		c.weigh()
		drawn := map[[2]int]uint64{}
		for first, firsts := 0, 1; first < firsts; first++ {
			for second, seconds := 0, 1; second < seconds; second++ {
				calls := 0
				x, y := c.two(func(n int) int {
					if calls++; calls == 1 {
						firsts = n
						return first
					}
					seconds = n
					return second
				})
				drawn[[2]int{index[x], index[y]}]++
			}
		}
		for i, w := range weights {
			for j, v := range weights {
				want := w * v
				if c.sums == nil {
					want = 1 // all weigh the same, and are drawn without weights
				}
				if i == j {
					want = 0
				}
				if got := drawn[[2]int{i, j}]; got != want {
					t.Errorf("weights %v: %d and then %d were drawn %d times, want %d", weights, i, j, got, want)
				}
			}
		}
	}
}

// TestWeights: an endpoint with a greater weight is preferred, and the others get
// what is too much for it.
func TestWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, seeded)
		h.set.Set(weighted(10*model.UsualWeight, model.UsualWeight, model.UsualWeight))
		synctest.Wait()
		quiet := share(t, h, 1000, 1)
		if quiet[a] < 850 {
			t.Errorf("with little to do the preferred endpoint got %d of 1000", quiet[a])
		}
		// 24 at a time: ten, and ten times as many as each of the others.
		busy := share(t, h, 4000, 24)
		if busy[a] < 2900 || busy[a] > 3600 || busy[b] < 150 || busy[c] < 150 {
			t.Errorf("busy endpoints got %v of 4000, want shares of 10 to 1 to 1", busy)
		}
	})
}

// TestEqualWeights: what the weights are does not matter if they are the same.
func TestEqualWeights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, seeded)
		h.set.Set(weighted(7, 7, 7))
		synctest.Wait()
		for addr, n := range share(t, h, 3000, 12) {
			if n < 850 || n > 1150 {
				t.Errorf("%s got %d of 3000", addr, n)
			}
		}
	})
}

// TestWeightChanges: another weight needs no new connections.
func TestWeightChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, seeded)
		h.set.Set(weighted(1, 1))
		synctest.Wait()
		before := h.stub(a)
		h.set.Set(weighted(1000, 1))
		synctest.Wait()
		if h.stub(a) != before || before.closed.Load() != 0 {
			t.Error("the endpoint was replaced")
		}
		if got := share(t, h, 100, 1); got[a] < 90 {
			t.Errorf("its new weight does not count: %v", got)
		}
	})
}

func TestWeightsDoNotAllocate(t *testing.T) {
	h := newBench(t, true, nil)
	h.set.Set(weighted(1, 2, 3))
	_, p := h.pick(t)
	p.Release()
	if n := testing.AllocsPerRun(100, func() {
		p, _ := h.Pick(nil)
		p.Complete()
		p.Release()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestAvoidedEndpoints are chosen only if there is no other.
func TestAvoidedEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var avoid atomic.Pointer[string]
		h := newBench(t, true, func(cfg *Config[*stub]) {
			cfg.Avoid = func(s *stub) bool {
				addr := avoid.Load()
				return addr != nil && (*addr == "all" || *addr == s.endpoint.Addr.String())
			}
		})
		h.update(a, b)
		first, all := a, "all"
		// Without telling: picks have to notice.
		avoid.Store(&first)
		for range 50 {
			addr, p := h.pick(t)
			p.Release()
			if addr != b {
				t.Fatal("picked an endpoint that is to be avoided")
			}
		}
		synctest.Wait()
		if s := h.Stats(); s.Ready != 1 || s.Pending != 1 || !h.Spare() {
			t.Errorf("%+v, spare %v", s, h.Spare())
		}
		avoid.Store(&all)
		h.stub(a).notify()
		synctest.Wait()
		_, p := h.pick(t)
		p.Release()
		if s := h.Stats(); s.Ready != 2 || h.Spare() || !h.Ready() {
			t.Errorf("all to be avoided: %+v, spare %v", s, h.Spare())
		}
	})
}

// TestEjectionLimit: breakers leave in what they have to, whoever else fails.
func TestEjectionLimit(t *testing.T) {
	for _, limit := range []model.Ejection{{Count: 2}, {Percent: 50}, {Count: 1, Percent: 60}} {
		synctest.Test(t, func(t *testing.T) {
			h := newBench(t, true, func(cfg *Config[*stub]) {
				cfg.Accrual = &model.FailureAccrual{
					MaxConsecutive: 1, Backoff: model.Backoff{Min: time.Minute, Max: time.Minute}, Ejection: limit,
				}
			})
			h.update(a, b, c)
			for range 20 {
				_, p := h.pick(t)
				p.Outcome(breaker.Failure)
				p.Release()
				synctest.Wait()
			}
			if s := h.Stats(); s.Ready != 2 {
				t.Errorf("%+v: %d of 3 are left", limit, s.Ready)
			}
			// Those that leave the set are not counted as taken out any more.
			h.update(a)
			h.update(a, b, c)
			for range 20 {
				_, p := h.pick(t)
				p.Outcome(breaker.Failure)
				p.Release()
				synctest.Wait()
			}
			if s := h.Stats(); s.Ready != 2 {
				t.Errorf("%+v: %d of 3 are left after a change", limit, s.Ready)
			}
		})
	}
}

// TestRetryAfterKeepsAnEndpointOut: what the response that trips the breaker asks
// for is heeded.
func TestRetryAfterKeepsAnEndpointOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, func(cfg *Config[*stub]) {
			cfg.Failfast = time.Hour
			cfg.Accrual = &model.FailureAccrual{
				MaxConsecutive: 1, Backoff: model.Backoff{Min: time.Second, Max: time.Minute}, RetryAfter: true,
			}
		})
		h.update(a)
		_, p := h.pick(t)
		head := exchange.ResponseHead{Status: 503}
		head.Add("retry-after", "20")
		p.Head(&head)
		p.Outcome(breaker.Failure)
		p.Release()
		start := time.Now()
		_, p = h.pick(t)
		p.Outcome(breaker.Success)
		p.Release()
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("the endpoint was back after %v", d)
		}
	})
}

// TestStreamAsProbe: a probe that goes on for ever does not keep the endpoint out.
func TestStreamAsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, func(cfg *Config[*stub]) {
			cfg.Failfast = time.Hour
			cfg.Accrual = &model.FailureAccrual{MaxConsecutive: 1, Backoff: model.Backoff{Min: 2 * time.Second, Max: time.Minute}}
		})
		h.update(a)
		_, p := h.pick(t)
		p.Outcome(breaker.Failure)
		p.Release()
		_, stream := h.pick(t)
		start := time.Now()
		_, second := h.pick(t)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("the second probe came after %v", d)
		}
		second.Outcome(breaker.Success)
		second.Release()
		for range 3 {
			_, p := h.pick(t)
			p.Release()
		}
		stream.Release()
	})
}
