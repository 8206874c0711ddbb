package names

import "strings"

// identityMiddle stands between a workload's namespace and the control plane's in a mesh
// identity.
const identityMiddle = "serviceaccount.identity"

// DefaultServiceAccount is the account of pods that name none.
const DefaultServiceAccount = "default"

// An Identity is the parts of a workload's mesh identity. Its string form is the DNS name in
// the workload's certificate (proxy API chapter, section 1.3):
//
//	<serviceaccount>.<namespace>.serviceaccount.identity.<control plane namespace>.<trust domain>
type Identity struct {
	ServiceAccount        string
	Namespace             string
	ControlPlaneNamespace string
	TrustDomain           string
}

// String returns the DNS name of the identity.
func (id Identity) String() string {
	return ServiceAccountIdentity(id.ServiceAccount, id.Namespace, id.ControlPlaneNamespace, id.TrustDomain)
}

// ServiceAccountIdentity returns the mesh identity of a ServiceAccount. An empty account is
// the namespace's default one.
func ServiceAccountIdentity(serviceAccount, namespace, controlPlaneNamespace, trustDomain string) string {
	if serviceAccount == "" {
		serviceAccount = DefaultServiceAccount
	}
	return serviceAccount + "." + namespace + "." + identityMiddle + "." + controlPlaneNamespace + "." + trustDomain
}

// NamespaceIdentity returns the wildcard that matches the mesh identities of all
// ServiceAccounts in a namespace.
func NamespaceIdentity(namespace, controlPlaneNamespace, trustDomain string) string {
	return "*." + namespace + "." + identityMiddle + "." + controlPlaneNamespace + "." + trustDomain
}

// ParseIdentity splits a mesh identity in its parts. It returns false for other names, such
// as the identities of external workloads. A ServiceAccount's name may contain dots, a
// namespace's name may not.
func ParseIdentity(name string) (Identity, bool) {
	// The first match would be wrong for a ServiceAccount that is itself named after the
	// middle part, the last for a trust domain that contains it. Neither name is one that a
	// user would choose; the last is taken because a trust domain is under the control of the
	// mesh's operator, and an account is not.
	at := strings.LastIndex(name, "."+identityMiddle+".")
	if at < 0 {
		return Identity{}, false
	}
	workload, mesh := name[:at], name[at+len(identityMiddle)+2:]
	dot := strings.LastIndexByte(workload, '.')
	if dot < 0 {
		return Identity{}, false
	}
	controlPlane, trustDomain, found := strings.Cut(mesh, ".")
	id := Identity{
		ServiceAccount:        workload[:dot],
		Namespace:             workload[dot+1:],
		ControlPlaneNamespace: controlPlane,
		TrustDomain:           trustDomain,
	}
	if !found || id.ServiceAccount == "" || id.Namespace == "" || controlPlane == "" || trustDomain == "" {
		return Identity{}, false
	}
	return id, true
}
