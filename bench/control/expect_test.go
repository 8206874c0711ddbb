package control

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestExpectationEndsWithTheLastStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var of topic
		of.saw("before anybody waits")
		e := of.expect(3, func(m any) bool { return m == "new" })
		begin := time.Now()
		for _, after := range []time.Duration{3, 1, 2} {
			go func() {
				time.Sleep(after * time.Second)
				of.saw("old")
				of.saw("new")
			}()
		}
		last, err := e.wait(t.Context(), nil)
		if err != nil || last.Sub(begin) != 3*time.Second {
			t.Errorf("the last was told after %v, %v", last.Sub(begin), err)
		}
	})
}

func TestExpectationSaysHowManyWait(t *testing.T) {
	for _, c := range []struct {
		name, want string
		anew       func(context.Context) (bool, error)
	}{
		{"forgotten", "1 of 2 streams were not told of a change: context deadline exceeded; a new one is told of it", func(context.Context) (bool, error) { return true, nil }},
		{"not known", "1 of 2 streams were not told of a change: context deadline exceeded; neither is a new one", func(context.Context) (bool, error) { return false, nil }},
		{"hangs", "1 of 2 streams were not told of a change: context deadline exceeded; a new one: context deadline exceeded", func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var of topic
				e := of.expect(2, func(any) bool { return true })
				of.saw("new")
				if _, err := e.wait(t.Context(), c.anew); err == nil || err.Error() != c.want || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestExpectationIsOneChange: a scenario of many changes, each of them in time, may
// take longer than one.
func TestExpectationIsOneChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var of topic
		for range 100 {
			e := of.expect(1, func(any) bool { return true })
			time.AfterFunc(5*time.Second, func() { of.saw("new") })
			if _, err := e.wait(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
