package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// AuthorizationPolicy permits clients that satisfy all the referenced authentications to reach
// its target.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=authorizationpolicies,singular=authorizationpolicy,shortName=authzpolicy
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the controller has put it into force"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AuthorizationPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AuthorizationPolicySpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
}

// AuthorizationPolicyList is a list of AuthorizationPolicy objects.
//
// +kubebuilder:object:root=true
type AuthorizationPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []AuthorizationPolicy `json:"items"`
}

// AuthorizationPolicySpec joins a target with what is asked of its clients.
type AuthorizationPolicySpec struct {
	// TargetRef is a Server, an HTTPRoute, a GRPCRoute or the policy's own Namespace.
	TargetRef LocalTargetReference `json:"targetRef"`

	// RequiredAuthenticationRefs must all be satisfied; none permits everyone.
	RequiredAuthenticationRefs []AuthenticationReference `json:"requiredAuthenticationRefs"`
}

// AuthenticationReference names a MeshTLSAuthentication, a NetworkAuthentication or a
// ServiceAccount.
type AuthenticationReference struct {
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

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// Namespace is the object's own when empty.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Namespace string `json:"namespace,omitempty"`
}
