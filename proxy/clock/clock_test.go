package clock

import (
	"testing"
	"time"
)

func TestManualCallsInOrder(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := NewManual(start)
	var got []string
	m.AfterFunc(2*time.Second, func() { got = append(got, "two") })
	m.AfterFunc(time.Second, func() { got = append(got, "one") })
	stopped := m.AfterFunc(time.Second, func() { got = append(got, "stopped") })
	if !stopped.Stop() {
		t.Error("a pending timer was not stopped")
	}
	if stopped.Stop() {
		t.Error("a stopped timer was stopped again")
	}
	m.Advance(500 * time.Millisecond)
	if len(got) != 0 {
		t.Fatalf("called too early: %v", got)
	}
	m.Advance(2 * time.Second)
	if len(got) != 2 || got[0] != "one" || got[1] != "two" {
		t.Errorf("got %v", got)
	}
	if want := start.Add(2500 * time.Millisecond); !m.Now().Equal(want) {
		t.Errorf("now is %v, want %v", m.Now(), want)
	}
	stopped.Reset(time.Second)
	m.Advance(time.Second)
	if len(got) != 3 {
		t.Errorf("a timer that was reset was not called: %v", got)
	}
}
