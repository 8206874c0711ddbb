package h2

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// chunk is received data that waits for its consumer.
type chunk struct {
	b    *buf.Buffer
	r, w int
	// flow is how much of the windows the data took: its size and padding.
	flow int
}

// stream is one stream, of either side. It is exchange.Body for what is
// received and, on the server, exchange.Responder.
//
// Streams are pooled: see pin.
type stream struct {
	c  *conn
	id uint32

	// The following are guarded by c.mu.

	sendWin int64 // what the peer lets us send
	recvWin int64 // what we let the peer send
	unacked int64 // consumed and not given back to the window
	// buffered is how much of the stream's data was put into the buffer since it
	// was taken for the bufferedAt-th time.
	buffered   int64
	bufferedAt uint64
	queue      []chunk
	qhead      int
	gotHead    bool // client: resp has the head of the response
	gotEnd     bool // the peer has ended its side
	sentEnd    bool // we have ended ours
	err        error
	declared   int64 // content-length of what is received, -1 if unknown
	received   int64
	waiting    bool // in c.waiters
	turn       bool // it is this stream's turn at the connection
	pins       int
	dead       bool // ended; to be pooled by the last to unpin it
	noBody     bool // client: the response has no body whatever is declared
	taken      bool // client: a frame of the request's body was read
	refused    bool // the peer said that it did not look at the request
	dataCalls  int  // empty DATA frames in a row
	// informational is how many responses before the response there were.
	informational int
	reset         bool // RST_STREAM was sent or received
	abandoned     bool // server: nobody wants the rest of the request's body
	zombie        bool // server: the peer reset it and its handler still runs
	unwaited      bool // server: it is one of c.zombies

	trailers    exchange.Fields
	hasTrailers bool

	// recv and send wake the consumer and the sender, ended who waits for
	// pump. All wait with c.mu.
	recv, send, ended sync.Cond

	// The consumer's alone.

	cur       chunk // lent with the last frame
	delivered bool

	// Server.

	req       exchange.RequestHead
	x         exchange.Exchange
	responded bool

	// Client.

	resp     exchange.Response
	canceler *exchange.Canceler
	cancelFn func(error)
	pumpFn   func()
	body     exchange.Body
	left     int64
	first    exchange.Frame // taken from body, and to be sent first by pump
	hasFirst bool
	pumping  bool // pump was started
	pumped   bool // and has ended; guarded by c.mu
}

var (
	_ exchange.Body      = (*stream)(nil)
	_ exchange.Responder = (*stream)(nil)
)

var streams sync.Pool

// newStream makes a stream with the functions that are bound to it for good.
func newStream() *stream {
	s := new(stream)
	s.cancelFn = s.cancel
	s.pumpFn = s.pump
	s.resp.Release = s.release
	return s
}

// getStream takes a stream out of the pool for c.
func getStream(c *conn) *stream {
	s, ok := streams.Get().(*stream)
	if !ok {
		s = newStream()
	}
	s.c = c
	s.recv.L, s.send.L, s.ended.L = &c.mu, &c.mu, &c.mu
	s.unacked, s.received, s.declared = 0, 0, -1
	s.buffered, s.bufferedAt = 0, 0
	s.gotHead, s.gotEnd, s.sentEnd = false, false, false
	s.err = nil
	s.waiting, s.turn, s.dead, s.noBody, s.taken, s.refused, s.reset = false, false, false, false, false, false, false
	s.abandoned, s.zombie, s.unwaited = false, false, false
	s.first, s.hasFirst = exchange.Frame{}, false
	s.dataCalls, s.informational = 0, 0
	s.hasTrailers, s.delivered, s.responded, s.pumping, s.pumped = false, false, false, false, false
	s.canceler, s.body = nil, nil
	return s
}

// putStream pools s. Nobody may refer to it any more.
func putStream(s *stream) {
	s.c, s.canceler, s.body, s.err = nil, nil, nil, nil
	s.x.Conn, s.x.Body, s.x.Request, s.x.Responder, s.x.Shed = nil, nil, nil, nil, false
	s.resp.Body, s.resp.Upgraded = nil, nil
	if cap(s.queue) > 64 {
		s.queue = nil
	}
	streams.Put(s)
}

// Ended implements exchange.Body.
func (s *stream) Ended() bool { return s.delivered }

// Ready implements exchange.Body.
func (s *stream) Ready() bool {
	if s.delivered {
		return true
	}
	c := s.c
	c.mu.Lock()
	ready := s.qhead < len(s.queue) || s.gotEnd || s.err != nil || s.abandoned
	c.mu.Unlock()
	return ready
}

// Next implements exchange.Body.
func (s *stream) Next() (exchange.Frame, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	s.creditLocked()
	for {
		if s.qhead < len(s.queue) {
			s.cur = s.queue[s.qhead]
			s.queue[s.qhead] = chunk{}
			s.qhead++
			if s.qhead == len(s.queue) {
				s.queue, s.qhead = s.queue[:0], 0
			}
			f := exchange.Frame{Data: s.cur.b.B[s.cur.r:s.cur.w]}
			if s.gotEnd && len(s.queue) == 0 {
				s.endLocked(&f)
			}
			return f, nil
		}
		if s.abandoned {
			return exchange.Frame{}, errClosed
		}
		if s.gotEnd {
			var f exchange.Frame
			s.endLocked(&f)
			return f, nil
		}
		if s.err != nil {
			return exchange.Frame{}, s.err
		}
		c.wakeWriterLocked()
		s.recv.Wait()
	}
}

func (s *stream) endLocked(f *exchange.Frame) {
	s.delivered = true
	f.End = true
	if s.hasTrailers {
		f.Trailers = &s.trailers
	}
}

// creditLocked frees what was lent with the last frame and gives its size back
// to the windows. Updates are sent for half a window at a time.
func (s *stream) creditLocked() {
	if s.cur.b == nil {
		return
	}
	n := s.cur.flow
	s.cur.b.Free()
	s.cur = chunk{}
	s.c.creditLocked(n)
	if s.gotEnd || s.err != nil {
		return
	}
	s.unacked += int64(n)
	if s.unacked >= int64(s.c.streamWin)/2 {
		s.recvWin += s.unacked
		s.c.windowUpdateLocked(s.id, uint32(s.unacked))
		s.unacked = 0
	}
}

// dropLocked frees all received data.
func (s *stream) dropLocked() {
	n := 0
	for _, k := range s.queue[s.qhead:] {
		k.b.Free()
		n += k.flow
	}
	clear(s.queue)
	s.queue, s.qhead = s.queue[:0], 0
	if n > 0 {
		s.c.creditLocked(n)
	}
}

// pushLocked queues received data. b is nil if data lies in the reader's
// buffer, in which case it is copied; else data is b.B[r:w].
func (s *stream) pushLocked(data []byte, b *buf.Buffer, r, flow int) {
	if b == nil {
		if n := len(s.queue); n > s.qhead {
			if last := &s.queue[n-1]; len(last.b.B)-last.w >= len(data) {
				last.w += copy(last.b.B[last.w:], data)
				last.flow += flow
				return
			}
		}
		b = buf.Get(s.spaceLocked(len(data)))
		copy(b.B, data)
	}
	s.queue = append(s.queue, chunk{b: b, r: r, w: r + len(data), flow: flow})
}

// spaceLocked is how large a buffer is taken for received data of n bytes. If much
// follows it is to lie behind it: the consumer then passes it on in fewer pieces. Two
// such buffers are a window, so that it is given back in halves.
func (s *stream) spaceLocked(n int) int {
	const worth, most = 4 << 10, defaultWindow/2 + 1
	switch {
	case n < worth:
		return n
	case s.declared < 0:
		return max(min(2*n, most), n)
	}
	// received counts these already.
	return max(int(min(s.declared-s.received+int64(n), most)), n)
}

// Close implements exchange.Body.
func (s *stream) Close(cause error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gotEnd && s.qhead == len(s.queue) || s.err != nil {
		return
	}
	if c.server {
		// The rest of the request is not wanted, but the response may be.
		// The stream is reset when that is done.
		s.dropLocked()
		s.abandoned = true
		s.recv.Signal()
		return
	}
	s.failLocked(errClosed, codeOf(cause))
}

var errClosed = errors.New("body was closed")

// codeOf is the code to reset a stream with because of err.
func codeOf(err error) uint32 {
	var r *exchange.ResetError
	switch {
	case err == nil:
		return codeCancel
	case errors.As(err, &r):
		return r.Code
	case errors.Is(err, exchange.ErrClientGone):
		return codeCancel
	}
	return codeInternal
}

// failLocked resets the stream and tells whoever waits.
func (s *stream) failLocked(err error, code uint32) {
	if s.err == nil {
		s.err = err
	}
	if !s.reset && s.id != 0 && !(s.sentEnd && s.gotEnd) {
		s.reset = true
		s.c.resetLocked(s.id, code)
	}
	s.dropLocked()
	s.wakeAll()
}

// wakeAll wakes everybody who waits for the stream.
func (s *stream) wakeAll() {
	s.recv.Signal()
	s.send.Signal()
	s.ended.Signal()
}

// --- sending ---

// sendFrame sends one frame of a body, waiting for windows and room. flush says
// that nothing follows at once.
func (s *stream) sendFrame(f exchange.Frame, flush bool) error {
	c := s.c
	data := f.Data
	end := f.End && f.Trailers == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := min(int64(len(data)), s.sendWin, c.sendWin, highWater-int64(len(c.out))); n > int64(c.peerFrame) {
		// To make room frame by frame would copy what is there several times.
		c.growLocked(int(n + n/int64(c.peerFrame)*headerLen + headerLen))
	}
	for {
		if s.err != nil {
			s.passTurnLocked()
			return s.err
		}
		if len(data) == 0 && !end {
			break
		}
		n := int64(len(data))
		if n > 0 {
			if s.sendWin <= 0 {
				s.passTurnLocked()
				c.wakeWriterLocked()
				s.send.Wait()
				continue
			}
			if !s.turn && (len(c.waiters) > c.whead || c.busyLocked()) {
				if !s.waiting {
					s.waiting = true
					c.waiters = append(c.waiters, s)
				}
				c.nextTurnLocked()
				c.wakeWriterLocked()
				if s.turn {
					continue
				}
				s.send.Wait()
				continue
			}
			n = min(n, s.sendWin, c.sendWin, int64(c.peerFrame))
			if n <= 0 {
				s.passTurnLocked()
				continue
			}
			if c.o.MaxSendBuffer > 0 {
				if n = min(n, s.shareLocked()); n <= 0 {
					s.passTurnLocked()
					c.room = append(c.room, s)
					c.wakeWriterLocked()
					s.send.Wait()
					continue
				}
				s.buffered += n
			}
		}
		h := header{length: uint32(n), kind: frameData, stream: s.id}
		last := n == int64(len(data))
		if last && end {
			h.flags = flagEndStream
		}
		p := c.reserveLocked(headerLen + int(n))
		h.put(p)
		copy(p[headerLen:], data[:n])
		s.sendWin -= n
		c.sendWin -= n
		data = data[n:]
		s.passTurnLocked()
		if last {
			break
		}
	}
	if f.End {
		if f.Trailers != nil {
			c.trailersLocked(s, f.Trailers)
		}
		s.sentEnd = true
	}
	switch {
	case f.End:
		c.flushLocked()
	case flush:
		c.wakeWriterLocked()
	}
	return nil
}

// shareLocked is how much the stream may still put into the buffer.
func (s *stream) shareLocked() int64 {
	if s.bufferedAt != s.c.taken {
		s.buffered, s.bufferedAt = 0, s.c.taken
	}
	return int64(s.c.o.MaxSendBuffer) - s.buffered
}

// errNoError is the state of a stream whose peer needs no more of what we send:
// it has answered early and reset with NO_ERROR.
var errNoError = &exchange.ResetError{Code: codeNo, Remote: true}

// passTurnLocked lets the next stream send, if it was this one's turn.
func (s *stream) passTurnLocked() {
	if s.turn {
		s.turn = false
		s.c.turnTaken = false
		s.c.nextTurnLocked()
	}
}

// sendBody sends b to its end. left is the announced length, or -1.
func (s *stream) sendBody(b exchange.Body, left int64) error {
	for {
		if !b.Ready() {
			s.flush()
		}
		f, err := b.Next()
		if err != nil {
			return &bodyError{err}
		}
		if left >= 0 {
			left -= int64(len(f.Data))
			if left < 0 || f.End && left > 0 {
				return &bodyError{errLength}
			}
		}
		if err := s.sendFrame(f, false); err != nil {
			return err
		}
		if f.End {
			return nil
		}
	}
}

func (s *stream) flush() {
	s.c.mu.Lock()
	s.c.wakeWriterLocked()
	s.c.mu.Unlock()
}

var errLength = errors.New("http/2: body differs from its content-length")

// bodyError is an error of the body that is sent, not of the stream it is sent
// on.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return e.err.Error() }

// --- server side ---

// CloseAfter implements exchange.Responder.
func (s *stream) CloseAfter() { s.c.drain() }

// Tunnel implements exchange.Responder.
func (s *stream) Tunnel(_ *exchange.ResponseHead, upstream net.Conn) error {
	return exchange.ErrNoTunnel
}

// Respond implements exchange.Responder.
func (s *stream) Respond(h *exchange.ResponseHead, b exchange.Body) error {
	if s.responded {
		return errors.New("http/2: second response")
	}
	s.responded = true
	bodyless := string(s.req.Method) == "HEAD" || h.Status == 204 || h.Status == 304
	end := bodyless || b.Ended()
	length := h.ContentLength
	if end && !bodyless {
		length = 0
	}
	left := length
	if bodyless {
		length = -1
	}
	flush := end || !b.Ready()
	c := s.c
	date := ""
	if !h.Has("date") {
		date = exchange.Date()
	}
	c.mu.Lock()
	err := s.waitRoomLocked()
	if err == nil {
		p := c.growLocked(headerLen + blockBound(&h.Fields) + 128)
		c.blockLocked(s.id, len(p), end, appendResponse(&c.enc, p[:len(p)+headerLen], h, length, date))
		if end {
			s.sentEnd = true
		}
		if flush {
			c.flushLocked()
		}
	}
	c.mu.Unlock()
	if err != nil {
		b.Close(err)
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	if end {
		if !b.Ended() {
			b.Close(nil)
		}
		return nil
	}
	if err := s.sendBody(b, left); err != nil {
		var be *bodyError
		if errors.As(err, &be) {
			c.mu.Lock()
			s.failLocked(be.err, codeOf(be.err))
			c.mu.Unlock()
			b.Close(be.err)
			return be.err
		}
		b.Close(err)
		return fmt.Errorf("%w: %w", exchange.ErrClientGone, err)
	}
	return nil
}

// waitRoomLocked waits until a head may be put into the buffer.
func (s *stream) waitRoomLocked() error {
	c := s.c
	for s.err == nil && len(c.out) > 4*highWater {
		c.room = append(c.room, s)
		c.wakeWriterLocked()
		s.send.Wait()
	}
	return s.err
}

// --- client side ---

// cancel is bound to the exchange's canceler.
func (s *stream) cancel(cause error) {
	code := uint32(codeCancel)
	var r *exchange.ResetError
	if errors.As(cause, &r) {
		code = r.Code
	}
	s.c.mu.Lock()
	s.failLocked(cause, code)
	s.c.wakeWriterLocked()
	s.c.mu.Unlock()
}

// pump sends the rest of the request's body, on its own goroutine.
func (s *stream) pump() {
	var err error
	if s.hasFirst {
		err = s.sendFrame(s.first, false)
	}
	if err == nil && !s.first.End {
		err = s.sendBody(s.body, s.left)
	}
	s.c.mu.Lock()
	if be, ok := err.(*bodyError); ok { // As would allocate
		s.failLocked(be.err, codeOf(be.err))
		s.c.wakeWriterLocked()
	}
	s.pumped = true
	s.ended.Signal()
	s.c.mu.Unlock()
}

// release is Response.Release.
func (s *stream) release(*exchange.Response) { s.c.finishClient(s, nil) }
