package shrink

import (
	"maps"
	"testing"
)

func TestPeak(t *testing.T) {
	var p Peak
	for i, step := range []struct {
		size   int
		passed bool
	}{
		{1023, false}, {10, false}, // too small to matter
		{4000, false}, {1001, false}, {1000, true}, // a quarter of the peak
		{900, false}, {0, false}, // the new peak is too small
		{2048, false}, {0, true},
	} {
		if got := p.Passed(step.size); got != step.passed {
			t.Errorf("step %d: at %d it said %v", i, step.size, got)
		}
	}
}

func TestMap(t *testing.T) {
	old := map[string]int{"a": 1, "b": 2}
	if m := Map(old); !maps.Equal(m, old) {
		t.Errorf("the copy is %v", m)
	}
}
