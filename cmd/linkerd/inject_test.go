package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/charts"
	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// linkerd runs a command line against a cluster whose control plane was installed with the chart's defaults, and returns
// what it prints.
func linkerd(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	chart, err := charts.Load(charts.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	values, err := chart.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	values["identityTrustAnchorsPEM"] = "anchors"
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-config"}, Data: map[string]string{"values": string(text)}}
	var stdout, stderr bytes.Buffer
	w := &command.World{
		In: strings.NewReader(stdin), Out: &stdout, Err: &stderr,
		Getenv:   func(string) string { return "" },
		ReadFile: os.ReadFile,
		HTTP:     http.DefaultClient,
		Connect: func(cluster.Options) (*cluster.Cluster, error) {
			return &cluster.Cluster{Kube: fake.NewClientset(config)}, nil
		},
	}
	if code := cli.Run(context.Background(), w, parts(), args); code != 0 {
		t.Fatalf("linkerd %s: exit %d\n%s", strings.Join(args, " "), code, &stderr)
	}
	return stdout.String()
}

// workloads are what the tests inject: without and with volumes, init containers and metadata of their own.
var workloads = map[string]string{
	"deployment": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web, ports: [{containerPort: 80}]}]}}}
`,
	"statefulset": `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop, labels: {team: a}}
spec:
  template:
    metadata: {labels: {app: db}, annotations: {mine: "1"}}
    spec:
      initContainers: [{name: prepare, image: db}]
      containers: [{name: db, image: db}]
      volumes: [{name: data, emptyDir: {}}]
`,
	"cronjob": `
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: nightly}}, spec: {restartPolicy: OnFailure, containers: [{name: job, image: job}]}}}}}
`,
}

// TestManualInjectionIsUndone: what uninject leaves of an injected workload is the workload.
func TestManualInjectionIsUndone(t *testing.T) {
	for name, workload := range workloads {
		for _, flags := range []string{"", "--native-sidecar=false", "--enable-debug-sidecar", "--ingress --skip-outbound-ports 443"} {
			args := append([]string{"inject", "--manual"}, strings.Fields(flags)...)
			injected := linkerd(t, workload, append(args, "-")...)
			for _, part := range []string{"name: linkerd-proxy", "name: linkerd-init", "name: linkerd-identity-end-entity", "linkerd.io/proxy-" + name + ":"} {
				if !strings.Contains(injected, part) {
					t.Errorf("%s %s: injected workload lacks %q:\n%s", name, flags, part, injected)
				}
			}
			if got, want := object(t, linkerd(t, injected, "uninject", "-")), object(t, workload); !reflect.DeepEqual(got, want) {
				t.Errorf("%s %s: uninjected:\n%v\nwant:\n%v", name, flags, got, want)
			}
		}
	}
}

// object reads the first document, without the annotations that a user's flags stand for: uninject keeps those.
func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(strings.Split(text, "\n---\n")[0]), &o); err != nil {
		t.Fatal(err)
	}
	prune(o)
	return o
}

func prune(o map[string]any) {
	for key, value := range o {
		child, ok := value.(map[string]any)
		if !ok {
			continue
		}
		prune(child)
		if key != "annotations" {
			continue
		}
		for annotation := range child {
			if strings.HasPrefix(annotation, "config.") {
				delete(child, annotation)
			}
		}
		if len(child) == 0 {
			delete(o, key)
		}
	}
}
