package main

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
)

// TestUnsteadyTestsRunAgain: of tests that fail, those that are marked run again,
// alone, and count as what they are then.
func TestUnsteadyTestsRunAgain(t *testing.T) {
	for _, c := range []struct {
		name, run, want string
		again           []string
	}{
		{"marked", "^Test(Marked|Passes)$", "unsteady: TestMarked: it goes by the clock\n2 passed, 0 failed, 0 skipped\n", []string{"TestMarked"}},
		{"with parts", "^TestMarkedWithParts$", "unsteady: TestMarkedWithParts: its parts go by the clock\n2 passed, 0 failed, 0 skipped\n", []string{"TestMarkedWithParts"}},
		{"again and again", "^TestMarkedThatAlwaysFails$", "0 passed, 1 failed, 0 skipped\n", []string{"TestMarkedThatAlwaysFails"}},
		{"not marked", "^Test(Unmarked|Passes)$", "1 passed, 1 failed, 0 skipped\n", nil},
		{"beside one that is not", "^Test(Marked|Unmarked)$", "unsteady: TestMarked: it goes by the clock\n1 passed, 1 failed, 0 skipped\n", []string{"TestMarked"}},
		{"one that panics", "^TestMarkedThatPanics$", "0 passed, 1 failed, 0 skipped\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := &runner{stdout: &out}
			if err := r.goTestWith(t.Context(), ".", []string{"SHAKY=" + t.TempDir()}, "-count=1", "-run", c.run, "./testdata/shaky"); err != nil {
				t.Fatal(err)
			}
			if got := r.summary(); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
			var again []string
			for line := range strings.Lines(out.String()) {
				if f := strings.Fields(line); len(f) > 2 && f[0] == "again" {
					again = append(again, strings.TrimSuffix(f[2], ","))
				}
			}
			if !slices.Equal(again, c.again) {
				t.Errorf("ran %q again, want %q; output:\n%s", again, c.again, &out)
			}
		})
	}
}

// TestBrokenTestsAreNotUnsteady: what is a fault on any machine is none of the
// clock's, marked or not. Each case is what a test or, without a name before the
// colon, a package prints.
func TestBrokenTestsAreNotUnsteady(t *testing.T) {
	const marked = "TestA:    a_test.go:10: unsteady: it goes by the clock"
	for _, c := range []struct {
		name   string
		lines  []string
		steady bool
	}{
		{"late", []string{marked, "TestA:    a_test.go:11: took 3s"}, false},
		{"not marked", []string{"TestA:    a_test.go:11: took 3s"}, true},
		{"another is marked", []string{strings.Replace(marked, "TestA", "TestB", 1), "TestA:    a_test.go:11: took 3s"}, true},
		{"a race", []string{marked, "TestA:WARNING: DATA RACE", "TestA:    testing.go:1617: race detected during execution of test"}, true},
		{"a race in a part", []string{marked, "TestA/part:    testing.go:1617: race detected during execution of test"}, true},
		{"a race beside it", []string{marked, ":WARNING: DATA RACE"}, true},
		{"a panic", []string{marked, "TestA:panic: a bug [recovered]"}, true},
		{"a hang", []string{marked, ":panic: test timed out after 10m0s"}, true},
		{"a leak", []string{marked, "TestA:    a_test.go:12: 2 buffers were not freed"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var events strings.Builder
			add := func(e event) {
				e.Package = "example.com/a"
				b, err := json.Marshal(e)
				if err != nil {
					t.Fatal(err)
				}
				events.Write(append(b, '\n'))
			}
			for _, l := range c.lines {
				test, text, _ := strings.Cut(l, ":")
				add(event{Action: "output", Test: test, Output: text + "\n"})
			}
			add(event{Action: "fail", Test: "TestA"})
			add(event{Action: "pass", Test: "TestB"})
			add(event{Action: "fail"})
			p := &printer{out: io.Discard, tests: map[string]*result{}, blamed: map[string]bool{}}
			if err := p.read(strings.NewReader(events.String())); err != nil {
				t.Fatal(err)
			}
			if list := p.unsteady(); (len(list) == 0) != c.steady || p.failed != 1 || p.passed != 1 {
				t.Errorf("may run again: %v; %+v", list, p.counts)
			}
		})
	}
}
