package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EgressNetwork is a set of networks outside the cluster, with a policy for traffic to them,
// and a parent for routes.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=egressnetworks,singular=egressnetwork,categories=policy
// +kubebuilder:subresource:status
type EgressNetwork struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EgressNetworkSpec `json:"spec"`
	// +optional
	Status EgressNetworkStatus `json:"status,omitempty"`
}

// EgressNetworkList is a list of EgressNetwork objects.
//
// +kubebuilder:object:root=true
type EgressNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EgressNetwork `json:"items"`
}

// EgressNetworkSpec lists networks and says what happens to traffic that no route governs.
type EgressNetworkSpec struct {
	// Networks are everything outside the cluster's networks when unset.
	//
	// +optional
	Networks []Network `json:"networks,omitempty"`

	// TrafficPolicy applies to traffic that no route governs.
	TrafficPolicy TrafficPolicy `json:"trafficPolicy"`
}

// TrafficPolicy permits traffic or refuses it.
//
// +kubebuilder:validation:Enum=Allow;Deny
type TrafficPolicy string

// The traffic policies.
const (
	TrafficPolicyAllow TrafficPolicy = "Allow"
	TrafficPolicyDeny  TrafficPolicy = "Deny"
)

// EgressNetworkStatus says whether the network is in force.
type EgressNetworkStatus struct {
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
