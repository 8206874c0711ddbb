package injector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/inject"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/webhook"
)

// The handler is what the webhook server calls.
var _ webhook.Admit = (*Handler)(nil).Admit

// cluster is a Lookup: namespaces by name, and owners by kind/name.
type cluster struct {
	namespaces map[string]map[string]string
	owners     map[string][]metav1.OwnerReference
}

func (c cluster) NamespaceAnnotations(_ context.Context, namespace string) (map[string]string, error) {
	annotations, ok := c.namespaces[namespace]
	if !ok {
		return nil, errors.New("namespace not found")
	}
	return annotations, nil
}

func (c cluster) OwnersOf(_ context.Context, _, kind, name string) ([]metav1.OwnerReference, bool) {
	owners, ok := c.owners[kind+"/"+name]
	return owners, ok
}

// bench is an injector with everything around it.
type bench struct {
	*Handler
	events   *record.FakeRecorder
	registry *prometheus.Registry
	files    Files
	// rendered are the values of the last pod.
	rendered map[string]any
	// refuse is a log level that the chart does not take.
	refuse string
}

func newBench(t *testing.T, lookup Lookup) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{
		events:   record.NewFakeRecorder(10),
		registry: prometheus.NewRegistry(),
		files:    Files{Values: filepath.Join(dir, "values"), TrustRoots: filepath.Join(dir, "roots")},
	}
	b.events.IncludeObject = true
	b.write(t, b.files.Values, "proxy: {opaquePorts: \"3306\", logLevel: info}\nlinkerdVersion: v1")
	b.write(t, b.files.TrustRoots, "anchors")
	handler, err := New(Options{
		Namespace: "linkerd", Version: "v1", Files: b.files, Lookup: lookup, Events: b.events, Metrics: b.registry,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Render: func(values map[string]any) ([]byte, error) {
			if level := valuetree.String(values, "proxy.logLevel"); b.refuse != "" && level == b.refuse {
				return nil, errors.New("not this level")
			}
			b.rendered = values
			return []byte(`[{"op":"add","path":"/spec/containers/-","value":{"name":"linkerd-proxy"}}]`), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Handler = handler
	return b
}

func (b *bench) write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func request(object string) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{UID: "1", Namespace: "shop", Object: runtime.RawExtension{Raw: []byte(object)}}
}

func (b *bench) admit(t *testing.T, object string) *admissionv1.AdmissionResponse {
	t.Helper()
	response, err := b.Admit(t.Context(), request(object))
	if err != nil {
		t.Fatal(err)
	}
	if !response.Allowed {
		t.Fatalf("not allowed: %+v", response)
	}
	return response
}

// event returns the event there was, empty when there was none.
func (b *bench) event() string {
	select {
	case e := <-b.events.Events:
		return e
	default:
		return ""
	}
}

var enabled = map[string]map[string]string{"shop": {"linkerd.io/inject": "enabled"}}

const deploymentPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"web-1-","annotations":{%},
	"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1","uid":"r"}]},"spec":{"containers":[{"name":"web","ports":[]}]}}`

func podWith(annotations string) string { return strings.Replace(deploymentPod, "%", annotations, 1) }

func ofDeployment(name string) map[string][]metav1.OwnerReference {
	return map[string][]metav1.OwnerReference{"replicaset/web-1": {{APIVersion: "apps/v1", Kind: "Deployment", Name: name, UID: "d"}}}
}

func TestInjected(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled, owners: ofDeployment("web")})
	response := b.admit(t, podWith(`"config.linkerd.io/proxy-uid":"x"`))
	var patch inject.Patch
	if err := json.Unmarshal(response.Patch, &patch); err != nil || response.PatchType == nil || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("patch %s of type %v: %v", response.Patch, response.PatchType, err)
	}
	if last := patch[len(patch)-1]; last.Path != "/spec/containers/-" {
		t.Errorf("last operation is %+v", last)
	}
	if len(response.Warnings) != 1 || !strings.Contains(response.Warnings[0], "config.linkerd.io/proxy-uid") {
		t.Errorf("warnings are %q", response.Warnings)
	}
	if e := b.event(); !strings.HasPrefix(e, "Normal Injected Linkerd sidecar proxy injected") || !strings.Contains(e, "kind=Deployment") {
		t.Errorf("event is %q", e)
	}
	if e := b.event(); !strings.HasPrefix(e, `Warning AnnotationIgnored annotation config.linkerd.io/proxy-uid: value "x"`) {
		t.Errorf("event of the annotation is %q", e)
	}
	for metric, want := range map[string]string{
		"proxy_inject_admission_requests_total":  `annotation_at="namespace"`,
		"proxy_inject_admission_responses_total": `skip="false"`,
	} {
		text := exposition(t, b.registry, metric)
		for _, label := range []string{want, `owner_kind="deployment"`, `namespace="shop"`, `proxy_uid="x"`, `proxy_log_level=""`, "} 1"} {
			if !strings.Contains(text, label) {
				t.Errorf("%s lacks %s:\n%s", metric, label, text)
			}
		}
	}
}

// exposition returns the samples of one metric, a line each.
func exposition(t *testing.T, g prometheus.Gatherer, metric string) string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, family := range families {
		if family.GetName() != metric {
			continue
		}
		for _, sample := range family.GetMetric() {
			out.WriteString("{")
			for _, label := range sample.GetLabel() {
				fmt.Fprintf(&out, "%s=%q,", label.GetName(), label.GetValue())
			}
			fmt.Fprintf(&out, "} %v\n", sample.GetCounter().GetValue())
		}
	}
	return out.String()
}

func TestSkipped(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled, owners: ofDeployment("web")})
	response := b.admit(t, podWith(`"linkerd.io/inject":"disabled"`))
	if response.Patch != nil {
		t.Errorf("patch is %s", response.Patch)
	}
	if e := b.event(); !strings.HasPrefix(e, `Normal InjectionSkipped Linkerd sidecar proxy injection skipped: pod has the annotation "linkerd.io/inject:disabled"`) {
		t.Errorf("event is %q", e)
	}
}

// TestDryRunLeavesNoTrace: `kubectl apply --dry-run=server` must not make events.
func TestDryRunLeavesNoTrace(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled, owners: ofDeployment("web")})
	r, yes := request(podWith("")), true
	r.DryRun = &yes
	if response, err := b.Admit(t.Context(), r); err != nil || response.Patch == nil {
		t.Errorf("got %+v, %v", response, err)
	}
	if e := b.event(); e != "" {
		t.Errorf("event is %q", e)
	}
}

func TestServiceWithoutOpaquePortsIsLeftAlone(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled})
	if response := b.admit(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}`); response.Patch != nil {
		t.Errorf("patch is %s", response.Patch)
	}
	if response := b.admit(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"db"},"spec":{"ports":[{"port":3306}]}}`); !strings.Contains(string(response.Patch), "opaque-ports") {
		t.Errorf("patch is %s", response.Patch)
	}
	if e := b.event(); e != "" {
		t.Errorf("event is %q", e)
	}
}

func TestOtherKindsAreLeftAlone(t *testing.T) {
	b := newBench(t, cluster{namespaces: map[string]map[string]string{"shop": {"linkerd.io/inject": "enabled", "config.linkerd.io/opaque-ports": "1"}}})
	for _, object := range []string{
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}`,
		`{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"c"},"spec":{}}`,
	} {
		if response := b.admit(t, object); response.Patch != nil {
			t.Errorf("%s: patch is %s", object, response.Patch)
		}
	}
}

// TestConfigurationIsCurrent: what changes in the files counts for the next pod.
func TestConfigurationIsCurrent(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled})
	show := func() string {
		b.admit(t, podWith(""))
		proxy := b.rendered["proxy"].(map[string]any)
		return proxy["logLevel"].(string) + " " + b.rendered["identityTrustAnchorsPEM"].(string)
	}
	if got := show(); got != "info anchors" {
		t.Errorf("at first: %s", got)
	}
	b.write(t, b.files.TrustRoots, "other anchors")
	if got := show(); got != "info other anchors" {
		t.Errorf("after other anchors: %s", got)
	}
	b.write(t, b.files.Values, "proxy: {logLevel: debug}")
	if got := show(); got != "debug other anchors" {
		t.Errorf("after other values: %s", got)
	}
}

// TestLastGoodConfigurationStays: what cannot be used has no effect, whatever is wrong with it, and is told once.
func TestLastGoodConfigurationStays(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, b *bench)
		want  string
	}{
		"no YAML": {func(t *testing.T, b *bench) { b.write(t, b.files.Values, "proxy: {logLevel") }, "what was here before: parsing the configuration"},
		"a list":  {func(t *testing.T, b *bench) { b.write(t, b.files.Values, "- a") }, "what was here before: parsing the configuration"},
		"nothing": {func(t *testing.T, b *bench) { b.write(t, b.files.Values, "") }, "what was here before: the configuration"},
		"gone":    {func(t *testing.T, b *bench) { os.Remove(b.files.Values) }, "what was here before: reading the configuration"},
		"a network that is none": {func(t *testing.T, b *bench) {
			b.write(t, b.files.Values, "clusterNetworks: 10.0.0.0/8,x\nproxy: {logLevel: debug}")
		}, "what was here before: the configuration"},
		"what the chart refuses": {func(t *testing.T, b *bench) {
			b.refuse = "debug"
			b.write(t, b.files.Values, "proxy: {logLevel: debug}")
		}, "what was here before: the configuration"},
		"no anchors":        {func(t *testing.T, b *bench) { b.write(t, b.files.TrustRoots, " \n") }, "what was here before: Please provide"},
		"anchors that went": {func(t *testing.T, b *bench) { os.Remove(b.files.TrustRoots) }, "what was here before: reading the trust anchors"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, cluster{namespaces: enabled})
			show := func() string {
				t.Helper()
				b.admit(t, podWith(""))
				proxy := b.rendered["proxy"].(map[string]any)
				return proxy["logLevel"].(string) + " " + b.rendered["identityTrustAnchorsPEM"].(string)
			}
			current := func() string {
				t.Helper()
				text, err := testutil.CollectAndFormat(b.registry, expfmt.TypeTextPlain, names.MetricInjectorConfiguration)
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Fields(string(text))
				return lines[len(lines)-1]
			}
			if got := show(); got != "info anchors" || current() != "1" {
				t.Fatalf("at first: %s, metric %s", got, current())
			}
			c.spoil(t, b)
			for range 3 {
				if got := show(); got != "info anchors" {
					t.Errorf("afterwards: %s", got)
				}
			}
			if got := current(); got != "0" {
				t.Errorf("the metric is %s", got)
			}
			var told []string
			for e := b.event(); e != ""; e = b.event() {
				if strings.Contains(e, "ConfigurationIgnored") {
					told = append(told, e)
				}
			}
			if len(told) != 1 || !strings.HasPrefix(told[0], "Warning ConfigurationIgnored The proxy injector does not use this, but "+c.want) || !strings.Contains(told[0], "kind=ConfigMap") {
				t.Errorf("events %q, want one that says %q", told, c.want)
			}
			// What is good again counts again, also if it is what there was.
			b.refuse = ""
			b.write(t, b.files.Values, "proxy: {logLevel: warn}")
			b.write(t, b.files.TrustRoots, "anchors")
			if got := show(); got != "warn anchors" || current() != "1" {
				t.Errorf("in the end: %s, metric %s", got, current())
			}
		})
	}
}

// TestPodsDoNotShareValues: what one pod's annotations change is not there for the next.
func TestPodsDoNotShareValues(t *testing.T) {
	b := newBench(t, cluster{namespaces: enabled})
	b.admit(t, podWith(`"config.linkerd.io/proxy-log-level":"trace"`))
	b.rendered["proxy"].(map[string]any)["logLevel"] = "changed by the chart"
	b.admit(t, podWith(""))
	if got := b.rendered["proxy"].(map[string]any)["logLevel"]; got != "info" {
		t.Errorf("log level is %v", got)
	}
}

func TestDenials(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(t *testing.T, b *bench)
		object string
		want   string
	}{
		"no namespace":     {func(_ *testing.T, b *bench) { b.options.Lookup = cluster{} }, podWith(""), "namespace not found"},
		"no values":        {func(_ *testing.T, b *bench) { os.Remove(b.files.Values) }, podWith(""), "reading the configuration"},
		"bad values":       {func(t *testing.T, b *bench) { b.write(t, b.files.Values, "a: b: c") }, podWith(""), "parsing the configuration"},
		"no trust anchors": {func(_ *testing.T, b *bench) { os.Remove(b.files.TrustRoots) }, podWith(""), "reading the trust anchors"},
		"not an object":    {nil, `[]`, "not a Kubernetes object"},
		"refused value":    {nil, podWith(`"config.linkerd.io/proxy-log-http-headers":"yes"`), `replicaset/web-1: annotation config.linkerd.io/proxy-log-http-headers: value "yes"`},
		"renderer's error": {func(_ *testing.T, b *bench) {
			b.options.Render = func(map[string]any) ([]byte, error) { return nil, errors.New("broken") }
		}, podWith(""), "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, cluster{namespaces: enabled})
			if c.spoil != nil {
				c.spoil(t, b)
			}
			response, err := b.Admit(t.Context(), request(c.object))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want an error that says %q", response, err, c.want)
			}
		})
	}
}

func TestFindOwner(t *testing.T) {
	reference := func(kind, name string) metav1.OwnerReference {
		return metav1.OwnerReference{Kind: kind, Name: name, UID: "1"}
	}
	lookup := cluster{owners: map[string][]metav1.OwnerReference{
		"replicaset/of-deployment": {reference("Deployment", "web")},
		"replicaset/of-rollout":    {reference("Rollout", "web")},
		"replicaset/of-nobody":     nil,
		"replicaset/of-two":        {reference("Deployment", "web"), reference("Deployment", "api")},
		"job/of-cronjob":           {reference("CronJob", "nightly")},
		"job/of-nobody":            nil,
	}}
	for _, c := range []struct {
		name   string
		owners []metav1.OwnerReference
		want   inject.Owner
		event  string
	}{
		{"nobody", nil, inject.Owner{Kind: "pod", Name: "pod"}, ""},
		{"two", []metav1.OwnerReference{reference("ReplicaSet", "a"), reference("ReplicaSet", "b")}, inject.Owner{Kind: "pod", Name: "pod"}, ""},
		{"deployment", []metav1.OwnerReference{reference("ReplicaSet", "of-deployment")}, inject.Owner{Kind: "deployment", Name: "web"}, "Deployment"},
		{"rollout", []metav1.OwnerReference{reference("ReplicaSet", "of-rollout")}, inject.Owner{Kind: "replicaset", Name: "of-rollout"}, "ReplicaSet"},
		{"plain replica set", []metav1.OwnerReference{reference("ReplicaSet", "of-nobody")}, inject.Owner{Kind: "replicaset", Name: "of-nobody"}, "ReplicaSet"},
		{"replica set of two", []metav1.OwnerReference{reference("ReplicaSet", "of-two")}, inject.Owner{Kind: "replicaset", Name: "of-two"}, "ReplicaSet"},
		{"unknown replica set", []metav1.OwnerReference{reference("ReplicaSet", "gone")}, inject.Owner{Kind: "replicaset", Name: "gone"}, ""},
		{"cron job", []metav1.OwnerReference{reference("Job", "of-cronjob")}, inject.Owner{Kind: "cronjob", Name: "nightly"}, "CronJob"},
		{"plain job", []metav1.OwnerReference{reference("Job", "of-nobody")}, inject.Owner{Kind: "job", Name: "of-nobody"}, "Job"},
		{"stateful set", []metav1.OwnerReference{reference("StatefulSet", "db")}, inject.Owner{Kind: "statefulset", Name: "db"}, "StatefulSet"},
		{"other kind", []metav1.OwnerReference{reference("SparkApplication", "x")}, inject.Owner{Kind: "sparkapplication", Name: "x"}, "SparkApplication"},
	} {
		got := findOwner(t.Context(), lookup, "shop", &inject.Object{Kind: "pod", Name: "pod", OwnerReferences: c.owners})
		event := ""
		if got.reference != nil {
			event = got.reference.Kind
		}
		if got.Owner != c.want || event != c.event {
			t.Errorf("%s: got %+v with events at %q, want %+v at %q", c.name, got.Owner, event, c.want, c.event)
		}
	}
}

// TestSeriesAreBounded: annotations are free text of the users'.
func TestSeriesAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxSeries + 500 {
		m.request("deployment", "shop", "namespace", map[string]string{"config.linkerd.io/proxy-log-level": strings.Repeat("x", i)})
	}
	n, err := testutil.GatherAndCount(registry, "proxy_inject_admission_requests_total")
	if err != nil || n != maxSeries {
		t.Errorf("%d series, %v, want %d", n, err, maxSeries)
	}
}
