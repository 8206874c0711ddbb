package main

import (
	"strings"
	"testing"
)

func TestSMIAdaptorFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		err  string
	}{
		{"defaults", nil, ""},
		{"what the chart passes", []string{"-cluster-domain=cluster.local", "-namespace=linkerd-smi", "-log-level=info", "-log-format=plain"}, ""},
		{"what upstream's chart passes", []string{"-cluster-domain=cluster.local", "-metrics-addr=:9995", "-worker-threads=2", "-kubeconfig="}, ""},
		{"no workers", []string{"-worker-threads=0"}, "-worker-threads is 0 and must be greater than 0"},
		{"no domain", []string{"-cluster-domain="}, "-cluster-domain must not be empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o smiAdaptorOptions
			if err := o.flags().Parse(c.args); err != nil {
				t.Fatal(err)
			}
			err := o.validate()
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if o.metricsAddr != ":9995" || o.workers != 2 && c.err == "" {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestExtensionInitNeedsNames(t *testing.T) {
	var out, errs strings.Builder
	if code := dispatch(t.Context(), []string{"linkerd-controller", "extension-init", "--namespace=linkerd-smi"}, &out, &errs); code != exitFailed ||
		!strings.Contains(errs.String(), "extension-init: the name of the extension is missing") {
		t.Errorf("exit code %d, printed %q", code, errs.String())
	}
}
