package controlplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Given looks at the values a user gives: one of a kind that the chart cannot
// use is an error, and of one that nothing reads a warning tells. Without it
// `controllerReplicas=many` would be found by what calculates with the values,
// in words that do not name it, and a misspelt key never. Values of the right
// kind are left to Validate, whose messages scripts know, and then to Render.
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
	misfits, err := chart.Misfits(given)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range misfits {
		if m.Kind {
			errs = append(errs, m)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, path := range strangers(chart, known, given, "") {
		fmt.Fprintf(w.Err, "‼ value %s is none of the chart's and has no effect\n", path)
	}
	return nil
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
