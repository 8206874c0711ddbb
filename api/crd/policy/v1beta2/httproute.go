package v1beta2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
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

	Spec HTTPRouteSpec `json:"spec"`
	// +optional
	Status v1beta3.RouteStatus `json:"status,omitempty"`
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

// HTTPRouteSpec says which requests are meant and what happens to them.
type HTTPRouteSpec struct {
	// +optional
	// +kubebuilder:validation:MaxItems=32
	ParentRefs []v1beta3.ParentReference `json:"parentRefs,omitempty"`

	// Hostnames of the requests; none matches all.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Hostnames []string `json:"hostnames,omitempty"`

	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:default={{matches: {{path: {type: "PathPrefix", value: "/"}}}}}
	Rules []HTTPRouteRule `json:"rules,omitempty"`
}

// HTTPRouteRule says what happens to requests that one of its matches selects.
type HTTPRouteRule struct {
	// +optional
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:default={{path: {type: "PathPrefix", value: "/"}}}
	Matches []v1beta3.HTTPRouteMatch `json:"matches,omitempty"`

	// Filters apply in order.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Filters []v1beta3.HTTPRouteFilter `json:"filters,omitempty"`

	// BackendRefs share the requests by weight; none means the parent itself.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	BackendRefs []v1beta3.HTTPBackendRef `json:"backendRefs,omitempty"`
}
