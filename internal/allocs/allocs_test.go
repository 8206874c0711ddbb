package allocs

import (
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var sink []byte

//go:noinline
func allocate() { sink = make([]byte, 100) }

func TestLeast(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-stopped }()
	// Others allocate meanwhile, without being ours.
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = strings.Repeat("x", 100)
			}
		}
	}()
	if got := Least(1000, func() {}, "strings."); got.PerCall > 0.05 {
		t.Errorf("nothing allocates %.2f:\n%s", got.PerCall, got.Where)
	}
	got := Least(1000, func() { allocate(); allocate() }, "strings.")
	if got.PerCall < 1.95 || got.PerCall > 2.05 || !strings.Contains(got.Where, "allocs.allocate:") {
		t.Errorf("two calls that allocate once allocate %.2f:\n%s", got.PerCall, got.Where)
	}
	// What is under a function that is left out is left out.
	got = Least(1000, func() { sink = []byte(strings.Repeat("x", 100)) }, "strings.")
	if got.PerCall < 0.95 || got.PerCall > 1.05 {
		t.Errorf("a copy allocates %.2f:\n%s", got.PerCall, got.Where)
	}
}
