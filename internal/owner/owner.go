// Package owner is a goroutine that owns changing state: others hand it functions to call, and it calls them one after the
// other.
//
//	o := owner.New(1024)
//	go o.Run(ctx, flush)                     // flush after each batch of calls
//	o.Post(func() { ... })                   // some time
//	err := o.Do(ctx, func() { ... })         // now
//
// Everything but Run may be called from any goroutine, and from that of Run nothing may be: Do would wait for itself.
package owner

import (
	"context"
	"errors"
)

// ErrStopped is returned to callers of an owner that has stopped.
var ErrStopped = errors.New("stopped")

// Owner is the goroutine. New makes one.
type Owner struct {
	calls chan func()
	done  chan struct{}
}

// New returns an owner that does not run yet. length is how many functions may wait; who finds that many waits, too, which
// holds back its source.
func New(length int) *Owner {
	return &Owner{calls: make(chan func(), length), done: make(chan struct{})}
}

// Run calls what it is handed until ctx is done. It takes everything that waits, then calls flush: many events come together,
// and what follows from them is worked out once. It must be called once.
func (o *Owner) Run(ctx context.Context, flush func()) {
	defer close(o.done)
	for {
		select {
		case <-ctx.Done():
			return
		case call := <-o.calls:
			call()
		}
		for waiting := true; waiting; {
			select {
			case call := <-o.calls:
				call()
			default:
				waiting = false
			}
		}
		flush()
	}
}

// Stopped is closed when Run has returned.
func (o *Owner) Stopped() <-chan struct{} { return o.done }

// Post has f called, some time, or never if the owner stops. It waits while too many wait.
func (o *Owner) Post(f func()) {
	select {
	case o.calls <- f:
	case <-o.done:
	}
}

// Do has f called and waits until it has been. The error is ErrStopped, or that of ctx; f may have been called all the same.
func (o *Owner) Do(ctx context.Context, f func()) error {
	called := make(chan struct{})
	select {
	case o.calls <- func() { f(); close(called) }:
	case <-o.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-called:
		return nil
	case <-o.done:
		return ErrStopped
	}
}
