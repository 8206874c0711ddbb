package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

// report makes the control plane say something about the rotation.
func report(t *testing.T, o objects, edit func(*rotation.Status)) {
	t.Helper()
	now := time.Now().Truncate(time.Second).UTC()
	s := rotation.Status{
		Phase: "steady", Next: "the issuer is renewed", Until: now.Add(time.Hour), Reported: now,
		Issuer: &rotation.Certificate{Name: "identity.linkerd.cluster.local", Fingerprint: "aa", NotAfter: now.Add(2 * time.Hour), Due: now.Add(time.Hour)},
		Anchor: &rotation.Certificate{Name: "root.linkerd.cluster.local", Fingerprint: "bb", NotAfter: now.Add(3 * time.Hour), Due: now.Add(2 * time.Hour)},
	}
	edit(&s)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	get[*corev1.ConfigMap](t, o, "ConfigMap/"+rotation.ConfigMap).Data = map[string]string{rotation.KeyStatus: string(text)}
}

// TestRotationOwnership installs in several ways: only what the installation
// made itself is replaced by the control plane.
func TestRotationOwnership(t *testing.T) {
	files := credentialFiles(issuer(t, "identity.linkerd.cluster.local"))
	for name, c := range map[string]struct {
		args []string
		want bool
	}{
		"nothing given":   {nil, true},
		"files given":     {credentialFlags, false},
		"not wanted":      {[]string{"--set", "identity.rotation.enabled=false"}, false},
		"an external CA":  {append([]string{"--identity-external-ca"}, credentialFlags...), false},
		"everything else": {[]string{"--ha"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runWith(t, nil, files, append([]string{"install", "--ignore-cluster"}, c.args...)...)
			if code != 0 {
				t.Fatal(stderr)
			}
			for _, part := range []string{"name: " + rotation.AnchorSecret + "\n", "- -identity-rotation\n", "name: " + rotation.ConfigMap + "\n"} {
				if got := strings.Contains(stdout, part); got != c.want {
					t.Errorf("%q in the manifest: %v, want %v", part, got, c.want)
				}
			}
			for _, object := range commandtest.Objects(t, []byte(stdout)) {
				if cm, ok := object.(*corev1.ConfigMap); ok && cm.Name == "linkerd-config" && strings.Contains(cm.Data["values"], "PRIVATE KEY") {
					t.Error("a private key is in the ConfigMap")
				}
			}
		})
	}
	// The same files give the same manifest, but for the webhooks' certificates.
	render := func() string {
		_, stdout, _ := runWith(t, nil, files, append([]string{"install", "--ignore-cluster", "-f", "fixed.yaml"}, credentialFlags...)...)
		return stdout
	}
	pair := issuer(t, "webhook")
	var fixed strings.Builder
	for _, webhook := range []string{"proxyInjector", "profileValidator", "policyValidator"} {
		text, _ := json.Marshal(map[string]any{"crtPEM": pair.Certificate, "keyPEM": pair.Key})
		fixed.WriteString(webhook + ": " + string(text) + "\n")
	}
	files["fixed.yaml"] = fixed.String()
	if a, b := render(), render(); a != b || a == "" {
		t.Errorf("two manifests of the same files differ (%d and %d bytes)", len(a), len(b))
	}
}

// TestUpgradeAfterRotation renders what the cluster has by now.
func TestUpgradeAfterRotation(t *testing.T) {
	o := installed(t)
	now := issuer(t, "identity.linkerd.cluster.local")
	get[*corev1.ConfigMap](t, o, "ConfigMap/linkerd-identity-trust-roots").Data["ca-bundle.crt"] = now.TrustAnchors
	secret := get[*corev1.Secret](t, o, "Secret/linkerd-identity-issuer")
	secret.Data["crt.pem"], secret.Data["key.pem"] = []byte(now.Certificate), []byte(now.Key)
	rendered := func(files map[string]string, args ...string) (anchors, crt string, rotates bool) {
		t.Helper()
		code, stdout, stderr := runWith(t, o, files, append([]string{"upgrade"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		for _, object := range commandtest.Objects(t, []byte(stdout)) {
			switch x := object.(type) {
			case *corev1.ConfigMap:
				if x.Name == "linkerd-identity-trust-roots" {
					anchors = x.Data["ca-bundle.crt"]
				}
			case *corev1.Secret:
				if x.Name == "linkerd-identity-issuer" {
					crt = string(x.Data["crt.pem"])
				}
			}
		}
		return anchors, crt, strings.Contains(stdout, "- -identity-rotation\n")
	}
	if anchors, crt, rotates := rendered(nil); anchors != strings.TrimSpace(now.TrustAnchors) || crt != strings.TrimSpace(now.Certificate) || !rotates {
		t.Errorf("an upgrade takes the rotation back, or ends it: %v", rotates)
	}
	given := issuer(t, "identity.linkerd.cluster.local")
	if anchors, _, rotates := rendered(credentialFiles(given), credentialFlags...); anchors != strings.TrimSpace(given.TrustAnchors) || rotates {
		t.Errorf("given files are not used, or are replaced later: %v", rotates)
	}
}

func TestCheckRotation(t *testing.T) {
	const description = "issuer and trust anchor are replaced in time"
	check := func(o objects) string {
		_, stdout, stderr := run(t, o, "check", "--wait=0s", "--expected-version=dev-undefined")
		return stdout + stderr
	}
	for name, c := range map[string]struct {
		edit func(*rotation.Status)
		want string
	}{
		"well":  {func(*rotation.Status) {}, "√ " + description + "\n    steady: the issuer is renewed on "},
		"error": {func(s *rotation.Status) { s.Error = "no private key" }, "‼ " + description + "\n    no private key\n"},
		"silent": {func(s *rotation.Status) { s.Reported = s.Reported.Add(-4 * time.Hour) },
			"‼ " + description + "\n    no report since "},
		"late": {func(s *rotation.Status) { s.Until = s.Reported.Add(-2 * time.Hour) },
			"‼ " + description + "\n    the issuer is renewed should have happened on "},
	} {
		t.Run(name, func(t *testing.T) {
			o := installed(t)
			report(t, o, c.edit)
			if got := check(o); !strings.Contains(got, c.want) {
				t.Errorf("no %q in\n%s", c.want, got)
			}
		})
	}
	t.Run("nobody replaces what was given", func(t *testing.T) {
		made, err := credentials.Generate("identity.linkerd.cluster.local", time.Now().Add(-350*24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		files := credentialFiles(made)
		r := commandtest.New(t, nil)
		r.World.Now, r.Files = time.Now, files
		if code := cli.Run(t.Context(), r.World, parts(), append([]string{"install", "--ignore-cluster"}, credentialFlags...)); code != 0 {
			t.Fatal(r.Err)
		}
		o := installed(t)
		for _, object := range commandtest.Objects(t, r.Out.Bytes()) {
			if name := object.(metav1.Object).GetName(); strings.HasPrefix(name, "linkerd-identity-") || name == "linkerd-config" {
				o[object.GetObjectKind().GroupVersionKind().Kind+"/"+name] = object
			}
		}
		if got, want := check(o), "‼ "+description+"\n    the issuer certificate expires on "; !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	})
}

func TestIdentityRotate(t *testing.T) {
	o := installed(t)
	c := permitting(commandtest.Cluster(t, o.list()...))
	rotate := func(args ...string) (int, string, string) {
		r := commandtest.New(t, c)
		code := cli.Run(t.Context(), r.World, parts(), append([]string{"identity", "rotate"}, args...))
		return code, r.Out.String(), r.Err.String()
	}
	data := func() map[string]string {
		cm, err := c.Kube.CoreV1().ConfigMaps("linkerd").Get(t.Context(), rotation.ConfigMap, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return cm.Data
	}
	if code, _, stderr := rotate("--status"); code != 1 || !strings.Contains(stderr, "has not reported yet") {
		t.Errorf("status before the first report: %d %q", code, stderr)
	}
	if code, stdout, stderr := rotate(); code != 0 || !strings.HasPrefix(stdout, "Asked for a new issuer.") {
		t.Errorf("rotate: %d %q %q", code, stdout, stderr)
	}
	if got := data(); got[rotation.KeyRequestIssuer] != "2026-03-14T15:09:26Z" || got[rotation.KeyRequestAnchor] != "" {
		t.Errorf("asked for %v", got)
	}
	if code, stdout, _ := rotate("--anchor"); code != 0 || !strings.HasPrefix(stdout, "Asked for a new trust anchor.") || data()[rotation.KeyRequestAnchor] == "" {
		t.Errorf("rotate --anchor: %d %q", code, stdout)
	}
	if code, _, stderr := rotate("--anchor", "--status"); code != 1 || !strings.Contains(stderr, "none of the others can be") {
		t.Errorf("both: %d %q", code, stderr)
	}

	// A report, well and not.
	report(t, o, func(s *rotation.Status) {
		s.Reported, s.Until = commandtest.Start, commandtest.Start.Add(time.Hour)
		s.Issuer.NotAfter, s.Issuer.Due = commandtest.Start.Add(time.Hour), commandtest.Start.Add(time.Minute)
	})
	c = permitting(commandtest.Cluster(t, o.list()...))
	want := "phase         steady\nnext          the issuer is renewed, on 2026-03-14T16:09:26Z\n" +
		"issuer        identity.linkerd.cluster.local (sha256 aa…), valid until 2026-03-14T16:09:26Z, replaced on 2026-03-14T15:10:26Z\n"
	if code, stdout, stderr := rotate("--status"); code != 0 || !strings.HasPrefix(stdout, want) {
		t.Errorf("status: %d %q %q", code, stdout, stderr)
	}
	report(t, o, func(s *rotation.Status) { s.Error = "no private key" })
	c = permitting(commandtest.Cluster(t, o.list()...))
	if code, stdout, _ := rotate("--status"); code != 1 || !strings.Contains(stdout, "problem       no private key\n") {
		t.Errorf("status with a problem: %d %q", code, stdout)
	}

	// Linked clusters have to be told first.
	link := commandtest.Cluster(t, o.list()...)
	c = permitting(link)
	links := schema.GroupVersionResource{Group: "multicluster.linkerd.io", Version: "v1alpha3", Resource: "links"}
	if _, err := c.Dynamic.Resource(links).Namespace("linkerd-multicluster").Create(t.Context(), unstructuredLink("west"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := rotate("--anchor"); code != 1 || !strings.Contains(stderr, "\n\t* linkerd-multicluster/west") {
		t.Errorf("with a link: %d %q", code, stderr)
	}
	if code, _, stderr := rotate("--anchor", "--force"); code != 0 {
		t.Errorf("forced: %d %q", code, stderr)
	}

	// Credentials of the user's.
	files := credentialFiles(issuer(t, "identity.linkerd.cluster.local"))
	code, stdout, stderr := runWith(t, nil, files, append([]string{"install", "--ignore-cluster"}, credentialFlags...)...)
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, object := range commandtest.Objects(t, []byte(stdout)) {
		if cm, ok := object.(*corev1.ConfigMap); ok && cm.Name == "linkerd-config" {
			o["ConfigMap/linkerd-config"] = cm
		}
	}
	c = permitting(commandtest.Cluster(t, o.list()...))
	if code, _, stderr := rotate(); code != 1 || !strings.Contains(stderr, "were not made by the control plane") {
		t.Errorf("credentials of the user's: %d %q", code, stderr)
	}
}

func unstructuredLink(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "multicluster.linkerd.io/v1alpha3", "kind": "Link",
		"metadata": map[string]any{"name": name, "namespace": "linkerd-multicluster"},
	}}
}
