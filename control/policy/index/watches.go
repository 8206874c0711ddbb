package index

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	policyv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	workloadv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// kind is one kind of object that is read: how it is watched, and how a single object is put in.
type kind struct {
	resource schema.GroupVersionResource
	// name is the kind in manifests and metrics.
	name string
	// optional is true for kinds whose definition need not be installed.
	optional bool
	watch    func(clients *kube.Clients) *kube.Watch
	// apply and remove put one object in without a watch.
	apply  func(ctx context.Context, object *unstructured.Unstructured) error
	remove func(ctx context.Context, id core.ID) error
}

// custom describes a kind that is read with the dynamic client.
func custom[O, T any](x *Index, name string, gvr schema.GroupVersionResource, read func(*O) (T, error), to sink[T]) kind {
	trim := func(u *unstructured.Unstructured) (T, error) {
		var object O
		var none T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &object); err != nil {
			return none, fmt.Errorf("decoding: %w", err)
		}
		return read(&object)
	}
	return kind{
		resource: gvr,
		name:     name,
		watch: func(clients *kube.Clients) *kube.Watch {
			return kube.NewWatch(gvr.Resource+suffix(gvr), kube.Resource(clients.Dynamic, clients.Dynamic.Resource(gvr)), trim, to)
		},
		apply: func(ctx context.Context, u *unstructured.Unstructured) error {
			value, err := trim(u)
			if err != nil {
				return err
			}
			return x.do(ctx, func() { to.set(core.ID{Namespace: u.GetNamespace(), Name: u.GetName()}, value) })
		},
		remove: func(ctx context.Context, id core.ID) error {
			var none T
			return x.do(ctx, func() { to.set(id, none) })
		},
	}
}

func suffix(gvr schema.GroupVersionResource) string {
	if gvr.Group == "" {
		return ""
	}
	return "." + gvr.Group
}

// kinds are all that the index reads. Source: control plane chapter, section 7.1.
func (x *Index) kinds() []kind {
	t, r := x.tables, x.reader
	alpha, beta1, beta3 := policyv1alpha1.GroupVersion, policyv1beta1.GroupVersion, policyv1beta3.GroupVersion
	v1 := corev1.SchemeGroupVersion
	external := func(id core.ID, w *core.Workload) { t.setWorkload(WorkloadKey{id, true}, w) }
	pod := func(id core.ID, w *core.Workload) { t.setWorkload(WorkloadKey{id, false}, w) }

	pods := custom(x, "Pod", v1.WithResource("pods"), r.Pod, sink[*core.Workload]{x, pod, func() []core.ID { return t.workloadIDs(false) }})
	services := custom(x, "Service", v1.WithResource("services"), r.Service, sink[*core.Service]{x, t.setService, t.services.ids})
	// These two are many, and cheaper to read in the API server's own encoding.
	pods.watch = func(clients *kube.Clients) *kube.Watch {
		meshed := func(options *metav1.ListOptions) { options.LabelSelector = names.LabelControlPlaneNS }
		return kube.NewWatch("pods", kube.Select(clients.Kube, clients.Kube.CoreV1().Pods(""), meshed), r.Pod,
			sink[*core.Workload]{x, pod, func() []core.ID { return t.workloadIDs(false) }})
	}
	services.watch = func(clients *kube.Clients) *kube.Watch {
		return kube.NewWatch("services", kube.Resource(clients.Kube, clients.Kube.CoreV1().Services("")), r.Service,
			sink[*core.Service]{x, t.setService, t.services.ids})
	}

	return []kind{
		pods,
		services,
		custom(x, "ExternalWorkload", workloadv1beta1.GroupVersion.WithResource("externalworkloads"), r.ExternalWorkload,
			sink[*core.Workload]{x, external, func() []core.ID { return t.workloadIDs(true) }}),
		custom(x, "Server", beta3.WithResource("servers"), r.Server, sink[*core.Server]{x, t.setServer, t.servers.ids}),
		custom(x, "ServerAuthorization", beta1.WithResource("serverauthorizations"), r.ServerAuthorization,
			sink[*core.ServerAuthorization]{x, t.setServerAuthorization, t.serverAuthorizations.ids}),
		custom(x, "AuthorizationPolicy", alpha.WithResource("authorizationpolicies"), r.AuthorizationPolicy,
			sink[*core.AuthorizationPolicy]{x, t.setAuthorizationPolicy, t.authorizationPolicies.ids}),
		custom(x, "MeshTLSAuthentication", alpha.WithResource("meshtlsauthentications"), r.MeshTLSAuthentication,
			sink[*core.MeshTLSAuthentication]{x, t.setMeshTLS, t.meshTLS.ids}),
		custom(x, "NetworkAuthentication", alpha.WithResource("networkauthentications"), r.NetworkAuthentication,
			sink[*core.NetworkAuthentication]{x, t.setNetwork, t.networks.ids}),
		custom(x, "HTTPLocalRateLimitPolicy", alpha.WithResource("httplocalratelimitpolicies"), r.RateLimit,
			sink[*core.RateLimit]{x, t.setRateLimit, t.rateLimits.ids}),
		custom(x, "EgressNetwork", alpha.WithResource("egressnetworks"), r.EgressNetwork,
			sink[*core.EgressNetwork]{x, t.setEgressNetwork, t.egressNetworks.ids}),
		route(x, core.HTTPRoute, resource.PolicyHTTPRoutes, func(o *gatewayv1.HTTPRoute) (*core.Route, error) { return r.HTTPRoute(o, core.GroupPolicy) }),
		route(x, core.HTTPRoute, resource.GatewayHTTPRoutes, func(o *gatewayv1.HTTPRoute) (*core.Route, error) { return r.HTTPRoute(o, core.GroupGateway) }),
		route(x, core.GRPCRoute, resource.GRPCRoutes, r.GRPCRoute),
		route(x, core.TLSRoute, resource.TLSRoutes, r.TLSRoute),
		route(x, core.TCPRoute, resource.TCPRoutes, r.TCPRoute),
	}
}

// route describes a kind of routes, none of which need be installed.
func route[O any](x *Index, name core.RouteKind, gvr schema.GroupVersionResource, read func(*O) (*core.Route, error)) kind {
	k := custom(x, string(name), gvr, read, sink[*core.Route]{
		x,
		func(id core.ID, r *core.Route) { x.tables.setRoute(routeKey{gvr.Group, name, id}, r) },
		func() []core.ID { return x.tables.routeIDs(gvr.Group, name) },
	})
	k.optional = true
	return k
}

// Watches returns the watches that feed the index. Kinds whose definition is not installed and need not be are left out,
// with a line in the log; if they are installed later, the controller has to be started again.
func (x *Index) Watches(clients *kube.Clients) ([]*kube.Watch, error) {
	var list []*kube.Watch
	for _, k := range x.kinds() {
		if k.optional {
			has, err := kube.HasResource(clients.Kube.Discovery(), k.resource.GroupVersion().String(), k.resource.Resource)
			if err != nil {
				return nil, err
			}
			if !has {
				x.logger.Warn("kind is not installed and is not watched", "kind", k.name, "version", k.resource.GroupVersion().String())
				continue
			}
		}
		w := k.watch(clients)
		w.Observer = x.metrics.observer(k)
		list = append(list, w)
	}
	return list, nil
}

// Required returns the resources that the controller cannot do without.
func (x *Index) Required() []schema.GroupVersionResource {
	var list []schema.GroupVersionResource
	for _, k := range x.kinds() {
		if !k.optional {
			list = append(list, k.resource)
		}
	}
	return list
}

// Apply puts one object in, as a watch would, and returns what is wrong with it. It is for tools and tests that have objects
// but no cluster; the index must be running.
func (x *Index) Apply(ctx context.Context, object *unstructured.Unstructured) error {
	k, err := x.kindOf(object)
	if err != nil {
		return err
	}
	return k.apply(ctx, object)
}

// Delete takes one object out that was put in by Apply.
func (x *Index) Delete(ctx context.Context, object *unstructured.Unstructured) error {
	k, err := x.kindOf(object)
	if err != nil {
		return err
	}
	return k.remove(ctx, core.ID{Namespace: object.GetNamespace(), Name: object.GetName()})
}

func (x *Index) kindOf(object *unstructured.Unstructured) (kind, error) {
	gvk := object.GroupVersionKind()
	for _, k := range x.kinds() {
		if k.name == gvk.Kind && k.resource.Group == gvk.Group {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("%s is not read by the policy controller", gvk)
}
