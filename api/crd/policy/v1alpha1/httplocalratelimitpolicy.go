package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HTTPLocalRateLimitPolicy limits the rate of requests that each proxy of a Server lets in.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=httplocalratelimitpolicies,singular=httplocalratelimitpolicy
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Target_kind",type=string,JSONPath=`.spec.targetRef.kind`,description="The resource kind to which the rate-limit applies"
// +kubebuilder:printcolumn:name="Target_name",type=string,JSONPath=`.spec.targetRef.name`,description="The resource name to which the rate-limit applies"
// +kubebuilder:printcolumn:name="Total_RPS",type=integer,JSONPath=`.spec.total.requestsPerSecond`,description="Maximum requests per second for all clients together"
// +kubebuilder:printcolumn:name="Identity_RPS",type=integer,JSONPath=`.spec.identity.requestsPerSecond`,description="Maximum requests per second for each client identity"
type HTTPLocalRateLimitPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HTTPLocalRateLimitPolicySpec `json:"spec"`
	// +optional
	Status HTTPLocalRateLimitPolicyStatus `json:"status,omitempty"`
}

// HTTPLocalRateLimitPolicyList is a list of HTTPLocalRateLimitPolicy objects.
//
// +kubebuilder:object:root=true
type HTTPLocalRateLimitPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPLocalRateLimitPolicy `json:"items"`
}

// HTTPLocalRateLimitPolicySpec sets limits; an unset one does not apply.
type HTTPLocalRateLimitPolicySpec struct {
	// TargetRef is a Server.
	TargetRef LocalTargetReference `json:"targetRef"`

	// Total applies to all clients together.
	//
	// +optional
	Total *Limit `json:"total,omitempty"`

	// Identity applies to each client identity on its own. Unauthenticated clients share one.
	//
	// +optional
	Identity *Limit `json:"identity,omitempty"`

	// Overrides apply to particular clients in place of Identity.
	//
	// +optional
	Overrides []Override `json:"overrides,omitempty"`
}

// Limit is a rate.
type Limit struct {
	RequestsPerSecond int64 `json:"requestsPerSecond"`
}

// Override is a rate for particular clients.
type Override struct {
	RequestsPerSecond int64 `json:"requestsPerSecond"`

	// ClientRefs are ServiceAccounts.
	ClientRefs []ClientReference `json:"clientRefs"`
}

// ClientReference names a ServiceAccount.
type ClientReference struct {
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

	// Namespace is the object's own when empty.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// HTTPLocalRateLimitPolicyStatus says whether the policy is in force.
type HTTPLocalRateLimitPolicyStatus struct {
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// TargetRef is the target that the conditions are about.
	TargetRef StatusTargetReference `json:"targetRef"`
}

// StatusTargetReference names the target that a status is about.
type StatusTargetReference struct {
	// +optional
	// +kubebuilder:default=policy.linkerd.io
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Group string `json:"group,omitempty"`

	// +optional
	// +kubebuilder:default=Server
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Kind string `json:"kind,omitempty"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}
