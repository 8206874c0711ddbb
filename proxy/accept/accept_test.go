package accept

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
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
