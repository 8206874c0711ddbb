package dirwatch_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/dirwatch"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// swap does to dir what the kubelet does: a new directory, a new link, the link moved over the old one.
func swap(t *testing.T, dir, version, content string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, version), 0o755))
	must(os.WriteFile(filepath.Join(dir, version, "tls.crt"), []byte(content), 0o644))
	must(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
	must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
}

// start follows dir and returns what was read at each change. The probe file makes sure that the watch is in place before
// the test goes on.
func start(t *testing.T, dir, file string) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reads := make(chan string, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		dirwatch.Run(ctx, dir, slog.New(slog.DiscardHandler), func() {
			content, _ := os.ReadFile(filepath.Join(dir, file))
			reads <- string(content)
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		os.WriteFile(filepath.Join(dir, "probe"), nil, 0o644)
		select {
		case <-reads:
			return reads
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("watch never started")
		}
	}
}

func await(t *testing.T, reads <-chan string, want string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case got := <-reads:
			if got == want {
				return
			}
		case <-deadline:
			t.Fatalf("never read %q", want)
		}
	}
}

func TestKubeletSwap(t *testing.T) {
	dir := t.TempDir()
	swap(t, dir, "..v1", "one")
	if err := os.Symlink("..data/tls.crt", filepath.Join(dir, "tls.crt")); err != nil {
		t.Fatal(err)
	}
	reads := start(t, dir, "tls.crt")
	swap(t, dir, "..v2", "two")
	await(t, reads, "two")
	swap(t, dir, "..v3", "three")
	await(t, reads, "three")
}

func TestPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	reads := start(t, dir, "tls.crt")
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	await(t, reads, "one")
}

// A file that is written again and again is told of all the same: a change waits for others, but not for the last one.
func TestBusyDirectory(t *testing.T) {
	dir := t.TempDir()
	reads := start(t, dir, "tls.crt")
	writing, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			// What cannot be written is never read.
			_ = os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("one"), 0o644)
			select {
			case <-tick.C:
			case <-writing.Done():
				return
			}
		}
	}()
	defer func() { stop(); <-stopped }()
	await(t, reads, "one")
}
