// Package copy joins two connections byte for byte: TCP forwarding, opaque
// streams, and tunnels after an upgrade (proxy chapter, sections 4 and 16).
//
//	var d copy.Duplex
//	res := d.Run(client, server)
//
// Each direction runs until its own end: EOF on one side shuts down writing on
// the other, and the reverse direction goes on. A direction holds a buffer only
// while bytes pass.
package copy

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Result tells how both directions ended.
type Result struct {
	// Sent is what went from the first connection to the second, Received
	// the other way, in bytes.
	Sent, Received int64
	// SendErr and ReceiveErr are why the directions ended; nil is EOF.
	SendErr, ReceiveErr error
}

// Err returns the first of both errors.
func (r Result) Err() error {
	if r.SendErr != nil {
		return r.SendErr
	}
	return r.ReceiveErr
}

// Duplex joins two connections, once. Cancel may be called from any goroutine.
type Duplex struct {
	// mu guards the rest.
	mu    sync.Mutex
	a, b  net.Conn
	cause error
}

// Cancel ends both directions; Run returns with the cause.
func (d *Duplex) Cancel(cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cause != nil {
		return
	}
	d.cause = cause
	if d.a != nil {
		d.interruptLocked()
	}
}

// interruptLocked makes all reads and writes return. Deadlines are used since
// closing a TLS connection may block.
func (d *Duplex) interruptLocked() {
	d.a.SetDeadline(past)
	d.b.SetDeadline(past)
}

var past = time.Unix(1, 0)

// Run copies both ways until both directions ended, then closes both
// connections. An error in one direction ends the other too. One direction
// runs on the caller's goroutine.
func (d *Duplex) Run(a, b net.Conn) Result {
	d.mu.Lock()
	d.a, d.b = a, b
	if d.cause != nil {
		d.interruptLocked()
	}
	d.mu.Unlock()
	var res Result
	done := make(chan struct{})
	go func() {
		defer close(done)
		res.Received, res.ReceiveErr = d.direction(a, b)
	}()
	res.Sent, res.SendErr = d.direction(b, a)
	<-done
	a.Close()
	b.Close()
	d.mu.Lock()
	cause := d.cause
	d.a, d.b = nil, nil
	d.mu.Unlock()
	var own *ended
	if cause != nil && !errors.As(cause, &own) {
		res.SendErr, res.ReceiveErr = cause, cause
	} else if own != nil {
		// One direction failed and interrupted the other: the failure
		// counts, not the interruption.
		if own.dst == b {
			res.ReceiveErr = nil
		} else {
			res.SendErr = nil
		}
	}
	return res
}

// ended is the cause with which a failed direction cancels the other.
type ended struct {
	dst net.Conn
	err error
}

func (e *ended) Error() string { return e.err.Error() }

// direction copies from src to dst until EOF and passes that on.
func (d *Duplex) direction(dst, src net.Conn) (int64, error) {
	n, err := stream(dst, src)
	if err != nil {
		d.Cancel(&ended{dst, err})
		return n, err
	}
	if err := netx.CloseWrite(dst); err != nil && !netx.IsClosed(err) && !gone(err) {
		d.Cancel(&ended{dst, err})
		return n, err
	}
	return n, nil
}
