// Package drain ends a proxy politely: one signal tells everything to take no
// new work, handles say who is still busy, and the last one out opens the door.
//
//	d := drain.New()
//	// a listener or connection:
//	h, ok := d.Hold()          // not ok: draining already, refuse
//	defer h.Release()
//	select { case <-d.Started(): ... }
//	// main:
//	err := d.Drain(ctx)        // returns when all handles are released, or with ctx
//
// All methods may be called from any goroutine.
package drain

import (
	"context"
	"fmt"
	"sync"
)

// Drain is one shutdown, shared by everything that has to take part in it.
type Drain struct {
	started chan struct{}
	mu      sync.Mutex
	// held, draining and idle are guarded by mu. idle is closed when draining
	// is set and held is zero.
	held     int
	draining bool
	idle     chan struct{}
}

// New returns a drain that has not started.
func New() *Drain {
	return &Drain{started: make(chan struct{}), idle: make(chan struct{})}
}

// Started is closed when the drain begins.
func (d *Drain) Started() <-chan struct{} { return d.started }

// Draining reports whether the drain began.
func (d *Drain) Draining() bool {
	select {
	case <-d.started:
		return true
	default:
		return false
	}
}

// Handle keeps a drain from completing. The zero Handle holds nothing.
type Handle struct{ d *Drain }

// Hold registers work that the drain has to wait for. It is false, and the
// handle holds nothing, once the drain has begun: work that arrives late has
// to be refused.
func (d *Drain) Hold() (Handle, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return Handle{}, false
	}
	d.held++
	return Handle{d}, true
}

// Release says that the work is done. Each handle is released once.
func (h Handle) Release() {
	if h.d == nil {
		return
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.d.held--
	if h.d.held < 0 {
		panic("drain: a handle was released twice")
	}
	if h.d.draining && h.d.held == 0 {
		close(h.d.idle)
	}
}

// Held is the number of handles that are out.
func (d *Drain) Held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// Drain begins the drain, if it has not begun, and returns when every handle
// was released. If ctx ends first the error tells how many were not.
func (d *Drain) Drain(ctx context.Context) error {
	d.mu.Lock()
	if !d.draining {
		d.draining = true
		close(d.started)
		if d.held == 0 {
			close(d.idle)
		}
	}
	d.mu.Unlock()
	select {
	case <-d.idle:
		return nil
	default:
	}
	select {
	case <-d.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d connections still open: %w", d.Held(), context.Cause(ctx))
	}
}
