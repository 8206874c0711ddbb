package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ExternalWorkload is a workload outside Kubernetes that takes part in the mesh. Services select it
// by its labels.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=externalworkloads,singular=externalworkload,categories=external
// +kubebuilder:printcolumn:name="Identity",type=string,JSONPath=`.spec.meshTls.identity`,description="The workload's identity"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalWorkload struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ExternalWorkloadSpec `json:"spec"`
	// +optional
	Status ExternalWorkloadStatus `json:"status,omitempty"`
}

// ExternalWorkloadList is a list of ExternalWorkload objects.
//
// +kubebuilder:object:root=true
type ExternalWorkloadList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalWorkload `json:"items"`
}

// ExternalWorkloadSpec describes the workload.
//
// The versions spell one field differently, and an object is the same in both: nobody converts it. So each version knows
// both spellings, or an object would lose the field when it is read in the other one.
//
// +kubebuilder:validation:XValidation:rule="has(self.meshTls) || has(self.meshTLS)",fieldPath=".meshTls",reason=FieldValueRequired,message="meshTls must be set"
type ExternalWorkloadSpec struct {
	// MeshTLS is how the workload's proxy is known. Required.
	//
	// +optional
	MeshTLS *MeshTLS `json:"meshTls,omitempty"`

	// MeshTLSBeta is meshTls as objects of version v1beta1 have it, which counts if both are set.
	//
	// +optional
	MeshTLSBeta *MeshTLS `json:"meshTLS,omitempty"`

	// Ports are what the workload serves.
	//
	// +optional
	Ports []PortSpec `json:"ports,omitempty"`

	// WorkloadIPs are where the workload is.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=1
	WorkloadIPs []WorkloadIP `json:"workloadIPs,omitempty"`
}

// MeshTLS is how a workload's proxy is known.
type MeshTLS struct {
	// Identity is the URI in the proxy's certificate.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Identity string `json:"identity"`

	// ServerName is what clients ask for in the TLS handshake.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ServerName string `json:"serverName"`
}

// PortSpec is a port that the workload serves.
type PortSpec struct {
	// Name is unique among the workload's ports.
	//
	// +optional
	Name string `json:"name,omitempty"`

	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`

	// +optional
	// +kubebuilder:default=TCP
	Protocol string `json:"protocol,omitempty"`
}

// WorkloadIP is an address of the workload.
type WorkloadIP struct {
	// +optional
	IP string `json:"ip,omitempty"`
}

// ConditionReady is the type of the condition whose status True makes the workload a ready
// endpoint.
const ConditionReady = "Ready"

// ExternalWorkloadStatus is written by whoever watches over the workload.
type ExternalWorkloadStatus struct {
	// +optional
	Conditions []WorkloadCondition `json:"conditions,omitempty"`
}

// WorkloadCondition is an observation of the workload.
type WorkloadCondition struct {
	// +optional
	Type string `json:"type,omitempty"`

	// +optional
	Status metav1.ConditionStatus `json:"status,omitempty"`

	// +optional
	LastProbeTime metav1.Time `json:"lastProbeTime,omitempty"`

	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitempty"`

	// +optional
	Reason string `json:"reason,omitempty"`

	// +optional
	Message string `json:"message,omitempty"`
}
