package injector

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/inject"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Lookup is what the injector asks about other objects. Its methods may be called from any goroutine.
type Lookup interface {
	// NamespaceAnnotations returns the annotations of a namespace that configure injection.
	NamespaceAnnotations(ctx context.Context, namespace string) (map[string]string, error)
	// OwnersOf returns the owner references of a ReplicaSet or Job; false when there is no such object.
	OwnersOf(ctx context.Context, namespace, kind, name string) ([]metav1.OwnerReference, bool)
}

var (
	namespaces  = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	replicaSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	jobs        = schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}
)

// Watches follow what the injector asks about: annotations of namespaces, and owners of ReplicaSets and Jobs. Of each
// object nothing else is kept. Other owners need no watch: a pod's own reference has their kind, name and UID.
//
// An object that has not arrived yet is asked for directly, because a namespace and its first pods are often made by one
// command.
type Watches struct {
	client      metadata.Interface
	logger      *slog.Logger
	group       *kube.Group
	namespaces  kube.Table[map[string]string]
	replicaSets kube.Table[[]metav1.OwnerReference]
	jobs        kube.Table[[]metav1.OwnerReference]
}

var _ Lookup = (*Watches)(nil)

// NewWatches returns watches that do nothing until they are run.
func NewWatches(client metadata.Interface, logger *slog.Logger) *Watches {
	w := &Watches{client: client, logger: logger}
	w.group = kube.NewGroup(logger,
		kube.NewWatch(namespaces.Resource, kube.Resource(client, client.Resource(namespaces)), trimNamespace, &w.namespaces),
		kube.NewWatch(replicaSets.Resource, kube.Resource(client, client.Resource(replicaSets)), trimOwners, &w.replicaSets),
		kube.NewWatch(jobs.Resource, kube.Resource(client, client.Resource(jobs)), trimOwners, &w.jobs),
	)
	return w
}

// Run follows the objects until ctx is done.
func (w *Watches) Run(ctx context.Context) { w.group.Run(ctx) }

// WaitSynced waits until all objects that are there have been seen.
func (w *Watches) WaitSynced(ctx context.Context) error {
	return w.group.WaitSynced(ctx, kube.SyncTimeout)
}

// trimNamespace keeps the annotations that pods inherit.
func trimNamespace(o *metav1.PartialObjectMetadata) (map[string]string, error) {
	kept := map[string]string{}
	for _, key := range names.InheritableAnnotations() {
		if value, ok := o.Annotations[key]; ok {
			kept[key] = value
		}
	}
	return kept, nil
}

func trimOwners(o *metav1.PartialObjectMetadata) ([]metav1.OwnerReference, error) {
	return o.OwnerReferences, nil
}

// NamespaceAnnotations implements Lookup.
func (w *Watches) NamespaceAnnotations(ctx context.Context, namespace string) (map[string]string, error) {
	if annotations, ok := w.namespaces.Get("", namespace); ok {
		return annotations, nil
	}
	object, err := w.client.Resource(namespaces).Get(ctx, namespace, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("namespace %q: %w", namespace, err)
	}
	return trimNamespace(object)
}

// OwnersOf implements Lookup.
func (w *Watches) OwnersOf(ctx context.Context, namespace, kind, name string) ([]metav1.OwnerReference, bool) {
	table, resource := &w.replicaSets, replicaSets
	if kind == inject.KindJob {
		table, resource = &w.jobs, jobs
	}
	if owners, ok := table.Get(namespace, name); ok {
		return owners, true
	}
	object, err := w.client.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		if !apierrors.IsNotFound(err) {
			w.logger.Warn("owner not found", "namespace", namespace, "kind", kind, "name", name, "error", err)
		}
		return nil, false
	}
	return object.OwnerReferences, true
}

// owner is what a pod belongs to in the end.
type owner struct {
	inject.Owner
	// reference names it for events; nil when the pod belongs to nothing that is known.
	reference *metav1.OwnerReference
}

// grandparents are the kinds that a ReplicaSet or a Job may belong to and be left out for. Anything else above a
// ReplicaSet, such as a rollout of another controller's, is not a workload that the mesh knows by name.
var grandparents = map[string]string{inject.KindReplicaSet: inject.KindDeployment, inject.KindJob: inject.KindCronJob}

// findOwner returns the owner of a pod. Source: control plane chapter, section 4.3.
func findOwner(ctx context.Context, lookup Lookup, namespace string, pod *inject.Object) owner {
	if len(pod.OwnerReferences) != 1 {
		return owner{Owner: inject.Owner{Kind: inject.KindPod, Name: pod.Name}}
	}
	parent := pod.OwnerReferences[0]
	kind := strings.ToLower(parent.Kind)
	own := owner{Owner: inject.Owner{Kind: kind, Name: parent.Name}, reference: &parent}
	above, ok := grandparents[kind]
	if !ok {
		return own
	}
	owners, found := lookup.OwnersOf(ctx, namespace, kind, parent.Name)
	if !found {
		own.reference = nil
		return own
	}
	if len(owners) == 1 && strings.EqualFold(owners[0].Kind, above) {
		own = owner{Owner: inject.Owner{Kind: above, Name: owners[0].Name}, reference: &owners[0]}
	}
	return own
}
