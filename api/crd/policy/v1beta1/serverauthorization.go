package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
)

// ServerAuthorization permits clients to connect to Servers of its namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=serverauthorizations,singular=serverauthorization,shortName=saz;serverauthz;srvauthz
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Server",type=string,JSONPath=`.spec.server.name`,description="The server that this grants access to"
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`,description="Whether the controller has put it into force"
type ServerAuthorization struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ServerAuthorizationSpec `json:"spec"`
	// +optional
	Status v1beta3.Status `json:"status,omitempty"`
}

// ServerAuthorizationList is a list of ServerAuthorization objects.
//
// +kubebuilder:object:root=true
type ServerAuthorizationList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServerAuthorization `json:"items"`
}

// ServerAuthorizationSpec says which clients may connect to which Servers.
type ServerAuthorizationSpec struct {
	// Server selects Servers of the namespace.
	Server ServerReference `json:"server"`

	// Client says who may connect.
	Client Client `json:"client"`
}

// ServerReference selects Servers by name or by label.
//
// +kubebuilder:validation:ExactlyOneOf=name;selector
type ServerReference struct {
	// +optional
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Client describes clients by address and authentication.
type Client struct {
	// Networks are where clients may be; none means the cluster's networks.
	//
	// +optional
	Networks []Network `json:"networks,omitempty"`

	// Unauthenticated permits clients without mesh TLS.
	//
	// +optional
	Unauthenticated bool `json:"unauthenticated,omitempty"`

	// MeshTLS permits clients with mesh TLS.
	//
	// +optional
	MeshTLS *MeshTLS `json:"meshTLS,omitempty"`
}

// Network is a block of addresses with holes.
type Network struct {
	// Cidr is a network or an address.
	Cidr string `json:"cidr"`

	// Except are networks or addresses inside the block that do not belong to it.
	//
	// +optional
	Except []string `json:"except,omitempty"`
}

// MeshTLS describes clients by their mesh identity.
type MeshTLS struct {
	// UnauthenticatedTLS permits clients without an identity.
	//
	// +optional
	UnauthenticatedTLS bool `json:"unauthenticatedTLS,omitempty"`

	// Identities are whole names, `*`, or a suffix after `*.`.
	//
	// +optional
	// +kubebuilder:validation:items:Pattern=`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Identities []string `json:"identities,omitempty"`

	// +optional
	ServiceAccounts []ServiceAccountReference `json:"serviceAccounts,omitempty"`
}

// ServiceAccountReference names a ServiceAccount.
type ServiceAccountReference struct {
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// Namespace is the object's own when empty.
	//
	// +optional
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
}
