package index

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

// queueLength is how many functions may wait for the index's goroutine. A sender that finds the queue full waits, which
// holds back its watch.
const queueLength = 1024

// ErrStopped is returned to callers of an index that has stopped.
var ErrStopped = errors.New("index has stopped")

// Options are the parts of an Index.
type Options struct {
	// Config are the settings that shape the answers.
	Config core.Config
	// Capacity is how many answers a stream may leave untaken before it counts as too slow; at least 1.
	Capacity int
	// Resolver asks DNS for the names that Services are aliases of; nil for none, and then they have no endpoints.
	Resolver Resolver
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger takes what is odd about objects.
	Logger *slog.Logger
}

// Index is what is known of one cluster.
type Index struct {
	options Options
	calls   chan func()
	done    chan struct{}

	// What follows belongs to the goroutine of Run.
	tables     *tables
	dependents dependents
	dirty      map[*node]struct{}
	endpoints  map[portKey]*endpointsTopic
	profiles   map[ProfileQuery]*profileTopic
	services   map[core.ID]*serviceTopic
	// names are followed in DNS.
	names map[string]*followed
	// spawn runs a function until the index stops or the returned function is called.
	spawn func(func(context.Context)) context.CancelFunc
	// peak is the most that there was in the tables and among the dependents since these were made.
	peak shrink.Peak
}

// New returns an index that knows nothing yet.
func New(options Options) *Index {
	x := &Index{
		options:    options,
		calls:      make(chan func(), queueLength),
		done:       make(chan struct{}),
		dependents: make(dependents),
		dirty:      make(map[*node]struct{}),
		endpoints:  make(map[portKey]*endpointsTopic),
		profiles:   make(map[ProfileQuery]*profileTopic),
		services:   make(map[core.ID]*serviceTopic),
		names:      make(map[string]*followed),
	}
	x.tables = newTables(x.touch)
	x.tables.follow = x.follow
	return x
}

// Run is the index's goroutine: it works until ctx is done. It must be called once.
func (x *Index) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	// Before the wait: what runs may be about to post.
	defer close(x.done)
	x.spawn = func(f func(context.Context)) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		running.Go(func() { f(ctx) })
		return cancel
	}
	for {
		select {
		case <-ctx.Done():
			return
		case call := <-x.calls:
			call()
		}
		// Take everything that waits before anything is computed: a rollout is many events, and only the last state of
		// each answer is of interest.
		for waiting := true; waiting; {
			select {
			case call := <-x.calls:
				call()
			default:
				waiting = false
			}
		}
		x.flush()
	}
}

// Stopped is closed when the index has stopped: its subscriptions get nothing more.
func (x *Index) Stopped() <-chan struct{} { return x.done }

// flush brings the answers up to date that depend on what changed.
func (x *Index) flush() {
	for n := range x.dirty {
		delete(x.dirty, n)
		x.dependents.compute(n, x.tables)
	}
	x.forgetNames()
	x.options.Metrics.sizes(x.tables)
	x.shrink()
}

// shrink makes the maps anew when most of what was in them is gone.
func (x *Index) shrink() {
	if x.peak.Passed(x.tables.size() + len(x.dependents)) {
		x.tables.shrink()
		x.dependents = shrink.Map(x.dependents)
	}
}

// touch marks the answers that depend on a fact.
func (x *Index) touch(f fact) {
	for n := range x.dependents[f] {
		x.dirty[n] = struct{}{}
	}
}

// post has the index's goroutine call f, some time. It waits while the queue is full.
func (x *Index) post(f func()) {
	select {
	case x.calls <- f:
	case <-x.done:
	}
}

// do has the index's goroutine call f and waits until it has.
func (x *Index) do(ctx context.Context, f func()) error {
	called := make(chan struct{})
	select {
	case x.calls <- func() { f(); close(called) }:
	case <-x.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-called:
		return nil
	case <-x.done:
		return ErrStopped
	}
}

// sink passes the objects of a watch on to a table of the index. set is called on the index's goroutine; a zero object
// means that there is none. ids lists what the table has, for the objects that are missing from a new list.
type sink[T any] struct {
	index *Index
	set   func(id core.ID, object T)
	ids   func() []core.ID
}

func (s sink[T]) Apply(key kube.Key, object T) {
	s.index.post(func() { s.set(core.ID(key), object) })
}

func (s sink[T]) Delete(key kube.Key) {
	var none T
	s.Apply(key, none)
}

func (s sink[T]) Replace(objects map[kube.Key]T) {
	s.index.post(func() {
		var none T
		for _, id := range s.ids() {
			if _, ok := objects[kube.Key(id)]; !ok {
				s.set(id, none)
			}
		}
		for key, object := range objects {
			s.set(core.ID(key), object)
		}
	})
}

// keysOf returns the keys of a map.
func keysOf[V any](tables ...map[core.ID]V) []core.ID {
	var ids []core.ID
	for _, table := range tables {
		for id := range table {
			ids = append(ids, id)
		}
	}
	return ids
}
