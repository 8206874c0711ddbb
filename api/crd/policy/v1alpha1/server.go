package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// Server selects a port of pods or external workloads and says how the proxy
// treats it and who may connect.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=servers,singular=server,shortName=srv
// +kubebuilder:subresource:status
// +kubebuilder:deprecatedversion:warning="policy.linkerd.io/v1alpha1 Server is deprecated; use policy.linkerd.io/v1beta1 Server"
type Server struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerSpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
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

// ServerSpec selects pods and a port of theirs.
type ServerSpec struct {
	// PodSelector selects pods of the namespace, by labels or by expressions.
	//
	// +kubebuilder:validation:XValidation:rule="has(self.matchLabels) != has(self.matchExpressions)",message="exactly one of matchLabels and matchExpressions must be set"
	PodSelector metav1.LabelSelector `json:"podSelector"`

	// Port is the number or the name of a container port.
	Port intstr.IntOrString `json:"port"`

	// ProxyProtocol says what clients speak: unknown, HTTP/1, HTTP/2, gRPC, opaque or TLS.
	//
	// +optional
	// +kubebuilder:default=unknown
	ProxyProtocol string `json:"proxyProtocol,omitempty"`
}
