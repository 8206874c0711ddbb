package ewma

import (
	"math"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	const s = int64(time.Second)
	l := New(30*time.Millisecond, 10*time.Second, 0, 0)
	near := func(what string, got float64, want float64) {
		t.Helper()
		if math.Abs(got-want) > want*1e-9+1e-6 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	near("initial", l.Cost(0), 30e6)
	near("after one decay time", l.Cost(10*s), 30e6/math.E)
	// Reading twice decays no faster than reading once.
	near("after two", l.Cost(20*s), 30e6/(math.E*math.E))
	l.Start()
	l.Start()
	near("with two in flight", l.Cost(20*s), 3*30e6/(math.E*math.E))
	// A peak counts at once.
	l.Complete(20*s, 100*time.Millisecond)
	near("after a peak", l.Cost(20*s), 2*100e6)
	// A fast response pulls the average down by the time that passed since the last update.
	l.Complete(30*s, 10*time.Millisecond)
	near("after a fast one", l.Cost(30*s), 100e6/math.E+10e6*(1-1/math.E))
	// A reading from before the last update changes nothing.
	near("late reading", l.Cost(29*s), 100e6/math.E+10e6*(1-1/math.E))
	if l.Pending() != 0 {
		t.Error(l.Pending())
	}
	if got := New(0, 0, 0, 0).Estimate(0); got != time.Millisecond {
		t.Error("least estimate", got)
	}
}

func TestPenaltyHasItsOwnDecay(t *testing.T) {
	const s = int64(time.Second)
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > want*1e-9 {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	l := New(30*time.Millisecond, 10*time.Second, 2*time.Second, 0)
	l.Start()
	l.Penalize(0, 5*time.Second)
	near("after the penalty's decay time", l.Cost(2*s), 5e9/math.E)
	// A response that is quicker than what is left of the penalty does not end it.
	l.Start()
	l.Complete(2*s, 5e9)
	l.Start()
	l.Penalize(2*s, 5*time.Second)
	l.Start()
	l.Complete(4*s, 0)
	near("after a quick response", l.Cost(6*s), 5e9/(math.E*math.E))
	// One that takes longer does.
	l.Start()
	l.Complete(6*s, 9*time.Second)
	near("after a real peak", l.Cost(16*s), 9e9/math.E)
}
