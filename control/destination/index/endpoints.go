package index

import (
	"context"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

// EndpointsQuery asks for the endpoints behind a port of a Service.
type EndpointsQuery struct {
	Service core.ID
	Port    uint16
	// Instance is the hostname of one endpoint; empty is all.
	Instance string
	// Node is where the client runs; empty if unknown.
	Node string
	// Unfiltered leaves out the choices by node and zone.
	Unfiltered bool
	// Moved, if not nil, is called when the endpoints are not the Service's own any more: see core.Service.Elsewhere. It is
	// called on the index's goroutine, perhaps more than once, and must not block.
	Moved func()
}

// portKey names the topic of a port of a Service.
type portKey struct {
	service core.ID
	port    uint16
}

// client is what a stream said about itself.
type client struct {
	instance   string
	unfiltered bool
	node, zone string
	// moved is called when the endpoints are elsewhere; it may be nil.
	moved func()
}

// move tells the stream that the endpoints are elsewhere.
func (c client) move() {
	if c.moved != nil {
		c.moved()
	}
}

// group are the streams that see the same endpoints.
type group struct {
	viewer   core.Viewer
	snapshot *core.Snapshot
	subs     map[*Subscription[core.Snapshot]]struct{}
}

// endpointsTopic answers for one port of a Service: it translates the addresses once and lets each group see its part.
type endpointsTopic struct {
	node    node
	index   *Index
	key     portKey
	service *core.Service
	// behind is whose endpoints they are: the Service itself, or what it is an alias of; nil for what only DNS knows.
	behind    *core.Service
	addresses []core.Address
	setLabels map[string]string
	// clients are all streams; groups are the same streams by what they see.
	clients map[*Subscription[core.Snapshot]]client
	groups  map[core.Viewer]*group
	local   bool
	// elsewhere says that the Service, as it was last, has no endpoints of its own.
	elsewhere bool
}

// Endpoints subscribes to the endpoints behind a port. The Service need not exist: it may yet come.
func (x *Index) Endpoints(ctx context.Context, query EndpointsQuery) (*Subscription[core.Snapshot], error) {
	sub := newSubscription[core.Snapshot](x.options.Capacity)
	key := portKey{query.Service, query.Port}
	err := x.do(ctx, func() {
		topic := x.endpoints[key]
		if topic == nil {
			topic = &endpointsTopic{
				index: x, key: key,
				clients: make(map[*Subscription[core.Snapshot]]client), groups: make(map[core.Viewer]*group),
			}
			x.endpoints[key] = topic
			x.join(&topic.node, topic.refresh)
		}
		who := client{instance: query.Instance, unfiltered: query.Unfiltered, node: query.Node, zone: x.tables.zones[query.Node], moved: query.Moved}
		if query.Node != "" && who.zone == "" {
			x.options.Logger.Debug("zone of client's node unknown", "node", query.Node)
		}
		topic.clients[sub] = who
		topic.join(sub, who)
		if topic.elsewhere {
			who.move()
		}
	})
	if err != nil {
		return nil, err
	}
	sub.close = func() {
		x.post(func() {
			if topic := x.endpoints[key]; topic != nil {
				topic.leave(sub)
			}
		})
	}
	return sub, nil
}

// viewer returns which group a client belongs to. The node matters only where traffic stays on it, so that otherwise all
// clients of a zone share one group.
func (t *endpointsTopic) viewer(who client) core.Viewer {
	v := core.Viewer{Hostname: who.instance, Unfiltered: who.unfiltered, Zone: who.zone}
	if t.local && !who.unfiltered {
		v.Node = who.node
	}
	return v
}

// join puts a stream in its group and gives it the group's snapshot.
func (t *endpointsTopic) join(sub *Subscription[core.Snapshot], who client) {
	v := t.viewer(who)
	g := t.groups[v]
	if g == nil {
		g = &group{viewer: v, subs: make(map[*Subscription[core.Snapshot]]struct{})}
		t.groups[v] = g
		t.update(g)
	}
	g.subs[sub] = struct{}{}
	sub.publish(g.snapshot)
	t.index.options.Metrics.subscribers(t.key, v, 1)
}

// leave removes a stream, its group with the last one, and the topic with the last group.
func (t *endpointsTopic) leave(sub *Subscription[core.Snapshot]) {
	delete(t.clients, sub)
	for v, g := range t.groups {
		if _, in := g.subs[sub]; !in {
			continue
		}
		delete(g.subs, sub)
		t.index.options.Metrics.subscribers(t.key, v, -1)
		if len(g.subs) == 0 {
			delete(t.groups, v)
			t.forget(v)
		}
	}
	if len(t.groups) == 0 {
		t.index.answers.Drop(&t.node)
		delete(t.index.endpoints, t.key)
	}
}

// forget removes the metrics of a viewer that has no group any more, unless another one shares them: zones are not told
// apart there.
func (t *endpointsTopic) forget(gone core.Viewer) {
	for v := range t.groups {
		if v.Hostname == gone.Hostname && v.Node == gone.Node {
			return
		}
	}
	t.index.options.Metrics.forget(t.key, gone)
}

// refresh translates the addresses again and updates the groups.
func (t *endpointsTopic) refresh(r *reader) {
	service := r.service(t.key.service)
	t.service = service
	before := make(map[netip.AddrPort]*core.Endpoint, len(t.addresses))
	for _, address := range t.addresses {
		before[address.Endpoint.Addr] = address.Endpoint
	}
	t.addresses, t.setLabels, t.behind = nil, nil, nil
	if service != nil {
		if elsewhere := service.Elsewhere(); elsewhere != t.elsewhere {
			t.elsewhere = elsewhere
			for _, who := range t.clients {
				if elsewhere {
					who.move()
				}
			}
		}
		t.behind, t.addresses = t.find(r, service)
		t.setLabels = core.SetLabels(service)
		// An endpoint that did not change keeps its memory: comparing views is then comparing pointers.
		for i := range t.addresses {
			if old := before[t.addresses[i].Endpoint.Addr]; old != nil && old.Equal(t.addresses[i].Endpoint) {
				t.addresses[i].Endpoint = old
			}
		}
		if local := t.behind != nil && t.behind.LocalTraffic; local != t.local {
			t.local = local
			t.regroup()
			return
		}
	}
	for _, g := range t.groups {
		t.update(g)
	}
}

// maxAliases is how many aliases lead from one to the next.
const maxAliases = 8

// find returns the addresses behind the topic's port of a Service, and whose they are. An alias of another Service of the
// cluster has that one's endpoints, with all that is known of them; an alias of any other name has what DNS knows.
func (t *endpointsTopic) find(r *reader, service *core.Service) (*core.Service, []core.Address) {
	config := &t.index.options.Config
	for range maxAliases {
		if !service.ExternalName {
			return service, config.Addresses(r, service, r.slices(service.ID), t.key.port)
		}
		name, err := core.ParseName(service.Alias, config.ClusterDomain)
		if err != nil || name.Instance != "" {
			return nil, config.Resolved(r.addrs(service.Alias), t.key.port)
		}
		if service = r.service(name.Service); service == nil {
			return nil, nil
		}
	}
	t.index.options.Logger.Warn("service without endpoints: its alias leads nowhere", "service", t.key.service)
	return nil, nil
}

// regroup puts all streams in groups anew, because what divides them has changed.
func (t *endpointsTopic) regroup() {
	old := t.groups
	t.groups = nil
	for v := range old {
		t.forget(v)
	}
	t.groups = make(map[core.Viewer]*group)
	for sub, who := range t.clients {
		t.join(sub, who)
	}
}

// update computes what a group sees and publishes it if it changed.
func (t *endpointsTopic) update(g *group) {
	var entries []core.Entry
	if t.service != nil {
		entries = t.index.options.Config.View(t.local, t.addresses, g.viewer)
	}
	snapshot := core.NewSnapshot(g.snapshot, t.service != nil, t.setLabels, entries)
	if snapshot == g.snapshot {
		return
	}
	g.snapshot = snapshot
	t.index.options.Metrics.updated(t.key, g.viewer, len(entries), t.service != nil)
	for sub := range g.subs {
		sub.publish(snapshot)
	}
}
