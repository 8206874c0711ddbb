package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// SyncTimeout is how long the first lists of a controller's watches may take.
const SyncTimeout = 60 * time.Second

// retry is how a watch that failed begins anew. Client-go's own pauses grow to between 30 and 60 seconds: for so long after an
// outage proxies would be told what was true before it. Five seconds are as good for the API server, with as few watches as
// a controller has, and the jitter keeps those of many apart.
func retry() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 10, Cap: 5 * time.Second}
}

// Key names an object of a kind.
type Key = types.NamespacedName

// Sink takes the objects of one watch. Its methods are called one after the other; they may block, which holds up this
// watch alone.
type Sink[T any] interface {
	// Apply tells of a new or changed object.
	Apply(key Key, object T)
	// Delete tells of an object that is gone. It may never have been applied.
	Delete(key Key)
	// Replace tells of all objects there are: once at the start, and again whenever the watch had to begin anew and may
	// have missed something. The map belongs to the sink.
	Replace(objects map[Key]T)
}

// Source is where a watch gets its objects: made by Resource.
type Source struct {
	listWatch cache.ListerWatcher
}

// Resource is the source of all objects of one resource client, for example
//
//	kube.Resource(clients.Kube, clients.Kube.CoreV1().Pods(""))
//	kube.Resource(clients.Dynamic, clients.Dynamic.Resource(gvr))
//	kube.Resource(clients.Metadata, clients.Metadata.Resource(gvr))
//
// The client itself is passed as well because client-go's fakes tell through it what they cannot do.
func Resource[L runtime.Object](client any, resource interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}) Source {
	return Select(client, resource, func(*metav1.ListOptions) {})
}

// Select is like Resource, with the options that choose among the objects set by narrow.
func Select[L runtime.Object](client any, resource interface {
	List(ctx context.Context, options metav1.ListOptions) (L, error)
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}, narrow func(*metav1.ListOptions)) Source {
	return Source{cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			narrow(&options)
			return resource.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			narrow(&options)
			return resource.Watch(ctx, options)
		},
	}, client)}
}

// Observer is told what a watch does, for metrics. Every method is called from the watch's goroutine.
type Observer interface {
	// Applied tells of a new or changed object, as received.
	Applied(object metav1.Object)
	// Deleted tells of an object that is gone.
	Deleted()
	// Restarted tells of a new complete list with that many objects.
	Restarted(objects int)
	// Failed tells of an object that could not be read.
	Failed(err error)
}

// Watch follows the objects of one kind. It is made by NewWatch and run by a Group.
type Watch struct {
	// Observer, if set before the watch runs, is told what it does.
	Observer Observer

	name   string
	source Source
	synced chan struct{}
	store  func(w *Watch, logger *slog.Logger) cache.ReflectorStore
}

// NewWatch returns a watch of the objects of source, of which trim keeps what is needed. An object that trim refuses is
// logged and left out: a changed one stays as it was.
//
// name is the plural of the kind, for logs and metrics.
func NewWatch[O metav1.Object, T any](name string, source Source, trim func(O) (T, error), sink Sink[T]) *Watch {
	return &Watch{
		name:   name,
		source: source,
		synced: make(chan struct{}),
		store: func(w *Watch, logger *slog.Logger) cache.ReflectorStore {
			return &store[O, T]{watch: w, logger: logger, trim: trim, sink: sink}
		},
	}
}

// Name returns the plural of the watched kind.
func (w *Watch) Name() string { return w.name }

// Synced is closed once the sink has been given all objects there were at the start.
func (w *Watch) Synced() <-chan struct{} { return w.synced }

// run follows the objects until ctx is done.
func (w *Watch) run(ctx context.Context, logger *slog.Logger) {
	logger = logger.With("resource", w.name)
	// No expected type: source and trim agree by construction of the callers, and store checks.
	reflector := cache.NewReflectorWithOptions(w.source.listWatch, nil, w.store(w, logger), cache.ReflectorOptions{
		Name: w.name, TypeDescription: w.name, Backoff: retry(),
	})
	reflector.RunWithContext(ctx)
}

// store passes what the reflector receives on to a sink. The reflector calls it from one goroutine.
type store[O metav1.Object, T any] struct {
	watch  *Watch
	logger *slog.Logger
	trim   func(O) (T, error)
	sink   Sink[T]
	once   sync.Once
}

// trimmed is what is kept of an object while the list that it is part of arrives.
type trimmed[T any] struct {
	// ObjectMeta has the namespace and the name alone.
	metav1.ObjectMeta
	object T
	ok     bool
}

var _ cache.TransformingStore = (*store[metav1.Object, int])(nil)

// Transformer implements cache.TransformingStore: the reflector collects a whole list before it hands it over, and the
// objects of a large cluster are many times what is kept of them.
func (s *store[O, T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if _, ok := object.(O); !ok {
			return object, nil // read says what is wrong with it
		}
		key, value, ok := s.read(object)
		return &trimmed[T]{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, object: value, ok: ok}, nil
	}
}

func (s *store[O, T]) read(object any) (Key, T, bool) {
	var none T
	if t, ok := object.(*trimmed[T]); ok {
		return Key{Namespace: t.Namespace, Name: t.Name}, t.object, t.ok
	}
	o, ok := object.(O)
	if !ok {
		s.failed(Key{}, fmt.Errorf("unexpected type %T", object))
		return Key{}, none, false
	}
	key := Key{Namespace: o.GetNamespace(), Name: o.GetName()}
	trimmed, err := s.trim(o)
	if err != nil {
		s.failed(key, err)
		return key, none, false
	}
	if s.watch.Observer != nil {
		s.watch.Observer.Applied(o)
	}
	return key, trimmed, true
}

func (s *store[O, T]) failed(key Key, err error) {
	s.logger.Warn("object ignored", "namespace", key.Namespace, "name", key.Name, "error", err)
	if s.watch.Observer != nil {
		s.watch.Observer.Failed(err)
	}
}

func (s *store[O, T]) Add(object any) error {
	if key, trimmed, ok := s.read(object); ok {
		s.sink.Apply(key, trimmed)
	}
	return nil
}

func (s *store[O, T]) Update(object any) error { return s.Add(object) }

func (s *store[O, T]) Delete(object any) error {
	if o, ok := object.(metav1.Object); ok {
		s.sink.Delete(Key{Namespace: o.GetNamespace(), Name: o.GetName()})
		if s.watch.Observer != nil {
			s.watch.Observer.Deleted()
		}
	}
	return nil
}

func (s *store[O, T]) Replace(objects []any, _ string) error {
	all := make(map[Key]T, len(objects))
	for _, object := range objects {
		if key, trimmed, ok := s.read(object); ok {
			all[key] = trimmed
		}
	}
	if s.watch.Observer != nil {
		s.watch.Observer.Restarted(len(all))
	}
	s.sink.Replace(all)
	s.once.Do(func() { close(s.watch.synced) })
	return nil
}

func (s *store[O, T]) Resync() error { return nil }

// Group runs watches together.
type Group struct {
	logger  *slog.Logger
	watches []*Watch
}

// NewGroup returns a group of the given watches.
func NewGroup(logger *slog.Logger, watches ...*Watch) *Group {
	return &Group{logger: logger, watches: watches}
}

// Run runs the watches until ctx is done and all of them have ended.
func (g *Group) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, w := range g.watches {
		running.Go(func() { w.run(ctx, g.logger) })
	}
	running.Wait()
}

// WaitSynced waits until every watch has delivered its first list. The error names a watch that has not.
func (g *Group) WaitSynced(ctx context.Context, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for _, w := range g.watches {
		select {
		case <-w.synced:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return fmt.Errorf("listing %s: not done within %v", w.name, timeout)
		}
	}
	return nil
}
