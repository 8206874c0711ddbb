package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// Limits limit every stream to a controller that is not loopback; zero means
// no limit (proxy API chapter, section 1.4).
type Limits struct {
	// Initial is how long the first message may take; if 0, Idle counts.
	Initial time.Duration
	// Idle is how long there may be no message before the stream is renewed.
	Idle time.Duration
	// Lifetime is the age at which a stream is renewed.
	Lifetime time.Duration
}

// Validate checks that initial ≤ idle ≤ lifetime, as far as they are set.
func (l Limits) Validate() error {
	for _, c := range []struct {
		less, more         time.Duration
		lessName, moreName string
	}{{l.Initial, l.Idle, "initial", "idle"}, {l.Initial, l.Lifetime, "initial", "lifetime"}, {l.Idle, l.Lifetime, "idle", "lifetime"}} {
		if c.more > 0 && c.less > c.more {
			return fmt.Errorf("%s stream timeout %v is longer than %s timeout %v", c.lessName, c.less, c.moreName, c.more)
		}
	}
	return nil
}

// Why we ended a stream ourselves.
var (
	errInitial = error(rpc.Errorf(rpc.DeadlineExceeded, "initial item not received within timeout"))
	errRenewed = errors.New("stream is renewed")
)

// source is how one kind of stream is watched.
type source[M any] struct {
	limits  Limits
	backoff model.Backoff
	log     *slog.Logger
	// open starts a stream.
	open func(ctx context.Context) (receiver[M], error)
	// connected, if not nil, is called before the first message of each
	// stream.
	connected func()
	// receive takes a message. It runs on the watch's goroutine.
	receive func(*M)
	// failed, if not nil, is told of every end of a stream, nil for a proper
	// one, and returns true to end the watch.
	failed func(error) bool
}

// receiver is a stream of messages. The error of Recv is io.EOF at a proper end.
type receiver[M any] interface {
	Recv() (*M, error)
	// Close gives the stream up; it may have ended.
	Close()
}

// messages is the stream of a call whose messages are M.
type messages[M any, P interface {
	*M
	ParseWire([]byte) error
}] struct{ *rpc.Stream }

// Recv reads a message.
func (s messages[M, P]) Recv() (*M, error) {
	b, err := s.Stream.Recv()
	if err != nil {
		return nil, err
	}
	m := P(new(M))
	if err := m.ParseWire(b); err != nil {
		return nil, rpc.Errorf(rpc.Internal, "read message: %w", err)
	}
	return m, nil
}

// follow calls a method whose response is a stream of M.
func follow[M any, P interface {
	*M
	ParseWire([]byte) error
}](ctx context.Context, conn *rpc.Conn, method string, request []byte) (receiver[M], error) {
	s, err := conn.Stream(ctx, method, request)
	if err != nil {
		return nil, err
	}
	return messages[M, P]{s}, nil
}

// watch keeps a stream open until ctx is done or failed says so, whose error it
// returns. A stream that had worked is made again at once; only if that fails
// there is a backoff.
func (s *source[M]) watch(ctx context.Context) error {
	retries := backoff.Series{B: s.backoff}
	for {
		started := time.Now()
		worked, err := s.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			s.log.Warn("Controller stream failed", "error", err)
		} else {
			s.log.Debug("Controller stream ended")
		}
		if s.failed != nil && s.failed(err) {
			return err
		}
		// Streams that end as soon as they begin are failures too: without
		// the backoff both sides would be kept busy by nothing.
		if worked && time.Since(started) >= s.backoff.Min {
			retries.Reset()
			continue
		}
		timer := time.NewTimer(retries.Next())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// once receives from one stream until it ends; nil is a proper end. worked
// reports whether there was a message.
func (s *source[M]) once(ctx context.Context) (worked bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	initial := s.limits.Initial
	if initial == 0 {
		initial = s.limits.Idle
	}
	var idle *time.Timer
	if initial > 0 {
		t := time.AfterFunc(initial, func() { cancel(errInitial) })
		defer t.Stop()
		idle = t
	}
	if s.limits.Lifetime > 0 {
		t := time.AfterFunc(s.limits.Lifetime, func() { cancel(errRenewed) })
		defer t.Stop()
	}
	stream, err := s.open(ctx)
	if err == nil {
		defer stream.Close()
	}
	for err == nil {
		var m *M
		if m, err = stream.Recv(); err != nil {
			break
		}
		switch {
		case idle == nil:
		case worked:
			idle.Reset(s.limits.Idle)
		default:
			idle.Stop()
			idle = nil
			if s.limits.Idle > 0 {
				t := time.AfterFunc(s.limits.Idle, func() { cancel(errRenewed) })
				defer t.Stop()
				idle = t
			}
		}
		if !worked && s.connected != nil {
			s.connected()
		}
		worked = true
		s.receive(m)
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, io.EOF), errors.Is(cause, errRenewed):
		return worked, nil
	case errors.Is(cause, errInitial) && !worked:
		return false, errInitial
	case errors.Is(cause, errInitial):
		// The first message overtook the timer.
		return true, nil
	}
	return worked, err
}

// rejected reports whether the controller will not answer this request however
// often it is asked.
func rejected(err error) bool {
	c := rpc.CodeOf(err)
	return c == rpc.InvalidArgument || c == rpc.FailedPrecondition
}

// unknown reports whether the controller has nothing to say about the target.
func unknown(err error) bool {
	c := rpc.CodeOf(err)
	return c == rpc.NotFound || c == rpc.Unimplemented
}
