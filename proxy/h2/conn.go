package h2

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2/hpack"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

const (
	// highWater is how much may wait to be written before those who send
	// data have to wait: four TLS records.
	highWater = 64 << 10
	// maxControl is how many frames that a peer can provoke without giving
	// anything (answers to PING, SETTINGS, resets) may wait to be written.
	maxControl = 1000
	// maxContinuations is how many frames a header block may come in.
	maxContinuations = 64
	// maxEmpty is how many DATA frames without data may follow each other.
	maxEmpty = 100
	// maxZombies is how many streams may be reset, by the peer or because of
	// it, with their handlers still running.
	maxZombies = 1000
)

// conn is what server and client have in common.
type conn struct {
	nc      net.Conn
	o       Options
	server  bool
	handler exchange.Handler
	info    any

	// The reader's.

	rb       *buf.Buffer // nil while empty and lazily read
	r, w     int
	readSize int
	lastN    int // how much the last read gave
	dec      hpack.Decoder
	cont     uint32      // stream of the unfinished header block, 0 if none
	contFlag uint8       // flags of its HEADERS frame
	contN    int         // CONTINUATION frames of it
	block    *buf.Buffer // its fragments
	blockN   int
	starts   []*stream    // to be started when what was read is gone through
	wakes    []*stream    // to be woken then
	resets   int          // streams opened and reset within what was read
	gotFirst bool         // the peer's first SETTINGS frame arrived
	lastRead atomic.Int64 // when something was read, as time since born; for keep-alive
	born     time.Time

	// mu guards the following and the streams.
	mu        sync.Mutex
	enc       hpack.Encoder
	streams   map[uint32]*stream
	lastPeer  uint32 // highest stream opened by the peer
	skipLo    uint32 // the peer left out the streams from skipLo to below skipHi
	skipHi    uint32
	nextID    uint32 // client: next stream to open
	sendWin   int64
	recvWin   int64
	unacked   int64
	peerWin   int64 // initial window of streams we send on
	peerFrame uint32
	peerMax   uint32 // client: how many streams the server allows
	out       []byte // to be written; lies in outBuf
	outBuf    *buf.Buffer
	control   int    // control frames in out
	taken     uint64 // how often out was taken to be written
	asleep    bool
	writing   bool // what was out is being written
	heard     bool // the peer has sent a head since a sender wrote itself
	stopping  bool // the writer ends when out is empty
	waiters   []*stream
	whead     int
	turnTaken bool
	room      []*stream // woken when out was taken: those with heads to send, or too much in it
	reason    error     // why the writer was told to stop, if for a fault
	mute      bool      // client: a write failed; what can be read is still read
	slots     []*stream // client: those who wait to open a stream
	err       error     // why the connection ended
	goingAway bool      // no new streams: GOAWAY was received, or sent with a final ID
	draining  bool      // GOAWAY was sent
	drainLast uint32    // server: streams above are not answered
	pinging   bool      // a keep-alive PING is out
	pingAt    time.Time // since then
	zombies   int
	shed      []*stream // server: to be refused by the goroutine that shedding tells of
	shedding  bool
	myResets  [32]uint32 // streams that we reset lately, whose frames are ignored
	myResetN  int
	workers   []*worker // idle
	fewest    int       // of them, since the last trim
	trimming  bool
	trimmer   *time.Timer
	streamWin uint32 // receive window of new streams
	connWin   uint32 // of the connection
	bdp       bdp
	running   sync.WaitGroup

	writeWake chan struct{}
	done      chan struct{} // closed when the connection ended
	written   chan struct{} // closed when the writer ended
	told      bool          // o.Draining was called
	timer     *time.Timer   // keep-alive
}

func newConn(nc net.Conn, o Options) *conn {
	o.defaults()
	c := &conn{
		nc: nc, o: o,
		readSize:  1 << 10,
		streams:   make(map[uint32]*stream),
		sendWin:   defaultWindow,
		recvWin:   int64(o.InitialConnectionWindow),
		streamWin: o.InitialStreamWindow,
		connWin:   o.InitialConnectionWindow,
		peerWin:   defaultWindow,
		peerFrame: defaultFrameSize,
		peerMax:   o.InitialMaxSendStreams,
		drainLast: maxWindow,
		writeWake: make(chan struct{}, 1),
		done:      make(chan struct{}),
		written:   make(chan struct{}),
		born:      time.Now(),
	}
	c.dec.Classify = classify
	return c
}

// --- writing ---

// growLocked makes room for n more bytes in out and returns it.
func (c *conn) growLocked(n int) []byte {
	if c.outBuf == nil {
		c.outBuf = buf.Get(max(n, 4<<10))
		c.out = c.outBuf.B[:0]
	}
	if cap(c.out)-len(c.out) < n {
		used := len(c.out)
		c.outBuf = c.outBuf.Grow(used, max(used+n, min(2*len(c.outBuf.B), buf.Max)))
		c.out = c.outBuf.B[:used]
	}
	return c.out
}

// reserveLocked appends n bytes to out and returns them for filling in.
func (c *conn) reserveLocked(n int) []byte {
	c.growLocked(n)
	used := len(c.out)
	c.out = c.out[:used+n]
	return c.out[used:]
}

// blockLocked completes a header block: out is c.out with room for a frame
// header at from and the block behind it. The block is cut up if it is larger
// than the peer's frames.
func (c *conn) blockLocked(id uint32, from int, end bool, out []byte) {
	if cap(out) > cap(c.out) || &out[0] != &c.out[:1][0] {
		panic("http/2: header block outgrew its bound")
	}
	c.out = out
	n := len(out) - from - headerLen
	h := header{length: uint32(n), kind: frameHeaders, flags: flagEndHeaders, stream: id}
	if end {
		h.flags |= flagEndStream
	}
	if n <= int(c.peerFrame) {
		h.put(out[from:])
		return
	}
	// Cut up from the back, so that each part moves once.
	size := int(c.peerFrame)
	parts := (n + size - 1) / size
	c.reserveLocked((parts - 1) * headerLen)
	first := from + headerLen
	for i := parts - 1; i >= 0; i-- {
		lo := i * size
		hi := min(lo+size, n)
		to := from + i*(size+headerLen)
		copy(c.out[to+headerLen:], c.out[first+lo:first+hi])
		p := header{length: uint32(hi - lo), kind: frameContinuation, stream: id}
		if i == 0 {
			p.kind, p.flags = frameHeaders, h.flags&^flagEndHeaders
		}
		if i == parts-1 {
			p.flags |= flagEndHeaders
		}
		p.put(c.out[to:])
	}
}

func (c *conn) trailersLocked(s *stream, f *exchange.Fields) {
	p := c.growLocked(headerLen + blockBound(f))
	c.blockLocked(s.id, len(p), true, appendFields(&c.enc, c.enc.Begin(p[:len(p)+headerLen]), f))
}

// controlLocked appends a small frame.
func (c *conn) controlLocked(h header, payload []byte) {
	if c.err != nil {
		return
	}
	h.length = uint32(len(payload))
	p := c.reserveLocked(headerLen + len(payload))
	h.put(p)
	copy(p[headerLen:], payload)
	c.control++
	c.wakeWriterLocked()
}

func (c *conn) resetLocked(id, code uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], code)
	c.myResets[c.myResetN%len(c.myResets)] = id
	c.myResetN++
	c.controlLocked(header{kind: frameReset, stream: id}, b[:])
}

func (c *conn) windowUpdateLocked(id, n uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	c.controlLocked(header{kind: frameWindow, stream: id}, b[:])
	c.control--
}

// creditLocked gives n bytes back to the connection's receive window.
func (c *conn) creditLocked(n int) {
	c.unacked += int64(n)
	if c.unacked >= int64(c.connWin)/2 {
		c.recvWin += c.unacked
		c.windowUpdateLocked(0, uint32(c.unacked))
		c.unacked = 0
	}
}

func (c *conn) goAwayLocked(last, code uint32, text string) {
	b := make([]byte, 8, 8+len(text))
	binary.BigEndian.PutUint32(b, last)
	binary.BigEndian.PutUint32(b[4:], code)
	c.controlLocked(header{kind: frameGoAway}, append(b, text...))
}

func (c *conn) wakeWriterLocked() {
	if c.asleep && !c.writing && (len(c.out) > 0 || c.stopping) {
		c.asleep = false
		c.writeWake <- struct{}{}
	}
}

// leavingLocked is for whoever finds that no new streams are taken: it reports
// whether o.Draining has to be called now, without the lock, which is once.
func (c *conn) leavingLocked() (tell bool) {
	tell = !c.told && c.o.Draining != nil
	c.told = true
	return tell
}

// flushLocked has what is out written, at the end of a message. The writer does it,
// since others may have something to add; but with one stream there are no others,
// and the way through the writer would only keep the message waiting. A sender
// that writes itself could be held up by a peer that does not read, which no
// timeout of its request would end: so it writes little, and only if the peer has
// sent a head since this was done last. The reader never writes.
func (c *conn) flushLocked() {
	if !c.asleep || c.writing || c.stopping || !c.heard || len(c.streams) > 1 || len(c.out) == 0 || len(c.out) > writeSelf {
		c.wakeWriterLocked()
		return
	}
	c.heard = false
	if err := c.writeOutLocked(); err != nil {
		c.mu.Unlock()
		c.unwritable(err)
		c.mu.Lock()
		return
	}
	c.wakeWriterLocked()
}

// unwritable ends the connection after a write that failed. A server may have
// answered before it had all of a request and closed the connection with that:
// the response is there to be read, though nobody takes the request any more. So
// a client reads on until the end, for a moment.
func (c *conn) unwritable(err error) {
	c.mu.Lock()
	if c.server || c.err != nil || len(c.streams) == 0 {
		c.mu.Unlock()
		c.fail(err)
		return
	}
	c.mute, c.goingAway = true, true
	if c.reason == nil {
		c.reason = err
	}
	if c.asleep {
		c.asleep = false
		c.writeWake <- struct{}{}
	}
	c.freeSlotsLocked(len(c.slots))
	tell := c.leavingLocked()
	c.mu.Unlock()
	if c.nc.SetReadDeadline(time.Now().Add(stopTimeout)) != nil {
		c.fail(err)
	}
	if tell {
		c.o.Draining()
	}
}

// writeSelf is the most that a sender writes itself: what fits into one TLS record.
const writeSelf = 16 << 10

// writeOutLocked writes what is out, without the lock.
func (c *conn) writeOutLocked() error {
	b, data := c.outBuf, c.out
	c.outBuf, c.out, c.control = nil, nil, 0
	c.taken++
	c.writing = true
	c.nextTurnLocked()
	for i, s := range c.room {
		s.send.Signal()
		c.room[i] = nil
	}
	c.room = c.room[:0]
	c.mu.Unlock()
	_, err := c.nc.Write(data)
	b.Free()
	c.mu.Lock()
	c.writing = false
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// busyLocked says that nobody may send data now.
func (c *conn) busyLocked() bool { return c.sendWin <= 0 || len(c.out) >= highWater }

// nextTurnLocked gives the turn to the stream that has waited longest.
func (c *conn) nextTurnLocked() {
	for !c.turnTaken && c.whead < len(c.waiters) && !c.busyLocked() {
		s := c.waiters[c.whead]
		c.waiters[c.whead] = nil
		c.whead++
		if c.whead == len(c.waiters) {
			c.waiters, c.whead = c.waiters[:0], 0
		}
		if s == nil {
			continue // left
		}
		s.waiting = false
		s.turn, c.turnTaken = true, true
		s.send.Signal()
	}
}

// leaveLocked takes a stream that ends out of the line.
func (c *conn) leaveLocked(s *stream) {
	if s.waiting {
		s.waiting = false
		for i := c.whead; i < len(c.waiters); i++ {
			if c.waiters[i] == s {
				c.waiters[i] = nil
			}
		}
	}
	s.passTurnLocked()
}

// writeLoop is the writing goroutine.
func (c *conn) writeLoop() {
	defer close(c.written)
	c.mu.Lock()
	for {
		for c.err == nil && !c.mute && (c.writing || len(c.out) == 0 && !c.stopping) {
			c.asleep = true
			c.mu.Unlock()
			<-c.writeWake
			// Whoever can run now may have something to send as well. With
			// 32 clients and one thread this takes a third off the CPU
			// time of a request (16 to 18 µs became 10 to 13).
			runtime.Gosched()
			c.mu.Lock()
		}
		if c.err != nil || c.mute {
			c.mu.Unlock()
			return
		}
		if len(c.out) == 0 {
			// Stopped. The peer's end, or the deadline, ends the reader,
			// and that the connection.
			c.mu.Unlock()
			c.nc.SetReadDeadline(time.Now().Add(stopTimeout))
			if netx.CloseWrite(c.nc) != nil {
				c.fail(io.EOF)
			}
			return
		}
		if err := c.writeOutLocked(); err != nil {
			c.mu.Unlock()
			c.unwritable(err)
			return
		}
	}
}

// --- ending ---

// fail ends the connection; only the first reason counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	c.asleep = false
	select {
	case c.writeWake <- struct{}{}:
	default:
	}
	c.outBuf.Free()
	c.outBuf, c.out = nil, nil
	var cancelled []*stream
	for _, s := range c.streams {
		if s.err == nil {
			s.err = fmt.Errorf("connection closed: %w", err)
		}
		s.wakeAll()
		if c.server {
			s.pins++
			cancelled = append(cancelled, s)
		}
	}
	c.freeSlotsLocked(len(c.slots))
	for _, w := range c.workers {
		close(w.work)
	}
	c.workers = nil
	if c.trimmer != nil {
		c.trimmer.Stop()
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	tell := c.leavingLocked()
	close(c.done)
	c.mu.Unlock()
	for _, s := range cancelled {
		s.x.Cancel(fmt.Errorf("%w: %w", exchange.ErrClientGone, err))
		c.unpin(s)
	}
	if tell {
		c.o.Draining()
	}
	c.nc.Close()
}

// unpin lets go of a stream that was pinned under the lock. A pinned stream is
// not pooled, so that a late call cannot hit the next exchange in its place.
func (c *conn) unpin(s *stream) {
	c.mu.Lock()
	s.pins--
	free := s.pins == 0 && s.dead
	c.mu.Unlock()
	if free {
		putStream(s)
	}
}

// stopLocked lets the writer end when it has written everything.
func (c *conn) stopLocked() {
	c.stopping = true
	c.nc.SetWriteDeadline(time.Now().Add(stopTimeout))
	if c.asleep {
		c.asleep = false
		c.writeWake <- struct{}{}
	}
}

// stopTimeout is how long a peer may take to take our last words.
const stopTimeout = time.Second

// removeLocked forgets an ended stream.
func (c *conn) removeLocked(s *stream) {
	c.leaveLocked(s)
	delete(c.streams, s.id)
	s.dropLocked()
	if s.cur.b != nil {
		s.creditLocked()
	}
	if len(c.slots) > 0 && uint32(len(c.streams)) < c.peerMax {
		c.freeSlotsLocked(1)
	}
	if len(c.streams) == 0 && c.goingAway && c.err == nil {
		c.stopLocked()
	}
	c.wakeWriterLocked()
}
