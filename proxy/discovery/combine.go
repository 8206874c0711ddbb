package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// The combination of profile and policy to a target (proxy API chapter, section
// 1.5). Pure functions: profile is nil for "no profile", policy nil for "no
// policy".

// combineAddr is for the original destination of a connection.
func combineAddr(dst netip.AddrPort, profile *model.Profile, policy *model.ClientPolicy) *model.Target {
	if policy == nil {
		switch {
		case profile == nil:
			policy = model.ForwardPolicy(model.DefaultFallback, &model.Endpoint{Addr: dst})
		case profile.Endpoint != nil:
			policy = model.ForwardPolicy(model.DefaultEndpoint, profile.Endpoint)
		default:
			policy = model.ForwardPolicy(model.DefaultEndpoint, &model.Endpoint{Addr: dst})
		}
	}
	return target(profile, policy, dst.Port())
}

// combineIngress is for a name that an ingress controller asks for.
func combineIngress(name string, port uint16, profile *model.Profile, policy *model.ClientPolicy) (*model.Target, error) {
	if policy == nil {
		switch {
		case profile != nil && profile.Endpoint != nil:
			policy = model.ForwardPolicy(model.DefaultEndpoint, profile.Endpoint)
		case profile != nil && profile.Name != "":
			policy = model.BalancePolicy(model.DefaultProfile, hostPort(profile.Name, port))
		default:
			return nil, fmt.Errorf("ingress-mode routing requires discovery: %s: %w", hostPort(name, port), lookup.ErrNotDiscovered)
		}
	}
	return target(profile, policy, port), nil
}

// combineGateway is for the name in a transport header.
func combineGateway(name string, port uint16, profile *model.Profile, policy *model.ClientPolicy) (*model.Target, error) {
	if profile == nil || profile.Name == "" && profile.Endpoint == nil {
		return nil, fmt.Errorf("%s has no profile: %w", hostPort(name, port), lookup.ErrNotDiscovered)
	}
	if policy == nil {
		if profile.Endpoint != nil {
			policy = model.ForwardPolicy(model.DefaultGateway, profile.Endpoint)
		} else {
			policy = model.InvalidClientPolicy("there is neither a policy nor an endpoint for the gateway's target")
		}
	}
	return target(profile, policy, port), nil
}

// target works the profile's overrides in.
func target(profile *model.Profile, policy *model.ClientPolicy, port uint16) *model.Target {
	t := &model.Target{Policy: policy, Profile: profile}
	if profile == nil {
		return t
	}
	t.Opaque = profile.Opaque
	if profile.Name != "" {
		t.Path = hostPort(profile.Name, port)
		t.ProfileHTTP = len(profile.Routes) > 0 || len(profile.Overrides) > 0
		t.ProfileTCP = len(profile.Overrides) > 0
	}
	return t
}

func hostPort(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
