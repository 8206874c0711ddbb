package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/txtar"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/charts"
	"github.com/linkerd-go/linkerd-go/control/injector"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// fixedLookup is a cluster with one namespace and one ReplicaSet, which belongs to a Deployment.
type fixedLookup struct{ annotations map[string]string }

func (l fixedLookup) NamespaceAnnotations(context.Context, string) (map[string]string, error) {
	return l.annotations, nil
}

func (l fixedLookup) OwnersOf(_ context.Context, _, _, name string) ([]metav1.OwnerReference, bool) {
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: strings.TrimSuffix(name, "-abc")}}, true
}

// newHandler returns an injector with the real chart, whose configuration is the control plane chart's defaults with
// overlay laid over.
func newHandler(t testing.TB, overlay string, lookup injector.Lookup) *injector.Handler {
	t.Helper()
	chart, err := charts.Load(charts.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	values, err := chart.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	over := map[string]any{}
	if err := yaml.Unmarshal([]byte(overlay), &over); err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(valuetree.Merge(values, over))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := injector.Files{Values: filepath.Join(dir, "values"), TrustRoots: filepath.Join(dir, "ca-bundle.crt")}
	for name, content := range map[string]string{files.Values: string(text), files.TrustRoots: "anchors\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	render, err := charts.PatchRenderer("linkerd")
	if err != nil {
		t.Fatal(err)
	}
	handler, err := injector.New(injector.Options{
		Namespace: "linkerd",
		Version:   "test",
		Files:     files,
		Lookup:    lookup,
		Render:    render,
		Events:    record.NewFakeRecorder(100),
		Metrics:   prometheus.NewRegistry(),
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func admissionRequest(object []byte) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{UID: "1", Namespace: "shop", Object: runtime.RawExtension{Raw: object}}
}

// TestInjection injects what testdata/inject/*.txtar have, with the real chart. A case has the files
//
//	namespace.yaml  annotations of the namespace
//	values.yaml     laid over the defaults of the control plane's chart
//	object.yaml     a pod or a Service
//	show            what the case is about, one per line:
//	                  ops              the operations of the patch and their paths
//	                  shape            containers and volumes
//	                  annotations, labels
//	                  env NAME         a variable of the proxy; without NAME all of them
//	                  container NAME   a container, without its environment
//	want            what was asked for, as it is when the API server has applied the patch; or the reason of a denial
func TestInjection(t *testing.T) {
	golden.Archives(t, "testdata/inject", func(t *testing.T, parts []txtar.File) []txtar.File {
		annotations := map[string]string{}
		if err := yaml.Unmarshal([]byte(golden.Part(parts, "namespace.yaml")), &annotations); err != nil {
			t.Fatal(err)
		}
		object, err := yaml.YAMLToJSON([]byte(golden.Part(parts, "object.yaml")))
		if err != nil {
			t.Fatal(err)
		}
		handler := newHandler(t, golden.Part(parts, "values.yaml"), fixedLookup{annotations})
		return golden.With(parts, "want", reviewed(t, handler, object, golden.Part(parts, "show")))
	})
}

// reviewed reviews an object and prints what is asked for.
func reviewed(t *testing.T, handler *injector.Handler, object []byte, show string) string {
	t.Helper()
	response, err := handler.Admit(t.Context(), admissionRequest(object))
	if err != nil {
		return "denied: " + err.Error() + "\n"
	}
	var out strings.Builder
	for _, w := range response.Warnings {
		fmt.Fprintf(&out, "warning: %s\n", w)
	}
	if response.Patch == nil {
		out.WriteString("unchanged\n")
		return out.String()
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatalf("the patch is not a JSON patch: %v", err)
	}
	patched, err := patch.Apply(object)
	if err != nil {
		t.Fatalf("the patch does not apply: %v", err)
	}
	var result struct {
		metav1.ObjectMeta `json:"metadata"`
		Spec              corev1.PodSpec `json:"spec"`
	}
	if err := json.Unmarshal(patched, &result); err != nil && !strings.Contains(string(object), `"Service"`) {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(show), "\n") {
		what, name, _ := strings.Cut(line, " ")
		fmt.Fprintf(&out, "# %s\n", line)
		switch what {
		case "ops":
			for _, op := range patch {
				at, _ := op.Path()
				fmt.Fprintf(&out, "%s %s\n", op.Kind(), at)
			}
		case "shape":
			shape(&out, result.Spec)
		case "annotations":
			printMap(&out, result.Annotations)
		case "labels":
			printMap(&out, result.Labels)
		case "env":
			for _, v := range container(t, result.Spec, "linkerd-proxy").Env {
				if name == "" || v.Name == "LINKERD2_PROXY_"+name || v.Name == name {
					fmt.Fprintf(&out, "%s=%s\n", v.Name, envValue(v))
				}
			}
		case "container":
			c := container(t, result.Spec, name)
			c.Env = nil
			text, err := yaml.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(text)
		default:
			t.Fatalf("cannot show %q", line)
		}
	}
	return out.String()
}

func shape(out io.Writer, spec corev1.PodSpec) {
	for _, c := range spec.InitContainers {
		kind := "init container"
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = "native sidecar"
		}
		fmt.Fprintf(out, "%s %s\n", kind, c.Name)
	}
	for _, c := range spec.Containers {
		fmt.Fprintf(out, "container %s\n", c.Name)
	}
	for _, v := range spec.Volumes {
		fmt.Fprintf(out, "volume %s\n", v.Name)
	}
}

func container(t *testing.T, spec corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no container %s", name)
	return corev1.Container{}
}

func printMap(out io.Writer, m map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(out, "%s: %q\n", key, m[key])
	}
}

func envValue(v corev1.EnvVar) string {
	switch {
	case v.ValueFrom == nil:
		return strings.TrimSuffix(v.Value, "\n")
	case v.ValueFrom.FieldRef != nil:
		return "(" + v.ValueFrom.FieldRef.FieldPath + ")"
	case v.ValueFrom.ConfigMapKeyRef != nil:
		return "(configmap " + v.ValueFrom.ConfigMapKeyRef.Name + " " + v.ValueFrom.ConfigMapKeyRef.Key + ")"
	}
	return "(other source)"
}

// serving is a log handler that tells the address of the message with which commands begin to serve.
type serving struct {
	slog.Handler
	addr chan string
}

func (s serving) Enabled(context.Context, slog.Level) bool { return true }

func (s serving) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "serving" {
		r.Attrs(func(a slog.Attr) bool { s.addr <- a.Value.String(); return false })
	}
	return nil
}

// TestProxyInjectorServes runs the command as the cluster does: certificate and configuration from files, reviews over TLS.
func TestProxyInjectorServes(t *testing.T) {
	dir := t.TempDir()
	roots := writeCertificate(t, dir)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chart, err := charts.Load(charts.ControlPlane)
	if err != nil {
		t.Fatal(err)
	}
	values, err := chart.Defaults()
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	clients := &kube.Clients{
		Kube: kubefake.NewClientset(),
		Metadata: metadatafake.NewSimpleMetadataClient(scheme, &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{"linkerd.io/inject": "enabled"}},
		}),
	}
	var o injectorOptions
	if err := o.flags().Parse([]string{"-addr=127.0.0.1:0", "-metrics-addr=127.0.0.1:0", "-linkerd-namespace=mesh"}); err != nil {
		t.Fatal(err)
	}
	o.certDir = dir
	o.files = injector.Files{Values: write("values", string(text)), TrustRoots: write("roots", "anchors")}

	ctx, stop := context.WithCancel(t.Context())
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- o.run(ctx, clients, slog.New(serving{slog.DiscardHandler, addr})) }()
	var url string
	select {
	case a := <-addr:
		url = "https://" + a
	case err := <-ended:
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request:  admissionRequest([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"web"}]}}`)),
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post(url, "application/json", bytes.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	client.CloseIdleConnections()
	if answer.Response == nil || !answer.Response.Allowed || !bytes.Contains(answer.Response.Patch, []byte("linkerd-dst-headless.mesh.svc.cluster.local.:8086")) {
		t.Errorf("got %+v", answer.Response)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// writeCertificate writes a serving certificate for localhost into dir and returns the pool that trusts it.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// BenchmarkInjection is the cost of one pod. A node that starts a hundred pods at once waits for the sum.
func BenchmarkInjection(b *testing.B) {
	handler := newHandler(b, "", fixedLookup{map[string]string{"linkerd.io/inject": "enabled"}})
	pod := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"web"}]}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := handler.Admit(b.Context(), admissionRequest(pod)); err != nil {
			b.Fatal(err)
		}
	}
}

// TestInjectionWithTheConfigurationOfAnotherRelease: what an older configuration does not say is what the chart says.
func TestInjectionWithTheConfigurationOfAnotherRelease(t *testing.T) {
	dir := t.TempDir()
	files := injector.Files{Values: filepath.Join(dir, "values"), TrustRoots: filepath.Join(dir, "roots")}
	for name, content := range map[string]string{
		files.Values:     "linkerdVersion: v1\nproxy: {image: {name: example.org/proxy}, logLevel: trace}\nidentity: {serviceAccountTokenProjection: false}\n",
		files.TrustRoots: "anchors",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	defaults, err := controlPlaneDefaults()
	if err != nil {
		t.Fatal(err)
	}
	render, err := charts.PatchRenderer("linkerd")
	if err != nil {
		t.Fatal(err)
	}
	handler, err := injector.New(injector.Options{
		Namespace: "linkerd", Version: "test", Files: files, Defaults: defaults, Render: render,
		Lookup: fixedLookup{map[string]string{"linkerd.io/inject": "enabled"}},
		Events: record.NewFakeRecorder(1), Metrics: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	pod := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"web",
		"volumeMounts":[{"name":"token","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}]}}`)
	got := reviewed(t, handler, pod, "env LOG\nenv INBOUND_CONNECT_TIMEOUT\nenv IDENTITY_TOKEN_FILE")
	want := `# env LOG
LINKERD2_PROXY_LOG=trace,[{headers}]=off,[{request}]=off
# env INBOUND_CONNECT_TIMEOUT
LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT=100ms
# env IDENTITY_TOKEN_FILE
LINKERD2_PROXY_IDENTITY_TOKEN_FILE=/var/run/secrets/kubernetes.io/serviceaccount/token
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
