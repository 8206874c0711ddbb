package inject

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// tokenMount returns the mount of the ServiceAccount token in the first container, nil when there is none.
func (p *Pod) tokenMount() *corev1.VolumeMount {
	if len(p.Spec.Containers) == 0 {
		return nil
	}
	for i, m := range p.Spec.Containers[0].VolumeMounts {
		if m.MountPath == names.DirServiceAccount {
			return &p.Spec.Containers[0].VolumeMounts[i]
		}
	}
	return nil
}

// inboundPorts lists the TCP ports that the pod is known to listen on: container ports, and numeric ports of HTTP probes.
// The proxy asks for the policy of these before the first connection comes (control plane chapter, section 4.6). A probe's
// port that is a name is the name of a container port, and thus in the list.
func (p *Pod) inboundPorts() string {
	var ports []int
	add := func(port int) {
		if port > 0 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	p.containers(func(c *corev1.Container, _ bool) {
		for _, port := range c.Ports {
			if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
				add(int(port.ContainerPort))
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			if probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Port.Type == intstr.Int {
				add(int(probe.HTTPGet.Port.IntVal))
			}
		}
	})
	slices.Sort(ports)
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(port)
	}
	return strings.Join(texts, ",")
}

// ends reports whether the pod is over when its containers have ended, as that of a Job is. Without a restart policy they are
// started again.
func (p *Pod) ends() bool {
	return p.Spec.RestartPolicy == corev1.RestartPolicyNever || p.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
}

// describe puts into values what the partial templates want to know about this pod: see charts/partials/README.md.
func (p *Pod) describe(values map[string]any) {
	valuetree.Set(values, "proxy.podInboundPorts", p.inboundPorts())
	if m := p.tokenMount(); m != nil {
		mount := map[string]any{"mountPath": m.MountPath, "name": m.Name, "readOnly": m.ReadOnly}
		valuetree.Set(values, "proxy.saMountPath", mount)
		valuetree.Set(values, "proxyInit.saMountPath", mount)
	}
	if len(p.Spec.Containers) == 0 {
		return
	}
	// A pod's policy may demand that every container gives up what the application's does.
	if c := p.Spec.Containers[0].SecurityContext; c != nil && c.Capabilities != nil {
		capabilities := map[string]any{"add": capabilityNames(c.Capabilities.Add), "drop": capabilityNames(c.Capabilities.Drop)}
		valuetree.Set(values, "proxy.capabilities", capabilities)
		valuetree.Set(values, "proxyInit.capabilities", capabilities)
	}
}

func capabilityNames(capabilities []corev1.Capability) []any {
	list := make([]any, len(capabilities))
	for i, c := range capabilities {
		list[i] = string(c)
	}
	return list
}
