package charts

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"helm.sh/helm/v3/pkg/chart/loader"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// certificates are fixed values for everything a render would otherwise make
// up.
const certificates = `
identityTrustAnchorsPEM: "anchors"
identity: {issuer: {tls: {crtPEM: issuer-crt, keyPEM: issuer-key}}}
proxyInjector: {crtPEM: injector-crt, keyPEM: injector-key}
profileValidator: {crtPEM: profile-crt, keyPEM: profile-key}
policyValidator: {crtPEM: policy-crt, keyPEM: policy-key}
`

func mustLoad(t *testing.T, name string) *Chart {
	t.Helper()
	c, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// TestRender renders each testdata/*.txtar. A case has the files
//
//	chart        name of the chart, linkerd-control-plane when absent
//	service      "CLI" to render as the CLI
//	ha           present to lay values-ha.yaml over
//	values.yaml  laid over the defaults and over fixed certificates
//	select       one "Kind/name" per line, what to show; all when absent
//	want.yaml    the selected objects, or
//	error        a part of the message the render fails with
func TestRender(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		has := func(name string) bool {
			return slices.ContainsFunc(parts, func(part txtar.File) bool { return part.Name == name })
		}
		name := ControlPlane
		if has("chart") {
			name = strings.TrimSpace(golden.Part(parts, "chart"))
		}
		chart := mustLoad(t, name)
		values := map[string]any{}
		if has("ha") {
			var err error
			if values, err = chart.HighAvailability(); err != nil {
				t.Fatal(err)
			}
		}
		if name == ControlPlane {
			valuetree.Merge(values, parse(t, certificates))
		}
		valuetree.Merge(values, parse(t, golden.Part(parts, "values.yaml")))
		service := strings.TrimSpace(golden.Part(parts, "service"))
		manifests, err := chart.Render(Release{Name: "test", Namespace: "linkerd", Service: service}, values)
		if has("error") {
			if want := strings.TrimSpace(golden.Part(parts, "error")); err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("error is %v, want it to contain %q", err, want)
			}
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		return golden.With(parts, "want.yaml", string(selected(t, Join(manifests), strings.Fields(golden.Part(parts, "select")))))
	})
}

func selected(t *testing.T, manifest []byte, wanted []string) []byte {
	t.Helper()
	if len(wanted) == 0 {
		return manifest
	}
	found := map[string]bool{}
	var out bytes.Buffer
	for _, document := range documents(manifest) {
		var o struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := yaml.Unmarshal(document, &o); err != nil {
			t.Fatal(err)
		}
		for _, w := range wanted {
			if w == o.Kind+"/"+o.Name {
				found[w] = true
				fmt.Fprintf(&out, "---\n%s\n", bytes.TrimSpace(document))
			}
		}
	}
	for _, w := range wanted {
		if !found[w] && !strings.HasPrefix(w, "!") {
			fmt.Fprintf(&out, "# no %s\n", w)
		}
	}
	return out.Bytes()
}

func documents(manifest []byte) [][]byte {
	var out [][]byte
	for _, d := range bytes.Split(append([]byte("\n"), manifest...), []byte("\n---\n")) {
		if len(bytes.TrimSpace(d)) > 0 {
			out = append(out, d)
		}
	}
	return out
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "<end>", "<end>"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d:\n- %s\n+ %s", i+1, a, b)
		}
	}
	return "no difference"
}

// settings that change the shape of the objects, each rendered and decoded.
var settings = []string{
	``,
	`proxy: {nativeSidecar: false}`,
	`proxy: {nativeSidecar: false, await: false, waitBeforeExitSeconds: 7}`,
	`cniEnabled: true`,
	`disableIPv6: false`,
	`proxyInit: {runAsRoot: true, closeWaitTimeoutSecs: 3, iptablesMode: legacy, skipSubnets: 10.0.0.0/8, logLevel: debug, logFormat: json}`,
	`proxy: {gid: 1000660000, uid: 1000660000, securityContext: {runAsUser: 7}, accessLog: json, shutdownGracePeriod: 3s}`,
	`proxy: {outboundAccessLog: json, inboundForwardedFor: append, inboundProxyProtocolPorts: "8080,8443", shutdownTCPGracePeriod: 1s}`,
	`controllerGID: 12`,
	`identity: {serviceAccountTokenProjection: false, externalCA: true}`,
	`identity: {additionalEnv: [{name: A, value: b}]}
destinationController: {additionalEnv: [{name: A, value: b}], additionalArgs: ["-a"], experimentalArgs: ["-b"]}
proxyInjector: {experimentalEnv: [{name: A, value: b}]}
heartbeat: {additionalEnv: [{name: A, value: b}]}
policyController: {additionalArgs: ["--a"], resources: {cpu: {limit: 1}}}`,
	`proxy: {tracing: {enabled: true, sampleRatio: 0.05, collector: {endpoint: "c:4317", meshIdentity: {serviceAccountName: c, namespace: t}}}}
controller: {tracing: {enabled: true}}`,
	`tolerations: [{operator: Exists}]
nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}
priorityClassName: p
runtimeClassName: r
podLabels: {a: b}
podAnnotations: {c: d}
commonLabels: {e: f}
imagePullSecrets: [{name: s}]
configReaders: [{name: reader, namespace: monitoring}]`,
	`disableHeartBeat: true`,
	`{webhookCertificates: null, webhookConfigurationPerNamespace: null, versionCheckURL: null}`,
	`proxyInjector: {externalSecret: true, crtPEM: "", keyPEM: "", injectCaFrom: a/b}`,
	`identityProxyResources: {cores: 2, cpu: {request: 1, limit: 2}, memory: {request: 20Mi}, ephemeral-storage: {limit: 1Gi}}`,
}

// TestObjectsDecode is what kubectl would refuse: fields the API does not
// have, keys given twice, values of the wrong type.
func TestObjectsDecode(t *testing.T) {
	chart := mustLoad(t, ControlPlane)
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, ha := range []bool{false, true} {
		for i, setting := range settings {
			t.Run(fmt.Sprintf("ha=%v/%d", ha, i), func(t *testing.T) {
				values := map[string]any{}
				if ha {
					var err error
					if values, err = chart.HighAvailability(); err != nil {
						t.Fatal(err)
					}
				}
				valuetree.Merge(values, parse(t, certificates))
				valuetree.Merge(values, parse(t, setting))
				manifests, err := chart.Render(Release{Name: "test", Namespace: "linkerd", Service: ServiceCLI}, values)
				if err != nil {
					t.Fatal(err)
				}
				for _, document := range documents(Join(manifests)) {
					object, _, err := decoder.Decode(document, nil, nil)
					if err != nil {
						t.Errorf("%v\n%s", err, document)
						continue
					}
					if cm, ok := object.(*corev1.ConfigMap); ok && cm.Name == "linkerd-config" {
						var stored map[string]any
						if err := yaml.UnmarshalStrict([]byte(cm.Data["values"]), &stored); err != nil {
							t.Errorf("values in linkerd-config: %v", err)
						}
						if strings.Contains(cm.Data["values"], "-key") {
							t.Error("linkerd-config holds a private key")
						}
					}
				}
			})
		}
	}
}

// TestCNIObjectsDecode is the same for the chart of the CNI plugin.
func TestCNIObjectsDecode(t *testing.T) {
	chart := mustLoad(t, CNI)
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, setting := range []string{
		``,
		`repairController: {enabled: true, enableSecurityContext: false, resources: {cpu: {limit: 1}}}`,
		`nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}
priorityClassName: p
podLabels: {a: b}
commonLabels: {e: f}
imagePullSecrets: [{name: s}]
proxyGID: 5
privileged: true
extraInitContainers: [{name: wait, image: busybox}]
destCNIBinDir: /etc/cni/net.d`,
	} {
		manifests, err := chart.Render(Release{Name: "test", Namespace: "linkerd-cni", Service: ServiceCLI}, parse(t, setting))
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range documents(Join(manifests)) {
			if _, _, err := decoder.Decode(document, nil, nil); err != nil {
				t.Errorf("%v\n%s", err, document)
			}
		}
	}
}

// TestSameTwice is what a GitOps tool needs: with certificates given, or with
// webhooks' certificates that the control plane makes, two renders are the same;
// else only these certificates differ.
func TestSameTwice(t *testing.T) {
	chart := mustLoad(t, ControlPlane)
	render := func(values map[string]any) string {
		manifests, err := chart.Render(Release{Name: "test", Namespace: "linkerd"}, values)
		if err != nil {
			t.Fatal(err)
		}
		return string(Join(manifests))
	}
	if a, b := render(parse(t, certificates)), render(parse(t, certificates)); a != b {
		t.Errorf("two renders with given certificates differ: %s", firstDifference(a, b))
	}
	generated := parse(t, certificates)
	for _, webhook := range []string{"proxyInjector", "profileValidator", "policyValidator"} {
		delete(generated, webhook)
	}
	a, b := strings.Split(render(generated), "\n"), strings.Split(render(generated), "\n")
	if len(a) != len(b) {
		t.Fatalf("two renders have %d and %d lines", len(a), len(b))
	}
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		key, _, _ := strings.Cut(strings.TrimSpace(a[i]), ":")
		switch key {
		case "tls.crt", "tls.key", "caBundle":
		default:
			t.Errorf("line %d differs: %q and %q", i+1, a[i], b[i])
		}
	}
	// Nor they, if the control plane makes them. If nobody keeps them, new ones roll the pods.
	generated["webhookCertificates"] = map[string]any{"rendered": false}
	if a, b := render(generated), render(generated); a != b {
		t.Errorf("two renders without certificates differ: %s", firstDifference(a, b))
	}
	generated["webhookCertificates"] = map[string]any{"rotation": map[string]any{"enabled": false}}
	if sums := checksums(render(generated)); len(sums) != 2 || slices.Equal(sums, checksums(render(generated))) {
		t.Errorf("pods are not rolled by new certificates: %v", sums)
	}
}

func checksums(manifest string) []string {
	var out []string
	for line := range strings.Lines(manifest) {
		if strings.HasPrefix(strings.TrimSpace(line), "checksum/config:") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestGeneratedCertificateFits renders without certificates: the bundle in the
// webhook configuration has to be the one of the Secret.
func TestGeneratedCertificateFits(t *testing.T) {
	values := parse(t, certificates)
	delete(values, "proxyInjector")
	manifests, err := mustLoad(t, ControlPlane).Render(Release{Name: "test", Namespace: "linkerd"}, values)
	if err != nil {
		t.Fatal(err)
	}
	secret := string(selected(t, Join(manifests), []string{"Secret/linkerd-proxy-injector-k8s-tls"}))
	webhook := string(selected(t, Join(manifests), []string{"MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config"}))
	field := func(text, key string) string {
		for _, line := range strings.Split(text, "\n") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+": "); ok {
				return v
			}
		}
		return ""
	}
	if crt, ca := field(secret, "tls.crt"), field(webhook, "caBundle"); crt == "" || crt != ca {
		t.Errorf("tls.crt %.20q and caBundle %.20q are not the same certificate", crt, ca)
	}
}

// lastApplied is the size of an annotation: kubectl apply keeps the object
// there, and refuses one that is larger.
const lastApplied = 262144

func TestCRDsFitIntoAnAnnotation(t *testing.T) {
	manifests, err := mustLoad(t, CRDs).Render(Release{Namespace: "linkerd"}, map[string]any{"installGatewayAPI": true})
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range documents(Join(manifests)) {
		object, err := yaml.YAMLToJSONStrict(document)
		if err != nil {
			t.Fatal(err)
		}
		if len(object) > lastApplied {
			t.Errorf("an object of %d bytes cannot be applied: %.200s", len(object), object)
		}
	}
}

// What clusters have stored, and manifests name, stays served. Source: control plane chapter, section 2.1.
func TestCRDsServe(t *testing.T) {
	manifests, err := mustLoad(t, CRDs).Render(Release{Namespace: "mesh"}, map[string]any{"installGatewayAPI": true})
	if err != nil {
		t.Fatal(err)
	}
	served, stored := map[string][]string{}, map[string]string{}
	for _, document := range documents(Join(manifests)) {
		var crd struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
			Spec struct {
				Versions []struct {
					Name            string
					Served, Storage bool
				}
			}
		}
		if err := yaml.Unmarshal(document, &crd); err != nil {
			t.Fatal(err)
		}
		name := crd.Metadata.Name
		for _, v := range crd.Spec.Versions {
			if v.Served {
				served[name] = append(served[name], v.Name)
			}
			if v.Storage {
				stored[name] = v.Name
			}
		}
		if l := crd.Metadata.Labels; !strings.HasPrefix(l["helm.sh/chart"], "linkerd-crds-") || l["linkerd.io/control-plane-ns"] != "mesh" {
			t.Errorf("%s has labels %v", name, l)
		}
	}
	for name, want := range map[string]string{
		"serviceprofiles.linkerd.io":                   "v1alpha1 v1alpha2",
		"servers.policy.linkerd.io":                    "v1alpha1 v1beta1 v1beta2 v1beta3",
		"serverauthorizations.policy.linkerd.io":       "v1alpha1 v1beta1",
		"authorizationpolicies.policy.linkerd.io":      "v1alpha1",
		"meshtlsauthentications.policy.linkerd.io":     "v1alpha1",
		"networkauthentications.policy.linkerd.io":     "v1alpha1",
		"httproutes.policy.linkerd.io":                 "v1alpha1 v1beta1 v1beta2 v1beta3",
		"httplocalratelimitpolicies.policy.linkerd.io": "v1alpha1",
		"egressnetworks.policy.linkerd.io":             "v1alpha1",
		"externalworkloads.workload.linkerd.io":        "v1alpha1 v1beta1",
		"httproutes.gateway.networking.k8s.io":         "v1beta1 v1",
		"grpcroutes.gateway.networking.k8s.io":         "v1alpha2 v1",
		"tcproutes.gateway.networking.k8s.io":          "v1alpha2",
		"tlsroutes.gateway.networking.k8s.io":          "v1alpha2",
	} {
		versions := strings.Fields(want)
		for _, version := range versions {
			if !slices.Contains(served[name], version) {
				t.Errorf("%s serves %v, want %s among them", name, served[name], version)
			}
		}
		// The Gateway API goes on by itself.
		if newest := versions[len(versions)-1]; stored[name] != newest && !strings.HasSuffix(name, "gateway.networking.k8s.io") {
			t.Errorf("%s stores %s, want %s", name, stored[name], newest)
		}
	}
}

// TestPackage renders the archive a user installs: it has to give what the CLI
// renders, and carry the version.
func TestPackage(t *testing.T) {
	for _, name := range Packaged {
		c := mustLoad(t, name)
		path, err := c.Package("2026.3.1", "edge-26.3.1", t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := loader.LoadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.Metadata.Version != "2026.3.1" || loaded.Metadata.AppVersion != "edge-26.3.1" || loaded.Values["linkerdVersion"] != "edge-26.3.1" {
			t.Errorf("%s is of version %s, %s, %v", name, loaded.Metadata.Version, loaded.Metadata.AppVersion, loaded.Values["linkerdVersion"])
		}
		if err := loaded.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		values := map[string]any{}
		if name == ControlPlane || name == Single {
			values = parse(t, certificates)
		}
		got, err := (&Chart{name: name, loaded: loaded}).Render(Release{Name: "r", Namespace: "linkerd"}, values)
		if err != nil {
			t.Fatal(err)
		}
		values["linkerdVersion"] = "edge-26.3.1"
		want, err := c.Render(Release{Name: "r", Namespace: "linkerd"}, values)
		if err != nil {
			t.Fatal(err)
		}
		// The archive's version is in a label, which is as it should be.
		label := "helm.sh/chart: " + c.loaded.Metadata.Name + "-"
		if a, b := strings.ReplaceAll(string(Join(want)), label+c.loaded.Metadata.Version, label+"2026.3.1"), string(Join(got)); a != b {
			t.Errorf("%s renders differently from its archive: %s", name, firstDifference(a, b))
		}
	}
}

// TestSingleChart installs as users' documents of 2.11 do: one chart, with an
// issuer that cert-manager keeps.
func TestSingleChart(t *testing.T) {
	c := mustLoad(t, Single)
	render := func(chart *Chart, values string) string {
		manifests, err := chart.Render(Release{Name: "linkerd2", Namespace: "linkerd"}, parse(t, values))
		if err != nil {
			t.Fatal(err)
		}
		return string(Join(manifests))
	}
	values := `
identityTrustAnchorsPEM: anchors
identity: {issuer: {scheme: kubernetes.io/tls}}
installNamespace: false
proxyInjector: {crtPEM: injector-crt, keyPEM: injector-key}
profileValidator: {crtPEM: profile-crt, keyPEM: profile-key}
policyValidator: {crtPEM: policy-crt, keyPEM: policy-key}
`
	got := render(c, values)
	definitions := strings.ReplaceAll(render(mustLoad(t, CRDs), values), "helm.sh/chart: "+CRDs, "helm.sh/chart: "+Single)
	for _, part := range []string{definitions, "name: linkerd-destination\n", "identityTrustAnchorsPEM: anchors\n"} {
		if !strings.Contains(got, part) {
			t.Errorf("the chart lacks %.100q", part)
		}
	}
	if strings.Contains(got, "name: linkerd-identity-issuer\n") || strings.Contains(got, "kind: Namespace\n") {
		t.Error("the chart makes what exists already")
	}
}
