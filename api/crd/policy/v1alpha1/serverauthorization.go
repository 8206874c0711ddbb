package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// ServerAuthorization permits clients to connect to Servers of its namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=serverauthorizations,singular=serverauthorization,shortName=saz;serverauthz;srvauthz
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion:warning="policy.linkerd.io/v1alpha1 ServerAuthorization is deprecated; use policy.linkerd.io/v1beta1 ServerAuthorization"
type ServerAuthorization struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec v1beta1.ServerAuthorizationSpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
}

// ServerAuthorizationList is a list of ServerAuthorization objects.
//
// +kubebuilder:object:root=true
type ServerAuthorizationList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServerAuthorization `json:"items"`
}
