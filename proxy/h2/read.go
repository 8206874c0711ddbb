package h2

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// fill reads more. Before it waits it deals with what the frames so far were
// about.
func (c *conn) fill() error {
	if c.batch() && c.lastN < bulk {
		// Who was started or woken goes first. To read on would most likely find
		// nothing, and keep them waiting for as long as a system call takes; what
		// has come when they are done can be dealt with at once.
		runtime.Gosched()
	}
	if c.r == c.w {
		c.rb.Free()
		c.rb = nil
		b, n, err := netx.ReadLazy(c.nc, c.readSize)
		c.rb, c.r, c.w = b, 0, n
		c.adapt(n)
		return c.readErr(n, err)
	}
	if c.r > 0 {
		copy(c.rb.B, c.rb.B[c.r:c.w])
		c.w -= c.r
		c.r = 0
	}
	if c.w == len(c.rb.B) {
		c.rb = c.rb.Grow(c.w, 2*c.w)
	}
	n, err := c.nc.Read(c.rb.B[c.w:])
	c.w += n
	c.adapt(n)
	return c.readErr(n, err)
}

// bulk is how much has to be read at once for more to be likely there already.
const bulk = 4 << 10

// maxRead is the largest buffer to read into.
const maxRead = 64 << 10

// adapt chooses the size of the next buffer by how much came: idle connections
// hold little, busy ones read much at once.
func (c *conn) adapt(n int) {
	c.alive()
	c.lastN = n
	if n >= c.readSize/2 && c.readSize < maxRead {
		c.readSize *= 2
	} else if n < c.readSize/8 && c.readSize > 1<<10 {
		c.readSize /= 2
	}
}

// alive notes that the peer lives.
func (c *conn) alive() {
	if c.o.KeepAliveInterval > 0 {
		c.lastRead.Store(int64(time.Since(c.born)))
	}
}

func (c *conn) readErr(n int, err error) error {
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// need reads until n bytes are in the buffer.
func (c *conn) need(n int) error {
	for c.w-c.r < n {
		if c.rb != nil && len(c.rb.B) < n {
			c.rb = c.rb.Grow(c.w, n+c.r)
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// readLoop reads frames until the connection ends. The error says why.
func (c *conn) readLoop() error {
	for {
		if err := c.need(headerLen); err != nil {
			return err
		}
		h := parseHeader(c.rb.B[c.r:])
		if h.length > c.o.MaxFrameSize {
			return connError(codeFrameSize, "frame is too large")
		}
		if !c.gotFirst && (h.kind != frameSettings || h.flags&flagAck != 0) {
			return connError(codeProtocol, "first frame is not SETTINGS")
		}
		if c.cont != 0 && (h.kind != frameContinuation || h.stream != c.cont) {
			return connError(codeProtocol, "header block was interrupted")
		}
		if h.kind == frameData && h.length > maxRead/2 && c.w-c.r < headerLen+int(h.length) {
			if err := c.longData(h); err != nil {
				return err
			}
			continue
		}
		if err := c.need(headerLen + int(h.length)); err != nil {
			return err
		}
		payload := c.rb.B[c.r+headerLen:][:h.length:h.length]
		c.r += headerLen + int(h.length)
		if err := c.frame(h, payload); err != nil {
			return err
		}
	}
}

// longData reads a DATA frame that is larger than the reading buffer gets, straight
// into the buffer in which it will wait for its consumer.
func (c *conn) longData(h header) error {
	c.r += headerLen
	b := buf.Get(int(h.length))
	n := copy(b.B[:h.length], c.rb.B[c.r:c.w])
	c.r, c.w = 0, 0
	c.batch()
	for n < int(h.length) {
		m, err := c.nc.Read(b.B[n:h.length])
		n += m
		c.alive()
		if m == 0 {
			b.Free()
			return c.readErr(0, err)
		}
	}
	data, err := unpad(h.flags, b.B[:h.length])
	if err != nil {
		b.Free()
		return err
	}
	r := 0
	if h.flags&flagPadded != 0 {
		r = 1
	}
	kept, err := c.data(h, data, b, r)
	if !kept {
		b.Free()
	}
	return err
}

// batch starts and wakes streams, and reports whether there were any.
func (c *conn) batch() bool {
	some := len(c.starts)+len(c.wakes) > 0
	c.resets = 0
	if len(c.starts) > 0 {
		shed := c.o.Scarce != nil && c.o.Scarce(len(c.starts)*streamCost)
		c.mu.Lock()
		for i, s := range c.starts {
			c.starts[i] = nil
			switch {
			case s == nil:
			case shed:
				c.shedLocked(s)
			default:
				c.startLocked(s)
			}
		}
		c.mu.Unlock()
		c.starts = c.starts[:0]
	}
	for i, s := range c.wakes {
		c.wakes[i] = nil
		s.recv.Signal()
	}
	c.wakes = c.wakes[:0]
	return some
}

// frame deals with one frame that was read whole.
func (c *conn) frame(h header, p []byte) error {
	switch h.kind {
	case frameData:
		data, err := unpad(h.flags, p)
		if err != nil {
			return err
		}
		_, err = c.data(h, data, nil, 0)
		return err
	case frameHeaders:
		return c.headers(h, p)
	case frameContinuation:
		return c.continuation(h, p)
	case framePriority:
		if h.stream == 0 {
			return connError(codeProtocol, "PRIORITY without a stream")
		}
		if len(p) != 5 {
			return c.streamError(h.stream, codeFrameSize, "PRIORITY of wrong size")
		}
		if binary.BigEndian.Uint32(p)&maxWindow == h.stream {
			return c.streamError(h.stream, codeProtocol, "stream depends on itself")
		}
		return nil
	case frameReset:
		return c.peerReset(h, p)
	case frameSettings:
		return c.settings(h, p)
	case framePush:
		return connError(codeProtocol, "PUSH_PROMISE is not allowed")
	case framePing:
		return c.ping(h, p)
	case frameGoAway:
		return c.goAway(h, p)
	case frameWindow:
		return c.window(h, p)
	}
	return nil // unknown types are ignored (RFC 9113, section 4.1)
}

// idleLocked says that the stream was never opened.
func (c *conn) idleLocked(id uint32) bool {
	if c.server {
		return id%2 == 0 || id > c.lastPeer || c.skipLo <= id && id < c.skipHi
	}
	return id%2 == 0 || id >= c.nextID
}

// ignoredLocked says that frames of a stream not known are to be ignored: we
// have reset it, and the peer may not know yet.
func (c *conn) ignoredLocked(id uint32) bool {
	for _, r := range c.myResets {
		if r == id {
			return true
		}
	}
	return id > c.drainLast
}

// streamError resets a stream because of what its peer did.
func (c *conn) streamError(id, code uint32, text string) error {
	c.mu.Lock()
	s := c.streams[id]
	if s == nil {
		if c.idleLocked(id) && !c.server {
			c.mu.Unlock()
			return connError(code, text)
		}
		c.resetLocked(id, code)
		err := c.floodLocked()
		c.mu.Unlock()
		return err
	}
	err := error(&exchange.ResetError{Code: code})
	s.reset = true
	c.resetLocked(id, code)
	s.failLocked(fmt.Errorf("%w (%s)", err, text), code)
	many := false
	if c.server {
		s.pins++
		many = c.leftLocked(s)
	}
	flood := c.floodLocked()
	c.mu.Unlock()
	if c.server {
		many = c.dropped(s) || many
		s.x.Cancel(fmt.Errorf("%w: %s", exchange.ErrClientGone, text))
		c.unpin(s)
	}
	if many {
		return errManyResets
	}
	return flood
}

// errManyResets: the peer has us begin requests only to give them up.
var errManyResets = connError(codeCalm, "too many streams were reset")

// leftLocked counts a stream of the server's whose handler goes on though nobody
// waits for it: the peer has reset it, or has made us reset it by breaking the
// protocol, which costs us as much. It reports whether there are too many.
func (c *conn) leftLocked(s *stream) bool {
	if !s.unwaited {
		s.unwaited = true
		c.zombies++
	}
	return c.zombies > maxZombies
}

// dropped takes a stream that is no longer waited for out of those to be started,
// and reports whether there were too many such.
func (c *conn) dropped(s *stream) bool {
	if c.unstart(s) {
		c.mu.Lock()
		c.zombies--
		c.mu.Unlock()
		c.resets++
	}
	return c.resets > c.o.MaxPendingResets
}

// unstart takes a stream that has not been started out of the list, and ends
// it. It reports whether it was there.
func (c *conn) unstart(s *stream) bool {
	for i, t := range c.starts {
		if t == s {
			c.starts[i] = nil
			c.mu.Lock()
			c.removeLocked(s)
			c.buryLocked(s)
			c.mu.Unlock()
			return true
		}
	}
	return false
}

// buryLocked marks an ended stream as free for pooling and pools it unless
// somebody holds it.
func (c *conn) buryLocked(s *stream) {
	s.dead = true
	if s.pins == 0 {
		putStream(s)
	}
}

// floodLocked says whether the peer makes us write more than it reads.
func (c *conn) floodLocked() error {
	if c.control > maxControl {
		return connError(codeCalm, "too many control frames")
	}
	return nil
}

// data takes the payload of a DATA frame. If b is not nil data lies in it at r,
// and kept says that it was taken over.
func (c *conn) data(h header, data []byte, b *buf.Buffer, r int) (kept bool, err error) {
	if h.stream == 0 {
		return false, connError(codeProtocol, "DATA without a stream")
	}
	c.mu.Lock()
	kept, code, text, err := c.dataLocked(h, data, b, r)
	c.mu.Unlock()
	if err == nil && text != "" {
		err = c.streamError(h.stream, code, text)
	}
	return kept, err
}

// dataLocked does the work of data. A text says that the stream is to be reset.
func (c *conn) dataLocked(h header, data []byte, b *buf.Buffer, r int) (kept bool, code uint32, text string, err error) {
	flow := int(h.length)
	if c.o.AdaptiveWindow {
		c.bdpDataLocked(flow)
	}
	c.recvWin -= int64(flow)
	if c.recvWin < 0 {
		return false, 0, "", connError(codeFlow, "connection window exceeded")
	}
	s := c.streams[h.stream]
	if s == nil {
		if c.idleLocked(h.stream) {
			return false, 0, "", connError(codeProtocol, "DATA on an idle stream")
		}
		c.creditLocked(flow)
		if c.ignoredLocked(h.stream) {
			return false, 0, "", nil
		}
		return false, codeClosed, "DATA on a closed stream", nil
	}
	end := h.flags&flagEndStream != 0
	switch {
	case s.zombie:
		c.creditLocked(flow)
		return false, codeClosed, "DATA on a closed stream", nil
	case s.err != nil || s.reset:
		c.creditLocked(flow)
		return false, 0, "", nil
	case s.gotEnd:
		c.creditLocked(flow)
		return false, codeClosed, "DATA after the end", nil
	case !c.server && !s.gotHead:
		c.creditLocked(flow)
		return false, codeProtocol, "DATA before the head", nil
	case s.abandoned:
		c.creditLocked(flow)
		s.gotEnd = end
		return false, 0, "", nil
	}
	s.recvWin -= int64(flow)
	if s.recvWin < 0 {
		c.creditLocked(flow)
		return false, codeFlow, "stream window exceeded", nil
	}
	s.received += int64(len(data))
	if s.declared >= 0 && !s.noBody && (s.received > s.declared || end && s.received < s.declared) {
		c.creditLocked(flow)
		return false, codeProtocol, "body differs from its content-length", nil
	}
	if len(data) == 0 {
		c.creditLocked(flow)
		if !end {
			if s.dataCalls++; s.dataCalls > maxEmpty {
				return false, 0, "", connError(codeCalm, "too many empty frames")
			}
			s.unacked += int64(flow)
			return false, 0, "", nil
		}
	} else {
		s.dataCalls = 0
		s.pushLocked(data, b, r, flow)
		kept = b != nil
	}
	s.gotEnd = end
	c.wakes = append(c.wakes, s)
	return kept, 0, "", nil
}

// headers takes a HEADERS frame.
func (c *conn) headers(h header, p []byte) error {
	if h.stream == 0 {
		return connError(codeProtocol, "HEADERS without a stream")
	}
	p, err := unpad(h.flags, p)
	if err != nil {
		return err
	}
	selfish := false
	if h.flags&flagPriority != 0 {
		if len(p) < 5 {
			return connError(codeFrameSize, "HEADERS without its priority")
		}
		selfish = binary.BigEndian.Uint32(p)&maxWindow == h.stream
		p = p[5:]
	}
	if selfish {
		// The block would have to be decoded all the same; who sends
		// this does not deserve the trouble.
		return connError(codeProtocol, "stream depends on itself")
	}
	if c.server && h.stream%2 == 0 {
		return connError(codeProtocol, "client opened a stream with an even number")
	}
	if h.flags&flagEndHeaders != 0 {
		return c.head(h.stream, h.flags, p)
	}
	c.cont, c.contFlag, c.contN, c.blockN = h.stream, h.flags, 0, 0
	return c.fragment(p)
}

func (c *conn) continuation(h header, p []byte) error {
	if c.cont == 0 {
		return connError(codeProtocol, "CONTINUATION without HEADERS")
	}
	if c.contN++; c.contN > maxContinuations {
		return connError(codeCalm, "header block in too many frames")
	}
	if err := c.fragment(p); err != nil {
		return err
	}
	if h.flags&flagEndHeaders == 0 {
		return nil
	}
	id := c.cont
	c.cont = 0
	b := c.block
	c.block = nil
	err := c.head(id, c.contFlag, b.B[:c.blockN])
	b.Free()
	return err
}

// fragment collects a part of a header block.
func (c *conn) fragment(p []byte) error {
	if c.blockN+len(p) > 4*int(c.o.MaxHeaderListSize) {
		return connError(codeCalm, "header block is too large")
	}
	if c.block == nil {
		c.block = buf.Get(c.blockN + len(p))
	} else if len(c.block.B) < c.blockN+len(p) {
		c.block = c.block.Grow(c.blockN, c.blockN+len(p))
	}
	c.blockN += copy(c.block.B[c.blockN:], p)
	return nil
}

// head takes a complete header block.
func (c *conn) head(id uint32, flags uint8, block []byte) error {
	end := flags&flagEndStream != 0
	c.mu.Lock()
	s := c.streams[id]
	if s == nil {
		if c.server && id > c.lastPeer {
			c.mu.Unlock()
			return c.open(id, end, block)
		}
		idle, ignored := c.idleLocked(id), c.ignoredLocked(id)
		c.mu.Unlock()
		switch {
		case idle:
			return connError(codeProtocol, "HEADERS on an idle stream")
		case !ignored:
			return connError(codeClosed, "HEADERS on a closed stream")
		}
		return c.skip(block)
	}
	if s.zombie || s.gotEnd && s.sentEnd {
		// As if its handler had ended: whether it has is chance.
		c.mu.Unlock()
		return connError(codeClosed, "HEADERS on a closed stream")
	}
	if s.err != nil || s.reset || s.abandoned {
		s.gotEnd = s.gotEnd || end
		c.mu.Unlock()
		return c.skip(block)
	}
	first := !c.server && !s.gotHead
	gotEnd := s.gotEnd
	if gotEnd {
		c.mu.Unlock()
		if err := c.skip(block); err != nil {
			return err
		}
		return c.streamError(id, codeClosed, "HEADERS on a half-closed stream")
	}
	// The consumer touches neither head nor trailers before they are
	// announced, and a stream is removed only with the lock held; but a
	// client stream may be removed meanwhile, so it is pinned.
	s.pins++
	c.mu.Unlock()
	defer c.unpin(s)
	l := list{fields: &s.trailers, trailers: !first}
	if first {
		s.resp.Head.Reset()
		l.fields = &s.resp.Head.Fields
	} else {
		s.trailers.Reset()
	}
	l.fields.Grow(2 * len(block))
	if err := c.decode(block, &l); err != nil {
		return err
	}
	if l.tooLarge {
		return c.streamError(id, codeProtocol, "header list is too large")
	}
	if !first {
		if l.malformed || !end {
			return c.streamError(id, codeProtocol, "malformed trailers")
		}
		c.mu.Lock()
		short := s.declared >= 0 && s.received < s.declared && !s.noBody
		if !short {
			s.hasTrailers, s.gotEnd = len(s.trailers.List) > 0, true
			c.wakes = append(c.wakes, s)
		}
		c.mu.Unlock()
		if short {
			return c.streamError(id, codeProtocol, "body differs from its content-length")
		}
		return nil
	}
	status := l.status()
	if status == 0 || status == 101 || status < 200 && end {
		return c.streamError(id, codeProtocol, "malformed response head")
	}
	if status < 200 {
		if s.informational++; s.informational > maxInformational {
			return c.streamError(id, codeCalm, "too many informational responses")
		}
		return nil
	}
	r := &s.resp
	r.Head.Version, r.Head.Status, r.Head.ContentLength = exchange.HTTP2, status, l.length
	c.mu.Lock()
	s.noBody = s.noBody || status == 204 || status == 304
	s.declared = l.length
	s.gotHead, s.gotEnd, c.heard = true, end, true
	short := end && !s.noBody && l.length > 0
	c.wakes = append(c.wakes, s)
	c.mu.Unlock()
	if short {
		return c.streamError(id, codeProtocol, "body differs from its content-length")
	}
	return nil
}

// maxInformational is how many informational responses may come before a response, as
// in package h1.
const maxInformational = 1000

// skip decodes a block that nobody wants, for the sake of the table.
func (c *conn) skip(block []byte) error {
	var f exchange.Fields
	return c.decode(block, &list{fields: &f, malformed: true})
}

// peerReset takes RST_STREAM.
func (c *conn) peerReset(h header, p []byte) error {
	if h.stream == 0 {
		return connError(codeProtocol, "RST_STREAM without a stream")
	}
	if len(p) != 4 {
		return connError(codeFrameSize, "RST_STREAM of wrong size")
	}
	code := binary.BigEndian.Uint32(p)
	c.mu.Lock()
	s := c.streams[h.stream]
	if s == nil {
		idle := c.idleLocked(h.stream)
		c.mu.Unlock()
		if idle {
			return connError(codeProtocol, "RST_STREAM on an idle stream")
		}
		return nil
	}
	s.reset = true
	var err error = &exchange.ResetError{Code: code, Remote: true}
	switch {
	case code == codeNo && !c.server && s.gotEnd:
		err = errNoError
	case code == codeRefused:
		s.refused = true
	}
	if s.err == nil {
		s.err = err
	}
	if !s.gotEnd {
		s.dropLocked()
	}
	s.wakeAll()
	if !c.server {
		c.mu.Unlock()
		return nil
	}
	s.pins++
	s.zombie = true
	many := c.leftLocked(s)
	c.mu.Unlock()
	s.x.Cancel(fmt.Errorf("%w: %w", exchange.ErrClientGone, err))
	many = c.dropped(s) || many
	c.unpin(s)
	if many {
		return errManyResets
	}
	return nil
}

// settings takes SETTINGS.
func (c *conn) settings(h header, p []byte) error {
	if h.stream != 0 {
		return connError(codeProtocol, "SETTINGS on a stream")
	}
	if h.flags&flagAck != 0 {
		if len(p) != 0 {
			return connError(codeFrameSize, "SETTINGS acknowledged with a payload")
		}
		return nil
	}
	if len(p)%6 != 0 {
		return connError(codeFrameSize, "SETTINGS of wrong size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gotFirst {
		c.gotFirst = true
		if c.server && !c.stopping {
			// The preface is complete; see prefaceLimit.
			if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
		}
		c.peerMax = maxWindow // unless it says otherwise
	}
	win := c.peerWin
	for ; len(p) > 0; p = p[6:] {
		v := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTableSize:
			c.enc.SetMaxTableSize(v)
		case settingPush:
			if v > 1 || v == 1 && !c.server {
				return connError(codeProtocol, "invalid SETTINGS_ENABLE_PUSH")
			}
		case settingMaxStreams:
			c.peerMax = v
		case settingWindow:
			if v > maxWindow {
				return connError(codeFlow, "invalid SETTINGS_INITIAL_WINDOW_SIZE")
			}
			win = int64(v)
		case settingFrameSize:
			if v < defaultFrameSize || v > 1<<24-1 {
				return connError(codeProtocol, "invalid SETTINGS_MAX_FRAME_SIZE")
			}
			// Larger frames than highWater would gain nothing.
			c.peerFrame = min(v, highWater)
		}
	}
	// The last value counts. A frame has room for thousands of them, and to go over all
	// streams for each would be much work for little.
	if delta := win - c.peerWin; delta != 0 {
		c.peerWin = win
		for _, s := range c.streams {
			s.sendWin += delta
			if s.sendWin > maxWindow {
				return connError(codeFlow, "window overflow")
			}
			s.send.Signal()
		}
	}
	c.controlLocked(header{kind: frameSettings, flags: flagAck}, nil)
	// More of them may wake than fit; they look again, also whether to wait.
	c.freeSlotsLocked(len(c.slots))
	return c.floodLocked()
}

// The payloads of our PINGs.
var (
	pingAlive = []byte("l5d-live")
	pingDrain = []byte("l5d-last")
	pingBDP   = []byte("l5d-wind")
)

func (c *conn) ping(h header, p []byte) error {
	if h.stream != 0 {
		return connError(codeProtocol, "PING on a stream")
	}
	if len(p) != 8 {
		return connError(codeFrameSize, "PING of wrong size")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.flags&flagAck == 0 {
		c.controlLocked(header{kind: framePing, flags: flagAck}, p)
		return c.floodLocked()
	}
	switch string(p) {
	case string(pingAlive):
		c.pinging = false
	case string(pingBDP):
		c.bdpAckLocked()
	case string(pingDrain):
		c.finalGoAwayLocked()
	}
	return nil
}

// window takes WINDOW_UPDATE.
func (c *conn) window(h header, p []byte) error {
	if len(p) != 4 {
		return connError(codeFrameSize, "WINDOW_UPDATE of wrong size")
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	if h.stream == 0 {
		if n == 0 {
			return connError(codeProtocol, "WINDOW_UPDATE of nothing")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.sendWin += n; c.sendWin > maxWindow {
			return connError(codeFlow, "window overflow")
		}
		c.nextTurnLocked()
		return nil
	}
	c.mu.Lock()
	s := c.streams[h.stream]
	if s == nil {
		idle := c.idleLocked(h.stream)
		c.mu.Unlock()
		if idle {
			return connError(codeProtocol, "WINDOW_UPDATE on an idle stream")
		}
		return nil
	}
	if n > 0 {
		s.sendWin += n
		s.send.Signal()
	}
	over := s.sendWin > maxWindow
	c.mu.Unlock()
	switch {
	case n == 0:
		return c.streamError(h.stream, codeProtocol, "WINDOW_UPDATE of nothing")
	case over:
		return c.streamError(h.stream, codeFlow, "window overflow")
	}
	return nil
}

// goAway takes GOAWAY.
func (c *conn) goAway(h header, p []byte) error {
	if h.stream != 0 {
		return connError(codeProtocol, "GOAWAY on a stream")
	}
	if len(p) < 8 {
		return connError(codeFrameSize, "GOAWAY of wrong size")
	}
	last, code := binary.BigEndian.Uint32(p)&maxWindow, binary.BigEndian.Uint32(p[4:])
	c.mu.Lock()
	if c.server {
		c.mu.Unlock()
		return nil // we open no streams; the client will close
	}
	c.goingAway = true
	var err error = &ConnError{Code: code, Remote: true, Text: string(p[8:min(len(p), 8+128)])}
	for id, s := range c.streams {
		if id > last {
			if s.err == nil {
				s.err = err
			}
			s.refused, s.reset = true, true
			s.wakeAll()
		}
	}
	c.freeSlotsLocked(len(c.slots))
	if len(c.streams) == 0 {
		c.stopLocked()
	}
	tell := c.leavingLocked()
	c.mu.Unlock()
	if tell {
		c.o.Draining()
	}
	return nil
}
