// Package overload keeps the proxy within its container's memory: when memory
// runs out it sheds load, in steps, instead of being killed by the kernel.
//
//	guard := overload.New(overload.Options{Read: memory.Read, Conns: drain.Conns, ...})
//	go guard.Run(ctx)
//	// for each request and each opaque connection:
//	if guard.Scarce(now) { ... 503, service unavailable ... }
//	// around each accept:
//	guard.Admit(draining)
//	conn = guard.Pace(conn)
//
// What is watched is the memory that the kernel cannot take back: what the
// runtime holds, and what the kernel holds for the process, such as the data
// that waits in sockets. The steps are:
//
//	normal    everything is served
//	scarce    requests are refused with 503, as for any other load that is shed,
//	          and their connections closed; opaque connections are closed; heads
//	          that need large buffers are refused
//	critical  besides, nothing is accepted, clients are read from slowly, and the
//	          connections that hold most are reset until it is over
//
// The heap's own limit follows: the collector is told to keep the heap below
// what the rest leaves over, so that memory is scarce only when collecting does
// not help.
//
// A nil *Guard is that of a process without a limit: it never sheds. Methods may
// be called from any goroutine. Whoever asks may take a reading, of which there is
// one every few milliseconds at most; what follows from it is done by Run.
package overload

import (
	"context"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Options are what a guard watches and does.
type Options struct {
	// Read gives the memory at this moment. It is called from one goroutine
	// at a time, possibly with locks of others held: it must not wait.
	Read func() (Usage, error)
	// Conns gives the connections that may be reset.
	Conns func() []Conn
	// Log tells when load is shed, and how it ended.
	Log *slog.Logger
	// Now tells the time; nil means time.Now.
	Now func() time.Time
	// LimitHeap sets the runtime's soft limit; nil means
	// debug.SetMemoryLimit.
	LimitHeap func(bytes int64)
	// Reset ends a connection without a word; nil means netx.Abort.
	Reset func(net.Conn)
	// Free gives to the system what is free; nil means debug.FreeOSMemory.
	Free func()
}

// Conn is a connection that may be reset.
type Conn struct {
	Conn net.Conn
	// Held are the bytes that the process holds for it, roughly; those in
	// its socket are added.
	Held int64
}

// Stats tells what a guard saw and did.
type Stats struct {
	Usage Usage
	// Scarce says that load is being shed.
	Scarce bool
	// Reset counts the connections that were reset.
	Reset uint64
}

// Guard is described with the package.
type Guard struct {
	o Options
	// level is the state of the last reading, next when the following one is
	// due, in nanoseconds since born.
	level atomic.Int32
	next  atomic.Int64
	reset atomic.Uint64
	born  time.Time
	// kick wakes Run when the level has changed.
	kick chan struct{}

	// reading is held by whoever takes a reading, and by nobody who waits for
	// anything else.
	reading sync.Mutex

	// mu guards the following.
	mu sync.Mutex
	// last is the last reading.
	last Usage
	// calm is closed when nothing is critical any more; nil if nothing is.
	calm chan struct{}

	// freeing is set while memory is given back, on a goroutine that working
	// counts.
	freeing atomic.Bool
	working sync.WaitGroup

	// The rest is Run's, and New's before. heap is the limit that was set
	// last, heapSet when; told is the level that was logged last, shedAt when
	// load began to be shed.
	heap    int64
	heapSet time.Time
	told    level
	shedAt  time.Time
}

// New makes a guard. It acts while Run runs.
func New(o Options) *Guard {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LimitHeap == nil {
		o.LimitHeap = func(n int64) { debug.SetMemoryLimit(n) }
	}
	if o.Reset == nil {
		o.Reset = netx.Abort
	}
	if o.Free == nil {
		o.Free = debug.FreeOSMemory
	}
	g := &Guard{o: o, born: o.Now(), kick: make(chan struct{}, 1)}
	g.look(g.born)
	g.act(g.born)
	return g
}

// Run watches and acts until ctx is done.
func (g *Guard) Run(ctx context.Context) {
	if g == nil {
		return
	}
	defer g.working.Wait()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-g.kick:
		case <-ctx.Done():
			return
		}
		now := g.o.Now()
		g.look(now)
		t.Reset(pause(g.act(now)))
	}
}

// Scarce reports whether load has to be shed. now is the caller's time, for it
// has looked at the clock already.
func (g *Guard) Scarce(now time.Time) bool {
	if g == nil {
		return false
	}
	if int64(now.Sub(g.born)) >= g.next.Load() {
		g.look(now)
	}
	return level(g.level.Load()) != normal
}

// Full is Scarce for who has no time at hand.
func (g *Guard) Full() bool { return g != nil && g.Scarce(g.o.Now()) }

// Grown is to be called when the process has taken more memory than a reading's
// age allows for. It never waits.
func (g *Guard) Grown() {
	if g != nil {
		g.look(g.o.Now())
	}
}

// Admit returns when another connection may be accepted, or when stop is
// closed.
func (g *Guard) Admit(stop <-chan struct{}) {
	if g == nil {
		return
	}
	for g.Full() {
		calm := g.critical()
		if calm == nil {
			return
		}
		select {
		case <-calm:
		case <-stop:
			return
		}
	}
}

// critical gives what is closed when it is over, nil if nothing is critical.
func (g *Guard) critical() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calm
}

// Stats tells what there is to tell.
func (g *Guard) Stats() Stats {
	if g == nil {
		return Stats{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Usage: g.last, Scarce: level(g.level.Load()) != normal, Reset: g.reset.Load()}
}

// look takes a reading, unless somebody else does.
func (g *Guard) look(now time.Time) {
	if !g.reading.TryLock() {
		return
	}
	defer g.reading.Unlock()
	u, err := g.o.Read()
	if err != nil || u.Limit <= 0 {
		// Without a reading nothing is refused: the state before would be
		// as wrong as any.
		u = Usage{}
	}
	before := level(g.level.Load())
	l := judge(before, u)
	g.level.Store(int32(l))
	g.next.Store(int64(now.Sub(g.born) + freshness(u)))
	g.mu.Lock()
	g.last = u
	switch {
	case l == critical && g.calm == nil:
		g.calm = make(chan struct{})
	case l != critical && g.calm != nil:
		close(g.calm)
		g.calm = nil
	}
	g.mu.Unlock()
	if l != before {
		select {
		case g.kick <- struct{}{}:
		default: // it is awake already
		}
	}
}

// act does what follows from the last reading, which it returns.
func (g *Guard) act(now time.Time) Usage {
	g.mu.Lock()
	u := g.last
	g.mu.Unlock()
	l := level(g.level.Load())
	g.limitHeap(now, u)
	switch {
	case g.told == normal && l != normal:
		g.shedAt = now
		g.o.Log.Warn("Memory is scarce; shedding load", "used", u.Used, "limit", u.Limit)
	case g.told != normal && l == normal:
		g.o.Log.Warn("Memory is no longer scarce", "used", u.Used, "limit", u.Limit,
			"after", now.Sub(g.shedAt), "connections.reset", g.reset.Load())
	}
	g.told = l
	if l == critical {
		g.relieve(u)
	}
	return u
}

// limitHeap tells the runtime what is left for it.
func (g *Guard) limitHeap(now time.Time, u Usage) {
	if u.Limit <= 0 {
		return
	}
	want := heapLimit(u)
	off := want - g.heap
	if g.heap != 0 && (max(off, -off) < u.Limit/32 || now.Sub(g.heapSet) < heapPause) {
		// Setting it stops the world for a moment.
		return
	}
	g.heap, g.heapSet = want, now
	g.o.LimitHeap(want)
}

// relieve resets connections until enough will have been freed. What they held
// in the heap shows only after a collection: until then more are reset only in
// the very last moment.
func (g *Guard) relieve(u Usage) {
	if g.freeing.Load() && u.Used < u.Limit-headroom(u.Limit).last {
		return
	}
	conns := g.o.Conns()
	for i := range conns {
		conns[i].Held += netx.SocketMemory(conns[i].Conn)
	}
	for _, i := range victims(conns, u.Used-(u.Limit-headroom(u.Limit).calm)) {
		g.reset.Add(1)
		g.o.Reset(conns[i].Conn)
	}
	if g.freeing.CompareAndSwap(false, true) {
		g.working.Go(func() {
			g.o.Free()
			g.freeing.Store(false)
			g.Grown()
		})
	}
}
