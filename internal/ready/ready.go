// Package ready tells when a process may be given work.
//
// Each part that must come up first takes a handle by name and releases it when it is done; the last one out opens the
// door. A process that begins to stop closes it again, for good:
//
//	var gate ready.Gate
//	synced := gate.Hold("caches")
//	...
//	synced() // ready, if nobody else holds the gate
//	...
//	gate.Close() // stopping: not ready any more
//
// All methods may be called from any goroutine.
package ready

import (
	"slices"
	"sync"
)

// Gate is the set of reasons why a process is not ready. Its zero value has none: it is open.
type Gate struct {
	mu     sync.Mutex // guards held and closed
	held   map[string]int
	closed bool
}

// Hold keeps the gate shut until the returned function is called. Calling that more than once has no further effect.
// The same name may be held several times.
func (g *Gate) Hold(name string) (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = make(map[string]int)
	}
	g.held[name]++
	var once sync.Once
	return func() {
		once.Do(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.held[name]--; g.held[name] == 0 {
				delete(g.held, name)
			}
		})
	}
}

// Close shuts the gate for good. It is called when the process begins to stop, so that no new client is sent to it
// while the old ones are being served to the end.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// Ready reports whether the gate is open.
func (g *Gate) Ready() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed && len(g.held) == 0
}

// Pending returns the names that keep the gate shut, sorted.
func (g *Gate) Pending() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := make([]string, 0, len(g.held)+1)
	for name := range g.held {
		names = append(names, name)
	}
	if g.closed {
		names = append(names, "stopping")
	}
	slices.Sort(names)
	return names
}
