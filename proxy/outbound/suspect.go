package outbound

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
)

// suspect watches over an endpoint to which connections are made on demand: HTTP/1
// and bytes. One that could not be connected to is avoided until it can be, which
// is tried in the background, as for HTTP/2, so that no request has to. It is never
// more than avoided: if there is no other endpoint it is asked anyway, and the
// client told what is wrong with it.
type suspect struct {
	p *Proxy
	// dial makes a connection that is not counted; changed is called when on has
	// changed.
	dial    func(context.Context) (net.Conn, error)
	changed func()
	// on says that the endpoint is to be avoided.
	on atomic.Bool

	mu sync.Mutex
	// ctx ends with close; guarded by mu are whether that was called, and whether
	// the endpoint is being tried.
	ctx             context.Context
	cancel          context.CancelFunc
	closed, looking bool
}

func newSuspect(p *Proxy, dial func(context.Context) (net.Conn, error), changed func()) *suspect {
	s := &suspect{p: p, dial: dial, changed: changed}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// failed says that the endpoint could not be connected to, and reports whether
// that is news.
func (s *suspect) failed() bool {
	s.mu.Lock()
	if s.closed || s.looking {
		s.mu.Unlock()
		return false
	}
	s.looking = true
	s.on.Store(true)
	s.p.ending.Go(s.look)
	s.mu.Unlock()
	s.changed()
	return true
}

// look tries until there is a connection, or the endpoint is gone.
func (s *suspect) look() {
	for n := 0; s.wait(n); n++ {
		c, err := s.dial(s.ctx)
		if err != nil {
			continue
		}
		c.Close()
		s.mu.Lock()
		s.looking = false
		s.on.Store(false)
		s.mu.Unlock()
		s.changed()
		return
	}
}

// wait waits before the nth attempt, and reports whether there is to be one.
func (s *suspect) wait(n int) bool {
	over := make(chan struct{})
	t := s.p.cfg.Clock.AfterFunc(s.p.cfg.Backoff.Delay(n, rand.Float64()), func() { close(over) })
	defer t.Stop()
	select {
	case <-over:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// close ends the attempts.
func (s *suspect) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
}
