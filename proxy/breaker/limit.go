package breaker

import (
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Limit keeps the breakers of one balancer from taking too many endpoints out. It
// is shared by them; a nil one sets no bound. An endpoint that is taken out and
// cannot be reached either counts twice: the error is on the side of keeping the
// others in.
type Limit struct {
	ejection model.Ejection

	mu sync.Mutex
	// All that follows is guarded by mu: how many endpoints there are, how many
	// of them can be reached, and how many are taken out.
	total, reached, out int
}

// NewLimit makes a limit; nil if nothing is bounded.
func NewLimit(e model.Ejection) *Limit {
	if e == (model.Ejection{}) {
		return nil
	}
	return &Limit{ejection: e}
}

// Resize says how many endpoints there are, and how many of them can be reached,
// taken out or not. Those that are out already stay so.
func (l *Limit) Resize(total, reached int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.reached = total, reached
}

// take takes one out, if enough are left without it.
func (l *Limit) take() bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reached-l.out-1 < l.ejection.Least(l.total) {
		return false
	}
	l.out++
	return true
}

// give puts one back.
func (l *Limit) give() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out--
}
