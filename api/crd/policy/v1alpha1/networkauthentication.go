package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// NetworkAuthentication is a set of networks that clients may be in.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=networkauthentications,singular=networkauthentication,shortName=netauthn;networkauthn
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the controller has put it into force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NetworkAuthentication struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NetworkAuthenticationSpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
}

// NetworkAuthenticationList is a list of NetworkAuthentication objects.
//
// +kubebuilder:object:root=true
type NetworkAuthenticationList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkAuthentication `json:"items"`
}

// NetworkAuthenticationSpec lists networks.
type NetworkAuthenticationSpec struct {
	// Networks are alternatives.
	Networks []Network `json:"networks"`
}
