// Package reconcile works through the objects whose written state may not be as it should be, one key at a time, while this
// process is the one that writes.
//
//	queue := reconcile.New(reconcile.Options{Name: "slices", Sync: c.sync, Metrics: metrics, Logger: logger})
//	... queue.Add(key)                    // from the sinks of watches, at any time
//	lease.Run(ctx, options, func(ctx context.Context) { queue.Run(ctx, c.all) })
//
// Outside of Run keys are dropped: whoever writes next begins with all of them. Of one key there is one Sync at a time, and
// a key that is added meanwhile comes again after it. Failures are tried again after growing pauses, a limited number of
// times, so that a key that nobody can help does not keep the API server busy for ever.
//
// Add may be called from any goroutine and does not block. Run returns when what it began has ended.
package reconcile

import (
	"context"
	"log/slog"
	"sync"

	"k8s.io/client-go/util/workqueue"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Retries is how often a key is tried again where Options say nothing else.
const Retries = 15

// Options describe a queue.
type Options struct {
	// Name is the name of the queue in metrics and logs.
	Name string
	// Workers is how many keys are worked on at a time; zero is one.
	Workers int
	// Retries is how often a key is tried again; zero is the constant of that name.
	Retries int
	// Sync brings what belongs to a key up to date. It is called from one of the workers.
	Sync func(ctx context.Context, key kube.Key) error
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger is told of failures.
	Logger *slog.Logger
}

// Queue has the keys to look at. New makes one.
type Queue struct {
	options Options

	mu      sync.Mutex // guards working
	working workqueue.TypedRateLimitingInterface[kube.Key]
}

// New returns a queue.
func New(options Options) *Queue {
	if options.Workers < 1 {
		options.Workers = 1
	}
	if options.Retries < 1 {
		options.Retries = Retries
	}
	return &Queue{options: options}
}

// Add queues keys, if Run is running.
func (q *Queue) Add(keys ...kube.Key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.working == nil {
		return
	}
	for _, key := range keys {
		q.working.Add(key)
	}
}

// Run works until ctx is done. It begins with the keys that all returns, which is called when the queue already takes
// others, so that nothing between the two is missed.
func (q *Queue) Run(ctx context.Context, all func() []kube.Key) {
	working := workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.DefaultTypedControllerRateLimiter[kube.Key](), workqueue.TypedRateLimitingQueueConfig[kube.Key]{
			Name: q.options.Name, MetricsProvider: q.options.Metrics.provider(),
		})
	q.set(working)
	q.Add(all()...)
	var workers sync.WaitGroup
	for range q.options.Workers {
		workers.Go(func() {
			for {
				key, shutdown := working.Get()
				if shutdown {
					return
				}
				q.process(ctx, working, key)
			}
		})
	}
	<-ctx.Done()
	q.set(nil)
	working.ShutDown()
	workers.Wait()
}

func (q *Queue) set(working workqueue.TypedRateLimitingInterface[kube.Key]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.working = working
}

func (q *Queue) process(ctx context.Context, working workqueue.TypedRateLimitingInterface[kube.Key], key kube.Key) {
	defer working.Done(key)
	if ctx.Err() != nil {
		return
	}
	err := q.options.Sync(ctx, key)
	switch {
	case err == nil:
		working.Forget(key)
	case ctx.Err() != nil:
	case working.NumRequeues(key) < q.options.Retries:
		q.options.Logger.Warn("not brought up to date; trying again", "queue", q.options.Name, "object", key, "error", err)
		working.AddRateLimited(key)
	default:
		q.options.Logger.Error("not brought up to date; giving up until it changes", "queue", q.options.Name, "object", key, "error", err)
		q.options.Metrics.dropped(q.options.Name)
		working.Forget(key)
	}
}
