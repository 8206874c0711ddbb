package faultconn

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Pipe returns both ends of a connection in memory that holds up to size bytes
// in each direction, as sockets do; net.Pipe holds none. It supports half-close
// and deadlines.
func Pipe(size int) (net.Conn, net.Conn) {
	ab, ba := newHalf(size), newHalf(size)
	return &end{r: ba, w: ab}, &end{r: ab, w: ba}
}

// half is one direction.
type half struct {
	// mu guards the rest; cond is signalled at each change.
	mu     sync.Mutex
	cond   sync.Cond
	data   []byte
	size   int
	ended  bool // by CloseWrite or Close of the writer
	broken bool // the reader closed
	// Deadlines of the reader and the writer, and what wakes them.
	readBy, writeBy       time.Time
	readTimer, writeTimer *time.Timer
}

func newHalf(size int) *half {
	h := &half{size: size}
	h.cond.L = &h.mu
	return h
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken:
			return 0, net.ErrClosed
		case passed(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(h.data) > 0:
			n := copy(p, h.data)
			h.data = append(h.data[:0], h.data[n:]...)
			h.cond.Broadcast()
			return n, nil
		case h.ended:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	written := 0
	for len(p) > 0 {
		switch {
		case h.ended:
			return written, net.ErrClosed
		case h.broken:
			return written, EOF.write()
		case passed(h.writeBy):
			return written, os.ErrDeadlineExceeded
		case len(h.data) < h.size:
			n := min(len(p), h.size-len(h.data))
			h.data = append(h.data, p[:n]...)
			written += n
			p = p[n:]
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
	return written, nil
}

// deadline sets a deadline and arms its timer.
func (h *half) deadline(by *time.Time, timer **time.Timer, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*by = t
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	if !t.IsZero() {
		*timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			h.cond.Broadcast()
			h.mu.Unlock()
		})
	}
	h.cond.Broadcast()
}

func (h *half) change(f func()) {
	h.mu.Lock()
	f()
	h.cond.Broadcast()
	for _, t := range []*time.Timer{h.readTimer, h.writeTimer} {
		if t != nil && h.ended && h.broken {
			t.Stop()
		}
	}
	h.mu.Unlock()
}

// end is one end of a Pipe.
type end struct{ r, w *half }

type address struct{}

func (address) Network() string { return "pipe" }
func (address) String() string  { return "pipe" }

func (e *end) Read(p []byte) (int, error)  { return e.r.read(p) }
func (e *end) Write(p []byte) (int, error) { return e.w.write(p) }
func (e *end) LocalAddr() net.Addr         { return address{} }
func (e *end) RemoteAddr() net.Addr        { return address{} }

func (e *end) CloseWrite() error {
	e.w.change(func() { e.w.ended = true })
	return nil
}

func (e *end) Close() error {
	e.w.change(func() { e.w.ended = true })
	e.r.change(func() { e.r.broken = true })
	return nil
}

func (e *end) SetDeadline(t time.Time) error {
	e.SetReadDeadline(t)
	return e.SetWriteDeadline(t)
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.r.deadline(&e.r.readBy, &e.r.readTimer, t)
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.w.deadline(&e.w.writeBy, &e.w.writeTimer, t)
	return nil
}
