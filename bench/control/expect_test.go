package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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
		last, err := e.wait(t.Context())
		if err != nil || last.Sub(begin) != 3*time.Second {
			t.Errorf("the last was told after %v, %v", last.Sub(begin), err)
		}
	})
}

func TestExpectationSaysHowManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var of topic
		e := of.expect(2, func(any) bool { return true })
		of.saw("new")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.wait(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 streams") {
			t.Errorf("got %v", err)
		}
	})
}
