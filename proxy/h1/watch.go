package h1

import (
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Watcher notices clients that went away while their request is being
// answered, and cancels the exchange. The goroutine of an HTTP/1 connection
// cannot see that: it waits for the server. One watcher serves all connections;
// it looks at those with a request in flight now and then, which costs a
// request nothing. Connections that have waited for their next request from one look
// to the next, and can wait at less cost than in a read, it has do that (ErrAgain).
// It is safe for concurrent use.
//
// A client that closes only its sending half while it waits counts as gone, as
// it does for upstream's server.
type Watcher struct {
	clk   clock.Clock
	every time.Duration
	gone  func(*Server) bool

	// mu guards the rest. Exchanges are cancelled without it.
	mu sync.Mutex
	// first begins a list of the servers: a map would keep its size after a burst
	// of connections.
	first *Server
	timer clock.Timer // armed while there are servers
}

// NewWatcher makes a watcher that looks every so often; 0 takes a second. It
// needs no stop: its timer runs only while connections are served.
func NewWatcher(clk clock.Clock, every time.Duration) *Watcher {
	if every == 0 {
		every = time.Second
	}
	return &Watcher{clk: clk, every: every, gone: func(s *Server) bool { return netx.HungUp(s.conn) }}
}

func (w *Watcher) add(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.watchNext = w.first
	w.first = s
	if s.watchNext != nil {
		s.watchNext.watchPrev = s
		return
	}
	if w.timer == nil {
		w.timer = w.clk.AfterFunc(w.every, w.look)
	} else {
		w.timer.Reset(w.every)
	}
}

func (w *Watcher) remove(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.watchPrev != nil {
		s.watchPrev.watchNext = s.watchNext
	} else {
		w.first = s.watchNext
	}
	if s.watchNext != nil {
		s.watchNext.watchPrev = s.watchPrev
	}
	s.watchPrev, s.watchNext = nil, nil
	s.quiet.Store(false)
	if w.first == nil {
		w.timer.Stop()
	}
}

// looked returns when no look is under way that began before.
func (w *Watcher) looked() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

// mostCalls is how many connections are to wait elsewhere after a look at most: to go
// there is some work, and others have work to do.
const mostCalls = 256

// call is for a connection that waits; true if it is to wait elsewhere. w.mu is held.
func (w *Watcher) call(s *Server) bool {
	switch {
	case !s.o.Again:
	case !s.parks:
		// It gets another goroutine after its next request at least.
		if !s.rested.Load() {
			s.rested.Store(true)
		}
	case !s.quiet.Load():
		s.quiet.Store(true)
	case s.o.IdleTimeout == 0 && s.state.CompareAndSwap(idle, called):
		// It reads no more until it has taken notice. If it is being closed there
		// is nothing to be noticed.
		_ = s.conn.SetReadDeadline(past)
		return true
	}
	return false
}

// look is called by the timer.
func (w *Watcher) look() {
	var gone []*Server
	calls := 0
	w.mu.Lock()
	for s := w.first; s != nil; s = s.watchNext {
		switch s.state.Load() {
		case idle:
			if calls < mostCalls && w.call(s) {
				calls++
			}
		case active:
			if w.gone(s) {
				gone = append(gone, s)
			}
		}
	}
	if w.first != nil {
		w.timer.Reset(w.every)
	}
	w.mu.Unlock()
	for _, s := range gone {
		// The exchange may have ended meanwhile, but whatever is cancelled
		// is of a client that is gone.
		s.x.Cancel(exchange.ErrClientGone)
	}
}
