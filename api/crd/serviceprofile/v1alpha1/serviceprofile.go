package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/crd/serviceprofile/v1alpha2"
)

// ServiceProfile describes the routes, retries and traffic splits of the service that its name
// is: `<service>.<namespace>.svc.<cluster domain>`, or a name outside the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=serviceprofiles,singular=serviceprofile,shortName=sp
type ServiceProfile struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec ServiceProfileSpec `json:"spec,omitempty"`
}

// ServiceProfileList is a list of ServiceProfile objects.
//
// +kubebuilder:object:root=true
type ServiceProfileList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceProfile `json:"items"`
}

// ServiceProfileSpec describes a service.
type ServiceProfileSpec struct {
	// Routes are tried in order.
	Routes []*v1alpha2.RouteSpec `json:"routes"`

	// RetryBudget limits the retries of all routes together.
	//
	// +optional
	RetryBudget *v1alpha2.RetryBudget `json:"retryBudget,omitempty"`

	// DstOverrides share the traffic among other services by weight.
	//
	// +optional
	DstOverrides []*v1alpha2.WeightedDst `json:"dstOverrides,omitempty"`

	// OpaquePorts are ports of the service whose bytes the proxy does not look at.
	//
	// +optional
	OpaquePorts []string `json:"opaquePorts,omitempty"`
}
