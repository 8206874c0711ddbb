// Package transport counts connections: when they open, their bytes as they
// pass, and how they end (proxy chapter, section 23.5).
//
//	conn = transport.Count(conn, set.Transport(labels))
//	defer conn.Close()
//
// The connection that is returned is used as the one that was given.
package transport

import (
	"errors"
	"net"
	"os"
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// Count counts c as opened, its bytes as they pass, and it as closed with the
// first error of the operating system that its use came upon.
func Count(c net.Conn, t *series.Transport) net.Conn {
	t.Open()
	return netx.Count(&conn{Conn: c, t: t}, t)
}

// CountOwn is Count with a handle of the connection's own, which is released
// when the connection is closed.
func CountOwn(c net.Conn, t *series.Transport) net.Conn {
	t.Open()
	return netx.Count(&conn{Conn: c, t: t, own: true}, t)
}

// Failed notes why a counted connection failed, for whoever did I/O past it.
// It has no effect on others.
func Failed(c net.Conn, err error) {
	for c != nil {
		if t, ok := c.(*conn); ok {
			t.Note(err)
			return
		}
		if n, ok := c.(*netx.Counting); ok {
			c = n.Conn
			continue
		}
		c = netx.Unwrap(c)
	}
}

// conn remembers how a connection failed until it is closed.
type conn struct {
	net.Conn
	t   *series.Transport
	own bool
	mu  sync.Mutex
	// failed and closed are guarded by mu.
	failed error
	closed bool
}

var (
	_ netx.LazyReader = (*conn)(nil)
	_ netx.Onlooker   = (*conn)(nil)
)

// NetConn gives what is below.
func (c *conn) NetConn() net.Conn { return c.Conn }

// Plain says that bytes pass unchanged.
func (c *conn) Plain() net.Conn { return c.Conn }

// Note remembers an error.
func (c *conn) Note(err error) {
	if err == nil || netx.IsClosed(err) || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed == nil {
		c.failed = err
	}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.Note(err)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.Note(err)
	}
	return n, err
}

// ReadLazy waits without a buffer.
func (c *conn) ReadLazy(n int) (*buf.Buffer, int, error) {
	b, read, err := netx.ReadLazy(c.Conn, n)
	if err != nil {
		c.Note(err)
	}
	return b, read, err
}

// CloseWrite is half-close.
func (c *conn) CloseWrite() error {
	err := netx.CloseWrite(c.Conn)
	if err != nil {
		c.Note(err)
	}
	return err
}

// Close closes and, the first time, counts.
func (c *conn) Close() error {
	c.mu.Lock()
	first, failed := !c.closed, c.failed
	c.closed = true
	c.mu.Unlock()
	err := c.Conn.Close()
	if first {
		c.t.Closed(netx.Errno(failed))
		if c.own {
			c.t.Release()
		}
	}
	return err
}
