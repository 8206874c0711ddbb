// Package dirwatch tells when the files of a mounted directory have been replaced.
//
// The kubelet updates a mounted Secret or ConfigMap by writing a new directory beside the old one and moving the symbolic
// link `..data` onto it, so that all files change at once. A directory without that link (a developer's own) counts as
// changed when any file in it does.
//
//	go dirwatch.Run(ctx, "/var/run/linkerd/tls", logger, func() { ... read the files again ... })
//
// Source: control plane chapter, sections 4.1 and 11.2.
package dirwatch

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long to wait after the first event of a burst: a kubelet update is several events, and files of a
	// plain directory are written one after the other.
	settle = 100 * time.Millisecond
	// retry is how long to wait before a failed watch is made again.
	retry = 10 * time.Second
	// dataLink is the symbolic link that the kubelet moves.
	dataLink = "..data"
)

// Run calls changed, from its own goroutine, each time the files in dir may have been replaced, until ctx is done. It calls
// it once the watch is in place, too: the first time, because the files may have been replaced since the caller read them,
// and after a watch that failed, because events may have been missed. A caller must therefore accept calls without a change.
func Run(ctx context.Context, dir string, logger *slog.Logger, changed func()) {
	for {
		err := watch(ctx, dir, changed)
		if ctx.Err() != nil {
			return
		}
		logger.Warn("directory watch failed; trying again", "dir", dir, "error", err, "delay", retry)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

// watch follows dir until ctx is done or the watch fails.
func watch(ctx context.Context, dir string, changed func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching %s: %w", dir, err)
	}
	defer watcher.Close()
	if err := watcher.Add(dir); err != nil {
		return fmt.Errorf("watching %s: %w", dir, err)
	}
	changed()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-watcher.Events:
			if !ok {
				return fmt.Errorf("watching %s: events ended", dir)
			}
			if event.Has(fsnotify.Remove) && filepath.Clean(event.Name) == filepath.Clean(dir) {
				return fmt.Errorf("watching %s: directory removed", dir)
			}
			if due == nil && relevant(event) {
				due = time.After(settle)
			}
		case err, ok := <-watcher.Errors:
			if !ok {
				return fmt.Errorf("watching %s: errors ended", dir)
			}
			return fmt.Errorf("watching %s: %w", dir, err)
		case <-due:
			due = nil
			changed()
		}
	}
}

// relevant reports whether an event means that readers of the directory see other content. Of the kubelet's own entries
// (they begin with two dots) only the arrival of the link does.
func relevant(event fsnotify.Event) bool {
	name := filepath.Base(event.Name)
	if strings.HasPrefix(name, "..") {
		return name == dataLink && event.Has(fsnotify.Create)
	}
	return event.Has(fsnotify.Create) || event.Has(fsnotify.Write)
}
