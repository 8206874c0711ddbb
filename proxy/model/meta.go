package model

import "strconv"

// KindDefault is the kind of a Meta that stands for an implicit configuration
// rather than for a cluster resource.
const KindDefault = "default"

// Names of the implicit configurations that the proxy makes up by itself
// (proxy chapter, section 10; proxy API chapter, section 1.5).
const (
	// DefaultEndpoint: forwarded to the endpoint of a profile.
	DefaultEndpoint = "endpoint"
	// DefaultFallback: forwarded to the original destination.
	DefaultFallback = "fallback"
	// DefaultGateway: gateway traffic forwarded to the endpoint of a profile.
	DefaultGateway = "gateway"
	// DefaultProfile: ingress traffic balanced over a profile's name.
	DefaultProfile = "profile"
	// DefaultIngress: the parent of ingress-mode connections.
	DefaultIngress = "ingress"
	// DefaultInvalid: the policy that was received failed validation.
	DefaultInvalid = "invalid"
	// DefaultLocalhost: the implicit authorization of local clients.
	DefaultLocalhost = "localhost"
)

// Meta names the thing a piece of configuration comes from: a cluster resource
// or, with Kind "default", an implicit configuration that has only a name. It
// is comparable, so it can key maps and metrics.
type Meta struct {
	Group     string
	Kind      string
	Namespace string
	Name      string
	// Section is the section name within the resource, often empty.
	Section string
	// Port is 0 if the reference is to the whole resource.
	Port uint16
}

// Default is the Meta of the implicit configuration called name.
func Default(name string) Meta { return Meta{Kind: KindDefault, Name: name} }

// IsDefault reports whether m stands for an implicit configuration.
func (m Meta) IsDefault() bool { return m.Kind == KindDefault && m.Group == "" }

// PortLabel is the port as it stands in metric labels: empty for none.
func (m Meta) PortLabel() string {
	if m.Port == 0 {
		return ""
	}
	return strconv.Itoa(int(m.Port))
}

// String is for logs: "default/all-unauthenticated" or "core/Service/ns/web:80".
func (m Meta) String() string {
	if m.IsDefault() {
		return "default/" + m.Name
	}
	s := m.Group + "/" + m.Kind + "/" + m.Namespace + "/" + m.Name
	if m.Section != "" {
		s += "/" + m.Section
	}
	if m.Port != 0 {
		s += ":" + strconv.Itoa(int(m.Port))
	}
	return s
}
