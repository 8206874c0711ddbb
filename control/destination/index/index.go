package index

import (
	"context"
	"log/slog"
	"sync"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/derive"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/owner"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

// queueLength is how many functions may wait for the index's goroutine. A sender that finds the queue full waits, which
// holds back its watch.
const queueLength = 1024

// ErrStopped is returned to callers of an index that has stopped.
var ErrStopped = owner.ErrStopped

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
	// owner is the goroutine of Run.
	owner *owner.Owner

	// What follows belongs to the goroutine of Run.
	tables *tables
	// answers are those of the topics.
	answers   *derive.Answers[fact]
	endpoints map[portKey]*endpointsTopic
	profiles  map[ProfileQuery]*profileTopic
	services  map[core.ID]*serviceTopic
	// names are followed in DNS.
	names map[string]*followed
	// spawn runs a function until the index stops or the returned function is called.
	spawn func(func(context.Context)) context.CancelFunc
	// peak is the most that there was in the tables and among the answers since these were made.
	peak shrink.Peak
}

// New returns an index that knows nothing yet.
func New(options Options) *Index {
	x := &Index{
		options:   options,
		owner:     owner.New(queueLength),
		answers:   derive.New[fact](),
		endpoints: make(map[portKey]*endpointsTopic),
		profiles:  make(map[ProfileQuery]*profileTopic),
		services:  make(map[core.ID]*serviceTopic),
		names:     make(map[string]*followed),
	}
	x.tables = newTables(x.answers.Touch)
	x.tables.follow = x.follow
	return x
}

// Run is the index's goroutine: it works until ctx is done. It must be called once.
func (x *Index) Run(ctx context.Context) {
	var running sync.WaitGroup
	x.spawn = func(f func(context.Context)) context.CancelFunc {
		ctx, cancel := context.WithCancel(ctx)
		running.Go(func() { f(ctx) })
		return cancel
	}
	x.owner.Run(ctx, x.flush)
	running.Wait()
	// The streams end without being taken out. Another index of the same cluster may go on counting.
	for key, topic := range x.endpoints {
		for v, g := range topic.groups {
			x.options.Metrics.subscribers(key, v, -len(g.subs))
		}
	}
}

// Stopped is closed when the index has stopped: its subscriptions get nothing more.
func (x *Index) Stopped() <-chan struct{} { return x.owner.Stopped() }

// flush brings the answers up to date that depend on what changed. A rollout is many events, and only the last state of each
// answer is of interest.
func (x *Index) flush() {
	x.answers.Update()
	x.forgetNames()
	x.options.Metrics.sizes(x.tables)
	// The maps are made anew when most of what was in them is gone.
	if x.peak.Passed(x.tables.size() + x.answers.Len()) {
		x.tables.shrink()
		x.answers.Shrink()
	}
}

// join makes the first answer of a topic, whose refresh is called whenever it has to be made again.
func (x *Index) join(n *node, refresh func(*reader)) {
	n.Make = func(notes derive.Notes[fact]) { refresh(&reader{x.tables, notes}) }
	x.answers.Compute(n)
}

// post has the index's goroutine call f, some time. It waits while the queue is full.
func (x *Index) post(f func()) { x.owner.Post(f) }

// do has the index's goroutine call f and waits until it has.
func (x *Index) do(ctx context.Context, f func()) error { return x.owner.Do(ctx, f) }

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
