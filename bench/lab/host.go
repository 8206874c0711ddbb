package lab

import (
	"fmt"
	"log"
	"os"
	"testing"
)

// Host is what the packages for tests want of a test, for a command: test/netlab
// makes the namespaces and testcontrol the control plane, and neither should
// exist twice. Fatal errors end the command, after Close.
type Host struct {
	// TB is nil: a method that is not below is not for a command.
	testing.TB
	cleanups []func()
}

// Close undoes everything, last first.
func (h *Host) Close() {
	for len(h.cleanups) > 0 {
		last := len(h.cleanups) - 1
		f := h.cleanups[last]
		h.cleanups = h.cleanups[:last]
		f()
	}
}

// Cleanup is testing.TB's.
func (h *Host) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

// Helper is testing.TB's.
func (h *Host) Helper() {}

// Fatal is testing.TB's.
func (h *Host) Fatal(args ...any) {
	h.Close()
	log.Fatal(args...)
}

// Fatalf is testing.TB's.
func (h *Host) Fatalf(format string, args ...any) { h.Fatal(fmt.Sprintf(format, args...)) }

// Skip is testing.TB's: a benchmark that cannot run has failed.
func (h *Host) Skip(args ...any) { h.Fatal(args...) }

// TempDir is a folder that all users can enter.
func (h *Host) TempDir() string {
	dir, err := os.MkdirTemp("", "linkerd-bench-")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		h.Fatal(err)
	}
	return dir
}
