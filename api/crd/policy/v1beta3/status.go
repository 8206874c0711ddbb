package v1beta3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status says whether a Server, an authorization or an authentication is in force. It is an
// addition to upstream's kinds, and the same in all of their versions, so that none loses what
// another has.
type Status struct {
	// Conditions are `Accepted`, with the reason if the object is not in force.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
