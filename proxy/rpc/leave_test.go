package rpc

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// road is the way to servers, on which those of some addresses can be lost: what
// is sent to them vanishes, and nothing comes back, as if their node had died.
type road struct {
	mu   sync.Mutex
	lost map[netip.AddrPort]chan struct{}
}

func (r *road) gone(a netip.AddrPort) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = map[netip.AddrPort]chan struct{}{}
	}
	if r.lost[a] == nil {
		r.lost[a] = make(chan struct{})
	}
	return r.lost[a]
}

func (r *road) dial(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
	select {
	case <-r.gone(a):
		<-ctx.Done()
		return nil, ctx.Err()
	default:
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", a.String())
	if err != nil {
		return nil, err
	}
	return &traveller{Conn: c, gone: r.gone(a), closed: make(chan struct{})}, nil
}

type traveller struct {
	net.Conn
	gone   chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (t *traveller) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	select {
	case <-t.gone:
		<-t.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (t *traveller) Write(b []byte) (int, error) {
	select {
	case <-t.gone:
		return len(b), nil
	default:
		return t.Conn.Write(b)
	}
}

func (t *traveller) Close() error {
	t.once.Do(func() { close(t.closed) })
	return t.Conn.Close()
}

// both connects to two servers and waits until it is connected to both.
func both(t *testing.T, change func(*Config), a, b netip.AddrPort) *Conn {
	t.Helper()
	ready := make(chan struct{}, 100)
	c := connect(t, func(cfg *Config) {
		cfg.Hooks.Connected = func(d int) {
			if d > 0 {
				ready <- struct{}{}
			}
		}
		if change != nil {
			change(cfg)
		}
	}, a, b)
	if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); err != nil {
		t.Fatal(err)
	}
	<-ready
	<-ready
	return c
}

// TestServersThatAreKilled: a server that is gone without a word is noticed by its
// silence. Its streams end, so that they are made again elsewhere.
func TestServersThatAreKilled(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	var r road
	c := both(t, func(cfg *Config) {
		cfg.Dial, cfg.KeepAlive, cfg.KeepAliveTimeout = r.dial, 100*time.Millisecond, time.Second
	}, a.addr, b.addr)
	// One stream at each: the second goes to the less busy.
	streams := make([]*Stream, 2)
	for i := range streams {
		var err error
		if streams[i], err = c.Stream(t.Context(), "/t/Hang", nil); err != nil {
			t.Fatal(err)
		}
		defer streams[i].Close()
	}
	ended := make(chan error, 1)
	go func() {
		_, err := streams[0].Recv()
		ended <- err
	}()
	close(r.gone(streams[0].e.addr))
	select {
	case err := <-ended:
		if CodeOf(err) != Unavailable {
			t.Errorf("the stream of the server that was killed: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody noticed that the server is gone")
	}
	if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); err != nil {
		t.Errorf("a call afterwards: %v", err)
	}
}

// TestServersThatDoNotAnswer: a connection may be well and what is behind it not.
// Having the fewest calls does not make it the one to choose.
func TestServersThatDoNotAnswer(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	c := both(t, nil, a.addr, b.addr)
	ask := func(method string, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := c.Call(ctx, method, nil)
		return err
	}
	// The first of the two is chosen while none has calls; it keeps silent.
	if err := ask("/t/Silent", 20*time.Millisecond); CodeOf(err) != DeadlineExceeded {
		t.Fatal(err)
	}
	before := a.streams.Load()
	for range 20 {
		if err := ask("/t/Echo", time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.streams.Load() - before; n != 0 {
		t.Errorf("%d of 20 calls went to the server that had not answered", n)
	}
	// When the others do not answer either it is asked again, and is well.
	for a.streams.Load() == before {
		if err := ask("/t/Silent", 20*time.Millisecond); CodeOf(err) != DeadlineExceeded {
			t.Fatal(err)
		}
	}
}
