package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// maxIdleWorkers is how many goroutines a connection keeps for its next streams.
const maxIdleWorkers = 64

// Server is a client's connection. Serve runs it; Drain and Close may be called
// from any goroutine.
type Server struct{ c *conn }

// NewServer makes a server of nc, which it owns from now on. info becomes
// Exchange.Conn of every exchange.
func NewServer(nc net.Conn, h exchange.Handler, info any, o Options) *Server {
	c := newConn(nc, o)
	c.server, c.handler, c.info = true, h, info
	c.initialLocked() // before anything that Drain may write
	return &Server{c}
}

// Drain announces that no new streams are taken and lets the open ones end,
// then closes the connection. It does not wait.
func (s *Server) Drain() { s.c.drain() }

// Held is how many bytes the connection holds: received and waiting for their
// consumers, or waiting to be sent, and something for each stream. It may be
// called from any goroutine, at any time, and does not wait: it is 0 while the
// connection is busy.
func (s *Server) Held() int {
	c := s.c
	if !c.mu.TryLock() {
		return 0
	}
	defer c.mu.Unlock()
	received := int64(c.connWin) - c.recvWin - c.unacked
	return int(max(received, 0)) + len(c.out) + len(c.streams)*streamCost
}

// streamCost is about what a stream takes: a goroutine's stack, its head, the
// state of its exchange.
const streamCost = 12 << 10

// Close ends the connection at once.
func (s *Server) Close() error {
	s.c.fail(net.ErrClosed)
	return nil
}

// Serve runs the connection until either side ends it and all handlers have
// returned. The error is nil if it ended in order.
func (s *Server) Serve() error {
	c := s.c
	c.running.Go(c.writeLoop)
	// A client that says nothing must not hold the connection for ever. The
	// limit ends with its first frame; from then on keep-alive tells whether it
	// lives.
	err := c.nc.SetReadDeadline(time.Now().Add(prefaceLimit))
	if err == nil {
		err = c.preface()
	}
	if err == nil {
		c.startKeepAlive()
		err = c.readLoop()
	}
	err = c.ended(err)
	c.running.Wait()
	return err
}

// prefaceLimit is how long a client's preface, its first SETTINGS included, may
// take. Upstream sets no limit.
const prefaceLimit = 10 * time.Second

// preface reads the client's connection preface.
func (c *conn) preface() error {
	for i := 0; i < len(Preface); {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		for c.r < c.w && i < len(Preface) {
			if c.rb.B[c.r] != Preface[i] {
				return connError(codeProtocol, "invalid preface")
			}
			c.r++
			i++
		}
	}
	return nil
}

// initialLocked writes our settings and the window beyond the default.
func (c *conn) initialLocked() {
	var p []byte
	add := func(id uint16, v uint32) {
		p = binary.BigEndian.AppendUint16(p, id)
		p = binary.BigEndian.AppendUint32(p, v)
	}
	if !c.server {
		add(settingPush, 0)
	}
	if c.server && c.o.MaxConcurrentStreams > 0 {
		add(settingMaxStreams, c.o.MaxConcurrentStreams)
	}
	if c.o.InitialStreamWindow != defaultWindow {
		add(settingWindow, c.o.InitialStreamWindow)
	}
	if c.o.MaxFrameSize != defaultFrameSize {
		add(settingFrameSize, c.o.MaxFrameSize)
	}
	add(settingMaxHeaderList, c.o.MaxHeaderListSize)
	c.controlLocked(header{kind: frameSettings}, p)
	if more := c.o.InitialConnectionWindow - defaultWindow; more > 0 {
		c.windowUpdateLocked(0, more)
	}
}

// ended ends the connection after the reader, and says why it did.
func (c *conn) ended(err error) error {
	for i, s := range c.starts {
		c.starts[i] = nil
		if s != nil {
			c.mu.Lock()
			c.removeLocked(s)
			c.buryLocked(s)
			c.mu.Unlock()
		}
	}
	c.batch()
	var ce *ConnError
	if errors.As(err, &ce) && !ce.Remote {
		c.mu.Lock()
		stop := c.err == nil
		if stop {
			c.goAwayLocked(c.lastPeer, ce.Code, ce.Text)
			c.stopLocked()
		}
		c.mu.Unlock()
		if stop {
			c.lastWords()
			<-c.written // at most until the deadline
		}
	}
	c.mu.Lock()
	if c.reason != nil {
		err = c.reason
	}
	c.mu.Unlock()
	c.fail(err)
	c.mu.Lock()
	first, orderly := c.err, c.stopping && c.reason == nil && ce == nil
	c.mu.Unlock()
	c.rb.Free()
	c.rb = nil
	c.block.Free()
	c.block = nil
	if ce != nil {
		return ce
	}
	if orderly || errors.Is(first, io.EOF) || errors.Is(first, net.ErrClosed) {
		return nil
	}
	return first
}

// maxLastWords is how much lastWords reads.
const maxLastWords = 64 << 10

// lastWords reads and drops what the peer still sends, for a moment: closing
// with unread data would reset the connection, and the peer might not get to
// see our GOAWAY.
func (c *conn) lastWords() {
	c.nc.SetReadDeadline(time.Now().Add(stopTimeout))
	for n := 0; n < maxLastWords; {
		b, m, err := netx.ReadLazy(c.nc, 4<<10)
		b.Free()
		if err != nil {
			return
		}
		n += m
	}
}

// open starts a stream for a request head.
func (c *conn) open(id uint32, end bool, block []byte) error {
	c.mu.Lock()
	if c.lastPeer != 0 && id > c.lastPeer+2 || c.lastPeer == 0 && id > 1 {
		c.skipLo, c.skipHi = c.lastPeer+1, id
	}
	if id > c.drainLast || c.err != nil {
		c.mu.Unlock()
		return c.skip(block)
	}
	c.lastPeer = id
	refuse := c.o.MaxConcurrentStreams > 0 && uint32(len(c.streams)) >= c.o.MaxConcurrentStreams
	c.mu.Unlock()
	if refuse {
		if err := c.skip(block); err != nil {
			return err
		}
		return c.streamError(id, codeRefused, "too many streams")
	}
	s := getStream(c)
	s.id = id
	s.req.Reset()
	s.req.Grow(2 * len(block))
	l := list{fields: &s.req.Fields}
	if err := c.decode(block, &l); err != nil {
		putStream(s)
		return err
	}
	ok := l.request(&s.req) && !(end && l.length > 0) &&
		(!l.host || sameHost(&s.req) || c.o.OwnHost != nil && c.o.OwnHost(&s.req))
	if !ok && !l.tooLarge {
		putStream(s)
		return c.streamError(id, codeProtocol, "malformed request head")
	}
	s.gotEnd = end
	s.declared = l.length
	x := &s.x
	x.Canceler.Reset()
	x.Request, x.Conn, x.Responder = &s.req, c.info, s
	x.Body = exchange.Empty
	if !end {
		x.Body = s
		s.req.ContentLength = l.length
	}
	c.mu.Lock()
	if c.err != nil {
		// It ended meanwhile, and nobody would tell the stream.
		c.mu.Unlock()
		putStream(s)
		return nil
	}
	s.sendWin, s.recvWin = c.peerWin, int64(max(c.streamWin, defaultWindow))
	c.streams[id] = s
	c.heard = true
	if l.tooLarge {
		// RFC 9113, section 10.5.1: the head is refused, not the connection.
		var h exchange.ResponseHead
		h.Status = 431
		p := c.growLocked(headerLen + 256)
		c.blockLocked(id, len(p), true, appendResponse(&c.enc, p[:len(p)+headerLen], &h, 0, exchange.Date()))
		s.sentEnd = true
		c.endStreamLocked(s)
		c.buryLocked(s)
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	c.starts = append(c.starts, s)
	return nil
}

// worker is a goroutine that runs handlers, one stream after the other.
type worker struct{ work chan *stream }

// startLocked gives a stream to a worker.
func (c *conn) startLocked(s *stream) {
	if n := len(c.workers); n > 0 {
		w := c.workers[n-1]
		c.workers[n-1] = nil
		c.workers = c.workers[:n-1]
		c.fewest = min(c.fewest, n-1)
		w.work <- s
		return
	}
	w := &worker{work: make(chan *stream, 1)}
	w.work <- s
	c.running.Go(func() { c.work(w) })
}

func (c *conn) work(w *worker) {
	for s := range w.work {
		c.handler.Serve(&s.x)
		c.mu.Lock()
		c.finishLocked(s)
		if c.err != nil || len(c.workers) >= maxIdleWorkers {
			c.mu.Unlock()
			return
		}
		c.workers = append(c.workers, w)
		if !c.trimming {
			c.trimming = true
			c.fewest = len(c.workers)
			c.trimmer = time.AfterFunc(trimPeriod, c.trim)
		}
		c.mu.Unlock()
	}
}

// shedLocked has a stream refused. One goroutine does that for all streams of
// the connection: each of its own would take more memory than is saved.
func (c *conn) shedLocked(s *stream) {
	s.x.Shed = true
	c.shed = append(c.shed, s)
	if !c.shedding {
		c.shedding = true
		c.running.Go(c.refuse)
	}
}

// refuse has the handler refuse the streams that are to be shed.
func (c *conn) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.shed) > 0 {
		list := c.shed
		c.shed = nil
		for _, s := range list {
			c.mu.Unlock()
			c.handler.Serve(&s.x)
			c.mu.Lock()
			c.finishLocked(s)
		}
	}
	c.shedding = false
}

// trimPeriod is how often idle goroutines are let go.
const trimPeriod = 5 * time.Second

// trim lets those goroutines go that were idle during the whole period, so that
// a burst does not leave its stacks behind. It is called by its timer.
func (c *conn) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	for _, w := range c.workers[:c.fewest] {
		close(w.work)
	}
	kept := copy(c.workers, c.workers[c.fewest:])
	clear(c.workers[kept:])
	c.workers = c.workers[:kept]
	c.fewest = kept
	if kept > 0 {
		c.trimmer.Reset(trimPeriod)
	} else {
		c.trimming = false
	}
}

// finishLocked ends a stream whose handler has returned.
func (c *conn) finishLocked(s *stream) {
	if s.unwaited {
		c.zombies--
	}
	if !s.sentEnd && s.err == nil {
		// The handler gave up. If it was told why, the client is told too.
		code := uint32(codeInternal)
		var r *exchange.ResetError
		if cause := s.x.Cause(); errors.As(cause, &r) {
			code = r.Code
		}
		s.failLocked(errGivenUp, code)
	}
	c.endStreamLocked(s)
	c.buryLocked(s)
}

var errGivenUp = errors.New("http/2: handler did not respond")

// endStreamLocked closes what is open of a stream that was answered.
func (c *conn) endStreamLocked(s *stream) {
	if s.sentEnd && !s.gotEnd && !s.reset && c.err == nil {
		// RFC 9113, section 8.1: the rest of the request is not needed.
		s.reset = true
		c.resetLocked(s.id, codeNo)
	}
	c.removeLocked(s)
}

// drain begins a graceful end (RFC 9113, section 6.8): the first GOAWAY says
// that there will be an end, the second, after a round trip, where it is.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.err != nil {
		return
	}
	c.draining = true
	c.goAwayLocked(maxWindow, codeNo, "")
	c.controlLocked(header{kind: framePing}, pingDrain)
	// A peer that does not answer PING must not hold up the drain.
	time.AfterFunc(stopTimeout, func() {
		c.mu.Lock()
		c.finalGoAwayLocked()
		c.mu.Unlock()
	})
}

func (c *conn) finalGoAwayLocked() {
	if !c.draining || c.goingAway || c.err != nil {
		return
	}
	c.goingAway = true
	c.drainLast = c.lastPeer
	c.goAwayLocked(c.lastPeer, codeNo, "")
	if len(c.streams) == 0 {
		c.stopLocked()
	}
}
