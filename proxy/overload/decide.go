package overload

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"
	"time"
)

// Usage is the memory of the process at one moment, in bytes.
type Usage struct {
	// Limit is where the kernel kills.
	Limit int64
	// Used is what counts towards it and cannot be taken back, by the kernel
	// that is; Heap the part of it that the runtime holds.
	Used, Heap int64
	// Stacks is the part of Heap that goroutines' stacks are.
	Stacks int64
	// HeapMax is the soft limit that the operator has set; 0 for none.
	HeapMax int64
}

// level is how bad it is.
type level int32

const (
	normal level = iota
	scarce
	critical
	desperate
)

// margins are the distances from the limit at which levels begin and end, in
// bytes, the largest first. Between where one begins and where it ends there is
// room, so that shedding a little does not end and begin again all the time.
type margins struct {
	// calm ends scarceness, which scarce begins.
	calm, scarce int64
	// heap is what the runtime's soft limit leaves. The collector defends it,
	// so what is in use beyond is no garbage.
	heap int64
	// relieved ends what critical begins.
	relieved, critical int64
	// last is the very last moment, in which nobody is excused.
	last int64
}

// headroom gives the margins for a limit. They are shares of it, but for small
// limits: a burst of connections takes some megabytes before anything can be
// done about it, whatever the limit is.
func headroom(limit int64) margins {
	at := func(percent, least, most int64) int64 {
		return min(max(share(limit, percent), least<<20), share(limit, most))
	}
	return margins{
		calm: at(20, 14, 40), heap: at(18, 12, 36), scarce: at(15, 11, 33),
		relieved: at(12, 9, 28), critical: at(8, 7, 22), last: at(4, 3, 10),
	}
}

func share(limit, percent int64) int64 { return limit / 100 * percent }

// judge decides the level by the one before and the reading.
func judge(before level, u Usage) level {
	m := headroom(u.Limit)
	// Many goroutines that wait for the same need more stack at the same time
	// when it comes, and each copies the stack that it has.
	left := u.Limit - u.Used - u.Stacks/2
	switch {
	case u.Limit <= 0:
		return normal
	case left <= m.last:
		return desperate
	case left <= m.critical, before >= critical && left <= m.relieved:
		return critical
	case left <= m.scarce, before != normal && left <= m.calm:
		return scarce
	}
	return normal
}

// heapLeast is what the heap gets whatever the rest takes, in percent of the
// limit: below, the collector would do nothing but run.
const heapLeast = 30

// heapLimit is the runtime's soft limit.
func heapLimit(u Usage) int64 {
	rest := max(u.Used-u.Heap, 0)
	limit := max(u.Limit-headroom(u.Limit).heap-rest, share(u.Limit, heapLeast))
	if u.HeapMax > 0 {
		limit = min(limit, u.HeapMax)
	}
	return limit
}

// heapPause is the least time between changes of the heap's limit.
const heapPause = 100 * time.Millisecond

// freshness is how long a reading is good for those who ask: memory can only
// grow so fast.
func freshness(u Usage) time.Duration {
	switch {
	case u.Limit <= 0:
		return time.Second
	case u.Used < share(u.Limit, 40):
		return 20 * time.Millisecond
	case u.Used < share(u.Limit, 65):
		return 5 * time.Millisecond
	}
	return time.Millisecond
}

// pause is how long Run waits after a reading: connections that nobody asks
// about may grow as well, the faster the nearer the limit can be reached. But an
// idle proxy has better things to do: quiet counts the readings in a row that
// found nothing changed.
func pause(u Usage, quiet int) time.Duration {
	left := u.Limit - u.Used
	if u.Limit <= 0 || u.Used < u.Limit/4 {
		return longestWait
	}
	if left <= headroom(u.Limit).calm {
		return 5 * time.Millisecond
	}
	// Half a nanosecond a byte is about as fast as memory is taken.
	wait := min(max(time.Duration(left)/2, 2*time.Millisecond), 100*time.Millisecond)
	return min(wait<<min(quiet, 9), longestWait)
}

const longestWait = time.Second

// leastHeld is what any connection holds: a goroutine or two and their stacks, a
// buffer, the kernel's structures.
const leastHeld = 24 << 10

// client is who a connection comes from: an address, or all of an IPv6 network
// that is commonly one host's. The zero value stands for all who are not known.
func client(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); !a.Is6() {
		return a
	}
	prefix, err := a.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return prefix.Addr()
}

// holder is a client on the way to its fair share.
type holder struct {
	// conns are its connections, by index, in the order in which they go; held
	// is what all of them hold.
	conns []int
	held  int64
}

// victims are the connections to be reset, by index, so that about excess bytes
// are freed. Clients lose some of theirs as long as they hold more than others
// do, so that in the end nobody has to give who holds less than somebody else
// keeps. Of a client those go first that hold most, and of those that hold the
// same the newest, since the others have waited longer. conns has the newest
// first.
func victims(conns []Conn, excess int64) []int {
	// What hardly differs is the same.
	class := func(held int64) int64 { return held / leastHeld }
	byClient := make(map[netip.Addr]*holder)
	var holders holders
	for i := range conns {
		who := client(conns[i].Client)
		h := byClient[who]
		if h == nil {
			h = &holder{}
			byClient[who] = h
			holders = append(holders, h)
		}
		h.conns = append(h.conns, i)
		h.held += conns[i].Held + leastHeld
	}
	for _, h := range holders {
		slices.SortStableFunc(h.conns, func(i, j int) int { return cmp.Compare(class(conns[j].Held), class(conns[i].Held)) })
	}
	heap.Init(&holders)
	order := []int{}
	for excess > 0 && len(holders) > 0 {
		h := holders[0]
		i := h.conns[0]
		order = append(order, i)
		held := conns[i].Held + leastHeld
		excess -= held
		h.held -= held
		if h.conns = h.conns[1:]; len(h.conns) == 0 {
			heap.Pop(&holders)
		} else {
			heap.Fix(&holders, 0)
		}
	}
	return order
}

// holders is a heap of those that have connections, who holds most on top.
type holders []*holder

func (h holders) Len() int      { return len(h) }
func (h holders) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *holders) Push(x any)   { *h = append(*h, x.(*holder)) }

func (h *holders) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func (h holders) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(b.held/leastHeld, a.held/leastHeld), cmp.Compare(a.conns[0], b.conns[0])) < 0
}

// several reports whether connections come from more than one client.
func several(conns []Conn) bool {
	return slices.ContainsFunc(conns, func(c Conn) bool { return client(c.Client) != client(conns[0].Client) })
}
