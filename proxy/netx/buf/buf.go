// Package buf lends the data path its byte buffers.
//
//	b := buf.Get(4 << 10)
//	n, err := conn.Read(b.B)
//	...
//	b.Free()
//
// Buffers come in classes, each twice as large as the one before. Every Get is
// followed by exactly one Free, on every path, by whoever owns the buffer then;
// Count lets tests check that. Nothing is kept for good: the pools let go
// of what was not used during two garbage collections, so memory shrinks after
// a burst.
//
// Get and Free may be called from any goroutine. A buffer belongs to one at a
// time.
package buf

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// The classes go from 1 KiB to 512 KiB, which holds the largest HTTP/1 head
// (417,792 bytes).
const (
	minShift = 10
	maxShift = 19
	classes  = maxShift - minShift + 1
	// Max is the size of the largest class.
	Max = 1 << maxShift
)

// Buffer is a lent piece of memory.
type Buffer struct {
	// B is the whole of it; its length is the size of the class.
	B     []byte
	class int8
}

var pools [classes]sync.Pool

// counting turns the count of lent buffers on; see Count.
var (
	counting atomic.Bool
	lent     atomic.Int64
)

// Get lends a buffer of at least n bytes. Its content is arbitrary. Larger
// buffers than Max are not pooled.
func Get(n int) *Buffer {
	if counting.Load() {
		lent.Add(1)
	}
	c := class(n)
	if c >= classes {
		grow(n)
		return &Buffer{B: make([]byte, n), class: -1}
	}
	if b, ok := pools[c].Get().(*Buffer); ok {
		return b
	}
	grow(1 << (c + minShift))
	return &Buffer{B: make([]byte, 1<<(c+minShift)), class: int8(c)}
}

// watcher is told how many bytes are taken from the runtime.
var watcher atomic.Pointer[func(n int)]

// Watch has f told of buffers that are newly allocated, in bytes, on the
// goroutine that needs them and with whatever locks it holds: f must not wait.
// There is one such function in a process, for there is one memory; nil takes it
// away.
func Watch(f func(n int)) {
	if f == nil {
		watcher.Store(nil)
		return
	}
	watcher.Store(&f)
}

// grow notes that n bytes are taken from the runtime.
func grow(n int) {
	if f := watcher.Load(); f != nil {
		(*f)(n)
	}
}

// Free gives the buffer back. Freeing nil does nothing.
func (b *Buffer) Free() {
	if b == nil {
		return
	}
	if counting.Load() {
		lent.Add(-1)
	}
	if b.class >= 0 {
		pools[b.class].Put(b)
	}
}

// Grow returns a buffer of at least n bytes that begins with the first used
// bytes of b, which it frees.
func (b *Buffer) Grow(used, n int) *Buffer {
	g := Get(n)
	copy(g.B, b.B[:used])
	b.Free()
	return g
}

// class returns the number of the smallest class that holds n bytes.
func class(n int) int {
	if n <= 1<<minShift {
		return 0
	}
	return bits.Len(uint(n-1)) - minShift
}

// Count starts counting, for tests, and returns a function that tells how many
// buffers were lent since and not freed. Buffers lent before must not be freed
// after, or they are counted as negative.
func Count() (outstanding func() int) {
	counting.Store(true)
	base := lent.Load()
	return func() int { return int(lent.Load() - base) }
}
