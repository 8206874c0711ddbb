package index

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

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
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// kind is one kind of object that is read: how it is watched, and how a single object is put in.
type kind struct {
	resource schema.GroupVersionResource
	// name is the kind in manifests and metrics.
	name string
	// optional is true for kinds whose definition need not be installed.
	optional bool
	// newer is a later version of the same shape, read where the API server serves no other; empty if there is none.
	newer string
	// statusOptional is true for kinds whose definition need not have a status; withoutStatus if it has none.
	statusOptional, withoutStatus bool

	watch func(clients *kube.Clients) *kube.Watch
	// apply and remove put one object in without a watch. The error is that of reading it.
	apply  func(ctx context.Context, object *unstructured.Unstructured) error
	remove func(ctx context.Context, id core.ID) error
}

// noStatus is for kinds whose objects have no status that is written.
func noStatus[O, T any](*O, T, error) status.Object { return nil }

// custom describes a kind that is read with the dynamic client. statusOf makes an object's status of the object, what was
// read of it, and the error of that; it returns nil if there is none.
func custom[O, T any](x *Index, name string, gvr schema.GroupVersionResource, read func(resource.Reader, *O) (T, error), statusOf func(*O, T, error) status.Object,
	set func(core.ID, T), ids func() []core.ID,
) *kind {
	k := &kind{resource: gvr, name: name}
	to := &sink[T]{index: x, kind: k, set: set, ids: ids}
	trim := func(u *unstructured.Unstructured) (result[T], error) {
		var r result[T]
		var object O
		if r.err = runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &object); r.err != nil {
			return r, nil
		}
		r.object, r.err = noted(x, name, func(reader resource.Reader) (T, error) { return read(reader, &object) }, &r.complaint)
		r.complaint.UID = u.GetUID()
		r.status = statusOf(&object, r.object, r.err)
		return r, nil
	}
	k.watch = func(clients *kube.Clients) *kube.Watch {
		return kube.NewWatch(gvr.Resource+suffix(gvr), kube.Resource(clients.Dynamic, clients.Dynamic.Resource(k.resource)), trim, to)
	}
	k.apply = func(ctx context.Context, u *unstructured.Unstructured) error {
		r, _ := trim(u)
		if err := x.do(ctx, func() { to.apply(core.ID{Namespace: u.GetNamespace(), Name: u.GetName()}, r) }); err != nil {
			return err
		}
		return r.err
	}
	k.remove = func(ctx context.Context, id core.ID) error {
		return x.do(ctx, func() { to.remove(id) })
	}
	return k
}

func suffix(gvr schema.GroupVersionResource) string {
	if gvr.Group == "" {
		return ""
	}
	return "." + gvr.Group
}

// makeKinds returns all that the index reads. Source: control plane chapter, section 7.1.
func (x *Index) makeKinds() []*kind {
	t := x.tables
	alpha, beta1, beta3 := policyv1alpha1.GroupVersion, policyv1beta1.GroupVersion, policyv1beta3.GroupVersion
	v1 := corev1.SchemeGroupVersion
	workloads := func(external bool) (func(core.ID, *core.Workload), func() []core.ID) {
		return func(id core.ID, w *core.Workload) { t.setWorkload(WorkloadKey{id, external}, w) },
			func() []core.ID { return t.workloadIDs(external) }
	}
	setPod, podIDs := workloads(false)
	setExternal, externalIDs := workloads(true)

	pods := custom(x, "Pod", v1.WithResource("pods"), resource.Reader.Pod, noStatus, setPod, podIDs)
	services := custom(x, "Service", v1.WithResource("services"), resource.Reader.Service, noStatus, t.setService, t.services.ids)
	// These two are many, and cheaper to read in the API server's own encoding.
	pods.watch = func(clients *kube.Clients) *kube.Watch {
		meshed := func(options *metav1.ListOptions) { options.LabelSelector = names.LabelControlPlaneNS }
		return kube.NewWatch("pods", kube.Select(clients.Kube, clients.Kube.CoreV1().Pods(""), meshed), typed(x, "Pod", resource.Reader.Pod),
			&sink[*core.Workload]{x, pods, setPod, podIDs})
	}
	services.watch = func(clients *kube.Clients) *kube.Watch {
		return kube.NewWatch("services", kube.Resource(clients.Kube, clients.Kube.CoreV1().Services("")), typed(x, "Service", resource.Reader.Service),
			&sink[*core.Service]{x, services, t.setService, t.services.ids})
	}

	referenceGrants := custom(x, "ReferenceGrant", resource.ReferenceGrants, resource.Reader.ReferenceGrant, noStatus, t.setReferenceGrant, t.referenceGrants.ids)
	referenceGrants.optional, referenceGrants.newer = true, "v1"

	return []*kind{
		pods,
		services,
		custom(x, "ExternalWorkload", workloadv1beta1.GroupVersion.WithResource("externalworkloads"), resource.Reader.ExternalWorkload, noStatus,
			setExternal, externalIDs),
		judged(x, "Server", beta3.WithResource("servers"), resource.Reader.Server, t.setServer, t.servers.ids,
			func(o *policyv1beta3.Server) (metav1.ObjectMeta, []metav1.Condition) {
				return o.ObjectMeta, o.Status.Conditions
			}),
		judged(x, "ServerAuthorization", beta1.WithResource("serverauthorizations"), resource.Reader.ServerAuthorization,
			t.setServerAuthorization, t.serverAuthorizations.ids,
			func(o *policyv1beta1.ServerAuthorization) (metav1.ObjectMeta, []metav1.Condition) {
				return o.ObjectMeta, o.Status.Conditions
			}),
		judged(x, "AuthorizationPolicy", alpha.WithResource("authorizationpolicies"), resource.Reader.AuthorizationPolicy,
			t.setAuthorizationPolicy, t.authorizationPolicies.ids,
			func(o *policyv1alpha1.AuthorizationPolicy) (metav1.ObjectMeta, []metav1.Condition) {
				return o.ObjectMeta, o.Status.Conditions
			}),
		judged(x, "MeshTLSAuthentication", alpha.WithResource("meshtlsauthentications"), resource.Reader.MeshTLSAuthentication,
			t.setMeshTLS, t.meshTLS.ids,
			func(o *policyv1alpha1.MeshTLSAuthentication) (metav1.ObjectMeta, []metav1.Condition) {
				return o.ObjectMeta, o.Status.Conditions
			}),
		judged(x, "NetworkAuthentication", alpha.WithResource("networkauthentications"), resource.Reader.NetworkAuthentication,
			t.setNetwork, t.networks.ids,
			func(o *policyv1alpha1.NetworkAuthentication) (metav1.ObjectMeta, []metav1.Condition) {
				return o.ObjectMeta, o.Status.Conditions
			}),
		custom(x, "HTTPLocalRateLimitPolicy", status.RateLimits, resource.Reader.RateLimit,
			func(o *policyv1alpha1.HTTPLocalRateLimitPolicy, limit *core.RateLimit, err error) status.Object {
				if err != nil {
					return nil
				}
				return &status.RateLimit{Limit: limit, Generation: o.Generation, Status: o.Status}
			}, t.setRateLimit, t.rateLimits.ids),
		custom(x, "EgressNetwork", status.EgressNetworks, resource.Reader.EgressNetwork,
			func(o *policyv1alpha1.EgressNetwork, network *core.EgressNetwork, err error) status.Object {
				if err != nil {
					return nil
				}
				return &status.EgressNetwork{Network: network, Generation: o.Generation, Conditions: o.Status.Conditions, Config: &x.config}
			}, t.setEgressNetwork, t.egressNetworks.ids),
		x.httpRoutes(resource.PolicyHTTPRoutes),
		x.httpRoutes(resource.GatewayHTTPRoutes),
		route(x, core.GRPCRoute, resource.GRPCRoutes, "", resource.Reader.GRPCRoute, func(o *gatewayv1.GRPCRoute, gvr schema.GroupVersionResource, err error) *status.Route {
			var backends []gatewayv1.BackendRef
			for _, rule := range o.Spec.Rules {
				backends = append(backends, resource.GRPCMirrors(rule.Filters)...)
				for _, ref := range rule.BackendRefs {
					backends = append(append(backends, ref.BackendRef), resource.GRPCMirrors(ref.Filters)...)
				}
			}
			return status.NewRoute(gvr, core.GRPCRoute, o, o.Spec.CommonRouteSpec, backends, o.Status.RouteStatus, err)
		}),
		route(x, core.TLSRoute, resource.TLSRoutes, "v1", resource.Reader.TLSRoute, func(o *gatewayv1.TLSRoute, gvr schema.GroupVersionResource, err error) *status.Route {
			var backends []gatewayv1.BackendRef
			for _, rule := range o.Spec.Rules {
				backends = append(backends, rule.BackendRefs...)
			}
			return status.NewRoute(gvr, core.TLSRoute, o, o.Spec.CommonRouteSpec, backends, o.Status.RouteStatus, err)
		}),
		route(x, core.TCPRoute, resource.TCPRoutes, "v1", resource.Reader.TCPRoute, func(o *gatewayv1.TCPRoute, gvr schema.GroupVersionResource, err error) *status.Route {
			var backends []gatewayv1.BackendRef
			for _, rule := range o.Spec.Rules {
				backends = append(backends, rule.BackendRefs...)
			}
			return status.NewRoute(gvr, core.TCPRoute, o, o.Spec.CommonRouteSpec, backends, o.Status.RouteStatus, err)
		}),
		referenceGrants,
	}
}

// judged describes a kind whose status says whether an object is in force, where its definition has a status: upstream's have
// none. written returns what was written there.
func judged[O, T any](x *Index, name string, gvr schema.GroupVersionResource, read func(resource.Reader, *O) (T, error), set func(core.ID, T), ids func() []core.ID,
	written func(*O) (metav1.ObjectMeta, []metav1.Condition),
) *kind {
	var k *kind
	k = custom(x, name, gvr, read, func(o *O, object T, err error) status.Object {
		if k.withoutStatus {
			return nil
		}
		meta, conditions := written(o)
		p := &status.Policy{
			ID: core.ID{Namespace: meta.Namespace, Name: meta.Name}, Resource: gvr, Kind: name, Generation: meta.Generation, Conditions: conditions,
		}
		if err != nil {
			p.Problem = err.Error()
			return p
		}
		switch of := any(object).(type) {
		case *core.Server, *core.ServerAuthorization, *core.AuthorizationPolicy:
			p.Of = of
		}
		return p
	}, set, ids)
	k.statusOptional = true
	return k
}

// typed returns the trim function of a kind that is watched with a typed client.
func typed[O metav1.Object, T any](x *Index, name string, read func(resource.Reader, O) (T, error)) func(O) (result[T], error) {
	return func(object O) (result[T], error) {
		var r result[T]
		r.object, r.err = noted(x, name, func(reader resource.Reader) (T, error) { return read(reader, object) }, &r.complaint)
		r.complaint.UID = object.GetUID()
		return r, nil
	}
}

// noted reads an object and notes what is wrong with it, for kinds whose authors are told by an event: they are looked at by
// no webhook, and have no status that could say it.
func noted[T any](x *Index, name string, read func(resource.Reader) (T, error), complaint *status.Complaint) (T, error) {
	reader := x.reader
	if name != "Service" && name != "EgressNetwork" {
		return read(reader)
	}
	complaint.Kind = name
	reader.Warn = func(kind string, id core.ID, err error) {
		complaint.Texts = append(complaint.Texts, err.Error())
		x.reader.Warn(kind, id, err)
	}
	object, err := read(reader)
	if err != nil {
		complaint.Texts = append(complaint.Texts, err.Error())
	}
	return object, err
}

// httpRoutes describes the HTTPRoutes of one group.
func (x *Index) httpRoutes(gvr schema.GroupVersionResource) *kind {
	read := func(r resource.Reader, o *gatewayv1.HTTPRoute) (*core.Route, error) { return r.HTTPRoute(o, gvr.Group) }
	return route(x, core.HTTPRoute, gvr, "", read, func(o *gatewayv1.HTTPRoute, gvr schema.GroupVersionResource, err error) *status.Route {
		var backends []gatewayv1.BackendRef
		for _, rule := range o.Spec.Rules {
			backends = append(backends, resource.Mirrors(rule.Filters)...)
			for _, ref := range rule.BackendRefs {
				backends = append(append(backends, ref.BackendRef), resource.Mirrors(ref.Filters)...)
			}
		}
		return status.NewRoute(gvr, core.HTTPRoute, o, o.Spec.CommonRouteSpec, backends, o.Status.RouteStatus, err)
	})
}

// route describes a kind of routes, none of which need be installed.
func route[O any](x *Index, name core.RouteKind, gvr schema.GroupVersionResource, newer string, read func(resource.Reader, *O) (*core.Route, error),
	statusOf func(*O, schema.GroupVersionResource, error) *status.Route,
) *kind {
	var k *kind
	k = custom(x, string(name), gvr, read, func(o *O, _ *core.Route, err error) status.Object { return statusOf(o, k.resource, err) },
		func(id core.ID, r *core.Route) { x.tables.setRoute(routeKey{gvr.Group, name, id}, r) },
		func() []core.ID { return x.tables.routeIDs(gvr.Group, name) })
	k.optional, k.newer = true, newer
	return k
}

// find reports whether the API server serves a kind, and settles its version.
func (k *kind) find(clients *kube.Clients) (bool, error) {
	for _, version := range []string{k.resource.Version, k.newer} {
		if version == "" {
			continue
		}
		gvr := k.resource.GroupResource().WithVersion(version)
		has, err := kube.HasResource(clients.Kube.Discovery(), gvr.GroupVersion().String(), gvr.Resource)
		if err != nil {
			return false, err
		}
		if has {
			k.resource = gvr
			return true, nil
		}
	}
	return false, nil
}

// Watches returns the watches that feed the index, and the kinds whose definition is not installed and need not be: these are
// for WatchLater. It must be called before the index runs.
func (x *Index) Watches(clients *kube.Clients) ([]*kube.Watch, []*Missing, error) {
	var list []*kube.Watch
	var missing []*Missing
	for _, k := range x.kinds {
		if k.optional {
			has, err := k.find(clients)
			if err != nil {
				return nil, nil, err
			}
			if !has {
				x.logger.Warn("kind is not installed and is not watched", "kind", k.name, "version", k.resource.GroupVersion().String())
				missing = append(missing, &Missing{k})
				continue
			}
		}
		if k.statusOptional {
			has, err := kube.HasResource(clients.Kube.Discovery(), k.resource.GroupVersion().String(), k.resource.Resource+"/status")
			if err != nil {
				return nil, nil, err
			}
			if k.withoutStatus = !has; k.withoutStatus {
				x.logger.Warn("status is not written, for the definition of the kind has none: it is an older one, or another's", "kind", k.name)
			}
		}
		list = append(list, x.watchOf(k, clients))
	}
	return list, missing, nil
}

func (x *Index) watchOf(k *kind, clients *kube.Clients) *kube.Watch {
	w := k.watch(clients)
	if x.metrics != nil {
		w.Observer = x.metrics.observer(k)
	}
	return w
}

// Missing is a kind whose definition is not installed.
type Missing struct{ kind *kind }

// discoveryInterval is how often it is looked whether a missing kind has been installed.
const discoveryInterval = 30 * time.Second

// WatchLater watches kinds from the time they are installed, until ctx is done. A user who adds the Gateway API to a cluster
// need not know that this controller has to be told.
func (x *Index) WatchLater(ctx context.Context, clients *kube.Clients, missing []*Missing) {
	var running sync.WaitGroup
	defer running.Wait()
	ticker := time.NewTicker(discoveryInterval)
	defer ticker.Stop()
	for len(missing) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		missing = slices.DeleteFunc(missing, func(m *Missing) bool {
			has, err := m.kind.find(clients)
			if err != nil || !has {
				return false // an API server that cannot be asked now is asked again
			}
			x.logger.Info("kind has been installed and is watched", "kind", m.kind.name, "version", m.kind.resource.GroupVersion().String())
			group := kube.NewGroup(x.logger, x.watchOf(m.kind, clients))
			running.Go(func() { group.Run(ctx) })
			return true
		})
	}
}

// Required returns the resources that the controller cannot do without.
func (x *Index) Required() []schema.GroupVersionResource {
	var list []schema.GroupVersionResource
	for _, k := range x.kinds {
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

func (x *Index) kindOf(object *unstructured.Unstructured) (*kind, error) {
	gvk := object.GroupVersionKind()
	for _, k := range x.kinds {
		if k.name == gvk.Kind && k.resource.Group == gvk.Group {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%s is not read by the policy controller", gvk)
}
