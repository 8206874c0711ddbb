package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// Label and value of everything that was proposed here, so that it can be found,
// changed and removed together.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "linkerd-policy-generate"
)

const policyGroup = "policy.linkerd.io"

// server is a workload with what was seen of it.
type server struct {
	kind, namespace, name string
	// label is the name that resources of it begin with: the name, with the kind
	// where that is not enough.
	label    string
	selector *metav1.LabelSelector
	pods     []*corev1.Pod
	ports    map[uint16]*traffic
}

// settings shape proposals.
type settings struct {
	// accessPolicy is that of the Servers.
	accessPolicy string
	// routes asks for policies of routes where there are any.
	routes bool
	// networks are where clients without identity may be.
	networks []string
	// controlPlane and trustDomain are those of identities that are
	// ServiceAccounts of this mesh.
	controlPlane, trustDomain string
}

// document is one resource, with a comment about it.
type document struct {
	comment []string
	object  map[string]any
}

// finding is what is to be said of one port.
type finding struct {
	port uint16
	name string
	// text is about what was seen and what is proposed.
	text string
	// warning: somebody should look at it.
	warning bool
}

// propose turns what was seen of a workload into resources. existing are the
// Servers of the namespace.
func propose(s *server, existing []v1beta3.Server, set settings) ([]document, []finding) {
	var documents []document
	var findings []finding
	numbers := map[uint16]string{}
	for _, pod := range s.pods {
		for port, name := range declared(pod) {
			numbers[port] = cmp.Or(numbers[port], name)
		}
	}
	ports := make([]uint16, 0, len(numbers))
	for port := range numbers {
		ports = append(ports, port)
	}
	own := ownPorts(s.pods)
	for port, t := range s.ports {
		if _, known := numbers[port]; !known && !own[port] && (t.seen() || t.refused.any()) {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	for _, port := range ports {
		t := s.ports[port]
		f := finding{port: port, name: numbers[port]}
		if t == nil || !t.seen() {
			f.text, f.warning = "nothing was seen, so nothing is proposed, and the default policy goes on to apply", true
			if t != nil && t.refused.any() {
				f.text = fmt.Sprintf("nobody was let in, so nothing is proposed; refused were %s", t.refused.report())
			}
			findings = append(findings, f)
			continue
		}
		f.text = t.report()
		before, generated := serverFor(s, port, existing)
		switch {
		case before != nil && !generated && !(set.routes && len(t.routes) > 0):
			f.text += fmt.Sprintf("; Server %s, which was not generated, is for this port: nothing is proposed", before.Name)
			f.warning = true
		case before != nil && !generated:
			documents = append(documents, s.forRoutes(before.Name, t, set)...)
			f.text += fmt.Sprintf("; policies for the routes of Server %s, which was not generated, are proposed", before.Name)
		default:
			made, notes := s.forPort(port, t, before, set)
			documents = append(documents, made...)
			for _, note := range notes {
				f.text += "; " + note
			}
		}
		if t.refused.any() {
			f.text += fmt.Sprintf("; refused, and not in the proposal for it, were %s", t.refused.report())
			f.warning = true
		}
		findings = append(findings, f)
	}
	return documents, findings
}

// report says what was seen.
func (t *traffic) report() string { return t.what() + " from " + t.clients.report() }

// report names clients, those that came most often first.
func (c *clients) report() string {
	var from []string
	for _, id := range c.byCount() {
		from = append(from, fmt.Sprintf("%s (%.0f)", short(id), c.identities[id]))
	}
	if c.unmeshed > 0 {
		from = append(from, fmt.Sprintf("clients without identity (%.0f)", c.unmeshed))
	}
	return strings.Join(from, ", ")
}

// short is the part of an identity that people know.
func short(identity string) string {
	if id, ok := names.ParseIdentity(identity); ok {
		return id.ServiceAccount + "." + id.Namespace
	}
	return identity
}

// declared returns the TCP ports of the application's containers, with their
// names.
func declared(pod *corev1.Pod) map[uint16]string {
	ports := map[uint16]string{}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, c := range containers {
			if c.Name == workload.ProxyContainer {
				continue
			}
			for _, p := range c.Ports {
				if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
					ports[uint16(p.ContainerPort)] = p.Name
				}
			}
		}
	}
	return ports
}

// ownPorts are those of the proxies themselves, whose clients are not the
// application's.
func ownPorts(pods []*corev1.Pod) map[uint16]bool {
	ports := map[uint16]bool{}
	for _, pod := range pods {
		proxy := workload.Proxy(pod)
		if proxy == nil {
			continue
		}
		for _, p := range proxy.Ports {
			ports[uint16(p.ContainerPort)] = true
		}
		for _, e := range proxy.Env {
			// Not all of them are container ports.
			if e.Name == "LINKERD2_PROXY_CONTROL_LISTEN_ADDR" || e.Name == "LINKERD2_PROXY_ADMIN_LISTEN_ADDR" || e.Name == "LINKERD2_PROXY_INBOUND_LISTEN_ADDR" {
				if i := strings.LastIndexByte(e.Value, ':'); i >= 0 {
					var port uint16
					if _, err := fmt.Sscan(e.Value[i+1:], &port); err == nil {
						ports[port] = true
					}
				}
			}
		}
	}
	return ports
}

// probes says how the kubelet asks a port for health.
type probes struct {
	// http is in HTTP/1, which proxies let in by themselves, as they do gRPC;
	// other is by connecting, as clients without identity do.
	http, other bool
}

func probesOf(pods []*corev1.Pod, port uint16) (found probes) {
	is := func(c *corev1.Container, at intstr.IntOrString) bool {
		if at.Type == intstr.Int {
			return at.IntVal == int32(port)
		}
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == at.StrVal && p.ContainerPort == int32(port) })
	}
	for _, pod := range pods {
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for i := range containers {
				c := &containers[i]
				for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
					switch {
					case p == nil:
					case p.HTTPGet != nil:
						found.http = found.http || is(c, p.HTTPGet.Port)
					case p.TCPSocket != nil:
						found.other = found.other || is(c, p.TCPSocket.Port)
					}
				}
			}
		}
	}
	return found
}

// serverFor finds the Server that is in force at a port, and whether it was
// generated by an earlier run.
func serverFor(s *server, port uint16, existing []v1beta3.Server) (found *v1beta3.Server, generated bool) {
	for i := range existing {
		e := &existing[i]
		selector, err := metav1.LabelSelectorAsSelector(e.Spec.PodSelector)
		if err != nil || e.Spec.PodSelector == nil {
			continue
		}
		applies := slices.ContainsFunc(s.pods, func(pod *corev1.Pod) bool {
			if !selector.Matches(labels.Set(pod.Labels)) {
				return false
			}
			if e.Spec.Port.Type == intstr.String {
				return declared(pod)[port] == e.Spec.Port.StrVal
			}
			return e.Spec.Port.IntVal == int32(port)
		})
		if applies && (found == nil || older(e, found)) {
			found = e
		}
	}
	return found, found != nil && found.Labels[labelManagedBy] == managedBy
}

// older reports whether a Server displaces another one (proxy API chapter,
// section 5.4).
func older(a, b *v1beta3.Server) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Name < b.Name
}

// forPort proposes a Server and its policies. before is what an earlier run made,
// or nil.
func (s *server) forPort(port uint16, t *traffic, before *v1beta3.Server, set settings) (documents []document, notes []string) {
	name := fmt.Sprintf("%s-%d", s.label, port)
	kept := ""
	if before != nil {
		kept = before.Spec.ProxyProtocol
	}
	probed := probesOf(s.pods, port)
	protocol, why := t.protocol(kept, probed.http)
	if set.routes && len(t.routes) > 0 {
		documents = s.forRoutes(name, t, set)
	} else {
		documents = s.policies(name, targetRef(policyGroup, "Server", name), &t.clients, set)
	}
	// The Server comes last, so that nobody is refused while its policies are
	// still being applied.
	d := document{object: s.object("Server", "v1beta3", name, map[string]any{
		"podSelector":   selectorMap(s.selector),
		"port":          int64(port),
		"proxyProtocol": protocol,
		"accessPolicy":  set.accessPolicy,
	})}
	if why != "" {
		d.comment = []string{sentence(why)}
		notes = append(notes, why)
	}
	documents = append(documents, d)
	if probed.other && t.unmeshed > 0 {
		notes = append(notes, "the kubelet, which probes it by TCP, is among the clients without identity, so that their networks have to contain the nodes")
	}
	documents[0].comment = append([]string{fmt.Sprintf("Port %d of %s %s:", port, s.kind, s.name)}, documents[0].comment...)
	return documents, notes
}

// forRoutes proposes policies for routes instead of for their Server.
func (s *server) forRoutes(prefix string, t *traffic, set settings) []document {
	refs := make([]routeRef, 0, len(t.routes))
	for ref := range t.routes {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b routeRef) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.kind, b.kind), cmp.Compare(a.group, b.group))
	})
	var documents []document
	for _, ref := range refs {
		documents = append(documents, s.policies(prefix+"-"+ref.name, targetRef(ref.group, ref.kind, ref.name), t.routes[ref], set)...)
	}
	return documents
}

func targetRef(group, kind, name string) map[string]any {
	return map[string]any{"group": group, "kind": kind, "name": name}
}

// policies proposes what lets the clients in at a target.
func (s *server) policies(name string, target map[string]any, c *clients, set settings) []document {
	var documents []document
	if ids := c.names(); len(ids) > 0 {
		documents = append(documents,
			document{object: s.object("MeshTLSAuthentication", "v1alpha1", name, identitySpec(ids, set))},
			document{object: s.object("AuthorizationPolicy", "v1alpha1", name, map[string]any{
				"targetRef":                  target,
				"requiredAuthenticationRefs": []any{targetRef(policyGroup, "MeshTLSAuthentication", name)},
			})})
	}
	if c.unmeshed > 0 {
		name += "-unmeshed"
		var networks []any
		for _, n := range set.networks {
			networks = append(networks, map[string]any{"cidr": n})
		}
		documents = append(documents,
			document{
				comment: []string{
					"Clients without identity were seen: they are outside of the mesh, and proxies do not",
					"count their addresses. This lets in all such clients from the networks below: narrow",
					"them down to where these clients are, or mesh the clients and remove it.",
				},
				object: s.object("NetworkAuthentication", "v1alpha1", name, map[string]any{"networks": networks}),
			},
			document{object: s.object("AuthorizationPolicy", "v1alpha1", name, map[string]any{
				"targetRef":                  target,
				"requiredAuthenticationRefs": []any{targetRef(policyGroup, "NetworkAuthentication", name)},
			})})
	}
	return documents
}

// identitySpec lists identities: as ServiceAccounts if all of them are such of
// this mesh, else as they are, for a MeshTLSAuthentication has one or the other.
func identitySpec(ids []string, set settings) map[string]any {
	var refs, plain []any
	for _, id := range ids {
		plain = append(plain, id)
		parsed, ok := names.ParseIdentity(id)
		if ok && parsed.ControlPlaneNamespace == set.controlPlane && parsed.TrustDomain == set.trustDomain {
			refs = append(refs, map[string]any{"kind": "ServiceAccount", "name": parsed.ServiceAccount, "namespace": parsed.Namespace})
		}
	}
	if len(refs) == len(ids) {
		slices.SortFunc(refs, func(a, b any) int {
			x, y := a.(map[string]any), b.(map[string]any)
			return cmp.Or(cmp.Compare(x["namespace"].(string), y["namespace"].(string)), cmp.Compare(x["name"].(string), y["name"].(string)))
		})
		return map[string]any{"identityRefs": refs}
	}
	return map[string]any{"identities": plain}
}

func (s *server) object(kind, version, name string, spec map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": policyGroup + "/" + version,
		"kind":       kind,
		"metadata": map[string]any{
			"name": name, "namespace": s.namespace, "labels": map[string]any{labelManagedBy: managedBy},
		},
		"spec": spec,
	}
}

// selectorMap is a selector as it stands in a manifest.
func selectorMap(s *metav1.LabelSelector) map[string]any {
	out := map[string]any{}
	if len(s.MatchLabels) > 0 {
		m := map[string]any{}
		for k, v := range s.MatchLabels {
			m[k] = v
		}
		out["matchLabels"] = m
	}
	var expressions []any
	for _, e := range s.MatchExpressions {
		x := map[string]any{"key": e.Key, "operator": string(e.Operator)}
		if len(e.Values) > 0 {
			var values []any
			for _, v := range e.Values {
				values = append(values, v)
			}
			x["values"] = values
		}
		expressions = append(expressions, x)
	}
	if expressions != nil {
		out["matchExpressions"] = expressions
	}
	return out
}

// sentence makes a sentence of a phrase.
func sentence(phrase string) string { return strings.ToUpper(phrase[:1]) + phrase[1:] + "." }
