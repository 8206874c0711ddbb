package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// AnnotationEvictableVolumes names the volumes that do not keep the cluster autoscaler from draining a node. Without it the
// volumes of the proxy, which hold nothing worth keeping, would.
const AnnotationEvictableVolumes = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

// inherited returns the annotations that a pod takes over from its namespace: those that are for namespaces too, and that
// the pod does not have itself.
func inherited(pod, namespace map[string]string) map[string]string {
	out := map[string]string{}
	for _, key := range names.InheritableAnnotations() {
		value, ok := namespace[key]
		if _, own := pod[key]; ok && !own {
			out[key] = value
		}
	}
	return out
}

// evictable returns the value of AnnotationEvictableVolumes for a pod with a proxy. The user's own entries stay.
func (p *Pod) evictable(volumes []string) string {
	list := elements(p.Annotations[AnnotationEvictableVolumes])
	for _, v := range volumes {
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return strings.Join(list, ",")
}

// WithoutVolumes takes volumes away from a value of AnnotationEvictableVolumes.
func WithoutVolumes(value string, volumes []string) string {
	list := elements(value)
	kept := slices.DeleteFunc(slices.Clone(list), func(v string) bool { return slices.Contains(volumes, v) })
	if len(kept) == len(list) {
		return value // as it was written
	}
	return strings.Join(kept, ",")
}

// trustRootSHA256 is the value of names.AnnotationTrustRootSHA256. Blanks around the bundle come and go between a value, a
// ConfigMap and a file; they do not make another bundle.
func trustRootSHA256(bundle string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(bundle)))
	return hex.EncodeToString(sum[:])
}

// Owner is the workload that a pod belongs to, in the end: the Deployment rather than its ReplicaSet.
type Owner struct {
	// Kind in lower case; KindPod when the pod belongs to nothing.
	Kind string
	Name string
}

// ownerLabels are the kinds that a pod is labelled with. Pods of CronJobs made by the webhook carry the label as well,
// though Linkerd writes it in the CLI only: their metrics would have no owner otherwise.
var ownerLabels = []string{
	KindDeployment, KindReplicationController, KindReplicaSet, KindJob, KindDaemonSet, KindStatefulSet, KindCronJob,
}

// podLabels returns the labels that mark a meshed pod.
func podLabels(controlPlane, namespace string, owner Owner) map[string]string {
	labels := map[string]string{names.LabelControlPlaneNS: controlPlane}
	if namespace != "" {
		labels[names.LabelWorkloadNS] = namespace
	}
	// A workload's name may be longer than a label's value; a pod with such a label would be refused.
	if slices.Contains(ownerLabels, owner.Kind) && owner.Name != "" && len(validation.IsValidLabelValue(owner.Name)) == 0 {
		labels[names.LabelProxyOwnerPrefix+owner.Kind] = owner.Name
	}
	return labels
}

// merged returns a new map with all of the given ones, later ones winning.
func merged(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}
