package inject

import (
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// OpaquePorts returns the value of names.AnnotationOpaquePorts that an object without one gets: that of its namespace, or
// else those of the default ports that the object has. ok is false when it gets none, and always when it has one, even an
// empty one: that says that nothing is opaque. Source: control plane chapter, section 4.7.
func (o *Object) OpaquePorts(values map[string]any, namespace map[string]string) (list string, ok bool) {
	if _, has := o.annotations()[names.AnnotationOpaquePorts]; has {
		return "", false
	}
	if list, ok := namespace[names.AnnotationOpaquePorts]; ok {
		return list, true
	}
	// The values were checked when they were made; an element that is wrong all the same is left out.
	defaults, _ := portlist.Parse(valuetree.String(values, "proxy.opaquePorts"), nil)
	isDefault := func(port int32) bool { return port > 0 && port <= math.MaxUint16 && defaults.Has(uint16(port)) }
	var ports []string
	add := func(port int32) {
		if text := strconv.Itoa(int(port)); !slices.Contains(ports, text) {
			ports = append(ports, text)
		}
	}
	switch {
	case o.Pod != nil:
		o.Pod.containers(func(c *corev1.Container, _ bool) {
			for _, p := range c.Ports {
				if isDefault(p.ContainerPort) {
					add(p.ContainerPort)
				}
			}
		})
	case o.Service != nil:
		for _, p := range o.Service.Ports {
			if p.TargetPort.Type == intstr.Int && (p.TargetPort.IntVal == 0 && isDefault(p.Port) || isDefault(p.TargetPort.IntVal)) {
				add(p.Port)
			}
		}
	}
	return strings.Join(ports, ","), len(ports) > 0
}

// namedPorts returns the numbers of the container ports that have a name.
func (p *Pod) namedPorts(name string) []uint16 {
	var ports []uint16
	p.containers(func(c *corev1.Container, _ bool) {
		for _, port := range c.Ports {
			if port.Name == name && name != "" {
				ports = append(ports, uint16(port.ContainerPort))
			}
		}
	})
	return ports
}
