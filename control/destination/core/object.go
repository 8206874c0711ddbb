package core

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// ID names an object of a kind.
type ID struct{ Namespace, Name string }

func (id ID) String() string { return id.Namespace + "/" + id.Name }

// Ports is a list of ports given by an annotation. A list that is present replaces the default list, even if it is empty.
type Ports struct {
	Present bool
	Set     portlist.Set
}

// or returns the list if it is present, or else the default list.
func (p Ports) or(defaults portlist.Set) portlist.Set {
	if p.Present {
		return p.Set
	}
	return defaults
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name string
	Port uint16
}

// Service is what matters of a Service.
type Service struct {
	ID
	// ExternalName says that the Service is an alias of a DNS name, which is Alias, and has no endpoints of its own.
	ExternalName bool
	// Alias has no dot at its end, and is in lower case.
	Alias string
	// ClusterIPs are the virtual addresses, none for a headless Service.
	ClusterIPs []netip.Addr
	Ports      []ServicePort
	// Opaque are the ports, by the numbers of this Service, that its annotation makes opaque.
	Opaque Ports
	// LocalTraffic says that clients shall reach only endpoints on their own node.
	LocalTraffic bool
	// MirrorCluster is the cluster that a mirror's Service is in, and MirrorName that Service's qualified name there.
	MirrorCluster, MirrorName string
	// RemoteCluster and RemoteService say that the endpoints are found in another cluster.
	RemoteCluster, RemoteService string
	// FederatedRemotes (`<service>@<cluster>,...`) and FederatedLocal say that the endpoints are those of several Services.
	FederatedRemotes, FederatedLocal string
	// Federated says that one of the two annotations is there, even if empty.
	Federated bool
}

// Elsewhere reports whether the endpoints are not the Service's own, but those of a Service of another cluster, or of several
// Services.
func (s *Service) Elsewhere() bool { return s.Federated || s.RemoteCluster != "" }

// port returns the port with a number.
func (s *Service) port(number uint16) (ServicePort, bool) {
	for _, p := range s.Ports {
		if p.Port == number {
			return p, true
		}
	}
	return ServicePort{}, false
}

// TargetKind is the kind of object that an endpoint stands for.
type TargetKind uint8

const (
	// TargetNone is an endpoint made by hand: an address and nothing else.
	TargetNone TargetKind = iota
	// TargetPod is a pod.
	TargetPod
	// TargetExternalWorkload is a machine outside the cluster.
	TargetExternalWorkload
	// TargetOther is of a kind that the mesh does not know; such endpoints are left out.
	TargetOther
)

// SliceEndpoint is one endpoint of a Slice.
type SliceEndpoint struct {
	// Addrs are usually one.
	Addrs    []netip.Addr
	Kind     TargetKind
	Target   ID
	Hostname string
	Zone     string
	// ForZones are the zones whose clients should use the endpoint; none means no hint.
	ForZones []string
}

// SlicePort is one port of a Slice.
type SlicePort struct {
	Name string
	Port uint16
}

// Slice is a part of a Service's endpoints that share their ports: an EndpointSlice, or a subset of an Endpoints object.
// It holds only endpoints that are ready.
type Slice struct {
	ID
	// Service is the Service that it belongs to.
	Service ID
	// IPv6 says which of the two families the addresses have.
	IPv6      bool
	Ports     []SlicePort
	Endpoints []SliceEndpoint
	// GatewayIdentity and GatewayName are the identity of the gateway that the addresses are of, and the qualified name of
	// the Service behind it.
	GatewayIdentity, GatewayName string
}

// Owner names the object that owns another.
type Owner struct{ Kind, Name string }

// ContainerPort is one port that a pod declares.
type ContainerPort struct {
	Name           string
	Port, HostPort uint16
}

// ProxyPorts are the ports on which a pod's proxy listens.
type ProxyPorts struct {
	// Known says that the pod has a proxy and that all three ports could be read from it.
	Known                   bool
	Inbound, Admin, Control uint16
}

// Pod is what matters of a pod.
type Pod struct {
	ID
	Labels         map[string]string
	ServiceAccount string
	Node           string
	// Owners are the direct owners.
	Owners []Owner
	// Running says that the pod runs and is not being terminated; only then its addresses lead to it.
	Running     bool
	HostNetwork bool
	// IPs are the pod's addresses, the primary one first; HostIPs are those of its node.
	IPs, HostIPs []netip.Addr
	Ports        []ContainerPort
	// Opaque are the ports that the pod's annotation makes opaque.
	Opaque Ports
	// SkipInbound are the ports that bypass the pod's proxy.
	SkipInbound portlist.Set
	Proxy       ProxyPorts
}

// ExternalWorkload is what matters of an ExternalWorkload.
type ExternalWorkload struct {
	ID
	Labels   map[string]string
	Owners   []Owner
	IPs      []netip.Addr
	Ports    []ContainerPort // without host ports
	Identity string
	// ServerName is the name to ask for in the TLS handshake.
	ServerName string
	// Opaque are the ports that the annotation makes opaque.
	Opaque Ports
}

// inboundPort returns where the workload's proxy listens.
func (w *ExternalWorkload) inboundPort() uint16 {
	for _, p := range w.Ports {
		if p.Name == portNameProxy {
			return p.Port
		}
	}
	return defaultInboundPort
}

// Server is what matters of a policy Server that makes a port opaque; others are of no interest here.
type Server struct {
	ID
	// Selector selects pods, or external workloads, in the Server's namespace.
	Selector          labels.Selector
	ExternalWorkloads bool
	// Port is the port's number, or 0 if PortName is set.
	Port     uint16
	PortName string
}

// selects reports whether the Server is about a port of an object with the given labels and declared ports. number may be
// a port of the container or, for clients that come through the node, a host port.
func (s *Server) selects(objectLabels map[string]string, declared []ContainerPort, number uint16) bool {
	if !s.Selector.Matches(labels.Set(objectLabels)) {
		return false
	}
	if s.PortName == "" {
		return s.Port == number
	}
	for _, p := range declared {
		if p.Name == s.PortName && (p.Port == number || p.HostPort == number) {
			return true
		}
	}
	return false
}
