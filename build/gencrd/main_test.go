package main

import "testing"

// The generated files on disk are those that the kinds describe.
func TestUpToDate(t *testing.T) {
	if err := run(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// Only what the generator wrote may be rewritten or removed by it.
func TestIsGenerated(t *testing.T) {
	for name, want := range map[string]bool{
		"api/crd/yaml/linkerd.io_serviceprofiles.yaml":    true,
		"api/crd/gatewayapi/standard/x.yaml":              true,
		"api/crd/policy/v1beta3/zz_generated.deepcopy.go": true,
		"api/crd/policy/v1beta3/server.go":                false,
		"api/crd/testdata/objects/server.yaml":            false,
		"api/crd/gatewayapi/NOTE":                         false,
	} {
		if got := isGenerated(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
