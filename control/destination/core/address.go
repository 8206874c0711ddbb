package core

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Address is one address behind a port of a Service, before it is decided who sees it.
type Address struct {
	Endpoint *Endpoint
	Kind     TargetKind
	// Target is the pod or external workload.
	Target ID
	// Node is where a pod runs.
	Node string
	// IPv6 is the family of the slice.
	IPv6     bool
	Hostname string
	Zone     string
	ForZones []string
}

// addressKey is what there is only one address of.
type addressKey struct {
	kind   TargetKind
	target ID
	ipv6   bool
	// addr and hostname are set for addresses that stand for no object.
	addr     netip.AddrPort
	hostname string
}

// Addresses returns all addresses behind a port of a Service, in the order of their IPs. Source: proxy API chapter,
// section 3.4.
func (c *Config) Addresses(lookup Lookup, service *Service, all []*Slice, port uint16) []Address {
	all = slices.SortedFunc(slices.Values(all), func(a, b *Slice) int { return cmp.Compare(a.Name, b.Name) })
	found := make(map[addressKey]Address)
	for _, slice := range all {
		number, ok := slicePort(service, slice, port)
		if !ok {
			continue
		}
		for i := range slice.Endpoints {
			c.collect(found, lookup, slice, &slice.Endpoints[i], number, port)
		}
	}
	addresses := make([]Address, 0, len(found))
	for _, address := range found {
		addresses = append(addresses, address)
	}
	slices.SortFunc(addresses, func(a, b Address) int {
		return cmp.Or(a.Endpoint.Addr.Compare(b.Endpoint.Addr),
			// Two objects at one address: pods on their node's network, say. The order decides which one is shown, and
			// must not depend on the map's.
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Target.String(), b.Target.String()), cmp.Compare(a.Hostname, b.Hostname))
	})
	return addresses
}

// Resolved returns the addresses that DNS knows for a name, at a port. They are of no pod that is known: nothing is said
// about who is there.
func (c *Config) Resolved(ips []netip.Addr, port uint16) []Address {
	addresses := make([]Address, 0, len(ips))
	for _, ip := range ips {
		addresses = append(addresses, Address{
			Endpoint: &Endpoint{Addr: netip.AddrPortFrom(ip, port), Weight: weight, Labels: map[string]string{}}, IPv6: ip.Is6(),
		})
	}
	slices.SortFunc(addresses, func(a, b Address) int { return a.Endpoint.Addr.Compare(b.Endpoint.Addr) })
	return addresses
}

// slicePort returns the port of a slice's endpoints behind a port of the Service. It is found by name; a port that the
// Service does not list is taken as the number of the endpoints' port itself.
func slicePort(service *Service, slice *Slice, port uint16) (uint16, bool) {
	declared, ok := service.port(port)
	if !ok {
		return port, len(slice.Ports) > 0
	}
	for _, p := range slice.Ports {
		if p.Name == declared.Name {
			return p.Port, p.Port != 0
		}
	}
	return 0, false
}

// collect adds the addresses of one endpoint to found.
func (c *Config) collect(found map[addressKey]Address, lookup Lookup, slice *Slice, from *SliceEndpoint, number, servicePort uint16) {
	for _, ip := range from.Addrs {
		addr := netip.AddrPortFrom(ip, number)
		address := Address{
			Kind: from.Kind, Target: from.Target, IPv6: slice.IPv6,
			Hostname: from.Hostname, Zone: from.Zone, ForZones: from.ForZones,
		}
		key := addressKey{kind: from.Kind, target: from.Target}
		switch from.Kind {
		case TargetPod:
			pod := lookup.Pod(from.Target)
			if pod == nil {
				// It comes with its own event, and this is done again then.
				continue
			}
			address.Node = pod.Node
			address.Endpoint = c.podEndpoint(lookup, pod, addr)
			address.Endpoint.Labels["zone"] = from.Zone
			key.ipv6 = slice.IPv6
		case TargetExternalWorkload:
			workload := lookup.ExternalWorkload(from.Target)
			if workload == nil {
				continue
			}
			address.Endpoint = c.externalEndpoint(lookup, workload, addr)
			if owner, ok := rootOwner(lookup, workload.Namespace, workload.Owners); ok {
				address.Endpoint.Labels[strings.ToLower(owner.Kind)] = owner.Name
			}
			address.Endpoint.Labels["zone"] = from.Zone
			key.ipv6 = slice.IPv6
		case TargetNone:
			address.Endpoint = c.refEndpoint(slice, addr, servicePort)
			// Its zone is not told; see the chapter.
			address.Zone = ""
			key.addr, key.hostname = addr, from.Hostname
		default:
			continue
		}
		found[key] = address
	}
}

// SetLabels returns the metric labels that all endpoints of a Service share. Source: proxy API chapter, section 3.7.
func SetLabels(service *Service) map[string]string {
	labels := map[string]string{"service": service.Name, "namespace": service.Namespace}
	if service.MirrorCluster != "" {
		labels["target_cluster"] = service.MirrorCluster
		if parts := strings.SplitN(service.MirrorName, ".", 3); len(parts) > 1 {
			labels["target_service"], labels["target_service_namespace"] = parts[0], parts[1]
		}
	}
	return labels
}

// Viewer is what decides which addresses a client sees. Clients with equal viewers see the same.
type Viewer struct {
	// Hostname selects one instance; empty is all.
	Hostname string
	// Unfiltered leaves out the choices by node and zone: for Services of other clusters.
	Unfiltered bool
	// Node and Zone are where the client is.
	Node, Zone string
}

// Locality is where an endpoint is, seen from a client.
type Locality uint8

const (
	// LocalityNone is not told at all.
	LocalityNone Locality = iota
	// LocalityUnknown is when the zone of either is unknown.
	LocalityUnknown
	// LocalityLocal is the client's own zone.
	LocalityLocal
	// LocalityRemote is another zone.
	LocalityRemote
)

func (l Locality) String() string {
	return [...]string{"", "unknown", "local", "remote"}[l]
}

// Entry is an endpoint as one group of clients sees it.
type Entry struct {
	*Endpoint
	Locality Locality
}

// Equal reports whether two entries are the same to a client.
func (e Entry) Equal(other Entry) bool {
	return e.Locality == other.Locality && (e.Endpoint == other.Endpoint || e.Endpoint.Equal(other.Endpoint))
}

// View returns what a viewer sees of addresses, sorted by address, one entry per address. Source: proxy API chapter,
// section 3.5.
//
// local says that the Service keeps traffic on the client's node.
func (c *Config) View(local bool, addresses []Address, viewer Viewer) []Entry {
	seen := addresses
	keep := func(ok func(*Address) bool) {
		var kept []Address
		for i := range seen {
			if ok(&seen[i]) {
				kept = append(kept, seen[i])
			}
		}
		seen = kept
	}
	if viewer.Hostname != "" {
		keep(func(a *Address) bool { return a.Hostname == viewer.Hostname })
	}
	switch {
	case viewer.Unfiltered:
	case local:
		keep(func(a *Address) bool { return a.Kind == TargetPod && a.Node == viewer.Node })
	case !slices.ContainsFunc(seen, func(a Address) bool { return len(a.ForZones) == 0 }):
		hinted := func(a *Address) bool { return slices.Contains(a.ForZones, viewer.Zone) }
		if slices.ContainsFunc(seen, func(a Address) bool { return hinted(&a) }) {
			keep(hinted)
		}
	}
	keep(c.family(seen))

	entries := make([]Entry, 0, len(seen))
	for i := range seen {
		if n := len(entries); n > 0 && entries[n-1].Addr == seen[i].Endpoint.Addr {
			continue
		}
		entries = append(entries, c.entry(&seen[i], viewer))
	}
	return entries
}

// family returns a test for the addresses that a client can use, of the family it should use where an object has both. The
// chapter's server asks it of pods alone; section 13, item 10, asks for the others. Of addresses that stand for no object
// nobody knows which belong together.
func (c *Config) family(seen []Address) func(*Address) bool {
	if !c.IPv6 {
		return func(a *Address) bool { return !a.IPv6 }
	}
	type object struct {
		kind TargetKind
		id   ID
	}
	dual := make(map[object]bool)
	for i := range seen {
		if seen[i].Kind != TargetNone && seen[i].IPv6 {
			dual[object{seen[i].Kind, seen[i].Target}] = true
		}
	}
	return func(a *Address) bool { return a.IPv6 || !dual[object{a.Kind, a.Target}] }
}

func (c *Config) entry(address *Address, viewer Viewer) Entry {
	entry := Entry{Endpoint: address.Endpoint, Locality: LocalityUnknown}
	if viewer.Zone != "" && address.Zone != "" {
		entry.Locality = LocalityRemote
		if viewer.Zone == address.Zone {
			entry.Locality = LocalityLocal
			if c.ZoneWeights {
				heavier := *entry.Endpoint
				heavier.Weight *= zoneWeight
				entry.Endpoint = &heavier
			}
		}
	}
	return entry
}

// InstancePod returns the pod behind the instance of a Service with a hostname.
func InstancePod(all []*Slice, hostname string) (ID, bool) {
	var found []ID
	for _, slice := range all {
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; e.Kind == TargetPod && e.Hostname == hostname {
				found = append(found, e.Target)
			}
		}
	}
	if len(found) == 0 {
		return ID{}, false
	}
	return slices.MinFunc(found, func(a, b ID) int { return cmp.Compare(a.String(), b.String()) }), true
}
