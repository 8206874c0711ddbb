// Package watch publishes immutable snapshots from one writer to any number of
// readers, who never block it.
//
//	v := watch.New(first)            writer            reader
//	                                 v.Set(next)       now := v.Get()
//	                                                   now, changed := v.Watch()
//	                                                   <-changed
//
// A reader that is slow misses intermediate values, never the last one.
package watch

import "sync/atomic"

// Reader is the reading side of a Value. All methods may be called from any
// goroutine and do not block.
type Reader[T any] interface {
	// Get returns the current value.
	Get() T
	// Watch returns the current value and a channel that is closed when it is
	// replaced.
	Watch() (T, <-chan struct{})
}

// Value is a variable that can be watched. Use New to make one.
type Value[T any] struct {
	cur atomic.Pointer[cell[T]]
}

// cell is one state of a Value. Closing next tells those who hold it that
// there is a later one.
type cell[T any] struct {
	v    T
	next chan struct{}
}

var _ Reader[int] = (*Value[int])(nil)

// New returns a Value that holds v.
func New[T any](v T) *Value[T] {
	w := new(Value[T])
	w.cur.Store(&cell[T]{v, make(chan struct{})})
	return w
}

// Set replaces the value. Concurrent calls are safe, though a Value is meant to
// have one writer: which of two comes last is then undefined.
func (w *Value[T]) Set(v T) {
	old := w.cur.Swap(&cell[T]{v, make(chan struct{})})
	close(old.next)
}

// Get returns the current value.
func (w *Value[T]) Get() T { return w.cur.Load().v }

// Watch returns the current value and a channel that is closed when it is
// replaced.
func (w *Value[T]) Watch() (T, <-chan struct{}) {
	c := w.cur.Load()
	return c.v, c.next
}

// Const is a Reader whose value never changes.
func Const[T any](v T) Reader[T] { return New(v) }

// Mapped is a Reader that shows another one's values through a function. The
// function is called at each read; it has to be cheap and pure.
func Mapped[A, B any](r Reader[A], f func(A) B) Reader[B] { return mapped[A, B]{r, f} }

type mapped[A, B any] struct {
	r Reader[A]
	f func(A) B
}

func (m mapped[A, B]) Get() B { return m.f(m.r.Get()) }

func (m mapped[A, B]) Watch() (B, <-chan struct{}) {
	v, c := m.r.Watch()
	return m.f(v), c
}
