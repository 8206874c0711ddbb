package accept

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestLoopEndsWithDrain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := drain.New()
	began := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		Loop(ln, Options{Drain: d, Log: slog.New(slog.DiscardHandler), Handle: Whole(func(c net.Conn, h *drain.Handle) {
			close(began)
			h.OnStart(func() { c.Close() })
			_, _ = io.Copy(io.Discard, c)
		})})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-began
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Error("still accepting")
	}
}

// steps is a connection that takes some goroutines to be over.
type steps struct {
	left int
	conn net.Conn
}

func (s *steps) GoOn() bool {
	if s.left--; s.left > 0 {
		return true
	}
	_, _ = io.Copy(io.Discard, s.conn) // until the drain closes it
	return false
}

// TestRestIsWaitedFor: the drain is over when the last of a connection's goroutines
// is.
func TestRestIsWaitedFor(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := drain.New()
	began, done := make(chan *steps, 1), make(chan struct{})
	go func() {
		defer close(done)
		Loop(ln, Options{Drain: d, Log: slog.New(slog.DiscardHandler), Handle: func(c net.Conn, h *drain.Handle) Rest {
			h.OnStart(func() { c.Close() })
			s := &steps{left: 3, conn: c}
			began <- s
			return s
		}})
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := <-began
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if s.left != 0 {
		t.Errorf("%d steps are left", s.left)
	}
	if d.Held() != 0 {
		t.Errorf("%d handles are out", d.Held())
	}
}

// echo answers a byte at a time, and waits in between.
type echo struct {
	conn   net.Conn
	waits  chan int // the goroutines there were when it came to wait
	failed error
}

func (e *echo) GoOn() bool {
	b := make([]byte, 1)
	if _, e.failed = e.conn.Read(b); e.failed == nil {
		_, e.failed = e.conn.Write(b)
	}
	if e.failed != nil {
		e.conn.Close()
	}
	return e.failed == nil
}

func (e *echo) Waits() net.Conn {
	e.waits <- runtime.NumGoroutine()
	return e.conn
}

// TestConnectionsWaitWithoutGoroutines: as many as there are, each goes on when there
// is something to read, and all of them when the drain closes them.
func TestConnectionsWaitWithoutGoroutines(t *testing.T) {
	const n = 50
	ln, err := netx.Listen(netip.MustParseAddrPort("127.0.0.1:0"), netx.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := drain.New()
	waits, done := make(chan int, 2*n), make(chan struct{})
	all := make(chan *echo, n)
	go func() {
		defer close(done)
		Loop(ln, Options{Drain: d, Log: slog.New(slog.DiscardHandler), Handle: func(c net.Conn, h *drain.Handle) Rest {
			h.OnStart(func() { c.Close() })
			e := &echo{conn: c, waits: waits}
			all <- e
			return e
		}})
	}()
	var clients []net.Conn
	ask := func(c net.Conn) int {
		b := []byte("x")
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return <-waits
	}
	first, last := 0, 0
	for range n {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients = append(clients, c)
		if last = ask(c); first == 0 {
			first = last
		}
	}
	if last > first+n/2 {
		t.Errorf("%d goroutines with a connection, %d with %d", first, last, n)
	}
	for _, c := range clients {
		ask(c)
	}
	clients[0].Close()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	for range n {
		if e := <-all; e.failed == nil {
			t.Error("a connection was not told that it is over")
		}
	}
	if d.Held() != 0 {
		t.Errorf("%d handles are out", d.Held())
	}
}

func TestLoopAfterDrain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := drain.New()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	Loop(ln, Options{Drain: d, Log: slog.New(slog.DiscardHandler)})
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener was left open")
	}
}
