package pool

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// get makes a request head.
func get(host string) *exchange.RequestHead {
	h := &exchange.RequestHead{Version: exchange.HTTP11, Method: []byte("GET"), Path: []byte("/")}
	if host != "" {
		h.Add("Host", host)
	}
	return h
}

// do sends a request and returns what the server said.
func do(t *testing.T, c exchange.Client, h *exchange.RequestHead) string {
	t.Helper()
	resp, err := c.RoundTrip(nil, h, exchange.Empty)
	if err != nil {
		t.Fatalf("request: %v", err)
	}
	defer resp.Close()
	var b strings.Builder
	for !resp.Body.Ended() {
		f, err := resp.Body.Next()
		if err != nil {
			t.Fatalf("body: %v", err)
		}
		b.Write(f.Data)
	}
	return b.String()
}

// counting dials addr and counts.
func counting(addr string, n *atomic.Int32) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		n.Add(1)
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		return netx.NewTCP(c.(*net.TCPConn)), nil
	}
}

func TestH1KeepsConnectionsByAuthorityAndForm(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RemoteAddr)
	}))
	defer app.Close()
	var dials atomic.Int32
	clk := clock.NewManual(time.Unix(1000, 0))
	p := NewH1(H1Options{Dial: counting(app.Listener.Addr().String(), &dials), Clock: clk})
	defer p.Close()

	first := do(t, p, get("a"))
	if again := do(t, p, get("a")); again != first {
		t.Errorf("second request to a went over %s, want %s", again, first)
	}
	other := do(t, p, get("b"))
	if other == first {
		t.Error("request to b went over the connection for a")
	}
	abs := get("a")
	abs.AbsoluteForm, abs.Authority = true, []byte("a")
	if got := do(t, p, abs); got == first {
		t.Error("absolute-form request went over the origin-form connection")
	}
	old := get("a")
	old.Version = exchange.HTTP10
	if got := do(t, p, old); got == first {
		t.Error("HTTP/1.0 request used a pooled connection")
	}
	if n := p.Idle(); n != 3 {
		t.Errorf("%d connections are idle, want 3", n)
	}
	clk.Advance(3 * time.Second)
	if n := p.Idle(); n != 0 {
		t.Errorf("%d connections are idle after the timeout, want none", n)
	}
	if again := do(t, p, get("a")); again == first {
		t.Error("connection was used after its idle timeout")
	}
}

// TestH1ReplacesConnectionsClosedByTheServer uses a server that closes each
// connection after one response without announcing it.
func TestH1ReplacesConnectionsClosedByTheServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{}, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			c.Read(b)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			c.Close()
			closed <- struct{}{}
		}
	})
	defer wg.Wait()
	defer ln.Close()
	var dials atomic.Int32
	p := NewH1(H1Options{Dial: counting(ln.Addr().String(), &dials)})
	defer p.Close()
	for i := range 20 {
		h := get("a")
		if i%2 == 1 {
			// It cannot be repeated, so the pool has to notice before.
			h.Method = []byte("POST")
			<-closed
		}
		if got := do(t, p, h); got != "ok" {
			t.Errorf("request %d: %q", i, got)
		}
		if i%2 == 1 {
			<-closed
		}
	}
}

// pieces is a body of n equal frames that are there one after the other.
type pieces struct {
	n    int
	data []byte
}

func (p *pieces) Next() (exchange.Frame, error) {
	p.n--
	return exchange.Frame{Data: p.data, End: p.n == 0}, nil
}
func (p *pieces) Ready() bool   { return p.n%2 == 0 }
func (p *pieces) Ended() bool   { return p.n == 0 }
func (p *pieces) Close(_ error) {}

// TestH1KeepsConnectionsThatUpload: the server may have answered before the
// goroutine that sends the request's body knows that it has sent it.
func TestH1KeepsConnectionsThatUpload(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		io.WriteString(w, strconv.FormatInt(n, 10))
	}))
	defer app.Close()
	var dials atomic.Int32
	p := NewH1(H1Options{Dial: counting(app.Listener.Addr().String(), &dials)})
	defer p.Close()
	for range 300 {
		h := get("a")
		h.Method, h.ContentLength = []byte("POST"), 100<<10
		resp, err := p.RoundTrip(nil, h, &pieces{n: 10, data: make([]byte, 10<<10)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := resp.Body.Next()
		if err != nil || string(f.Data) != "102400" {
			t.Errorf("server said %q, %v", f.Data, err)
		}
		resp.Close()
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for 300 uploads one after the other", n)
	}
}

// TestH1KeepsConnectionsAnsweredEarly uses a server that answers before it
// reads the request's body, as nginx does for what it makes up itself.
func TestH1KeepsConnectionsAnsweredEarly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				time.Sleep(time.Millisecond)
				io.Copy(io.Discard, req.Body)
			}
			c.Close()
		}
	})
	defer wg.Wait()
	defer ln.Close()
	var dials atomic.Int32
	p := NewH1(H1Options{Dial: counting(ln.Addr().String(), &dials)})
	defer p.Close()
	for range 20 {
		h := get("a")
		h.Method, h.ContentLength = []byte("POST"), 5<<20
		resp, err := p.RoundTrip(nil, h, &pieces{n: 512, data: make([]byte, 10<<10)})
		if err != nil {
			t.Fatal(err)
		}
		if f, err := resp.Body.Next(); err != nil || string(f.Data) != "ok" {
			t.Errorf("server said %q, %v", f.Data, err)
		}
		resp.Close()
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for 20 uploads one after the other", n)
	}
}

func TestH1DialErrorIsUnsent(t *testing.T) {
	p := NewH1(H1Options{Dial: func(context.Context) (net.Conn, error) { return nil, syscall.ECONNREFUSED }})
	defer p.Close()
	_, err := p.RoundTrip(nil, get("a"), exchange.Empty)
	if !exchange.Unsent(err) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v: want unsent and connection refused", err)
	}
}

func TestH1CancelStopsDialling(t *testing.T) {
	dialling := make(chan struct{})
	p := NewH1(H1Options{Dial: func(ctx context.Context) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	defer p.Close()
	var cn exchange.Canceler
	why := errors.New("enough")
	go func() { <-dialling; cn.Cancel(why) }()
	if _, err := p.RoundTrip(&cn, get("a"), exchange.Empty); err != why {
		t.Errorf("error %v, want %v", err, why)
	}
}

func TestBackoffDelays(t *testing.T) {
	b := Backoff{100 * time.Millisecond, time.Second, 0.1}
	for n, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		if got := b.Delay(n, 0); got != want*time.Millisecond {
			t.Errorf("delay %d is %v, want %v ms", n, got, want)
		}
	}
	if got := b.Delay(100, 0.5); got != 1050*time.Millisecond {
		t.Errorf("delay 100 with half of the jitter is %v", got)
	}
}

// h2Pipe returns a server end's address-less dial: each call makes a pipe to a
// new server with h.
type h2Pipe struct {
	mu      sync.Mutex
	wg      sync.WaitGroup
	servers []*h2.Server
	h       exchange.Handler
	fail    error
}

func (d *h2Pipe) dial(context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		return nil, d.fail
	}
	a, b := net.Pipe()
	s := h2.NewServer(b, d.h, nil, h2.Options{})
	d.servers = append(d.servers, s)
	d.wg.Go(func() { s.Serve() })
	return a, nil
}

func hello(x *exchange.Exchange) {
	h := exchange.ResponseHead{Status: 200, ContentLength: 5}
	x.Respond(&h, &exchange.Bytes{Data: []byte("hello")})
}

func TestH2ReconnectsAfterDrain(t *testing.T) {
	d := &h2Pipe{h: exchange.HandlerFunc(hello)}
	defer d.wg.Wait()
	p := NewH2(H2Options{Dial: d.dial, Backoff: Backoff{time.Nanosecond, time.Nanosecond, 0}})
	defer p.Wait()
	defer p.Close()
	for i := range 5 {
		if got := do(t, p, get("a")); got != "hello" {
			t.Fatalf("request %d: %q", i, got)
		}
		d.mu.Lock()
		d.servers[len(d.servers)-1].Drain()
		d.mu.Unlock()
	}
}

func TestH2BacksOffAndTells(t *testing.T) {
	d := &h2Pipe{h: exchange.HandlerFunc(hello), fail: syscall.ECONNREFUSED}
	defer d.wg.Wait()
	clk := clock.NewManual(time.Unix(0, 0))
	states := make(chan State, 100)
	p := NewH2(H2Options{Dial: d.dial, Clock: clk, Changed: func(s State, err error) { states <- s },
		Backoff: Backoff{time.Second, time.Minute, 0}})
	defer p.Wait()
	defer p.Close()
	if s, _ := p.State(); s != Idle {
		t.Errorf("state %v before anything was asked", s)
	}
	p.Connect()
	expect := func(want ...State) {
		t.Helper()
		for _, w := range want {
			if s := <-states; s != w {
				t.Fatalf("state %v, want %v", s, w)
			}
		}
	}
	expect(Connecting, Failing)
	if s, err := p.State(); s != Failing || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("state %v, %v", s, err)
	}
	advance := func(d time.Duration) {
		// The pool's goroutine arms its timer after it told.
		for len(states) == 0 {
			clk.Advance(d)
			runtime.Gosched()
		}
	}
	advance(time.Second)
	expect(Connecting, Failing)
	d.mu.Lock()
	d.fail = nil
	d.mu.Unlock()
	advance(2 * time.Second)
	expect(Connecting, Ready)
	if got := do(t, p, get("a")); got != "hello" {
		t.Errorf("got %q", got)
	}
	var cn exchange.Canceler
	cn.Cancel(io.EOF)
	if _, err := p.RoundTrip(&cn, get("a"), exchange.Empty); err != io.EOF {
		t.Errorf("cancelled request: %v", err)
	}
}
