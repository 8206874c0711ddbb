package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Reasons of conditions of Servers, authorizations and authentications, which upstream's have not.
const (
	// reasonServerConflict: another Server is in force at all ports that this one selects.
	reasonServerConflict = "Conflicted"
	// reasonServerShadowed: another Server is in force at some of them.
	reasonServerShadowed = "PartiallyConflicted"
	// reasonNoReference: an authentication that is asked for does not exist, so that nobody can satisfy it.
	reasonNoReference = "ReferenceNotFound"
)

// maxNamed is how many Servers a message names.
const maxNamed = 5

// Policy is the status of a Server, a ServerAuthorization, an AuthorizationPolicy, a MeshTLSAuthentication or a
// NetworkAuthentication. Source: control plane chapter, section 18.3.
type Policy struct {
	core.ID
	Resource   schema.GroupVersionResource
	Kind       string
	Generation int64
	// Of is a *core.Server, *core.ServerAuthorization or *core.AuthorizationPolicy; it is nil for authentications, which
	// depend on nothing.
	Of any
	// Problem, if not empty, says why the controller cannot use the object.
	Problem    string
	Conditions []metav1.Condition
}

var _ Object = (*Policy)(nil)

// Key implements Object.
func (p *Policy) Key() Key { return Key{p.Resource, p.ID} }

// Patch implements Object.
func (p *Policy) Patch(lookup Lookup, now time.Time) []byte {
	want := []metav1.Condition{p.accepted(lookup).condition(conditionAccepted, p.Generation)}
	if sameConditions(want, p.Conditions) {
		return nil
	}
	stamp(want, p.Conditions, now)
	return patch(p.Resource, p.Kind, "", policyv1beta3.Status{Conditions: want})
}

func (p *Policy) accepted(lookup Lookup) result {
	if p.Problem != "" {
		return result{reason: reasonUnsupported, message: p.Problem}
	}
	switch of := p.Of.(type) {
	case *core.Server:
		return serverAccepted(lookup, of)
	case *core.ServerAuthorization:
		if !slices.ContainsFunc(lookup.Servers(of.Namespace), of.For) {
			return result{reason: reasonNoMatchingTarget, message: "there is no such Server"}
		}
	case *core.AuthorizationPolicy:
		return policyAccepted(lookup, of)
	}
	return result{ok: true, reason: reasonAccepted}
}

// serverAccepted says whether a Server is in force where it selects anything. One that selects nothing conflicts with nothing.
func serverAccepted(lookup Lookup, s *core.Server) result {
	// Without a rival the workloads do not matter, and the status need not be looked at again whenever they change.
	if !slices.ContainsFunc(lookup.Servers(s.Namespace), func(other *core.Server) bool { return rivals(other, s) }) {
		return result{ok: true, reason: reasonAccepted}
	}
	inForce := false
	var others []string
	for _, w := range lookup.Workloads(s.Namespace) {
		if !s.For(w) {
			continue
		}
		for _, port := range s.Ports(w) {
			first := core.Selecting(lookup, w, port)[0]
			if first.Name == s.Name {
				inForce = true
				continue
			}
			what := fmt.Sprintf("Server %s at port %d", first.ID, port)
			if !slices.Contains(others, what) {
				others = append(others, what)
			}
		}
	}
	if len(others) == 0 {
		return result{ok: true, reason: reasonAccepted}
	}
	slices.Sort(others)
	text := strings.Join(others[:min(len(others), maxNamed)], ", ")
	if more := len(others) - maxNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if inForce {
		return result{ok: true, reason: reasonServerShadowed, message: "in force instead, being older, at some of the ports: " + text}
	}
	return result{reason: reasonServerConflict, message: "in force instead, being older: " + text}
}

// rivals reports whether a Server may be in force where another one selects a port.
func rivals(older, s *core.Server) bool {
	return core.Older(older.Object, s.Object) && (older.Pods == nil) == (s.Pods == nil) &&
		(older.PortName != "" || s.PortName != "" || older.Port == s.Port)
}

// policyAccepted says whether there is what a policy is about, and what it asks for.
func policyAccepted(lookup Lookup, p *core.AuthorizationPolicy) result {
	target := core.ID{Namespace: p.Namespace, Name: p.TargetName}
	exists := true
	switch p.Target {
	case core.TargetNamespace:
	case core.TargetServer:
		exists = lookup.Server(target) != nil
	default:
		exists = lookup.HasRoute(p.Target, target)
	}
	if !exists {
		return result{reason: reasonNoMatchingTarget, message: fmt.Sprintf("there is no %s %s", p.Target, target)}
	}
	missing := func(kind string, id core.ID) result {
		return result{reason: reasonNoReference, message: fmt.Sprintf("there is no %s %s", kind, id)}
	}
	if p.MeshTLS != nil && lookup.MeshTLSAuthentication(*p.MeshTLS) == nil {
		return missing("MeshTLSAuthentication", *p.MeshTLS)
	}
	if p.Network != nil && lookup.NetworkAuthentication(*p.Network) == nil {
		return missing("NetworkAuthentication", *p.Network)
	}
	return result{ok: true, reason: reasonAccepted}
}
