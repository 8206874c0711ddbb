package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Given looks at the values a user gives: one of a kind that the chart cannot
// use is an error, and of one that nothing reads a warning tells. Templates
// take what they get, so that without it `controllerReplicas=many` is found by
// the API server when half of the manifest is applied, and a misspelt key never.
func Given(w *command.World, charts Charts, given map[string]any) error {
	chart, err := charts.ControlPlane()
	if err != nil {
		return err
	}
	known, err := chart.Defaults()
	if err != nil {
		return err
	}
	ha, err := chart.HighAvailability()
	if err != nil {
		return err
	}
	known = valuetree.Merge(known, ha)
	if err := misfits(known, given, ""); err != nil {
		return err
	}
	for _, path := range strangers(chart, known, given, "") {
		fmt.Fprintf(w.Err, "‼ value %s is none of the chart's and has no effect\n", path)
	}
	return nil
}

// misfits returns an error for every value of another kind than the chart's own.
func misfits(known, given map[string]any, prefix string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		path := prefix + key
		if want := wanted(known[key], given[key]); want != "" {
			errs = append(errs, fmt.Errorf("value %s: %s is not %s", path, shown(given[key]), want))
			continue
		}
		below, isMap := given[key].(map[string]any)
		if knownBelow, both := known[key].(map[string]any); isMap && both {
			errs = append(errs, misfits(knownBelow, below, path+"."))
		}
	}
	return errors.Join(errs...)
}

// wanted says what a value would have to be, empty if it will do. A null takes
// the chart's value away, and where the chart has none anything may stand.
func wanted(known, given any) string {
	if given == nil {
		return ""
	}
	switch known.(type) {
	case map[string]any:
		if _, ok := given.(map[string]any); !ok {
			return "a map of values"
		}
	case []any:
		if _, ok := given.([]any); !ok {
			return "a list"
		}
	case bool:
		if _, ok := given.(bool); !ok {
			return "true or false"
		}
	case int64, float64:
		switch v := given.(type) {
		case int64, float64:
		case string: // --set-string
			if _, err := strconv.ParseFloat(v, 64); err != nil {
				return "a number"
			}
		default:
			return "a number"
		}
	case string:
		switch given.(type) {
		case map[string]any, []any:
			return "a text"
		}
	}
	return ""
}

func shown(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return strconv.Quote(v)
	default:
		return fmt.Sprint(v)
	}
}

// open are maps whose keys are the user's, or those of a Kubernetes type.
var open = []string{
	"nodeSelector", "deploymentStrategy", "namespaceSelector", "objectSelector", "securityContext", "labels",
	"livenessProbe", "readinessProbe", "startupProbe", "meshedHttp2ClientProtobuf", "inbound", "outbound",
}

// strangers lists the values under keys that are not among the chart's and that
// no template of it mentions.
func strangers(chart Chart, known, given map[string]any, prefix string) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(given)) {
		knownValue, ok := known[key]
		if !ok {
			if !chart.Mentions(prefix + key) {
				out = append(out, prefix+key)
			}
			continue
		}
		knownBelow, _ := knownValue.(map[string]any)
		below, isMap := given[key].(map[string]any)
		if isMap && len(knownBelow) > 0 && !slices.Contains(open, key) {
			out = append(out, strangers(chart, knownBelow, below, prefix+key+".")...)
		}
	}
	return out
}
