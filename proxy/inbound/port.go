package inbound

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/authz"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/ratelimit"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// portIdle is how long a port's state outlives its last connection; the
// policy itself is kept longer, by who looks it up.
const portIdle = time.Second

// port is the state of one port that connections are for: its policy, the
// metric handles of what the policy permitted, and the application behind it.
type port struct {
	p      *Proxy
	number uint16
	policy atomic.Pointer[policy]

	mu sync.Mutex
	// permits, apps and tcp are guarded by mu. permits are shared by the
	// connections that hold them.
	permits map[permitKey]*permit
	apps    map[appKey]*app
	// tcp are the connections that are joined with the application, to be
	// looked at again when the policy changes.
	tcp map[*forwarding]struct{}
}

// policy is a snapshot of the port's policy with what requests need of it.
type policy struct {
	*model.ServerPolicy
	limiter *ratelimit.Limiter
	// srv are the rendered SRV labels, parent those of the registry families.
	srv, parent string
}

// watchPort keeps a port's state up to date while it is in use.
func (p *Proxy) watchPort(ctx context.Context, number uint16, ready func(*port)) error {
	lease, err := p.cfg.Policies.Server(number)
	if err != nil {
		return err
	}
	defer lease.Release()
	pt := &port{
		p: p, number: number,
		permits: map[permitKey]*permit{}, apps: map[appKey]*app{}, tcp: map[*forwarding]struct{}{},
	}
	server, changed := lease.Value().Watch()
	pt.set(server)
	ready(pt)
	for {
		select {
		case <-changed:
			server, changed = lease.Value().Watch()
			pt.set(server)
			pt.reauthorize()
		case <-ctx.Done():
			pt.close()
			return nil
		}
	}
}

// set makes server the policy. Only the port's own goroutine calls it.
func (pt *port) set(server *model.ServerPolicy) {
	var limiter *ratelimit.Limiter
	if old := pt.policy.Load(); old != nil {
		limiter = old.limiter
	}
	pt.policy.Store(&policy{
		ServerPolicy: server,
		limiter:      ratelimit.Next(limiter, server.RateLimit, pt.p.cfg.Clock.Now()),
		srv:          series.Server(server.Meta, pt.number),
		parent:       series.InboundParent(server.Meta, pt.number),
	})
}

// reauthorize ends the connections that the new policy does not permit.
func (pt *port) reauthorize() {
	pt.mu.Lock()
	conns := make([]*forwarding, 0, len(pt.tcp))
	for f := range pt.tcp {
		conns = append(conns, f)
	}
	pt.mu.Unlock()
	pol := pt.policy.Load()
	for _, f := range conns {
		f.reauthorize(pol)
	}
}

// close frees what the port holds; nobody uses it any more.
func (pt *port) close() {
	pt.mu.Lock()
	apps := pt.apps
	pt.apps = map[appKey]*app{}
	pt.mu.Unlock()
	for _, a := range apps {
		a.close()
		pt.p.cfg.Series.StackDrop.Count(stackLabels)
	}
}

// permitKey is what the metrics of a permitted request are labelled with.
type permitKey struct {
	target     netip.AddrPort
	tls        series.ServerTLS
	srv, route model.Meta
	authz      model.Meta
	authority  string
	grpc       bool
}

// permit has the metric handles of requests that one authorization let through
// on one route, for one kind of client.
type permit struct {
	key permitKey
	// refs is guarded by the port's mu.
	refs     int
	allow    metric.Counter
	endpoint *series.HTTP
	route    *series.InboundRoute
}

// hold finds or makes a permit and counts its user.
func (pt *port) hold(k permitKey, pol *policy) *permit {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if m := pt.permits[k]; m != nil {
		m.refs++
		return m
	}
	s := pt.p.cfg.Series
	target, tls := series.Target(k.target), k.tls.Labels()
	route, auth := series.Route(k.route), series.Authz(k.authz)
	authority := ""
	if k.authority != "" {
		authority = metric.Labels("authority", k.authority)
	}
	m := &permit{
		key: k, refs: 1,
		allow:    s.HTTPAllow.Counter(metric.Join(target, pol.srv, route, auth, tls)),
		endpoint: s.Endpoint(metric.Join(series.InboundLabel, authority, target, tls, pol.srv, route, auth)),
		route:    s.InboundRoute(k.grpc, metric.Join(pol.parent, route)),
	}
	pt.permits[k] = m
	return m
}

// release gives a permit back.
func (pt *port) release(m *permit) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if m.refs--; m.refs > 0 {
		return
	}
	delete(pt.permits, m.key)
	m.allow.Release()
	m.endpoint.Release()
	m.route.Release()
}

// Lease is a hold on a port's state.
type lease = lookup.Lease[*port]

// permitted decides whether a client may have its bytes forwarded, and by
// which authorization.
func (pol *policy) permitted(c authz.Client) (*model.Authorization, authz.Reason) {
	return authz.Authorize(c, pol.Authorizations)
}
