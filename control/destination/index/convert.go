package index

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	workloadv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// converter turns objects of the Kubernetes API into those of package core. What is wrong in an object but does not make
// it useless is logged.
type converter struct {
	logger *slog.Logger
}

func idOf(o metav1.Object) core.ID { return core.ID{Namespace: o.GetNamespace(), Name: o.GetName()} }

// ports reads an annotation that lists ports.
func (c converter) ports(o metav1.Object, annotation string, named func(string) []uint16) core.Ports {
	text, present := o.GetAnnotations()[annotation]
	set, errs := portlist.Parse(text, named)
	for _, err := range errs {
		c.logger.Warn("part of a port list ignored", "object", idOf(o), "annotation", annotation, "error", err)
	}
	return core.Ports{Present: present, Set: set}
}

// addrs parses addresses and leaves out what is none.
func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		if addr, ok := core.ParseAddr(text); ok && !slices.Contains(list, addr) {
			list = append(list, addr)
		}
	}
	return list
}

func (c converter) service(s *corev1.Service) (*core.Service, error) {
	remotes, hasRemotes := s.Annotations[names.RemoteDiscovery]
	local, hasLocal := s.Annotations[names.AnnotationLocalDiscovery]
	service := &core.Service{
		ID:               idOf(s),
		ExternalName:     s.Spec.Type == corev1.ServiceTypeExternalName,
		Alias:            strings.ToLower(strings.TrimSuffix(s.Spec.ExternalName, ".")),
		LocalTraffic:     s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		MirrorCluster:    s.Labels[names.LabelMirrorClusterName],
		MirrorName:       s.Annotations[names.AnnotationRemoteSvcFQName],
		RemoteCluster:    s.Labels[names.RemoteDiscovery],
		RemoteService:    s.Labels[names.LabelRemoteService],
		FederatedRemotes: remotes,
		FederatedLocal:   local,
		Federated:        hasRemotes || hasLocal,
	}
	// A number may be that of a TCP port and of a UDP port, with targets of their own. What comes to a proxy is TCP.
	for _, tcp := range []bool{true, false} {
		for _, p := range s.Spec.Ports {
			if isTCP := p.Protocol == "" || p.Protocol == corev1.ProtocolTCP; isTCP == tcp {
				service.Ports = append(service.Ports, core.ServicePort{Name: p.Name, Port: uint16(p.Port)})
			}
		}
	}
	if !service.ExternalName {
		service.ClusterIPs = addrs(append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...)...)
	}
	service.Opaque = c.ports(s, names.AnnotationOpaquePorts, func(name string) (ports []uint16) {
		for _, p := range service.Ports {
			if p.Name == name {
				ports = append(ports, p.Port)
			}
		}
		return ports
	})
	return service, nil
}

func target(ref *corev1.ObjectReference) (core.TargetKind, core.ID) {
	if ref == nil {
		return core.TargetNone, core.ID{}
	}
	id := core.ID{Namespace: ref.Namespace, Name: ref.Name}
	switch ref.Kind {
	case "Pod":
		return core.TargetPod, id
	case "ExternalWorkload":
		return core.TargetExternalWorkload, id
	}
	return core.TargetOther, id
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// endpointSlice converts an EndpointSlice.
func (c converter) endpointSlice(s *discoveryv1.EndpointSlice) ([]*core.Slice, error) {
	slice := &core.Slice{
		ID:              idOf(s),
		Service:         core.ID{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]},
		IPv6:            s.AddressType == discoveryv1.AddressTypeIPv6,
		GatewayIdentity: s.Annotations[names.AnnotationRemoteGatewayIdentity],
		GatewayName:     s.Annotations[names.AnnotationRemoteSvcFQName],
	}
	for _, p := range s.Ports {
		port := core.SlicePort{Name: text(p.Name)}
		if p.Port != nil {
			port.Port = uint16(*p.Port)
		}
		slice.Ports = append(slice.Ports, port)
	}
	for _, e := range s.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		endpoint := core.SliceEndpoint{Addrs: addrs(e.Addresses...), Hostname: text(e.Hostname), Zone: text(e.Zone)}
		if len(endpoint.Addrs) == 0 {
			c.logger.Warn("endpoint without an IP address ignored", "slice", slice.ID, "addresses", e.Addresses)
			continue
		}
		endpoint.Kind, endpoint.Target = target(e.TargetRef)
		if e.Hints != nil {
			for _, zone := range e.Hints.ForZones {
				endpoint.ForZones = append(endpoint.ForZones, zone.Name)
			}
		}
		slice.Endpoints = append(slice.Endpoints, endpoint)
	}
	return []*core.Slice{slice}, nil
}

// endpoints converts an Endpoints object; only where EndpointSlices are off.
func (c converter) endpoints(o *corev1.Endpoints) ([]*core.Slice, error) { //nolint:staticcheck // users may still ask for it
	var list []*core.Slice
	for i, subset := range o.Subsets {
		slice := &core.Slice{
			ID:              core.ID{Namespace: o.Namespace, Name: fmt.Sprintf("%s-%d", o.Name, i)},
			Service:         idOf(o),
			GatewayIdentity: o.Annotations[names.AnnotationRemoteGatewayIdentity],
			GatewayName:     o.Annotations[names.AnnotationRemoteSvcFQName],
		}
		for _, p := range subset.Ports {
			slice.Ports = append(slice.Ports, core.SlicePort{Name: p.Name, Port: uint16(p.Port)})
		}
		for _, a := range subset.Addresses {
			endpoint := core.SliceEndpoint{Addrs: addrs(a.IP), Hostname: a.Hostname}
			endpoint.Kind, endpoint.Target = target(a.TargetRef)
			slice.Endpoints = append(slice.Endpoints, endpoint)
		}
		list = append(list, slice)
	}
	return list, nil
}

func ownersOf(o metav1.Object) []core.Owner {
	var owners []core.Owner
	for _, ref := range o.GetOwnerReferences() {
		owners = append(owners, core.Owner{Kind: ref.Kind, Name: ref.Name})
	}
	return owners
}

func (c converter) pod(p *corev1.Pod) (*core.Pod, error) {
	pod := &core.Pod{
		ID:             idOf(p),
		Labels:         p.Labels,
		ServiceAccount: p.Spec.ServiceAccountName,
		Node:           p.Spec.NodeName,
		Owners:         ownersOf(p),
		Running:        p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil,
		HostNetwork:    p.Spec.HostNetwork,
		IPs:            addrs(p.Status.PodIP),
		HostIPs:        addrs(p.Status.HostIP),
		Proxy:          proxyPorts(p),
	}
	for _, ip := range p.Status.PodIPs {
		pod.IPs = append(pod.IPs, ip2(pod.IPs, ip.IP)...)
	}
	for _, ip := range p.Status.HostIPs {
		pod.HostIPs = append(pod.HostIPs, ip2(pod.HostIPs, ip.IP)...)
	}
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				pod.Ports = append(pod.Ports, core.ContainerPort{
					Name: port.Name, Port: uint16(port.ContainerPort), HostPort: uint16(port.HostPort),
				})
			}
		}
	}
	pod.Opaque = c.ports(p, names.AnnotationOpaquePorts, portsNamed(pod.Ports))
	pod.SkipInbound = c.ports(p, names.AnnotationSkipInboundPorts, nil).Set
	return pod, nil
}

// ip2 returns an address as a list, empty if it is in the list already or is none.
func ip2(list []netip.Addr, text string) []netip.Addr {
	return slices.DeleteFunc(addrs(text), func(a netip.Addr) bool { return slices.Contains(list, a) })
}

// portsNamed returns the ports with a name: containers of one pod may use the same one.
func portsNamed(declared []core.ContainerPort) func(string) []uint16 {
	return func(name string) (ports []uint16) {
		for _, p := range declared {
			if p.Name == name {
				ports = append(ports, p.Port)
			}
		}
		return ports
	}
}

// proxyPorts reads where a pod's proxy listens from the environment of its container. Source: proxy API chapter, section
// 3.6, "Inbound port".
func proxyPorts(p *corev1.Pod) core.ProxyPorts {
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			if containers[i].Name != names.ContainerProxy {
				continue
			}
			env := make(map[string]string, len(containers[i].Env))
			for _, v := range containers[i].Env {
				env[v.Name] = v.Value
			}
			ports := core.ProxyPorts{Known: true}
			for variable, port := range map[string]*uint16{
				names.EnvInboundListenAddr: &ports.Inbound, names.EnvAdminListenAddr: &ports.Admin, names.EnvControlListenAddr: &ports.Control,
			} {
				addr, err := netip.ParseAddrPort(env[variable])
				if err != nil {
					return core.ProxyPorts{}
				}
				*port = addr.Port()
			}
			return ports
		}
	}
	return core.ProxyPorts{}
}

// decode fills a typed object from one of the dynamic client.
func decode(u *unstructured.Unstructured, into any) error {
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, into); err != nil {
		return fmt.Errorf("decoding %s: %w", u.GetKind(), err)
	}
	return nil
}

func (c converter) externalWorkload(u *unstructured.Unstructured) (*core.ExternalWorkload, error) {
	var w workloadv1beta1.ExternalWorkload
	if err := decode(u, &w); err != nil {
		return nil, err
	}
	mesh := w.Spec.Mesh()
	workload := &core.ExternalWorkload{
		ID: idOf(&w), Labels: w.Labels, Owners: ownersOf(&w), Identity: mesh.Identity, ServerName: mesh.ServerName,
	}
	for _, ip := range w.Spec.WorkloadIPs {
		workload.IPs = append(workload.IPs, ip2(workload.IPs, ip.IP)...)
	}
	for _, p := range w.Spec.Ports {
		workload.Ports = append(workload.Ports, core.ContainerPort{Name: p.Name, Port: uint16(p.Port)})
	}
	workload.Opaque = c.ports(&w, names.AnnotationOpaquePorts, portsNamed(workload.Ports))
	return workload, nil
}

// server converts a Server; nil if it does not make its port opaque.
func (c converter) server(u *unstructured.Unstructured) (*core.Server, error) {
	var s policyv1beta3.Server
	if err := decode(u, &s); err != nil {
		return nil, err
	}
	if s.Spec.ProxyProtocol != names.ProxyProtocolOpaque {
		return nil, nil
	}
	server := &core.Server{ID: idOf(&s)}
	selector := s.Spec.PodSelector
	if s.Spec.ExternalWorkloadSelector != nil {
		selector, server.ExternalWorkloads = s.Spec.ExternalWorkloadSelector, true
	}
	if selector == nil {
		return nil, fmt.Errorf("server %s has no selector", server.ID)
	}
	var err error
	if server.Selector, err = kube.Selector(selector); err != nil {
		return nil, fmt.Errorf("server %s: %w", server.ID, err)
	}
	if s.Spec.Port.Type == intstr.String {
		server.PortName = s.Spec.Port.StrVal
	} else {
		server.Port = uint16(s.Spec.Port.IntVal)
	}
	return server, nil
}

// zone returns the zone of a node.
func (c converter) zone(node *metav1.PartialObjectMetadata) (string, error) {
	return node.Labels[corev1.LabelTopologyZone], nil
}

// owners returns the owners of a ReplicaSet or a Job.
func (c converter) owners(o *metav1.PartialObjectMetadata) ([]core.Owner, error) {
	return ownersOf(o), nil
}
