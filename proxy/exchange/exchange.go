package exchange

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// Handler answers exchanges. It is shared by all connections of a server and
// must be safe for concurrent use.
type Handler interface {
	// Serve answers x by calling x.Respond or x.Tunnel exactly once, and
	// returns when the exchange is over. If it returns without having done
	// so the codec resets the stream or drops the connection. To pass on a
	// reset, call x.Cancel with the ResetError and return: the stream is
	// reset with its code.
	Serve(x *Exchange)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(x *Exchange)

// Serve calls f.
func (f HandlerFunc) Serve(x *Exchange) { f(x) }

// Responder is the server codec's side of an exchange.
type Responder interface {
	// Respond writes the head, then every frame of the body until its end,
	// flushing whenever the body would block, and closes the body. The
	// codec derives the framing (Content-Length, chunked, END_STREAM) from
	// head.ContentLength and the request; it adds Date if it is missing and
	// never changes head. The error says why the client did not get all of
	// it: ErrClientGone (wrapped) or the body's own error.
	Respond(head *ResponseHead, body Body) error
	// Tunnel writes head, a 101 or a 2xx to CONNECT, then joins the client's
	// connection and upstream byte for byte, with half-close both ways,
	// until both directions ended. It closes upstream. Only HTTP/1 codecs
	// support it; others return ErrNoTunnel without writing.
	Tunnel(head *ResponseHead, upstream net.Conn) error
	// CloseAfter makes this exchange the connection's last: HTTP/1 answers
	// with Connection: close and closes afterwards; HTTP/2 sends GOAWAY and
	// lets open streams end. It has to be called before Respond.
	CloseAfter()
}

// Exchange is one request to be answered. It is valid until Handler.Serve
// returns.
type Exchange struct {
	// Request is the head. The handler may change it.
	Request *RequestHead
	// Body is the request's body, Empty if there is none. A handler that
	// does not want it just leaves it: the codec discards the rest.
	Body Body
	// Shed is set by the codec if there is no memory for the exchange: the
	// handler has to refuse it at once, without waiting for anything.
	Shed bool
	// Conn tells about the client's connection; shared by its exchanges and
	// set by whoever started the codec. Handlers know its type.
	Conn any
	// Canceler is cancelled by the codec when the client goes away, and by
	// timers of the handler.
	Canceler
	Responder
}

// Client sends requests to one place: a connection, a pool of them, or a
// balancer. It is safe for concurrent use.
type Client interface {
	// RoundTrip sends the request and returns when the response head is
	// there, whether or not the body was sent by then: the rest of it goes on
	// being sent, on a goroutine of the client's if need be, until the body
	// ends or the response is closed. The client may alter neither head nor
	// keep it after the return of Response.Close (or of RoundTrip, if that
	// failed). RoundTrip closes body on failure, except when it returns an
	// error for which Unsent is true: then nothing was read from body and
	// the request can be sent elsewhere.
	//
	// Cancelling c makes RoundTrip fail with c's cause, or, if it returned
	// already, the response's body.
	RoundTrip(c *Canceler, head *RequestHead, body Body) (*Response, error)
}

// Response is the answer to a RoundTrip.
type Response struct {
	Head ResponseHead
	// Body is never nil.
	Body Body
	// Upgraded is set, with Body Empty, if the server agreed to leave HTTP
	// (101, or 2xx to CONNECT): the connection, now the caller's, with any
	// bytes that were read ahead put back in front.
	Upgraded net.Conn
	// Release is set by the client that made the response; see Close.
	Release func(*Response)
}

// Close ends the response: an unfinished body is given up, resources go back
// to their pool. It has to be called exactly once, after which neither the
// response nor the request's head may be touched.
func (r *Response) Close() {
	if !r.Body.Ended() {
		r.Body.Close(nil)
	}
	if r.Release != nil {
		r.Release(r)
	}
}

// Canceler ends an exchange from the outside, once, for a reason. The zero
// value is ready. All methods may be called from any goroutine.
type Canceler struct {
	// mu guards cause and fn.
	mu    sync.Mutex
	cause error
	fn    func(error)
	// running is held while fn runs, and taken before mu is released, so
	// that Bind can wait for it. It guards nothing else.
	running sync.Mutex
}

// Cancel ends the exchange with the given reason; only the first call counts.
// It calls the bound function, if any, on the caller's goroutine.
func (c *Canceler) Cancel(cause error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	c.cause = cause
	fn := c.fn
	if fn == nil {
		c.mu.Unlock()
		return
	}
	c.running.Lock()
	c.mu.Unlock()
	fn(cause)
	c.running.Unlock()
}

// Cause returns why the exchange was cancelled, nil if it was not.
func (c *Canceler) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Bind makes fn the function that Cancel calls, replacing the one before; nil
// unbinds. If the canceler was cancelled already Bind leaves fn unbound and
// returns the cause. When Bind returns the function bound before does not run
// any more, so what it refers to can be reused. fn must neither block nor call
// methods of the canceler.
func (c *Canceler) Bind(fn func(error)) error {
	c.mu.Lock()
	cause := c.cause
	if cause == nil {
		c.fn = fn
		c.mu.Unlock()
		return nil
	}
	c.fn = nil
	c.mu.Unlock()
	c.running.Lock()
	//lint:ignore SA2001 the function that holds it has to be waited for
	c.running.Unlock()
	if fn == nil {
		return nil
	}
	return cause
}

// Reset makes the canceler usable for another exchange. Nobody else may hold
// it any more.
func (c *Canceler) Reset() {
	c.mu.Lock()
	c.cause, c.fn = nil, nil
	c.mu.Unlock()
}

// Reasons why an exchange fails that callers branch on. Codecs wrap them.
var (
	// ErrClientGone: the client closed or reset; nobody is left to answer,
	// and the endpoint is not to blame.
	ErrClientGone = errors.New("client went away")
	// ErrNoTunnel: this codec cannot leave HTTP.
	ErrNoTunnel = errors.New("protocol cannot be upgraded")
	// ErrDraining: the connection takes no new requests.
	ErrDraining = errors.New("connection is draining")
)

// ResetError is a stream ended by RST_STREAM, by the peer or by ourselves
// (RFC 9113, section 7).
type ResetError struct {
	// Code is the HTTP/2 error code.
	Code uint32
	// Remote says that the peer sent it.
	Remote bool
}

// resetNames are the error codes' names by number (RFC 9113, section 7).
var resetNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
	"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
	"CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// HTTP/2 error codes that the proxy itself has a use for.
const (
	CodeNo              uint32 = 0x0
	CodeProtocol        uint32 = 0x1
	CodeInternal        uint32 = 0x2
	CodeRefusedStream   uint32 = 0x7
	CodeCancel          uint32 = 0x8
	CodeEnhanceYourCalm uint32 = 0xb
)

// Known reports whether the error's code is one that has a name.
func (e *ResetError) Known() bool { return uint64(e.Code) < uint64(len(resetNames)) }

// CodeName gives the name of the error's code, or its number in hexadecimal.
func (e *ResetError) CodeName() string {
	if e.Known() {
		return resetNames[e.Code]
	}
	return fmt.Sprintf("0x%x", e.Code)
}

// Error tells code and side.
func (e *ResetError) Error() string {
	if e.Remote {
		return "stream reset by peer: " + e.CodeName()
	}
	return "stream reset: " + e.CodeName()
}

// Unsent reports whether err says that the server has certainly not seen the
// request: the connection was gone before a byte was written, the stream was
// refused, or GOAWAY left it out. Such a request may be sent again whatever
// its method.
func Unsent(err error) bool {
	var u *UnsentError
	return errors.As(err, &u)
}

// UnsentError wraps the reason why a request was not sent; see Unsent.
type UnsentError struct{ Err error }

// Error is the reason's text.
func (e *UnsentError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *UnsentError) Unwrap() error { return e.Err }
