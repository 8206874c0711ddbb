package smi

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Service names a Service as clients do.
type Service struct {
	Namespace, Name, ClusterDomain string
}

// authority is the name of the Service, or of another of its namespace, without a port: that of the request is kept.
func (s Service) authority(name string) string {
	return name + "." + s.Namespace + ".svc." + s.ClusterDomain
}

// Profile is the name of the ServiceProfile of the Service.
func (s Service) Profile() string { return s.authority(s.Name) }

// Plan is what to do so that the profile of a Service has the shares that it should have.
type Plan struct {
	// Write is the profile as it should be; nil if there is nothing to write.
	Write *unstructured.Unstructured
	// Create says that there is no profile yet.
	Create bool
	// Split is the one that counts; nil if there is none.
	Split *Split
	// Skipped says that the profile is to be left alone, by its annotation.
	Skipped bool
	// Ignored are the splits of the Service that have no effect.
	Ignored []Ignored
}

// noEffect ends the messages about splits that cannot be used.
const noEffect = "; this TrafficSplit has no effect"

// Ignored is a split without effect.
type Ignored struct {
	Split *Split
	// Reason and Message are for its author.
	Reason, Message string
}

// MakePlan decides what the profile of a Service should be. splits are those that name the Service; profile is nil if there is
// none. Neither is changed. Source: control plane chapter, section 16.
//
// Of several splits the oldest counts, so that it does not matter which was seen last. One that cannot be used does not
// count; if there is no other the profile stays as it is, because what its author wanted is not known.
//
// It must not be called for a Service that neither has a split nor had one: shares in its profile are somebody else's.
func MakePlan(service Service, splits []*Split, profile *unstructured.Unstructured) Plan {
	var plan Plan
	for _, s := range slices.SortedFunc(slices.Values(splits), older) {
		switch {
		case s.Invalid != "":
			plan.Ignored = append(plan.Ignored, Ignored{s, reasonInvalid, s.Invalid + noEffect})
		case plan.Split == nil:
			plan.Split = s
		default:
			plan.Ignored = append(plan.Ignored, Ignored{s, reasonConflict, fmt.Sprintf(
				"TrafficSplit %s, which came first, splits the traffic of service %s; this one has no effect", plan.Split.Name, service.Name)})
		}
	}
	if profile != nil {
		_, plan.Skipped = profile.GetAnnotations()[names.AnnotationSMISkip]
	}
	if plan.Skipped || plan.Split == nil && (profile == nil || len(splits) > 0) {
		return plan
	}
	var want []any
	var mark string
	if plan.Split != nil {
		mark = plan.Split.Name
		for _, b := range plan.Split.Backends {
			want = append(want, map[string]any{"authority": service.authority(b.Service), "weight": b.Weight.String()})
		}
	}
	if profile == nil {
		profile = &unstructured.Unstructured{Object: map[string]any{}}
		profile.SetAPIVersion(profiles.GroupVersion().String())
		profile.SetKind("ServiceProfile")
		profile.SetNamespace(service.Namespace)
		profile.SetName(service.Profile())
		plan.Create = true
	} else if marked(profile) == mark && sameShares(profile, want) {
		return plan
	}
	plan.Write = profile.DeepCopy()
	setShares(plan.Write, want)
	setMark(plan.Write, mark)
	return plan
}

// older orders splits by age, and by name where that is the same.
func older(a, b *Split) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

// marked returns the name of the split that the shares of a profile are of; empty if they are not of any.
func marked(profile *unstructured.Unstructured) string {
	return profile.GetAnnotations()[names.AnnotationSMISplit]
}

func setMark(profile *unstructured.Unstructured, split string) {
	annotations := profile.GetAnnotations()
	if split == "" {
		delete(annotations, names.AnnotationSMISplit)
	} else {
		if annotations == nil {
			annotations = make(map[string]string)
		}
		annotations[names.AnnotationSMISplit] = split
	}
	profile.SetAnnotations(annotations)
}

func setShares(profile *unstructured.Unstructured, shares []any) {
	spec, ok := profile.Object["spec"].(map[string]any)
	if !ok {
		spec = make(map[string]any)
		profile.Object["spec"] = spec
	}
	if len(shares) == 0 {
		delete(spec, "dstOverrides")
		return
	}
	spec["dstOverrides"] = shares
}

// sameShares reports whether a profile has these shares already, in whatever spelling.
func sameShares(profile *unstructured.Unstructured, want []any) bool {
	have, _, err := unstructured.NestedSlice(profile.Object, "spec", "dstOverrides")
	return err == nil && slices.EqualFunc(have, want, func(a, b any) bool {
		x, ok := a.(map[string]any)
		y, _ := b.(map[string]any)
		if !ok || x["authority"] != y["authority"] {
			return false
		}
		var none resource.Quantity
		weightX, weightY := none, none
		var errX, errY error
		if x["weight"] != nil {
			weightX, errX = readWeight(x["weight"])
		}
		if y["weight"] != nil {
			weightY, errY = readWeight(y["weight"])
		}
		return errX == nil && errY == nil && weightX.Cmp(weightY) == 0
	})
}
