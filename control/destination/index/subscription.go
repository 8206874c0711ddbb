package index

import (
	"sync"
	"sync/atomic"
)

// Subscription is one stream's end of a topic: the latest answer, and a sign that there is one. The index's goroutine
// publishes, one other goroutine takes.
type Subscription[T any] struct {
	latest   atomic.Pointer[T]
	changed  chan struct{}
	pending  atomic.Int64
	capacity int64
	overflow chan struct{}
	once     sync.Once
	close    func()
}

func newSubscription[T any](capacity int) *Subscription[T] {
	return &Subscription[T]{changed: make(chan struct{}, 1), capacity: int64(capacity), overflow: make(chan struct{})}
}

// Changed receives when there is an answer that has not been taken.
func (s *Subscription[T]) Changed() <-chan struct{} { return s.changed }

// Latest takes the newest answer, or nil if there has been none yet.
func (s *Subscription[T]) Latest() *T {
	s.pending.Store(0)
	return s.latest.Load()
}

// Overflow is closed when more answers were published than the capacity without one being taken: the stream does not keep
// up. It still could be served, as only the latest answer is kept, but a client that takes nothing for so long is better
// off with a new stream than with very old data.
func (s *Subscription[T]) Overflow() <-chan struct{} { return s.overflow }

// Close ends the subscription. It may be called more than once and from any goroutine.
func (s *Subscription[T]) Close() { s.once.Do(s.close) }

// publish gives the stream a new answer. It never blocks.
func (s *Subscription[T]) publish(answer *T) {
	s.latest.Store(answer)
	if s.pending.Add(1) == s.capacity+1 {
		select {
		case <-s.overflow:
		default:
			close(s.overflow)
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
