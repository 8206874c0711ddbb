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

// patience is how long the last stream may take to be told of a change. A machine
// that is so busy that it takes longer measures nothing; a stream that is never
// told is a fault of the controllers.
const patience = time.Minute

// expectation is a change that a number of streams shall be told of, each once.
type expectation struct {
	match func(message any) bool
	of    int
	left  atomic.Int64
	// last is when the last of them was told, in nanoseconds of Unix time.
	last atomic.Int64
	done chan struct{}
}

// expect waits, from now on, for n streams to be told something that matches.
func (t *topic) expect(n int, match func(message any) bool) *expectation {
	e := &expectation{match: match, of: n, done: make(chan struct{})}
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

// wait waits until all streams were told, and returns when the last one was. If
// that takes too long, it asks what a new stream is told: if that is the change, the
// others were forgotten, and if not, the controller does not know of it.
func (e *expectation) wait(ctx context.Context, anew func(context.Context) (bool, error)) (time.Time, error) {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-e.done:
		return time.Unix(0, e.last.Load()), nil
	case <-limit.Done():
	}
	err := fmt.Errorf("%d of %d streams were not told of a change: %w", e.left.Load(), e.of, limit.Err())
	if ctx.Err() != nil {
		return time.Time{}, err
	}
	ask, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch told, askErr := anew(ask); {
	case askErr != nil:
		return time.Time{}, fmt.Errorf("%w; a new one: %w", err, askErr)
	case told:
		return time.Time{}, fmt.Errorf("%w; a new one is told of it", err)
	}
	return time.Time{}, fmt.Errorf("%w; neither is a new one", err)
}
