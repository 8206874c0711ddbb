package smi

import (
	"fmt"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Split is what matters of a TrafficSplit.
type Split struct {
	Namespace, Name string
	UID             types.UID
	Created         time.Time
	// Service is whose traffic is split; empty if the split does not say it in a way that can be used.
	Service  string
	Backends []Backend
	// Invalid says why the split cannot be used; empty if it can.
	Invalid string
}

// Backend is a share of the traffic.
type Backend struct {
	Service string
	Weight  resource.Quantity
}

// ReadSplit reads a TrafficSplit. The schema promises little, and objects may be older than it; so an object that is
// incomplete is a Split that says what is wrong, for its author to be told.
//
// All served versions are one stored object: weights are numbers, whole or not, or texts, whichever version it was written in.
func ReadSplit(u *unstructured.Unstructured) *Split {
	s := &Split{Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), Created: u.GetCreationTimestamp().Time}
	invalid := func(format string, args ...any) *Split {
		s.Backends, s.Invalid = nil, fmt.Sprintf(format, args...)
		return s
	}
	service, problem := serviceName(u.Object, "spec", "service")
	if problem != "" {
		return invalid("spec.service %s", problem)
	}
	s.Service = service
	backends, found, err := unstructured.NestedSlice(u.Object, "spec", "backends")
	if err != nil || !found {
		return invalid("spec.backends is missing")
	}
	for i, backend := range backends {
		at := fmt.Sprintf("spec.backends[%d]", i)
		fields, ok := backend.(map[string]any)
		if !ok {
			return invalid("%s is not an object", at)
		}
		name, problem := serviceName(fields, "service")
		if problem != "" {
			return invalid("%s.service %s", at, problem)
		}
		weight, found := fields["weight"]
		if !found || weight == nil {
			return invalid("%s.weight is missing", at)
		}
		quantity, err := readWeight(weight)
		if err != nil {
			return invalid("%s.weight %v", at, err)
		}
		s.Backends = append(s.Backends, Backend{Service: name, Weight: quantity})
	}
	return s
}

// serviceName reads the name of a Service of the split's own namespace, or says what is wrong with it.
func serviceName(object map[string]any, at ...string) (name, problem string) {
	name, found, err := unstructured.NestedString(object, at...)
	switch {
	case err != nil || !found || name == "":
		return "", "is missing"
	case len(validation.IsDNS1123Label(name)) > 0:
		return "", fmt.Sprintf("%q is not the name of a Service", name)
	}
	return name, ""
}

// readWeight reads a weight as JSON has it.
func readWeight(value any) (resource.Quantity, error) {
	var text string
	switch v := value.(type) {
	case int64:
		text = strconv.FormatInt(v, 10)
	case float64:
		text = strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		text = v
	default:
		return resource.Quantity{}, fmt.Errorf("is neither a number nor a quantity")
	}
	quantity, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return quantity, fmt.Errorf("%q is neither a number nor a quantity", text)
	case quantity.Sign() < 0:
		return quantity, fmt.Errorf("%s is negative", text)
	}
	return quantity, nil
}
