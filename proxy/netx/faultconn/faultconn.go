// Package faultconn wraps connections for tests and makes them misbehave as
// networks and peers do: in pieces, late, cut short, reset.
//
//	c := faultconn.New(conn)
//	c.Fragment(1, 7)                       // byte by byte in, seven at a time out
//	c.CutRead(100, faultconn.Reset)        // after 100 bytes read
//	c.Stall()                              // nothing moves until Resume or a deadline
//
// It imitates what a socket would say (EOF, ECONNRESET, EPIPE), so that code
// which looks at errors sees the real ones. All methods are safe for concurrent
// use.
package faultconn

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Fault is how a connection ends.
type Fault int

// The ways to end.
const (
	// EOF: reads see the end of the stream, writes a broken pipe.
	EOF Fault = iota
	// Reset: reads and writes see ECONNRESET.
	Reset
)

func (f Fault) read() error {
	if f == Reset {
		return &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	}
	return io.EOF
}

func (f Fault) write() error {
	e := syscall.EPIPE
	if f == Reset {
		e = syscall.ECONNRESET
	}
	return &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", e)}
}

// Conn is a connection with faults.
type Conn struct {
	net.Conn

	// mu guards the rest.
	mu                   sync.Mutex
	readSize, writeSize  int   // largest piece, 0 for any
	readLeft, writeLeft  int64 // until the cut, -1 for never
	readFault, writeEnds Fault
	stalled              chan struct{} // not nil while stalled; closed by Resume
	closed               chan struct{}
	once                 sync.Once
	readBy, writeBy      time.Time
}

var _ net.Conn = (*Conn)(nil)

// New wraps c, without faults at first.
func New(c net.Conn) *Conn {
	return &Conn{Conn: c, readLeft: -1, writeLeft: -1, closed: make(chan struct{})}
}

// Fragment makes reads return at most read bytes and writes reach the peer in
// pieces of at most write bytes; 0 is no limit.
func (c *Conn) Fragment(read, write int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readSize, c.writeSize = read, write
}

// CutRead ends the connection after n more bytes were read.
func (c *Conn) CutRead(n int64, f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readLeft, c.readFault = n, f
}

// CutWrite ends the connection after n more bytes were written.
func (c *Conn) CutWrite(n int64, f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLeft, c.writeEnds = n, f
}

// Stall stops both directions until Resume, Close or a deadline.
func (c *Conn) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled == nil {
		c.stalled = make(chan struct{})
	}
}

// Resume ends a stall.
func (c *Conn) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled != nil {
		close(c.stalled)
		c.stalled = nil
	}
}

// wait blocks while stalled.
func (c *Conn) wait(deadline func() time.Time) error {
	for {
		c.mu.Lock()
		s, by := c.stalled, deadline()
		c.mu.Unlock()
		if s == nil {
			return nil
		}
		var expired <-chan time.Time
		// Deadlines may be set while waiting, so they are looked at often.
		tick := time.NewTimer(10 * time.Millisecond)
		if !by.IsZero() {
			if !time.Now().Before(by) {
				tick.Stop()
				return os.ErrDeadlineExceeded
			}
		}
		expired = tick.C
		select {
		case <-s:
		case <-c.closed:
			tick.Stop()
			return net.ErrClosed
		case <-expired:
		}
		tick.Stop()
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.wait(func() time.Time { return c.readBy }); err != nil {
		return 0, err
	}
	c.mu.Lock()
	if c.readSize > 0 && len(p) > c.readSize {
		p = p[:c.readSize]
	}
	if c.readLeft >= 0 && int64(len(p)) > c.readLeft {
		p = p[:c.readLeft]
	}
	cut, f := c.readLeft == 0, c.readFault
	c.mu.Unlock()
	if cut {
		c.Conn.Close()
		return 0, f.read()
	}
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	if c.readLeft > 0 {
		c.readLeft -= int64(n)
	}
	c.mu.Unlock()
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := c.wait(func() time.Time { return c.writeBy }); err != nil {
			return written, err
		}
		c.mu.Lock()
		piece := p
		if c.writeSize > 0 && len(piece) > c.writeSize {
			piece = piece[:c.writeSize]
		}
		if c.writeLeft >= 0 && int64(len(piece)) > c.writeLeft {
			piece = piece[:c.writeLeft]
		}
		cut, f := c.writeLeft == 0, c.writeEnds
		c.mu.Unlock()
		if cut && len(p) > 0 {
			c.Conn.Close()
			return written, f.write()
		}
		n, err := c.Conn.Write(piece)
		written += n
		p = p[n:]
		c.mu.Lock()
		if c.writeLeft > 0 {
			c.writeLeft -= int64(n)
		}
		c.mu.Unlock()
		if err != nil || len(p) == 0 {
			return written, err
		}
	}
}

// CloseWrite implements half-close.
func (c *Conn) CloseWrite() error { return netx.CloseWrite(c.Conn) }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	c.readBy, c.writeBy = t, t
	c.mu.Unlock()
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readBy = t
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.writeBy = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}
