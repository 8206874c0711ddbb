// Package calm keeps a process from holding more memory than it has to.
//
//	calm.Limit()     // first of all
//	go calm.Run(ctx) // until ctx is done
//
// Run gives memory back to the system when the process has come to rest after work: without that, what a start, a new list of
// a large cluster's objects or a wave of streams took stays with the process until it works as much again. An idle process
// collects garbage once in two minutes, and the runtime returns what is free slowly. It costs nothing while the process does
// nothing, and two collections after each piece of work.
//
// Limit lets the process collect more often as it comes near the limit of its container, instead of being killed there. A
// process needs each once.
package calm

import (
	"context"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

const (
	// every is the time between looks.
	every = 2 * time.Second
	// after is how many quiet looks in a row it takes.
	after = 2
	// quiet is how much processor time a look may find in a process at rest: leases are renewed and probes answered then too.
	quiet = every / 100
	// worth is the least work, since memory was given back last, that makes it worth a collection.
	worth = 500 * time.Millisecond
)

// watcher decides when a process is at rest.
type watcher struct {
	// work is the processor time since memory was given back last.
	work time.Duration
	// looks is how many in a row found next to none.
	looks int
}

// look is told the processor time since the last look, and reports whether to give memory back now.
func (w *watcher) look(work time.Duration) bool {
	w.work += work
	if work > quiet {
		w.looks = 0
		return false
	}
	w.looks++
	if w.looks < after || w.work < worth {
		return false
	}
	*w = watcher{}
	return true
}

// Run gives memory back whenever the process has come to rest, until ctx is done.
func Run(ctx context.Context) {
	var w watcher
	spent := processorTime()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := processorTime()
		if w.look(now - spent) {
			runtime.GC() // what is in pools survives one collection
			debug.FreeOSMemory()
			now = processorTime() // the collection is not work
		}
		spent = now
	}
}

// processorTime is what this process has used, user and system together.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
