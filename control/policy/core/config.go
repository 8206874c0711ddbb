package core

import (
	"fmt"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// Config are the settings that shape the answers. Source: proxy API chapter, section 5.1.
type Config struct {
	// ControllerNamespace is where the control plane is; it is part of every mesh identity.
	ControllerNamespace string
	// TrustDomain is the DNS name below which all identities are.
	TrustDomain string
	// ClusterDomain is the end of the names of Services.
	ClusterDomain string
	// ClusterNetworks are the addresses inside the cluster.
	ClusterNetworks []netip.Prefix
	// ProbeNetworks are where the kubelet's probes come from; none means that probes get no route of their own.
	ProbeNetworks []netip.Prefix
	// DefaultPolicy applies to ports that no Server selects, unless the workload says otherwise.
	DefaultPolicy DefaultPolicy
	// DefaultOpaquePorts are the opaque ports of Services and EgressNetworks without an annotation.
	DefaultOpaquePorts portlist.Set
	// AllowRequestHeaders lets clients set timeouts and retries by request headers, on routes that users made.
	AllowRequestHeaders bool
	// GlobalEgressNamespace is where EgressNetworks apply to clients of all namespaces that have none of their own.
	GlobalEgressNamespace string
}

// inCluster reports whether an address is in the cluster's networks.
func (c *Config) inCluster(addr netip.Addr) bool {
	for _, network := range c.ClusterNetworks {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// DefaultPolicy is the name of a policy that no resource defines.
type DefaultPolicy string

// The default policies. Source: proxy API chapter, section 5.3.
const (
	AllUnauthenticated     DefaultPolicy = names.DefaultPolicyAllUnauthenticated
	AllAuthenticated       DefaultPolicy = names.DefaultPolicyAllAuthenticated
	ClusterUnauthenticated DefaultPolicy = names.DefaultPolicyClusterUnauthenticated
	ClusterAuthenticated   DefaultPolicy = names.DefaultPolicyClusterAuthenticated
	Audit                  DefaultPolicy = names.DefaultPolicyAudit
	Deny                   DefaultPolicy = names.DefaultPolicyDeny
)

// ParseDefaultPolicy reads the name of a default policy.
func ParseDefaultPolicy(name string) (DefaultPolicy, error) {
	switch p := DefaultPolicy(name); p {
	case AllUnauthenticated, AllAuthenticated, ClusterUnauthenticated, ClusterAuthenticated, Audit, Deny:
		return p, nil
	}
	return "", fmt.Errorf("%q is none of %s, %s, %s, %s, %s, %s", name,
		AllAuthenticated, AllUnauthenticated, ClusterAuthenticated, ClusterUnauthenticated, Deny, Audit)
}

// Set implements flag.Value.
func (p *DefaultPolicy) Set(name string) (err error) {
	*p, err = ParseDefaultPolicy(name)
	return err
}

// String implements flag.Value.
func (p *DefaultPolicy) String() string { return string(*p) }

// authenticated returns the policy that asks the same clients for an identity.
func (p DefaultPolicy) authenticated() DefaultPolicy {
	switch p {
	case AllUnauthenticated:
		return AllAuthenticated
	case ClusterUnauthenticated:
		return ClusterAuthenticated
	}
	return p
}
