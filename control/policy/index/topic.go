package index

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
)

// verdict is what a topic's refresh came to.
type verdict int

const (
	// compiled: there is an answer, perhaps the same as before.
	compiled verdict = iota
	// kept: who has the last answer keeps it, but nobody is given it any more.
	kept
	// gone: there is no answer any more, and streams end.
	gone
)

// Answer is what a topic says. It is shared by all its subscriptions and must not be changed.
type Answer[T any] struct {
	Value T

	once    sync.Once
	encoded any
}

// Encoded returns what encode makes of the answer. It is called once for all streams.
func (a *Answer[T]) Encoded(encode func(*T) any) any {
	a.once.Do(func() { a.encoded = encode(&a.Value) })
	return a.encoded
}

// topic is one question, with those who asked. It belongs to the index's goroutine.
type topic[T any] struct {
	node   node
	latest *Answer[T]
	subs   map[*Subscription[T]]struct{}
	// gone is true once the topic has ended, kept while its answer is only for those who have it.
	gone, kept bool
}

// Subscription is one stream's end of a topic: the latest answer, and a sign that there is a new one. The index's goroutine
// publishes, one other goroutine takes.
type Subscription[T any] struct {
	latest  atomic.Pointer[Answer[T]]
	changed chan struct{}
	ended   chan struct{}
	once    sync.Once
	close   func()
}

// Changed receives when there is an answer that has not been taken.
func (s *Subscription[T]) Changed() <-chan struct{} { return s.changed }

// Latest takes the newest answer. There is one from the start.
func (s *Subscription[T]) Latest() *Answer[T] { return s.latest.Load() }

// Ended is closed when there will be no more answers.
func (s *Subscription[T]) Ended() <-chan struct{} { return s.ended }

// Close ends the subscription. It may be called more than once and from any goroutine.
func (s *Subscription[T]) Close() { s.once.Do(s.close) }

// publish gives the stream a new answer. It never blocks.
func (s *Subscription[T]) publish(answer *Answer[T]) {
	s.latest.Store(answer)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// subscribe joins the topic with the given key, which it makes if it is not there. missing is the error if there is no
// answer.
func subscribe[K comparable, T any](ctx context.Context, x *Index, topics map[K]*topic[T], key K, missing error, compute func(*reader) (*Answer[T], verdict)) (*Subscription[T], error) {
	s := &Subscription[T]{changed: make(chan struct{}, 1), ended: make(chan struct{})}
	found := false
	var joined *topic[T]
	err := x.do(ctx, func() {
		t := topics[key]
		if t != nil {
			// The caller may have seen a change, and must not be given an older answer.
			x.answers.Settle(&t.node)
		}
		if t == nil || t.gone || t.kept {
			t = newTopic(x, topics, key, compute)
			x.answers.Compute(&t.node)
		}
		if t.gone {
			return
		}
		found, joined = true, t
		t.subs[s] = struct{}{}
		s.publish(t.latest)
	})
	// If the caller gave up, the index may still be about to add the subscription; so it is taken out after it in turn.
	s.close = func() {
		x.post(func() {
			if joined == nil {
				return
			}
			delete(joined.subs, s)
			if len(joined.subs) == 0 && !joined.gone {
				drop(x, topics, key, joined)
			}
		})
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	if !found {
		return nil, missing
	}
	return s, nil
}

// newTopic makes the topic with the given key, without an answer yet.
func newTopic[K comparable, T any](x *Index, topics map[K]*topic[T], key K, compute func(*reader) (*Answer[T], verdict)) *topic[T] {
	t := &topic[T]{subs: make(map[*Subscription[T]]struct{})}
	x.bind(&t.node, func(r *reader) {
		answer, v := compute(r)
		t.kept = v == kept
		switch v {
		case compiled:
			t.publish(answer)
		case gone:
			drop(x, topics, key, t)
			for s := range t.subs {
				close(s.ended)
			}
		case kept:
		}
	})
	topics[key] = t
	return t
}

// drop takes a topic out of the index.
func drop[K comparable, T any](x *Index, topics map[K]*topic[T], key K, t *topic[T]) {
	t.gone = true
	x.answers.Drop(&t.node)
	if topics[key] == t {
		delete(topics, key)
	}
}

// publish tells the subscriptions of a new answer, if it is one.
func (t *topic[T]) publish(answer *Answer[T]) {
	if t.latest != nil && (answer == t.latest || reflect.DeepEqual(&answer.Value, &t.latest.Value)) {
		return
	}
	t.latest = answer
	for s := range t.subs {
		s.publish(t.latest)
	}
}
