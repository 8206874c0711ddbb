package grpcserve_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
)

// numbers are a feed of numbers, and a client that reads one only when it is asked to.
type numbers struct {
	latest                   atomic.Pointer[int]
	changed                  chan struct{}
	ended, overflow, reading chan struct{}
	got                      []string
	fails                    error
}

func newNumbers() *numbers {
	return &numbers{changed: make(chan struct{}, 1), ended: make(chan struct{}), overflow: make(chan struct{}), reading: make(chan struct{})}
}

func (n *numbers) publish(i int) {
	n.latest.Store(&i)
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

func (n *numbers) feed() grpcserve.Feed[int] {
	return grpcserve.Feed[int]{Changed: n.changed, Latest: n.latest.Load, Ended: n.ended, Overflow: n.overflow, Send: func(last, next *int) error {
		<-n.reading
		if n.fails != nil {
			return n.fails
		}
		from := 0
		if last != nil {
			from = *last
		}
		n.got = append(n.got, fmt.Sprintf("%d to %d", from, *next))
		return nil
	}}
}

// TestFollowSkipsWhatAClientIsTooSlowFor: it is brought from the last answer that it has to the newest.
func TestFollowSkipsWhatAClientIsTooSlowFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, streams, done := newNumbers(), grpcserve.NewStreams(), make(chan error, 1)
		n.publish(1)
		go func() { done <- grpcserve.Follow(t.Context(), streams, n.feed()) }()
		synctest.Wait()
		n.publish(2)
		n.publish(3)
		synctest.Wait()
		n.reading <- struct{}{}
		n.reading <- struct{}{}
		synctest.Wait()
		n.publish(4)
		n.reading <- struct{}{}
		synctest.Wait()
		streams.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		streams.Wait()
		if got, want := fmt.Sprint(n.got), "[0 to 1 1 to 3 3 to 4]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestFollowEnds: whatever ends a stream ends it at once, also while the client does not read.
func TestFollowEnds(t *testing.T) {
	gone := errors.New("gone")
	for _, c := range []struct {
		name string
		end  func(n *numbers, streams *grpcserve.Streams, leave func())
		want error
	}{
		{"client leaves", func(_ *numbers, _ *grpcserve.Streams, leave func()) { leave() }, nil},
		{"server stops", func(_ *numbers, s *grpcserve.Streams, _ func()) { s.Stop() }, nil},
		{"feed ends", func(n *numbers, _ *grpcserve.Streams, _ func()) { close(n.ended) }, nil},
		{"client does not keep up", func(n *numbers, _ *grpcserve.Streams, _ func()) { close(n.overflow) }, grpcserve.ErrOverflow},
		{"sending fails", func(n *numbers, _ *grpcserve.Streams, _ func()) { n.fails = gone; n.reading <- struct{}{} }, gone},
		{"sending fails because the client left", func(n *numbers, _ *grpcserve.Streams, leave func()) {
			n.fails = gone
			leave()
			n.reading <- struct{}{}
		}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, leave := context.WithCancel(t.Context())
				n, streams, done := newNumbers(), grpcserve.NewStreams(), make(chan error, 1)
				n.publish(1)
				go func() { done <- grpcserve.Follow(ctx, streams, n.feed()) }()
				synctest.Wait()
				c.end(n, streams, leave)
				if err := <-done; !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				leave()
				close(n.reading) // what is being sent ends with the stream
				streams.Wait()
			})
		})
	}
}
