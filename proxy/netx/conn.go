package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

// LazyReader is a connection that can wait for data without holding a buffer.
// Most connections of a proxy are idle most of the time, and a buffer for each
// would be the larger part of its memory.
type LazyReader interface {
	// ReadLazy waits until there is something to read, then takes a buffer
	// of at least n bytes and reads into it once. The buffer is nil if
	// nothing was read.
	ReadLazy(n int) (b *buf.Buffer, read int, err error)
}

// ReadLazy reads from c as LazyReader says, or, if c cannot do that, with a
// buffer that is held while waiting.
func ReadLazy(c net.Conn, n int) (*buf.Buffer, int, error) {
	// Wrappers that only look on are gone through here, and not by each calling
	// the one below: nearly all connections wait in this function nearly all of
	// the time, and what lies below them on their stack is their memory.
	for below := c; ; {
		switch t := below.(type) {
		case *TCP:
			b, read, err := t.ReadLazy(n)
			told(c, read, err)
			return b, read, err
		case *Counting:
			below = t.Conn
			continue
		case *Prefix:
			if len(t.Buffered()) == 0 {
				below = t.Conn
				continue
			}
		case Onlooker:
			below = t.Plain()
			continue
		case Pacer:
			t.Pause()
			below = t.Plain()
			continue
		}
		break
	}
	if l, ok := c.(LazyReader); ok {
		return l.ReadLazy(n)
	}
	return readEager(c, n)
}

// told tells the wrappers of a socket what was read from it.
func told(c net.Conn, read int, err error) {
	for {
		switch t := c.(type) {
		case *Counting:
			if read > 0 {
				t.to.AddRead(read)
			}
			c = t.Conn
		case *Prefix:
			c = t.Conn
		case Onlooker:
			if err != nil {
				t.Note(err)
			}
			c = t.Plain()
		case Pacer:
			c = t.Plain()
		default:
			return
		}
	}
}

// An Onlooker is a connection that does nothing to the bytes of the one below,
// nor to when they are read, but wants to know how reading and writing fail.
type Onlooker interface {
	// Plain is the connection below.
	Plain() net.Conn
	// Note is told of an error of reading, or of writing past it.
	Note(err error)
}

// A Pacer is a connection that holds back reading and does nothing else.
type Pacer interface {
	// Plain is the connection below.
	Plain() net.Conn
	// Pause is called before reading.
	Pause()
}

// readEager is ReadLazy for connections that cannot wait without a buffer.
func readEager(c net.Conn, n int) (*buf.Buffer, int, error) {
	b := buf.Get(n)
	read, err := c.Read(b.B)
	if read == 0 {
		b.Free()
		b = nil
	}
	return b, read, err
}

// Unwrap returns the connection that c wraps, or nil.
func Unwrap(c net.Conn) net.Conn {
	if w, ok := c.(interface{ NetConn() net.Conn }); ok {
		return w.NetConn()
	}
	return nil
}

// CloseWrite says to the peer that nothing more will be written: FIN for TCP,
// close_notify for TLS. Connections that cannot do it are closed.
func CloseWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Close()
}

// TCP is a TCP connection that reads lazily. It is made by Listener and Dialer.
// It does its own system calls; see sysRead. While it waits for long its socket may
// be in a Lot.
type TCP struct {
	local, remote net.Addr
	// mu guards where the socket is, which Lot and Close change: with the runtime's
	// poller, as polled, or in a lot, as number fd, and then wake is to be told. Of
	// a lot it is the inner lock.
	mu     sync.Mutex
	polled polled // nil in a lot, and once closed there
	lot    *Lot
	fd     int
	wake   Waker
	closed bool
	// raw is polled's. It changes while nobody reads or writes, and whoever does
	// so next is started by what changed it.
	raw syscall.RawConn
	// want, dst, got, n and err are the parameters and results of lazy and
	// read, which are method values kept in lazyFn and readFn because a
	// closure per call would be garbage. Only the reading goroutine uses them.
	want           int
	dst            []byte
	got            *buf.Buffer
	n              int
	err            syscall.Errno
	lazyFn, readFn func(fd uintptr) bool

	// wmu guards the same for writing: src is what is left of the pieces,
	// written how much has gone.
	wmu     sync.Mutex
	src     [2][]byte
	iov     [2]syscall.Iovec
	written int
	werr    syscall.Errno
	writeFn func(fd uintptr) bool
}

var _ LazyReader = (*TCP)(nil)

// polled is a socket that the runtime's poller waits for: a *net.TCPConn, or, if it
// was in a lot, an *os.File.
type polled interface {
	SyscallConn() (syscall.RawConn, error)
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
	Close() error
}

// NewTCP wraps c, and owns it from now on.
func NewTCP(c *net.TCPConn) *TCP {
	t := &TCP{local: c.LocalAddr(), remote: c.RemoteAddr(), polled: c}
	t.raw, _ = c.SyscallConn()
	t.lazyFn, t.readFn, t.writeFn = t.lazy, t.read, t.write
	return t
}

// LocalAddr implements net.Conn.
func (t *TCP) LocalAddr() net.Addr { return t.local }

// RemoteAddr implements net.Conn.
func (t *TCP) RemoteAddr() net.Addr { return t.remote }

// failed is an error as the standard library makes it.
func (t *TCP) failed(op string, err error) error {
	var o *net.OpError
	if errors.As(err, &o) {
		// The deadline passed, or the connection was closed.
		o.Op = op
		return o
	}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		err = os.NewSyscallError(op, err)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		// An *os.File has an error of its own for this.
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: "tcp", Source: t.local, Addr: t.remote, Err: err}
}

// Close implements net.Conn. Who waits for the connection, in a lot too, goes on.
func (t *TCP) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return t.failed("close", net.ErrClosed)
	}
	t.closed = true
	polled, wake := t.polled, t.wake
	if t.lot != nil {
		t.lot.abandon(t)
		t.leave()
	}
	t.mu.Unlock()
	if polled == nil {
		wake.Wake()
		return nil
	}
	// It waits for readers and writers to go, who need not have the lock for that.
	return polled.Close()
}

// SetDeadline implements net.Conn.
func (t *TCP) SetDeadline(at time.Time) error { return t.deadline(polled.SetDeadline, at) }

// SetReadDeadline implements net.Conn.
func (t *TCP) SetReadDeadline(at time.Time) error { return t.deadline(polled.SetReadDeadline, at) }

// SetWriteDeadline implements net.Conn.
func (t *TCP) SetWriteDeadline(at time.Time) error { return t.deadline(polled.SetWriteDeadline, at) }

// deadline sets one. They are forgotten in a lot, where nobody reads or writes.
func (t *TCP) deadline(set func(polled, time.Time) error, at time.Time) error {
	t.mu.Lock()
	p := t.polled
	t.mu.Unlock()
	if p == nil {
		return t.failed("set", net.ErrClosed)
	}
	if err := set(p, at); err != nil {
		return t.failed("set", err)
	}
	return nil
}

// control calls f with the socket, wherever it is. f must not block.
func (t *TCP) control(f func(fd uintptr)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lot != nil {
		f(uintptr(t.fd))
		return nil
	}
	// By way of t.raw the compiler does not see that f may be on the stack.
	switch p := t.polled.(type) {
	case *net.TCPConn:
		return standard{p}.control(f)
	case *os.File:
		raw, err := p.SyscallConn()
		if err != nil {
			return err
		}
		return raw.Control(f)
	}
	return net.ErrClosed
}

// reading is for whoever reads past Read.
func (t *TCP) reading() (syscall.RawConn, error) { return t.raw, nil }

// CloseWrite says that nothing more will be written.
func (t *TCP) CloseWrite() error {
	var serr error
	if err := t.control(func(fd uintptr) { serr = unix.Shutdown(int(fd), unix.SHUT_WR) }); err != nil {
		return t.failed("close", err)
	}
	if serr != nil {
		return t.failed("shutdown", serr)
	}
	return nil
}

// SetLinger is that of *net.TCPConn.
func (t *TCP) SetLinger(seconds int) error {
	var serr error
	err := t.control(func(fd uintptr) {
		l := unix.Linger{Onoff: 1, Linger: int32(seconds)}
		if seconds < 0 {
			l = unix.Linger{}
		}
		serr = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &l)
	})
	if err = errors.Join(err, serr); err != nil {
		return t.failed("set", err)
	}
	return nil
}

// ReadLazy implements LazyReader.
func (t *TCP) ReadLazy(n int) (*buf.Buffer, int, error) {
	t.want, t.got, t.n, t.err = n, nil, 0, 0
	err := t.raw.Read(t.lazyFn)
	b := t.got
	t.got = nil
	if err = t.outcome(err); err != nil {
		b.Free()
		return nil, 0, err
	}
	return b, t.n, nil
}

// Read implements net.Conn.
func (t *TCP) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	t.dst, t.n, t.err = p, 0, 0
	err := t.raw.Read(t.readFn)
	t.dst = nil
	if err = t.outcome(err); err != nil {
		return 0, err
	}
	return t.n, nil
}

// outcome is the error of a read; err is that of waiting for it.
func (t *TCP) outcome(err error) error {
	switch {
	case err != nil:
		return t.failed("read", err)
	case t.err != 0:
		return t.failed("read", t.err)
	case t.n == 0:
		return io.EOF
	}
	return nil
}

// lazy is called by the runtime's poller when the socket may be readable.
func (t *TCP) lazy(fd uintptr) bool {
	b := buf.Get(t.want)
	t.dst = b.B
	done := t.read(fd)
	t.dst = nil
	if !done || t.err != 0 {
		b.Free()
		return done
	}
	t.got = b
	return true
}

// read likewise.
func (t *TCP) read(fd uintptr) bool {
	for {
		switch n, e := sysRead(fd, t.dst); e {
		case 0:
			t.n = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.err = e
			return true
		}
	}
}

// Write implements net.Conn.
func (t *TCP) Write(p []byte) (int, error) { return t.WriteBoth(p, nil) }

// WriteBoth writes first, then second, if possible with one system call.
func (t *TCP) WriteBoth(first, second []byte) (int, error) {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	t.src, t.written, t.werr = [2][]byte{first, second}, 0, 0
	err := t.raw.Write(t.writeFn)
	t.src = [2][]byte{}
	switch {
	case err != nil:
		err = t.failed("write", err)
	case t.werr != 0:
		err = t.failed("write", t.werr)
	}
	return t.written, err
}

// write is called by the runtime's poller when the socket may be writable.
func (t *TCP) write(fd uintptr) bool {
	for {
		a, b := t.src[0], t.src[1]
		var n int
		var e syscall.Errno
		switch {
		case len(a) > 0 && len(b) > 0:
			t.iov[0].Base, t.iov[1].Base = &a[0], &b[0]
			t.iov[0].SetLen(len(a))
			t.iov[1].SetLen(len(b))
			n, e = sysWritev(fd, t.iov[:])
			t.iov = [2]syscall.Iovec{}
		case len(a) > 0:
			n, e = sysWrite(fd, a)
		case len(b) > 0:
			n, e = sysWrite(fd, b)
		default:
			return true
		}
		switch e {
		case 0:
			t.written += n
			m := min(n, len(a))
			t.src = [2][]byte{a[m:], b[n-m:]}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			t.werr = e
			return true
		}
	}
}

// Counters receives the bytes of a connection as they are read and written.
// Both functions are called from the goroutines that do the I/O.
type Counters interface {
	AddRead(n int)
	AddWritten(n int)
}

// Bytes is Counters over two numbers.
type Bytes struct{ Read, Written atomic.Uint64 }

// AddRead implements Counters.
func (b *Bytes) AddRead(n int) { b.Read.Add(uint64(n)) }

// AddWritten implements Counters.
func (b *Bytes) AddWritten(n int) { b.Written.Add(uint64(n)) }

// Counting is a connection whose bytes are counted live.
type Counting struct {
	net.Conn
	to Counters
}

// Count makes c tell its bytes to to.
func Count(c net.Conn, to Counters) *Counting { return &Counting{c, to} }

// NetConn returns what is wrapped. Whoever does I/O on it directly calls
// Counters with what was moved.
func (c *Counting) NetConn() net.Conn { return c.Conn }

// Counters returns where the bytes are counted.
func (c *Counting) Counters() Counters { return c.to }

// Read implements net.Conn.
func (c *Counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.to.AddRead(n)
	}
	return n, err
}

// ReadLazy implements LazyReader.
func (c *Counting) ReadLazy(want int) (*buf.Buffer, int, error) {
	b, n, err := ReadLazy(c.Conn, want)
	if n > 0 {
		c.to.AddRead(n)
	}
	return b, n, err
}

// Write implements net.Conn.
func (c *Counting) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.to.AddWritten(n)
	}
	return n, err
}

// CloseWrite implements half-close.
func (c *Counting) CloseWrite() error { return CloseWrite(c.Conn) }

// Prefix is a connection in front of which bytes were put back.
type Prefix struct {
	net.Conn
	// b, if not nil, holds the bytes put back at [r:w]; data is used
	// instead if they are not in a lent buffer. Only the reading goroutine
	// uses them.
	b    *buf.Buffer
	r, w int
	data []byte
}

// WithPrefix returns a connection that reads data first. data is not copied
// and has to stay unchanged. If there is none, c itself is returned.
func WithPrefix(c net.Conn, data []byte) net.Conn {
	if len(data) == 0 {
		return c
	}
	return &Prefix{Conn: c, data: data}
}

// WithBuffer is WithPrefix for b.B[r:w], a lent buffer that the connection
// owns from now on: it is freed when it was read or at Close, or given to
// whoever calls ReadLazy. If nothing is in it, it is freed and c is returned.
func WithBuffer(c net.Conn, b *buf.Buffer, r, w int) net.Conn {
	if r == w {
		b.Free()
		return c
	}
	return &Prefix{Conn: c, b: b, r: r, w: w}
}

// NetConn returns what is wrapped once the prefix was read, else nil: to go
// past this type would lose bytes.
func (p *Prefix) NetConn() net.Conn {
	if p.b != nil || len(p.data) > 0 {
		return nil
	}
	return p.Conn
}

// Buffered returns the bytes that were put back and not read yet.
func (p *Prefix) Buffered() []byte {
	if p.b != nil {
		return p.b.B[p.r:p.w]
	}
	return p.data
}

// Read implements net.Conn.
func (p *Prefix) Read(dst []byte) (int, error) {
	if p.b != nil {
		n := copy(dst, p.b.B[p.r:p.w])
		p.r += n
		if p.r == p.w {
			p.b.Free()
			p.b = nil
		}
		return n, nil
	}
	if len(p.data) > 0 {
		n := copy(dst, p.data)
		p.data = p.data[n:]
		if len(p.data) == 0 {
			p.data = nil
		}
		return n, nil
	}
	return p.Conn.Read(dst)
}

// ReadLazy implements LazyReader. A lent buffer that starts at its beginning
// and has the wanted size changes hands without being copied.
func (p *Prefix) ReadLazy(n int) (*buf.Buffer, int, error) {
	if b := p.b; b != nil && p.r == 0 && len(b.B) >= n {
		p.b = nil
		return b, p.w, nil
	}
	if have := len(p.Buffered()); have > 0 {
		b := buf.Get(n)
		n, err := p.Read(b.B)
		return b, n, err
	}
	return ReadLazy(p.Conn, n)
}

// CloseWrite implements half-close.
func (p *Prefix) CloseWrite() error { return CloseWrite(p.Conn) }

// Close implements net.Conn. Bytes put back in a lent buffer that nobody read
// are left to the garbage collector, since a reader may still hold them.
func (p *Prefix) Close() error { return p.Conn.Close() }

// ErrPeek says that a connection cannot be looked into without reading.
var ErrPeek = errors.New("connection cannot be peeked")

// Peek copies the bytes that wait to be read into dst, up to its length,
// without consuming them, and waits for the first if there are none. It
// returns 0 and io.EOF at the end of the stream, and ErrPeek for connections
// that are not plain TCP. The read deadline applies.
func Peek(c net.Conn, dst []byte) (int, error) {
	if p, ok := c.(*Prefix); ok {
		if b := p.Buffered(); len(b) > 0 {
			return copy(dst, b), nil
		}
	}
	s := plainSocket(c)
	if s == nil {
		return 0, ErrPeek
	}
	raw, err := s.reading()
	if err != nil {
		return 0, err
	}
	var n int
	var serr error
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, serr = syscall.Recvfrom(int(fd), dst, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if serr != syscall.EINTR {
				break
			}
		}
		return serr != syscall.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case serr != nil:
		return 0, &net.OpError{Op: "peek", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: serr}
	case n == 0 && len(dst) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// A socket is one of the kernel, of ours or of the standard library.
type socket interface {
	LocalAddr() net.Addr
	SetLinger(seconds int) error
	// reading is for the goroutine that reads.
	reading() (syscall.RawConn, error)
}

// control calls f with the number of a socket. f must not block.
func control(s socket, f func(fd uintptr)) error {
	switch s := s.(type) {
	case *TCP:
		return s.control(f)
	case standard:
		return s.control(f)
	}
	return net.ErrClosed
}

// standard is a socket of the standard library.
type standard struct{ *net.TCPConn }

func (s standard) reading() (syscall.RawConn, error) { return s.SyscallConn() }

func (s standard) control(f func(fd uintptr)) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(f)
}

// plainSocket finds the TCP socket below plain wrappers, nil if there is none or
// something in between changes the bytes.
func plainSocket(c net.Conn) socket {
	for c != nil {
		switch t := c.(type) {
		case *net.TCPConn:
			return standard{t}
		case *TCP:
			return t
		case *Counting:
			c = t.Conn
		case *Prefix:
			c = t.NetConn()
		case interface{ Plain() net.Conn }:
			c = t.Plain()
		default:
			return nil
		}
	}
	return nil
}

// WriteBoth writes first, then second, with one system call. ok is false, and
// nothing was done, if what is written to c does not go unchanged to a TCP socket
// of ours.
func WriteBoth(c net.Conn, first, second []byte) (n int, ok bool, err error) {
	for below := c; below != nil; {
		switch t := below.(type) {
		case *TCP:
			n, err = t.WriteBoth(first, second)
			wrote(c, n, err)
			return n, true, err
		case *Counting:
			below = t.Conn
		case *Prefix:
			below = t.Conn
		case interface{ Plain() net.Conn }:
			below = t.Plain()
		default:
			return 0, false, nil
		}
	}
	return 0, false, nil
}

// wrote tells the wrappers of a socket what was written to it.
func wrote(c net.Conn, n int, err error) {
	for {
		switch t := c.(type) {
		case *Counting:
			if n > 0 {
				t.to.AddWritten(n)
			}
			c = t.Conn
		case *Prefix:
			c = t.Conn
		case Onlooker:
			if err != nil {
				t.Note(err)
			}
			c = t.Plain()
		case interface{ Plain() net.Conn }:
			c = t.Plain()
		default:
			return
		}
	}
}

// Alive looks at an idle connection: it reports false if the peer has closed
// or reset it or sent something. It does not block. Connections whose socket
// cannot be found are taken as alive.
func Alive(c net.Conn) bool {
	s := socketBelow(c)
	if s == nil {
		return true
	}
	alive := false
	err := control(s, func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN || err == syscall.EINTR
	})
	return err == nil && alive
}

// HungUp reports whether the peer has closed or reset the connection, at least
// its sending half, even if data is still to be read. It does not block.
// Connections whose socket cannot be found are taken as connected.
func HungUp(c net.Conn) bool {
	s := socketBelow(c)
	if s == nil {
		return false
	}
	hungUp := false
	err := control(s, func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		hungUp = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err != nil || hungUp
}

// socketBelow finds the socket below any wrappers.
func socketBelow(c net.Conn) socket {
	for c != nil {
		switch t := c.(type) {
		case *net.TCPConn:
			return standard{t}
		case *TCP:
			return t
		}
		c = Unwrap(c)
	}
	return nil
}
