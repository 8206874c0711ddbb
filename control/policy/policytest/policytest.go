// Package policytest reads the objects of test files, which leave out what every object has.
//
//	objects := policytest.Objects{}
//	for _, object := range objects.Read(t, yaml) { index.Apply(ctx, object) }
//	config := policytest.Config()
//
// What is filled in: apiVersion by kind, the namespace emo, a creationTimestamp in the order of appearance, and a status that
// accepts routes and rate limits everywhere. An Objects is used by one test at a time. The package is for tests only.
package policytest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// Namespace is that of objects which name none.
const Namespace = "emo"

// Config is that of the charts' defaults. Source: proxy API chapter, section 12.
func Config() core.Config {
	opaque, _ := portlist.Parse("25,587,3306,4444,5432,6379,9300,11211", nil)
	prefixes := func(list ...string) []netip.Prefix {
		var prefixes []netip.Prefix
		for _, text := range list {
			prefixes = append(prefixes, netip.MustParsePrefix(text))
		}
		return prefixes
	}
	return core.Config{
		ControllerNamespace:   "linkerd",
		TrustDomain:           "cluster.local",
		ClusterDomain:         "cluster.local",
		ClusterNetworks:       prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"),
		ProbeNetworks:         prefixes("0.0.0.0/0", "::/0"),
		DefaultPolicy:         core.AllUnauthenticated,
		DefaultOpaquePorts:    opaque,
		GlobalEgressNamespace: "linkerd-egress",
	}
}

// Objects completes objects. Its zero value has seen none.
type Objects struct {
	created time.Time
}

var apiVersions = map[string]string{
	"Pod": "v1", "Service": "v1",
	"ExternalWorkload": "workload.linkerd.io/v1beta1",
	"Server":           "policy.linkerd.io/v1beta3", "ServerAuthorization": "policy.linkerd.io/v1beta1",
	"AuthorizationPolicy": "policy.linkerd.io/v1alpha1", "MeshTLSAuthentication": "policy.linkerd.io/v1alpha1",
	"NetworkAuthentication": "policy.linkerd.io/v1alpha1", "EgressNetwork": "policy.linkerd.io/v1alpha1",
	"HTTPLocalRateLimitPolicy": "policy.linkerd.io/v1alpha1",
	"HTTPRoute":                "gateway.networking.k8s.io/v1", "GRPCRoute": "gateway.networking.k8s.io/v1",
	"ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
	"TLSRoute":       "gateway.networking.k8s.io/v1alpha2", "TCPRoute": "gateway.networking.k8s.io/v1alpha2",
}

// Read reads the YAML documents of a text.
func (o *Objects) Read(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			t.Fatalf("%s\n%v", document, err)
		}
		o.complete(t, u)
		list = append(list, u)
	}
	return list
}

func (o *Objects) complete(t testing.TB, u *unstructured.Unstructured) {
	t.Helper()
	if u.GetAPIVersion() == "" {
		u.SetAPIVersion(apiVersions[u.GetKind()])
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(Namespace)
	}
	// Through JSON and back, so that numbers are of the types that a client makes of them.
	text, err := u.MarshalJSON()
	if err == nil {
		err = u.UnmarshalJSON(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	if o.created.IsZero() {
		o.created = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	o.created = o.created.Add(time.Minute)
	set := func(value any, fields ...string) {
		if _, has, _ := unstructured.NestedFieldNoCopy(u.Object, fields...); !has {
			if err := unstructured.SetNestedField(u.Object, value, fields...); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(o.created.Format(time.RFC3339), "metadata", "creationTimestamp")
	accepted := []any{map[string]any{"type": "Accepted", "status": "True"}}
	if refs, has, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs"); has {
		var parents []any
		for _, ref := range refs {
			parents = append(parents, map[string]any{"controllerName": "linkerd.io/policy-controller", "parentRef": ref, "conditions": accepted})
		}
		set(map[string]any{"parents": parents}, "status")
	} else if u.GetKind() == "HTTPLocalRateLimitPolicy" {
		set(map[string]any{"conditions": accepted}, "status")
	}
}
