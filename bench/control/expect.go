package control

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// topic is what several streams are told of together, and where a change of it
// is waited for. Streams tell it of every message.
type topic struct {
	expected atomic.Pointer[expectation]
}

// expectation is a change that a number of streams shall be told of, each once.
type expectation struct {
	match func(message any) bool
	left  atomic.Int64
	// last is when the last of them was told, in nanoseconds of Unix time.
	last atomic.Int64
	done chan struct{}
}

// expect waits, from now on, for n streams to be told something that matches.
func (t *topic) expect(n int, match func(message any) bool) *expectation {
	e := &expectation{match: match, done: make(chan struct{})}
	e.left.Store(int64(n))
	t.expected.Store(e)
	return e
}

// saw is called by a stream that was told something.
func (t *topic) saw(message any) {
	e := t.expected.Load()
	if e == nil || !e.match(message) {
		return
	}
	now := time.Now().UnixNano()
	for last := e.last.Load(); now > last && !e.last.CompareAndSwap(last, now); last = e.last.Load() {
	}
	if e.left.Add(-1) == 0 {
		close(e.done)
	}
}

// wait waits until all streams were told, and returns when the last one was.
func (e *expectation) wait(ctx context.Context) (time.Time, error) {
	select {
	case <-e.done:
		return time.Unix(0, e.last.Load()), nil
	case <-ctx.Done():
		return time.Time{}, fmt.Errorf("%d streams were not told of a change: %w", e.left.Load(), ctx.Err())
	}
}
