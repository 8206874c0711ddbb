package index

import (
	"net/netip"
	"reflect"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

// fact is one thing that an answer can depend on. Touching a fact makes the answers that read it be computed again.
type fact struct {
	kind factKind
	id   core.ID
	addr netip.AddrPort
}

type factKind uint8

const (
	factService    factKind = iota // by id
	factSlices                     // of a Service, by its id
	factPod                        // by id
	factExternal                   // by id
	factProfile                    // by id
	factServers                    // of a namespace, by id.Namespace
	factOwners                     // of a ReplicaSet or a Job: id.Name is `<kind>/<name>`
	factServiceAt                  // with a cluster IP, by addr with port 0
	factPodAt                      // with an IP, by addr with port 0
	factHostPort                   // of pods, by addr
	factExternalAt                 // with an IP, by addr with port 0
	factName                       // in DNS: id.Name
)

func atAddr(kind factKind, addr netip.Addr) fact {
	return fact{kind: kind, addr: netip.AddrPortFrom(addr, 0)}
}

// multimap is a map to sets of IDs.
type multimap[K comparable] map[K]map[core.ID]struct{}

func (m multimap[K]) add(key K, id core.ID) {
	if m[key] == nil {
		m[key] = make(map[core.ID]struct{})
	}
	m[key][id] = struct{}{}
}

func (m multimap[K]) remove(key K, id core.ID) {
	delete(m[key], id)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// tables are the objects of a cluster, with the indexes that lookups need. The set methods take nil for an object that is
// gone; they do nothing if the object is the same as before, so that a repeated list costs no answer. They belong to the
// index's goroutine.
type tables struct {
	services   map[core.ID]*core.Service
	slices     map[core.ID][]*core.Slice // by the object they are from
	slicesOf   multimap[core.ID]         // Service to objects
	pods       map[core.ID]*core.Pod
	externals  map[core.ID]*core.ExternalWorkload
	profiles   map[core.ID]*core.ServiceProfile
	servers    map[string]map[core.ID]*core.Server // by namespace
	owners     map[core.ID][]core.Owner            // names as in factOwners
	zones      map[string]string                   // by node
	servicesAt multimap[netip.Addr]
	podsAt     multimap[netip.Addr]
	hostPorts  multimap[netip.AddrPort]
	externalAt multimap[netip.Addr]
	names      map[string][]netip.Addr // in DNS, of those that are followed

	// touch is told of every fact that changed.
	touch func(fact)
	// follow is told of every name that is read.
	follow func(name string)
}

func newTables(touch func(fact)) *tables {
	return &tables{
		services: map[core.ID]*core.Service{}, slices: map[core.ID][]*core.Slice{}, slicesOf: multimap[core.ID]{},
		pods: map[core.ID]*core.Pod{}, externals: map[core.ID]*core.ExternalWorkload{},
		profiles: map[core.ID]*core.ServiceProfile{}, servers: map[string]map[core.ID]*core.Server{},
		owners: map[core.ID][]core.Owner{}, zones: map[string]string{},
		servicesAt: multimap[netip.Addr]{}, podsAt: multimap[netip.Addr]{},
		hostPorts: multimap[netip.AddrPort]{}, externalAt: multimap[netip.Addr]{},
		names: map[string][]netip.Addr{},
		touch: touch, follow: func(string) {},
	}
}

// size is how much there is.
func (t *tables) size() int {
	return len(t.services) + len(t.slices) + len(t.pods) + len(t.externals) + len(t.profiles) + len(t.servers) + len(t.owners) + len(t.zones)
}

// shrink gives back the memory of what is gone.
func (t *tables) shrink() {
	t.services, t.slices, t.slicesOf, t.pods = shrink.Map(t.services), shrink.Map(t.slices), shrink.Map(t.slicesOf), shrink.Map(t.pods)
	t.externals, t.profiles, t.servers, t.owners = shrink.Map(t.externals), shrink.Map(t.profiles), shrink.Map(t.servers), shrink.Map(t.owners)
	t.zones, t.servicesAt, t.podsAt = shrink.Map(t.zones), shrink.Map(t.servicesAt), shrink.Map(t.podsAt)
	t.hostPorts, t.externalAt = shrink.Map(t.hostPorts), shrink.Map(t.externalAt)
}

// swap replaces an object of a table and reports whether that changed anything.
func swap[T any](table map[core.ID]*T, id core.ID, object *T) (old *T, changed bool) {
	old = table[id]
	if reflect.DeepEqual(old, object) {
		return old, false
	}
	if object == nil {
		delete(table, id)
	} else {
		table[id] = object
	}
	return old, true
}

func (t *tables) setService(id core.ID, service *core.Service) {
	old, changed := swap(t.services, id, service)
	if !changed {
		return
	}
	t.touch(fact{kind: factService, id: id})
	if old != nil {
		for _, addr := range old.ClusterIPs {
			t.servicesAt.remove(addr, id)
			t.touch(atAddr(factServiceAt, addr))
		}
	}
	if service != nil {
		for _, addr := range service.ClusterIPs {
			t.servicesAt.add(addr, id)
			t.touch(atAddr(factServiceAt, addr))
		}
	}
}

// setSlices takes the slices of one object, none if it is gone.
func (t *tables) setSlices(id core.ID, list []*core.Slice) {
	old := t.slices[id]
	if len(old) == 0 && len(list) == 0 || reflect.DeepEqual(old, list) {
		return
	}
	for _, slice := range old {
		t.slicesOf.remove(slice.Service, id)
		t.touch(fact{kind: factSlices, id: slice.Service})
	}
	if len(list) == 0 {
		delete(t.slices, id)
		return
	}
	t.slices[id] = list
	for _, slice := range list {
		t.slicesOf.add(slice.Service, id)
		t.touch(fact{kind: factSlices, id: slice.Service})
	}
}

func (t *tables) setPod(id core.ID, pod *core.Pod) {
	old, changed := swap(t.pods, id, pod)
	if !changed {
		return
	}
	t.touch(fact{kind: factPod, id: id})
	if old != nil {
		for _, addr := range old.IPs {
			t.podsAt.remove(addr, id)
			t.touch(atAddr(factPodAt, addr))
		}
		for _, addr := range hostPortsOf(old) {
			t.hostPorts.remove(addr, id)
			t.touch(fact{kind: factHostPort, addr: addr})
		}
	}
	if pod != nil {
		for _, addr := range pod.IPs {
			t.podsAt.add(addr, id)
			t.touch(atAddr(factPodAt, addr))
		}
		for _, addr := range hostPortsOf(pod) {
			t.hostPorts.add(addr, id)
			t.touch(fact{kind: factHostPort, addr: addr})
		}
	}
}

func hostPortsOf(pod *core.Pod) []netip.AddrPort {
	var list []netip.AddrPort
	for _, port := range pod.Ports {
		if port.HostPort != 0 {
			for _, addr := range pod.HostIPs {
				list = append(list, netip.AddrPortFrom(addr, port.HostPort))
			}
		}
	}
	return list
}

func (t *tables) setExternal(id core.ID, workload *core.ExternalWorkload) {
	old, changed := swap(t.externals, id, workload)
	if !changed {
		return
	}
	t.touch(fact{kind: factExternal, id: id})
	if old != nil {
		for _, addr := range old.IPs {
			t.externalAt.remove(addr, id)
			t.touch(atAddr(factExternalAt, addr))
		}
	}
	if workload != nil {
		for _, addr := range workload.IPs {
			t.externalAt.add(addr, id)
			t.touch(atAddr(factExternalAt, addr))
		}
	}
}

func (t *tables) setProfile(id core.ID, profile *core.ServiceProfile) {
	if _, changed := swap(t.profiles, id, profile); changed {
		t.touch(fact{kind: factProfile, id: id})
	}
}

// setServer takes nil also for a Server that is of no interest.
func (t *tables) setServer(id core.ID, server *core.Server) {
	if t.servers[id.Namespace] == nil {
		if server == nil {
			return
		}
		t.servers[id.Namespace] = map[core.ID]*core.Server{}
	}
	if _, changed := swap(t.servers[id.Namespace], id, server); changed {
		t.touch(fact{kind: factServers, id: core.ID{Namespace: id.Namespace}})
	}
	if len(t.servers[id.Namespace]) == 0 {
		delete(t.servers, id.Namespace)
	}
}

// ownersKey is the name under which the owners of a ReplicaSet or a Job are kept.
func ownersKey(kind string, id core.ID) core.ID {
	return core.ID{Namespace: id.Namespace, Name: kind + "/" + id.Name}
}

func (t *tables) setOwners(key core.ID, owners []core.Owner) {
	if reflect.DeepEqual(t.owners[key], owners) {
		return
	}
	if len(owners) == 0 {
		delete(t.owners, key)
	} else {
		t.owners[key] = owners
	}
	t.touch(fact{kind: factOwners, id: key})
}

// setZone is not a fact: a stream's zone is read once, when it begins.
func (t *tables) setZone(node, zone string) {
	if zone == "" {
		delete(t.zones, node)
	} else {
		t.zones[node] = zone
	}
}
