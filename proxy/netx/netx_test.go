package netx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// pair returns both ends of a connection that went through Listen and Dial.
func pair(t *testing.T, lo ListenOptions, d TCPDialer) (client, server net.Conn) {
	t.Helper()
	ln, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), lo)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = d.Dial(context.Background(), AddrPort(ln.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// option reads a socket option.
func option(t *testing.T, c net.Conn, level, name int) int {
	t.Helper()
	var v int
	var serr error
	if err := c.(*TCP).control(func(fd uintptr) { v, serr = unix.GetsockoptInt(int(fd), level, name) }); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	return v
}

func TestSocketOptions(t *testing.T) {
	so := SocketOptions{KeepAlive: 7 * time.Second, UserTimeout: 9 * time.Second}
	for name, conns := range map[string]struct {
		lo                              ListenOptions
		d                               TCPDialer
		keepAlive, idle, userTimeout, _ int
	}{
		"set":   {ListenOptions{SocketOptions: so, Backlog: 5}, TCPDialer{SocketOptions: so}, 1, 7, 9000, 0},
		"unset": {ListenOptions{}, TCPDialer{}, 0, 7200, 0, 0},
	} {
		c, s := pair(t, conns.lo, conns.d)
		for side, conn := range map[string]net.Conn{"client": c, "server": s} {
			if v := option(t, conn, unix.IPPROTO_TCP, unix.TCP_NODELAY); v != 1 {
				t.Errorf("%s %s: TCP_NODELAY is %d", name, side, v)
			}
			if v := option(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != conns.keepAlive {
				t.Errorf("%s %s: SO_KEEPALIVE is %d", name, side, v)
			}
			if v := option(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); conns.keepAlive == 1 && v != conns.idle {
				t.Errorf("%s %s: TCP_KEEPIDLE is %d", name, side, v)
			}
			if v := option(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); v != conns.userTimeout {
				t.Errorf("%s %s: TCP_USER_TIMEOUT is %d", name, side, v)
			}
		}
	}
}

func TestReadLazyHoldsNoBufferWhileWaiting(t *testing.T) {
	outstanding := buf.Count()
	c, s := pair(t, ListenOptions{}, TCPDialer{})
	type read struct {
		b   *buf.Buffer
		n   int
		err error
	}
	done := make(chan read, 1)
	go func() {
		b, n, err := ReadLazy(Count(s, &Bytes{}), 100)
		done <- read{b, n, err}
	}()
	io.WriteString(c, "hello")
	r := <-done
	if r.err != nil || string(r.b.B[:r.n]) != "hello" {
		t.Fatalf("read %+v", r)
	}
	r.b.Free()
	s.SetReadDeadline(time.Unix(1, 0))
	if b, n, err := ReadLazy(s, 100); b != nil || n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("past the deadline: %v %d %v", b, n, err)
	}
	s.SetReadDeadline(time.Time{})
	c.Close()
	if b, n, err := ReadLazy(s, 100); b != nil || n != 0 || err != io.EOF {
		t.Errorf("at the end: %v %d %v", b, n, err)
	}
	if n := outstanding(); n != 0 {
		t.Errorf("%d buffers were not freed", n)
	}
}

func TestPrefixReplaysAndStepsAside(t *testing.T) {
	c, s := pair(t, ListenOptions{}, TCPDialer{})
	io.WriteString(c, " world")
	p := WithPrefix(s, []byte("hello"))
	if Unwrap(p) != nil {
		t.Error("unread bytes can be gone past")
	}
	b := make([]byte, 3)
	if n, _ := Peek(p, b); string(b[:n]) != "hel" {
		t.Errorf("peeked %q", b[:n])
	}
	io.ReadFull(p, b)
	lb, n, err := ReadLazy(p, 1024)
	if err != nil || string(b)+string(lb.B[:n]) != "hello" {
		t.Errorf("read %q and %q, %v", b, lb.B[:n], err)
	}
	lb.Free()
	if Unwrap(p) != s {
		t.Error("socket is hidden although the prefix was read")
	}
	rest := make([]byte, 6)
	if n, err := Peek(p, rest); err != nil || string(rest[:n]) != " world" {
		t.Errorf("peeked %q, %v", rest[:n], err)
	}
	if _, err := io.ReadFull(p, rest); err != nil || string(rest) != " world" {
		t.Errorf("read %q, %v", rest, err)
	}
	if WithPrefix(s, nil) != s {
		t.Error("an empty prefix wraps")
	}
}

// TestPrefixBufferChangesHands: bytes read ahead by a sniff reach the codec
// without being copied.
func TestPrefixBufferChangesHands(t *testing.T) {
	outstanding := buf.Count()
	_, s := pair(t, ListenOptions{}, TCPDialer{})
	b := buf.Get(4096)
	n := copy(b.B, "GET")
	p := WithBuffer(s, b, 0, n)
	got, m, err := ReadLazy(p, 4096)
	if got != b || m != n || err != nil {
		t.Errorf("read %p %d %v, want %p", got, m, err, b)
	}
	got.Free()
	if n := outstanding(); n != 0 {
		t.Errorf("%d buffers were not freed", n)
	}
}

func TestAliveAndHungUp(t *testing.T) {
	c, s := pair(t, ListenOptions{}, TCPDialer{})
	if !Alive(s) || HungUp(s) {
		t.Error("open connection is taken for dead")
	}
	// On a busy machine even loopback may take a moment.
	soon := func(f func() bool) bool {
		for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return false
			}
		}
		return true
	}
	io.WriteString(c, "x")
	if !soon(func() bool { return !Alive(s) }) {
		t.Error("connection with unexpected data counts as idle")
	}
	if HungUp(s) {
		t.Error("data counts as the end")
	}
	CloseWrite(c)
	if !soon(func() bool { return HungUp(s) }) {
		t.Error("end behind data was not seen")
	}
	s.Read(make([]byte, 1))
	if Alive(s) {
		t.Error("closed connection counts as alive")
	}
}

func TestCountsLive(t *testing.T) {
	c, s := pair(t, ListenOptions{}, TCPDialer{})
	var b Bytes
	n := Count(s, &b)
	io.WriteString(c, "12345")
	io.ReadFull(n, make([]byte, 5))
	io.WriteString(n, "123")
	if b.Read.Load() != 5 || b.Written.Load() != 3 {
		t.Errorf("counted %d and %d", b.Read.Load(), b.Written.Load())
	}
}

func TestDialErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.66.0.6:0") // a host of its own: nobody takes the port
	if err != nil {
		t.Fatal(err)
	}
	addr := AddrPort(ln.Addr())
	ln.Close()
	d := &TCPDialer{Timeout: time.Minute}
	if _, err := d.Dial(context.Background(), addr); !errors.Is(err, syscall.ECONNREFUSED) || Errno(err) != "ECONNREFUSED" {
		t.Errorf("closed port: %v (%s)", err, Errno(err))
	}
	// A listener whose queue is full does not answer.
	full, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), ListenOptions{Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	quick := &TCPDialer{Timeout: 50 * time.Millisecond}
	for range 10 {
		c, err := quick.Dial(context.Background(), AddrPort(full.Addr()))
		if err != nil {
			var ct *ConnectTimeout
			if !errors.As(err, &ct) || err.Error() != "connect timed out after 50ms" {
				t.Errorf("timed out with %v", err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if _, err := d.Dial(ctx, AddrPort(full.Addr())); errors.As(err, &ct) {
				t.Errorf("caller's deadline is reported as %v", err)
			}
			return
		}
		defer c.Close()
	}
	t.Error("connects to a full queue did not time out")
}

func TestAddresses(t *testing.T) {
	mapped := &net.TCPAddr{IP: net.ParseIP("::ffff:10.0.0.1"), Port: 80}
	if got := AddrPort(mapped); got != netip.MustParseAddrPort("10.0.0.1:80") {
		t.Errorf("mapped address became %v", got)
	}
	if got := AddrPort(&net.UnixAddr{}); got.IsValid() {
		t.Errorf("unix address became %v", got)
	}
	// Without redirection the destination is where the connection came to.
	_, s := pair(t, ListenOptions{}, TCPDialer{})
	got, err := SocketOriginalDst(Count(s, &Bytes{}))
	if err != nil || got != AddrPort(s.LocalAddr()) {
		t.Errorf("original destination %v, %v, want %v", got, err, s.LocalAddr())
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if _, err := SocketOriginalDst(a); err == nil {
		t.Error("a pipe has an original destination")
	}
	if _, err := Peek(a, make([]byte, 1)); !errors.Is(err, ErrPeek) {
		t.Errorf("peek at a pipe: %v", err)
	}
}

func TestNames(t *testing.T) {
	for err, want := range map[error]string{
		nil:    "",
		io.EOF: "",
		&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}:      "ECONNRESET",
		fmt.Errorf("wrapped: %w", syscall.EPIPE):                                           "EPIPE",
		os.ErrDeadlineExceeded:                                                             "",
		&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}: "EHOSTUNREACH",
	} {
		if got := Errno(err); got != want {
			t.Errorf("%v is called %q, want %q", err, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		time.Second: "1s", 300 * time.Millisecond: "300ms", 1500 * time.Millisecond: "1.5s", 2 * time.Minute: "120s", 10 * time.Second: "10s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}
