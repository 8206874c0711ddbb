package index

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/derive"
)

// node is a topic's place among the answers.
type node = derive.Node[fact]

// reader reads tables on behalf of an answer and notes what it read. It is valid only while the answer is made.
type reader struct {
	tables *tables
	notes  derive.Notes[fact]
}

var _ core.Lookup = (*reader)(nil)

func (r *reader) note(f fact) { r.notes.Note(f) }

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
