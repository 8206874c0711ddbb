package owner_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/owner"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := owner.New(2)
		var sum, flushes int
		for range 2 {
			o.Post(func() { sum++ }) // before it runs
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { o.Run(ctx, func() { flushes++ }) })
		synctest.Wait()
		if sum != 2 || flushes != 1 {
			t.Errorf("%d calls and %d flushes, want 2 and 1: what waits is one batch", sum, flushes)
		}
		for range 10 {
			running.Go(func() { o.Post(func() { sum++ }) })
		}
		running.Go(func() {
			if err := o.Do(t.Context(), func() { sum += 100 }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if sum != 112 {
			t.Errorf("the calls came to %d, want 112", sum)
		}
		cancel()
		<-o.Stopped()
		if err := o.Do(t.Context(), func() {}); !errors.Is(err, owner.ErrStopped) {
			t.Errorf("after the stop: %v", err)
		}
		for range 5 {
			o.Post(func() {}) // more than may wait
		}
		running.Wait()
	})
}

// TestDoGivesUp is a caller whose context ends before its turn has come.
func TestDoGivesUp(t *testing.T) {
	o := owner.New(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Do(ctx, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
