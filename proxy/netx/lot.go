package netx

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Lot is where connections wait that are not expected to have anything to say
// soon:
//
//	var lot netx.Lot
//	defer lot.Close()
//	...
//	if !lot.Park(conn, waker) {
//		go serve(conn) // it cannot, and waits as others do
//	}
//
// Nobody reads them there, so each of them needs no goroutine. The runtime's poller
// does not know them either. What it, and the scheduler, have for a connection is 3
// KB, of which 1 KB is never given back: that is what is left behind by a burst of
// connections otherwise. Waiting there costs about ten system calls more than
// waiting in a read, so that it is for those who wait long.
//
// The zero value is a lot. Its methods may be called from any goroutine.
type Lot struct {
	// mu guards the rest. It is taken by those who have the lock of a connection,
	// and nobody who has it takes one.
	mu sync.Mutex
	// epoll is the kernel's poller of the sockets here, for which the runtime's
	// waits; nil until there was one, and after Close.
	epoll  *os.File
	fd     int
	closed bool
	// done is closed when the goroutine is over that looks for news.
	done chan struct{}
	// pages have the connections by the number of their sockets. A map would keep
	// its size after a burst; pages are given up when they are empty.
	pages []*page
}

// page has the connections of some neighbouring numbers.
type page struct {
	held  int
	conns [pageSize]*TCP
}

const pageSize = 128

// Waker is told, once, that a connection has to be gone on with: there is something
// to read, or its end, or it was closed. Wake must not block.
type Waker interface{ Wake() }

// Park has c wait until there is something to read or it is closed, then w is told,
// on another goroutine. It is false if c cannot wait here: it is not a *TCP below
// wrappers that only look on, bytes of it are held by one of them, or it was closed.
// The caller is the goroutine that reads and writes, which does neither until w was
// told; deadlines are lifted.
func (l *Lot) Park(c net.Conn, w Waker) bool {
	t := waiting(c)
	return t != nil && t.park(l, w)
}

// Parks reports whether c can wait in a Lot. The caller is the goroutine that reads.
func Parks(c net.Conn) bool { return waiting(c) != nil }

// waiting is what is waited for when c is read: a *TCP, or nil.
func waiting(c net.Conn) *TCP {
	for {
		switch t := c.(type) {
		case *TCP:
			return t
		case *Counting:
			c = t.Conn
		case *Prefix:
			if len(t.Buffered()) > 0 {
				return nil
			}
			c = t.Conn
		case Onlooker:
			c = t.Plain()
		case Pacer:
			c = t.Plain()
		default:
			return nil
		}
	}
}

// park moves the socket to the lot.
func (t *TCP) park(l *Lot, w Waker) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	// The runtime gives a socket up only by closing it: another number is needed.
	fd := -1
	err := t.raw.Control(func(was uintptr) {
		if n, err := unix.FcntlInt(was, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			fd = n
		}
	})
	if err != nil || fd < 0 {
		return false
	}
	if !l.enter(t, fd) {
		_ = unix.Close(fd)
		return false
	}
	// Nobody uses it, for that takes the lock: it does not wait for anybody.
	_ = t.polled.Close()
	t.polled, t.raw = nil, closedSocket{}
	t.lot, t.fd, t.wake = l, fd, w
	if l.arm(fd) {
		return true
	}
	l.abandon(t)
	t.unpark()
	return false
}

// unpark gives the socket back to the runtime. The lot has forgotten it.
func (t *TCP) unpark() {
	fd := t.fd
	t.lot.disarm(fd)
	t.lot, t.fd, t.wake = nil, 0, nil
	f := os.NewFile(uintptr(fd), "tcp") // which sees that it does not block
	t.polled = f
	t.raw, _ = f.SyscallConn()
}

// leave is unpark for a connection that is closed.
func (t *TCP) leave() {
	fd := t.fd
	t.lot.disarm(fd)
	t.lot, t.fd, t.wake = nil, 0, nil
	_ = unix.Close(fd)
}

// enter puts a connection down under the number of its socket.
func (l *Lot) enter(t *TCP, fd int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoll == nil && !l.open() {
		return false
	}
	at := fd / pageSize
	for at >= len(l.pages) {
		l.pages = append(l.pages, nil)
	}
	if l.pages[at] == nil {
		l.pages[at] = new(page)
	}
	l.pages[at].held++
	l.pages[at].conns[fd%pageSize] = t
	return true
}

// open makes the poller, and the goroutine that waits for it.
func (l *Lot) open() bool {
	if l.closed {
		return false
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	// It has no calls that block for want of this, but a file that does not block
	// is what the runtime waits for.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return false
	}
	l.epoll, l.fd, l.done = os.NewFile(uintptr(fd), "epoll"), fd, make(chan struct{})
	raw, err := l.epoll.SyscallConn()
	// Only what is polled has deadlines.
	if err = errors.Join(err, l.epoll.SetReadDeadline(time.Time{})); err != nil {
		l.epoll.Close()
		l.epoll = nil
		return false
	}
	go l.run(raw, l.done)
	return true
}

// arm and disarm have the poller wait for a socket, and no more. A lot with
// connections has not been closed.
func (l *Lot) arm(fd int) bool {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(fd)}
	return unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, fd, &e) == nil
}

func (l *Lot) disarm(fd int) { _ = unix.EpollCtl(l.fd, unix.EPOLL_CTL_DEL, fd, nil) }

// abandon forgets a connection, if it is still here.
func (l *Lot) abandon(t *TCP) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at(t.fd) == t {
		l.forget(t.fd)
	}
}

func (l *Lot) at(fd int) *TCP {
	if i := fd / pageSize; i < len(l.pages) && l.pages[i] != nil {
		return l.pages[i].conns[fd%pageSize]
	}
	return nil
}

func (l *Lot) forget(fd int) {
	p := l.pages[fd/pageSize]
	p.conns[fd%pageSize] = nil
	if p.held--; p.held == 0 {
		l.pages[fd/pageSize] = nil
	}
}

// take finds the connection of a socket, and forgets it.
func (l *Lot) take(fd int) *TCP {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.at(fd)
	if t != nil {
		l.forget(fd)
	}
	return t
}

// together is how many connections are woken before others get to run. If thousands
// are closed at once, or ask at once what is answered at once, they come by in waves
// and need no more goroutines than that.
const together = 16

// run wakes connections until the lot is closed.
func (l *Lot) run(raw syscall.RawConn, done chan struct{}) {
	defer close(done)
	var events [together]unix.EpollEvent
	n := 0
	look := func(fd uintptr) bool {
		var err error
		n, err = unix.EpollWait(int(fd), events[:], 0)
		return err == nil && n > 0
	}
	for raw.Read(look) == nil {
		for _, e := range events[:n] {
			l.wake(int(e.Fd))
		}
		runtime.Gosched()
	}
}

// wake has a connection gone on with. It may be another one than there was news of,
// which has the number of one that was closed meanwhile: that one then waits in a
// read.
func (l *Lot) wake(fd int) {
	t := l.take(fd)
	if t == nil {
		return
	}
	t.mu.Lock()
	w := t.wake
	here := t.lot != nil && t.fd == fd
	if here {
		t.unpark()
	}
	t.mu.Unlock()
	if here { // else it was closed since, and whoever waits for it was told
		w.Wake()
	}
}

// Close ends the lot, after all connections have left it.
func (l *Lot) Close() {
	l.mu.Lock()
	l.closed = true
	epoll, done := l.epoll, l.done
	l.epoll = nil
	l.mu.Unlock()
	if epoll != nil {
		epoll.Close()
		<-done
	}
}

// closedSocket is where the socket of a connection in a lot is not.
type closedSocket struct{}

func (closedSocket) Control(func(uintptr)) error    { return net.ErrClosed }
func (closedSocket) Read(func(uintptr) bool) error  { return net.ErrClosed }
func (closedSocket) Write(func(uintptr) bool) error { return net.ErrClosed }

var _ polled = (*os.File)(nil)
