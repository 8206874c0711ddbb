// Package shrink gives back the memory of maps that have become much emptier
// than they once were: Go's maps keep theirs when members are deleted.
//
//	if x.peak.Passed(len(x.pods) + len(x.services)) {
//		x.pods, x.services = shrink.Map(x.pods), shrink.Map(x.services)
//	}
//
// Nothing here may be used by two goroutines at once.
package shrink

// From is the least peak, in members, that is worth making maps anew.
const From = 1024

// Peak is the largest size so far; the zero value has seen none.
type Peak struct{ size int }

// Passed notes the present size and reports whether it is so far below the peak
// that maps should be made anew. The peak then starts over from here.
func (p *Peak) Passed(size int) bool {
	p.size = max(p.size, size)
	if p.size < From || size > p.size/4 {
		return false
	}
	p.size = size
	return true
}

// Size is the peak, in members.
func (p *Peak) Size() int { return p.size }

// Map returns a map of the same content that takes no more memory than that
// needs.
func Map[M ~map[K]V, K comparable, V any](old M) M {
	m := make(M, len(old))
	for k, v := range old {
		m[k] = v
	}
	return m
}
