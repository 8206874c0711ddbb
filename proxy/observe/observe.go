// Package observe watches a body go by without changing it: metrics and tap
// hear of frames and of the end.
//
//	e.response.Watch(resp.Body, (*responseSide)(e))
//	err := x.Respond(&resp.Head, &e.response)
//	resp.Close()
//	e.response.Finish(err)      // tells of a body that was dropped half-way
//
// A Body is meant to be part of a pooled state of an exchange; it allocates
// nothing. Its observer is called on the goroutine that reads the body, and by
// Finish.
package observe

import (
	"errors"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Observer hears of a body.
type Observer interface {
	// Frame is called for each frame, also for the last. The frame is valid
	// during the call.
	Frame(f exchange.Frame)
	// Over is called exactly once: err is nil after the frame that ended the
	// body, ErrDropped if nobody wanted the rest, else why it broke.
	Over(err error)
}

// ErrDropped says that a body was given up before its end.
var ErrDropped = errors.New("body was dropped before its end")

// Body is a body that is watched.
type Body struct {
	inner exchange.Body
	o     Observer
	over  bool
}

var _ exchange.Body = (*Body)(nil)

// Watch makes b the given body, watched by o. A body that is over from the
// start is told at once.
func (b *Body) Watch(inner exchange.Body, o Observer) {
	*b = Body{inner: inner, o: o}
	if inner.Ended() {
		b.end(nil)
	}
}

func (b *Body) end(err error) {
	if !b.over {
		b.over = true
		b.o.Over(err)
	}
}

// Next is the next frame.
func (b *Body) Next() (exchange.Frame, error) {
	f, err := b.inner.Next()
	if err != nil {
		b.end(err)
		return f, err
	}
	b.o.Frame(f)
	if f.End {
		b.end(nil)
	}
	return f, nil
}

// Ready is the inner body's.
func (b *Body) Ready() bool { return b.inner.Ready() }

// Ended is the inner body's.
func (b *Body) Ended() bool { return b.inner.Ended() }

// Close gives the inner body up. The observer hears of it from Finish, for
// Close may come from another goroutine while Next is running.
func (b *Body) Close(cause error) { b.inner.Close(cause) }

// Finish is called when nobody reads any more, with the reason why, if one is
// known. It does nothing if the end was seen already or nothing is watched.
func (b *Body) Finish(err error) {
	if b.inner == nil {
		return
	}
	if err == nil {
		err = ErrDropped
	}
	b.end(err)
	*b = Body{}
}

// Over reports whether the end was seen.
func (b *Body) Over() bool { return b.over }
