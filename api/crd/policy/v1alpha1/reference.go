package v1alpha1

// LocalTargetReference names an object of the same namespace that a policy applies to.
type LocalTargetReference struct {
	// Group is empty for the core group.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Group string `json:"group,omitempty"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`
	Kind string `json:"kind"`

	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
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
