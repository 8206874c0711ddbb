package charts

import (
	"encoding/base64"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	dynamicfake "k8s.io/client-go/dynamic/fake"

	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// present is a cluster as `helm upgrade` sees it from templates.
type present struct{ client dynamic.Interface }

var presentKinds = map[string]schema.GroupVersionResource{
	"Secret":                         {Version: "v1", Resource: "secrets"},
	"ConfigMap":                      {Version: "v1", Resource: "configmaps"},
	"MutatingWebhookConfiguration":   {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	"ValidatingWebhookConfiguration": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
}

// GetClientFor implements engine.ClientProvider.
func (p present) GetClientFor(_, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	return p.client.Resource(presentKinds[kind]), kind == "Secret" || kind == "ConfigMap", nil
}

// TestHelmUpgradeKeepsWebhookCertificates renders as `helm upgrade` does, with
// the cluster at hand: what the control plane keeps stays as it is there, and
// what nobody keeps is made anew.
func TestHelmUpgradeKeepsWebhookCertificates(t *testing.T) {
	object := func(kind, namespace, name string, fields map[string]any) *unstructured.Unstructured {
		gvr := presentKinds[kind]
		o := &unstructured.Unstructured{Object: fields}
		o.SetAPIVersion(gvr.GroupVersion().String())
		o.SetKind(kind)
		o.SetNamespace(namespace)
		o.SetName(name)
		return o
	}
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	client := dynamicfake.NewSimpleDynamicClient(runtime.NewScheme(),
		object("Secret", "linkerd", "linkerd-proxy-injector-k8s-tls", map[string]any{"data": map[string]any{"tls.crt": encoded("served"), "tls.key": encoded("its key")}}),
		object("MutatingWebhookConfiguration", "", "linkerd-proxy-injector-webhook-config", map[string]any{
			"webhooks": []any{map[string]any{"clientConfig": map[string]any{"caBundle": encoded("served and next")}}},
		}),
		// Its configuration has not come yet.
		object("Secret", "linkerd", "linkerd-sp-validator-k8s-tls", map[string]any{"data": map[string]any{"tls.crt": encoded("profiles"), "tls.key": encoded("its key")}}),
	)
	render := func(more string) map[string]string {
		t.Helper()
		chart := mustLoad(t, ControlPlane)
		values := parse(t, certificates)
		delete(values, "proxyInjector")
		delete(values, "profileValidator")
		delete(values, "policyValidator")
		valuetree.Merge(values, parse(t, more))
		top, err := chartutil.ToRenderValues(chart.loaded, values, chartutil.ReleaseOptions{Name: "test", Namespace: "linkerd", IsUpgrade: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := engine.RenderWithClientProvider(chart.loaded, top, present{client})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for name, text := range rendered {
			for _, file := range []string{"proxy-injector-rbac", "destination-rbac", "proxy-injector", "destination"} {
				if strings.HasSuffix(name, "/"+file+".yaml") {
					out[file] = text
				}
			}
		}
		return out
	}
	first, again := render(""), render("")
	for file, wanted := range map[string][]string{
		"proxy-injector-rbac": {"tls.crt: " + encoded("served") + "\n", "tls.key: " + encoded("its key") + "\n", "caBundle: " + encoded("served and next") + "\n"},
		"destination-rbac":    {"tls.crt: " + encoded("profiles") + "\n", "caBundle: " + encoded("profiles") + "\n"},
	} {
		for _, want := range wanted {
			if !strings.Contains(first[file], want) {
				t.Errorf("%s has no %q", file, want)
			}
		}
	}
	// Of what is not in the cluster the chart makes the first.
	if n := strings.Count(first["destination-rbac"], "tls.crt: "); n != 2 {
		t.Errorf("%d Secrets of validators, want 2", n)
	}
	// An upgrade restarts no pods for certificates.
	if first["proxy-injector"] != again["proxy-injector"] || first["destination"] != again["destination"] {
		t.Error("two upgrades have different pods")
	}
	if first["proxy-injector-rbac"] != again["proxy-injector-rbac"] {
		t.Error("two upgrades differ")
	}
	if text := render("webhookCertificates: {rotation: {enabled: false}}")["proxy-injector-rbac"]; strings.Contains(text, encoded("served")) || !strings.Contains(text, "tls.crt: ") {
		t.Error("a certificate that nobody keeps is not made anew")
	}
	if text := render("proxyInjector: {crtPEM: mine, keyPEM: key}")["proxy-injector-rbac"]; !strings.Contains(text, encoded("mine")) || strings.Contains(text, encoded("served")) {
		t.Error("a certificate that is given is not used")
	}
}
