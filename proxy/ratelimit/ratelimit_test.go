package ratelimit

import (
	"fmt"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestAllow(t *testing.T) {
	start := time.Unix(1000, 0)
	a, b, c := model.MustIdentity("a.ns"), model.MustIdentity("b.ns"), model.MustIdentity("c.ns")
	type step struct {
		at   time.Duration
		id   model.Identity
		n    int
		want string
	}
	for _, tc := range []struct {
		name  string
		cfg   model.RateLimit
		steps []step
	}{
		{"total: a burst of n, then one each 1/n s", model.RateLimit{Total: 4}, []step{
			{0, a, 4, ""}, {0, b, 1, "total rate limit exceeded: 4rps"},
			{249 * time.Millisecond, a, 1, "total rate limit exceeded: 4rps"},
			{250 * time.Millisecond, a, 1, ""}, {250 * time.Millisecond, a, 1, "total rate limit exceeded: 4rps"},
			{10 * time.Second, a, 4, ""}, {10 * time.Second, a, 1, "total rate limit exceeded: 4rps"},
		}},
		{"identity: each its own; those without share one", model.RateLimit{Identity: 2}, []step{
			{0, a, 2, ""}, {0, a, 1, "per-identity rate limit exceeded: 2rps"}, {0, b, 2, ""},
			{0, model.Identity{}, 2, ""}, {0, model.Identity{}, 1, "per-identity rate limit exceeded: 2rps"},
		}},
		{"override replaces identity and is shared by its clients",
			model.RateLimit{Identity: 1, Overrides: []model.RateOverride{{Limit: 3, Clients: []model.Identity{a, b}}, {Limit: 0, Clients: []model.Identity{c}}}}, []step{
				{0, a, 2, ""}, {0, b, 1, ""}, {0, b, 1, "override rate limit exceeded: 3rps"}, {0, c, 100, ""},
			}},
		{"a longer burst", model.RateLimit{Total: 2, Burst: 3 * time.Second}, []step{
			{0, a, 6, ""}, {0, a, 1, "total rate limit exceeded: 2rps"},
			{499 * time.Millisecond, a, 1, "total rate limit exceeded: 2rps"},
			{500 * time.Millisecond, a, 1, ""}, {500 * time.Millisecond, a, 1, "total rate limit exceeded: 2rps"},
			{time.Hour, a, 6, ""}, {time.Hour, a, 1, "total rate limit exceeded: 2rps"},
		}},
		{"a shorter burst, which lets at least one through", model.RateLimit{Total: 10, Identity: 2, Burst: 200 * time.Millisecond}, []step{
			{0, a, 1, ""}, {0, a, 1, "per-identity rate limit exceeded: 2rps"}, {0, b, 1, "total rate limit exceeded: 10rps"},
			{100 * time.Millisecond, b, 1, ""},
		}},
		{"the largest limit with the longest burst", model.RateLimit{Total: 1 << 29, Burst: 1000 * time.Hour}, []step{{0, a, 1000, ""}}},
		{"total is used up by what identity refuses", model.RateLimit{Total: 3, Identity: 1}, []step{
			{0, a, 1, ""}, {0, a, 2, "per-identity rate limit exceeded: 1rps"}, {0, b, 1, "total rate limit exceeded: 3rps"},
		}},
	} {
		l := New(&tc.cfg, start)
		for _, s := range tc.steps {
			for range s.n {
				got := ""
				if e := l.Allow(start.Add(s.at), s.id); e != nil {
					got = e.Error()
				}
				if got != s.want {
					t.Errorf("%s: at %v %s: %q, want %q", tc.name, s.at, s.id, got, s.want)
				}
			}
		}
	}
	if New(nil, start).Allow(start, a) != nil || New(&model.RateLimit{}, start) != nil {
		t.Error("no limit limits")
	}
}

func TestIdentitiesAreBounded(t *testing.T) {
	start := time.Unix(1000, 0)
	l := New(&model.RateLimit{Identity: 1}, start)
	for i := range maxIdentities + 100 {
		e := l.Allow(start, model.MustIdentity(fmt.Sprintf("c%d.ns", i)))
		if (e != nil) != (i > maxIdentities) {
			t.Fatalf("client %d: %v", i, e)
		}
	}
	// After a second the old ones make room.
	if e := l.Allow(start.Add(time.Second), model.MustIdentity("late.ns")); e != nil || len(l.clients.buckets) != 1 {
		t.Error(e, len(l.clients.buckets))
	}
}

// TestWait: whoever waits as long as it is told may pass, and would not a moment
// before.
func TestWait(t *testing.T) {
	start := time.Unix(1000, 0)
	for _, rps := range []uint32{1, 3, 7, 1000} {
		l := New(&model.RateLimit{Total: rps}, start)
		now := start.Add(time.Duration(rps) * time.Millisecond)
		var e *Exceeded
		for e == nil {
			e = l.Allow(now, model.Identity{})
		}
		if e.Wait <= 0 || e.Wait > time.Second {
			t.Errorf("%d a second: told to wait for %v", rps, e.Wait)
		}
		if l.Allow(now.Add(e.Wait-1), model.Identity{}) == nil {
			t.Errorf("%d a second: might have come before %v", rps, e.Wait)
		}
		if again := l.Allow(now.Add(e.Wait), model.Identity{}); again != nil {
			t.Errorf("%d a second: refused after %v, told to wait for %v more", rps, e.Wait, again.Wait)
		}
	}
}

// TestNext: a policy's change lets nobody begin anew whose limit it leaves alone.
func TestNext(t *testing.T) {
	a, b := model.MustIdentity("a.ns"), model.MustIdentity("b.ns")
	over := func(limit uint32, ids ...model.Identity) model.RateOverride {
		return model.RateOverride{Limit: limit, Clients: ids}
	}
	limits := func(total, identity uint32, o ...model.RateOverride) *model.RateLimit {
		return &model.RateLimit{Total: total, Identity: identity, Overrides: o}
	}
	start := time.Unix(1000, 0)
	now := start.Add(100 * time.Millisecond)
	for _, c := range []struct {
		name     string
		old, now *model.RateLimit
		id       model.Identity
		passes   bool
	}{
		{"the same", limits(1, 0), limits(1, 0), a, false},
		{"another total", limits(1, 0), limits(2, 0), a, true},
		{"the same total, another identity", limits(1, 5), limits(1, 6), a, false},
		{"the same identity", limits(0, 1), limits(9, 1), a, false},
		{"another client", limits(0, 1), limits(0, 1), b, true},
		{"another identity", limits(0, 1), limits(0, 2), a, true},
		{"the same override, elsewhere in the list", limits(0, 0, over(1, a)), limits(0, 0, over(5, b), over(1, a)), a, false},
		{"another override", limits(0, 0, over(1, a)), limits(0, 0, over(2, a)), a, true},
		{"an override of others as well", limits(0, 0, over(1, a)), limits(0, 0, over(1, a, b)), a, true},
		{"no limit before", nil, limits(1, 0), a, true},
		{"no limit any more", limits(1, 0), nil, a, true},
	} {
		l := New(c.old, start)
		if e := l.Allow(now, a); e != nil {
			t.Fatalf("%s: %v at once", c.name, e)
		}
		if e := Next(l, c.now, now).Allow(now, c.id); (e == nil) != c.passes {
			t.Errorf("%s: %v", c.name, e)
		}
	}
}

// TestShares: a share that changes because proxies come and go neither fills buckets
// nor forgets what was used up.
func TestShares(t *testing.T) {
	a := model.MustIdentity("a.ns")
	start := time.Unix(1000, 0)
	share := func(n uint32) *model.RateLimit {
		return &model.RateLimit{Total: 10 * n, Identity: n, Overrides: []model.RateOverride{{Limit: n, Clients: []model.Identity{a}}}, Shared: true}
	}
	passing := func(l *Limiter, now time.Time, id model.Identity) int {
		n := 0
		for l.Allow(now, id) == nil {
			n++
		}
		return n
	}
	for _, id := range []model.Identity{a, model.MustIdentity("b.ns")} {
		l := New(share(8), start)
		if n := passing(l, start, id); n != 8 {
			t.Errorf("%s: %d of 8 pass at first", id, n)
		}
		// Half a bucket of the smaller share is full after half a second.
		l = Next(l, share(4), start)
		if n := passing(l, start, id); n != 0 {
			t.Errorf("%s: %d pass because the share became smaller", id, n)
		}
		if n := passing(l, start.Add(500*time.Millisecond), id); n != 2 {
			t.Errorf("%s: %d pass after half a second, want 2", id, n)
		}
		l = Next(l, share(16), start.Add(500*time.Millisecond))
		if n := passing(l, start.Add(500*time.Millisecond), id); n > 8 {
			t.Errorf("%s: %d pass because the share became larger", id, n)
		}
		if n := passing(l, start.Add(10*time.Second), id); n != 16 {
			t.Errorf("%s: %d of 16 pass in the end", id, n)
		}
	}
	// Limits that somebody changes are others.
	l := New(share(1), start)
	passing(l, start, a)
	whole := share(2)
	whole.Shared = false
	if l = Next(l, whole, start); l.Allow(start, a) != nil {
		t.Error("a limit that is no share any more begins with what was used up")
	}
}
