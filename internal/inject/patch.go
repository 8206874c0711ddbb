package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Op is one operation of a JSON patch (RFC 6902).
type Op struct {
	// Op is `add` or `remove`.
	Op string `json:"op"`
	// Path is a JSON pointer (RFC 6901).
	Path string `json:"path"`
	// Value of an `add`.
	Value any `json:"value,omitempty"`
}

// Patch is a JSON patch. An empty one changes nothing.
type Patch []Op

// JSON encodes the patch.
func (p Patch) JSON() ([]byte, error) { return json.Marshal(p) }

func (p *Patch) add(path string, value any) { *p = append(*p, Op{Op: "add", Path: path, Value: value}) }

// addMap adds the entries of a map, sorted by key, below path, and the map itself where there is none.
func (p *Patch) addMap(path string, exists bool, entries map[string]string) {
	if len(entries) == 0 {
		return
	}
	if !exists {
		p.add(path, map[string]any{})
	}
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		p.add(path+"/"+escape(key), entries[key])
	}
}

// escape writes a key as one step of a JSON pointer.
func escape(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// metadata begins a patch: annotations and labels, below prefix.
func (p *Patch) metadata(prefix string, meta metaParts, annotations, labels map[string]string) {
	if !meta.metadata && len(annotations)+len(labels) > 0 {
		p.add(prefix+"/metadata", map[string]any{})
	}
	p.addMap(prefix+"/metadata/annotations", meta.annotations, annotations)
	p.addMap(prefix+"/metadata/labels", meta.labels, labels)
}

// Annotate returns the patch that writes annotations, and nothing else, on the pods of an object, or on the object itself
// where it has none.
func (o *Object) Annotate(annotations map[string]string) Patch {
	var p Patch
	prefix, meta := "", o.meta
	if o.Pod != nil {
		prefix, meta = o.Pod.Prefix, o.Pod.meta
	}
	p.metadata(prefix, meta, annotations, nil)
	return p
}

// A Renderer renders the patch chart: the operations on a pod's spec, as JSON. The values are those of the control plane
// with what charts/patch/values.yaml asks for in addition. It may be called from any goroutine, and may change values.
type Renderer func(values map[string]any) ([]byte, error)

// ErrNoTrustAnchors says that the proxy would trust nobody.
var ErrNoTrustAnchors = errors.New("Please provide the identity trust anchors") //nolint:staticcheck // The text is what users know.

// Injection gives an object a proxy. It does not ask whether it should: see Decide.
type Injection struct {
	// Object has a Pod.
	Object *Object
	Origin Origin
	// Namespace is that of the pods, empty when unknown.
	Namespace string
	// NamespaceAnnotations are those of the namespace, nil when unknown.
	NamespaceAnnotations map[string]string
	// Owner of the pods.
	Owner Owner
	// ControlPlaneNamespace is where the control plane is.
	ControlPlaneNamespace string
	// CreatedBy is the value of names.AnnotationCreatedBy.
	CreatedBy string
	// Values of the control plane, with the trust anchors in force. They are not changed.
	Values map[string]any
}

// Result is a patch, and what was wrong with the annotations without making it impossible.
type Result struct {
	Patch    Patch
	Warnings []Warning
}

// Patch returns the patch that injects. An error means that there can be no proxy in this pod. Source: control plane
// chapter, sections 4.4 and 4.5.
func (i Injection) Patch(render Renderer) (Result, error) {
	pod := i.Object.Pod
	annotations := map[string]string{names.AnnotationCreatedBy: i.CreatedBy}
	if i.Origin == Webhook {
		maps.Copy(annotations, inherited(pod.Annotations, i.NamespaceAnnotations))
		if list, ok := i.Object.OpaquePorts(i.Values, i.NamespaceAnnotations); ok {
			annotations[names.AnnotationOpaquePorts] = list
		}
	}
	values, warnings, err := override(i.Values, pod, merged(pod.Annotations, annotations), i.NamespaceAnnotations)
	if err != nil {
		return Result{}, err
	}
	if err := check(values); err != nil {
		return Result{}, err
	}
	anchors := valuetree.String(values, "identityTrustAnchorsPEM")
	if strings.TrimSpace(anchors) == "" {
		return Result{}, ErrNoTrustAnchors
	}
	annotations[names.AnnotationProxyVersion] = firstNonEmpty(valuetree.String(values, "proxy.image.version"), valuetree.String(values, "linkerdVersion"))
	annotations[names.AnnotationTrustRootSHA256] = trustRootSHA256(anchors)
	annotations[AnnotationEvictableVolumes] = pod.evictable(addedVolumes(values))
	if i.Object.IsControlPlane() {
		// Components of the control plane reach themselves over loopback. Elsewhere a workload that happens to have the
		// name of a component must not.
		valuetree.Set(values, "proxy.component", i.Owner.Name)
	}
	valuetree.Set(values, "patch.prefix", pod.Prefix)
	valuetree.Set(values, "patch.addVolumes", len(pod.Spec.Volumes) == 0)
	valuetree.Set(values, "patch.addInitContainers", len(pod.Spec.InitContainers) == 0)
	valuetree.Set(values, "patch.ends", pod.ends())

	var p Patch
	p.metadata(pod.Prefix, pod.meta, annotations, podLabels(i.ControlPlaneNamespace, i.Namespace, i.Owner))
	data, err := render(values)
	if err != nil {
		return Result{}, fmt.Errorf("rendering the proxy: %w", err)
	}
	var spec Patch
	if err := json.Unmarshal(data, &spec); err != nil {
		return Result{}, fmt.Errorf("rendering the proxy: the result is not a JSON patch: %w", err)
	}
	for _, op := range spec {
		// A template that is not YAML becomes, by Helm's fromYaml, a map that says so.
		if v, ok := op.Value.(map[string]any); ok && v["name"] == nil {
			return Result{}, fmt.Errorf("rendering the proxy: %s %s: %v", op.Op, op.Path, v)
		}
	}
	p = append(p, spec...)
	if _, ok := pod.Annotations[names.AnnotationInject]; ok && i.Origin == CLI {
		// The proxy is in already; the webhook need not think about this pod.
		p = append(p, Op{Op: "remove", Path: pod.Prefix + "/metadata/annotations/" + escape(names.AnnotationInject)})
	}
	return Result{Patch: p, Warnings: warnings}, nil
}

// check refuses values that no proxy could run with, whatever its annotations.
func check(values map[string]any) error {
	for _, network := range elements(valuetree.String(values, "clusterNetworks")) {
		if _, err := netip.ParsePrefix(network); err != nil {
			return fmt.Errorf("value clusterNetworks: cannot parse %q as a network in CIDR notation", network)
		}
	}
	if valuetree.Bool(values, "proxy.tracing.enabled") {
		for _, path := range []string{
			"proxy.tracing.collector.endpoint",
			"proxy.tracing.collector.meshIdentity.serviceAccountName",
			"proxy.tracing.collector.meshIdentity.namespace",
		} {
			if valuetree.String(values, path) == "" {
				return fmt.Errorf("value %s must be set if proxy tracing is enabled", path)
			}
		}
	}
	return nil
}

// addedVolumes names the volumes on the node that the patch will add.
func addedVolumes(values map[string]any) []string {
	volumes := []string{names.VolumeIdentityEndEntity}
	if !valuetree.Bool(values, "cniEnabled") {
		volumes = append(volumes, firstNonEmpty(valuetree.String(values, "proxyInit.xtMountPath.name"), names.VolumeXtablesLock))
	}
	return volumes
}

func firstNonEmpty(options ...string) string {
	for _, o := range options {
		if o != "" {
			return o
		}
	}
	return ""
}
