package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Origin says who asks for an injection.
type Origin int

// The origins.
const (
	// Webhook injects pods where an annotation asks for it.
	Webhook Origin = iota
	// CLI injects everything that does not opt out.
	CLI
)

// Reason is why an object gets no proxy. Its value is the identifier that metrics show.
type Reason string

// The reasons, in the order in which a Decision has them.
const (
	ReasonHostNetwork        Reason = "host_network_enabled"
	ReasonSidecar            Reason = "sidecar_already_exists"
	ReasonUnsupported        Reason = "unsupported_resource"
	ReasonNotEnabled         Reason = "injection_enable_annotation_absent"
	ReasonDisabled           Reason = "injection_disable_annotation_present"
	ReasonInvalidAtNamespace Reason = "invalid_inject_annotation_at_ns"
	ReasonInvalidAtWorkload  Reason = "invalid_inject_annotation_at_workload"
	ReasonNoToken            Reason = "disabled_automount_service_account_token_account"
	ReasonUDP                Reason = "udp_ports_enabled"
)

// texts are the reasons for people: in events, and in what the CLI says.
var texts = map[Reason]string{
	ReasonHostNetwork:        `hostNetwork is enabled`,
	ReasonSidecar:            `pod has a sidecar injected already`,
	ReasonUnsupported:        `this resource kind is unsupported`,
	ReasonNotEnabled:         `neither the namespace nor the pod have the annotation "linkerd.io/inject:enabled"`,
	ReasonDisabled:           `pod has the annotation "linkerd.io/inject:disabled"`,
	ReasonInvalidAtNamespace: `invalid value for annotation "linkerd.io/inject" at namespace`,
	ReasonInvalidAtWorkload:  `invalid value for annotation "linkerd.io/inject" at workload`,
	ReasonNoToken: `automountServiceAccountToken set to "false", ` +
		`with Values.identity.serviceAccountTokenProjection set to "false"`,
	ReasonUDP: `UDP port(s) configured on pod spec`,
}

// Text returns the reason for people, without a full stop.
func (r Reason) Text() string { return texts[r] }

// Values of Decision.AnnotationAt.
const (
	AtNamespace = "namespace"
	AtWorkload  = "workload"
)

// Facts are all that the decision depends on.
type Facts struct {
	Origin Origin
	// HasPod says that the object is a pod or has a template of pods.
	HasPod bool
	// HostNetwork says that the pod uses the network of its node.
	HostNetwork bool
	// Sidecar says that a proxy is already there.
	Sidecar bool
	// NoToken says that the proxy would have nothing to prove its identity with.
	NoToken bool
	// UDP says that a container has a UDP port.
	UDP bool
	// Namespace and Workload are the values of names.AnnotationInject, empty when absent.
	Namespace string
	Workload  string
}

// Decision says whether an object gets a proxy.
type Decision struct {
	// Reasons against it, none when it gets one.
	Reasons []Reason
	// AnnotationAt is where the annotation is that decided, AtNamespace or AtWorkload; empty when none did.
	AnnotationAt string
}

// Injectable says that the object gets a proxy.
func (d Decision) Injectable() bool { return len(d.Reasons) == 0 }

// Has says whether a reason is among those against.
func (d Decision) Has(r Reason) bool { return slices.Contains(d.Reasons, r) }

// Identifiers returns the reasons as metrics show them, joined by commas.
func (d Decision) Identifiers() string {
	ids := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		ids[i] = string(r)
	}
	return strings.Join(ids, ",")
}

// Text returns the reasons for people, joined by commas.
func (d Decision) Text() string {
	parts := make([]string, len(d.Reasons))
	for i, r := range d.Reasons {
		parts[i] = r.Text()
	}
	return strings.Join(parts, ", ")
}

// Decide says whether an object gets a proxy. Source: control plane chapter, section 4.2.
func Decide(f Facts) Decision {
	var d Decision
	add := func(condition bool, r Reason) {
		if condition {
			d.Reasons = append(d.Reasons, r)
		}
	}
	add(f.HostNetwork, ReasonHostNetwork)
	add(f.Sidecar, ReasonSidecar)
	add(!f.HasPod, ReasonUnsupported)
	reason, at := consent(f)
	add(reason != "", reason)
	d.AnnotationAt = at
	add(f.NoToken, ReasonNoToken)
	// The webhook is not where a person looks, and a pod that also speaks UDP is still better off meshed: what is
	// redirected is TCP alone. So only the CLI minds.
	add(f.UDP && f.Origin == CLI, ReasonUDP)
	return d
}

// consent is rule 4: whether anybody asks for injection or against it. It returns the reason against, or where the
// annotation is that asks for it.
func consent(f Facts) (reason Reason, at string) {
	if f.Origin == CLI {
		// The user names the object: only its own refusal counts.
		if f.Workload == names.InjectDisabled {
			return ReasonDisabled, AtWorkload
		}
		return "", ""
	}
	switch {
	case !validInject(f.Namespace):
		return ReasonInvalidAtNamespace, ""
	case !validInject(f.Workload):
		return ReasonInvalidAtWorkload, ""
	case enables(f.Namespace):
		if f.Workload == names.InjectDisabled {
			return ReasonDisabled, AtWorkload
		}
		return "", AtNamespace
	case enables(f.Workload):
		return "", AtWorkload
	}
	return ReasonNotEnabled, ""
}

func enables(value string) bool {
	return value == names.InjectEnabled || value == names.InjectIngress
}

func validInject(value string) bool {
	return value == "" || value == names.InjectDisabled || enables(value)
}

// Facts returns what Decide needs to know about an object. values are those of the control plane; namespace are the
// annotations of the object's namespace, nil when unknown.
func (o *Object) Facts(origin Origin, values map[string]any, namespace map[string]string) Facts {
	f := Facts{
		Origin:    origin,
		Namespace: namespace[names.AnnotationInject],
		Workload:  o.annotations()[names.AnnotationInject],
	}
	if !o.Known || o.Pod == nil {
		return f
	}
	f.HasPod = true
	f.HostNetwork = o.Pod.Spec.HostNetwork
	f.Sidecar = o.Pod.hasSidecar(valuetree.String(values, "proxy.image.name"))
	f.UDP = o.Pod.hasUDP()
	if projection, ok := valuetree.Get(values, "identity.serviceAccountTokenProjection").(bool); ok && !projection {
		f.NoToken = !o.Pod.mountsToken(origin)
	}
	return f
}

// Names and images of proxies. Names catch what comes from a private registry.
var (
	sidecarNames    = []string{names.ContainerProxy, "istio-proxy"}
	sidecarImages   = []string{"cr.l5d.io/linkerd/proxy:", "gcr.io/istio-release/proxyv2:"}
	sidecarInits    = []string{names.ContainerInit, "istio-init"}
	sidecarInitPics = []string{"cr.l5d.io/linkerd/proxy-init:", "gcr.io/istio-release/proxy_init:"}
)

// hasSidecar reports whether a pod already has a proxy, ours or another mesh's. proxyImage is the image of proxies of
// this control plane, without a tag.
func (p *Pod) hasSidecar(proxyImage string) bool {
	found := false
	p.containers(func(c *corev1.Container, init bool) {
		found = found || slices.Contains(sidecarNames, c.Name) || hasPrefix(c.Image, sidecarImages) ||
			proxyImage != "" && strings.HasPrefix(c.Image, proxyImage+":")
		if init {
			found = found || slices.Contains(sidecarInits, c.Name) || hasPrefix(c.Image, sidecarInitPics)
		}
	})
	return found
}

func hasPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// hasUDP reports whether a container, not counting init containers, has a UDP port.
func (p *Pod) hasUDP() bool {
	for _, c := range p.Spec.Containers {
		for _, port := range c.Ports {
			if port.Protocol == corev1.ProtocolUDP {
				return true
			}
		}
	}
	return false
}

// mountsToken reports whether the pod has a ServiceAccount token of the kind that Kubernetes mounts by itself. By the time
// the webhook sees a pod the mount is in its spec; in a file of the user's it is not, yet.
func (p *Pod) mountsToken(origin Origin) bool {
	if p.Spec.AutomountServiceAccountToken != nil && !*p.Spec.AutomountServiceAccountToken {
		return false
	}
	return origin == CLI || p.tokenMount() != nil
}
