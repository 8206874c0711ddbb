package balance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// stub is an endpoint's stack whose readiness the test sets.
type stub struct {
	endpoint *model.Endpoint
	notify   func()
	ready    atomic.Bool
	closed   atomic.Int32
}

func (s *stub) Ready() bool { return s.ready.Load() }
func (s *stub) Close()      { s.closed.Add(1) }
func (s *stub) set(ready bool) {
	s.ready.Store(ready)
	s.notify()
}

// bench is a balancer with its surroundings.
type bench struct {
	*Balancer[*stub]
	set   *watch.Value[*model.EndpointSet]
	mu    sync.Mutex
	stubs map[string]*stub
	// ready is whether new endpoints are ready at once.
	ready bool
}

func newBench(t *testing.T, ready bool, change func(*Config[*stub])) *bench {
	h := &bench{set: watch.New[*model.EndpointSet](nil), stubs: map[string]*stub{}, ready: ready}
	cfg := Config[*stub]{
		Endpoints: h.set,
		New: func(e *model.Endpoint, notify func()) *stub {
			s := &stub{endpoint: e, notify: notify}
			s.ready.Store(h.ready)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.stubs[e.Addr.String()] = s
			return s
		},
		Capacity: 3,
		Failfast: 3 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	h.Balancer = New(cfg)
	t.Cleanup(h.Close)
	return h
}

func endpoints(addrs ...string) *model.EndpointSet {
	s := &model.EndpointSet{Exists: true}
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, &model.Endpoint{Addr: netip.MustParseAddrPort(a)})
	}
	return s
}

func (h *bench) update(addrs ...string) {
	h.set.Set(endpoints(addrs...))
	synctest.Wait()
}

func (h *bench) stub(addr string) *stub {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stubs[addr]
}

func (h *bench) pick(t *testing.T) (string, Pick[*stub]) {
	t.Helper()
	p, err := h.Pick(nil)
	if err != nil {
		t.Fatalf("pick: %v", err)
	}
	return p.Endpoint().Addr.String(), p
}

const a, b, c = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"

func TestSlowEndpointIsAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		h.update(a, b)
		counts := map[string]int{}
		for range 100 {
			addr, p := h.pick(t)
			counts[addr]++
			if addr == a {
				time.Sleep(500 * time.Millisecond)
			} else {
				time.Sleep(time.Millisecond)
			}
			p.Complete()
			p.Release()
		}
		if counts[b] < 90 {
			t.Errorf("slow endpoint got %d of 100", counts[a])
		}
	})
}

func TestPendingRequestsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		h.update(a, b)
		counts := map[string]int{}
		var picks []Pick[*stub]
		for range 10 {
			addr, p := h.pick(t)
			counts[addr]++
			picks = append(picks, p)
		}
		if counts[a] != 5 || counts[b] != 5 {
			t.Errorf("no even spread: %v", counts)
		}
		for i := range picks {
			picks[i].Release()
		}
	})
}

func TestFailfast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, false, nil)
		start := time.Now()
		if !h.Ready() {
			t.Error("not ready before anybody had to wait")
		}
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				if _, err := h.Pick(nil); !errors.Is(err, ErrFailfast) {
					t.Errorf("got %v", err)
				}
				// All of them at the time of the first.
				if d := time.Since(start); d != 3*time.Second {
					t.Errorf("failed after %v", d)
				}
			})
		}
		time.Sleep(time.Second)
		if _, err := h.Pick(nil); !errors.Is(err, ErrLoadShed) {
			t.Errorf("over capacity: %v", err)
		}
		wg.Wait()
		if h.Ready() {
			t.Error("ready in fail-fast")
		}
		if _, err := h.Pick(nil); !errors.Is(err, ErrFailfast) {
			t.Errorf("later: %v", err)
		}
		// An endpoint that is not ready changes nothing; a ready one ends it.
		h.update(a)
		if h.Ready() {
			t.Error("pending endpoint ended fail-fast")
		}
		h.stub(a).set(true)
		synctest.Wait()
		if !h.Ready() {
			t.Error("still in fail-fast")
		}
		_, p := h.pick(t)
		p.Release()
		s := h.Stats()
		if s.Ready != 1 || s.Pending != 0 || s.QueueLength != 0 || s.QueueRequests != 6 || s.Gate.Shut != 1 ||
			s.Gate.Opened != 1 || s.Gate.ShutAt != start.Add(3*time.Second) {
			t.Errorf("%+v", s)
		}
	})
}

// TestTimerThatWasLate: one that had expired when the time began anew does not shut
// the queue on whoever has only just come.
func TestTimerThatWasLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q queue
		q.init(3, 3*time.Second)
		enter := func() {
			t.Helper()
			if _, err := q.enter(); err != nil {
				t.Fatal(err)
			}
		}
		enter()
		time.Sleep(2 * time.Second)
		q.leave()
		enter()
		q.expire() // as the timer of the first does that could not be stopped any more
		if q.shut.Load() {
			t.Error("shut at once")
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !q.shut.Load() {
			t.Error("not shut in time")
		}
	})
}

func TestWaitingRequestGoesOnWhenReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waited time.Duration
		h := newBench(t, false, func(c *Config[*stub]) { c.QueueLatency = func(d time.Duration) { waited = d } })
		go func() {
			time.Sleep(time.Second)
			h.update(a)
			time.Sleep(time.Second)
			h.stub(a).set(true)
		}()
		addr, p := h.pick(t)
		if addr != a || waited != 2*time.Second {
			t.Errorf("%s after %v", addr, waited)
		}
		p.Release()
		time.Sleep(time.Minute)
		if !h.Ready() {
			t.Error("fail-fast timer goes on without anybody waiting")
		}
	})
}

func TestWaitingRequestIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, false, nil)
		gone := errors.New("client went away")
		var c exchange.Canceler
		time.AfterFunc(time.Second, func() { c.Cancel(gone) })
		if _, err := h.Pick(&c); !errors.Is(err, gone) {
			t.Error(err)
		}
		if _, err := h.Pick(&c); !errors.Is(err, gone) {
			t.Error("cancelled before:", err)
		}
		if h.Stats().QueueLength != 0 {
			t.Error("still queued")
		}
	})
}

func TestEndpointsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		h.update(a, b)
		sa, sb := h.stub(a), h.stub(b)
		_, p := h.pick(t)
		// The same endpoints again change nothing; a new label makes a new stack.
		set := endpoints(a, b)
		set.Endpoints[1].Labels = model.Labels{{Key: "pod", Value: "x"}}
		set.Updates = model.EndpointUpdates{Reset: 1, Add: 1}
		h.set.Set(set)
		synctest.Wait()
		if h.stub(a) != sa || sa.closed.Load() != 0 {
			t.Error("unchanged endpoint was replaced")
		}
		if h.stub(b) == sb || sb.closed.Load() != 1 {
			t.Error("changed endpoint was kept")
		}
		h.update(c)
		if sa.closed.Load() != 1 || h.stub(b).closed.Load() != 1 {
			t.Error("removed endpoints are open")
		}
		p.Release()
		addr, p := h.pick(t)
		p.Release()
		if addr != c {
			t.Error(addr)
		}
		// An unready one is avoided.
		h.update(a, c)
		h.stub(c).ready.Store(false) // without telling: Pick has to notice
		for range 20 {
			addr, p := h.pick(t)
			p.Release()
			if addr != a {
				t.Fatal("picked unready endpoint")
			}
		}
		synctest.Wait()
		if s := h.Stats(); s.Ready != 1 || s.Pending != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestResolutionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		bad := errors.New("bad authority")
		time.AfterFunc(time.Second, func() { h.set.Set(&model.EndpointSet{Err: bad}) })
		if _, err := h.Pick(nil); !errors.Is(err, bad) {
			t.Error(err)
		}
		if _, err := h.Pick(nil); !errors.Is(err, bad) {
			t.Error(err)
		}
	})
}

func TestBreakerTakesEndpointOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, func(c *Config[*stub]) {
			c.Accrual = &model.FailureAccrual{MaxConsecutive: 2, Backoff: model.Backoff{Min: time.Second, Max: time.Minute}}
		})
		h.update(a)
		_, late := h.pick(t)
		for range 2 {
			_, p := h.pick(t)
			p.Outcome(breaker.Failure)
			p.Release()
		}
		synctest.Wait()
		if s := h.Stats(); s.Pending != 1 {
			t.Fatalf("%+v", s)
		}
		late.Outcome(breaker.Success) // ignored while shut
		late.Release()
		// The next request waits for the backoff and is the probe; the one
		// after it waits for what becomes of the probe.
		start := time.Now()
		_, probe := h.pick(t)
		if d := time.Since(start); d != time.Second {
			t.Errorf("probe after %v", d)
		}
		time.AfterFunc(time.Second, func() {
			probe.Release() // no outcome: somebody else may probe
		})
		_, probe2 := h.pick(t)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("second probe after %v", d)
		}
		time.AfterFunc(time.Second, func() {
			probe2.Outcome(breaker.Success)
			probe2.Release()
		})
		for range 3 {
			_, p := h.pick(t)
			defer p.Release()
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("open after %v", d)
		}
	})
}

func TestPenalisedResponseMakesEndpointExpensive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, func(c *Config[*stub]) {
			c.Load = model.Load{DefaultRTT: 30 * time.Millisecond, Decay: 10 * time.Second, Penalize: true,
				Penalty: 5 * time.Second, MaxRetryAfter: 300 * time.Second}
		})
		h.update(a, b)
		counts := map[string]int{}
		for range 50 {
			addr, p := h.pick(t)
			counts[addr]++
			head := exchange.ResponseHead{Status: 200}
			if addr == a {
				head.Status = 503
			} else {
				time.Sleep(20 * time.Millisecond)
			}
			p.Head(&head)
			p.Release()
		}
		if counts[a] > 2 {
			t.Errorf("quickly failing endpoint got %d of 50", counts[a])
		}
	})
}

func TestCloseFailsThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newBench(t, true, nil)
		time.AfterFunc(time.Second, h.Close)
		if _, err := h.Pick(nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if _, err := h.Pick(nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	h := newBench(t, true, func(c *Config[*stub]) {
		c.Capacity = 1000
		c.Accrual = &model.FailureAccrual{MaxConsecutive: 3, Backoff: model.Backoff{Min: time.Microsecond, Max: time.Microsecond}}
	})
	h.set.Set(endpoints(a, b, c))
	stop := make(chan struct{})
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			h.set.Set(endpoints([]string{a, b, c}[i%3:]...))
			h.mu.Lock()
			s := h.stubs[a]
			h.mu.Unlock()
			if s != nil {
				s.set(i%2 == 0)
			}
		}
	})
	for range 8 {
		readers.Go(func() {
			for i := range 500 {
				p, err := h.Pick(nil)
				if err != nil {
					t.Error(err)
					return
				}
				if i%3 == 0 {
					p.Outcome(breaker.Failure)
				} else if i%7 != 0 {
					p.Outcome(breaker.Success)
				}
				p.Release()
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
}

func TestPickDoesNotAllocate(t *testing.T) {
	h := newBench(t, true, nil)
	h.set.Set(endpoints(a, b, c))
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

func ExampleBalancer() {
	set := watch.New(endpoints(a))
	b := New(Config[*stub]{
		Endpoints: set,
		New: func(e *model.Endpoint, notify func()) *stub {
			s := &stub{endpoint: e, notify: notify}
			s.ready.Store(true)
			return s
		},
		Capacity: 10, Failfast: time.Second,
	})
	defer b.Close()
	p, err := b.Pick(nil)
	if err != nil {
		return
	}
	defer p.Release()
	fmt.Println(p.Endpoint().Addr, slices.Contains([]string{a}, p.Service().endpoint.Addr.String()))
	// Output: 10.0.0.1:80 true
}
