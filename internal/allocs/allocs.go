// Package allocs counts what code of this project allocates, by where it does. It
// is for tests that guard a path on which nothing may be allocated:
//
//	got := allocs.Least(2000, request, "crypto/tls.")
//	if got.PerCall > 0.2 {
//		t.Errorf("%.2f allocations per request:\n%s", got.PerCall, got.Where)
//	}
//
// A process's count of allocations (runtime.MemStats, testing.AllocsPerRun) has in
// it what others do meanwhile: the runtime's workers, and libraries whose number of
// allocations goes by how the scheduler and the kernel cut what arrives. On a busy
// machine that is more than on a quiet one. Here the allocations are those of a
// profile of all of them, with their stacks, so that others' are told apart; and
// a test that fails says where they are. Only one count may run at a time in a
// process, from any goroutine.
package allocs

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
)

// ours begins the names of this project's functions.
const ours = "github.com/linkerd-go/linkerd-go/"

// rounds is how often Least counts. Each round begins with collections, which
// empty pools, and what fills them again counts: a hundred objects or so, whatever
// the number of calls. In the middle of a round there may be another.
const rounds = 5

// Count is what was allocated.
type Count struct {
	// PerCall are objects per call.
	PerCall float64
	// Where are the stacks that allocated most, a few lines each.
	Where string
}

// Least calls do n times, a few rounds of it, and returns what our code allocated
// in the round with the least: what has a function of this project on its stack,
// and none whose name begins with one of except. Whatever do has to warm up, it
// has to have done before.
func Least(n int, do func(), except ...string) Count {
	least := Count{PerCall: math.Inf(1)}
	for range rounds {
		if c := count(n, do, except); c.PerCall < least.PerCall {
			least = c
		}
	}
	return least
}

// count counts once.
func count(n int, do func(), except []string) Count {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	before := profile()
	for range n {
		do()
	}
	type site struct {
		where   string
		objects int64
	}
	var sites []site
	total := int64(0)
	for stack, objects := range profile() {
		if objects -= before[stack]; objects == 0 {
			continue
		}
		if where, counts := describe(stack, except); counts {
			total += objects
			sites = append(sites, site{where, objects})
		}
	}
	slices.SortFunc(sites, func(a, b site) int { return cmp.Compare(b.objects, a.objects) })
	var where strings.Builder
	for _, s := range sites[:min(len(sites), 5)] {
		fmt.Fprintf(&where, "%.2f per call:\n%s", float64(s.objects)/float64(n), s.where)
	}
	return Count{PerCall: float64(total) / float64(n), Where: where.String()}
}

// stack is the stack of an allocation, the innermost function first.
type stack = [32]uintptr

// profile returns how many objects were allocated so far, by stack.
func profile() map[stack]int64 {
	// What is allocated becomes part of the profile in the second collection
	// after it.
	for range 3 {
		runtime.GC()
	}
	var records []runtime.MemProfileRecord
	for n, ok := runtime.MemProfile(nil, true); !ok; {
		records = make([]runtime.MemProfileRecord, n+100)
		if n, ok = runtime.MemProfile(records, true); ok {
			records = records[:n]
		}
	}
	all := make(map[stack]int64, len(records))
	for _, r := range records {
		all[r.Stack0] += r.AllocObjects // of several sizes, perhaps
	}
	return all
}

// describe returns the top of a stack, and whether its allocations count.
func describe(s stack, except []string) (where string, counts bool) {
	record := runtime.MemProfileRecord{Stack0: s}
	var b strings.Builder
	lines := 0
	for frames, more := runtime.CallersFrames(record.Stack()), true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if strings.HasPrefix(f.Function, ours+"internal/allocs.profile") || slices.ContainsFunc(except, func(e string) bool { return strings.HasPrefix(f.Function, e) }) {
			return "", false
		}
		counts = counts || strings.HasPrefix(f.Function, ours)
		if lines < 6 && !strings.HasPrefix(f.Function, "runtime.") {
			fmt.Fprintf(&b, "\t%s:%d\n", f.Function, f.Line)
			lines++
		}
	}
	return b.String(), counts
}
