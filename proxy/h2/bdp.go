package h2

import (
	"encoding/binary"
	"time"
)

// bdp estimates the bandwidth-delay product of a connection, if its windows are
// adaptive: how much arrives between a PING and its answer is what a window has
// to hold, or the sender stands still for a part of each round trip. It is
// guarded by the connection's lock.
type bdp struct {
	asked  bool // a PING is out
	at     time.Time
	bytes  uint32        // received since
	rtt    time.Duration // smallest so far
	paused time.Time     // no PING before
	wait   time.Duration // grows while the estimate is stable
}

const (
	// maxAdaptive bounds the windows, and with them the memory of a stream.
	maxAdaptive = 16 << 20
	bdpWait     = 100 * time.Millisecond
	bdpMaxWait  = 10 * time.Second
)

// bdpDataLocked counts received data and asks how long a round trip takes.
func (c *conn) bdpDataLocked(n int) {
	b := &c.bdp
	if b.asked {
		b.bytes += uint32(n)
		return
	}
	now := time.Now()
	if now.Before(b.paused) {
		return
	}
	b.asked, b.at, b.bytes = true, now, uint32(n)
	c.controlLocked(header{kind: framePing}, pingBDP)
}

// bdpAckLocked draws the conclusions from an answer.
func (c *conn) bdpAckLocked() {
	b := &c.bdp
	if !b.asked {
		return
	}
	b.asked = false
	rtt := time.Since(b.at)
	if b.rtt == 0 || rtt < b.rtt {
		b.rtt = rtt
	}
	if b.bytes < c.streamWin/3*2 || c.streamWin >= maxAdaptive {
		// The window is not what holds the sender up.
		b.wait = min(max(2*b.wait, bdpWait), bdpMaxWait)
		b.paused = time.Now().Add(b.wait)
		return
	}
	b.wait = 0
	c.setWindowsLocked(min(2*b.bytes, maxAdaptive))
}

// setWindowsLocked raises the windows of all streams and of the connection to at
// least n.
func (c *conn) setWindowsLocked(n uint32) {
	if n <= c.streamWin {
		return
	}
	delta := int64(n) - int64(max(c.streamWin, defaultWindow))
	c.streamWin = n
	p := binary.BigEndian.AppendUint16(nil, settingWindow)
	p = binary.BigEndian.AppendUint32(p, n)
	c.controlLocked(header{kind: frameSettings}, p)
	if delta > 0 {
		for _, s := range c.streams {
			s.recvWin += delta
		}
	}
	if n > c.connWin {
		more := n - c.connWin
		c.connWin = n
		c.recvWin += int64(more)
		c.windowUpdateLocked(0, more)
	}
}
