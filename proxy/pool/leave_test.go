package pool

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
)

// leaving is an endpoint that can be connected to once: it says that it goes, and
// from then on nothing answers at its address.
type leaving struct {
	mu      sync.Mutex
	wg      sync.WaitGroup
	server  *h2.Server
	h       exchange.Handler
	dialled chan struct{}
}

func (l *leaving) dial(ctx context.Context) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		close(l.dialled)
		l.mu.Unlock()
		<-ctx.Done()
		l.mu.Lock()
		return nil, ctx.Err()
	}
	a, b := net.Pipe()
	l.server = h2.NewServer(b, l.h, nil, h2.Options{})
	l.wg.Go(func() { l.server.Serve() })
	return a, nil
}

// hold is a handler that answers /hold when it is told to.
func hold(held, proceed chan struct{}) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		if string(x.Request.Path) == "/hold" {
			close(held)
			<-proceed
		}
		hello(x)
	})
}

// TestH2LeavesNobodyBehind: a request that waits for an endpoint's next connection
// learns that there will be none when the endpoint is closed, and not when the
// last stream of the former connection ends.
func TestH2LeavesNobodyBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held, proceed := make(chan struct{}), make(chan struct{})
		l := &leaving{h: hold(held, proceed), dialled: make(chan struct{})}
		defer l.wg.Wait()
		p := NewH2(H2Options{Dial: l.dial})
		defer p.Wait()
		first := make(chan error, 1)
		go func() {
			h := get("a")
			h.Path = []byte("/hold")
			resp, err := p.RoundTrip(nil, h, exchange.Empty)
			if err == nil {
				resp.Close()
			}
			first <- err
		}()
		<-held
		l.server.Drain()
		<-l.dialled
		second := make(chan error, 1)
		go func() {
			_, err := p.RoundTrip(nil, get("a"), exchange.Empty)
			second <- err
		}()
		synctest.Wait()
		p.Close()
		select {
		case err := <-second:
			if !exchange.Unsent(err) || !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want that it was not sent", err)
			}
		case <-time.After(time.Minute):
			t.Error("it still waits")
		}
		close(proceed)
		if err := <-first; err != nil {
			t.Errorf("the stream that was open: %v", err)
		}
	})
}

// TestH2ChooseAgain: where there are others to choose from a request waits for
// none, and an endpoint whose connection drains is not ready.
func TestH2ChooseAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leaving{h: exchange.HandlerFunc(hello), dialled: make(chan struct{})}
		defer l.wg.Wait()
		p := NewH2(H2Options{Dial: l.dial, Choose: true})
		defer p.Wait()
		defer p.Close()
		p.Connect()
		synctest.Wait()
		if got := do(t, p, get("a")); got != "hello" {
			t.Errorf("got %q", got)
		}
		l.server.Drain()
		<-l.dialled
		if s, _ := p.State(); s != Connecting {
			t.Errorf("state %v", s)
		}
		if _, err := p.RoundTrip(nil, get("a"), exchange.Empty); !exchange.Unsent(err) || !errors.Is(err, ErrNotConnected) {
			t.Errorf("got %v", err)
		}
	})
}
