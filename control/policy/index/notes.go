package index

import (
	"log/slog"
	"sync"
)

// maxNotes is how many notes are remembered so that they are not logged again.
const maxNotes = 10_000

// notes logs what an operator should know about objects and answers, each once: objects are read again whenever anything
// about them changes, and a pod's status changes often.
type notes struct {
	logger *slog.Logger
	mu     sync.Mutex // guards seen
	seen   map[note]struct{}
}

// note is one thing to know.
type note struct{ message, kind, namespace, name, detail string }

// warn logs a note, unless it has been logged. It may be called from any goroutine.
func (n *notes) warn(what note) {
	if !n.first(what) {
		return
	}
	var object []any
	if what.kind != "" {
		object = []any{"kind", what.kind, "namespace", what.namespace, "name", what.name}
	}
	n.logger.Warn(what.message, append(object, "detail", what.detail)...)
}

func (n *notes) first(what note) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[what]; ok {
		return false
	}
	if n.seen == nil || len(n.seen) >= maxNotes {
		// Some will be logged again; that is better than to grow for ever.
		n.seen = make(map[note]struct{})
	}
	n.seen[what] = struct{}{}
	return true
}
