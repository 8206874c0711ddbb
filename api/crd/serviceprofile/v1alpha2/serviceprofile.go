package v1alpha2

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceProfile describes the routes, retries and traffic splits of the service that its name
// is: `<service>.<namespace>.svc.<cluster domain>`, or a name outside the cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
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
	//
	// +optional
	Routes []*RouteSpec `json:"routes,omitempty"`

	// RetryBudget limits the retries of all routes together.
	//
	// +optional
	RetryBudget *RetryBudget `json:"retryBudget,omitempty"`

	// DstOverrides share the traffic among other services by weight.
	//
	// +optional
	DstOverrides []*WeightedDst `json:"dstOverrides,omitempty"`

	// OpaquePorts are ports of the service whose bytes the proxy does not look at.
	//
	// +optional
	OpaquePorts []string `json:"opaquePorts,omitempty"`
}

// RouteSpec describes a class of requests.
type RouteSpec struct {
	// Name is the route's label in metrics.
	Name string `json:"name"`

	// Condition selects the requests.
	// ---
	// A pointer, so that a missing one can be told from an empty one.
	//
	// +required
	Condition *RequestMatch `json:"condition,omitempty"`

	// ResponseClasses say which responses are failures; the first match is taken.
	//
	// +optional
	ResponseClasses []*ResponseClass `json:"responseClasses,omitempty"`

	// IsRetryable permits retries within the budget.
	//
	// +optional
	// +kubebuilder:default=false
	IsRetryable bool `json:"isRetryable"`

	// Timeout limits the whole exchange; a Go duration.
	//
	// +optional
	Timeout string `json:"timeout,omitempty"`
}

// RequestMatch is a condition on requests; all its fields must hold.
type RequestMatch struct {
	// All must each hold.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	All []*RequestMatch `json:"all,omitempty"`

	// Any must hold at least once.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Any []*RequestMatch `json:"any,omitempty"`

	// Not must not hold.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Not *RequestMatch `json:"not,omitempty"`

	// PathRegex must match the whole path.
	//
	// +optional
	PathRegex string `json:"pathRegex,omitempty"`

	// Method is compared without case.
	//
	// +optional
	Method string `json:"method,omitempty"`
}

// ResponseClass says whether the responses that match are failures.
type ResponseClass struct {
	// Condition selects the responses.
	// ---
	// A pointer, so that a missing one can be told from an empty one.
	//
	// +required
	Condition *ResponseMatch `json:"condition,omitempty"`

	// +optional
	IsFailure bool `json:"isFailure,omitempty"`

	// IsSuccess is the same the other way round, as many documents have it: false
	// is a failure, and true is what a class without either says.
	//
	// +optional
	IsSuccess *bool `json:"isSuccess,omitempty"`
}

// Failure says what the class makes of the responses that match.
func (c *ResponseClass) Failure() bool {
	return c.IsFailure || c.IsSuccess != nil && !*c.IsSuccess
}

// ResponseMatch is a condition on responses; all its fields must hold.
type ResponseMatch struct {
	// All must each hold.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	All []*ResponseMatch `json:"all,omitempty"`

	// Any must hold at least once.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:pruning:PreserveUnknownFields
	Any []*ResponseMatch `json:"any,omitempty"`

	// Not must not hold.
	//
	// +optional
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	Not *ResponseMatch `json:"not,omitempty"`

	// Status is a range of HTTP statuses.
	//
	// +optional
	Status *Range `json:"status,omitempty"`
}

// Range is a range of statuses, both ends included.
type Range struct {
	// +optional
	Min int32 `json:"min,omitempty"`

	// +optional
	Max int32 `json:"max,omitempty"`
}

// RetryBudget limits retries to a share of the ordinary requests.
type RetryBudget struct {
	// RetryRatio is the number of retries for each ordinary request.
	RetryRatio float32 `json:"retryRatio"`

	// MinRetriesPerSecond are permitted in any case.
	MinRetriesPerSecond int32 `json:"minRetriesPerSecond"`

	// TTL is how long a request counts in the ratio; a Go duration.
	TTL string `json:"ttl"`
}

// WeightedDst is a share of a traffic split.
type WeightedDst struct {
	// Authority is `<service>.<namespace>.svc.<cluster domain>:<port>`.
	//
	// +optional
	Authority string `json:"authority,omitempty"`

	// Weight is relative to the others.
	//
	// +optional
	Weight resource.Quantity `json:"weight,omitempty"`
}
