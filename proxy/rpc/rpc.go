// Package rpc makes gRPC calls to the control plane, over the proxy's own
// HTTP/2 (gRPC over HTTP/2; proxy chapter, section 19): unary calls and streams
// of responses, which is all that there is.
//
//	c := rpc.New(rpc.Config{Name: "dst", Resolve: …, Dial: …})
//	defer c.Close()
//	b, err := c.Call(ctx, method, request, rpc.Wait)
//	s, err := c.Stream(ctx, method, request)
//	for err == nil { b, err = s.Recv() }
//
// Messages are bytes: what is in them is the callers' business. A general gRPC
// library with the HTTP stack below it would be a quarter of the proxy's
// resident memory, in every pod.
//
// A Conn is safe for concurrent use; a Stream has one reader.
package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Option changes a call.
type Option func(*options)

type options struct {
	wait   bool
	header [][2]string
}

// Wait makes a call wait until there is a connection, however often that fails,
// or ctx is done.
func Wait(o *options) { o.wait = true }

// Header adds a field to the request.
func Header(name, value string) Option {
	return func(o *options) { o.header = append(o.header, [2]string{name, value}) }
}

// Call makes a unary call and returns the one message of the response. The error
// has a code; see CodeOf.
func (c *Conn) Call(ctx context.Context, method string, request []byte, opts ...Option) ([]byte, error) {
	s, err := c.Stream(ctx, method, request, opts...)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	b, err := s.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return nil, Errorf(Internal, "%s: response without a message", method)
	case err != nil:
		return nil, err
	}
	// The status comes after the message.
	if _, err := s.Recv(); err == nil {
		return nil, Errorf(Internal, "%s: response with several messages", method)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Stream is the responses of a call.
type Stream struct {
	c    *Conn
	e    *endpoint
	ctx  context.Context
	head exchange.RequestHead
	x    exchange.Canceler
	resp *exchange.Response
	// unwatch stops the watching of ctx.
	unwatch func() bool
	began   time.Time
	// answered says that the server has said something.
	answered bool
	// buf has what was received and not yet returned.
	buf []byte
	// outcome is what the server said at the end, io.EOF if all went well; there
	// may be messages before it.
	outcome error
	// err is how the call ended.
	err error
}

// Stream makes a call whose response is a stream, and returns once the server
// has begun to answer. The call ends with its last message, with ctx, or with
// Close.
func (c *Conn) Stream(ctx context.Context, method string, request []byte, opts ...Option) (*Stream, error) {
	var o options
	for _, f := range opts {
		f(&o)
	}
	if c.cfg.Hooks.Request != nil {
		c.cfg.Hooks.Request()
	}
	body := make([]byte, 5, 5+len(request))
	binary.BigEndian.PutUint32(body[1:], uint32(len(request)))
	body = append(body, request...)
	began := time.Now()
	// A server that refuses a stream, or goes away before it saw it, has not
	// done anything: such a call is made again, elsewhere if possible.
	for attempt := 1; ; attempt++ {
		s := &Stream{c: c, ctx: ctx, began: began}
		s.request(method, &o)
		err := s.open(body, o.wait)
		if err == nil {
			return s, nil
		}
		if !exchange.Unsent(err) || attempt == maxAttempts {
			return nil, s.finish(s.convert(err))
		}
	}
}

// maxAttempts is how often a call that was not seen is made.
const maxAttempts = 3

// request makes the head.
func (s *Stream) request(method string, o *options) {
	h, cfg := &s.head, &s.c.cfg
	h.Version, h.Method, h.Scheme = exchange.HTTP2, []byte("POST"), []byte("http")
	h.Authority, h.Path = []byte(cfg.Authority), []byte(method)
	h.ContentLength = -1
	h.Add("content-type", "application/grpc")
	h.Add("te", "trailers")
	if cfg.UserAgent != "" {
		h.Add("user-agent", cfg.UserAgent)
	}
	if d, ok := s.ctx.Deadline(); ok {
		h.Add("grpc-timeout", timeout(time.Until(d)))
	}
	for _, f := range o.header {
		h.Add(f[0], f[1])
	}
}

// timeout is d as grpc-timeout: at most eight digits and a unit.
func timeout(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}} {
		if n := (d + u.unit - 1) / u.unit; n < 1e8 {
			return strconv.FormatInt(int64(max(n, 1)), 10) + u.name
		}
	}
	return "99999999H"
}

// open sends the request and waits for the response's head.
func (s *Stream) open(body []byte, wait bool) error {
	e, hc, err := s.c.pick(s.ctx, wait)
	if err != nil {
		return err
	}
	s.e = e
	s.unwatch = context.AfterFunc(s.ctx, func() { s.x.Cancel(s.ctx.Err()) })
	s.resp, err = hc.RoundTrip(&s.x, &s.head, &exchange.Bytes{Data: body})
	if err != nil {
		s.let(s.convert(err))
		return err
	}
	head := &s.resp.Head
	if err, ok := status(&head.Fields); ok && s.resp.Body.Ended() {
		// Trailers only.
		if err == nil {
			err = io.EOF
		}
		s.end(err)
		return nil
	}
	if head.Status != 200 || !strings.HasPrefix(string(head.Get("content-type")), "application/grpc") {
		s.end(Errorf(httpCode(head.Status), "unexpected HTTP response: status %d, content-type %q", head.Status, head.Get("content-type")))
	} else if v := head.Get("grpc-encoding"); v != nil && string(v) != "identity" {
		s.end(Errorf(Internal, "response is compressed with %q", v))
	}
	return nil
}

// let gives back what the call held. err is why it ended.
func (s *Stream) let(err error) {
	s.unwatch()
	if s.resp != nil {
		s.resp.Close()
		s.resp = nil
	}
	unanswered := false
	if !errors.Is(err, io.EOF) {
		switch CodeOf(err) {
		case Unavailable, DeadlineExceeded, Canceled:
			unanswered = true
		default:
			// It is an answer, too.
			s.answered = true
		}
	}
	s.c.release(s.e, s.answered || errors.Is(err, io.EOF), unanswered)
}

// finish counts the call's end.
func (s *Stream) finish(err error) error {
	if f := s.c.cfg.Hooks.Response; f != nil {
		code := OK
		if !errors.Is(err, io.EOF) {
			code = CodeOf(err)
		}
		f(code, time.Since(s.began))
	}
	return err
}

// end ends the call for a reason, io.EOF if it went well.
func (s *Stream) end(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.let(err)
	_ = s.finish(err)
}

// Close ends the call, if it has not ended. It has to be called unless Recv has
// returned an error.
func (s *Stream) Close() {
	if s.err == nil {
		s.end(&Error{Code: Canceled, Message: ErrClosed.Error(), Err: ErrClosed})
	}
}

// Recv returns the next message, which is the caller's. The error is io.EOF at
// the proper end of the stream, otherwise it has a code.
func (s *Stream) Recv() ([]byte, error) {
	for s.err == nil {
		b, ok, err := s.message()
		switch {
		case err != nil:
			s.end(err)
		case ok:
			return b, nil
		case s.outcome == io.EOF && len(s.buf) > 0:
			s.end(Errorf(Internal, "response ends within a message"))
		case s.outcome != nil:
			s.end(s.outcome)
		default:
			s.read()
		}
	}
	return nil, s.err
}

// read takes the next frame.
func (s *Stream) read() {
	f, err := s.resp.Body.Next()
	if err != nil {
		s.end(s.convert(err))
		return
	}
	s.buf = append(s.buf, f.Data...)
	s.answered = s.answered || len(f.Data) > 0
	if f.End {
		s.outcome = outcome(f.Trailers)
	}
}

// outcome is what trailers say.
func outcome(trailers *exchange.Fields) error {
	if trailers != nil {
		if err, ok := status(trailers); ok {
			if err == nil {
				err = io.EOF
			}
			return err
		}
	}
	return Errorf(Internal, "response ends without a status")
}

// message takes a message out of what was received, if there is a whole one.
func (s *Stream) message() (b []byte, ok bool, err error) {
	if len(s.buf) < 5 {
		return nil, false, nil
	}
	if s.buf[0] != 0 {
		return nil, false, Errorf(Internal, "compressed message")
	}
	size := int(binary.BigEndian.Uint32(s.buf[1:]))
	switch {
	case size > s.c.cfg.MaxMessage:
		return nil, false, Errorf(ResourceExhausted, "message of %d bytes is longer than the limit %d", size, s.c.cfg.MaxMessage)
	case len(s.buf)-5 < size:
		return nil, false, nil
	}
	b = append([]byte{}, s.buf[5:5+size]...)
	if s.buf = s.buf[5+size:]; len(s.buf) == 0 {
		// Updates are rare: between them a stream holds no memory.
		s.buf = nil
	}
	return b, true, nil
}

// convert gives an error of the connection a code.
func (s *Stream) convert(err error) error {
	var e *Error
	var reset *exchange.ResetError
	switch {
	case errors.As(err, &e):
		return err
	case s.ctx.Err() != nil:
		return &Error{Code: CodeOf(s.ctx.Err()), Message: s.ctx.Err().Error(), Err: s.ctx.Err()}
	case errors.As(err, &reset):
		if d, ok := s.ctx.Deadline(); ok && reset.Code == exchange.CodeCancel && !time.Now().Before(d) {
			// The server knows the time limit too, and was faster.
			return &Error{Code: DeadlineExceeded, Message: err.Error(), Err: context.DeadlineExceeded}
		}
		return &Error{Code: resetCode(reset.Code), Message: err.Error(), Err: err}
	}
	return &Error{Code: Unavailable, Message: s.c.cfg.Name + ": " + err.Error(), Err: err}
}
