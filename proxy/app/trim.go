package app

import (
	"context"
	"runtime/debug"
	"time"
)

// trimmer decides when memory is given back to the system after a burst. An idle
// proxy does not collect garbage for minutes, and the runtime returns memory
// slowly, so that the burst would be seen in the container's memory for long.
type trimmer struct {
	// peak is the highest number of connections since the last trim, calm how
	// many looks in a row found less than half of it.
	peak, calm int
}

const (
	// trimEvery is the time between looks.
	trimEvery = 5 * time.Second
	// trimAfter is how many calm looks it takes.
	trimAfter = 2
	// trimFrom is the least peak that is worth the collection.
	trimFrom = 64
)

// look is told the number of open connections and reports whether to trim now.
func (t *trimmer) look(open int) bool {
	t.peak = max(t.peak, open)
	if t.peak < trimFrom || open >= t.peak/2 {
		t.calm = 0
		return false
	}
	if t.calm++; t.calm < trimAfter {
		return false
	}
	t.peak, t.calm = open, 0
	return true
}

// trim gives memory back after bursts, until ctx is done.
func (a *App) trim(ctx context.Context) {
	var t trimmer
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if t.look(a.drain.Held()) {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}
