package overload

import (
	"net"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// Pace gives a client's connection from which is read slowly while memory is
// critical, so that what clients send waits with them. Without a guard it is c
// itself.
func (g *Guard) Pace(c net.Conn) net.Conn {
	if g == nil {
		return c
	}
	return &paced{Conn: c, g: g}
}

// longestPause is how long a single read is held back: the connection may be
// closed, or come upon its deadline, and its reader has to see that.
const longestPause = 50 * time.Millisecond

// pause waits while memory is critical, but not for long.
func (g *Guard) pause(s *Standing) {
	if level(g.level.Load()) < critical || g.excuses(s) {
		return
	}
	calm := g.critical()
	if calm == nil {
		return
	}
	t := time.NewTimer(longestPause)
	defer t.Stop()
	select {
	case <-calm:
	case <-t.C:
	}
}

// paced is a connection that is read from slowly.
type paced struct {
	net.Conn
	g        *Guard
	standing Standing
}

var (
	_ netx.LazyReader = (*paced)(nil)
	_ netx.Pacer      = (*paced)(nil)
)

// NetConn gives what is below.
func (p *paced) NetConn() net.Conn { return p.Conn }

// Plain says that bytes pass unchanged.
func (p *paced) Plain() net.Conn { return p.Conn }

// Pause waits while memory is critical.
func (p *paced) Pause() { p.g.pause(&p.standing) }

// Read implements net.Conn.
func (p *paced) Read(b []byte) (int, error) {
	p.Pause()
	return p.Conn.Read(b)
}

// ReadLazy waits without a buffer.
func (p *paced) ReadLazy(n int) (*buf.Buffer, int, error) {
	p.Pause()
	return netx.ReadLazy(p.Conn, n)
}

// CloseWrite is half-close.
func (p *paced) CloseWrite() error { return netx.CloseWrite(p.Conn) }
