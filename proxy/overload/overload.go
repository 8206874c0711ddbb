// Package overload keeps the proxy within its container's memory: when memory
// runs out it sheds load, in steps, instead of being killed by the kernel.
//
//	guard := overload.New(overload.Options{Read: memory.Read, Conns: drain.Conns, ...})
//	go guard.Run(ctx)
//	// around each accept:
//	guard.Admit(draining)
//	conn = guard.Pace(conn)
//	standing := overload.StandingOf(conn)
//	// for each request:
//	if guard.Refuse(now, standing) { ... 503, service unavailable ... }
//	...
//	guard.Served(standing)
//	// for each opaque connection:
//	if guard.Full() { ... close ... }
//
// What is watched is the memory that the kernel cannot take back: what the
// runtime holds, and what the kernel holds for the process, such as the data
// that waits in sockets. The steps are:
//
//	normal     everything is served
//	scarce     requests are refused with 503, as for any other load that is shed,
//	           and their connections closed, except on connections that were
//	           answered before; opaque connections are closed; heads that need
//	           large buffers are refused; connections are accepted slowly; if that
//	           does not help, connections are reset
//	critical   besides, nothing is accepted, clients without standing are read from
//	           slowly, and connections are reset at once
//	desperate  besides, there are no exceptions any more
//
// Connections that are to be reset are those of the clients that hold most, until
// no client holds more than what there is for each; a client is an address. If
// there is more than one, they are known as soon as memory is scarce, and are no
// exceptions.
//
// The heap's own limit follows: the collector is told to keep the heap below
// what the rest leaves over, so that memory is scarce only when collecting does
// not help.
//
// A nil *Guard is that of a process without a limit: it never sheds. Methods may
// be called from any goroutine. Whoever asks may take a reading, of which there is
// one every few milliseconds at most, and does what follows from it: in a process
// that is short of everything Run alone would come too late.
package overload

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Options are what a guard watches and does.
type Options struct {
	// Read gives the memory at this moment. It and LimitHeap are called by
	// one goroutine at a time, but possibly with locks of its callers held:
	// they must not wait for any that is held while memory is allocated.
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
	// Free collects what is free, on a goroutine of its own; nil means
	// runtime.GC.
	Free func()
}

// Conn is a connection that may be reset.
type Conn struct {
	Conn net.Conn
	// Held are the bytes that the process holds for it, roughly; those in
	// its socket are added.
	Held int64
	// Client is where it comes from, zero if that is not known.
	Client netip.Addr
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
	// taken is what was announced since.
	taken atomic.Int64
	reset atomic.Uint64
	born  time.Time
	// timer is when Run looks next.
	timer *time.Timer
	// news is what Run has to log.
	news chan news
	// mu guards the following.
	mu sync.Mutex
	// last is the last reading; written by whoever holds looking as well.
	last Usage
	// calm is closed when nothing is critical any more; nil if nothing is.
	calm chan struct{}

	// resetting, collecting and weighing are set while that is done, on
	// goroutines that working counts.
	resetting, collecting, weighing atomic.Bool
	working                         sync.WaitGroup

	// looking is held by whoever takes a reading. It guards the rest, and is
	// only tried, so that nobody waits for it, but by Run at its end.
	looking sync.Mutex
	// stopped says that Run has ended. quiet is for pause. heap is the limit that was set last, heapSet when; shedAt is when load
	// began to be shed, relievedAt when connections were reset last, weighedAt
	// when it was looked who holds most.
	stopped                       bool
	quiet                         int
	heap                          int64
	heapSet                       time.Time
	shedAt, relievedAt, weighedAt time.Time
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
		o.Free = runtime.GC
	}
	g := &Guard{o: o, born: o.Now(), timer: time.NewTimer(longestWait), news: make(chan news, 16)}
	g.look(g.born)
	return g
}

// Run watches and acts until ctx is done.
func (g *Guard) Run(ctx context.Context) {
	if g == nil {
		return
	}
	defer func() {
		g.looking.Lock()
		g.stopped = true
		g.looking.Unlock()
		g.timer.Stop()
		g.working.Wait()
	}()
	for {
		select {
		case <-g.timer.C:
			if g.looking.TryLock() {
				g.lookLocked(g.o.Now())
				g.looking.Unlock()
			}
			// Else somebody else is at it, and sets the timer, too.
		case n := <-g.news:
			g.log(n)
		case <-ctx.Done():
			return
		}
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

// Take is Full for who is about to take n bytes of memory: much of it makes a
// reading due, however old the last one is.
func (g *Guard) Take(n int) bool {
	if g == nil {
		return false
	}
	if g.taken.Add(int64(n)) >= step {
		g.look(g.o.Now())
	}
	return level(g.level.Load()) != normal
}

// step is how much memory may be taken between readings.
const step = 256 << 10

// slowly is the time between connections that are accepted while memory is
// scarce: to refuse them takes memory, too.
const slowly = time.Millisecond

// connCost is what a connection takes at first.
const connCost = 16 << 10

// Admit returns when another connection may be accepted, or when stop is
// closed.
func (g *Guard) Admit(stop <-chan struct{}) {
	if !g.Take(connCost) {
		return
	}
	t := time.NewTimer(slowly)
	defer t.Stop()
	select {
	case <-t.C:
	case <-stop:
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

// look takes a reading and does what follows from it, unless somebody else does.
func (g *Guard) look(now time.Time) {
	if !g.looking.TryLock() {
		return
	}
	defer g.looking.Unlock()
	g.lookLocked(now)
}

// lookLocked is look while looking is held.
func (g *Guard) lookLocked(now time.Time) {
	taken := g.taken.Swap(0)
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
	off := u.Used - g.last.Used
	if taken < step && max(off, -off) < u.Limit/64 {
		g.quiet++
	} else {
		g.quiet = 0
	}
	g.timer.Reset(pause(u, g.quiet))
	g.mu.Lock()
	g.last = u
	switch {
	case l >= critical && g.calm == nil:
		g.calm = make(chan struct{})
	case l < critical && g.calm != nil:
		close(g.calm)
		g.calm = nil
	}
	g.mu.Unlock()
	g.limitHeap(now, u)
	switch {
	case before == normal && l != normal:
		g.shedAt, g.relievedAt = now, now
		g.say(news{u: u})
	case before != normal && l == normal:
		g.say(news{u: u, after: now.Sub(g.shedAt)})
	}
	if l != normal && now.Sub(g.weighedAt) >= weighPause || l == normal && before != normal {
		g.weigh(now, u, l != normal)
	}
	if l >= critical || l == scarce && now.Sub(g.relievedAt) >= patience {
		g.relieve(now, u)
	}
}

// news is a change that the log is to tell: that memory is scarce, or no longer.
type news struct {
	u Usage
	// after is how long it was scarce; 0 if it is now.
	after time.Duration
}

// say leaves a line to Run, for who takes a reading must not wait for the log.
func (g *Guard) say(n news) {
	select {
	case g.news <- n:
	default: // there was enough of it lately
	}
}

func (g *Guard) log(n news) {
	if n.after == 0 {
		g.o.Log.Warn("Memory is scarce; shedding load", "used", n.u.Used, "limit", n.u.Limit)
		return
	}
	g.o.Log.Warn("Memory is no longer scarce", "used", n.u.Used, "limit", n.u.Limit,
		"after", n.after, "connections.reset", g.reset.Load())
}

// patience is how long memory may be scarce before connections are reset, and
// then again: those who hold it might never let go.
const patience = 250 * time.Millisecond

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

// weighPause is the time between looks at who holds most.
const weighPause = 100 * time.Millisecond

// weigh notes whose connections are over their client's share, or that none is if
// memory is not scarce. As with relieve, a goroutine does it.
func (g *Guard) weigh(now time.Time, u Usage, scarce bool) {
	if g.stopped || !g.weighing.CompareAndSwap(false, true) {
		return
	}
	g.weighedAt = now
	g.working.Go(func() {
		defer g.weighing.Store(false)
		conns := g.o.Conns()
		over := make([]bool, len(conns))
		if scarce && several(conns) {
			g.heavier(conns)
			for _, i := range victims(conns, u.Used-(u.Limit-headroom(u.Limit).calm)) {
				over[i] = true
			}
		}
		for i, c := range conns {
			if s := StandingOf(c.Conn); s != nil && s.over.Load() != over[i] {
				s.over.Store(over[i])
			}
		}
	})
}

// heavier adds what connections hold in the kernel.
func (g *Guard) heavier(conns []Conn) {
	for i := range conns {
		conns[i].Held += netx.SocketMemory(conns[i].Conn)
	}
}

// relieve resets connections until enough will have been freed. What they held
// in the heap shows only after a collection: until then more are reset only in
// the very last moment. It leaves the work to a goroutine, for to close a
// connection waits for those who use it, of whom the caller may be one.
func (g *Guard) relieve(now time.Time, u Usage) {
	if g.stopped || g.collecting.Load() && u.Used < u.Limit-headroom(u.Limit).last || !g.resetting.CompareAndSwap(false, true) {
		return
	}
	g.relievedAt = now
	g.working.Go(func() {
		conns := g.o.Conns()
		g.heavier(conns)
		for _, i := range victims(conns, u.Used-(u.Limit-headroom(u.Limit).calm)) {
			g.reset.Add(1)
			g.o.Reset(conns[i].Conn)
		}
		g.resetting.Store(false)
		if g.collecting.CompareAndSwap(false, true) {
			g.o.Free()
			g.collecting.Store(false)
		}
	})
}
