package inject

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

func testPod() *Pod {
	return &Pod{Spec: &corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
		{Name: "mysql", ContainerPort: 3307}, {Name: "dns", ContainerPort: 53},
	}}}}}
}

// TestOverride goes through testdata/override.txt, which explains its columns.
func TestOverride(t *testing.T) {
	data, err := os.ReadFile("testdata/override.txt")
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "|")
		if len(columns) != 4 {
			t.Fatalf("line %d has %d columns, want 4", i+1, len(columns))
		}
		for j := range columns {
			columns[j] = strings.TrimSpace(columns[j])
		}
		annotation, value, want, warning := columns[0], columns[1], columns[2], columns[3]
		if !strings.Contains(annotation, "/") {
			annotation = "config.linkerd.io/" + annotation
		}
		tested[annotation] = true
		t.Run(fmt.Sprintf("line %d", i+1), func(t *testing.T) {
			checkOverride(t, annotation, value, want, warning)
		})
	}
	for _, key := range slices.Concat(names.InheritableAnnotations(), names.PodOnlyAnnotations()) {
		if !tested[key] {
			t.Errorf("testdata/override.txt has no line for %s", key)
		}
	}
}

func checkOverride(t *testing.T, annotation, value, want, warning string) {
	t.Helper()
	before := map[string]any{}
	plain, _, err := override(before, testPod(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	values, warnings, err := override(before, testPod(), map[string]string{annotation: value}, nil)
	if len(before) > 0 {
		t.Errorf("the values given were changed: %v", before)
	}
	if text, ok := strings.CutPrefix(warning, "refused: "); ok {
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), text) || !strings.Contains(err.Error(), annotation) {
			t.Errorf("error is %v, want it to say %q about %s", err, text, annotation)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case warning == "" && len(warnings) > 0:
		t.Errorf("unexpected warning: %s", warnings[0])
	case warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].String(), warning) || warnings[0].Annotation != annotation || warnings[0].Value != value):
		t.Errorf("warnings are %v, want one that says %q", warnings, warning)
	}
	if want == "" {
		if !reflect.DeepEqual(values, plain) {
			t.Errorf("values changed to %v", values)
		}
		return
	}
	path, is, _ := strings.Cut(want, "=")
	path, is = strings.TrimSpace(path), strings.TrimSpace(is)
	if got := valuetree.Get(values, path); got == nil || fmt.Sprint(got) != is {
		t.Errorf("%s is %v, want %v", path, got, is)
	}
}

func TestNewestSpellingOfNativeSidecarWins(t *testing.T) {
	values, _, err := override(map[string]any{}, testPod(), map[string]string{
		names.AnnotationProxyEnableNativeSidecar:      "true",
		names.AnnotationProxyEnableNativeSidecarBeta:  "false",
		names.AnnotationProxyEnableNativeSidecarAlpha: "false",
	}, nil)
	if err != nil || !valuetree.Bool(values, "proxy.nativeSidecar") {
		t.Errorf("nativeSidecar is %v, error %v", valuetree.Get(values, "proxy.nativeSidecar"), err)
	}
}

func TestInherited(t *testing.T) {
	got := inherited(map[string]string{
		names.AnnotationProxyLogLevel: "pod",
		names.AnnotationInject:        "",
	}, map[string]string{
		names.AnnotationProxyLogLevel:    "namespace",
		names.AnnotationInject:           "enabled",
		names.AnnotationProxyUID:         "1",
		names.AnnotationEnableGateway:    "true",
		names.AnnotationVizDisableTap:    "true",
		"resource.opentelemetry.io/team": "a",
		names.AnnotationOpaquePorts:      "",
		names.AnnotationDebugImage:       "x",
		names.AnnotationCloseWaitTimeout: "1h",
	})
	want := map[string]string{names.AnnotationProxyUID: "1", names.AnnotationOpaquePorts: ""}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestAnnotationsForIsUndoneByOverride: what the CLI writes for a changed value makes the injector change it back.
func TestAnnotationsForIsUndoneByOverride(t *testing.T) {
	for path, value := range map[string]any{
		"proxy.image.version":                 "v1",
		"proxyInit.ignoreInboundPorts":        "80,443",
		"proxyInit.ignoreOutboundPorts":       "1-2",
		"proxy.ports.admin":                   int64(5191),
		"proxy.ports.control":                 int64(5190),
		"proxy.ports.inbound":                 int64(5143),
		"proxy.ports.outbound":                int64(5140),
		"proxy.opaquePorts":                   "25",
		"proxy.image.name":                    "example.org/proxy",
		"debugContainer.image.name":           "example.org/debug",
		"debugContainer.image.version":        "v1",
		"proxy.image.pullPolicy":              "Always",
		"proxy.uid":                           int64(3000),
		"proxy.gid":                           int64(3000),
		"proxy.logLevel":                      "debug",
		"proxy.logFormat":                     "json",
		"proxy.requireIdentityOnInboundPorts": "80",
		"proxy.enableExternalProfiles":        true,
		"proxy.metrics.hostnameLabels":        true,
		"proxy.resources.cpu.request":         "100m",
		"proxy.resources.cpu.limit":           "1",
		"proxy.resources.memory.request":      "1Mi",
		"proxy.resources.memory.limit":        "1Gi",
		"proxy.await":                         false,
		"proxy.defaultInboundPolicy":          "deny",
		"proxy.accessLog":                     "json",
		"proxy.shutdownGracePeriod":           "1000ms",
		"proxy.nativeSidecar":                 false,
		"proxy.waitBeforeExitSeconds":         int64(5),
	} {
		base, values := map[string]any{}, map[string]any{}
		valuetree.Set(values, path, value)
		annotations := AnnotationsFor(base, values)
		if len(annotations) != 1 {
			t.Errorf("%s: annotations are %v, want one", path, annotations)
		}
		made, warnings, err := override(base, testPod(), annotations, nil)
		if err != nil || len(warnings) > 0 || fmt.Sprint(valuetree.Get(made, path)) != fmt.Sprint(value) {
			t.Errorf("%s: %v became %v by way of %v (warnings %v, error %v)", path, value, valuetree.Get(made, path), annotations, warnings, err)
		}
	}
	if got := AnnotationsFor(map[string]any{"proxy": map[string]any{"uid": float64(2102)}}, map[string]any{"proxy": map[string]any{"uid": int64(2102), "gid": int64(-1)}}); len(got) > 0 {
		t.Errorf("equal values gave %v", got)
	}
}
