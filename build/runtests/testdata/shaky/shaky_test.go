// Package shaky has tests that fail, for the test of the test runner. They fail the
// first time and pass once there is a file of their name in the folder SHAKY.
package shaky

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/unsteady"
)

// first reports whether a test runs for the first time.
func first(t *testing.T) bool {
	path := filepath.Join(os.Getenv("SHAKY"), filepath.Base(t.Name()))
	if _, err := os.Stat(path); err == nil {
		return false
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return true
}

func TestMarked(t *testing.T) {
	unsteady.Mark(t, "it goes by the clock")
	if first(t) {
		t.Error("too late")
	}
}

func TestMarkedWithParts(t *testing.T) {
	unsteady.Mark(t, "its parts go by the clock")
	for _, part := range []string{"PartA", "PartB"} {
		t.Run(part, func(t *testing.T) {
			if part == "PartB" && first(t) {
				t.Error("too late")
			}
		})
	}
}

func TestMarkedThatAlwaysFails(t *testing.T) {
	unsteady.Mark(t, "it goes by the clock")
	t.Error("too late")
}

func TestUnmarked(t *testing.T) {
	if first(t) {
		t.Error("wrong")
	}
}

func TestMarkedThatPanics(t *testing.T) {
	unsteady.Mark(t, "it goes by the clock")
	if first(t) {
		panic("a bug")
	}
}

func TestPasses(t *testing.T) {}
