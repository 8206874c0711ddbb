package retry

import (
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Body keeps a request's body, up to a limit, so that it can be sent again.
// Attempt and Replayable are called by the exchange's goroutine; the bodies of
// attempts are read by clients as exchange.Body says.
type Body struct {
	orig exchange.Body

	mu sync.Mutex
	// All that follows is guarded by mu, which is not held while orig is
	// read.
	limit    int
	kept     []byte
	trailers *exchange.Fields
	// started: an attempt read from orig. ended: orig came to its end. lost:
	// what was read is not all kept, or orig broke.
	started, ended, lost bool
}

// NewBody keeps body. contentLength is the announced length, -1 if unknown: a
// body that is known to be too long is not kept at all.
func NewBody(body exchange.Body, contentLength int64, limit int) *Body {
	b := &Body{orig: body, limit: limit}
	if contentLength > int64(limit) {
		b.lost = true
	}
	if body.Ended() {
		b.ended = true
	}
	return b
}

// Attempt returns the body of the next attempt: the original, recorded as it
// is read, or a replay. The attempt before has to be over, and Replayable.
func (b *Body) Attempt() exchange.Body {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started && !b.ended {
		return &recording{b: b}
	}
	if len(b.kept) == 0 && b.trailers == nil {
		return exchange.Empty
	}
	return &replay{data: b.kept, trailers: b.trailers}
}

// Replayable reports whether the request can be sent again: its body was not
// begun, or it was read to the end and kept.
func (b *Body) Replayable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost && (b.ended || !b.started)
}

// Complete reports whether all of the body is kept, so that attempts which begin
// now do not touch the original.
func (b *Body) Complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.lost && b.ended
}

// recording is the first attempt.
type recording struct{ b *Body }

var _ exchange.Body = (*recording)(nil)

func (r *recording) Next() (exchange.Frame, error) {
	b := r.b
	b.mu.Lock()
	b.started = true
	b.mu.Unlock()
	f, err := b.orig.Next()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.drop()
		return f, err
	}
	if !b.lost {
		if len(b.kept)+len(f.Data) > b.limit {
			b.drop()
		} else {
			b.kept = append(b.kept, f.Data...)
		}
	}
	if f.End {
		b.ended = true
		if f.Trailers != nil && !b.lost {
			b.trailers = new(exchange.Fields)
			b.trailers.CopyFrom(f.Trailers)
		}
	}
	return f, nil
}

// drop gives up what was kept: there will be no replay.
func (b *Body) drop() { b.lost, b.kept, b.trailers = true, nil, nil }

func (r *recording) Ready() bool { return r.b.orig.Ready() }
func (r *recording) Ended() bool { return r.b.orig.Ended() }

// Close gives the original up, unless it was not begun: another attempt may
// still want it.
func (r *recording) Close(cause error) {
	b := r.b
	b.mu.Lock()
	idle := !b.started
	if !idle && !b.ended {
		b.drop()
	}
	b.mu.Unlock()
	if !idle {
		b.orig.Close(cause)
	}
}

// replay is a later attempt: all of the body in one frame.
type replay struct {
	data     []byte
	trailers *exchange.Fields
	done     bool
}

var _ exchange.Body = (*replay)(nil)

func (r *replay) Next() (exchange.Frame, error) {
	r.done = true
	return exchange.Frame{Data: r.data, End: true, Trailers: r.trailers}, nil
}
func (r *replay) Ready() bool { return true }
func (r *replay) Ended() bool { return r.done }
func (r *replay) Close(error) {}
