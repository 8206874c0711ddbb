// Package drain ends a proxy politely: one signal tells everything to take no
// new work, handles say who is still busy, and the last one out opens the door.
//
//	d := drain.New()
//	// a listener or connection:
//	h, ok := d.Hold()          // not ok: draining already, refuse
//	defer h.Release()
//	h.OnStart(server.Drain)    // or: select { case <-d.Started(): ... }
//	// main:
//	err := d.Drain(ctx)        // returns when all handles are released, or with ctx
//
// All methods may be called from any goroutine.
package drain

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// Drain is one shutdown, shared by everything that has to take part in it.
type Drain struct {
	started chan struct{}
	mu      sync.Mutex
	// first, held, draining and idle are guarded by mu. first is a ring of the
	// handles that are out. idle is closed when draining is set and held is
	// zero.
	first    *Handle
	held     int
	draining bool
	idle     chan struct{}
	// patience is how long handles of bytes may be out once the drain has begun,
	// without a limit of their own if it is zero; impatient is set when that time
	// is over. Both are guarded by mu.
	patience  time.Duration
	impatient bool
}

// New returns a drain that has not started.
func New() *Drain {
	return &Drain{started: make(chan struct{}), idle: make(chan struct{})}
}

// LimitBytes has connections that only carry bytes closed when the drain has gone on
// for so long; see Handle.Bytes. It has to be called before the drain begins, and
// zero sets no limit but the drain's own.
func (d *Drain) LimitBytes(patience time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.patience = patience
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

// Handle keeps a drain from completing. A nil Handle holds nothing.
type Handle struct {
	d *Drain
	// prev, next and all that follows are guarded by d.mu.
	prev, next *Handle
	begin      func()
	conn       net.Conn
	weigh      func() int
	bytes      bool
	released   bool
}

// Hold registers work that the drain has to wait for. It is false, and there
// is no handle, once the drain has begun: work that arrives late has to be
// refused.
func (d *Drain) Hold() (*Handle, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil, false
	}
	h := &Handle{d: d, next: d.first}
	if d.first != nil {
		d.first.prev = h
	}
	d.first = h
	d.held++
	return h, true
}

// OnStart has begin called, once, when the drain begins, or at once if it has.
// It replaces the function that was set before; nil takes it away. begin must
// not block, and may still be running when Release returns.
func (h *Handle) OnStart(begin func()) {
	if h == nil {
		return
	}
	h.d.mu.Lock()
	now := h.d.draining && !h.released
	if !now {
		h.begin = begin
	}
	h.d.mu.Unlock()
	if now && begin != nil {
		begin()
	}
}

// Bytes says that from now on the attached connection only carries bytes whose
// meaning nobody here knows: its ends are not told of a drain, for there is no way
// to. It takes the place of OnStart.
func (h *Handle) Bytes() {
	if h == nil {
		return
	}
	h.d.mu.Lock()
	h.begin, h.bytes = nil, !h.released
	var late net.Conn
	if h.d.impatient {
		late = h.conn
	}
	h.d.mu.Unlock()
	if late != nil {
		late.Close()
	}
}

// Attach says that the work is what is done on conn, which is closed if the
// drain gives up waiting.
func (h *Handle) Attach(conn net.Conn) {
	if h == nil {
		return
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.conn = conn
}

// OnWeigh says that the work may be given up if memory runs out, and has weigh
// called to tell how many bytes are held for it; see Conns. It replaces the
// function that was set before. weigh must not block, and may be called once
// more after Release.
func (h *Handle) OnWeigh(weigh func() int) {
	if h == nil {
		return
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	h.weigh = weigh
}

// Conn is a connection that is being worked on.
type Conn struct {
	net.Conn
	// Weight is how many bytes are held for it, as far as is known.
	Weight int
}

// Conns gives the connections that may be given up, the newest first.
func (d *Drain) Conns() []Conn {
	d.mu.Lock()
	all, weigh := make([]Conn, 0, d.held), make([]func() int, 0, d.held)
	for h := d.first; h != nil; h = h.next {
		if h.conn != nil && h.weigh != nil {
			all, weigh = append(all, Conn{Conn: h.conn}), append(weigh, h.weigh)
		}
	}
	d.mu.Unlock()
	for i, w := range weigh {
		all[i].Weight = w()
	}
	return all
}

// attached gives the connections of the work that is left: all of it, or what only
// carries bytes, of which more is not waited for then.
func (d *Drain) attached(bytes bool) []net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.impatient = d.impatient || bytes
	var all []net.Conn
	for h := d.first; h != nil; h = h.next {
		if h.conn != nil && (h.bytes || !bytes) {
			all = append(all, h.conn)
		}
	}
	return all
}

// Release says that the work is done. Further calls do nothing.
func (h *Handle) Release() {
	if h == nil {
		return
	}
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.released {
		return
	}
	h.released, h.begin, h.conn, h.weigh = true, nil, nil, nil
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		h.d.first = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.d.held--
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
// was released. If ctx ends first the attached connections are closed, and the
// error tells how many handles were not released.
func (d *Drain) Drain(ctx context.Context) error {
	for _, begin := range d.begin() {
		begin()
	}
	select {
	case <-d.idle:
		return nil
	default:
	}
	late, stop := d.late()
	defer stop()
	for {
		select {
		case <-d.idle:
			return nil
		case <-late:
			late = nil
			for _, c := range d.attached(true) {
				c.Close()
			}
		case <-ctx.Done():
			held := d.Held()
			for _, c := range d.attached(false) {
				c.Close()
			}
			return fmt.Errorf("%d connections still open: %w", held, context.Cause(ctx))
		}
	}
}

// late says when bytes are not waited for any more, if there is such a time.
func (d *Drain) late() (<-chan time.Time, func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.patience <= 0 || d.impatient {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(d.patience)
	return t.C, t.Stop
}

// begin marks the drain as begun, the first time, and gives the functions that
// have to be called then.
func (d *Drain) begin() []func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return nil
	}
	d.draining = true
	close(d.started)
	if d.held == 0 {
		close(d.idle)
	}
	var all []func()
	for h := d.first; h != nil; h = h.next {
		if h.begin != nil {
			all = append(all, h.begin)
		}
	}
	return all
}
