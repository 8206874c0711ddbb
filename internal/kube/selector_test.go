package kube_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/linkerd-go/linkerd-go/internal/kube"
)

func TestSelector(t *testing.T) {
	with := func(operator metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{
			MatchLabels:      map[string]string{"app": "web"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: operator, Values: values}},
		}
	}
	for name, test := range map[string]struct {
		selector *metav1.LabelSelector
		// front, other and none say whether labels with that tier, another one, or none are selected.
		front, other, none bool
	}{
		"nil":                        {nil, false, false, false},
		"empty":                      {&metav1.LabelSelector{}, true, true, true},
		"In":                         {with(metav1.LabelSelectorOpIn, "front"), true, false, false},
		"In without values":          {with(metav1.LabelSelectorOpIn), false, false, false},
		"NotIn":                      {with(metav1.LabelSelectorOpNotIn, "front"), false, true, true},
		"NotIn without values":       {with(metav1.LabelSelectorOpNotIn), true, true, true},
		"Exists":                     {with(metav1.LabelSelectorOpExists), true, true, false},
		"Exists with values":         {with(metav1.LabelSelectorOpExists, "front"), true, true, false},
		"DoesNotExist with values":   {with(metav1.LabelSelectorOpDoesNotExist, "front"), false, false, true},
		"values that are not labels": {with(metav1.LabelSelectorOpExists, "not a label!"), true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			selector, err := kube.Selector(test.selector)
			if err != nil {
				t.Fatal(err)
			}
			for set, want := range map[*labels.Set]bool{
				{"app": "web", "tier": "front"}: test.front, {"app": "web", "tier": "other"}: test.other, {"app": "web"}: test.none,
			} {
				if got := selector.Matches(*set); got != want {
					t.Errorf("%v: %v, want %v", *set, got, want)
				}
			}
		})
	}
	if _, err := kube.Selector(with("Like", "x")); err == nil {
		t.Error("an operator that is none is read")
	}
}
