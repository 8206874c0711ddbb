package index_test

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
)

// TestUnusable checks that an object that cannot be used is named, with the reason, while its last usable version stays in
// force, and is not named any more once it is put right or gone.
func TestUnusable(t *testing.T) {
	x := run(t)
	server := func(port string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(`
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {namespace: shop, name: web}
spec: {podSelector: {}, port: `+port+`}`), &u.Object); err != nil {
			t.Fatal(err)
		}
		text, err := u.MarshalJSON()
		if err == nil {
			err = u.UnmarshalJSON(text)
		}
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	look := func() (unusable []index.Unusable, servers []*core.Server) {
		t.Helper()
		if err := x.View(t.Context(), func(v index.View) { unusable, servers = v.Unusable("shop"), v.Servers("shop") }); err != nil {
			t.Fatal(err)
		}
		return unusable, servers
	}
	if err := x.Apply(t.Context(), server("80")); err != nil {
		t.Fatal(err)
	}
	if unusable, servers := look(); len(unusable) != 0 || len(servers) != 1 {
		t.Errorf("got %v, %v", unusable, servers)
	}
	if err := x.Apply(t.Context(), server("0")); err == nil {
		t.Fatal("port 0 is taken")
	}
	unusable, servers := look()
	if len(unusable) != 1 || unusable[0].Kind != "Server" || unusable[0].Name != "web" || unusable[0].Err == nil {
		t.Errorf("got %v", unusable)
	}
	if len(servers) != 1 || servers[0].Port != 80 {
		t.Errorf("the version before is not in force: %v", servers)
	}
	if err := x.Apply(t.Context(), server("81")); err != nil {
		t.Fatal(err)
	}
	if unusable, servers := look(); len(unusable) != 0 || len(servers) != 1 || servers[0].Port != 81 {
		t.Errorf("got %v, %v", unusable, servers)
	}
	_ = x.Apply(t.Context(), server("0"))
	if err := x.Delete(t.Context(), server("0")); err != nil {
		t.Fatal(err)
	}
	if unusable, servers := look(); len(unusable) != 0 || len(servers) != 0 {
		t.Errorf("got %v, %v", unusable, servers)
	}
}

// TestOverlaps checks what admission says of a Server for ports that others are for: of pods that are alike once, and nothing
// of the Server as it was.
func TestOverlaps(t *testing.T) {
	x := run(t)
	objects := policytest.Objects{}
	for _, o := range objects.Read(t, `
kind: Server
metadata: {name: by-name}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
---
kind: Server
metadata: {name: elsewhere}
spec: {podSelector: {matchLabels: {app: api}}, port: 8080}
---
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
kind: Pod
metadata: {name: web-2, labels: {app: web}}
spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
`) {
		if err := x.Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(name string, port uint16) (overlaps []string) {
		t.Helper()
		all, err := labels.Parse("")
		if err != nil {
			t.Fatal(err)
		}
		s := &core.Server{Object: core.Object{ID: core.ID{Namespace: policytest.Namespace, Name: name}}, Pods: all, Port: port}
		if err := x.View(t.Context(), func(v index.View) { overlaps = core.Overlaps(v, v.Workloads(s.Namespace), s) }); err != nil {
			t.Fatal(err)
		}
		return overlaps
	}
	want := []string{"Server emo/by-name is for port 8080 of the same pods, and in force there, for it is older"}
	if got := ask("new", 8080); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := ask("new", 8081); len(got) != 0 {
		t.Errorf("another port: got %q", got)
	}
	if got := ask("by-name", 8080); len(got) != 0 {
		t.Errorf("the Server as it was: got %q", got)
	}
}
