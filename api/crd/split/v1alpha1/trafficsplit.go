package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TrafficSplit shares the traffic to a service among backends.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=trafficsplits,singular=trafficsplit,shortName=ts
// +kubebuilder:printcolumn:name="Service",type=string,JSONPath=`.spec.service`,description="The service that is split"
type TrafficSplit struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec TrafficSplitSpec `json:"spec"`
}

// TrafficSplitList is a list of TrafficSplit objects.
//
// +kubebuilder:object:root=true
type TrafficSplitList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TrafficSplit `json:"items"`
}

// TrafficSplitSpec says which service is split and how.
type TrafficSplitSpec struct {
	// Service is the name that clients use.
	Service string `json:"service"`

	// Backends share its traffic.
	Backends []Backend `json:"backends"`
}

// Backend is a share of the traffic.
type Backend struct {
	// Service is where the share goes.
	Service string `json:"service"`

	// Weight is relative to those of the other backends; a number or a quantity.
	Weight intstr.IntOrString `json:"weight"`
}
