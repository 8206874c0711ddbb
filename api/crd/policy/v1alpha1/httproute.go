package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
)

// HTTPRoute matches requests to its parents and says what happens to them. It has the shape
// of the Gateway API kind of the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=httproutes,singular=httproute
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Hostnames",type=string,JSONPath=`.spec.hostnames`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HTTPRoute struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec v1beta1.HTTPRouteSpec `json:"spec"`
	// +optional
	Status v1beta1.RouteStatus `json:"status,omitempty"`
}

// HTTPRouteList is a list of HTTPRoute objects.
//
// +kubebuilder:object:root=true
type HTTPRouteList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPRoute `json:"items"`
}
