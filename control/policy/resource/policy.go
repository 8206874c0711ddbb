package resource

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	policyv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// ConditionAccepted is the type of the condition that says whether an object is in force.
const ConditionAccepted = "Accepted"

// Server reads a Server. Source: proxy API chapter, section 5.4.
func (r Reader) Server(s *policyv1beta3.Server) (*core.Server, error) {
	server := &core.Server{Object: object(s), Labels: s.Labels}
	var err error
	if server.Pods, err = selector("spec.podSelector", s.Spec.PodSelector); err != nil {
		return nil, err
	}
	if server.Externals, err = selector("spec.externalWorkloadSelector", s.Spec.ExternalWorkloadSelector); err != nil {
		return nil, err
	}
	if (server.Pods == nil) == (server.Externals == nil) {
		return nil, errors.New("spec: exactly one of podSelector and externalWorkloadSelector must be set")
	}
	switch {
	case s.Spec.Port.Type == intstr.String && s.Spec.Port.StrVal != "":
		server.PortName = s.Spec.Port.StrVal
	case s.Spec.Port.Type == intstr.Int && s.Spec.Port.IntVal > 0 && s.Spec.Port.IntVal <= math.MaxUint16:
		server.Port = uint16(s.Spec.Port.IntVal)
	default:
		return nil, fmt.Errorf("spec.port: %s is neither a name nor a number from 1 to 65535", s.Spec.Port.String())
	}
	protocols := map[string]core.Protocol{
		"":                         core.ProtocolDetect,
		names.ProxyProtocolUnknown: core.ProtocolDetect,
		names.ProxyProtocolHTTP1:   core.ProtocolHTTP1,
		names.ProxyProtocolHTTP2:   core.ProtocolHTTP2,
		names.ProxyProtocolGRPC:    core.ProtocolGRPC,
		names.ProxyProtocolOpaque:  core.ProtocolOpaque,
		names.ProxyProtocolTLS:     core.ProtocolTLS,
	}
	var known bool
	if server.Protocol, known = protocols[s.Spec.ProxyProtocol]; !known {
		return nil, fmt.Errorf("spec.proxyProtocol: %q is none of unknown, HTTP/1, HTTP/2, gRPC, opaque, TLS", s.Spec.ProxyProtocol)
	}
	if text := s.Spec.AccessPolicy; text == "" {
		server.AccessPolicy = core.Deny
	} else if server.AccessPolicy, err = core.ParseDefaultPolicy(text); err != nil {
		// Admission refuses it. If it came in regardless, the Server still selects its port, and permits nobody by itself.
		r.warn("Server", server.ID, at("spec.accessPolicy", err))
	}
	return server, nil
}

// ErrPermitsNobody is the error of a ServerAuthorization that says nothing about clients.
var ErrPermitsNobody = errors.New("none of unauthenticated, meshTLS.unauthenticatedTLS, meshTLS.identities and meshTLS.serviceAccounts is set")

// ServerAuthorization reads a ServerAuthorization. Source: proxy API chapter, section 5.6.
func (r Reader) ServerAuthorization(a *policyv1beta1.ServerAuthorization) (*core.ServerAuthorization, error) {
	authorization := &core.ServerAuthorization{Object: object(a), ServerName: a.Spec.Server.Name}
	var err error
	if authorization.ServerLabels, err = selector("spec.server.selector", a.Spec.Server.Selector); err != nil {
		return nil, err
	}
	if (authorization.ServerName == "") == (authorization.ServerLabels == nil) {
		return nil, errors.New("spec.server: exactly one of name and selector must be set")
	}
	client := a.Spec.Client
	for i, n := range client.Networks {
		network, err := network(item("spec.client.networks", i), n.Cidr, n.Except)
		if err != nil {
			return nil, err
		}
		authorization.Networks = append(authorization.Networks, network)
	}
	switch {
	case client.Unauthenticated && client.MeshTLS != nil:
		return nil, errors.New("spec.client: unauthenticated and meshTLS must not both be set")
	case client.Unauthenticated:
		return authorization, nil
	case client.MeshTLS == nil:
		return nil, at("spec.client", ErrPermitsNobody)
	}
	authorization.Clients.TLS = true
	if client.MeshTLS.UnauthenticatedTLS {
		if len(client.MeshTLS.Identities) > 0 || len(client.MeshTLS.ServiceAccounts) > 0 {
			return nil, errors.New("spec.client.meshTLS: unauthenticatedTLS must not be set together with identities or serviceAccounts")
		}
		authorization.Clients.Anonymous = true
		return authorization, nil
	}
	for i, text := range client.MeshTLS.Identities {
		if err := checkIdentity(text); err != nil {
			return nil, at(item("spec.client.meshTLS.identities", i), err)
		}
	}
	authorization.Clients.Identities = append([]string(nil), client.MeshTLS.Identities...)
	for i, account := range client.MeshTLS.ServiceAccounts {
		identity, err := r.account(item("spec.client.meshTLS.serviceAccounts", i), a.Namespace, account.Namespace, account.Name)
		if err != nil {
			return nil, err
		}
		authorization.Clients.Identities = append(authorization.Clients.Identities, identity)
	}
	if len(authorization.Clients.Identities) == 0 {
		return nil, at("spec.client", ErrPermitsNobody)
	}
	return authorization, nil
}

// is reports whether a reference is to a kind. Names of groups and kinds are compared without case; the core group may be
// left out.
func is(group, kind, wantGroup, wantKind string) bool {
	if wantGroup == core.GroupCore && group == "" {
		group = core.GroupCore
	}
	return strings.EqualFold(group, wantGroup) && strings.EqualFold(kind, wantKind)
}

func kindName(group, kind string) string {
	if group == "" {
		return kind
	}
	return kind + "." + group
}

// AuthorizationPolicy reads an AuthorizationPolicy. Source: proxy API chapter, section 5.6.
func (r Reader) AuthorizationPolicy(p *policyv1alpha1.AuthorizationPolicy) (*core.AuthorizationPolicy, error) {
	policy := &core.AuthorizationPolicy{Object: object(p), TargetName: p.Spec.TargetRef.Name}
	group, kind := p.Spec.TargetRef.Group, p.Spec.TargetRef.Kind
	switch {
	case is(group, kind, core.GroupPolicy, "Server"):
		policy.Target = core.TargetServer
	case is(group, kind, core.GroupPolicy, "HTTPRoute"):
		policy.Target = core.TargetPolicyHTTPRoute
	case is(group, kind, core.GroupGateway, "HTTPRoute"):
		policy.Target = core.TargetGatewayHTTPRoute
	case is(group, kind, core.GroupGateway, "GRPCRoute"):
		policy.Target = core.TargetGRPCRoute
	case is(group, kind, core.GroupCore, "Namespace"):
		policy.Target = core.TargetNamespace
		if policy.TargetName != p.Namespace {
			return nil, fmt.Errorf("spec.targetRef.name: %q is not the policy's own namespace %q", policy.TargetName, p.Namespace)
		}
	default:
		return nil, fmt.Errorf("spec.targetRef: %s is none of Server, HTTPRoute, GRPCRoute, Namespace", kindName(group, kind))
	}
	if policy.TargetName == "" {
		return nil, errors.New("spec.targetRef.name: must be set")
	}
	// An empty list lets everybody in, which somebody who left it out need not have meant.
	if p.Spec.RequiredAuthenticationRefs == nil {
		return nil, errors.New("spec.requiredAuthenticationRefs: must be set")
	}
	var unsupported []string
	for i, ref := range p.Spec.RequiredAuthenticationRefs {
		field := item("spec.requiredAuthenticationRefs", i)
		if ref.Name == "" {
			return nil, at(field+".name", errors.New("must be set"))
		}
		id := &core.ID{Namespace: ref.Namespace, Name: ref.Name}
		if id.Namespace == "" {
			id.Namespace = p.Namespace
		}
		switch {
		case is(ref.Group, ref.Kind, core.GroupPolicy, "MeshTLSAuthentication"):
			if policy.MeshTLS != nil {
				return nil, fmt.Errorf("%s: only a single MeshTLSAuthentication may be set", field)
			}
			policy.MeshTLS = id
		case is(ref.Group, ref.Kind, core.GroupPolicy, "NetworkAuthentication"):
			if policy.Network != nil {
				return nil, fmt.Errorf("%s: only a single NetworkAuthentication may be set", field)
			}
			policy.Network = id
		case is(ref.Group, ref.Kind, core.GroupCore, "ServiceAccount"):
			if policy.ServiceAccount != nil {
				return nil, fmt.Errorf("%s: only a single ServiceAccount may be set", field)
			}
			policy.ServiceAccount = id
		default:
			unsupported = append(unsupported, kindName(ref.Group, ref.Kind))
		}
	}
	if len(unsupported) > 0 {
		return nil, fmt.Errorf("spec.requiredAuthenticationRefs: unsupported authentication kinds: %s", strings.Join(unsupported, ", "))
	}
	if policy.MeshTLS != nil && policy.ServiceAccount != nil {
		return nil, errors.New("spec.requiredAuthenticationRefs: a MeshTLSAuthentication and a ServiceAccount must not both be set")
	}
	return policy, nil
}

// MeshTLSAuthentication reads a MeshTLSAuthentication. Source: proxy API chapter, section 5.6.
func (r Reader) MeshTLSAuthentication(a *policyv1alpha1.MeshTLSAuthentication) (*core.MeshTLSAuthentication, error) {
	authentication := &core.MeshTLSAuthentication{Object: object(a)}
	for i, text := range a.Spec.Identities {
		if err := checkIdentity(text); err != nil {
			return nil, at(item("spec.identities", i), err)
		}
	}
	authentication.Identities = append(authentication.Identities, a.Spec.Identities...)
	for i, ref := range a.Spec.IdentityRefs {
		field := item("spec.identityRefs", i)
		if ref.Name == "" {
			return nil, at(field+".name", errors.New("must be set"))
		}
		switch {
		case is(ref.Group, ref.Kind, core.GroupCore, "ServiceAccount"):
			identity, err := r.account(field, a.Namespace, ref.Namespace, ref.Name)
			if err != nil {
				return nil, err
			}
			authentication.Identities = append(authentication.Identities, identity)
		case is(ref.Group, ref.Kind, core.GroupCore, "Namespace"):
			authentication.Identities = append(authentication.Identities, r.Config.NamespaceIdentity(ref.Name))
		default:
			return nil, fmt.Errorf("%s: %s is neither ServiceAccount nor Namespace", field, kindName(ref.Group, ref.Kind))
		}
	}
	if len(authentication.Identities) == 0 {
		return nil, errors.New("spec: neither identities nor identityRefs is set")
	}
	return authentication, nil
}

func networksOf(list []policyv1alpha1.Network) ([]core.Network, error) {
	var networks []core.Network
	for i, n := range list {
		network, err := network(item("spec.networks", i), n.Cidr, n.Except)
		if err != nil {
			return nil, err
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// NetworkAuthentication reads a NetworkAuthentication.
func (r Reader) NetworkAuthentication(a *policyv1alpha1.NetworkAuthentication) (*core.NetworkAuthentication, error) {
	networks, err := networksOf(a.Spec.Networks)
	if err != nil {
		return nil, err
	}
	if len(networks) == 0 {
		return nil, errors.New("spec.networks: must not be empty")
	}
	return &core.NetworkAuthentication{Object: object(a), Networks: networks}, nil
}

// EgressNetwork reads an EgressNetwork. Source: control plane chapter, section 2.9.
func (r Reader) EgressNetwork(n *policyv1alpha1.EgressNetwork) (*core.EgressNetwork, error) {
	egress := &core.EgressNetwork{
		Object:   object(n),
		Accepted: accepted(n.Status.Conditions),
		Opaque:   r.opaque("EgressNetwork", n, nil),
	}
	switch n.Spec.TrafficPolicy {
	case policyv1alpha1.TrafficPolicyAllow:
		egress.Allow = true
	case policyv1alpha1.TrafficPolicyDeny:
	default:
		return nil, fmt.Errorf("spec.trafficPolicy: %q is neither Allow nor Deny", n.Spec.TrafficPolicy)
	}
	var err error
	if egress.Networks, err = networksOf(n.Spec.Networks); err != nil {
		return nil, err
	}
	if n.Spec.Networks != nil && len(egress.Networks) == 0 {
		return nil, errors.New("spec.networks: must not be empty if it is set")
	}
	var errs []error
	egress.Traffic, errs = core.ParseTraffic(n.Annotations)
	egress.Traffic.Biaser = nil // there is nothing to balance over
	r.warn("EgressNetwork", egress.ID, errs...)
	return egress, nil
}

// RateLimit reads an HTTPLocalRateLimitPolicy. Source: proxy API chapter, section 5.7.
func (r Reader) RateLimit(p *policyv1alpha1.HTTPLocalRateLimitPolicy) (*core.RateLimit, error) {
	ref := p.Spec.TargetRef
	if !is(ref.Group, ref.Kind, core.GroupPolicy, "Server") {
		return nil, fmt.Errorf("spec.targetRef: %s is not a Server.policy.linkerd.io", kindName(ref.Group, ref.Kind))
	}
	limit := &core.RateLimit{
		Object:   object(p),
		Server:   ref.Name,
		Accepted: accepted(p.Status.Conditions),
	}
	var err error
	if limit.Shared, limit.Burst, err = core.ParseRateLimit(p.Annotations); err != nil {
		return nil, err
	}
	rate := func(field string, n int64) (uint32, error) {
		if n == 0 {
			return 0, fmt.Errorf("%s.requestsPerSecond: must be greater than 0", field)
		}
		if n < 0 || n > math.MaxUint32 {
			return 0, fmt.Errorf("%s.requestsPerSecond: %d is not a number from 1 to %d", field, n, uint32(math.MaxUint32))
		}
		return uint32(n), nil
	}
	if p.Spec.Total != nil {
		if limit.Total, err = rate("spec.total", p.Spec.Total.RequestsPerSecond); err != nil {
			return nil, err
		}
	}
	if p.Spec.Identity != nil {
		if limit.Identity, err = rate("spec.identity", p.Spec.Identity.RequestsPerSecond); err != nil {
			return nil, err
		}
	}
	for i, o := range p.Spec.Overrides {
		field := item("spec.overrides", i)
		override := core.RateOverride{}
		if override.RequestsPerSecond, err = rate(field, o.RequestsPerSecond); err != nil {
			return nil, err
		}
		for j, client := range o.ClientRefs {
			if !is(client.Group, client.Kind, core.GroupCore, "ServiceAccount") {
				return nil, fmt.Errorf("%s: %s is not a ServiceAccount", item(field+".clientRefs", j), kindName(client.Group, client.Kind))
			}
			identity, err := r.account(item(field+".clientRefs", j), p.Namespace, client.Namespace, client.Name)
			if err != nil {
				return nil, err
			}
			override.Identities = append(override.Identities, identity)
		}
		limit.Overrides = append(limit.Overrides, override)
	}
	return limit, nil
}

// accepted reports whether conditions say that an object is in force.
func accepted(conditions []metav1.Condition) bool {
	return meta.IsStatusConditionTrue(conditions, ConditionAccepted)
}
