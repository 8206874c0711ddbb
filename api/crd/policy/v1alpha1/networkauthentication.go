package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkAuthentication is a set of networks that clients may be in.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=networkauthentications,singular=networkauthentication,shortName=netauthn;networkauthn
type NetworkAuthentication struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NetworkAuthenticationSpec `json:"spec"`
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
