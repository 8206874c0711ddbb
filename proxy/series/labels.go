package series

import (
	"net/netip"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// The rendered label groups of the proxy chapter, section 23.1.

// Directions and peers.
const (
	InboundLabel  = `direction="inbound"`
	OutboundLabel = `direction="outbound"`
	SrcLabel      = `peer="src"`
	DstLabel      = `peer="dst"`
)

// Target renders target_addr, target_ip and target_port.
func Target(a netip.AddrPort) string {
	return metric.Labels("target_addr", a.String(), "target_ip", a.Addr().String(), "target_port", strconv.Itoa(int(a.Port())))
}

// Reason says why a connection is not mesh TLS.
type Reason string

// The reasons; values of the label no_tls_reason.
const (
	Loopback               Reason = "loopback"
	PortSkipped            Reason = "port_skipped"
	NoTLSFromRemote        Reason = "no_tls_from_remote"
	NotProvided            Reason = "not_provided_by_service_discovery"
	IngressWithoutOverride Reason = "ingress_without_override"
)

// TLSState is how the TLS of a connection came out.
type TLSState uint8

// The states.
const (
	// TLSNone: no mesh TLS, for a reason.
	TLSNone TLSState = iota
	// TLSMesh: mesh TLS, with or without a client identity.
	TLSMesh
	// TLSOpaque: the application's own TLS, passed through.
	TLSOpaque
)

// ServerTLS is the TLS of an accepted connection. It is comparable.
type ServerTLS struct {
	State TLSState
	// Client is who the peer proved to be; zero if it presented no certificate.
	Client model.Identity
	// SNI is what a passed-through ClientHello asked for.
	SNI string
	// Reason is set with TLSNone.
	Reason Reason
}

// Labels renders the TLS-IN group.
func (t ServerTLS) Labels() string {
	switch t.State {
	case TLSMesh:
		return metric.Labels("tls", "true", "client_id", t.Client.String())
	case TLSOpaque:
		return metric.Labels("tls", "opaque", "sni", t.SNI)
	}
	return metric.Labels("tls", "no_identity", "no_tls_reason", string(t.Reason))
}

// ClientTLS renders the TLS-OUT group: server is the identity asked for, or
// zero and why there is none.
func ClientTLS(server model.Identity, why Reason) string {
	if !server.IsZero() {
		return metric.Labels("tls", "true", "server_id", server.String())
	}
	return metric.Labels("tls", "no_identity", "no_tls_reason", string(why))
}

// Server renders the SRV group.
func Server(m model.Meta, port uint16) string {
	return metric.Labels("srv_group", m.Group, "srv_kind", m.Kind, "srv_name", m.Name, "srv_port", strconv.Itoa(int(port)))
}

// InboundParent renders the parent labels of the inbound registry families,
// which have no namespace.
func InboundParent(m model.Meta, port uint16) string {
	return metric.Labels("parent_group", m.Group, "parent_kind", m.Kind, "parent_name", m.Name, "parent_port", strconv.Itoa(int(port)))
}

// Route renders the ROUTE group.
func Route(m model.Meta) string {
	return metric.Labels("route_group", m.Group, "route_kind", m.Kind, "route_name", m.Name)
}

// Authz renders the AUTHZ group.
func Authz(m model.Meta) string {
	return metric.Labels("authz_group", m.Group, "authz_kind", m.Kind, "authz_name", m.Name)
}

// Dst renders the DST group.
func Dst(l model.Labels) string {
	pairs := make([]string, 0, 2*len(l))
	for _, e := range l {
		pairs = append(pairs, "dst_"+labelName(e.Key), e.Value)
	}
	return metric.Labels(pairs...)
}

// labelName makes a label name of what the control plane sent, which a
// Prometheus parser would refuse the whole exposition for otherwise.
func labelName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if !(c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9') {
			b[i] = '_'
		}
	}
	return string(b)
}

// Parent renders the PARENT group.
func Parent(m model.Meta) string { return reference("parent_", m) }

// Backend renders the BACKEND group.
func Backend(m model.Meta) string { return reference("backend_", m) }

func reference(prefix string, m model.Meta) string {
	return metric.Labels(prefix+"group", m.Group, prefix+"kind", m.Kind, prefix+"namespace", m.Namespace,
		prefix+"name", m.Name, prefix+"port", m.PortLabel(), prefix+"section_name", m.Section)
}

// RouteRef renders the ROUTEREF group.
func RouteRef(m model.Meta) string {
	return metric.Labels("route_group", m.Group, "route_kind", m.Kind, "route_namespace", m.Namespace, "route_name", m.Name)
}

// ProfileRoute renders the labels of profile route metrics.
func ProfileRoute(direction, dst string, l model.Labels) string {
	pairs := []string{"dst", dst}
	for _, e := range l {
		pairs = append(pairs, "rt_"+labelName(e.Key), e.Value)
	}
	return metric.Join(direction, metric.Labels(pairs...))
}
