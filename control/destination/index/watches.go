package index

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Resources that have no typed client, or of which only the metadata is read.
var (
	serviceProfiles   = schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}
	servers           = schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}
	externalWorkloads = schema.GroupVersionResource{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"}
	nodes             = corev1.SchemeGroupVersion.WithResource("nodes")
	replicaSets       = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	jobs              = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
)

// Source says what of a cluster an index watches.
type Source struct {
	// Clients are how to reach the cluster.
	Clients *kube.Clients
	// EndpointSlices watches EndpointSlices; otherwise Endpoints.
	EndpointSlices bool
	// Remote leaves out what is not read of other clusters: nodes, jobs, ServiceProfiles and external workloads. Source:
	// control plane chapter, section 10.
	Remote bool
}

// Watches returns the watches that feed the index.
func (x *Index) Watches(from Source) []*kube.Watch {
	c := converter{x.options.Logger}
	t := x.tables
	clients := from.Clients
	typed, dyn, meta := clients.Kube, clients.Dynamic, clients.Metadata

	list := []*kube.Watch{
		kube.NewWatch("services", kube.Resource(typed, typed.CoreV1().Services("")), c.service,
			sink[*core.Service]{x, t.setService, func() []core.ID { return keysOf(t.services) }}),
		kube.NewWatch("pods", kube.Resource(typed, typed.CoreV1().Pods("")), c.pod,
			sink[*core.Pod]{x, t.setPod, func() []core.ID { return keysOf(t.pods) }}),
		kube.NewWatch("servers", kube.Resource(dyn, dyn.Resource(servers)), c.server,
			sink[*core.Server]{x, t.setServer, func() []core.ID {
				var ids []core.ID
				for _, inNamespace := range t.servers {
					ids = append(ids, keysOf(inNamespace)...)
				}
				return ids
			}}),
		kube.NewWatch("replicasets", kube.Resource(meta, meta.Resource(replicaSets)), c.owners, x.ownerSink("ReplicaSet")),
	}
	slices := sink[[]*core.Slice]{x, t.setSlices, func() []core.ID { return keysOf(t.slices) }}
	if from.EndpointSlices {
		list = append(list, kube.NewWatch("endpointslices", kube.Resource(typed, typed.DiscoveryV1().EndpointSlices("")), c.endpointSlice, slices))
	} else {
		list = append(list, kube.NewWatch("endpoints", kube.Resource(typed, typed.CoreV1().Endpoints("")), c.endpoints, slices))
	}
	if !from.Remote {
		list = append(list,
			kube.NewWatch("serviceprofiles", kube.Resource(dyn, dyn.Resource(serviceProfiles)), c.serviceProfile,
				sink[*core.ServiceProfile]{x, t.setProfile, func() []core.ID { return keysOf(t.profiles) }}),
			kube.NewWatch("externalworkloads", kube.Resource(dyn, dyn.Resource(externalWorkloads)), c.externalWorkload,
				sink[*core.ExternalWorkload]{x, t.setExternal, func() []core.ID { return keysOf(t.externals) }}),
			kube.NewWatch("jobs", kube.Resource(meta, meta.Resource(jobs)), c.owners, x.ownerSink("Job")),
			kube.NewWatch("nodes", kube.Resource(meta, meta.Resource(nodes)), c.zone, sink[string]{
				x, func(id core.ID, zone string) { t.setZone(id.Name, zone) }, func() []core.ID {
					ids := make([]core.ID, 0, len(t.zones))
					for node := range t.zones {
						ids = append(ids, core.ID{Name: node})
					}
					return ids
				},
			}))
	}
	for _, w := range list {
		if o := x.options.Metrics.observer(w.Name()); o != nil {
			w.Observer = o
		}
	}
	return list
}

// ownerSink takes the owners of the objects of one kind. Both kinds are kept in one table; ids tells them apart.
func (x *Index) ownerSink(kind string) kube.Sink[[]core.Owner] {
	prefix := kind + "/"
	return sink[[]core.Owner]{
		x,
		func(id core.ID, owners []core.Owner) { x.tables.setOwners(ownersKey(kind, id), owners) },
		func() []core.ID {
			var ids []core.ID
			for key := range x.tables.owners {
				if len(key.Name) > len(prefix) && key.Name[:len(prefix)] == prefix {
					ids = append(ids, core.ID{Namespace: key.Namespace, Name: key.Name[len(prefix):]})
				}
			}
			return ids
		},
	}
}
