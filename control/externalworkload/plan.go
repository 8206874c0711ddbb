package externalworkload

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
)

const (
	// ManagedBy is the value of the label that says who writes a slice.
	ManagedBy = "linkerd-external-workloads-controller"
	// maxEndpoints is how many endpoints a slice may have.
	maxEndpoints = 100
	// labelHeadless is on the slices of headless Services.
	labelHeadless = corev1.IsHeadlessService
)

// Service is what matters of a Service.
type Service struct {
	Namespace, Name string
	UID             types.UID
	Labels          map[string]string
	// Selector selects workloads; nil if slices are not made from it.
	Selector labels.Selector
	Ports    []corev1.ServicePort
	Families []corev1.IPFamily
	Headless bool
	// NotReady says that workloads that are not ready count too.
	NotReady bool
}

// Workload is what matters of an ExternalWorkload.
type Workload struct {
	Namespace, Name string
	UID             types.UID
	Labels          map[string]string
	IPs             []netip.Addr
	Ports           []WorkloadPort
	Ready           bool
	// Health is where the workload is asked whether it is well; empty if nobody asked for that.
	Health string
	// Conditions are what is known of the workload, and Version the state of the object that has them.
	Conditions []v1beta1.WorkloadCondition
	Version    string
}

// WorkloadPort is one port of a Workload.
type WorkloadPort struct {
	Name     string
	Port     int32
	Protocol corev1.Protocol
}

// Plan is what to do so that the slices of a Service are as they should be.
type Plan struct {
	Create, Update []*discoveryv1.EndpointSlice
	Delete         []string
}

// MakePlan compares the slices that a Service has with the workloads that it selects. A nil service, or one without a
// selector, should have no slices. existing holds only slices of this controller; neither they nor the other arguments are
// changed. Source: control plane chapter, section 9; the clean-up after a lost selector and the removal of labels are from
// section 18.5.
//
// Slices are changed as little as possible, because every change is sent to every watcher of slices: an endpoint stays in
// the slice that it is in, new ones go where there is room, and a slice that would be deleted is used for what would be
// created.
func MakePlan(service *Service, workloads []*Workload, existing []*discoveryv1.EndpointSlice) Plan {
	existing = slices.SortedFunc(slices.Values(existing), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
	p := &planner{service: service}
	if service == nil || service.Selector == nil {
		for _, slice := range existing {
			p.plan.Delete = append(p.plan.Delete, slice.Name)
		}
		return p.plan
	}
	// Slices by what their endpoints must have in common; what is left over at the end is of no use.
	have := make(map[sliceKind][]*discoveryv1.EndpointSlice)
	for _, slice := range existing {
		if !ownedBy(slice, service.UID) {
			p.plan.Delete = append(p.plan.Delete, slice.Name)
			continue
		}
		kind := sliceKind{slice.AddressType, portsKey(slice.Ports)}
		have[kind] = append(have[kind], slice)
	}
	want := make(map[sliceKind]*endpointSet)
	for _, w := range slices.SortedFunc(slices.Values(workloads), func(a, b *Workload) int { return cmp.Compare(a.Name, b.Name) }) {
		if service.Selector.Matches(labels.Set(w.Labels)) {
			p.add(want, w)
		}
	}
	kinds := slices.SortedFunc(maps.Keys(want), func(a, b sliceKind) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.ports, b.ports))
	})
	free := make(map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice)
	for _, kind := range slices.SortedFunc(maps.Keys(have), func(a, b sliceKind) int {
		return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.ports, b.ports))
	}) {
		if want[kind] == nil {
			free[kind.family] = append(free[kind.family], have[kind]...)
		}
	}
	for _, kind := range kinds {
		p.fill(kind.family, want[kind], have[kind], free)
	}
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6, discoveryv1.AddressTypeFQDN} {
		for _, slice := range free[family] {
			p.plan.Delete = append(p.plan.Delete, slice.Name)
		}
	}
	return p.plan
}

// sliceKind is what the endpoints of a slice have in common.
type sliceKind struct {
	family discoveryv1.AddressType
	ports  string
}

// endpointSet are the endpoints that slices of one kind should have, by workload.
type endpointSet struct {
	ports     []discoveryv1.EndpointPort
	names     []string
	endpoints map[string]discoveryv1.Endpoint
}

// planner collects a plan.
type planner struct {
	service *Service
	plan    Plan
}

func ownedBy(slice *discoveryv1.EndpointSlice, uid types.UID) bool {
	return slices.ContainsFunc(slice.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == uid })
}

// portsKey is the same for equal lists of ports.
func portsKey(ports []discoveryv1.EndpointPort) string {
	var parts []string
	for _, p := range ports {
		part := fmt.Sprintf("%s/%d/%s", value(p.Name), value(p.Port), value(p.Protocol))
		if p.AppProtocol != nil {
			part += "/" + *p.AppProtocol
		}
		parts = append(parts, part)
	}
	slices.Sort(parts)
	return fmt.Sprint(parts)
}

func value[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

// add puts a workload in the set of its kind, per address family.
func (p *planner) add(want map[sliceKind]*endpointSet, w *Workload) {
	for _, family := range p.families() {
		var addresses []string
		for _, ip := range w.IPs {
			if ip.Is4() == (family == discoveryv1.AddressTypeIPv4) {
				addresses = append(addresses, ip.String())
			}
		}
		if len(addresses) == 0 {
			continue
		}
		ports := p.ports(w)
		kind := sliceKind{family, portsKey(ports)}
		set := want[kind]
		if set == nil {
			set = &endpointSet{ports: ports, endpoints: make(map[string]discoveryv1.Endpoint)}
			want[kind] = set
		}
		set.names = append(set.names, w.Name)
		set.endpoints[w.Name] = p.endpoint(w, addresses)
	}
}

func (p *planner) families() []discoveryv1.AddressType {
	if len(p.service.Families) == 0 {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	}
	var families []discoveryv1.AddressType
	for _, family := range p.service.Families {
		families = append(families, discoveryv1.AddressType(family))
	}
	return families
}

// ports returns the Service's ports as a workload has them; those that it does not have are left out.
func (p *planner) ports(w *Workload) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for _, sp := range p.service.Ports {
		target := sp.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(sp.Port)
		}
		protocol := cmp.Or(sp.Protocol, corev1.ProtocolTCP)
		for _, wp := range w.Ports {
			if cmp.Or(wp.Protocol, corev1.ProtocolTCP) != protocol {
				continue
			}
			if target.Type == intstr.Int && target.IntVal == wp.Port || target.Type == intstr.String && target.StrVal == wp.Name {
				name, number := sp.Name, wp.Port
				ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &protocol, AppProtocol: sp.AppProtocol})
				break
			}
		}
	}
	return ports
}

const labelZone = corev1.LabelTopologyZone

func (p *planner) endpoint(w *Workload, addresses []string) discoveryv1.Endpoint {
	ready, terminating := w.Ready || p.service.NotReady, false
	serving := w.Ready
	endpoint := discoveryv1.Endpoint{
		Addresses:  addresses,
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "ExternalWorkload", Namespace: w.Namespace, Name: w.Name, UID: w.UID},
	}
	if zone, ok := w.Labels[labelZone]; ok {
		endpoint.Zone = &zone
	}
	// A name may have dots, a host name of a slice may not.
	if p.service.Headless && len(validation.IsDNS1123Label(w.Name)) == 0 {
		name := w.Name
		endpoint.Hostname = &name
	}
	return endpoint
}

// fill distributes the endpoints of one kind over the slices there are, free ones of the same family, and new ones.
func (p *planner) fill(family discoveryv1.AddressType, set *endpointSet, have []*discoveryv1.EndpointSlice, free map[discoveryv1.AddressType][]*discoveryv1.EndpointSlice) {
	placed := make(map[string]bool)
	var next []*discoveryv1.EndpointSlice
	for _, slice := range have {
		slice = slice.DeepCopy()
		var kept []discoveryv1.Endpoint
		for _, endpoint := range slice.Endpoints {
			if endpoint.TargetRef == nil || placed[endpoint.TargetRef.Name] {
				continue
			}
			if wanted, ok := set.endpoints[endpoint.TargetRef.Name]; ok {
				placed[endpoint.TargetRef.Name] = true
				kept = append(kept, wanted)
			}
		}
		slice.Endpoints = kept
		next = append(next, slice)
	}
	var rest []discoveryv1.Endpoint
	for _, name := range set.names {
		if !placed[name] {
			rest = append(rest, set.endpoints[name])
		}
	}
	// Slices that change anyway first, then the fullest, so that few slices change and few are partly full.
	order := slices.Clone(next)
	changed := func(i int) bool { return !reflect.DeepEqual(next[i].Endpoints, have[i].Endpoints) }
	position := make(map[*discoveryv1.EndpointSlice]int)
	for i, slice := range next {
		position[slice] = i
	}
	slices.SortStableFunc(order, func(a, b *discoveryv1.EndpointSlice) int {
		ca, cb := changed(position[a]), changed(position[b])
		if ca != cb {
			if ca {
				return -1
			}
			return 1
		}
		return cmp.Compare(len(b.Endpoints), len(a.Endpoints))
	})
	for _, slice := range order {
		n := min(maxEndpoints-len(slice.Endpoints), len(rest))
		slice.Endpoints = append(slice.Endpoints, rest[:n]...)
		rest = rest[n:]
	}
	for i, slice := range next {
		if len(slice.Endpoints) == 0 {
			free[family] = append(free[family], have[i])
			continue
		}
		p.update(have[i], slice)
	}
	for len(rest) > 0 {
		n := min(maxEndpoints, len(rest))
		if spare := free[family]; len(spare) > 0 {
			slice := spare[0].DeepCopy()
			free[family] = spare[1:]
			slice.Ports, slice.Endpoints = set.ports, rest[:n]
			p.update(spare[0], slice)
		} else {
			slice := &discoveryv1.EndpointSlice{AddressType: family, Ports: set.ports, Endpoints: rest[:n]}
			slice.Namespace = p.service.Namespace
			slice.GenerateName = "linkerd-external-" + p.service.Name + "-"
			p.metadata(slice)
			p.plan.Create = append(p.plan.Create, slice)
		}
		rest = rest[n:]
	}
}

// update adds a slice to the plan if it is different from what it was.
func (p *planner) update(was, is *discoveryv1.EndpointSlice) {
	p.metadata(is)
	if !reflect.DeepEqual(was, is) {
		p.plan.Update = append(p.plan.Update, is)
	}
}

// metadata sets the labels and the owner of a slice. The owner's deletion need not wait for the slice, as it does for those of
// Kubernetes: saying so needs rights on the Service where OwnerReferencesPermissionEnforcement is on, and gains nothing.
func (p *planner) metadata(slice *discoveryv1.EndpointSlice) {
	slice.Labels = make(map[string]string, len(p.service.Labels)+2)
	maps.Copy(slice.Labels, p.service.Labels)
	slice.Labels[discoveryv1.LabelServiceName] = p.service.Name
	slice.Labels[discoveryv1.LabelManagedBy] = ManagedBy
	delete(slice.Labels, labelHeadless)
	if p.service.Headless {
		slice.Labels[labelHeadless] = ""
	}
	yes := true
	slice.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Service", Name: p.service.Name, UID: p.service.UID, Controller: &yes,
	}}
}
