// Package clusters keeps an index for each linked cluster.
//
// A link is a Secret in the control plane's namespace that holds a kubeconfig. The store follows these Secrets; for each
// it connects to the cluster, runs an index and its watches, and offers the index once it knows everything:
//
//	store := clusters.New(clusters.Options{...})
//	watch := store.Watch(clients)          // of the Secrets, for a kube.Group
//	go store.Run(ctx)                      // waits for all it started
//	x, ok := store.Cluster("west")
//
// A cluster that cannot be reached is tried for as long as it is linked and harms nothing else. A Secret that changes (a
// rotated token) makes a new index, which takes the place of the old one when it is complete. Run has one goroutine that
// owns the links; Cluster and Changed may be called from any. Sources: proxy API chapter, section 3.8; control plane
// chapter, section 10 and, for what is done better than there, section 18.5.
package clusters

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Options are the parts of a Store.
type Options struct {
	// Namespace is where the links are: the control plane's.
	Namespace string
	// Config are the settings of the own cluster. A link replaces the domains.
	Config core.Config
	// Capacity is that of the indexes.
	Capacity int
	// EndpointSlices says what is watched, as for the own cluster.
	EndpointSlices bool
	// Connect makes the clients of a cluster from its kubeconfig.
	Connect func(kubeconfig []byte) (*kube.Clients, error)
	// Registerer takes the metrics; nil counts nothing.
	Registerer prometheus.Registerer
	// Logger takes what happens to links.
	Logger *slog.Logger
}

// link is what matters of a Secret.
type link struct {
	cluster, trustDomain, clusterDomain string
	kubeconfig                          string
	// problem says what is missing; empty if nothing is.
	problem string
}

// Store keeps the indexes of linked clusters.
type Store struct {
	options Options
	events  chan event
	stopped chan struct{}
	// offered is what Cluster answers from.
	offered atomic.Pointer[offer]
}

// offer is an immutable set of indexes, and a channel that is closed when the next set takes its place.
type offer struct {
	indexes map[string]*index.Index
	changed chan struct{}
}

// event is something that the owner must see.
type event struct {
	// key and link are of a Secret; link is nil if it is gone or is no link.
	key  kube.Key
	link *link
	// replace has all Secrets, after the watch of them had to begin anew.
	replace map[kube.Key]*link
	// synced is a cluster that has become complete.
	synced *cluster
}

// New returns a store without clusters.
func New(options Options) *Store {
	s := &Store{options: options, events: make(chan event), stopped: make(chan struct{})}
	s.offered.Store(&offer{changed: make(chan struct{})})
	return s
}

// Cluster returns the index of a linked cluster, if it is complete.
func (s *Store) Cluster(name string) (*index.Index, bool) {
	x, ok := s.offered.Load().indexes[name]
	return x, ok
}

// Changed returns a channel that is closed when Cluster may answer differently.
func (s *Store) Changed() <-chan struct{} { return s.offered.Load().changed }

// Watch returns the watch that feeds the store.
func (s *Store) Watch(clients *kube.Clients) *kube.Watch {
	secrets := clients.Kube.CoreV1().Secrets(s.options.Namespace)
	source := kube.Select(clients.Kube, secrets, func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector("type", names.SecretTypeRemoteKubeconfig).String()
	})
	return kube.NewWatch("secrets", source, s.read, sink{s})
}

// read turns a Secret into a link; nil if it is none. A link with something missing has a problem, which leaves the cluster as it
// was, also when it comes with a new list.
func (s *Store) read(secret *corev1.Secret) (*link, error) {
	l := &link{
		cluster:       secret.Labels[names.LabelMulticlusterClusterName],
		trustDomain:   secret.Annotations[names.AnnotationMulticlusterTrustDomain],
		clusterDomain: secret.Annotations[names.AnnotationMulticlusterClusterDomain],
		kubeconfig:    string(secret.Data[names.SecretRemoteKubeconfig]),
	}
	if secret.Type != names.SecretTypeRemoteKubeconfig || l.cluster == "" {
		return nil, nil
	}
	for what, value := range map[string]string{
		"annotation " + names.AnnotationMulticlusterTrustDomain:   l.trustDomain,
		"annotation " + names.AnnotationMulticlusterClusterDomain: l.clusterDomain,
		"key " + names.SecretRemoteKubeconfig:                     l.kubeconfig,
	} {
		if value == "" {
			l.problem = cmp.Or(l.problem, "it has no "+what)
		}
	}
	return l, nil
}

// sink passes the links on to the owner.
type sink struct{ store *Store }

func (s sink) send(e event) {
	select {
	case s.store.events <- e:
	case <-s.store.stopped:
	}
}

func (s sink) Apply(key kube.Key, l *link)        { s.send(event{key: key, link: l}) }
func (s sink) Delete(key kube.Key)                { s.send(event{key: key}) }
func (s sink) Replace(objects map[kube.Key]*link) { s.send(event{replace: objects}) }

// cluster is a connection to a linked cluster.
type cluster struct {
	key    kube.Key
	link   link
	index  *index.Index
	cancel context.CancelFunc
	// left says that the cluster is not linked any more, by this name, and that its metrics go with the connection.
	left atomic.Bool
}

// owner is the state of Run.
type owner struct {
	store *Store
	// current is the newest connection per Secret, complete or not.
	current map[kube.Key]*cluster
	// complete is the connection in use per Secret: the current one, or the one before until that is complete.
	complete map[kube.Key]*cluster
	running  sync.WaitGroup
}

// Run follows the links until ctx is done, and returns when all connections have ended.
func (s *Store) Run(ctx context.Context) {
	o := &owner{store: s, current: make(map[kube.Key]*cluster), complete: make(map[kube.Key]*cluster)}
	for {
		select {
		case <-ctx.Done():
			close(s.stopped)
			o.running.Wait()
			return
		case e := <-s.events:
			switch {
			case e.synced != nil:
				o.synced(e.synced)
			case e.replace != nil:
				for key := range o.current {
					if e.replace[key] == nil {
						o.set(ctx, key, nil)
					}
				}
				for key, l := range e.replace {
					o.set(ctx, key, l)
				}
			default:
				o.set(ctx, e.key, e.link)
			}
		}
	}
}

// set makes the connections fit a Secret.
func (o *owner) set(ctx context.Context, key kube.Key, l *link) {
	old := o.current[key]
	if l != nil && l.problem != "" {
		o.store.options.Logger.Error("link ignored", "cluster", l.cluster, "error", l.problem)
		return
	}
	switch {
	case l == nil && old == nil, l != nil && old != nil && old.link == *l:
		return
	case l == nil:
		o.store.options.Logger.Info("cluster unlinked", "cluster", old.link.cluster)
		o.leave(old)
		o.leave(o.complete[key])
		delete(o.current, key)
		delete(o.complete, key)
		o.offer()
		return
	}
	next, err := o.connect(ctx, key, *l)
	if err != nil {
		o.store.options.Logger.Error("cluster not linked", "cluster", l.cluster, "error", err)
		return
	}
	o.store.options.Logger.Info("cluster linked", "cluster", l.cluster)
	if old != o.complete[key] {
		o.drop(old) // it never became complete
	}
	o.current[key] = next
}

// synced puts a connection to use that has become complete.
func (o *owner) synced(c *cluster) {
	if o.current[c.key] != c {
		return // replaced in the meantime
	}
	old := o.complete[c.key]
	o.complete[c.key] = c
	o.offer()
	if old != nil && old.link.cluster != c.link.cluster {
		o.leave(old)
	}
	o.drop(old)
}

// offer publishes what is complete.
func (o *owner) offer() {
	indexes := make(map[string]*index.Index, len(o.complete))
	for _, c := range o.complete {
		indexes[c.link.cluster] = c.index
	}
	old := o.store.offered.Load()
	if maps.Equal(old.indexes, indexes) {
		return
	}
	o.store.offered.Store(&offer{indexes: indexes, changed: make(chan struct{})})
	close(old.changed)
}

// drop ends a connection, which may be nil. Its streams are told by the index having stopped. It does not wait for that: a
// watch of a cluster that is away may take its time. Run waits for all at the end.
func (o *owner) drop(c *cluster) {
	if c != nil {
		c.cancel()
	}
}

// leave ends a connection, which may be nil, to a cluster that is not linked any more.
func (o *owner) leave(c *cluster) {
	if c != nil {
		c.left.Store(true)
		o.drop(c)
	}
}

// connect starts an index and its watches for a link.
func (o *owner) connect(ctx context.Context, key kube.Key, l link) (*cluster, error) {
	options := o.store.options
	clients, err := options.Connect([]byte(l.kubeconfig))
	if err != nil {
		return nil, err
	}
	config := options.Config
	config.TrustDomain, config.ClusterDomain = l.trustDomain, l.clusterDomain
	logger := options.Logger.With("cluster", l.cluster)
	var metrics *index.Metrics
	if options.Registerer != nil {
		metrics = index.NewMetrics(options.Registerer, l.cluster)
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &cluster{
		key: key, link: l, cancel: cancel,
		index: index.New(index.Options{Config: config, Capacity: options.Capacity, Metrics: metrics, Logger: logger}),
	}
	group := kube.NewGroup(logger, c.index.Watches(index.Source{
		Clients: clients, EndpointSlices: options.EndpointSlices, Remote: true,
	})...)
	o.running.Go(func() {
		c.index.Run(ctx)
		if metrics != nil && c.left.Load() {
			metrics.Forget()
		}
	})
	o.running.Go(func() { group.Run(ctx) })
	o.running.Go(func() {
		for {
			err := group.WaitSynced(ctx, kube.SyncTimeout)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			logger.Warn("cluster not reached yet; still trying", "error", err)
		}
		select {
		case o.store.events <- event{synced: c}:
		case <-ctx.Done():
		}
	})
	return c, nil
}

// Collector returns the gauge of the number of clusters, to be registered by the caller.
func (s *Store) Collector() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cluster_store_size", Help: "Linked clusters whose endpoints are known.",
	}, func() float64 { return float64(len(s.offered.Load().indexes)) })
}
