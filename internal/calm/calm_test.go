package calm

import (
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestWatcher(t *testing.T) {
	for _, c := range []struct {
		name string
		work []time.Duration // in milliseconds, between looks
		want string          // a letter per look: g where memory is given back
	}{
		{"a start", []time.Duration{0, 1500, 900, 3, 3, 3, 3, 3}, "....g..."},
		{"busy", []time.Duration{700, 700, 700, 700, 700}, "....."},
		{"busy with pauses", []time.Duration{700, 3, 700, 3, 700, 3, 3}, "......g"},
		{"at rest", []time.Duration{3, 3, 3, 3, 3, 3}, "......"},
		{"small things that add up", []time.Duration{200, 200, 3, 3, 200, 3, 3, 3}, "......g."},
		{"again after more work", []time.Duration{600, 3, 3, 3, 600, 3, 3, 3}, "..g...g."},
	} {
		t.Run(c.name, func(t *testing.T) {
			var w watcher
			var got strings.Builder
			for _, work := range c.work {
				if w.look(work * time.Millisecond) {
					got.WriteByte('g')
				} else {
					got.WriteByte('.')
				}
			}
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got.String(), c.want)
			}
		})
	}
}
