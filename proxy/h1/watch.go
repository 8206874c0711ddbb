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
// request nothing. It is safe for concurrent use.
//
// A client that closes only its sending half while it waits counts as gone, as
// it does for upstream's server.
type Watcher struct {
	clk   clock.Clock
	every time.Duration
	gone  func(*Server) bool

	// mu guards the rest. Exchanges are cancelled without it.
	mu      sync.Mutex
	servers map[*Server]struct{}
	timer   clock.Timer // armed while there are servers
}

// NewWatcher makes a watcher that looks every so often; 0 takes a second. It
// needs no stop: its timer runs only while connections are served.
func NewWatcher(clk clock.Clock, every time.Duration) *Watcher {
	if every == 0 {
		every = time.Second
	}
	return &Watcher{
		clk: clk, every: every, servers: make(map[*Server]struct{}),
		gone: func(s *Server) bool { return netx.HungUp(s.conn) },
	}
}

func (w *Watcher) add(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.servers[s] = struct{}{}
	if len(w.servers) > 1 {
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
	delete(w.servers, s)
	if len(w.servers) == 0 {
		w.timer.Stop()
	}
}

// look is called by the timer.
func (w *Watcher) look() {
	var gone []*Server
	w.mu.Lock()
	for s := range w.servers {
		switch s.state.Load() {
		case idle:
			if s.o.Again && !s.rested.Load() {
				s.rested.Store(true)
			}
		case active:
			if w.gone(s) {
				gone = append(gone, s)
			}
		}
	}
	if len(w.servers) > 0 {
		w.timer.Reset(w.every)
	}
	w.mu.Unlock()
	for _, s := range gone {
		// The exchange may have ended meanwhile, but whatever is cancelled
		// is of a client that is gone.
		s.x.Cancel(exchange.ErrClientGone)
	}
}
