package controlplane

import (
	"context"
	"errors"
	"fmt"
	"sort"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
)

// ResourceKind is a kind objects of the mesh can have.
type ResourceKind struct {
	schema.GroupVersionResource
	Kind string
}

func kind(group, version, resource, kind string) ResourceKind {
	return ResourceKind{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, kind}
}

// ClusterKinds are the kinds uninstall removes; everything else goes with its
// namespace (CLI chapter, section 2.10).
var ClusterKinds = []ResourceKind{
	kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole"),
	kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding"),
	kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
	kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
	kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
	kind("apiregistration.k8s.io", "v1", "apiservices", "APIService"),
	kind("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
	kind("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
	kind("", "v1", "namespaces", "Namespace"),
}

// AllKinds are the kinds prune looks through (CLI chapter, section 2.9).
var AllKinds = append([]ResourceKind{
	kind("", "v1", "configmaps", "ConfigMap"),
	kind("batch", "v1", "cronjobs", "CronJob"),
	kind("apps", "v1", "daemonsets", "DaemonSet"),
	kind("apps", "v1", "deployments", "Deployment"),
	kind("batch", "v1", "jobs", "Job"),
	kind("policy.linkerd.io", "v1alpha1", "meshtlsauthentications", "MeshTLSAuthentication"),
	kind("policy.linkerd.io", "v1alpha1", "networkauthentications", "NetworkAuthentication"),
	kind("", "v1", "replicationcontrollers", "ReplicationController"),
	kind("", "v1", "secrets", "Secret"),
	kind("", "v1", "services", "Service"),
	kind("linkerd.io", "v1alpha2", "serviceprofiles", "ServiceProfile"),
	kind("apps", "v1", "statefulsets", "StatefulSet"),
	kind("", "v1", "serviceaccounts", "ServiceAccount"),
	kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
	kind("policy.linkerd.io", "v1beta3", "servers", "Server"),
	kind("policy.linkerd.io", "v1beta1", "serverauthorizations", "ServerAuthorization"),
	kind("policy.linkerd.io", "v1alpha1", "authorizationpolicies", "AuthorizationPolicy"),
	kind("multicluster.linkerd.io", "v1alpha3", "links", "Link"),
	kind("policy.linkerd.io", "v1beta3", "httproutes", "HTTPRoute"),
}, ClusterKinds...)

// Found is an object in the cluster, as little of it as kubectl delete needs.
type Found struct {
	Group, Version, Kind, Namespace, Name string
}

// Find lists objects by label over several kinds. Kinds the cluster does not
// have are passed over.
func Find(ctx context.Context, c *cluster.Cluster, kinds []ResourceKind, selector string) ([]Found, error) {
	var out []Found
	for _, k := range kinds {
		list, err := c.Dynamic.Resource(k.GroupVersionResource).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("failed to list %s: %w", k.Resource, err)
		}
		for _, item := range list.Items {
			out = append(out, Found{Group: k.Group, Version: k.Version, Kind: k.Kind, Namespace: item.GetNamespace(), Name: item.GetName()})
		}
	}
	return out, nil
}

// Documents writes the found objects so that they can be piped to kubectl
// delete.
func Documents(found []Found) ([]byte, error) {
	var out []byte
	for _, f := range found {
		metadata := map[string]any{"name": f.Name}
		if f.Namespace != "" {
			metadata["namespace"] = f.Namespace
		}
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": schema.GroupVersion{Group: f.Group, Version: f.Version}.String(),
			"kind":       f.Kind,
			"metadata":   metadata,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, text...)
		out = append(out, "---\n"...)
	}
	return out, nil
}

// Without returns the found objects that are not among the rendered ones.
// Versions do not matter: an object is the same in every version of its kind.
func Without(found []Found, rendered []Object) []Found {
	type key struct{ group, kind, namespace, name string }
	keep := map[key]bool{}
	for _, o := range rendered {
		gv, _ := schema.ParseGroupVersion(o.APIVersion)
		keep[key{gv.Group, o.Kind, o.Namespace, o.Name}] = true
	}
	var out []Found
	for _, f := range found {
		if !keep[key{f.Group, f.Kind, f.Namespace, f.Name}] {
			out = append(out, f)
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Kind != out[j].Kind {
			return out[i].Kind < out[j].Kind
		}
		return out[i].Namespace+"/"+out[i].Name < out[j].Namespace+"/"+out[j].Name
	})
	return out
}

// ErrNoOverrides says that the installation was not made by the CLI.
var ErrNoOverrides = errors.New("Could not find the linkerd-config-overrides secret.") //nolint:staticcheck // A message for the user's screen.

// Stored returns the values of an installation made by the CLI: the chart's
// defaults with the stored difference on top, and with the credentials of the
// present.
func Stored(ctx context.Context, charts Charts, c *cluster.Cluster, namespace string) (map[string]any, error) {
	secret, err := c.Kube.CoreV1().Secrets(namespace).Get(ctx, OverridesName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, ErrNoOverrides
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get Secret %s/%s: %w", namespace, OverridesName, err)
	}
	values, err := StoredFrom(charts, secret)
	if err != nil {
		return nil, err
	}
	return values, present(ctx, c, namespace, values)
}
