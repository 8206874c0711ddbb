package index

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"
	"unique"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/derive"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/owner"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

const (
	// queueLength is how many functions may wait for the index's goroutine. A sender that finds the queue full waits, which
	// holds back its watch.
	queueLength = 1024
	// maxViews is how many answers are kept for whoever asks the same next.
	maxViews = 10_000
)

var (
	// ErrStopped is returned to callers of an index that has stopped.
	ErrStopped = owner.ErrStopped
	// ErrUnknownWorkload is returned for workloads that are not in the mesh.
	ErrUnknownWorkload = errors.New("unknown workload")
	// ErrUnknownAddress is returned for addresses in the cluster that nothing is known of.
	ErrUnknownAddress = errors.New("unknown address")
)

// Options are the parts of an Index.
type Options struct {
	// Config are the settings that shape the answers.
	Config core.Config
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger takes what is odd about objects.
	Logger *slog.Logger
}

// Index is what is known of the cluster.
type Index struct {
	config  core.Config
	reader  resource.Reader
	kinds   []*kind
	metrics *Metrics
	logger  *slog.Logger
	notes   *notes
	// owner is the goroutine of Run.
	owner *owner.Owner
	// statusChanged has room for one sign that there is an outdated status.
	statusChanged chan struct{}

	// What follows belongs to the goroutine of Run.
	tables *tables
	// answers are those of the topics, and the statuses of objects.
	answers  *derive.Answers[fact]
	inbound  map[inboundKey]*topic[core.InboundServer]
	outbound map[outboundKey]*topic[core.OutboundPolicy]
	// inboundViews and outboundViews have the answers made since the tables changed last.
	inboundViews  map[inboundView]view[core.InboundServer]
	outboundViews map[outboundView]view[core.OutboundPolicy]
	statuses      map[status.Key]*statusOf
	// outdated has the patches of statuses that are not what they should be.
	outdated map[status.Key][]byte
	// complaints are what is wrong with objects whose authors are told by an event.
	complaints map[status.Key]status.Complaint
	// peak is the most that there was in the tables and among the answers since these were made.
	peak shrink.Peak
}

// inboundKey is a question about what comes in.
type inboundKey struct {
	workload WorkloadKey
	port     uint16
}

// outboundKey is a question about what goes out: to an address, or to a Service by name.
type outboundKey struct {
	addr    netip.AddrPort
	service core.Target
	// namespace is the client's.
	namespace string
}

// WorkloadKey names a workload.
type WorkloadKey struct {
	core.ID
	// External is true for external workloads, false for pods.
	External bool
}

// New returns an index that knows nothing yet.
func New(options Options) *Index {
	x := &Index{
		config:   options.Config,
		metrics:  options.Metrics,
		logger:   options.Logger,
		notes:    &notes{logger: options.Logger},
		owner:    owner.New(queueLength),
		answers:  derive.New[fact](),
		inbound:  make(map[inboundKey]*topic[core.InboundServer]),
		outbound: make(map[outboundKey]*topic[core.OutboundPolicy]),
		statuses: make(map[status.Key]*statusOf),

		inboundViews:  make(map[inboundView]view[core.InboundServer]),
		outboundViews: make(map[outboundView]view[core.OutboundPolicy]),
		outdated:      make(map[status.Key][]byte),
		complaints:    make(map[status.Key]status.Complaint),

		statusChanged: make(chan struct{}, 1),
	}
	x.reader = resource.Reader{Config: &x.config, Warn: func(kind string, id core.ID, err error) {
		x.notes.warn(note{"part of an object ignored", kind, id.Namespace, id.Name, err.Error()})
	}}
	x.tables = newTables(x.touch)
	x.kinds = x.makeKinds()
	return x
}

// Run is the index's goroutine: it works until ctx is done. It must be called once.
func (x *Index) Run(ctx context.Context) { x.owner.Run(ctx, x.flush) }

// flush brings the answers up to date that depend on what changed. A rollout is many events, and only the last state of each
// answer is of interest.
func (x *Index) flush() {
	x.answers.Update()
	// The maps are made anew when most of what was in them is gone.
	if x.peak.Passed(x.tables.size() + x.answers.Len()) {
		x.tables.shrink()
		x.answers.Shrink()
	}
}

// touch marks the answers that depend on a fact.
func (x *Index) touch(f fact) {
	clear(x.inboundViews)
	clear(x.outboundViews)
	x.answers.Touch(f)
}

// bind says how an answer is made.
func (x *Index) bind(n *node, refresh func(*reader)) {
	n.Make = func(notes derive.Notes[fact]) { refresh(&reader{tables: x.tables, notes: notes}) }
}

// post has the index's goroutine call f, some time. It waits while the queue is full.
func (x *Index) post(f func()) { x.owner.Post(f) }

// do has the index's goroutine call f and waits until it has.
func (x *Index) do(ctx context.Context, f func()) error { return x.owner.Do(ctx, f) }

// note logs the notes of an answer and takes them out of it: proxies are not told, so that they do not make an answer another
// one.
func (x *Index) note(list *[]string) {
	for _, detail := range *list {
		x.notes.warn(note{message: "policy without effect", detail: detail})
	}
	*list = nil
}

// Inbound follows what the proxy of a workload lets in at a port. The subscription ends when the workload is gone. It
// returns ErrUnknownWorkload if it is not there.
func (x *Index) Inbound(ctx context.Context, workload WorkloadKey, port uint16) (*Subscription[core.InboundServer], error) {
	key := inboundKey{workload, port}
	return subscribe(ctx, x, x.inbound, key, ErrUnknownWorkload, func(r *reader) (*Answer[core.InboundServer], verdict) {
		w := r.workload(workload)
		if w == nil {
			return nil, gone
		}
		// Replicas are alike in all that matters, and share one answer.
		view := inboundView{workload.Namespace, r.tables.shapes[workload], port}
		return share(r, x.inboundViews, view, func() *core.InboundServer {
			server := x.config.Inbound(r, w, port)
			x.note(&server.Notes)
			return server
		}), compiled
	})
}

// Outbound follows what clients of a namespace do with an address. The subscription ends when the address means something
// else, so that clients ask again. It returns ErrUnknownAddress if nothing is known of it. Source: proxy API chapter,
// section 6.2.
func (x *Index) Outbound(ctx context.Context, addr netip.AddrPort, namespace string) (*Subscription[core.OutboundPolicy], error) {
	key := outboundKey{addr: addr, namespace: namespace}
	var first core.Target
	return subscribe(ctx, x, x.outbound, key, ErrUnknownAddress, func(r *reader) (*Answer[core.OutboundPolicy], verdict) {
		target, ok := x.config.Resolve(r, addr, namespace)
		switch {
		case !ok && first == (core.Target{}):
			return nil, gone
		case !ok:
			// The Service was deleted, or moved. Connections to the old address keep what they had until they are done.
			return nil, kept
		case first == (core.Target{}):
			first = target
		case first != target:
			return nil, gone
		}
		return x.compile(r, target, namespace), compiled
	})
}

// OutboundByName follows what clients of a namespace do with a port of a Service, whether it exists or not, or with one
// instance of it, if that is not empty. If it is deleted, the subscription keeps what it had.
func (x *Index) OutboundByName(ctx context.Context, service core.ID, instance string, port uint16, namespace string) (*Subscription[core.OutboundPolicy], error) {
	target := core.Target{Destination: core.ToService, ID: service, Port: port, Instance: instance}
	key := outboundKey{service: target, namespace: namespace}
	existed := false
	return subscribe(ctx, x, x.outbound, key, ErrUnknownAddress, func(r *reader) (*Answer[core.OutboundPolicy], verdict) {
		exists := r.Service(service) != nil
		if existed && !exists {
			return nil, kept
		}
		existed = exists
		return x.compile(r, target, namespace), compiled
	})
}

// compile returns what clients of a namespace do with a target. Most namespaces have no routes of their own for it, and share
// one answer.
func (x *Index) compile(r *reader, target core.Target, namespace string) *Answer[core.OutboundPolicy] {
	if !x.config.HasOwnRoutes(r, target, namespace) {
		namespace = ""
	}
	return share(r, x.outboundViews, outboundView{target, namespace}, func() *core.OutboundPolicy {
		policy := x.config.Outbound(r, target, namespace)
		x.note(&policy.Notes)
		return policy
	})
}

// inboundView and outboundView are all that an answer depends on, besides the tables.
type (
	inboundView struct {
		namespace string
		shape     unique.Handle[string]
		port      uint16
	}
	outboundView struct {
		target    core.Target
		namespace string
	}
)

// view is an answer that holds as long as the tables do not change, with the facts that it was made from.
type view[T any] struct {
	answer *Answer[T]
	facts  []fact
}

// share returns the answer of a view, which it has made if it is not there.
func share[K comparable, T any](r *reader, views map[K]view[T], key K, compile func() *T) *Answer[T] {
	if v, ok := views[key]; ok {
		for _, f := range v.facts {
			r.note(f)
		}
		return v.answer
	}
	var facts []fact
	r.read = &facts
	answer := &Answer[T]{Value: *compile()}
	r.read = nil
	if len(views) >= maxViews {
		clear(views)
	}
	views[key] = view[T]{answer, facts}
	return answer
}

// statusOf follows whether the status of one object is up to date.
type statusOf struct {
	node node
}

// setStatus takes an object that has a status, or nil if it is gone. It is called on the index's goroutine.
func (x *Index) setStatus(key status.Key, object status.Object) {
	if !x.tables.setStatus(key, object) {
		return
	}
	s := x.statuses[key]
	switch {
	case object == nil:
		x.answers.Drop(&s.node)
		delete(x.statuses, key)
		x.setOutdated(key, nil)
	case s == nil:
		s = &statusOf{}
		x.bind(&s.node, func(r *reader) {
			x.setOutdated(key, r.status(key).Patch(r, time.Now()))
		})
		x.statuses[key] = s
		x.answers.Mark(&s.node)
	}
}

func (x *Index) setOutdated(key status.Key, patch []byte) {
	if patch != nil {
		x.outdated[key] = patch
	} else if _, was := x.outdated[key]; was {
		delete(x.outdated, key)
	} else {
		return
	}
	x.changed()
}

// changed tells who writes statuses to look again, also if one is outdated no more: whoever wrote it can forget that. Else an
// object made anew within a second, whose patch is the same to the letter, would be taken for written.
func (x *Index) changed() {
	select {
	case x.statusChanged <- struct{}{}:
	default:
	}
}

// setComplaint notes what is wrong with an object, which may be nothing.
func (x *Index) setComplaint(key status.Key, c status.Complaint) {
	old, had := x.complaints[key]
	switch {
	case len(c.Texts) == 0 && !had, had && c.UID == old.UID && slices.Equal(c.Texts, old.Texts):
		return
	case len(c.Texts) == 0:
		delete(x.complaints, key)
	default:
		x.complaints[key] = c
	}
	x.changed()
}

// Changed implements status.Source.
func (x *Index) Changed() <-chan struct{} { return x.statusChanged }

// Outdated implements status.Source.
func (x *Index) Outdated(ctx context.Context) (map[status.Key][]byte, error) {
	var outdated map[status.Key][]byte
	err := x.do(ctx, func() { outdated = maps.Clone(x.outdated) })
	return outdated, err
}

// Complaints implements status.Source.
func (x *Index) Complaints(ctx context.Context) (map[status.Key]status.Complaint, error) {
	var complaints map[status.Key]status.Complaint
	err := x.do(ctx, func() { complaints = maps.Clone(x.complaints) })
	return complaints, err
}

// result is what came of reading an object.
type result[T any] struct {
	object T
	// err says why the object cannot be used.
	err error
	// status is set for objects that have one, also if they cannot be used.
	status status.Object
	// complaint is what is wrong with it, if its author is to be told by an event.
	complaint status.Complaint
}

// sink passes the objects of a watch on to a table of the index.
type sink[T any] struct {
	index *Index
	kind  *kind
	// set is called on the index's goroutine; a zero object means that there is none.
	set func(id core.ID, object T)
	// ids lists what the table has, for the objects that are missing from a new list.
	ids func() []core.ID
}

// apply takes an object in, on the index's goroutine. One that cannot be used leaves what was there before: an edit gone
// wrong must not open or close anything.
func (s *sink[T]) apply(id core.ID, r result[T]) {
	if r.status != nil {
		s.index.setStatus(r.status.Key(), r.status)
	}
	s.index.setComplaint(status.Key{Resource: s.kind.resource, ID: id}, r.complaint)
	s.index.tables.setUnusable(s.kind, id, r.err)
	if r.err == nil {
		s.set(id, r.object)
		return
	}
	s.index.notes.warn(note{"object ignored", s.kind.name + suffix(s.kind.resource), id.Namespace, id.Name, r.err.Error()})
	s.index.metrics.failed(s.kind)
}

func (s *sink[T]) remove(id core.ID) {
	var none T
	s.set(id, none)
	s.index.tables.setUnusable(s.kind, id, nil)
	s.index.setComplaint(status.Key{Resource: s.kind.resource, ID: id}, status.Complaint{})
	s.index.setStatus(status.Key{Resource: s.kind.resource, ID: id}, nil)
}

// Apply implements kube.Sink.
func (s *sink[T]) Apply(key kube.Key, r result[T]) { s.index.post(func() { s.apply(core.ID(key), r) }) }

// Delete implements kube.Sink.
func (s *sink[T]) Delete(key kube.Key) { s.index.post(func() { s.remove(core.ID(key)) }) }

// Replace implements kube.Sink.
func (s *sink[T]) Replace(objects map[kube.Key]result[T]) {
	s.index.post(func() {
		known := slices.Concat(s.ids(), s.index.tables.statusIDs(s.kind.resource), s.index.tables.unusableIDs(s.kind))
		for _, id := range known {
			if _, ok := objects[kube.Key(id)]; !ok {
				s.remove(id)
			}
		}
		for key, r := range objects {
			s.apply(core.ID(key), r)
		}
	})
}
