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
		Loop(ln, Options{Drain: d, Log: slog.New(slog.DiscardHandler), Handle: func(c net.Conn, h *drain.Handle) {
			close(began)
			h.OnStart(func() { c.Close() })
			_, _ = io.Copy(io.Discard, c)
		}})
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
