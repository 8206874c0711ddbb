package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/copy"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// ServerOptions configure a server connection. The zero value is what the
// proxy chapter asks for: no timeouts.
type ServerOptions struct {
	// Info becomes Exchange.Conn of every exchange.
	Info any
	// HeaderTimeout limits how long a head may take from its first byte to
	// its last; 0 is no limit. It is the cure against clients that send a
	// byte now and then.
	HeaderTimeout time.Duration
	// IdleTimeout limits how long a connection may wait for the first byte
	// of a request; 0 is no limit.
	IdleTimeout time.Duration
	// Watcher, if set, cancels exchanges whose client went away.
	Watcher *Watcher
	// Scarce, if set, tells that memory is: large heads are refused with 503.
	Scarce func() bool
	// Again lets Serve return ErrAgain. It does not if there is an IdleTimeout,
	// which only Serve heeds.
	Again bool
}

// ErrAgain is what Serve returns, if it may, when the connection waits, or is about to
// wait, for its next request, probably for long: Serve has to be called once more, best when
// there is something to read, on a goroutine whose stack has not grown yet. Nothing
// that was read is held then, nor any buffer.
var ErrAgain = errors.New("http/1: connection waits")

// The states of a server connection, for Drain and the Watcher.
const (
	idle    int32 = iota // waits for a request
	called               // does so, and the watcher wants it to wait elsewhere
	active               // from the first byte of a request to the end of its response
	stopped              // takes no more requests
	tunnel               // has left HTTP
)

// Server is a client's connection. Serve runs it; Drain may be called from any
// goroutine.
type Server struct {
	conn    net.Conn
	handler exchange.Handler
	o       ServerOptions

	state    atomic.Int32
	draining atomic.Bool

	// The rest belongs to the goroutine of Serve, except that the reader
	// and body may be used by another while the handler runs.
	rd   reader
	w    writer
	p    parser
	req  exchange.RequestHead
	body serverBody
	x    exchange.Exchange

	// rested says that the connection was seen to wait since its last request.
	// A new one counts as such: many do a request and no other.
	rested atomic.Bool
	// quiet says that the watcher saw it wait, and there was no request since.
	quiet atomic.Bool
	// parks says that it can wait in a netx.Lot. It is not known, and false, before
	// the first ErrAgain, and changes only while the watcher does not look.
	parks bool

	// watchPrev and watchNext are the watcher's, guarded by its lock.
	watchPrev, watchNext *Server

	watched   bool // the watcher looks
	beganFn   func() error
	limited   bool // the request's head has a read deadline
	responded bool // Respond or Tunnel was called
	head      bool // the request was HEAD
	version   exchange.Version
	close     bool // this exchange is the last
	broken    bool // the response is incomplete: nothing more can be said
	tunnelled bool
}

var _ exchange.Responder = (*Server)(nil)

// NewServer makes a server of conn, which it owns from now on.
func NewServer(conn net.Conn, h exchange.Handler, o ServerOptions) *Server {
	s := &Server{conn: conn, handler: h, o: o}
	s.rd.conn, s.w.conn = conn, conn
	s.rd.scarce = o.Scarce
	s.beganFn = s.began
	if o.HeaderTimeout > 0 {
		s.rd.limit = s.limit
	}
	s.body.s = s
	s.x.Conn = o.Info
	s.x.Responder = s
	s.rested.Store(true)
	return s
}

// Serve answers the requests of conn until either side ends it, and closes it.
// The error tells why it ended; it is nil if the client closed it between
// requests, or a drain.
func Serve(conn net.Conn, h exchange.Handler, o ServerOptions) error {
	return NewServer(conn, h, o).Serve()
}

// Drain lets the connection end: at once if it is idle, else after the
// response in flight, which then says Connection: close. Tunnels go on until
// one side closes (proxy chapter, section 3).
func (s *Server) Drain() {
	s.draining.Store(true)
	if s.state.CompareAndSwap(idle, stopped) || s.state.CompareAndSwap(called, stopped) {
		s.conn.Close()
	}
}

// Close ends the connection at once.
func (s *Server) Close() error { return s.conn.Close() }

// began is called when the first byte of a request is there.
func (s *Server) began() error {
	if !s.state.CompareAndSwap(idle, active) && !s.uncall(active) {
		return net.ErrClosed
	}
	if s.quiet.Load() {
		s.quiet.Store(false)
	}
	if s.o.IdleTimeout > 0 {
		return s.conn.SetReadDeadline(time.Time{})
	}
	return nil
}

// uncall takes back what the watcher did to have the connection wait elsewhere, and
// sets its state. It is false if it did nothing, or the connection was stopped since.
//
//go:noinline
func (s *Server) uncall(state int32) bool {
	if s.state.Load() != called {
		return false
	}
	// It is done with it when it does not look any more.
	s.o.Watcher.looked()
	return s.conn.SetReadDeadline(time.Time{}) == nil && s.state.CompareAndSwap(called, state)
}

// called reports whether a read was ended by the watcher, and the connection is to
// wait elsewhere.
//
//go:noinline
func (s *Server) called(err error) bool {
	return s.state.Load() == called && errors.Is(err, os.ErrDeadlineExceeded) && s.uncall(idle)
}

// limit is called when a request's head has begun and does not go on.
func (s *Server) limit() error {
	s.limited = true
	return s.conn.SetReadDeadline(time.Now().Add(s.o.HeaderTimeout))
}

// Serve runs the connection; see the function of the same name, and ErrAgain.
func (s *Server) Serve() error {
	// The steps are functions of their own so that this one, in which
	// connections wait, has a small frame: idle connections are many.
	for {
		err := s.prepare()
		over := err != nil
		if !over {
			if err = s.rd.readHead(&s.p, s.beganFn); err == nil {
				over, err = s.one()
			} else if s.called(err) {
				s.rest()
				return ErrAgain
			} else {
				over, err = true, s.headError(err)
			}
		}
		if over || err != nil {
			s.end()
			return err
		}
		if s.o.Again && s.rested.Load() && s.rd.r == s.rd.w && s.o.IdleTimeout == 0 {
			s.rest()
			return ErrAgain
		}
	}
}

// rest gives up what a connection that waits has no use for.
//
//go:noinline
func (s *Server) rest() {
	s.rested.Store(false)
	s.rd.rewind()
	s.req = exchange.RequestHead{}
	s.body.trailers, s.body.tbuf = exchange.Fields{}, nil
	s.unwatch()
	s.parks = netx.Parks(s.conn)
}

// unwatch has the watcher look no more.
func (s *Server) unwatch() {
	if s.watched {
		s.watched = false
		s.o.Watcher.remove(s)
	}
}

// end is what comes after the last request.
//
//go:noinline
func (s *Server) end() {
	s.rd.release()
	s.w.flush()
	s.conn.Close()
	s.unwatch()
}

// prepare is what comes before a request.
//
//go:noinline
func (s *Server) prepare() error {
	if !s.watched && s.o.Watcher != nil {
		s.watched = true
		s.o.Watcher.add(s)
	}
	s.p.request(&s.req)
	if s.o.IdleTimeout > 0 {
		return s.conn.SetReadDeadline(time.Now().Add(s.o.IdleTimeout))
	}
	return nil
}

// one answers the request whose head was read. over says that it was the last.
//
//go:noinline
func (s *Server) one() (over bool, err error) {
	if s.limited {
		s.limited = false
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return true, err
		}
	}
	if err := s.exchange(); err != nil {
		return true, err
	}
	if s.tunnelled {
		return true, nil
	}
	if s.close {
		if s.x.Body != exchange.Empty {
			// Else nothing of the client's is under way.
			s.linger()
		}
		return true, nil
	}
	s.state.Store(idle)
	return s.draining.Load() && s.state.CompareAndSwap(idle, stopped), nil
}

// headError answers a request that is none.
//
//go:noinline
func (s *Server) headError(err error) error {
	var e *Error
	if errors.As(err, &e) {
		s.refuse(e.Status)
		return err
	}
	if s.state.Load() == stopped || errors.Is(err, io.EOF) {
		return nil
	}
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		if s.state.Load() == active {
			s.refuse(408)
			return fmt.Errorf("request head: %w", err)
		}
		return nil
	}
	return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
}

// refuse writes a response of the codec's own and waits for the client to take it.
func (s *Server) refuse(status int) {
	s.w.statusLine(status, exchange.HTTP11)
	s.w.str("content-length: 0\r\nconnection: close\r\n")
	s.w.date()
	s.w.str("\r\n")
	if s.w.flush() == nil {
		s.linger()
	}
}

// How long a request body that was nobody's when the response came may be to
// keep the connection; how long a closing connection is read so that the client
// gets the response and not a reset; and for how long a connection that was to
// be kept is read for the rest of a body. The times have no limit in bytes
// beside them: a client that has seen the response may stop, and one that has
// not would not get it. They are nothing to a client that runs, and enough for one
// that has to wait for a processor.
const (
	maxUnread     = 256 << 10
	lingerTime    = 5 * time.Second
	discardPeriod = 5 * time.Second
)

// linger closes the writing side and reads until the client has closed too.
// Closing with unread bytes would reset the connection, and the client might
// never see the response (RFC 9112, section 9.6).
func (s *Server) linger() {
	s.rd.release()
	if netx.CloseWrite(s.conn) != nil {
		return
	}
	if s.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	for {
		b, _, err := netx.ReadLazy(s.conn, 16<<10)
		b.Free()
		if err != nil {
			return
		}
	}
}

// exchange runs the handler for the request that was just parsed.
func (s *Server) exchange() error {
	x := &s.x
	x.Canceler.Reset()
	x.Request = &s.req
	s.responded, s.broken, s.tunnelled = false, false, false
	s.head = string(s.req.Method) == "HEAD"
	s.version = s.req.Version
	s.close = s.p.fr.close || s.req.Version == exchange.HTTP10 && !s.p.fr.keepAlive
	switch {
	case s.req.ContentLength > 0:
		s.body.begin(byLength, s.req.ContentLength)
		x.Body = &s.body
	case s.req.ContentLength < 0:
		s.body.begin(byChunks, 0)
		x.Body = &s.body
	default:
		x.Body = exchange.Empty
	}
	hasBody := x.Body != exchange.Empty
	if hasBody && s.req.ExpectContinue && s.rd.r == s.rd.w {
		s.body.before = s.sendContinue
	}
	s.handler.Serve(x)
	if s.tunnelled {
		return nil
	}
	if !s.responded {
		s.close = true
		return errNoResponse
	}
	if err := s.w.flush(); err != nil {
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	if s.broken {
		return errIncomplete
	}
	if hasBody && s.body.closed.Load() && s.conn.SetReadDeadline(time.Time{}) != nil {
		// Close may have interrupted a read, or one that had just ended.
		s.close = true
	}
	if hasBody && !s.body.ended {
		x.Body = &s.body
		s.discard()
	}
	return nil
}

var (
	errNoResponse = errors.New("http/1: handler did not respond")
	errIncomplete = errors.New("http/1: response was not completed")
)

// sendContinue tells the client to go on with the body.
func (s *Server) sendContinue() error {
	if s.responded {
		return nil
	}
	_, err := s.conn.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// discard reads what the handler left of the request's body, if that does not
// take long; else the connection is closed.
func (s *Server) discard() {
	if s.close {
		return
	}
	s.close = true
	b := &s.body
	if b.before != nil {
		// 100 (Continue) was never sent: the client may send the body or
		// not, and nobody can tell which it did.
		return
	}
	if b.closed.Swap(false) {
		b.err = nil
	}
	if s.conn.SetReadDeadline(time.Now().Add(discardPeriod)) != nil {
		return
	}
	for {
		f, err := b.body.Next()
		if err != nil {
			return
		}
		if f.End {
			s.close = s.conn.SetReadDeadline(time.Time{}) != nil
			return
		}
	}
}

// hopeless says that the connection cannot be kept, since the request's body is
// broken, or unread and more than will be read.
func (s *Server) hopeless() bool {
	if s.x.Body == exchange.Empty {
		return false
	}
	switch s.body.progress.Load() {
	case bodyFailed:
		return true
	case bodyUnread:
		return s.req.ExpectContinue || s.req.ContentLength > maxUnread
	}
	return false
}

// CloseAfter implements exchange.Responder.
func (s *Server) CloseAfter() { s.close = true }

// Respond implements exchange.Responder.
func (s *Server) Respond(head *exchange.ResponseHead, b exchange.Body) error {
	if s.responded {
		return errors.New("http/1: second response")
	}
	s.responded = true
	if s.draining.Load() || s.hopeless() {
		s.close = true
	}
	bodyless := s.head || head.Status == 204 || head.Status == 304
	kind, length := byLength, head.ContentLength
	switch {
	case bodyless:
	case b.Ended():
		length = 0
	case length < 0 && s.version == exchange.HTTP10:
		kind = byEOF
		s.close = true
	case length < 0:
		kind = byChunks
	}

	w := &s.w
	w.statusLine(head.Status, s.version)
	var dated, framed, connection bool
	for i := range head.List {
		f := &head.List[i]
		switch len(f.Name) {
		case 4:
			dated = dated || f.Is("date")
		case 10:
			if f.Is("connection") {
				connection = true
				s.close = s.close || exchange.HasToken(f.Value, "close")
			}
		case 14:
			if f.Is("content-length") {
				if !bodyless && (kind != byLength || framed || head.ContentLength != length) {
					continue
				}
				framed = true
			}
		case 17:
			if f.Is("transfer-encoding") {
				if !bodyless {
					// A body without framing of its own becomes chunked,
					// whatever it is coded in; "identity" is no coding.
					if kind != byChunks || exchange.EqualFold(f.Value, "identity") {
						continue
					}
					framed = chunkedLast(f.Value)
				}
			}
		}
		w.field(f.Name, f.Value)
	}
	if !framed && !bodyless {
		switch kind {
		case byLength:
			w.length(length)
		case byChunks:
			w.str("transfer-encoding: chunked\r\n")
		}
	}
	switch {
	case connection:
	case s.close && s.version == exchange.HTTP11:
		w.str("connection: close\r\n")
	case !s.close && s.version == exchange.HTTP10:
		w.str("connection: keep-alive\r\n")
	}
	if !dated {
		w.date()
	}
	w.str("\r\n")

	if bodyless || b.Ended() {
		if !b.Ended() {
			b.Close(nil)
		}
		return s.flushed()
	}
	err := sendBody(w, kind, length, b)
	if err != nil {
		s.broken, s.close = true, true
		b.Close(err)
		if w.err != nil {
			s.x.Cancel(exchange.ErrClientGone)
			return fmt.Errorf("%w: %w", exchange.ErrClientGone, w.err)
		}
		w.flush()
		return err
	}
	return s.flushed()
}

// chunkedLast reports whether chunked is the last of a list of codings.
func chunkedLast(codings []byte) bool {
	var last []byte
	for rest := codings; len(rest) > 0; {
		last, rest = exchange.NextToken(rest)
	}
	return exchange.EqualFold(last, "chunked")
}

func (s *Server) flushed() error {
	if err := s.w.flush(); err != nil {
		s.broken, s.close = true, true
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	return nil
}

var (
	errTooLong  = errors.New("http/1: body is longer than its content-length")
	errTooShort = errors.New("http/1: body is shorter than its content-length")
)

// sendBody copies b to w in the framing that the head announced, until its end.
// It leaves the last part gathered in w. The error is w's or the body's.
func sendBody(w *writer, kind int, left int64, b exchange.Body) error {
	for {
		if !b.Ready() {
			if err := w.flush(); err != nil {
				return err
			}
		}
		end, err := sendFrame(w, kind, &left, b)
		if end || err != nil {
			return err
		}
	}
}

// sendFrame copies one frame and says whether it was the last.
func sendFrame(w *writer, kind int, left *int64, b exchange.Body) (end bool, err error) {
	f, err := b.Next()
	if err != nil {
		return false, err
	}
	return f.End, writeFrame(w, kind, left, f)
}

// writeFrame writes one frame in the announced framing.
func writeFrame(w *writer, kind int, left *int64, f exchange.Frame) error {
	switch kind {
	case byLength:
		if *left -= int64(len(f.Data)); *left < 0 {
			return errTooLong
		}
		w.bytes(f.Data)
		if f.End && *left > 0 {
			return errTooShort
		}
	case byChunks:
		w.chunk(f.Data)
		if f.End {
			w.lastChunk(f.Trailers)
		}
	default:
		w.bytes(f.Data)
	}
	return w.err
}

// Tunnel implements exchange.Responder.
func (s *Server) Tunnel(head *exchange.ResponseHead, upstream net.Conn) error {
	if s.responded {
		upstream.Close()
		return errors.New("http/1: second response")
	}
	s.responded, s.tunnelled = true, true
	s.state.Store(tunnel)
	w := &s.w
	w.statusLine(head.Status, exchange.HTTP11)
	dated := false
	for i := range head.List {
		f := &head.List[i]
		switch len(f.Name) {
		case 4:
			dated = dated || f.Is("date")
		case 14:
			if f.Is("content-length") {
				continue
			}
		case 17:
			if f.Is("transfer-encoding") {
				continue
			}
		}
		w.field(f.Name, f.Value)
	}
	if !dated {
		w.date()
	}
	w.str("\r\n")
	if err := w.flush(); err != nil {
		upstream.Close()
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	var d copy.Duplex
	if err := s.x.Bind(func(cause error) { d.Cancel(cause) }); err != nil {
		upstream.Close()
		return err
	}
	defer s.x.Bind(nil)
	return d.Run(s.rd.unread(), upstream).Err()
}

// serverBody is the request's body. Its errors are the client's doing.
type serverBody struct {
	body
	s *Server
	// reading is set while a read of the connection may block; closed is
	// set by Close. Close interrupts the read only if there is one, so
	// that the connection can stay in use otherwise.
	reading atomic.Bool
	closed  atomic.Bool
	// progress is one of the following, for the goroutine that responds, which
	// need not be the one that reads.
	progress atomic.Int32
}

const (
	bodyUnread int32 = iota
	bodyBegun
	bodyFailed
)

func (b *serverBody) begin(kind int, length int64) {
	b.closed.Store(false)
	b.progress.Store(bodyUnread)
	b.start(&b.s.rd, kind, length)
}

// Next implements exchange.Body.
func (b *serverBody) Next() (exchange.Frame, error) {
	b.progress.Store(bodyBegun)
	ready := b.Ready()
	if !ready {
		b.reading.Store(true)
	}
	var f exchange.Frame
	err := errBodyClosed
	if !b.closed.Load() {
		f, err = b.body.Next()
	}
	if !ready {
		b.reading.Store(false)
	}
	if err != nil {
		if b.closed.Load() {
			return f, errBodyClosed
		}
		b.progress.Store(bodyFailed)
		var e *Error
		if !errors.As(err, &e) {
			err = fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
		}
	}
	return f, err
}

var errBodyClosed = errors.New("request body was closed")

// Close implements exchange.Body.
func (b *serverBody) Close(error) {
	b.closed.Store(true)
	if b.reading.Load() {
		b.s.conn.SetReadDeadline(past)
	}
}

// past is a deadline that interrupts reads and writes at once.
var past = time.Unix(1, 0)
