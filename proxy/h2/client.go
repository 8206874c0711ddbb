package h2

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// ClientConn is a connection to a server. It is safe for concurrent use.
type ClientConn struct{ c *conn }

var _ exchange.Client = (*ClientConn)(nil)

// NewClientConn makes a client of nc, which it owns from now on, and starts its
// reading and writing goroutines. They end, and Done is closed, when the
// connection does; Wait waits for them.
func NewClientConn(nc net.Conn, o Options) *ClientConn {
	c := newConn(nc, o)
	c.nextID = 1
	c.mu.Lock()
	copy(c.reserveLocked(len(Preface)), Preface)
	c.initialLocked()
	c.mu.Unlock()
	c.running.Go(c.writeLoop)
	c.running.Go(func() { c.ended(c.readLoop()) })
	c.startKeepAlive()
	return &ClientConn{c}
}

// Done is closed when the connection has ended.
func (cc *ClientConn) Done() <-chan struct{} { return cc.c.done }

// Err tells why the connection ended, nil if it has not.
func (cc *ClientConn) Err() error {
	cc.c.mu.Lock()
	defer cc.c.mu.Unlock()
	return cc.c.err
}

// Draining reports whether the connection takes no more requests.
func (cc *ClientConn) Draining() bool {
	cc.c.mu.Lock()
	defer cc.c.mu.Unlock()
	return cc.c.goingAway || cc.c.err != nil
}

// Active returns the number of open streams.
func (cc *ClientConn) Active() int {
	cc.c.mu.Lock()
	defer cc.c.mu.Unlock()
	return len(cc.c.streams)
}

// Drain takes no more requests and closes the connection when the open streams
// have ended. It does not wait.
func (cc *ClientConn) Drain() {
	c := cc.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goingAway || c.err != nil {
		return
	}
	c.goingAway = true
	c.freeSlotsLocked(len(c.slots))
	c.goAwayLocked(0, codeNo, "")
	if len(c.streams) == 0 {
		c.stopLocked()
	}
}

// Close ends the connection and fails its streams.
func (cc *ClientConn) Close() error {
	cc.c.fail(net.ErrClosed)
	return nil
}

// Wait waits until the connection has ended and its goroutines with it.
func (cc *ClientConn) Wait() { cc.c.running.Wait() }

// inline is how much of a request body is sent before the response is waited
// for, as long as windows allow; more is sent by a goroutine.
const inline = 16 << 10

// ErrFull is the error of TryRoundTrip: the server allows no more streams at the
// moment.
var ErrFull = errors.New("connection has as many streams as its server allows")

// RoundTrip implements exchange.Client. If the server allows no more streams it
// waits until one has ended.
func (cc *ClientConn) RoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	return cc.roundTrip(cn, head, body, true)
}

// TryRoundTrip is RoundTrip for who can do without this connection: if the server
// allows no more streams it fails, unsent, with ErrFull.
func (cc *ClientConn) TryRoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	return cc.roundTrip(cn, head, body, false)
}

func (cc *ClientConn) roundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body, wait bool) (*exchange.Response, error) {
	c := cc.c
	s := getStream(c)
	s.id = 0
	if cn != nil {
		if err := cn.Bind(s.cancelFn); err != nil {
			body.Close(err)
			putStream(s)
			return nil, err
		}
		s.canceler = cn
	}
	end := body.Ended()
	s.left = head.ContentLength
	c.mu.Lock()
	if err := c.slotLocked(s, wait); err != nil {
		c.mu.Unlock()
		return nil, c.unsent(s, body, err)
	}
	s.id = c.nextID
	c.nextID += 2
	s.sendWin = c.peerWin
	s.recvWin = int64(max(c.streamWin, defaultWindow))
	s.noBody = string(head.Method) == "HEAD"
	c.streams[s.id] = s
	p := c.growLocked(headerLen + requestBound(head))
	c.blockLocked(s.id, len(p), end, appendRequest(&c.enc, p[:len(p)+headerLen], head))
	tell := false
	if c.nextID > maxWindow-2 && !c.goingAway {
		// The numbers are used up: whoever owns the connection makes
		// another one.
		c.goingAway = true
		tell = c.leavingLocked()
	}
	if end {
		s.sentEnd = true
		c.flushLocked()
	}
	c.mu.Unlock()
	if tell {
		c.o.Draining()
	}
	if !end {
		if err := s.sendRequest(body); err != nil {
			return nil, c.finishClient(s, err)
		}
	}
	c.mu.Lock()
	for !s.gotHead && (s.err == nil || s.err == errNoError) {
		s.recv.Wait()
	}
	if !s.gotHead || s.err != nil && !s.gotEnd {
		err := s.err
		c.mu.Unlock()
		return nil, c.finishClient(s, err)
	}
	empty := s.gotEnd && s.qhead == len(s.queue) && !s.hasTrailers
	c.mu.Unlock()
	s.resp.Upgraded = nil
	s.resp.Body = s
	if empty {
		s.resp.Body = exchange.Empty
		if s.resp.Head.ContentLength < 0 && !s.noBody {
			s.resp.Head.ContentLength = 0
		}
	}
	return &s.resp, nil
}

// slotLocked waits until one more stream may be opened. An error says that it
// never may, or, without wait, not now. Before the server has said how many there
// may be that is always waited for.
func (c *conn) slotLocked(s *stream, wait bool) error {
	for {
		switch {
		case c.err != nil:
			return fmt.Errorf("connection closed: %w", c.err)
		case c.goingAway:
			return exchange.ErrDraining
		case s.err != nil:
			return s.err
		case uint32(len(c.streams)) < c.peerMax && len(c.out) < 4*highWater:
			return nil
		case uint32(len(c.streams)) < c.peerMax:
			// The server does not read.
			c.room = append(c.room, s)
			s.send.Wait()
		case !wait && c.gotFirst:
			return ErrFull
		default:
			c.slots = append(c.slots, s)
			s.send.Wait()
			for i, o := range c.slots {
				if o == s { // cancelled
					c.slots = append(c.slots[:i], c.slots[i+1:]...)
					break
				}
			}
		}
	}
}

// freeSlotsLocked wakes the first n of those who wait to open a stream. They
// look again whether they may.
func (c *conn) freeSlotsLocked(n int) {
	for _, s := range c.slots[:n] {
		s.send.Signal()
	}
	c.slots = append(c.slots[:0], c.slots[n:]...)
}

// unsent ends an exchange for which no stream was opened.
func (c *conn) unsent(s *stream, body exchange.Body, err error) error {
	if s.canceler != nil {
		s.canceler.Bind(nil)
	}
	c.mu.Lock()
	cancelled := s.err != nil
	c.leaveLocked(s)
	c.mu.Unlock()
	putStream(s)
	if cancelled {
		body.Close(err)
		return err
	}
	return &exchange.UnsentError{Err: err}
}

// sendRequest sends what is there of the body, and starts a goroutine for more.
func (s *stream) sendRequest(body exchange.Body) error {
	s.body = body
	for n := 0; body.Ready(); {
		f, err := body.Next()
		if err != nil {
			s.c.mu.Lock()
			s.taken = true
			s.failLocked(err, codeOf(err))
			s.c.mu.Unlock()
			return err
		}
		s.taken = true
		if s.left >= 0 {
			if s.left -= int64(len(f.Data)); s.left < 0 || f.End && s.left > 0 {
				s.c.mu.Lock()
				s.failLocked(errLength, codeInternal)
				s.c.mu.Unlock()
				return errLength
			}
		}
		if n += len(f.Data); n > inline || !s.fits(len(f.Data)) {
			// It could block: the goroutine sends this frame too.
			s.first, s.hasFirst = f, true
			break
		}
		if err := s.sendFrame(f, f.End); err != nil {
			return nil // the stream's state says why
		}
		if f.End {
			return nil
		}
	}
	s.flush()
	s.pumping = true
	go s.pumpFn()
	return nil
}

// lastSend is how long a finished response waits for its request to be sent to
// the end. Some servers answer first and read the body afterwards; a reset would
// cost them, and us, the connections behind.
const lastSend = 500 * time.Millisecond

// sentSoonLocked waits until pump has ended, or the time is over.
func (s *stream) sentSoonLocked() {
	if s.pumped || s.err != nil {
		return
	}
	c, late := s.c, false
	t := time.AfterFunc(lastSend, func() {
		c.mu.Lock()
		late = true
		s.ended.Signal()
		c.mu.Unlock()
	})
	for !s.pumped && !late && s.err == nil {
		s.ended.Wait()
	}
	t.Stop()
}

// fits reports whether n bytes can be sent without waiting.
func (s *stream) fits(n int) bool {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.MaxSendBuffer > 0 && int64(n) > s.shareLocked() {
		return false
	}
	return int64(n) <= min(s.sendWin, c.sendWin) && c.whead == len(c.waiters) && len(c.out) < highWater
}

// finishClient ends a client stream. err is why it failed, nil at the end of a
// response; the result is the error to return.
func (c *conn) finishClient(s *stream, err error) error {
	if s.canceler != nil {
		s.canceler.Bind(nil)
		s.canceler = nil
	}
	c.mu.Lock()
	if err == nil && s.gotEnd && s.pumping {
		s.sentSoonLocked()
	}
	if s.err == nil && !(s.sentEnd && s.gotEnd) {
		s.failLocked(errClosed, codeCancel)
	}
	unsent := err != nil && s.refused && !s.taken && !s.pumping
	body := s.body
	if s.pumping && !s.pumped {
		if !s.sentEnd {
			c.mu.Unlock()
			body.Close(err)
			c.mu.Lock()
		}
		for !s.pumped {
			s.ended.Wait()
		}
	}
	c.removeLocked(s)
	c.buryLocked(s)
	c.mu.Unlock()
	switch {
	case unsent:
		return &exchange.UnsentError{Err: err}
	case err != nil && body != nil && !body.Ended():
		body.Close(err)
	}
	return err
}
