package lookup

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestCacheLooksUpOnceAndExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started, ended atomic.Int32
		c := NewCache(5*time.Second, func(ctx context.Context, k string, ready func(string)) error {
			started.Add(1)
			time.Sleep(time.Second)
			ready(k + "!")
			<-ctx.Done()
			ended.Add(1)
			return nil
		})
		defer c.Close()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				l, err := c.Get(t.Context(), "a")
				if err != nil || l.Value() != "a!" {
					t.Errorf("%v, %v", l, err)
					return
				}
				l.Release()
				l.Release()
			})
		}
		wg.Wait()
		if started.Load() != 1 {
			t.Fatalf("%d lookups", started.Load())
		}
		// Use before the end of the idle time starts it anew.
		time.Sleep(4 * time.Second)
		l, err := c.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if ended.Load() != 0 {
			t.Fatal("expired while in use")
		}
		l.Release()
		time.Sleep(5*time.Second - 1)
		synctest.Wait()
		if ended.Load() != 0 {
			t.Fatal("expired too early")
		}
		time.Sleep(2)
		synctest.Wait()
		if ended.Load() != 1 || c.Len() != 0 {
			t.Fatal("did not expire")
		}
	})
}

func TestCacheFailureIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("no")
		var calls int
		c := NewCache(time.Second, func(ctx context.Context, _ int, ready func(int)) error {
			if calls++; calls == 1 {
				return fail
			}
			ready(calls)
			return nil
		})
		defer c.Close()
		if _, err := c.Get(t.Context(), 1); !errors.Is(err, fail) {
			t.Fatal(err)
		}
		synctest.Wait()
		l, err := c.Get(t.Context(), 1)
		if err != nil || l.Value() != 2 {
			t.Fatal(l, err)
		}
		l.Release()
	})
}

func TestCacheWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache(time.Second, func(ctx context.Context, _ int, ready func(int)) error {
			<-ctx.Done()
			return ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if c.Len() != 0 {
			t.Error("lookup without users goes on")
		}
		c.Close()
		if _, err := c.Get(t.Context(), 1); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}
