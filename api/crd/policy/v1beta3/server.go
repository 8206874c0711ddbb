package v1beta3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Server selects a port of pods or external workloads and says how the proxy
// treats it and who may connect.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=servers,singular=server,shortName=srv
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Port",type=string,JSONPath=`.spec.port`,description="The port that a server is listening on"
// +kubebuilder:printcolumn:name="Protocol",type=string,JSONPath=`.spec.proxyProtocol`,description="The protocol of the server"
// +kubebuilder:printcolumn:name="Access Policy",type=string,JSONPath=`.spec.accessPolicy`,description="The default access policy applied when the traffic doesn't match any of the policy rules"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the controller has put it into force"
type Server struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerSpec `json:"spec"`
	// +optional
	Status Status `json:"status,omitempty"`
}

// ServerList is a list of Server objects.
//
// +kubebuilder:object:root=true
type ServerList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Server `json:"items"`
}

// ServerSpec selects pods or external workloads and a port of theirs.
//
// +kubebuilder:validation:ExactlyOneOf=podSelector;externalWorkloadSelector
type ServerSpec struct {
	// PodSelector selects pods of the namespace; an empty one selects all.
	//
	// +optional
	PodSelector *metav1.LabelSelector `json:"podSelector,omitempty"`

	// ExternalWorkloadSelector selects external workloads of the namespace; an empty one
	// selects all.
	//
	// +optional
	ExternalWorkloadSelector *metav1.LabelSelector `json:"externalWorkloadSelector,omitempty"`

	// Port is the number or the name of a container port.
	Port intstr.IntOrString `json:"port"`

	// ProxyProtocol says what clients speak: unknown, HTTP/1, HTTP/2, gRPC, opaque or TLS.
	//
	// +optional
	// +kubebuilder:default=unknown
	ProxyProtocol string `json:"proxyProtocol,omitempty"`

	// AccessPolicy applies to traffic that no authorization matches: all-authenticated,
	// all-unauthenticated, cluster-authenticated, cluster-unauthenticated, deny or audit.
	//
	// +optional
	// +kubebuilder:default=deny
	AccessPolicy string `json:"accessPolicy,omitempty"`
}
