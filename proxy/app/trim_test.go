package app

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestTrimmer(t *testing.T) {
	for _, c := range []struct {
		name string
		open []int
		work time.Duration // at each look
		want string        // a letter per look: t for trim
	}{
		{"calm", []int{3, 3, 3, 3}, 0, "...."},
		{"burst", []int{3, 5000, 10, 10, 10, 10}, 50 * time.Millisecond, "...t.."},
		{"burst that goes on", []int{5000, 4000, 5000, 4900}, 45 * time.Millisecond, "...."},
		{"burst that comes back", []int{5000, 10, 5000, 10, 10}, 35 * time.Millisecond, "....t"},
		{"step by step", []int{1000, 400, 400, 150, 150, 50, 50}, 50 * time.Millisecond, "..t.t.t"},
		{"small", []int{60, 0, 0, 0}, 0, "...."},
		{"connections that stay, at once", []int{3, 1000, 1000, 1000}, 0, ".t.."},
		{"and some more", []int{1000, 1000, 1050, 1100, 1100}, 0, "t..t."},
	} {
		var tr trimmer
		var got strings.Builder
		for _, n := range c.open {
			if tr.look(n, c.work) {
				got.WriteByte('t')
			} else {
				got.WriteByte('.')
			}
		}
		if got.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, fmt.Sprint(got.String()), c.want)
		}
	}
}

func TestTrimmerAfterWork(t *testing.T) {
	for _, c := range []struct {
		name string
		work []time.Duration // in milliseconds
		want string
	}{
		{"little", []time.Duration{5, 5, 5, 5, 5}, "....."},
		{"busy", []time.Duration{500, 500, 500, 500}, "...."},
		{"busy, then quiet", []time.Duration{500, 500, 1, 1, 1, 1}, "..t..."},
		{"never quite quiet", []time.Duration{500, 50, 50, 50}, "...."},
		{"little, for long", []time.Duration{10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10}, "...................t."},
	} {
		var tr trimmer
		var got strings.Builder
		for _, w := range c.work {
			if tr.look(3, w*time.Millisecond) {
				got.WriteByte('t')
			} else {
				got.WriteByte('.')
			}
		}
		if got.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got.String(), c.want)
		}
	}
}
