package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Kinds that injection knows, in lower case singular.
const (
	KindPod                   = "pod"
	KindService               = "service"
	KindNamespace             = "namespace"
	KindDeployment            = "deployment"
	KindReplicaSet            = "replicaset"
	KindReplicationController = "replicationcontroller"
	KindDaemonSet             = "daemonset"
	KindStatefulSet           = "statefulset"
	KindJob                   = "job"
	KindCronJob               = "cronjob"
)

// groups are the API groups that have a kind. A kind of the same name in another group (a Service of Knative's, say) is
// none of ours.
var groups = map[string][]string{
	KindPod:                   {""},
	KindService:               {""},
	KindNamespace:             {""},
	KindReplicationController: {""},
	KindDeployment:            {"apps", "extensions"},
	KindReplicaSet:            {"apps", "extensions"},
	KindDaemonSet:             {"apps", "extensions"},
	KindStatefulSet:           {"apps"},
	KindJob:                   {"batch"},
	KindCronJob:               {"batch"},
}

// Where a kind keeps its pod template.
const (
	prefixWorkload = "/spec/template"
	prefixCronJob  = "/spec/jobTemplate/spec/template"
)

// ErrNotAnObject says that a document is not a Kubernetes object.
var ErrNotAnObject = errors.New("not a Kubernetes object")

// Object is what injection reads of a Kubernetes object.
type Object struct {
	// Kind in lower case, for instance `deployment`. Empty when the document has none.
	Kind string
	// Name and Namespace as the object says; either may be empty.
	Name      string
	Namespace string
	// Labels and Annotations of the object itself.
	Labels      map[string]string
	Annotations map[string]string
	// Pod is the pod or pod template, nil for objects without one.
	Pod *Pod
	// Service is the spec of a Service, nil for others.
	Service *corev1.ServiceSpec
	// Known says that the kind is one of the Kind constants, of the right API group.
	Known bool
	// OwnerReferences of the object itself.
	OwnerReferences []metav1.OwnerReference

	// hasMetadata, hasLabels and hasAnnotations tell what a patch must make first.
	meta metaParts
}

// Pod is a pod, or the template of pods in a workload.
type Pod struct {
	// Prefix is the path of the template in the object, empty for a Pod.
	Prefix string
	// Labels and Annotations of the template.
	Labels      map[string]string
	Annotations map[string]string
	// Spec of the template.
	Spec *corev1.PodSpec

	meta metaParts
}

// metaParts says which parts of an object's metadata are there, so that a patch knows what it has to make first.
type metaParts struct{ metadata, labels, annotations bool }

// metadata is what is read of an object's metadata. The rest, such as timestamps, is not looked at, so it cannot be wrong.
type metadata struct {
	Name            string                  `json:"name"`
	Namespace       string                  `json:"namespace"`
	Labels          map[string]string       `json:"labels"`
	Annotations     map[string]string       `json:"annotations"`
	OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
}

func (m *metadata) parts() metaParts {
	if m == nil {
		return metaParts{}
	}
	return metaParts{metadata: true, labels: m.Labels != nil, annotations: m.Annotations != nil}
}

type template struct {
	Metadata *metadata       `json:"metadata"`
	Spec     *corev1.PodSpec `json:"spec"`
}

// Parse reads an object in JSON. An object of a kind that is not known has only its kind and its metadata.
func Parse(data []byte) (*Object, error) {
	var document struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   json.RawMessage `json:"metadata"`
		Spec       json.RawMessage `json:"spec"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAnObject, err)
	}
	object := &Object{Kind: strings.ToLower(document.Kind)}
	object.Known = known(object.Kind, document.APIVersion)
	var meta *metadata
	if len(document.Metadata) > 0 {
		if err := json.Unmarshal(document.Metadata, &meta); err != nil {
			if !object.Known {
				// Not ours to judge: a custom document may call anything `metadata`.
				return object, nil
			}
			return nil, fmt.Errorf("%s: metadata: %w", object.Kind, err)
		}
	}
	if meta != nil {
		object.Name, object.Namespace = meta.Name, meta.Namespace
		object.Labels, object.Annotations = meta.Labels, meta.Annotations
		object.OwnerReferences = meta.OwnerReferences
	}
	object.meta = meta.parts()
	if !object.Known || len(document.Spec) == 0 {
		return object, nil
	}
	if err := object.parseSpec(document.Spec, meta); err != nil {
		return nil, fmt.Errorf("%s %q: spec: %w", object.Kind, object.Name, err)
	}
	return object, nil
}

func (o *Object) parseSpec(data []byte, meta *metadata) error {
	switch o.Kind {
	case KindNamespace:
		return nil
	case KindService:
		return json.Unmarshal(data, &o.Service)
	case KindPod:
		var spec *corev1.PodSpec
		if err := json.Unmarshal(data, &spec); err != nil {
			return err
		}
		o.setPod("", template{Metadata: meta, Spec: spec})
		return nil
	case KindCronJob:
		var spec struct {
			JobTemplate struct {
				Spec struct {
					Template template `json:"template"`
				} `json:"spec"`
			} `json:"jobTemplate"`
		}
		if err := json.Unmarshal(data, &spec); err != nil {
			return err
		}
		o.setPod(prefixCronJob, spec.JobTemplate.Spec.Template)
		return nil
	default:
		var spec struct {
			Template template `json:"template"`
		}
		if err := json.Unmarshal(data, &spec); err != nil {
			return err
		}
		o.setPod(prefixWorkload, spec.Template)
		return nil
	}
}

// setPod takes a template over if it has what a pod needs.
func (o *Object) setPod(prefix string, t template) {
	if t.Spec == nil {
		return
	}
	o.Pod = &Pod{Prefix: prefix, Spec: t.Spec, meta: t.Metadata.parts()}
	if t.Metadata != nil {
		o.Pod.Labels, o.Pod.Annotations = t.Metadata.Labels, t.Metadata.Annotations
	}
}

// known reports whether a kind, in lower case, is one of ours. A document without API version is believed.
func known(kind, apiVersion string) bool {
	allowed, ok := groups[kind]
	if !ok || apiVersion == "" {
		return ok
	}
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = ""
	}
	for _, g := range allowed {
		if g == group {
			return true
		}
	}
	return false
}

// IsControlPlane says that the object or its pods are a part of the control plane.
func (o *Object) IsControlPlane() bool {
	if _, ok := o.Labels[names.LabelControlPlaneComponent]; ok {
		return true
	}
	if o.Pod == nil {
		return false
	}
	_, ok := o.Pod.Labels[names.LabelControlPlaneComponent]
	return ok
}

// Annotatable says that plain injection may write annotations on the object.
func (o *Object) Annotatable() bool {
	return o.Known && (o.Pod != nil || o.Kind == KindService || o.Kind == KindNamespace)
}

// annotations are those that configure the proxy: of the pods where there are any, else of the object.
func (o *Object) annotations() map[string]string {
	if o.Pod != nil {
		return o.Pod.Annotations
	}
	return o.Annotations
}

// containers calls f for the init containers and then the containers of a pod.
func (p *Pod) containers(f func(c *corev1.Container, init bool)) {
	for i := range p.Spec.InitContainers {
		f(&p.Spec.InitContainers[i], true)
	}
	for i := range p.Spec.Containers {
		f(&p.Spec.Containers[i], false)
	}
}
