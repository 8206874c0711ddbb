package grpcserve

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Streams are the streams of a service that bring changes to their clients for as long as those stay. NewStreams makes one;
// its methods may be called from any goroutine.
type Streams struct {
	once     sync.Once
	stopping chan struct{}
	// senders are the goroutines that send.
	senders sync.WaitGroup
}

// NewStreams returns the streams of a service, which has none yet.
func NewStreams() *Streams { return &Streams{stopping: make(chan struct{})} }

// Stop ends all streams with OK; their clients connect again, elsewhere.
func (s *Streams) Stop() { s.once.Do(func() { close(s.stopping) }) }

// Stopping is closed by Stop.
func (s *Streams) Stopping() <-chan struct{} { return s.stopping }

// Go runs what sends on a stream.
func (s *Streams) Go(send func()) { s.senders.Go(send) }

// Wait returns when all that sends has ended. It is called after Stop and after the gRPC server has stopped.
func (s *Streams) Wait() { s.senders.Wait() }

// Feed is what a stream brings to its client.
type Feed[T any] struct {
	// Changed has a sign when there is an answer that Latest has not returned yet.
	Changed <-chan struct{}
	// Latest returns the newest answer.
	Latest func() *T
	// Ended is closed when there will be no more answers, Overflow when the client does not keep up with them; nil if that
	// never happens.
	Ended, Overflow <-chan struct{}
	// Send sends what takes the client from its last answer, nil at first, to the next. It may block for as long as the
	// client does not read, but not for longer than the stream's handler runs.
	Send func(last, next *T) error
}

// ErrOverflow is the error of Follow if the client does not keep up.
var ErrOverflow = errors.New("client does not keep up")

// Follow sends what a feed brings until the client leaves, the streams are stopped or the feed ends, all of which end a
// stream with OK. ctx is that of the stream; Follow belongs to the stream's handler, which returns when it has.
func Follow[T any](ctx context.Context, s *Streams, feed Feed[T]) error {
	changed := feed.Changed
	sent := make(chan error, 1)
	var last *T
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.stopping:
			return nil
		case <-feed.Ended:
			return nil
		case <-feed.Overflow:
			return ErrOverflow
		case <-changed:
			had, next := last, feed.Latest()
			if next == had {
				// It was published between the sign of the one before and the look at it, and has been sent then.
				continue
			}
			last = next
			// Sending may block for as long as the client does not read; when the handler returns, it fails. So it is not
			// done here, and nothing more is taken until it is done. A stream that has nothing to send has no sender:
			// thousands of them, waiting, would be much of the memory that streams take.
			changed = nil
			s.Go(func() { sent <- feed.Send(had, next) })
		case err := <-sent:
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("sending: %w", err)
			}
			changed = feed.Changed
		}
	}
}
