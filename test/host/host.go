// Package host lets a command use packages that are made for tests, such as
// test/netlab, which makes network namespaces, and testcontrol, which is a
// control plane: neither should exist twice.
//
//	h := &host.Host{}
//	defer h.Close()
//	lab := netlab.New(h)
//
// A Host is for one goroutine.
package host

import (
	"fmt"
	"log"
	"os"
	"testing"
)

// Host stands for the test. Fatal errors end the command, after Close.
type Host struct {
	// TB is nil: a method that is not below is not for a command.
	testing.TB
	cleanups []func()
	failed   bool
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
	dir, err := os.MkdirTemp("", "linkerd-go-")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		h.Fatal(err)
	}
	return dir
}

// Failed is testing.TB's.
func (h *Host) Failed() bool { return h.failed }

// Logf is testing.TB's.
func (h *Host) Logf(format string, args ...any) { log.Printf(format, args...) }

// Error is testing.TB's: a mistake that a command goes on with.
func (h *Host) Error(args ...any) {
	h.failed = true
	log.Print(args...)
}

// Errorf is testing.TB's.
func (h *Host) Errorf(format string, args ...any) { h.Error(fmt.Sprintf(format, args...)) }
