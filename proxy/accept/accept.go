// Package accept runs listeners: a goroutine per connection that has something to
// do, a drain that ends it all.
//
//	accept.Loop(listener, accept.Options{Drain: d, Log: log, Handle: proxy.accept})
//
// Loop belongs to the goroutine that calls it; it returns once the listener is
// closed and every connection's handler has returned.
package accept

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/overload"
)

// Options are what a loop needs.
type Options struct {
	// Drain ends the loop; each connection holds it.
	Drain *drain.Drain
	Log   *slog.Logger
	// Handle takes a connection, on a goroutine of its own, and closes it, or
	// returns what is left to be done, which does. The handle is released when
	// all is done.
	Handle func(conn net.Conn, h *drain.Handle) Rest
	// Memory, if set, holds the loop back while memory runs out, and may have
	// its connections reset. It is for traffic; probes have to be answered.
	Memory *overload.Guard
}

// Rest is what is left to be done of a connection. It is done on another goroutine
// than what came before: connections are many and wait nearly all of the time, most
// of what they take is stack, and a stack that has grown stays so for long, while
// new goroutines have small ones.
type Rest interface {
	// GoOn goes on until the connection is closed, or until there is another
	// stack to be left behind: again says that it has to be called once more.
	GoOn() (again bool)
}

// Waiting is a Rest that may wait for long before it goes on again. It needs no
// goroutine meanwhile if all that it waits for is that its connection has something
// to read.
type Waiting interface {
	Rest
	// Waits is the connection, below what has read more of it than was used; nil
	// if something else is waited for. It is called after GoOn, on its goroutine.
	Waits() net.Conn
}

// Whole makes a handler of one that leaves nothing.
func Whole(handle func(net.Conn, *drain.Handle)) func(net.Conn, *drain.Handle) Rest {
	return func(conn net.Conn, h *drain.Handle) Rest {
		handle(conn, h)
		return nil
	}
}

// pauses between attempts after an error that will pass, such as too many open
// files.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// unknown is the weight of a connection that does not tell it.
func unknown() int { return 0 }

// Loop accepts until the listener is closed by the drain or by anybody.
func Loop(ln net.Listener, o Options) {
	// The listener itself takes part in the drain: it is closed first, so
	// that the kernel refuses what comes later.
	self, ok := o.Drain.Hold()
	if !ok {
		ln.Close()
		return
	}
	self.OnStart(func() { ln.Close() })
	var conns sync.WaitGroup
	// Connections wait in the lot for their next request.
	var lot netx.Lot
	defer lot.Close()
	pause := firstPause
	for {
		o.Memory.Admit(o.Drain.Started())
		conn, err := ln.Accept()
		if err != nil {
			if o.Drain.Draining() || errors.Is(err, net.ErrClosed) {
				break
			}
			o.Log.Warn("Server failed to accept connection", "error", err)
			select {
			case <-time.After(pause):
			case <-o.Drain.Started():
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		h, ok := o.Drain.Hold()
		if !ok {
			conn.Close()
			break
		}
		// A connection that outlives the drain's patience is cut.
		conn = o.Memory.Pace(conn)
		h.Attach(conn)
		if o.Memory != nil {
			h.OnWeigh(unknown)
		}
		conns.Add(1)
		go func() {
			if rest := o.Handle(conn, h); rest != nil {
				go (&connection{&conns, &lot, h, rest}).goOn()
				return
			}
			h.Release()
			conns.Done()
		}()
	}
	self.Release()
	conns.Wait()
}

// connection is one of which something is left to be done.
type connection struct {
	conns *sync.WaitGroup
	lot   *netx.Lot
	h     *drain.Handle
	rest  Rest
}

// goOn does the rest of a connection. Many connections wait below it: the less it
// has on the stack, the better.
func (c *connection) goOn() {
	switch {
	case !c.rest.GoOn():
		c.h.Release()
		c.conns.Done()
	case !c.park():
		go c.goOn()
	}
}

// park has the connection wait without a goroutine, if it can.
//
//go:noinline
func (c *connection) park() bool {
	w, ok := c.rest.(Waiting)
	if !ok {
		return false
	}
	conn := w.Waits()
	return conn != nil && c.lot.Park(conn, c)
}

// Wake implements netx.Waker.
func (c *connection) Wake() { go c.goOn() }
