package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// screen prints what goes on. A step's own output is shown indented; while a
// step is silent a line every few seconds says how long it has taken.
type screen struct {
	out   io.Writer
	start time.Time

	mu   sync.Mutex
	last time.Time // when anything was printed; guarded by mu
}

func newScreen() *screen {
	now := time.Now()
	return &screen{out: os.Stdout, start: now, last: now}
}

// silence is how long a step may print nothing before the screen says that it
// is still at work.
const silence = 15 * time.Second

func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	fmt.Fprintf(s.out, format, args...)
}

// step runs fn under a title and tells how long it took.
func (s *screen) step(title string, fn func() error) error {
	begin := time.Now()
	s.printf("\n[%6s] %s\n", s.elapsed(), title)
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			s.mu.Lock()
			quiet := time.Since(s.last)
			s.mu.Unlock()
			if quiet >= silence {
				s.printf("         … still at it, %s so far\n", time.Since(begin).Round(time.Second))
			}
		}
	})
	err := fn()
	close(done)
	watch.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	s.printf("         done in %s\n", time.Since(begin).Round(100*time.Millisecond))
	return nil
}

func (s *screen) elapsed() string {
	return time.Since(s.start).Round(100 * time.Millisecond).String()
}

// indent is a writer that shows a command's output line by line, indented.
type indent struct {
	s    *screen
	rest []byte
}

func (w *indent) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.s.printf("         %s\n", w.rest[:i])
		w.rest = w.rest[i+1:]
	}
}

// flush shows a last line that had no end.
func (w *indent) flush() {
	if len(w.rest) > 0 {
		w.s.printf("         %s\n", w.rest)
		w.rest = nil
	}
}
