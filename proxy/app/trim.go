package app

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
)

// trimmer decides when memory is given back to the system: once, when calm
// follows a burst of connections or of work. An idle proxy does not collect
// garbage for minutes, stacks that grew stay grown until then, and the runtime
// returns memory slowly, so that the burst would be seen in the container's
// memory for long. Connections that stay open are a burst too: each leaves some
// garbage behind before it comes to rest.
type trimmer struct {
	// base is the number of connections at the last trim, peak the highest
	// since, calm how many looks in a row found less than half of it.
	base, peak, calm int
	// work is the processor time since the last trim.
	work time.Duration
}

const (
	// trimEvery is the time between looks.
	trimEvery = 2 * time.Second
	// trimAfter is how many calm looks it takes.
	trimAfter = 2
	// trimFrom is the least peak, or growth, that is worth the collection,
	// trimWork the least work; a trim takes a few milliseconds.
	trimFrom = 64
	trimWork = 200 * time.Millisecond
	// trimQuiet is how much work a look may find in a quiet proxy.
	trimQuiet = trimEvery / 200
)

// look is told the number of open connections and the processor time since the
// last look, and reports whether to trim now.
func (t *trimmer) look(open int, work time.Duration) bool {
	t.peak = max(t.peak, open)
	if t.peak < trimFrom || open >= t.peak/2 {
		t.calm = 0
	} else {
		t.calm++
	}
	t.work += work
	quiet := work <= trimQuiet && (t.work >= trimWork || t.peak >= t.base+trimFrom)
	if t.calm < trimAfter && !quiet {
		return false
	}
	*t = trimmer{base: open, peak: open}
	return true
}

// giveBack collects twice: pools let go of what is in them with the second
// collection, and a stack is halved by each. Then it returns what is free to the
// system.
func giveBack() {
	runtime.GC()
	debug.FreeOSMemory()
}

// trim gives memory back after bursts, until ctx is done.
func (a *App) trim(ctx context.Context) {
	var t trimmer
	spent := cpuTime()
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now := cpuTime()
			if t.look(a.connections(), now-spent) {
				giveBack()
				if a.o.Trimmed != nil {
					a.o.Trimmed()
				}
				now = cpuTime()
			}
			spent = now
		case <-ctx.Done():
			return
		}
	}
}
