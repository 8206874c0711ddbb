package resource

import (
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	workloadv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Pod reads a pod. Source: proxy API chapter, section 5.3; control plane chapter, section 7.2.
func (r Reader) Pod(pod *corev1.Pod) (*core.Workload, error) {
	w := &core.Workload{
		ID:            object(pod).ID,
		Labels:        pod.Labels,
		Named:         make(map[string][]uint16),
		DefaultPolicy: r.defaultPolicy("Pod", pod),
		Probes:        make(map[uint16][]string),
		HealthChecks:  make(map[uint16]bool),
	}
	// Init containers count too, as those that are sidecars serve.
	containers := slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
	for _, container := range containers {
		named := make(map[string]uint16)
		for _, port := range container.Ports {
			if port.Name != "" && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
				named[port.Name] = uint16(port.ContainerPort)
				if !slices.Contains(w.Named[port.Name], uint16(port.ContainerPort)) {
					w.Named[port.Name] = append(w.Named[port.Name], uint16(port.ContainerPort))
				}
			}
		}
		for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe, container.StartupProbe} {
			if probe == nil {
				continue
			}
			if probe.GRPC != nil && probe.GRPC.Port > 0 && probe.GRPC.Port <= math.MaxUint16 {
				w.HealthChecks[uint16(probe.GRPC.Port)] = true
			}
			if probe.HTTPGet == nil {
				continue
			}
			port, path, ok := probePath(probe.HTTPGet, named)
			if ok && !slices.Contains(w.Probes[port], path) {
				w.Probes[port] = append(w.Probes[port], path)
			}
		}
	}
	redirected := r.probePaths(pod)
	for port, paths := range w.Probes {
		paths = append(paths, redirected...)
		slices.Sort(paths)
		w.Probes[port] = slices.Compact(paths)
	}
	// A pod that is being deleted serves what it has, and gets nothing new.
	w.Ready = pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	named := func(name string) []uint16 { return w.Named[name] }
	w.Opaque = r.opaque("Pod", pod, named).Ports
	w.RequireIdentity = r.ports("Pod", pod, names.AnnotationProxyRequireIdentityInboundPorts,
		pod.Annotations[names.AnnotationProxyRequireIdentityInboundPorts], named)
	return w, nil
}

// probePaths reads the annotation with the paths that probes are redirected to, which only the application knows.
func (r Reader) probePaths(pod *corev1.Pod) []string {
	var paths []string
	for path := range strings.SplitSeq(pod.Annotations[names.AnnotationProbePaths], ",") {
		path = strings.TrimSpace(path)
		if path == "" {
			continue
		}
		if _, err := url.ParseRequestURI(path); err != nil || !strings.HasPrefix(path, "/") || strings.ContainsRune(path, '?') {
			r.warn("Pod", object(pod).ID, at("annotation "+names.AnnotationProbePaths, fmt.Errorf("%q is not a path", path)))
			continue
		}
		paths = append(paths, path)
	}
	return paths
}

// probePath returns where the kubelet asks for a container's health.
func probePath(get *corev1.HTTPGetAction, named map[string]uint16) (uint16, string, bool) {
	var port uint16
	if get.Port.Type == intstr.String {
		port = named[get.Port.StrVal]
	} else if get.Port.IntVal > 0 && get.Port.IntVal <= 65535 {
		port = uint16(get.Port.IntVal)
	}
	path, _, _ := strings.Cut(get.Path, "?")
	if path == "" {
		path = "/"
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // as the kubelet does
	}
	_, err := url.ParseRequestURI(path)
	return port, path, port != 0 && err == nil
}

// ExternalWorkload reads an external workload, which has no probes.
func (r Reader) ExternalWorkload(e *workloadv1beta1.ExternalWorkload) (*core.Workload, error) {
	w := &core.Workload{
		ID:            object(e).ID,
		External:      true,
		Labels:        e.Labels,
		Named:         make(map[string][]uint16),
		DefaultPolicy: r.defaultPolicy("ExternalWorkload", e),
		Ready: e.DeletionTimestamp == nil && slices.ContainsFunc(e.Status.Conditions, func(c workloadv1beta1.WorkloadCondition) bool {
			return c.Type == workloadv1beta1.ConditionReady && c.Status == metav1.ConditionTrue
		}),
	}
	for _, port := range e.Spec.Ports {
		if port.Name != "" && (port.Protocol == "" || port.Protocol == string(corev1.ProtocolTCP)) {
			w.Named[port.Name] = append(w.Named[port.Name], uint16(port.Port))
		}
	}
	named := func(name string) []uint16 { return w.Named[name] }
	w.Opaque = r.opaque("ExternalWorkload", e, named).Ports
	w.RequireIdentity = r.ports("ExternalWorkload", e, names.AnnotationProxyRequireIdentityInboundPorts,
		e.Annotations[names.AnnotationProxyRequireIdentityInboundPorts], named)
	return w, nil
}

// Service reads a Service. Source: proxy API chapter, section 6.4.
func (r Reader) Service(s *corev1.Service) (*core.Service, error) {
	service := &core.Service{Object: object(s), Ports: make(map[uint16]core.AppProtocol, len(s.Spec.Ports))}
	named := make(map[string][]uint16)
	for _, port := range s.Spec.Ports {
		// A number may be that of a TCP port and of a UDP port. What comes to a proxy is TCP.
		if _, seen := service.Ports[uint16(port.Port)]; !seen || port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
			service.Ports[uint16(port.Port)] = appProtocol(port.AppProtocol)
		}
		named[port.Name] = append(named[port.Name], uint16(port.Port))
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		for _, text := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
			if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(service.ClusterIPs, addr) {
				service.ClusterIPs = append(service.ClusterIPs, addr)
			}
		}
	}
	service.Opaque = r.opaque("Service", s, func(name string) []uint16 { return named[name] })
	var errs []error
	service.Traffic, errs = core.ParseTraffic(s.Annotations)
	r.warn("Service", service.ID, errs...)
	return service, nil
}

func appProtocol(p *string) core.AppProtocol {
	if p == nil {
		return core.AppUnset
	}
	switch strings.ToLower(*p) {
	case names.AppProtocolHTTP:
		return core.AppHTTP1
	case names.AppProtocolH2C:
		return core.AppHTTP2
	}
	// What is not known is not looked into, so that it at least arrives.
	return core.AppOpaque
}
