package policyvalidator

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	policyv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
)

func (v *Validator) authorizationPolicy(p *policyv1alpha1.AuthorizationPolicy) error {
	_, err := v.reader.AuthorizationPolicy(p)
	return err
}

func (v *Validator) meshTLSAuthentication(a *policyv1alpha1.MeshTLSAuthentication) error {
	for i, ref := range a.Spec.IdentityRefs {
		if strings.EqualFold(ref.Kind, "Namespace") && ref.Namespace != "" {
			return fmt.Errorf("spec.identityRefs[%d].namespace: a reference to a Namespace must not have one", i)
		}
	}
	_, err := v.reader.MeshTLSAuthentication(a)
	return err
}

// networks checks what can be read but cannot be meant.
func networks(field string, list []core.Network) error {
	for i, n := range list {
		for j, hole := range n.Except {
			switch at := fmt.Sprintf("%s[%d].except[%d]", field, i, j); {
			case contains(hole, n.CIDR):
				return fmt.Errorf("%s: cidr '%s' is completely negated by exception '%s'", at, n.CIDR, hole)
			case !contains(n.CIDR, hole):
				return fmt.Errorf("%s: cidr '%s' does not include exception '%s'", at, n.CIDR, hole)
			}
		}
	}
	return nil
}

// contains reports whether all addresses of b are in a.
func contains(a, b netip.Prefix) bool { return a.Bits() <= b.Bits() && a.Contains(b.Addr()) }

func (v *Validator) networkAuthentication(a *policyv1alpha1.NetworkAuthentication) error {
	read, err := v.reader.NetworkAuthentication(a)
	if err != nil {
		return err
	}
	return networks("spec.networks", read.Networks)
}

func (v *Validator) server(s *policyv1beta3.Server) error {
	if policy := s.Spec.AccessPolicy; policy != "" {
		if _, err := core.ParseDefaultPolicy(policy); err != nil {
			return fmt.Errorf("spec.accessPolicy: %w", err)
		}
	}
	read, err := v.reader.Server(s)
	if err != nil || v.overlaps == nil {
		return err
	}
	if overlaps := v.overlaps(read); len(overlaps) > 0 {
		return worthKnowing{overlaps}
	}
	return nil
}

func (v *Validator) serverAuthorization(a *policyv1beta1.ServerAuthorization) error {
	read, err := v.reader.ServerAuthorization(a)
	if errors.Is(err, resource.ErrPermitsNobody) {
		return noEffect{err}
	}
	if err != nil {
		return err
	}
	return networks("spec.client.networks", read.Networks)
}

func (v *Validator) egressNetwork(n *policyv1alpha1.EgressNetwork) error {
	read, err := v.reader.EgressNetwork(n)
	if err != nil {
		return err
	}
	if err := core.CheckSettings(n.Annotations); err != nil {
		return err
	}
	return networks("spec.networks", read.Networks)
}

func (v *Validator) rateLimit(p *policyv1alpha1.HTTPLocalRateLimitPolicy) error {
	read, err := v.reader.RateLimit(p)
	if err != nil {
		return err
	}
	within := func(field string, rate uint32) error {
		if p.Spec.Total != nil && rate > read.Total {
			return fmt.Errorf("%s.requestsPerSecond: must not be greater than spec.total.requestsPerSecond", field)
		}
		return nil
	}
	if p.Spec.Identity != nil {
		if err := within("spec.identity", read.Identity); err != nil {
			return err
		}
	}
	for i, override := range read.Overrides {
		if err := within(fmt.Sprintf("spec.overrides[%d]", i), override.RequestsPerSecond); err != nil {
			return err
		}
	}
	return nil
}

// parents checks a route's references to what it is attached to.
func parents(refs []gatewayv1.ParentReference, namespace string) error {
	for i, ref := range refs {
		if parent, ok := resource.ParentOf(ref, namespace); ok && parent.Kind == core.ParentEgressNetwork && ref.Port == nil {
			return fmt.Errorf("spec.parentRefs[%d].port: must be set for an EgressNetwork", i)
		}
	}
	return nil
}

// backendPort checks that a reference to a Service says which port.
func backendPort(field string, ref gatewayv1.BackendObjectReference) error {
	if resource.BackendKind(ref) == core.BackendService && (ref.Port == nil || *ref.Port == 0) {
		return fmt.Errorf("%s.port: must be set for a Service", field)
	}
	return nil
}

func (v *Validator) policyHTTPRoute(route *gatewayv1.HTTPRoute) error {
	if err := parents(route.Spec.ParentRefs, route.Namespace); err != nil {
		return err
	}
	var warnings []string
	for i, rule := range route.Spec.Rules {
		for j, ref := range rule.BackendRefs {
			// Upstream's webhook does not look at these, so that there are manifests of routes for Servers, where they mean
			// nothing, without a port.
			if err := backendPort(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), ref.BackendObjectReference); err != nil {
				warnings = append(warnings, err.Error()+"; requests to it fail")
			}
		}
		if rule.Timeouts == nil {
			continue
		}
		field := fmt.Sprintf("spec.rules[%d].timeouts", i)
		request, hasRequest, err := timeout(field+".request", rule.Timeouts.Request)
		if err != nil {
			return err
		}
		backend, hasBackend, err := timeout(field+".backendRequest", rule.Timeouts.BackendRequest)
		if err != nil {
			return err
		}
		if hasRequest && hasBackend && backend > request {
			return fmt.Errorf("%s.backendRequest: must not be greater than request", field)
		}
	}
	if err := v.httpRoute(route, core.GroupPolicy); err != nil || len(warnings) == 0 {
		return err
	}
	return worthKnowing{warnings}
}

func timeout(field string, text *gatewayv1.Duration) (d time.Duration, set bool, err error) {
	if text == nil {
		return 0, false, nil
	}
	d, err = time.ParseDuration(string(*text))
	switch {
	case err != nil:
		return 0, true, fmt.Errorf("%s: %q is not a duration", field, *text)
	case d < 0:
		return 0, true, fmt.Errorf("%s: must not be negative", field)
	}
	return d, true, nil
}

func (v *Validator) gatewayHTTPRoute(route *gatewayv1.HTTPRoute) error {
	if err := parents(route.Spec.ParentRefs, route.Namespace); err != nil {
		return err
	}
	for i, rule := range route.Spec.Rules {
		for j, ref := range rule.BackendRefs {
			if err := backendPort(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), ref.BackendObjectReference); err != nil {
				return err
			}
		}
	}
	return v.httpRoute(route, core.GroupGateway)
}

// httpRoute refuses what the controller cannot read, but not what it knows that it does not support: the Gateway API asks to
// admit that.
func (v *Validator) httpRoute(route *gatewayv1.HTTPRoute, group string) error {
	supported := *route
	supported.Spec.Rules = slices.Clone(route.Spec.Rules)
	for i := range supported.Spec.Rules {
		rule := &supported.Spec.Rules[i]
		rule.Filters = slices.DeleteFunc(slices.Clone(rule.Filters), func(f gatewayv1.HTTPRouteFilter) bool { return !resource.SupportsHTTPFilter(f.Type) })
		if group == core.GroupGateway {
			rule.Timeouts = nil // checked by the API server
		}
	}
	if _, err := v.reader.HTTPRoute(&supported, group); err != nil {
		return err
	}
	_, err := v.reader.HTTPRoute(route, group)
	return admitted(err, route.Spec.ParentRefs, route.Namespace)
}

// admitted returns the warning about a route that is allowed, of which err says why it is ignored. Routes without a parent of
// the mesh are none of its business.
func admitted(err error, refs []gatewayv1.ParentReference, namespace string) error {
	if err == nil || !slices.ContainsFunc(refs, func(ref gatewayv1.ParentReference) bool {
		_, ours := resource.ParentOf(ref, namespace)
		return ours
	}) {
		return nil
	}
	return noEffect{err}
}

func (v *Validator) grpcRoute(route *gatewayv1.GRPCRoute) error {
	if err := parents(route.Spec.ParentRefs, route.Namespace); err != nil {
		return err
	}
	supported := *route
	supported.Spec.Rules = slices.Clone(route.Spec.Rules)
	for i := range supported.Spec.Rules {
		rule := &supported.Spec.Rules[i]
		for j, ref := range rule.BackendRefs {
			if err := backendPort(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), ref.BackendObjectReference); err != nil {
				return err
			}
		}
		rule.Filters = slices.DeleteFunc(slices.Clone(rule.Filters), func(f gatewayv1.GRPCRouteFilter) bool { return !resource.SupportsGRPCFilter(f.Type) })
	}
	if _, err := v.reader.GRPCRoute(&supported); err != nil {
		return err
	}
	_, err := v.reader.GRPCRoute(route)
	return admitted(err, route.Spec.ParentRefs, route.Namespace)
}

func (v *Validator) tlsRoute(route *gatewayv1.TLSRoute) error {
	if err := parents(route.Spec.ParentRefs, route.Namespace); err != nil {
		return err
	}
	_, err := v.reader.TLSRoute(route)
	return err
}

func (v *Validator) tcpRoute(route *gatewayv1.TCPRoute) error {
	if err := parents(route.Spec.ParentRefs, route.Namespace); err != nil {
		return err
	}
	_, err := v.reader.TCPRoute(route)
	return err
}
