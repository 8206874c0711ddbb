package v1alpha3

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Link says how services of a target cluster are mirrored into this one.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:resource:path=links,singular=link
// +kubebuilder:subresource:status
type Link struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec LinkSpec `json:"spec,omitempty"`
	// +optional
	Status LinkStatus `json:"status,omitempty"`
}

// LinkList is a list of Link objects.
//
// +kubebuilder:object:root=true
type LinkList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Link `json:"items"`
}

// LinkSpec describes the target cluster and what is mirrored from it.
type LinkSpec struct {
	// TargetClusterName is the suffix of mirrors' names.
	//
	// +optional
	TargetClusterName string `json:"targetClusterName,omitempty"`

	// TargetClusterDomain is the DNS domain of the target cluster.
	//
	// +optional
	TargetClusterDomain string `json:"targetClusterDomain,omitempty"`

	// TargetClusterLinkerdNamespace is where the target cluster's control plane is.
	//
	// +optional
	TargetClusterLinkerdNamespace string `json:"targetClusterLinkerdNamespace,omitempty"`

	// ClusterCredentialsSecret gives access to the target cluster's API.
	//
	// +optional
	ClusterCredentialsSecret string `json:"clusterCredentialsSecret,omitempty"`

	// GatewayAddress is a comma-separated list of addresses or names; empty means that there
	// is no gateway.
	//
	// +optional
	GatewayAddress string `json:"gatewayAddress,omitempty"`

	// GatewayPort is a number.
	//
	// +optional
	GatewayPort string `json:"gatewayPort,omitempty"`

	// GatewayIdentity is the mesh identity of the gateway.
	//
	// +optional
	GatewayIdentity string `json:"gatewayIdentity,omitempty"`

	// ProbeSpec says how the gateway is probed.
	//
	// +optional
	ProbeSpec ProbeSpec `json:"probeSpec,omitempty"`

	// Selector selects services that are mirrored through the gateway. An empty one selects
	// none.
	//
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// RemoteDiscoverySelector selects services that are mirrored without a gateway. An empty
	// one selects none.
	//
	// +optional
	RemoteDiscoverySelector *metav1.LabelSelector `json:"remoteDiscoverySelector,omitempty"`

	// FederatedServiceSelector selects services that become members of federated ones. An
	// empty one selects none.
	//
	// +optional
	FederatedServiceSelector *metav1.LabelSelector `json:"federatedServiceSelector,omitempty"`

	// ExcludedAnnotations are not copied to mirrors; an entry that ends in `/*` is a prefix.
	//
	// +optional
	ExcludedAnnotations []string `json:"excludedAnnotations,omitempty"`

	// ExcludedLabels are not copied to mirrors; an entry that ends in `/*` is a prefix.
	//
	// +optional
	ExcludedLabels []string `json:"excludedLabels,omitempty"`
}

// ProbeSpec says how a gateway is probed.
type ProbeSpec struct {
	// Path is asked for by HTTP.
	//
	// +optional
	Path string `json:"path,omitempty"`

	// Port is a number.
	//
	// +optional
	Port string `json:"port,omitempty"`

	// Period is the time between probes; a Go duration.
	//
	// +optional
	// +kubebuilder:validation:Format=duration
	Period string `json:"period,omitempty"`

	// FailureThreshold is the number of failures in a row that make the gateway count as down.
	//
	// +optional
	// +kubebuilder:default="3"
	FailureThreshold string `json:"failureThreshold,omitempty"`

	// Timeout limits a probe; a Go duration.
	//
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Format=duration
	Timeout string `json:"timeout,omitempty"`
}

// LinkStatus has the state of each service that the link mirrors.
type LinkStatus struct {
	// +optional
	MirrorServices []ServiceStatus `json:"mirrorServices,omitempty"`

	// +optional
	FederatedServices []ServiceStatus `json:"federatedServices,omitempty"`
}

// ServiceStatus is the state of one service of the target cluster.
type ServiceStatus struct {
	// ControllerName is who wrote the state.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$`
	ControllerName string `json:"controllerName"`

	// RemoteRef is the service in the target cluster.
	RemoteRef ObjectRef `json:"remoteRef"`

	// +optional
	Conditions []LinkCondition `json:"conditions,omitempty"`
}

// ObjectRef names a service.
type ObjectRef struct {
	// Group is empty or `core` for the core group.
	// ---
	// Always written: the API server would fill in an absent one.
	//
	// +optional
	// +kubebuilder:default=core
	Group string `json:"group"`

	// +optional
	// +kubebuilder:default=Service
	Kind string `json:"kind,omitempty"`

	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
}

// LinkCondition is a condition with the local service that it is about.
type LinkCondition struct {
	metav1.Condition `json:",inline"`

	// LocalRef is the mirror, once there is one.
	//
	// +optional
	LocalRef *ObjectRef `json:"localRef,omitempty"`
}

// ConditionMirrored is the type of the condition that says whether a service is mirrored.
const ConditionMirrored = "Mirrored"

// Reasons of ConditionMirrored.
const (
	ReasonMirrored         = "Mirrored"
	ReasonInvalidService   = "InvalidService"
	ReasonMissingNamespace = "MissingNamespace"
	ReasonError            = "Error"
)
