package exchange

import "io"

// Frame is one piece of a body.
type Frame struct {
	// Data may be empty. It is valid until the next call to Next or Close.
	Data []byte
	// End says that nothing follows: the body is complete.
	End bool
	// Trailers may be non-nil on the frame that ends the body.
	Trailers *Fields
}

// Body is a stream of frames with back-pressure: the sender is let go on only
// as the reader asks for more.
//
// Next and Ready are called by one goroutine at a time; Close may be called by
// any, once Next is not running or to make a running Next return.
type Body interface {
	// Next returns the next frame, blocking until there is one. After a
	// frame with End it must not be called again. An error is final: the
	// peer went away, reset the stream, or broke the framing.
	Next() (Frame, error)
	// Ready reports whether Next would return at once. Writers flush what
	// they hold before a Next that would block.
	Ready() bool
	// Ended reports whether the body is known to be over: an empty body from
	// the start, any other after its last frame was returned.
	Ended() bool
	// Close gives the body up: a stream is reset with the cause's code, a
	// connection that still has body to come is not used again. Closing a
	// body that ended does nothing. cause may be nil.
	Close(cause error)
}

// Empty is the body of a message that has none. It is its own singleton, so
// that no exchange allocates one.
var Empty Body = empty{}

type empty struct{}

func (empty) Next() (Frame, error) { return Frame{End: true}, nil }
func (empty) Ready() bool          { return true }
func (empty) Ended() bool          { return true }
func (empty) Close(error)          {}

// Bytes is a body held in memory, sent as one frame. It is used for responses
// that the proxy makes up.
type Bytes struct {
	Data []byte
	done bool
}

var _ Body = (*Bytes)(nil)

// Next returns all of the data as the final frame.
func (b *Bytes) Next() (Frame, error) {
	if b.done {
		return Frame{}, io.ErrUnexpectedEOF
	}
	b.done = true
	return Frame{Data: b.Data, End: true}, nil
}

// Ready is always true.
func (b *Bytes) Ready() bool { return true }

// Ended reports whether the data was taken.
func (b *Bytes) Ended() bool { return b.done || len(b.Data) == 0 }

// Close does nothing: there is nobody to tell.
func (b *Bytes) Close(error) {}
