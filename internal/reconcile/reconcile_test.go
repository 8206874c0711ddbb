package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestQueue looks at which keys are worked on: all at the beginning, those added while it runs, none outside of it, and
// failures a limited number of times.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var done []string
		failing := map[string]int{}
		registry := prometheus.NewRegistry()
		queue := reconcile.New(reconcile.Options{
			Name: "things", Workers: 2, Retries: 3, Logger: slog.New(slog.DiscardHandler), Metrics: reconcile.NewMetrics(registry),
			Sync: func(_ context.Context, key kube.Key) error {
				mu.Lock()
				defer mu.Unlock()
				done = append(done, key.Name)
				if failing[key.Name] > 0 {
					failing[key.Name]--
					return errors.New("not now")
				}
				return nil
			},
		})
		key := func(name string) kube.Key { return kube.Key{Namespace: "emo", Name: name} }
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(done)
			if fmt.Sprint(done) != fmt.Sprint(want) {
				t.Errorf("%s: worked on %v, want %v", what, done, want)
			}
			done = nil
		}
		queue.Add(key("early"))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		run := func() {
			running.Go(func() { queue.Run(ctx, func() []kube.Key { return []kube.Key{key("a"), key("b")} }) })
		}
		run()
		expect("at the beginning", "a", "b")
		queue.Add(key("c"), key("c"))
		expect("added", "c")
		mu.Lock()
		failing["d"], failing["e"] = 2, 100
		mu.Unlock()
		queue.Add(key("d"), key("e"))
		time.Sleep(time.Hour)
		expect("failing", "d", "d", "d", "e", "e", "e", "e")
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP workqueue_drops_total Items given up.
# TYPE workqueue_drops_total counter
workqueue_drops_total{name="things"} 1
`), "workqueue_drops_total"); err != nil {
			t.Error(err)
		}
		queue.Add(key("e"))
		time.Sleep(time.Hour)
		expect("failing, and changed", "e", "e", "e", "e")
		cancel()
		running.Wait()
		queue.Add(key("late"))
		expect("not running")
		ctx, cancel = context.WithCancel(t.Context())
		run()
		expect("again", "a", "b")
		cancel()
		running.Wait()
	})
}
