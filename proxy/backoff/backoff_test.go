package backoff

import (
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestDelay(t *testing.T) {
	b := model.Backoff{Min: 100 * time.Millisecond, Max: 60 * time.Second, Jitter: 0.1}
	for _, c := range []struct {
		b    model.Backoff
		n    int
		draw float64
		want time.Duration
	}{
		{b, 0, 0, 100 * time.Millisecond},
		{b, 1, 0, 200 * time.Millisecond},
		{b, 9, 0, 51200 * time.Millisecond},
		{b, 10, 0, 60 * time.Second},
		{b, 1000, 0, 60 * time.Second},
		{b, 0, 0.5, 105 * time.Millisecond},
		{b, 10, 0.999, 65994 * time.Millisecond},
		{model.Backoff{Min: time.Second, Max: time.Second}, 40, 0.9, time.Second},
		{model.Backoff{Min: 0, Max: time.Second}, 3, 0.9, 0},
		{model.Backoff{Min: time.Hour, Max: 1 << 62}, 40, 0, 1 << 62},
	} {
		if got := Delay(c.b, c.n, c.draw); got != c.want {
			t.Errorf("Delay(%v, %d, %v) = %v, want %v", c.b, c.n, c.draw, got, c.want)
		}
	}
}

func TestSeries(t *testing.T) {
	s := Series{B: model.Backoff{Min: time.Second, Max: 3 * time.Second}}
	for i, want := range []time.Duration{1, 2, 3, 3} {
		if got := s.Next(); got != want*time.Second {
			t.Errorf("delay %d: %v", i, got)
		}
	}
	s.Reset()
	if got := s.Next(); got != time.Second {
		t.Error(got)
	}
}
