package index_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
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
