package outbound

import (
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// limits enforces the timeouts of one attempt (proxy chapter, section 15.2).
// It exists only for requests that have some. Methods may be called from any
// goroutine.
type limits struct {
	clk clock.Clock
	c   *exchange.Canceler
	t   model.Timeouts
	// headers limits the wait for the response's head, from the end of the
	// request's body.
	headers time.Duration

	mu sync.Mutex
	// All that follows is guarded by mu. timers are by kind.
	timers    [deadline.Attempt + 1]clock.Timer
	streaming bool
	stopped   bool
}

// start begins with the limit that runs from the start. until is when the whole
// stream has to be over, zero for never.
func (l *limits) start(until time.Time) {
	if !until.IsZero() {
		l.arm(deadline.Request, l.t.Request, until.Sub(l.clk.Now()))
	}
}

// dispatched says that there is an endpoint, and begins with the limits on it.
func (l *limits) dispatched() {
	l.arm(deadline.Attempt, l.t.Attempt, l.t.Attempt)
	l.arm(deadline.Idle, l.t.Idle, l.t.Idle)
}

// sent says that the request's body is over.
func (l *limits) sent() {
	l.arm(deadline.Response, l.t.Response, l.t.Response)
	l.mu.Lock()
	waiting := !l.streaming
	l.mu.Unlock()
	if waiting {
		l.arm(deadline.ResponseHeaders, l.headers, l.headers)
	}
}

// head says that the response's head is there.
func (l *limits) head() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streaming = true
	if t := l.timers[deadline.ResponseHeaders]; t != nil {
		t.Stop()
	}
}

// activity says that a frame passed.
func (l *limits) activity() {
	if l.t.Idle == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.timers[deadline.Idle]; t != nil && !l.stopped {
		t.Reset(l.t.Idle)
	}
}

// stop ends all timers.
func (l *limits) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, t := range l.timers {
		if t != nil {
			t.Stop()
		}
	}
}

// arm starts the timer of a limit, if there is one.
func (l *limits) arm(k deadline.Kind, limit, after time.Duration) {
	if limit <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || l.timers[k] != nil {
		return
	}
	l.timers[k] = l.clk.AfterFunc(max(after, 0), func() {
		l.mu.Lock()
		streaming, stopped := l.streaming, l.stopped
		l.mu.Unlock()
		if !stopped {
			l.c.Cancel(&deadline.Error{Kind: k, Limit: limit, Streaming: streaming})
		}
	})
}
