package outbound

import (
	"cmp"
	"fmt"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// backendKey is what makes two backends the same balancer.
type backendKey struct {
	kind    kind
	parent  model.Meta
	backend model.BackendKey
	breaker bool
	accrual model.FailureAccrual
}

// backend is where the requests or connections of a target go: a balancer over
// its endpoints, or over one constant endpoint.
type backend struct {
	key   backendKey
	model *model.Backend
	// fail says why every request fails; balancer is nil then.
	fail     string
	balancer *balance.Balancer[*endpoint]
	source   *series.BalancerSource
	latency  metric.Histogram
	set      *series.Set
	lease    *lookup.Lease[lookup.Endpoints]
}

// Ready reports whether requests are taken.
func (b *backend) Ready() bool { return b.balancer == nil || b.balancer.Ready() }

// newBackend makes a backend and starts its balancer.
func (t *target) newBackend(key backendKey, m *model.Backend, accrual *model.FailureAccrual) *backend {
	p := t.p
	b := &backend{key: key, model: m, set: p.cfg.Series}
	var endpoints lookup.Endpoints
	switch m.Kind {
	case model.BackendForward:
		endpoints = watch.Const(&model.EndpointSet{Endpoints: []*model.Endpoint{m.Forward}, Exists: true})
	case model.BackendBalance:
		lease, err := p.cfg.Resolver.Endpoints(m.Path)
		if err != nil {
			b.fail = fmt.Sprintf("endpoints of %s: %v", m.Path, err)
			return b
		}
		b.lease, endpoints = lease, lease.Value()
	default:
		b.fail = m.Message
		if b.fail == "" {
			b.fail = "backend is not valid"
		}
		return b
	}
	families, labels, queue := b.families(t)
	b.balancer = balance.New(balance.Config[*endpoint]{
		Endpoints: endpoints, Load: m.Load, Accrual: accrual,
		Capacity: queue.Capacity, Failfast: queue.FailFast,
		New:          func(e *model.Endpoint, notify func()) *endpoint { return p.newEndpoint(b, e, notify) },
		QueueLatency: func(d time.Duration) { b.latency.ObserveDuration(d) },
		Avoid:        (*endpoint).avoided, MaxLoad: m.Affinity.MaxLoad,
	})
	if m.Kind == model.BackendBalance {
		b.latency = families.Latency.Histogram(labels)
		b.source = families.Add(labels, b.stats)
	}
	p.cfg.Series.StackCreate.Count(stackLabels(key.kind))
	return b
}

// families chooses metric families, labels and queue by the kind of use.
func (b *backend) families(t *target) (*series.Balancer, string, Queue) {
	set, cfg := t.p.cfg.Series, &t.p.cfg
	labels := metric.Join(series.Parent(b.key.parent), series.Backend(b.model.Meta))
	if b.key.kind <= kindHTTP2 {
		return set.HTTPBalancer, labels, cfg.HTTPQueue.with(b.model.Queue)
	}
	labels = metric.Join(labels, metric.Labels("logical", t.String(), "concrete", b.model.Path))
	if b.key.kind == kindTLS {
		return set.TLSBalancer, labels, cfg.TCPQueue.with(b.model.Queue)
	}
	return set.TCPBalancer, labels, cfg.TCPQueue.with(b.model.Queue)
}

// with is the queue as a policy wants it.
func (q Queue) with(wanted model.Queue) Queue {
	return Queue{Capacity: cmp.Or(wanted.Capacity, q.Capacity), FailFast: cmp.Or(wanted.Failfast, q.FailFast)}
}

// stackLabels label stack_create_total and stack_drop_total.
func stackLabels(k kind) string {
	protocol := [...]string{"http", "http", "tcp", "tls"}[k]
	return metric.Join(series.OutboundLabel, metric.Labels("protocol", protocol, "name", "concrete"))
}

// stats is the balancer's state for the metrics.
func (b *backend) stats() series.BalancerStats {
	s := b.balancer.Stats()
	return series.BalancerStats{
		Ready: s.Ready, Pending: s.Pending, Reset: s.Updates.Reset, Add: s.Updates.Add, Remove: s.Updates.Remove,
		QueueLength: s.QueueLength, QueueRequests: s.QueueRequests, GateOpen: s.Gate.Opened, GateShut: s.Gate.Shut,
		GateOpened: s.Gate.OpenedAt, GateShutAt: s.Gate.ShutAt, GateTimeout: s.Failfast,
	}
}

// String is the backend in error texts.
func (b *backend) String() string { return label(b.model.Meta) }

// label is a resource in error texts: "Service.ns.web:80" or "default.http".
func label(m model.Meta) string {
	if m.IsDefault() {
		return "default." + m.Name
	}
	s := m.Kind + "." + m.Namespace + "." + m.Name
	if m.Port != 0 {
		s += ":" + m.PortLabel()
	}
	return s
}

// close ends the balancer. Requests in flight go on.
func (b *backend) close() {
	if b.source != nil {
		b.source.Remove()
	}
	if b.balancer != nil {
		b.balancer.Close()
	}
	b.latency.Release()
	if b.balancer != nil {
		b.set.StackDrop.Count(stackLabels(b.key.kind))
	}
	if b.lease != nil {
		b.lease.Release()
	}
}
