package netx

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// woken counts how often a connection was to be gone on with.
type woken struct {
	n  atomic.Int32
	ch chan struct{}
}

func newWoken() *woken { return &woken{ch: make(chan struct{}, 8)} }

func (w *woken) Wake() {
	w.n.Add(1)
	w.ch <- struct{}{}
}

// parked has s wait in l.
func parked(t *testing.T, l *Lot, s net.Conn) *woken {
	t.Helper()
	w := newWoken()
	if !l.Park(s, w) {
		t.Fatal("the connection cannot wait")
	}
	return w
}

// vacant fails if l still has connections, or room for some.
func vacant(t *testing.T, l *Lot) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range l.pages {
		if p != nil {
			t.Errorf("page %d is left, with %d connections", i, p.held)
		}
	}
}

func text(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestParkedConnectionGoesOn: again and again, as if it had waited in a read.
func TestParkedConnectionGoesOn(t *testing.T) {
	var l Lot
	defer l.Close()
	so := SocketOptions{KeepAlive: 7 * time.Second, UserTimeout: 9 * time.Second}
	c, s := pair(t, ListenOptions{SocketOptions: so}, TCPDialer{})
	local, remote := s.LocalAddr().String(), s.RemoteAddr().String()
	var counted Bytes
	conn := net.Conn(Count(WithPrefix(s, []byte("first")), &counted))
	if got := text(t, conn, 5); got != "first" {
		t.Errorf("read %q", got)
	}
	for range 3 {
		// A deadline that passed before is not for what comes then.
		if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		w := parked(t, &l, conn)
		if HungUp(conn) || !Alive(conn) {
			t.Error("it is taken for gone")
		}
		io.WriteString(c, "request")
		<-w.ch
		if got := text(t, conn, 7); got != "request" {
			t.Errorf("read %q", got)
		}
		io.WriteString(conn, "response")
		if got := text(t, c, 8); got != "response" {
			t.Errorf("the client read %q", got)
		}
		if n, ok, err := WriteBoth(conn, []byte("a"), []byte("b")); n != 2 || !ok || err != nil {
			t.Errorf("wrote %d, %v, %v", n, ok, err)
		}
		if got := text(t, c, 2); got != "ab" {
			t.Errorf("the client read %q", got)
		}
		if n := w.n.Load(); n != 1 {
			t.Errorf("woken %d times", n)
		}
	}
	if s.LocalAddr().String() != local || s.RemoteAddr().String() != remote {
		t.Errorf("addresses are %v and %v", s.LocalAddr(), s.RemoteAddr())
	}
	for name, want := range map[int]int{unix.TCP_NODELAY: 1, unix.TCP_KEEPIDLE: 7, unix.TCP_USER_TIMEOUT: 9000} {
		if v := option(t, s, unix.IPPROTO_TCP, name); v != want {
			t.Errorf("option %d is %d, want %d", name, v, want)
		}
	}
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Error(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("past the deadline: %v", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Error(err)
	}
	if err := CloseWrite(s); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end the client read %d, %v", n, err)
	}
	vacant(t, &l)
}

// TestParkedConnectionEnds: however it ends, whoever waits for it is told once.
func TestParkedConnectionEnds(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(client, server net.Conn)
		read error
	}{
		"the client closes":            {func(c, _ net.Conn) { c.Close() }, io.EOF},
		"the client closes its half":   {func(c, _ net.Conn) { _ = CloseWrite(c) }, io.EOF},
		"the client resets":            {func(c, _ net.Conn) { Abort(c) }, syscall.ECONNRESET},
		"it is closed":                 {func(_, s net.Conn) { s.Close() }, net.ErrClosed},
		"it is closed by many":         {func(_, s net.Conn) { closeTwice(s) }, net.ErrClosed},
		"it is reset":                  {func(_, s net.Conn) { Abort(s) }, net.ErrClosed},
		"it was closed before":         {nil, net.ErrClosed},
		"the client closed before":     {nil, io.EOF},
		"there was something to read":  {nil, nil},
		"it is gone on with, then not": {nil, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			var l Lot
			defer l.Close()
			client, server := pair(t, ListenOptions{}, TCPDialer{})
			switch name {
			case "it was closed before":
				server.Close()
				if l.Park(server, newWoken()) {
					t.Error("it waits")
				}
			case "the client closed before":
				client.Close()
				<-parked(t, &l, server).ch
			case "there was something to read":
				io.WriteString(client, "x")
				<-parked(t, &l, server).ch
			case "it is gone on with, then not":
				w := parked(t, &l, server)
				io.WriteString(client, "x")
				<-w.ch
				_ = text(t, server, 1)
				read := make(chan error, 1)
				go func() {
					_, err := server.Read(make([]byte, 1))
					read <- err
				}()
				server.Close()
				if err := <-read; !errors.Is(err, net.ErrClosed) {
					t.Errorf("who reads is told %v", err)
				}
			default:
				w := parked(t, &l, server)
				c.end(client, server)
				<-w.ch
				if n := w.n.Load(); n != 1 {
					t.Errorf("woken %d times", n)
				}
			}
			if _, err := server.Read(make([]byte, 1)); !errors.Is(err, c.read) {
				t.Errorf("read: %v, want %v", err, c.read)
			}
			if errors.Is(c.read, net.ErrClosed) {
				if err := server.Close(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("closed again: %v", err)
				}
				if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
					t.Errorf("written: %v", err)
				}
				if err := server.SetReadDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("deadline: %v", err)
				}
				// The client is told.
				_ = client.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := client.Read(make([]byte, 1)); err != io.EOF && !IsReset(err) {
					t.Errorf("the client read %v", err)
				}
			}
			vacant(t, &l)
		})
	}
}

// closeTwice closes c from two goroutines.
func closeTwice(c net.Conn) {
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
}

// TestParkNeedsASocket: what is read and not used would be waited for, for ever.
func TestParkNeedsASocket(t *testing.T) {
	var l Lot
	defer l.Close()
	_, s := pair(t, ListenOptions{}, TCPDialer{})
	if l.Park(WithPrefix(s, []byte("read ahead")), newWoken()) {
		t.Error("a connection waits for bytes that were read")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if l.Park(a, newWoken()) || l.Park(nil, newWoken()) {
		t.Error("what is no socket waits")
	}
	_, late := pair(t, ListenOptions{}, TCPDialer{})
	l.Close()
	if l.Park(late, newWoken()) {
		t.Error("a connection waits in a lot that is closed")
	}
	if _, err := late.Write([]byte("x")); err != nil {
		t.Errorf("a connection that could not wait is broken: %v", err)
	}
}

// TestParkedConnectionsAreReset: what frees memory when it runs out finds them.
func TestParkedConnectionsAreReset(t *testing.T) {
	var l Lot
	defer l.Close()
	client, server := pair(t, ListenOptions{}, TCPDialer{})
	w := parked(t, &l, server)
	if n := SocketMemory(server); n != 0 {
		t.Errorf("the kernel holds %d bytes", n)
	}
	Abort(server)
	<-w.ch
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client read %v", err)
	}
}

// TestManyPark: connections that all wait, are all closed by both sides at once, or
// all have something to read, need few goroutines and leave nothing behind.
func TestManyPark(t *testing.T) {
	const n = 300
	var l Lot
	defer l.Close()
	ln, err := Listen(AddrPort(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}), ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	before := runtime.NumGoroutine()
	clients, servers, wakes := make([]net.Conn, n), make([]net.Conn, n), make([]*woken, n)
	for i := range n {
		var d TCPDialer
		if clients[i], err = d.Dial(t.Context(), AddrPort(ln.Addr())); err != nil {
			t.Fatal(err)
		}
		if servers[i], err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		wakes[i] = parked(t, &l, servers[i])
	}
	if now := runtime.NumGoroutine(); now > before+10 {
		t.Errorf("%d goroutines wait for %d connections", now-before, n)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if i%3 == 0 {
				io.WriteString(clients[i], "x")
			} else {
				clients[i].Close()
			}
		})
		if i%2 == 0 {
			all.Go(func() { servers[i].Close() })
		}
	}
	all.Wait()
	for i, w := range wakes {
		<-w.ch
		servers[i].Close()
		clients[i].Close()
	}
	l.Close()
	for i, w := range wakes {
		if got := w.n.Load(); got != 1 {
			t.Errorf("connection %d was woken %d times", i, got)
		}
	}
	vacant(t, &l)
}
