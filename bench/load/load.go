// Package load generates load and measures what comes of it.
//
//	result, err := load.Run(load.Options{Addr: addr, Protocol: load.HTTP1, Conns: 32, ...})
//
// Requests are made by one thread around one epoll, without goroutines or
// timers of the runtime: the generator shares a machine with what it measures,
// so it has to be cheap, and the runtime's timers round to milliseconds, which
// would be the largest part of the latencies. Without a rate the loop is closed
// (each answer starts the next request: saturation); with one it is open:
// requests are due at fixed times, and latency counts from when a request was
// due, not from when a connection was free for it, so that a pause of the
// system is seen by all requests that it would have held up.
//
// Run may be called from any goroutine; it blocks.
package load

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Protocols.
const (
	HTTP1  = "http1"
	GRPC   = "grpc"
	Stream = "grpc-stream"
)

// Options say what load to make.
type Options struct {
	Addr     netip.AddrPort
	Protocol string
	// Conns is how many connections there are; InFlight how many requests
	// each of them has at once at most (always one for HTTP/1); Streams, for
	// Stream only, how many streams each has.
	Conns, InFlight, Streams int
	// Rate is how many requests are due per second, 0 for as many as can be.
	Rate int
	// Warm is not measured; Duration is.
	Warm, Duration time.Duration
	// Body is the size of the request's body or message in bytes.
	Body            int
	Authority, Path string
	// Mark, if not nil, is called when measuring begins and when it ends.
	Mark func() `json:"-"`
}

// Result is what was measured.
type Result struct {
	// Requests were answered within Seconds, with the expected status; All
	// includes those of the time before measuring.
	Requests, All uint64
	Seconds       float64
	// P50, P99 and P999 are latencies in milliseconds.
	P50, P99, P999 float64
	// Late is how many requests were due, but not answered in time.
	Late int
	// Reconnects counts connections that the server closed between requests.
	Reconnects int
}

// codec is one connection's protocol. Slices that are passed in are valid
// during the call only.
type codec interface {
	// start appends what a connection begins with.
	start(out []byte) []byte
	// room is how many requests may begin now.
	room() int
	// begin appends a request; at is when it was due.
	begin(out []byte, at time.Time) []byte
	// read takes what arrived, calls done for each answered request with what
	// begin was given, and appends what is to be sent. errGoAway says that
	// the connection is of no use any more, and not that something failed.
	read(in, out []byte, done func(time.Time)) ([]byte, error)
}

type conn struct {
	fd      int
	codec   codec
	out     []byte
	blocked bool // waiting for the socket to take more
	asked   bool // epoll tells when it does
	ready   bool // in generator.free
}

type generator struct {
	o     *Options
	epoll int
	conns map[int]*conn
	// free are connections with room, the longest unused first.
	free []*conn
	buf  []byte

	measuring bool
	hist      Histogram
	now       time.Time
	done      func(time.Time)
	res       Result
}

// Run makes the load.
func Run(o Options) (_ Result, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The default slack of 50 µs would be added to every wait.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	g := &generator{o: &o, conns: map[int]*conn{}, buf: make([]byte, 256<<10)}
	if g.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return Result{}, err
	}
	defer func() {
		for fd := range g.conns {
			unix.Close(fd)
		}
		unix.Close(g.epoll)
	}()
	g.done = func(began time.Time) {
		g.res.All++
		if g.measuring {
			g.hist.Record(g.now.Sub(began))
		}
	}
	for range o.Conns {
		if err := g.dial(); err != nil {
			return Result{}, err
		}
	}
	return g.run()
}

func (g *generator) dial() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	sa := &unix.SockaddrInet4{Addr: g.o.Addr.Addr().As4(), Port: int(g.o.Addr.Port())}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return fmt.Errorf("connect to %s: %w", g.o.Addr, err)
	}
	c := &conn{fd: fd}
	if g.o.Protocol == HTTP1 {
		c.codec = newHTTP1(g.o)
	} else {
		c.codec = newHTTP2(g.o)
	}
	g.conns[fd] = c
	if err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})); err != nil {
		return err
	}
	c.out = c.codec.start(c.out)
	g.release(c)
	return g.flush(c)
}

func (g *generator) mark() {
	if g.o.Mark != nil {
		g.o.Mark()
	}
}

// release puts a connection with room among the free ones.
func (g *generator) release(c *conn) {
	if !c.ready && c.codec.room() > 0 {
		c.ready = true
		g.free = append(g.free, c)
	}
}

func (g *generator) run() (Result, error) {
	start := time.Now()
	measure, end := start.Add(g.o.Warm), start.Add(g.o.Warm+g.o.Duration)
	var interval time.Duration
	if g.o.Rate > 0 {
		interval = time.Second / time.Duration(g.o.Rate)
	}
	due := start
	events := make([]unix.EpollEvent, 256)
	for {
		g.now = time.Now()
		if !g.measuring && !g.now.Before(measure) {
			g.measuring = true
			g.mark()
			measure = time.Now()
			end = measure.Add(g.o.Duration)
			// What was due meanwhile waited for the mark and not for the system.
			due = measure
		}
		if !g.now.Before(end) {
			break
		}
		timeout := end.Sub(g.now)
		if interval == 0 {
			for len(g.free) > 0 {
				if err := g.begin(g.now); err != nil {
					return g.res, err
				}
			}
		} else {
			for !due.After(g.now) && len(g.free) > 0 {
				if err := g.begin(due); err != nil {
					return g.res, err
				}
				due = due.Add(interval)
			}
			if len(g.free) > 0 {
				timeout = min(timeout, max(due.Sub(g.now), 0))
			}
		}
		n, err := wait(g.epoll, events, timeout)
		if err != nil && err != unix.EINTR {
			return g.res, err
		}
		g.now = time.Now()
		for _, e := range events[:max(n, 0)] {
			if err := g.event(e); err != nil {
				return g.res, err
			}
		}
	}
	if interval > 0 {
		g.res.Late = int(g.now.Sub(due) / interval)
	}
	g.res.Requests = g.hist.Total()
	g.res.Seconds = g.now.Sub(measure).Seconds()
	g.mark()
	ms := func(q float64) float64 { return float64(g.hist.Quantile(q)) / 1e6 }
	g.res.P50, g.res.P99, g.res.P999 = ms(0.5), ms(0.99), ms(0.999)
	return g.res, nil
}

// begin starts a request on the connection that has been free for longest.
func (g *generator) begin(at time.Time) error {
	c := g.free[0]
	g.free = g.free[:copy(g.free, g.free[1:])]
	c.ready = false
	if _, open := g.conns[c.fd]; !open {
		return nil
	}
	for {
		c.out = c.codec.begin(c.out, at)
		// At a rate, one request has to leave at a time.
		if g.o.Rate > 0 || c.codec.room() == 0 {
			break
		}
	}
	g.release(c)
	return g.flush(c)
}

func (g *generator) event(e unix.EpollEvent) error {
	c := g.conns[int(e.Fd)]
	if c == nil {
		return nil
	}
	if e.Events&unix.EPOLLOUT != 0 {
		c.blocked = false
	}
	if e.Events&^unix.EPOLLOUT != 0 {
		n, err := unix.Read(c.fd, g.buf)
		switch {
		case err == unix.EAGAIN:
		case err == nil && n == 0 && c.codec.room() > 0:
			return g.reconnect(c)
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return errors.New("the server closed a connection with a request in flight")
		default:
			if c.out, err = c.codec.read(g.buf[:n], c.out, g.done); err == errGoAway {
				return g.reconnect(c)
			} else if err != nil {
				return err
			}
			g.release(c)
		}
	}
	return g.flush(c)
}

// reconnect replaces a connection that the server does not want any more. What
// it had in flight is not counted; there is nothing in flight on connections
// of HTTP/1, and nginx ends those of HTTP/2 once in a thousand requests.
func (g *generator) reconnect(c *conn) error {
	g.res.Reconnects++
	delete(g.conns, c.fd)
	for i, f := range g.free {
		if f == c {
			g.free = append(g.free[:i], g.free[i+1:]...)
			break
		}
	}
	unix.Close(c.fd)
	return g.dial()
}

func (g *generator) flush(c *conn) error {
	if len(c.out) == 0 || c.blocked {
		return nil
	}
	n, err := unix.Write(c.fd, c.out)
	if err != nil && err != unix.EAGAIN {
		return fmt.Errorf("write: %w", err)
	}
	c.out = c.out[:copy(c.out, c.out[max(n, 0):])]
	c.blocked = len(c.out) > 0
	if c.blocked == c.asked {
		return nil
	}
	c.asked = c.blocked
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}
	if c.asked {
		ev.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(g.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev)
}

// wait is epoll_pwait2, whose timeout, unlike that of epoll_wait, is not in
// milliseconds.
func wait(epoll int, events []unix.EpollEvent, timeout time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(timeout))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
