package index

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

// node is a topic's place among the dependents: which facts its answer was computed from.
type node struct {
	refresh func(*reader)
	// facts has each fact that was read, with the round in which it was read last.
	facts map[fact]uint64
	round uint64
}

// dependents says which nodes read a fact.
type dependents map[fact]map[*node]struct{}

// compute runs a node's refresh and keeps the dependents up to date.
func (d dependents) compute(n *node, t *tables) {
	if n.facts == nil {
		n.facts = make(map[fact]uint64)
	}
	n.round++
	n.refresh(&reader{tables: t, dependents: d, node: n})
	for f, round := range n.facts {
		if round != n.round {
			d.forget(n, f)
		}
	}
}

// drop removes a node.
func (d dependents) drop(n *node) {
	for f := range n.facts {
		d.forget(n, f)
	}
}

func (d dependents) forget(n *node, f fact) {
	delete(n.facts, f)
	delete(d[f], n)
	if len(d[f]) == 0 {
		delete(d, f)
	}
}

// reader reads tables on behalf of a node and notes what it read. It is valid only during the node's refresh.
type reader struct {
	tables     *tables
	dependents dependents
	node       *node
}

var _ core.Lookup = (*reader)(nil)

func (r *reader) note(f fact) {
	if _, known := r.node.facts[f]; !known {
		if r.dependents[f] == nil {
			r.dependents[f] = make(map[*node]struct{})
		}
		r.dependents[f][r.node] = struct{}{}
	}
	r.node.facts[f] = r.node.round
}

// Pod implements core.Lookup.
func (r *reader) Pod(id core.ID) *core.Pod {
	r.note(fact{kind: factPod, id: id})
	return r.tables.pods[id]
}

// ExternalWorkload implements core.Lookup.
func (r *reader) ExternalWorkload(id core.ID) *core.ExternalWorkload {
	r.note(fact{kind: factExternal, id: id})
	return r.tables.externals[id]
}

// Owners implements core.Lookup.
func (r *reader) Owners(namespace string, owner core.Owner) []core.Owner {
	key := ownersKey(owner.Kind, core.ID{Namespace: namespace, Name: owner.Name})
	r.note(fact{kind: factOwners, id: key})
	return r.tables.owners[key]
}

// OpaqueServers implements core.Lookup.
func (r *reader) OpaqueServers(namespace string) []*core.Server {
	r.note(fact{kind: factServers, id: core.ID{Namespace: namespace}})
	servers := make([]*core.Server, 0, len(r.tables.servers[namespace]))
	for _, server := range r.tables.servers[namespace] {
		servers = append(servers, server)
	}
	return servers
}

func (r *reader) service(id core.ID) *core.Service {
	r.note(fact{kind: factService, id: id})
	return r.tables.services[id]
}

func (r *reader) profile(id core.ID) *core.ServiceProfile {
	r.note(fact{kind: factProfile, id: id})
	return r.tables.profiles[id]
}

func (r *reader) slices(service core.ID) []*core.Slice {
	r.note(fact{kind: factSlices, id: service})
	var all []*core.Slice
	for object := range r.tables.slicesOf[service] {
		all = append(all, r.tables.slices[object]...)
	}
	return all
}

// addrs returns what DNS knows for a name, none before it has been asked. It is asked again and again while somebody reads
// the name.
func (r *reader) addrs(name string) []netip.Addr {
	r.note(fact{kind: factName, id: core.ID{Name: name}})
	r.tables.follow(name)
	return r.tables.names[name]
}

// sorted returns the IDs of a set in order, so that answers and errors do not depend on a map's.
func sorted(set map[core.ID]struct{}) []core.ID {
	ids := make([]core.ID, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b core.ID) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return ids
}

func (r *reader) servicesAt(addr netip.Addr) []core.ID {
	r.note(atAddr(factServiceAt, addr))
	return sorted(r.tables.servicesAt[addr])
}

// podsAt returns the running pods with an IP address of their own.
func (r *reader) podsAt(addr netip.Addr) []*core.Pod {
	r.note(atAddr(factPodAt, addr))
	var pods []*core.Pod
	for _, id := range sorted(r.tables.podsAt[addr]) {
		if pod := r.Pod(id); pod != nil && pod.Running && !pod.HostNetwork {
			pods = append(pods, pod)
		}
	}
	return pods
}

// podsAtHostPort returns the running pods that have claimed a port of their node.
func (r *reader) podsAtHostPort(addr netip.AddrPort) []*core.Pod {
	r.note(fact{kind: factHostPort, addr: addr})
	var pods []*core.Pod
	for _, id := range sorted(r.tables.hostPorts[addr]) {
		if pod := r.Pod(id); pod != nil && pod.Running {
			pods = append(pods, pod)
		}
	}
	return pods
}

// externalsAt returns the external workloads with an address and a port.
func (r *reader) externalsAt(addr netip.AddrPort) []*core.ExternalWorkload {
	r.note(atAddr(factExternalAt, addr.Addr()))
	var workloads []*core.ExternalWorkload
	for _, id := range sorted(r.tables.externalAt[addr.Addr()]) {
		workload := r.ExternalWorkload(id)
		if workload != nil && slices.ContainsFunc(workload.Ports, func(p core.ContainerPort) bool { return p.Port == addr.Port() }) {
			workloads = append(workloads, workload)
		}
	}
	return workloads
}
