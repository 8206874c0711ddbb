package series

import (
	"sync"
	"sync/atomic"
	"time"
)

// Other is the label value that stands for all that a Vocabulary has no room for.
const Other = "other"

// Vocabulary bounds how many values a label takes that peers choose freely: the
// first are themselves, the rest is Other, until some have not been used for a
// while. It is safe for concurrent use, and known values take no lock.
type Vocabulary struct {
	limit  int
	retain time.Duration
	now    func() time.Time
	words  sync.Map // string to *word
	mu     sync.Mutex
	// size is how many there are; guarded by mu.
	size int
}

// word is one value, with the time of its last use.
type word struct{ used atomic.Int64 }

// NewVocabulary makes one of so many values, which are kept for a while after
// their last use.
func NewVocabulary(limit int, retain time.Duration, now func() time.Time) *Vocabulary {
	return &Vocabulary{limit: limit, retain: retain, now: now}
}

// Label is the value for a label: v itself, or Other.
func (v *Vocabulary) Label(s string) string {
	now := v.now().UnixNano()
	if w, ok := v.words.Load(s); ok {
		w.(*word).used.Store(now)
		return s
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.words.Load(s); ok {
		return s
	}
	if v.size >= v.limit {
		v.words.Range(func(key, w any) bool {
			if now-w.(*word).used.Load() >= int64(v.retain) {
				v.words.Delete(key)
				v.size--
			}
			return true
		})
	}
	if v.size >= v.limit {
		return Other
	}
	w := &word{}
	w.used.Store(now)
	v.words.Store(s, w)
	v.size++
	return s
}
