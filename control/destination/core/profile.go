package core

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// RetryBudget limits retries.
type RetryBudget struct {
	Ratio        float32
	MinPerSecond uint32
	TTL          time.Duration
}

// DefaultRetryBudget is that of profiles that set none.
var DefaultRetryBudget = RetryBudget{Ratio: 0.2, MinPerSecond: 10, TTL: 10 * time.Second}

// RequestMatch is a condition on requests: exactly one field is set.
type RequestMatch struct {
	All, Any []RequestMatch
	Not      *RequestMatch
	// Path is a regular expression for the whole path.
	Path string
	// Method is in upper case.
	Method string
}

// ResponseMatch is a condition on responses: exactly one field is set.
type ResponseMatch struct {
	All, Any []ResponseMatch
	Not      *ResponseMatch
	// Status is a range, bounds included; 0 is unset.
	Status *StatusRange
}

// StatusRange is a range of HTTP status codes.
type StatusRange struct{ Min, Max uint32 }

// ResponseClass says how to count responses that match.
type ResponseClass struct {
	Condition ResponseMatch
	IsFailure bool
}

// Route is one route of a ServiceProfile.
type Route struct {
	Name      string
	Condition RequestMatch
	Classes   []ResponseClass
	Retryable bool
	// Timeout is 0 for none.
	Timeout time.Duration
}

// Override is one target of a traffic split.
type Override struct {
	// Authority has a port only if the profile gives one.
	Authority string
	Weight    uint32
}

// ServiceProfile is a translated ServiceProfile.
type ServiceProfile struct {
	ID
	Routes    []Route
	Budget    RetryBudget
	Overrides []Override
	// Opaque are ports of the Service that are opaque, besides those that the Service says itself.
	Opaque portlist.Set
}

// Profile is the answer about a destination. Source: proxy API chapter, sections 4.2 and 4.5.
type Profile struct {
	// Name is the qualified name of the Service, empty for an endpoint's profile.
	Name string
	// Service and Port are the parent that the profile is of.
	Service ID
	Port    uint16
	// ServiceProfile is where the routes are from; empty if there is none.
	ServiceProfile ID
	Routes         []Route
	Budget         RetryBudget
	Overrides      []Override
	Opaque         bool
	// Endpoint is set if the destination is a single endpoint.
	Endpoint *Endpoint
	// Undefined says that the Service has no such port: an empty answer, apart from that there is one.
	Undefined bool

	// Wire keeps the message.
	Wire Wire[any]
}

// Equal reports whether two profiles are the same to a client.
func (p *Profile) Equal(other *Profile) bool {
	if (p.Endpoint == nil) != (other.Endpoint == nil) || p.Endpoint != nil && !p.Endpoint.Equal(other.Endpoint) {
		return false
	}
	return p.Name == other.Name && p.Service == other.Service && p.Port == other.Port && p.Opaque == other.Opaque &&
		p.Undefined == other.Undefined && p.Budget == other.Budget && p.ServiceProfile == other.ServiceProfile &&
		slices.Equal(p.Overrides, other.Overrides) && reflect.DeepEqual(p.Routes, other.Routes)
}

// ServiceProfileName is the name of the ServiceProfile of a Service, and the Service's qualified name.
func (c *Config) ServiceProfileName(service ID) string {
	return service.Name + "." + service.Namespace + ".svc." + c.ClusterDomain
}

// ErrExternalName is the error for a Service that is an alias and cannot be discovered.
var ErrExternalName = errors.New("service is of type ExternalName")

// ServiceProfileOf returns the profile of a port of a Service. custom is its ServiceProfile, or nil.
func (c *Config) ServiceProfileOf(service *Service, port uint16, custom *ServiceProfile) (*Profile, error) {
	if _, ok := service.port(port); !ok {
		return &Profile{Undefined: true}, nil
	}
	if service.ExternalName {
		return nil, ErrExternalName
	}
	profile := &Profile{
		Name: c.ServiceProfileName(service.ID), Service: service.ID, Port: port,
		Budget: DefaultRetryBudget,
		Opaque: service.Opaque.or(c.DefaultOpaque).Has(port),
	}
	if custom != nil {
		profile.ServiceProfile = custom.ID
		profile.Routes, profile.Budget = custom.Routes, custom.Budget
		profile.Opaque = profile.Opaque || custom.Opaque.Has(port)
		for _, o := range custom.Overrides {
			if !strings.Contains(o.Authority, ":") {
				o.Authority = fmt.Sprintf("%s:%d", o.Authority, port)
			}
			profile.Overrides = append(profile.Overrides, o)
		}
	}
	return profile, nil
}

// PodProfile returns the profile of an address that leads to a pod.
func (c *Config) PodProfile(lookup Lookup, pod *Pod, addr netip.AddrPort) *Profile {
	endpoint := c.podEndpoint(lookup, pod, addr)
	endpoint.Labels["namespace"] = pod.Namespace
	// The zone is only known from a slice.
	endpoint.Labels["zone"] = ""
	return &Profile{Budget: DefaultRetryBudget, Opaque: c.podOpaque(lookup, pod, addr.Port()), Endpoint: endpoint}
}

// ExternalProfile returns the profile of an address that leads to an external workload.
func (c *Config) ExternalProfile(lookup Lookup, workload *ExternalWorkload, addr netip.AddrPort) *Profile {
	endpoint := c.externalEndpoint(lookup, workload, addr)
	if owner, ok := rootOwner(lookup, workload.Namespace, workload.Owners); ok {
		endpoint.Labels[owner.Kind] = owner.Name
	}
	endpoint.Labels["zone"] = ""
	return &Profile{Budget: DefaultRetryBudget, Opaque: endpoint.Hint == HintOpaque, Endpoint: endpoint}
}

// BareProfile returns the profile of an address that leads to nothing known.
func (c *Config) BareProfile(addr netip.AddrPort) *Profile {
	return &Profile{
		Budget:   DefaultRetryBudget,
		Opaque:   c.DefaultOpaque.Has(addr.Port()),
		Endpoint: &Endpoint{Addr: addr, Weight: weight, Labels: map[string]string{}},
	}
}
