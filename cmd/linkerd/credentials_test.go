package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

func issuer(t *testing.T, name string) *credentials.Issuer {
	t.Helper()
	i, err := credentials.Generate(name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// runWith runs one command line with files, over a cluster or none.
func runWith(t *testing.T, o objects, files map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r := commandtest.New(t, nil)
	if o != nil {
		r = commandtest.New(t, permitting(commandtest.Cluster(t, o.list()...)))
	}
	r.World.Now = time.Now
	r.Files = files
	code = cli.Run(t.Context(), r.World, parts(), args)
	return code, r.Out.String(), r.Err.String()
}

var credentialFlags = []string{
	"--identity-trust-anchors-file=ca.crt", "--identity-issuer-certificate-file=issuer.crt", "--identity-issuer-key-file=issuer.key",
}

func credentialFiles(i *credentials.Issuer) map[string]string {
	return map[string]string{"ca.crt": i.TrustAnchors, "issuer.crt": i.Certificate, "issuer.key": i.Key}
}

// TestInstallWithCredentials brings the credentials as files, or has them
// refused with the reason.
func TestInstallWithCredentials(t *testing.T) {
	const name = "identity.linkerd.cluster.local"
	good, other := issuer(t, name), issuer(t, name)
	cases := map[string]struct {
		issuer credentials.Issuer
		args   []string
		want   string
	}{
		"good":                 {*good, nil, ""},
		"another anchor":       {credentials.Issuer{TrustAnchors: other.TrustAnchors, Certificate: good.Certificate, Key: good.Key}, nil, "failed to validate issuer credentials: x509: certificate signed by unknown authority"},
		"another key":          {credentials.Issuer{TrustAnchors: good.TrustAnchors, Certificate: good.Certificate, Key: other.Key}, nil, "failed to validate issuer credentials: failed to read CA: "},
		"another namespace":    {*good, []string{"-L", "mesh"}, "failed to validate issuer credentials: x509: certificate is valid for identity.linkerd.cluster.local, not identity.mesh.cluster.local"},
		"another trust domain": {*good, []string{"--identity-trust-domain", "example.com"}, "failed to validate issuer credentials: x509: certificate is valid for identity.linkerd.cluster.local, not identity.linkerd.example.com"},
		"no key":               {credentials.Issuer{TrustAnchors: good.TrustAnchors, Certificate: good.Certificate, Key: "x"}, nil, "--identity-issuer-key-file: issuer.key: no private key found"},
		"external issuer besides": {*good, []string{"--identity-external-issuer"},
			"--identity-issuer-certificate-file must not be specified if --identity-external-issuer=true"},
	}
	for title, c := range cases {
		t.Run(title, func(t *testing.T) {
			args := append(append([]string{"install", "--ignore-cluster"}, credentialFlags...), c.args...)
			code, stdout, stderr := runWith(t, nil, credentialFiles(&c.issuer), args...)
			if c.want == "" {
				if code != 0 {
					t.Fatalf("exit code %d: %s", code, stderr)
				}
				for _, object := range commandtest.Objects(t, []byte(stdout)) {
					if s, ok := object.(*corev1.Secret); ok && s.Name == "linkerd-identity-issuer" {
						if got := string(s.Data["crt.pem"]); got != strings.TrimSpace(good.Certificate) {
							t.Errorf("the issuer's Secret has\n%s", got)
						}
					}
				}
				return
			}
			if code != 1 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, %d bytes of manifest, %q in\n%s", code, len(stdout), c.want, stderr)
			}
		})
	}
}

// TestExternalIssuer takes the anchors from the Secret that, for instance,
// cert-manager made.
func TestExternalIssuer(t *testing.T) {
	i := issuer(t, "identity.linkerd.cluster.local")
	o := installed(t)
	delete(o, "ConfigMap/linkerd-config")
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-identity-issuer"},
		Data:       map[string][]byte{"ca.crt": []byte(i.TrustAnchors), "tls.crt": []byte(i.Certificate), "tls.key": []byte(i.Key)},
	}
	o["Secret/linkerd-identity-issuer"] = secret
	code, stdout, stderr := run(t, o, "install", "--identity-external-issuer")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, object := range commandtest.Objects(t, []byte(stdout)) {
		switch x := object.(type) {
		case *corev1.Secret:
			if x.Name == "linkerd-identity-issuer" {
				t.Error("the issuer's Secret is rendered")
			}
		case *corev1.ConfigMap:
			if x.Name == "linkerd-identity-trust-roots" && x.Data["ca-bundle.crt"] != strings.TrimSpace(i.TrustAnchors) {
				t.Errorf("the anchors are\n%s", x.Data["ca-bundle.crt"])
			}
		}
	}
	delete(secret.Data, "ca.crt")
	code, stdout, stderr = run(t, o, "install", "--identity-external-issuer")
	if want := "key ca.crt needs to exist in secret linkerd-identity-issuer if --identity-external-issuer=true"; code != 1 || stdout != "" || !strings.Contains(stderr, want) {
		t.Errorf("without anchors: %d %q", code, stderr)
	}
}

// TestUpgradeIssuer changes the issuer of an installation: pods that do not
// trust the new one keep it from happening, unless forced.
func TestUpgradeIssuer(t *testing.T) {
	o := installed(t)
	old := get[*corev1.ConfigMap](t, o, "ConfigMap/linkerd-identity-trust-roots").Data["ca-bundle.crt"]
	o["Pod/web"] = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}},
		Spec: corev1.PodSpec{InitContainers: []corev1.Container{{
			Name: "linkerd-proxy", Env: []corev1.EnvVar{{Name: "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", Value: old}},
		}}},
	}
	if code, _, stderr := run(t, o, "upgrade"); code != 0 {
		t.Errorf("an upgrade that changes nothing: %d %s", code, stderr)
	}
	files := credentialFiles(issuer(t, "identity.linkerd.cluster.local"))
	args := append([]string{"upgrade"}, credentialFlags...)
	code, stdout, stderr := runWith(t, o, files, args...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "does not validate against the trust anchors of the following pods:\n\t* shop/web\n") {
		t.Errorf("an issuer the pod does not trust: %d %s", code, stderr)
	}
	code, stdout, stderr = runWith(t, o, files, append(args, "--force")...)
	if code != 0 || stdout == "" || !strings.Contains(stderr, "‼") {
		t.Errorf("forced: %d %s", code, stderr)
	}
	// Both anchors together are how it is meant to be done.
	files["ca.crt"] += old
	o["Pod/web"].(*corev1.Pod).Spec.InitContainers[0].Env[0].Value = files["ca.crt"]
	if code, _, stderr = runWith(t, o, files, args...); code != 0 {
		t.Errorf("an issuer the pod trusts: %d %s", code, stderr)
	}
}

// TestUpgradeFromManifests reads the installation from what install printed.
func TestUpgradeFromManifests(t *testing.T) {
	code, manifest, stderr := runWith(t, nil, nil, "install", "--ignore-cluster", "--set", "proxy.logLevel=debug")
	if code != 0 {
		t.Fatal(stderr)
	}
	code, stdout, stderr := runWith(t, nil, map[string]string{"old.yaml": manifest}, "upgrade", "--from-manifests", "old.yaml")
	if code != 0 || !strings.Contains(stdout, `value: "debug,[{headers}]=off,[{request}]=off"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	anchors := func(text string) (out string) {
		for _, object := range commandtest.Objects(t, []byte(text)) {
			if cm, ok := object.(*corev1.ConfigMap); ok && cm.Name == "linkerd-identity-trust-roots" {
				out = cm.Data["ca-bundle.crt"]
			}
		}
		return out
	}
	if anchors(stdout) != anchors(manifest) {
		t.Error("the trust anchors changed")
	}
	code, _, stderr = runWith(t, nil, nil, "upgrade", "--from-manifests", "nothing.yaml")
	if code != 1 || !strings.Contains(stderr, "failed to parse manifests from nothing.yaml: ") {
		t.Errorf("no file: %d %s", code, stderr)
	}
	code, _, stderr = runWith(t, nil, map[string]string{"x.yaml": "a: b\n"}, "upgrade", "--from-manifests", "x.yaml")
	if code != 1 || !strings.Contains(stderr, "Could not find the linkerd-config-overrides secret.") {
		t.Errorf("no Secret: %d %s", code, stderr)
	}
}
