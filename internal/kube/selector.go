package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selector reads a selector of labels in a custom resource of the mesh. Their schemas say less than Kubernetes itself checks in
// its own kinds, and upstream's controllers take what the schemas let in: values beside Exists and DoesNotExist count for
// nothing, In without values selects nothing, and NotIn without values everything. A Server that was refused for that would
// leave its port to the default policy. Source: control plane chapter, section 2, LABELSEL.
func Selector(s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Nothing(), nil
	}
	plain := &metav1.LabelSelector{MatchLabels: s.MatchLabels}
	for _, e := range s.MatchExpressions {
		switch {
		case e.Operator == metav1.LabelSelectorOpExists, e.Operator == metav1.LabelSelectorOpDoesNotExist:
			e.Values = nil
		case len(e.Values) > 0:
		case e.Operator == metav1.LabelSelectorOpIn:
			return labels.Nothing(), nil
		case e.Operator == metav1.LabelSelectorOpNotIn:
			continue
		}
		plain.MatchExpressions = append(plain.MatchExpressions, e)
	}
	return metav1.LabelSelectorAsSelector(plain)
}
