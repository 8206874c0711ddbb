package v1beta1

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
	Status RouteStatus `json:"status,omitempty"`
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
	ParentRefs []ParentReference `json:"parentRefs,omitempty"`

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

	// +optional
	BackendRefs []HTTPBackendRef `json:"backendRefs,omitempty"`
}

// ParentReference names an object that a route is attached to: a Server, a Service or an
// EgressNetwork.
type ParentReference struct {
	// +optional
	// +kubebuilder:default=policy.linkerd.io
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Group *string `json:"group,omitempty"`

	// +optional
	// +kubebuilder:default=Gateway
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Kind *string `json:"kind,omitempty"`

	// Namespace is the route's own when unset.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace *string `json:"namespace,omitempty"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// SectionName is a named part of the parent.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	SectionName *string `json:"sectionName,omitempty"`

	// Port restricts the route to one port of the parent.
	//
	// +optional
	Port *int32 `json:"port,omitempty"`
}

// RouteStatus has the state of a route at each parent.
type RouteStatus struct {
	// +kubebuilder:validation:MaxItems=32
	Parents []RouteParentStatus `json:"parents"`
}

// RouteParentStatus is the state of a route at one parent.
type RouteParentStatus struct {
	ParentRef ParentReference `json:"parentRef"`

	// ControllerName is who wrote the state.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$`
	ControllerName string `json:"controllerName"`

	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// HTTPBackendRef names a Service.
type HTTPBackendRef struct {
	// +optional
	Name string `json:"name,omitempty"`

	// +optional
	Port *int32 `json:"port,omitempty"`

	// +optional
	// +kubebuilder:default=default
	Namespace *string `json:"namespace,omitempty"`

	// +optional
	Filters []v1beta3.HTTPBackendFilter `json:"filters,omitempty"`
}
