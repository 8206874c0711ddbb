package pause

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestFor(t *testing.T) {
	gone := errors.New("gone")
	for name, c := range map[string]struct {
		cancelAfter time.Duration
		want        error
		took        time.Duration
	}{
		"to its end":       {time.Hour, nil, time.Second},
		"until cancelled":  {time.Millisecond, gone, time.Millisecond},
		"cancelled before": {0, gone, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var x exchange.Canceler
				if c.cancelAfter == 0 {
					x.Cancel(gone)
				} else {
					defer time.AfterFunc(c.cancelAfter, func() { x.Cancel(gone) }).Stop()
				}
				started := time.Now()
				if err := For(&x, clock.System, time.Second); !errors.Is(err, c.want) {
					t.Errorf("it returned %v, want %v", err, c.want)
				}
				if took := time.Since(started); took != c.took {
					t.Errorf("it took %v, want %v", took, c.took)
				}
			})
		})
	}
}
