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
	if e := l.Allow(start.Add(time.Second), model.MustIdentity("late.ns")); e != nil || len(l.clients) != 1 {
		t.Error(e, len(l.clients))
	}
}
