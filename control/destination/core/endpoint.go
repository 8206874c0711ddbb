package core

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

const (
	portNameProxy      = names.PortNameProxyInbound
	defaultInboundPort = names.PortProxyInbound
	// weight is the weight of every endpoint: proxies balance by load.
	weight = 10000
	// zoneWeight is the factor for endpoints in the client's zone, with Config.ZoneWeights.
	zoneWeight = 10
)

// Config are the settings that shape the answers. Source: proxy API chapter, section 3.1.
type Config struct {
	// ControllerNamespace and TrustDomain are part of identities.
	ControllerNamespace, TrustDomain string
	// Peers are the namespaces of other control planes whose certificates are below the same trust anchors and the same trust
	// domain.
	Peers []string
	// ClusterDomain is the end of the names of Services.
	ClusterDomain string
	// TransportHeader says that every meshed endpoint is reached at its proxy's inbound port, not only opaque ports.
	TransportHeader bool
	// H2Upgrade says that proxies shall carry HTTP/1 over HTTP/2 between each other.
	H2Upgrade bool
	// IPv6 says that clients can use IPv6.
	IPv6 bool
	// DefaultOpaque are the opaque ports of objects without an annotation.
	DefaultOpaque portlist.Set
	// ZoneWeights gives endpoints in the client's zone a higher weight.
	ZoneWeights bool
}

// Hint is the protocol that a meshed endpoint shall be spoken to in.
type Hint uint8

const (
	// HintNone leaves the protocol to the client.
	HintNone Hint = iota
	// HintH2 carries HTTP/1 over HTTP/2.
	HintH2
	// HintOpaque is a port whose protocol is not to be looked at.
	HintOpaque
)

// Identity is whom to expect at an endpoint. The zero value is nobody: no mTLS.
type Identity struct {
	// DNS and URI are the two forms of a name in a certificate; at most one is set.
	DNS, URI string
	// ServerName is what to ask for in the TLS handshake.
	ServerName string
}

// Endpoint is one address and how to speak to it. Source: proxy API chapter, section 3.6.
type Endpoint struct {
	Addr   netip.AddrPort
	Weight uint32
	// Labels are the metric labels, without zone_locality, which depends on the client.
	Labels   map[string]string
	Identity Identity
	Hint     Hint
	// InboundPort is where the proxy takes connections with a transport header; 0 if it is not to be used.
	InboundPort uint16
	// Authority replaces the authority of requests, for a gateway.
	Authority string
	// Meshed says that the configured HTTP/2 parameters apply.
	Meshed bool
}

// Equal reports whether two endpoints are the same to a client.
func (e *Endpoint) Equal(other *Endpoint) bool {
	return e.Addr == other.Addr && e.Weight == other.Weight && e.Identity == other.Identity && e.Hint == other.Hint &&
		e.InboundPort == other.InboundPort && e.Authority == other.Authority && e.Meshed == other.Meshed &&
		maps.Equal(e.Labels, other.Labels)
}

// Lookup is how translations read objects that others refer to. The index remembers what was read, to translate again
// when it changes.
type Lookup interface {
	// Pod returns a pod, or nil.
	Pod(ID) *Pod
	// ExternalWorkload returns an external workload, or nil.
	ExternalWorkload(ID) *ExternalWorkload
	// Owners returns the owners of a ReplicaSet or a Job, and none of anything else.
	Owners(namespace string, owner Owner) []Owner
	// OpaqueServers returns the Servers of a namespace that make ports opaque.
	OpaqueServers(namespace string) []*Server
}

// podEndpoint translates a pod at an address. The port is the number that decides about opacity and skipping.
func (c *Config) podEndpoint(lookup Lookup, pod *Pod, addr netip.AddrPort) *Endpoint {
	port := addr.Port()
	e := &Endpoint{Addr: addr, Weight: weight, Labels: c.podLabels(lookup, pod)}
	controlPlane := pod.Labels[names.LabelControlPlaneNS]
	if controlPlane == "" || pod.SkipInbound.Has(port) {
		return e
	}
	opaque := c.podOpaque(lookup, pod, port)
	var inbound uint16
	if c.TransportHeader || opaque {
		if !pod.Proxy.Known {
			// The label says meshed but there is no proxy to connect to. The chapter's server leaves such an endpoint
			// out; section 13, item 7, asks for it to be an unmeshed one.
			return e
		}
		if port != pod.Proxy.Admin && port != pod.Proxy.Control {
			inbound = pod.Proxy.Inbound
		}
	}
	e.Meshed = true
	e.InboundPort = inbound
	switch {
	case opaque:
		e.Hint = HintOpaque
	case c.H2Upgrade:
		e.Hint = HintH2
	}
	// Another control plane's certificates may be below other trust anchors, unless we are told.
	if (controlPlane == c.ControllerNamespace || slices.Contains(c.Peers, controlPlane)) && c.TrustDomain != "" {
		name := names.ServiceAccountIdentity(pod.ServiceAccount, pod.Namespace, controlPlane, c.TrustDomain)
		e.Identity = Identity{DNS: name, ServerName: name}
	}
	return e
}

func (c *Config) podOpaque(lookup Lookup, pod *Pod, port uint16) bool {
	if pod.Opaque.or(c.DefaultOpaque).Has(port) {
		return true
	}
	for _, server := range lookup.OpaqueServers(pod.Namespace) {
		if !server.ExternalWorkloads && server.selects(pod.Labels, pod.Ports, port) {
			return true
		}
	}
	return false
}

// podLabels returns the metric labels of a pod. Source: proxy API chapter, section 3.7.
func (c *Config) podLabels(lookup Lookup, pod *Pod) map[string]string {
	account := pod.ServiceAccount
	if account == "" {
		account = names.DefaultServiceAccount
	}
	labels := map[string]string{"pod": pod.Name, "serviceaccount": account}
	if owner, ok := rootOwner(lookup, pod.Namespace, pod.Owners); ok {
		kind := strings.ToLower(owner.Kind)
		if kind == "job" {
			// Prometheus has a label of that name for itself.
			kind = "k8s_job"
		}
		labels[kind] = owner.Name
	}
	if v, ok := pod.Labels[names.LabelControlPlaneNS]; ok {
		labels["control_plane_ns"] = v
	}
	if v, ok := pod.Labels[labelPodTemplateHash]; ok {
		labels["pod_template_hash"] = v
	}
	return labels
}

const labelPodTemplateHash = "pod-template-hash"

// rootOwner returns the owner that users know: the Deployment of a ReplicaSet, the CronJob of a Job. An object with several
// owners has none.
func rootOwner(lookup Lookup, namespace string, owners []Owner) (Owner, bool) {
	if len(owners) != 1 {
		return Owner{}, false
	}
	owner := owners[0]
	if owner.Kind == "ReplicaSet" || owner.Kind == "Job" {
		if above := lookup.Owners(namespace, owner); len(above) == 1 {
			return above[0], true
		}
	}
	return owner, true
}

// externalEndpoint translates an external workload at an address.
func (c *Config) externalEndpoint(lookup Lookup, w *ExternalWorkload, addr netip.AddrPort) *Endpoint {
	port := addr.Port()
	e := &Endpoint{
		Addr: addr, Weight: weight, Labels: map[string]string{"external_workload": w.Name},
		Identity: Identity{URI: w.Identity, ServerName: w.ServerName},
		Hint:     HintH2, Meshed: true,
	}
	opaque := c.externalOpaque(lookup, w, port)
	if opaque {
		e.Hint = HintOpaque
	}
	if opaque || c.TransportHeader {
		e.InboundPort = w.inboundPort()
	}
	return e
}

func (c *Config) externalOpaque(lookup Lookup, w *ExternalWorkload, port uint16) bool {
	if w.Opaque.or(c.DefaultOpaque).Has(port) {
		return true
	}
	for _, server := range lookup.OpaqueServers(w.Namespace) {
		if server.ExternalWorkloads && server.selects(w.Labels, w.Ports, port) {
			return true
		}
	}
	return false
}

// refEndpoint translates an address that stands for no object: one made by hand, or a gateway's. servicePort is the port
// that the client asked for.
func (c *Config) refEndpoint(slice *Slice, addr netip.AddrPort, servicePort uint16) *Endpoint {
	e := &Endpoint{Addr: addr, Weight: weight, Labels: map[string]string{}}
	if slice.GatewayIdentity != "" {
		e.Identity.DNS = slice.GatewayIdentity
		e.Meshed = true
		if c.H2Upgrade {
			e.Hint = HintH2
		}
	}
	if slice.GatewayName != "" {
		e.Authority = slice.GatewayName + ":" + strconv.Itoa(int(servicePort))
	}
	return e
}
