package resource

import (
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// Reader reads objects.
type Reader struct {
	// Config has the names that identities are made of.
	Config *core.Config
	// Warn, if not nil, is told of what is wrong in an object that can be used nevertheless.
	Warn func(kind string, id core.ID, err error)
}

func (r Reader) warn(kind string, id core.ID, errs ...error) {
	if r.Warn == nil {
		return
	}
	for _, err := range errs {
		if err != nil {
			r.Warn(kind, id, err)
		}
	}
}

func object(o metav1.Object) core.Object {
	return core.Object{ID: core.ID{Namespace: o.GetNamespace(), Name: o.GetName()}, Created: o.GetCreationTimestamp().Time}
}

// at says which field is wrong.
func at(field string, err error) error { return fmt.Errorf("%s: %w", field, err) }

// item is the path of an element of a list.
func item(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

func selector(field string, s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return nil, nil
	}
	selector, err := kube.Selector(s)
	if err != nil {
		return nil, at(field, err)
	}
	return selector, nil
}

// or returns what p points to, or fallback.
func or[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}

// ParseNetwork reads a network in CIDR notation, or an address, which is a network of one. Source: control plane chapter,
// section 2.6.
func ParseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q is neither a network nor an address", text)
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither a network nor an address", text)
	}
	return prefix.Masked(), nil
}

func network(field, cidr string, except []string) (core.Network, error) {
	prefix, err := ParseNetwork(cidr)
	if err != nil {
		return core.Network{}, at(field+".cidr", err)
	}
	n := core.Network{CIDR: prefix}
	for i, text := range except {
		hole, err := ParseNetwork(text)
		if err != nil {
			return core.Network{}, at(item(field+".except", i), err)
		}
		n.Except = append(n.Except, hole)
	}
	return n, nil
}

// opaque reads the annotation that lists opaque ports.
func (r Reader) opaque(kind string, o metav1.Object, named func(string) []uint16) core.OpaquePorts {
	text, present := o.GetAnnotations()[names.AnnotationOpaquePorts]
	return core.OpaquePorts{Present: present, Ports: r.ports(kind, o, names.AnnotationOpaquePorts, text, named)}
}

func (r Reader) ports(kind string, o metav1.Object, annotation, text string, named func(string) []uint16) portlist.Set {
	set, errs := portlist.Parse(text, named)
	for _, err := range errs {
		r.warn(kind, object(o).ID, at("annotation "+annotation, err))
	}
	return set
}

func (r Reader) defaultPolicy(kind string, o metav1.Object) core.DefaultPolicy {
	text, ok := o.GetAnnotations()[names.AnnotationDefaultInboundPolicy]
	if !ok {
		return ""
	}
	policy, err := core.ParseDefaultPolicy(text)
	if err != nil {
		r.warn(kind, object(o).ID, at("annotation "+names.AnnotationDefaultInboundPolicy, err))
		return ""
	}
	return policy
}
