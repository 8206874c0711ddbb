package outbound

import (
	"sync"

	"github.com/linkerd-go/linkerd-go/proxy/balance/distribute"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/retry"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// httpRouter routes the requests of one HTTP version to a target.
type httpRouter struct {
	// parent is what the target is, for metrics and errors.
	parent model.Meta
	// invalid is why nothing can be routed.
	invalid string
	// policy and rules are set for policy routes; rules by route and rule.
	policy *model.HTTPPolicy
	rules  [][]*rule
	// profile is set if requests follow a service profile instead.
	profile  *profileRouter
	backends []*backend
}

// rule is a policy rule with what requests need of it.
type rule struct {
	*model.Rule
	meta model.Meta
	grpc bool
	set  *series.Set
	// labels are those of the route's metrics, without hostname; metrics is
	// the handle for an empty hostname.
	labels  string
	metrics *series.OutboundRoute
	dist    *distribute.Distributor[*ruleBackend]
	// budget limits the retries of the rule's requests together; nil does not.
	budget *retry.Budget
	// mirrored are the rule's own mirrors; mirrors, rewrites and shares say
	// whether it or a backend has filters that mirror, that rewrite, and that
	// share responses with other origins. delays says that it holds requests.
	mirrored                          []*ruleMirror
	mirrors, rewrites, shares, delays bool

	mu sync.Mutex
	// hosts, if hostname labels are on, is guarded by mu.
	hosts map[string]*series.OutboundRoute
}

// ruleBackend is a backend as one rule uses it.
type ruleBackend struct {
	*backend
	filters []model.Filter
	metrics *series.OutboundBackend
	// mirrored are those of requests that go to this backend.
	mirrored []*ruleMirror
}

// look notes what filters need from the request's path and returns their
// mirrors.
func (r *rule) look(b *builder, parent model.Meta, filters []model.Filter) []*ruleMirror {
	var mirrors []*ruleMirror
	for i := range filters {
		switch f := &filters[i]; f.Kind {
		case model.FilterRewrite:
			r.rewrites = true
		case model.FilterCORS:
			r.shares = true
		case model.FilterDelay:
			r.delays = true
		case model.FilterMirror:
			r.mirrors = true
			mirrors = append(mirrors, &ruleMirror{Mirror: f.Mirror, backend: b.backend(parent, f.Mirror.Backend, nil)})
		}
	}
	return mirrors
}

// maxHosts bounds the hostname labels of a rule, for clients choose them.
const maxHosts = 1000

// route gives the handle for a hostname.
func (r *rule) route(host []byte) *series.OutboundRoute {
	if len(host) == 0 {
		return r.metrics
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.hosts[string(host)]; m != nil {
		return m
	}
	if len(r.hosts) >= maxHosts {
		return r.metrics
	}
	if r.hosts == nil {
		r.hosts = map[string]*series.OutboundRoute{}
	}
	m := r.set.OutboundRoute(r.grpc, metric.Join(r.labels, metric.Labels("hostname", string(host))))
	r.hosts[string(host)] = m
	return m
}

// profileRouter routes by a service profile.
type profileRouter struct {
	profile *model.Profile
	// canonical is the value of l5d-dst-canonical, dst of the label.
	canonical string
	routes    []*profileRoute
	def       *profileRoute
	budget    *retry.Budget
	dist      *distribute.Distributor[*backend]
	// policy is for what the profile does not say; budgets are those of its
	// rules, by route and rule. retries says that the profile retries itself.
	policy  *model.HTTPPolicy
	budgets [][]*retry.Budget
	retries bool
}

// profileRoute is a route of a profile with its metrics.
type profileRoute struct {
	*model.ProfileRoute // nil for the default route
	http, actual        *series.HTTP
	labels              string
}

// tcpRouter routes the connections to a target.
type tcpRouter struct {
	parent   model.Meta
	invalid  string
	policy   *model.TCPPolicy
	rules    []*tcpRule
	profile  *distribute.Distributor[*backend]
	backends []*backend
}

// tcpRule is a route of opaque or TLS connections.
type tcpRule struct {
	*model.TCPRoute
	// labels are those of the route's metrics, without target or hostname.
	labels string
	dist   *distribute.Distributor[*tcpBackend]
}

// tcpBackend is a backend as one TCP route uses it.
type tcpBackend struct {
	*backend
	filters []model.Filter
}

// builder makes routers. It is used with the target's lock held.
type builder struct {
	t    *target
	kind kind
	keep map[backendKey]*backend
	used []*backend
}

// backend finds or makes the balancer of a backend. logical is set for those of
// profiles.
func (b *builder) backend(parent model.Meta, m *model.Backend, accrual *model.FailureAccrual) *backend {
	key := backendKey{kind: b.kind, parent: parent, backend: m.Key()}
	if accrual != nil {
		key.accrual, key.breaker = *accrual, true
	}
	be := b.keep[key]
	if be == nil {
		if be = b.t.backends[key]; be == nil {
			be = b.t.newBackend(key, m, accrual)
		}
		b.keep[key] = be
	}
	b.used = append(b.used, be)
	return be
}

// http makes the router of an HTTP version.
func (b *builder) http(t *model.Target) *httpRouter {
	r := &httpRouter{parent: t.Policy.Parent, invalid: t.Policy.Invalid}
	if t.ProfileHTTP {
		r.profile = b.profile(t)
		r.backends = b.used
		return r
	}
	r.policy = b.policy(t)
	set := b.t.p.cfg.Series
	parent := series.Parent(r.parent)
	for i := range r.policy.Routes.List {
		route := &r.policy.Routes.List[i]
		labels := metric.Join(parent, series.RouteRef(route.Meta))
		rules := make([]*rule, len(route.Rules))
		for j := range route.Rules {
			m := &route.Rules[j]
			ru := &rule{
				Rule: m, meta: route.Meta, grpc: r.policy.Routes.GRPC, set: set, labels: labels,
				metrics: set.OutboundRoute(r.policy.Routes.GRPC, metric.Join(labels, `hostname=""`)),
			}
			if m.Retry != nil {
				ru.budget = retry.NewBudget(m.Retry.Budget, b.t.p.cfg.Clock.Now())
			}
			ru.mirrored = ru.look(b, r.parent, m.Filters)
			var backends []*ruleBackend
			var weights []uint32
			for k := range m.Distribution.Backends {
				d := &m.Distribution.Backends[k]
				backends = append(backends, &ruleBackend{
					backend:  b.backend(r.parent, d.Backend, r.policy.Accrual),
					filters:  d.Filters,
					metrics:  set.OutboundBackend(ru.grpc, metric.Join(labels, series.Backend(d.Backend.Meta))),
					mirrored: ru.look(b, r.parent, d.Filters),
				})
				weights = append(weights, d.Weight)
			}
			ru.dist = distribute.New(m.Distribution.Kind, backends, weights)
			rules[j] = ru
		}
		r.rules = append(r.rules, rules)
	}
	r.backends = b.used
	return r
}

// policy is the target's for the HTTP version.
func (b *builder) policy(t *model.Target) *model.HTTPPolicy {
	p := t.Policy.HTTP1
	if b.kind == kindHTTP2 && t.Policy.HTTP2 != nil || p == nil {
		p = t.Policy.HTTP2
	}
	if p == nil {
		p = &model.HTTPPolicy{}
	}
	return p
}

// profile makes the router of a service profile.
func (b *builder) profile(t *model.Target) *profileRouter {
	set, now := b.t.p.cfg.Series, b.t.p.cfg.Clock.Now()
	policy := b.policy(t)
	r := &profileRouter{
		profile: t.Profile, canonical: t.Path, policy: policy,
		budget: retry.NewBudget(t.Profile.Budget, now),
		dist:   b.overrides(t, policy.Balancing(), policy.Accrual),
	}
	for i := range policy.Routes.List {
		rules := policy.Routes.List[i].Rules
		budgets := make([]*retry.Budget, len(rules))
		for j := range rules {
			if m := rules[j].Retry; m != nil {
				budgets[j] = retry.NewBudget(m.Budget, now)
			}
		}
		r.budgets = append(r.budgets, budgets)
	}
	route := func(m *model.ProfileRoute) *profileRoute {
		var l model.Labels
		if m != nil {
			l = m.Labels
		}
		labels := series.ProfileRoute(series.OutboundLabel, t.Path, l)
		return &profileRoute{ProfileRoute: m, labels: labels, http: set.ProfileRoute(labels), actual: set.ProfileActual(labels)}
	}
	for i := range t.Profile.Routes {
		r.routes = append(r.routes, route(&t.Profile.Routes[i]))
		r.retries = r.retries || t.Profile.Routes[i].Retryable
	}
	r.def = route(nil)
	return r
}

// overrides distributes over what a profile names instead of the service, or
// over the service itself. What the policy says of queues, load and breakers
// counts for them, too.
func (b *builder) overrides(t *model.Target, like model.Balancing, accrual *model.FailureAccrual) *distribute.Distributor[*backend] {
	list := t.Profile.Overrides
	if len(list) == 0 {
		list = []model.Override{{Path: t.Path, Weight: 1}}
	}
	var backends []*backend
	var weights []uint32
	for _, o := range list {
		backends = append(backends, b.backend(t.Policy.Parent, &model.Backend{
			Meta: t.Policy.Parent, Kind: model.BackendBalance, Path: o.Path, Load: like.Load, Queue: like.Queue, Affinity: like.Affinity,
		}, accrual))
		weights = append(weights, o.Weight)
	}
	return distribute.New(model.DistributionRandomAvailable, backends, weights)
}

// tcp makes the router of connections.
func (b *builder) tcp(t *model.Target) *tcpRouter {
	r := &tcpRouter{parent: t.Policy.Parent, invalid: t.Policy.Invalid}
	if b.kind == kindOpaque && t.ProfileTCP {
		r.profile = b.overrides(t, t.Policy.TCP.Balancing(), nil)
		r.backends = b.used
		return r
	}
	r.policy = t.Policy.TCP
	if b.kind == kindTLS && t.Policy.TLS != nil {
		r.policy = t.Policy.TLS
	}
	if r.policy == nil {
		r.policy = &model.TCPPolicy{}
	}
	parent := series.Parent(r.parent)
	for i := range r.policy.Routes {
		route := &r.policy.Routes[i]
		var backends []*tcpBackend
		var weights []uint32
		for k := range route.Distribution.Backends {
			d := &route.Distribution.Backends[k]
			backends = append(backends, &tcpBackend{backend: b.backend(r.parent, d.Backend, nil), filters: d.Filters})
			weights = append(weights, d.Weight)
		}
		r.rules = append(r.rules, &tcpRule{
			TCPRoute: route, labels: metric.Join(parent, series.RouteRef(route.Meta)),
			dist: distribute.New(route.Distribution.Kind, backends, weights),
		})
	}
	r.backends = b.used
	return r
}

// release gives the metric handles back. Requests in flight may go on counting
// in them: that only keeps their series from vanishing a little longer.
func (r *httpRouter) release() {
	for _, rules := range r.rules {
		for _, ru := range rules {
			ru.metrics.Release()
			for _, m := range ru.hosts {
				m.Release()
			}
			for _, b := range ru.dist.Backends() {
				b.metrics.Release()
			}
		}
	}
	if p := r.profile; p != nil {
		for _, pr := range append(p.routes, p.def) {
			pr.http.Release()
			pr.actual.Release()
		}
	}
}
