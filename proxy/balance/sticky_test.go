package balance

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance/affinity"
	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// at is where a request of a session goes.
func (h *bench) at(t *testing.T, key uint64) (string, Pick[*stub]) {
	t.Helper()
	p, err := h.PickFor(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	return p.Endpoint().Addr.String(), p
}

// TestSessionsStay: requests of a session go to one endpoint while it is ready,
// whatever its load, and back to it when it is ready again; others go elsewhere.
func TestSessionsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		h.update(a, b, c)
		synctest.Wait()
		where := map[string]int{}
		for i := range 100 {
			key := affinity.Key(fmt.Append(nil, i))
			first, p := h.at(t, key)
			where[first]++
			for range 10 {
				if again, p := h.at(t, key); again != first {
					t.Fatalf("session %d is at %s and %s", i, first, again)
				} else {
					defer p.Release()
				}
			}
			p.Release()
		}
		if len(where) != 3 {
			t.Errorf("sessions are at %v", where)
		}
		key := affinity.Key([]byte("one"))
		home, p := h.at(t, key)
		p.Release()
		h.stubs[home].set(false)
		synctest.Wait()
		next, p := h.at(t, key)
		p.Release()
		if next == home {
			t.Error("a session is at an endpoint that is not ready")
		}
		if again, p := h.at(t, key); again != next {
			t.Errorf("the session is at %s, then %s", next, again)
		} else {
			p.Release()
		}
		h.stubs[home].set(true)
		synctest.Wait()
		if back, p := h.at(t, key); back != home {
			t.Errorf("the session is at %s, not at %s again", back, home)
		} else {
			p.Release()
		}
	})
}

// TestSessionsLeaveWhatIsEjected: breakers count for sessions, too.
func TestSessionsLeaveWhatIsEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, func(c *Config[*stub]) {
			c.Accrual = &model.FailureAccrual{MaxConsecutive: 1, Backoff: model.Backoff{Min: time.Minute, Max: time.Minute}}
		})
		h.update(a, b, c)
		synctest.Wait()
		key := affinity.Key([]byte("one"))
		home, p := h.at(t, key)
		p.Outcome(breaker.Failure)
		p.Release()
		synctest.Wait()
		next, p := h.at(t, key)
		p.Outcome(breaker.Success)
		p.Release()
		if next == home {
			t.Error("a session is at an ejected endpoint")
		}
		// Once it has served again, it has its sessions back.
		time.Sleep(2 * time.Minute)
		for range 10 {
			_, p = h.at(t, key)
			p.Outcome(breaker.Success)
			p.Release()
			synctest.Wait()
		}
		if back, p := h.at(t, key); back != home {
			t.Errorf("the session is at %s, not at %s again", back, home)
		} else {
			p.Release()
		}
	})
}

// TestSessionsWait: a session waits for an endpoint like others do, and without a
// session the choice is the usual one.
func TestSessionsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, false, nil)
		h.update(a, b)
		synctest.Wait()
		got := make(chan string, 1)
		go func() {
			at, p := h.at(t, affinity.Key([]byte("one")))
			p.Release()
			got <- at
		}()
		synctest.Wait()
		h.stubs[b].set(true)
		if at := <-got; at != b {
			t.Errorf("got %s", at)
		}
		h.stubs[a].set(true)
		synctest.Wait()
		where := map[string]int{}
		for range 100 {
			at, p := h.at(t, 0)
			defer p.Release()
			where[at]++
		}
		if where[a] < 40 || where[b] < 40 {
			t.Errorf("without a session: %v", where)
		}
	})
}

// TestSessionsOverflow: with a bound, what is too much for an endpoint goes to
// others.
func TestSessionsOverflow(t *testing.T) {
	h := newBench(t, true, func(c *Config[*stub]) { c.MaxLoad = 150 })
	h.set.Set(endpoints(a, b, c))
	_, p := h.pick(t)
	p.Release()
	where := map[string]int{}
	for range 30 {
		at, p := h.at(t, affinity.Key([]byte("one")))
		defer p.Release()
		where[at]++
	}
	most := 0
	for _, n := range where {
		most = max(most, n)
	}
	if len(where) < 2 || most != 15 {
		t.Errorf("30 requests at once are at %v", where)
	}
}
