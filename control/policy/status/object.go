package status

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Types of conditions.
const (
	conditionAccepted     = "Accepted"
	conditionResolvedRefs = "ResolvedRefs"
)

// Reasons of conditions. Source: control plane chapter, section 2.14; UnsupportedValue and RefNotPermitted are the
// Gateway API's.
const (
	reasonAccepted         = "Accepted"
	reasonNoMatchingParent = "NoMatchingParent"
	reasonConflicted       = "RouteReasonConflicted"
	reasonUnsupported      = "UnsupportedValue"
	reasonResolvedRefs     = "ResolvedRefs"
	reasonBackendNotFound  = "BackendNotFound"
	reasonInvalidKind      = "InvalidKind"
	reasonRefNotPermitted  = "RefNotPermitted"
	reasonNoMatchingTarget = "NoMatchingTarget"
	reasonAlreadyExists    = "RateLimitReasonAlreadyExists"
	reasonOverlap          = "EgressReasonNetworkOverlap"
)

// Key names an object with a status.
type Key struct {
	Resource schema.GroupVersionResource
	core.ID
}

// Object is an object with a status.
type Object interface {
	// Key names the object.
	Key() Key
	// Patch returns the merge patch that brings the status up to date at a time, or nil if it is.
	Patch(lookup Lookup, now time.Time) []byte
}

// Lookup finds what statuses depend on.
type Lookup interface {
	Server(id core.ID) *core.Server
	// Servers returns those of a namespace.
	Servers(namespace string) []*core.Server
	// Workloads returns those of a namespace, of those that are alike one.
	Workloads(namespace string) []*core.Workload
	MeshTLSAuthentication(id core.ID) *core.MeshTLSAuthentication
	NetworkAuthentication(id core.ID) *core.NetworkAuthentication
	// HasRoute reports whether there is a route, of the kind that a policy's target has.
	HasRoute(kind core.TargetKind, id core.ID) bool
	Service(id core.ID) *core.Service
	EgressNetwork(id core.ID) *core.EgressNetwork
	ReferenceGrants(namespace string) []*core.ReferenceGrant
	// RateLimits returns those of a namespace.
	RateLimits(namespace string) []*core.RateLimit
	// RouteStatuses returns the routes that refer to a parent.
	RouteStatuses(parent core.Parent) []*Route
}

// result is what a condition says.
type result struct {
	ok              bool
	reason, message string
}

func (r result) condition(kind string, generation int64) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: r.reason, Message: r.message, ObservedGeneration: generation}
	if r.ok {
		c.Status = metav1.ConditionTrue
	}
	return c
}

// sameConditions reports whether conditions say the same, whenever they were written.
func sameConditions(a, b []metav1.Condition) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.Condition) bool {
		a.LastTransitionTime, b.LastTransitionTime = metav1.Time{}, metav1.Time{}
		return a == b
	})
}

// stamp fills in the times of transition: now, unless the condition was so before.
func stamp(conditions, before []metav1.Condition, now time.Time) {
	for i := range conditions {
		c := &conditions[i]
		c.LastTransitionTime = metav1.NewTime(now)
		if old := meta.FindStatusCondition(before, c.Type); old != nil && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
}

// patch makes the body of a merge patch. It is refused if the object has changed since version, which may be empty.
func patch(resource schema.GroupVersionResource, kind, version string, status any) []byte {
	object := map[string]any{"apiVersion": resource.GroupVersion().String(), "kind": kind, "status": status}
	if version != "" {
		object["metadata"] = map[string]any{"resourceVersion": version}
	}
	body, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("encoding a status: %v", err)) // plain data
	}
	return body
}

// RateLimit is the status of an HTTPLocalRateLimitPolicy.
type RateLimit struct {
	Limit      *core.RateLimit
	Generation int64
	Status     policyv1alpha1.HTTPLocalRateLimitPolicyStatus
}

var _ Object = (*RateLimit)(nil)

// RateLimits is the resource of rate limits.
var RateLimits = policyv1alpha1.GroupVersion.WithResource("httplocalratelimitpolicies")

// Key implements Object.
func (l *RateLimit) Key() Key { return Key{RateLimits, l.Limit.ID} }

func (l *RateLimit) accepted(lookup Lookup) result {
	if lookup.Server(core.ID{Namespace: l.Limit.Namespace, Name: l.Limit.Server}) == nil {
		return result{reason: reasonNoMatchingTarget}
	}
	for _, other := range lookup.RateLimits(l.Limit.Namespace) {
		if other.Server == l.Limit.Server && other.Name != l.Limit.Name && core.Older(other.Object, l.Limit.Object) {
			return result{reason: reasonAlreadyExists}
		}
	}
	return result{ok: true, reason: reasonAccepted}
}

// Patch implements Object.
func (l *RateLimit) Patch(lookup Lookup, now time.Time) []byte {
	want := policyv1alpha1.HTTPLocalRateLimitPolicyStatus{
		Conditions: []metav1.Condition{l.accepted(lookup).condition(conditionAccepted, l.Generation)},
		TargetRef:  policyv1alpha1.StatusTargetReference{Group: core.GroupPolicy, Kind: "Server", Name: l.Limit.Server},
	}
	if sameConditions(want.Conditions, l.Status.Conditions) && want.TargetRef == l.Status.TargetRef {
		return nil
	}
	stamp(want.Conditions, l.Status.Conditions, now)
	return patch(RateLimits, "HTTPLocalRateLimitPolicy", "", want)
}

// EgressNetwork is the status of an EgressNetwork.
type EgressNetwork struct {
	Network    *core.EgressNetwork
	Generation int64
	Conditions []metav1.Condition
	// Config knows which addresses are in the cluster.
	Config *core.Config
}

var _ Object = (*EgressNetwork)(nil)

// EgressNetworks is the resource of EgressNetworks.
var EgressNetworks = policyv1alpha1.GroupVersion.WithResource("egressnetworks")

// Key implements Object.
func (n *EgressNetwork) Key() Key { return Key{EgressNetworks, n.Network.ID} }

func (n *EgressNetwork) accepted() result {
	if n.Config.InsideCluster(n.Network) {
		return result{reason: reasonOverlap}
	}
	return result{ok: true, reason: reasonAccepted}
}

// Patch implements Object.
func (n *EgressNetwork) Patch(_ Lookup, now time.Time) []byte {
	want := []metav1.Condition{n.accepted().condition(conditionAccepted, n.Generation)}
	if sameConditions(want, n.Conditions) {
		return nil
	}
	stamp(want, n.Conditions, now)
	return patch(EgressNetworks, "EgressNetwork", "", policyv1alpha1.EgressNetworkStatus{Conditions: want})
}

// Compare orders keys.
func Compare(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Resource.String(), b.Resource.String()), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
