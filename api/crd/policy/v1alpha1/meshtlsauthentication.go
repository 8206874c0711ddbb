package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// MeshTLSAuthentication is a set of mesh identities that clients may have.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=meshtlsauthentications,singular=meshtlsauthentication,shortName=meshtlsauthn
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the controller has put it into force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type MeshTLSAuthentication struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec MeshTLSAuthenticationSpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
}

// MeshTLSAuthenticationList is a list of MeshTLSAuthentication objects.
//
// +kubebuilder:object:root=true
type MeshTLSAuthenticationList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshTLSAuthentication `json:"items"`
}

// MeshTLSAuthenticationSpec lists identities in one of two ways.
//
// +kubebuilder:validation:ExactlyOneOf=identities;identityRefs
type MeshTLSAuthenticationSpec struct {
	// Identities are whole names, `*`, a suffix after `*.`, or `spiffe://` URIs.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	Identities []string `json:"identities,omitempty"`

	// IdentityRefs are the objects whose identities clients may have.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	IdentityRefs []IdentityReference `json:"identityRefs,omitempty"`
}

// IdentityReference names a ServiceAccount, or a Namespace for all that are in it.
type IdentityReference struct {
	// Group is empty for the core group.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Group string `json:"group,omitempty"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Kind string `json:"kind"`

	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// Namespace is the object's own when empty.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Namespace string `json:"namespace,omitempty"`
}
