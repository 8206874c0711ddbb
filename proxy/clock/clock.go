// Package clock is where the proxy's composition gets the time from, so that a
// whole proxy can run in a test that decides when time passes.
//
//	started := clk.Now()
//	t := clk.AfterFunc(limit, expire)
//	defer t.Stop()
//
// Packages that decide take times as arguments and do not use this one. A
// Clock is safe for concurrent use.
package clock

import (
	"sort"
	"sync"
	"time"
)

// Clock tells the time and calls back later.
type Clock interface {
	// Now is the current time, with a monotonic part if the clock is real.
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own once d has passed.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a call that is still to come.
type Timer interface {
	// Stop prevents the call and reports whether it came in time to do so.
	Stop() bool
	// Reset makes the call come after d from now, whether or not it came
	// before.
	Reset(d time.Duration) bool
}

// System is the machine's clock.
var System Clock = system{}

type system struct{}

func (system) Now() time.Time                            { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Manual is a clock that stands still until it is told to advance.
type Manual struct {
	mu sync.Mutex
	// now and pending are guarded by mu; functions are called without it.
	now     time.Time
	pending []*manualTimer
}

var _ Clock = (*Manual)(nil)

// NewManual returns a clock that shows start.
func NewManual(start time.Time) *Manual { return &Manual{now: start} }

// Now is the time that was set last.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// AfterFunc registers f to be called by the Advance that reaches its time.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	t := &manualTimer{clock: m, fn: f}
	t.Reset(d)
	return t
}

// Advance moves the clock forward and calls, in the order of their times and
// on the caller's goroutine, the functions that became due.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	m.now = m.now.Add(d)
	now := m.now
	sort.SliceStable(m.pending, func(i, j int) bool { return m.pending[i].at.Before(m.pending[j].at) })
	var due []*manualTimer
	for len(m.pending) > 0 && !m.pending[0].at.After(now) {
		due = append(due, m.pending[0])
		m.pending[0].armed = false
		m.pending = m.pending[1:]
	}
	m.mu.Unlock()
	for _, t := range due {
		t.fn()
	}
}

type manualTimer struct {
	clock *Manual
	fn    func()
	// at and armed are guarded by clock.mu.
	at    time.Time
	armed bool
}

func (t *manualTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	return t.stopLocked()
}

func (t *manualTimer) stopLocked() bool {
	if !t.armed {
		return false
	}
	t.armed = false
	for i, p := range t.clock.pending {
		if p == t {
			t.clock.pending = append(t.clock.pending[:i:i], t.clock.pending[i+1:]...)
			break
		}
	}
	return true
}

func (t *manualTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	was := t.stopLocked()
	t.at, t.armed = t.clock.now.Add(d), true
	t.clock.pending = append(t.clock.pending, t)
	return was
}
