package app

import (
	"fmt"
	"strings"
	"testing"
)

func TestTrimmer(t *testing.T) {
	for _, c := range []struct {
		name string
		open []int
		want string // a letter per look: t for trim
	}{
		{"calm", []int{3, 3, 3, 3}, "...."},
		{"burst", []int{3, 5000, 10, 10, 10, 10}, "...t.."},
		{"burst that goes on", []int{5000, 4000, 5000, 4900}, "...."},
		{"burst that comes back", []int{5000, 10, 5000, 10, 10}, "....t"},
		{"step by step", []int{1000, 400, 400, 150, 150, 50, 50}, "..t.t.t"},
		{"small", []int{60, 0, 0, 0}, "...."},
	} {
		var tr trimmer
		var got strings.Builder
		for _, n := range c.open {
			if tr.look(n) {
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
