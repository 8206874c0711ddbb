package core

import (
	"maps"
	"net/netip"
	"sync"
)

// Wire is a place for the encoded form of a value that several streams send: it is made by the first and then shared.
type Wire[T any] struct {
	once  sync.Once
	value T
}

// Get returns what encode made, calling it if nobody has.
func (w *Wire[T]) Get(encode func() T) T {
	w.once.Do(func() { w.value = encode() })
	return w.value
}

// Snapshot is what a group of clients sees at one moment. It is immutable.
type Snapshot struct {
	// SetLabels are the metric labels that the entries share.
	SetLabels map[string]string
	// Entries are sorted by address.
	Entries []Entry
	// Exists says whether there is a Service.
	Exists bool
	// Previous is what this snapshot replaced, by identity only, and Delta the difference to it. A client that has the
	// previous one needs just the delta, which is worked out and encoded once for all of them.
	Previous *Version
	Delta    Delta
	// Version is the identity of this snapshot.
	Version *Version
	// AllWire and DeltaWire keep the messages of the whole snapshot and of the delta.
	AllWire, DeltaWire Wire[any]
}

// Version is the identity of a snapshot: compared by pointer, and without a way back to the snapshot, so that old ones are
// not kept in memory by their successors.
type Version struct{ _ byte }

// NewSnapshot returns the snapshot that follows previous, which is nil for the first. It returns previous itself if nothing
// is different. Set labels that change alone make a snapshot with an empty delta: clients are not told (proxy API chapter,
// section 3.3, row 3), but the next ones get the new labels.
func NewSnapshot(previous *Snapshot, exists bool, setLabels map[string]string, entries []Entry) *Snapshot {
	next := &Snapshot{SetLabels: setLabels, Entries: entries, Exists: exists, Version: new(Version)}
	if previous == nil {
		return next
	}
	next.Delta = Diff(previous.Entries, entries)
	if next.Delta.Empty() && previous.Exists == exists && maps.Equal(previous.SetLabels, setLabels) {
		return previous
	}
	next.Previous = previous.Version
	return next
}

// Delta is the difference between two lists of entries.
type Delta struct {
	// Add are the entries that are new or changed, Remove the addresses that are gone.
	Add    []Entry
	Remove []netip.AddrPort
}

// Empty reports whether there is no difference.
func (d Delta) Empty() bool { return len(d.Add) == 0 && len(d.Remove) == 0 }

// Since returns the difference between the snapshot that a client has and s, and whether it is s.Delta. last is nil for a
// client that has nothing.
func (s *Snapshot) Since(last *Snapshot) (delta Delta, shared bool) {
	switch {
	case last == nil:
		return Delta{Add: s.Entries}, false
	case last.Version == s.Version:
		return Delta{}, false
	case last.Version == s.Previous:
		return s.Delta, true
	}
	return Diff(last.Entries, s.Entries), false
}

// Diff returns the difference between two lists of entries that are sorted by address.
func Diff(from, to []Entry) Delta {
	var delta Delta
	for len(from) > 0 || len(to) > 0 {
		order := 0
		switch {
		case len(from) == 0:
			order = 1
		case len(to) == 0:
			order = -1
		default:
			order = from[0].Addr.Compare(to[0].Addr)
		}
		switch {
		case order < 0:
			delta.Remove = append(delta.Remove, from[0].Addr)
			from = from[1:]
		case order > 0:
			delta.Add = append(delta.Add, to[0])
			to = to[1:]
		default:
			if !from[0].Equal(to[0]) {
				delta.Add = append(delta.Add, to[0])
			}
			from, to = from[1:], to[1:]
		}
	}
	return delta
}
