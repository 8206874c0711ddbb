package meshtls

import (
	"crypto/tls"
	"net"
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Conn is a TLS connection whose long writes leave in few system calls: the
// library makes one for each record of 16 KiB, and below each of them is a walk
// through the whole of TCP. Its methods are those of *tls.Conn.
type Conn struct {
	*tls.Conn
	under *gather
}

// Server is tls.Server.
func Server(c net.Conn, cfg *tls.Config) *Conn {
	g := &gather{Conn: c}
	return &Conn{tls.Server(g, cfg), g}
}

// Client is tls.Client.
func Client(c net.Conn, cfg *tls.Config) *Conn {
	g := &gather{Conn: c}
	return &Conn{tls.Client(g, cfg), g}
}

// maxRecord is how much the library puts into a record.
const maxRecord = 16 << 10

// Write implements net.Conn. After an error it is not known how much was sent.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) <= maxRecord {
		return c.Conn.Write(p)
	}
	c.under.begin()
	n, err := c.Conn.Write(p)
	if ferr := c.under.end(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// gathered is the size of the buffer that records are gathered in. It holds the four
// that 64 KiB take, and the small one of a frame's head beside them; the next leaves
// with them from where it is, so that a slow peer holds no more memory than it must.
const gathered = 68 << 10

// buffers are those to gather in, of a size that package buf does not have.
var buffers = sync.Pool{New: func() any { return new([gathered]byte) }}

// gather is the connection below TLS. Between begin and end it keeps what is
// written.
type gather struct {
	net.Conn
	// mu guards the rest. It is held while writing, so that records, which
	// may also come from a reading goroutine that answers an alert, leave in
	// the order in which they were encrypted.
	mu sync.Mutex
	// long is how many writes have begun and not ended.
	long int
	b    *[gathered]byte // nil while nothing is gathered
	n    int
}

// NetConn returns the connection below.
func (g *gather) NetConn() net.Conn { return g.Conn }

func (g *gather) begin() {
	g.mu.Lock()
	g.long++
	g.mu.Unlock()
}

func (g *gather) end() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.long--
	err := g.flushLocked()
	if g.b != nil && g.long == 0 {
		buffers.Put(g.b)
		g.b = nil
	}
	return err
}

// Write implements net.Conn.
func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.long == 0 {
		return g.Conn.Write(p)
	}
	if g.b == nil {
		g.b = buffers.Get().(*[gathered]byte)
	}
	if g.n+len(p) > len(g.b) {
		return g.bothLocked(p)
	}
	g.n += copy(g.b[g.n:], p)
	return len(p), nil
}

// bothLocked writes what is gathered and p.
func (g *gather) bothLocked(p []byte) (int, error) {
	had := g.n
	n, ok, err := netx.WriteBoth(g.Conn, g.b[:had], p)
	if !ok {
		if err := g.flushLocked(); err != nil {
			return 0, err
		}
		return g.Conn.Write(p)
	}
	g.n = 0
	return max(n-had, 0), err
}

func (g *gather) flushLocked() error {
	if g.n == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.b[:g.n])
	g.n = 0
	return err
}
