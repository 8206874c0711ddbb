package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
)

// age gives a webhook a certificate that is some time old and has some time
// left, and the API server the bundle for it.
func age(t *testing.T, o objects, service string, old, left time.Duration) (certificate []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: service}, DNSNames: []string{service + ".linkerd.svc"},
		NotBefore: time.Now().Add(-old), NotAfter: time.Now().Add(left), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	secret := get[*corev1.Secret](t, o, "Secret/"+service+"-k8s-tls")
	secret.Data = map[string][]byte{"tls.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})}
	*bundleOf(t, o, service) = certificate
	return certificate
}

// bundleOf is what API servers trust of a webhook.
func bundleOf(t *testing.T, o objects, service string) *[]byte {
	t.Helper()
	if service == "linkerd-proxy-injector" {
		return &get[*admissionregistrationv1.MutatingWebhookConfiguration](t, o, "MutatingWebhookConfiguration/"+service+"-webhook-config").Webhooks[0].ClientConfig.CABundle
	}
	return &get[*admissionregistrationv1.ValidatingWebhookConfiguration](t, o, "ValidatingWebhookConfiguration/"+service+"-webhook-config").Webhooks[0].ClientConfig.CABundle
}

// TestUpgradeKeepsWebhookCertificates: an upgrade renders what pods serve and
// API servers trust at present, and does not make settings of it.
func TestUpgradeKeepsWebhookCertificates(t *testing.T) {
	o := installed(t)
	for _, service := range []string{"linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"} {
		other := age(t, o, service, 0, 24*time.Hour)
		crt := age(t, o, service, time.Hour, 365*24*time.Hour)
		both := bundleOf(t, o, service)
		*both = append(bytes.Clone(crt), other...) // in the middle of a rotation
	}
	expired := age(t, o, "linkerd-sp-validator", 48*time.Hour, -24*time.Hour)
	upgraded := func(args ...string) (objects, string) {
		t.Helper()
		code, stdout, stderr := run(t, o, append([]string{"upgrade"}, args...)...)
		if code != 0 {
			t.Fatal(stderr)
		}
		out := objects{}
		for _, object := range commandtest.Objects(t, []byte(stdout)) {
			meta := object.(interface{ GetName() string })
			out[object.GetObjectKind().GroupVersionKind().Kind+"/"+meta.GetName()] = object
		}
		return out, stdout
	}
	same := func(out objects, service string) bool {
		t.Helper()
		key := "Secret/" + service + "-k8s-tls"
		was, is := get[*corev1.Secret](t, o, key), get[*corev1.Secret](t, out, key)
		return bytes.Equal(was.Data["tls.crt"], is.Data["tls.crt"]) && bytes.Equal(was.Data["tls.key"], is.Data["tls.key"]) &&
			bytes.Equal(*bundleOf(t, o, service), *bundleOf(t, out, service))
	}
	out, text := upgraded()
	for _, service := range []string{"linkerd-proxy-injector", "linkerd-policy-validator"} {
		if !same(out, service) {
			t.Errorf("%s gets another certificate or bundle", service)
		}
	}
	if crt := get[*corev1.Secret](t, out, "Secret/linkerd-sp-validator-k8s-tls").Data["tls.crt"]; bytes.Equal(crt, expired) {
		t.Error("a certificate that has expired is kept")
	}
	for _, key := range []string{"ConfigMap/linkerd-config", "Secret/linkerd-config-overrides"} {
		content := ""
		switch x := out[key].(type) {
		case *corev1.ConfigMap:
			content = x.Data["values"]
		case *corev1.Secret:
			content = string(x.Data["linkerd-config-overrides"])
		}
		if content == "" || strings.Contains(content, "generatedCertificates") {
			t.Errorf("%s has the certificates of the present among the settings, or is missing", key)
		}
	}
	if !strings.Contains(text, "- -webhook-certificates=policy-validator,proxy-injector,sp-validator\n") {
		t.Error("the control plane is not told to keep the certificates")
	}
	if again, _ := upgraded(); !same(again, "linkerd-proxy-injector") {
		t.Error("a second upgrade differs")
	}
	// Those who do not want it get a new one with each render, as ever.
	if out, text := upgraded("--set", "webhookCertificates.rotation.enabled=false"); same(out, "linkerd-proxy-injector") || strings.Contains(text, "webhook-certificates=") {
		t.Error("a certificate is kept that nobody replaces")
	}
	// The control plane makes them itself: the manifest has none, and no secret of any render.
	if out, text := upgraded("--set", "webhookCertificates.rendered=false"); out["Secret/linkerd-proxy-injector-k8s-tls"] != nil ||
		*bundleOf(t, out, "linkerd-proxy-injector") != nil || !strings.Contains(text, "- -webhook-certificates-create\n") {
		t.Error("a certificate is rendered that the control plane makes")
	}
}

// TestCheckInjectorConfiguration: an injector that keeps an earlier
// configuration is named; one that cannot be asked is not.
func TestCheckInjectorConfiguration(t *testing.T) {
	const description = "proxy injector uses the present configuration"
	for metrics, want := range map[string]string{
		names.MetricInjectorConfiguration + " 1\n": "√ " + description + "\n",
		names.MetricInjectorConfiguration + " 0\n": "‼ " + description + "\n    ConfigMap linkerd-config or linkerd-identity-trust-roots cannot be used as it is, " +
			"and some injectors go on with what was there before; their log and the events of the ConfigMap say why:\n\t* linkerd-proxy-injector-6d5f-x2x9z\n",
		"up 1\n": "",
		"":       "",
	} {
		r := commandtest.New(t, permitting(commandtest.Cluster(t, installed(t).list()...)))
		r.World.Now = time.Now
		if metrics != "" {
			r.Ports[commandtest.Address("linkerd", "linkerd-proxy-injector-6d5f-x2x9z", names.PortInjectorAdmin)] = commandtest.Metrics(metrics)
		}
		if code := cli.Run(t.Context(), r.World, parts(), []string{"check", "--wait=0s", "--expected-version=dev-undefined"}); code != 0 {
			t.Errorf("metrics %q: check exits with %d", metrics, code)
		}
		if out := r.Out.String(); want == "" && strings.Contains(out, description) || !strings.Contains(out, want) {
			t.Errorf("metrics %q: want %q in\n%s", metrics, want, out)
		}
	}
}

// TestCheckAsksWhomItIsTold: the version server is whom the user or the
// installation names, or nobody, and then nothing is compared with its answer.
func TestCheckAsksWhomItIsTold(t *testing.T) {
	const latest = "can determine the latest version"
	for name, c := range map[string]struct {
		install, check []string
		asked          string
		want, without  string
	}{
		"nothing said": {asked: "https://versioncheck.linkerd.io/version.json", want: "‼ " + latest + "\n"},
		"the user": {check: []string{"--version-server=https://user.example/v"}, install: []string{"--set", "versionCheckURL=https://cluster.example/v"},
			asked: "https://user.example/v", want: "‼ " + latest + "\n"},
		"the installation": {install: []string{"--set", "versionCheckURL=https://cluster.example/v"}, asked: "https://cluster.example/v",
			want: "\n    without a way to it use --expected-version, or --version-server=none"},
		"nobody":         {check: []string{"--version-server=none"}, want: "√ control plane and cli versions match\n", without: "up-to-date"},
		"nobody, always": {install: []string{"--set", "versionCheckURL=none"}, want: "√ control plane and cli versions match\n", without: latest},
	} {
		t.Run(name, func(t *testing.T) {
			o := installed(t, c.install...)
			r := commandtest.New(t, permitting(commandtest.Cluster(t, o.list()...)))
			r.World.Now = time.Now
			var asked []string
			r.World.HTTP = &http.Client{Transport: transport(func(q *http.Request) (*http.Response, error) {
				asked = append(asked, q.URL.Scheme+"://"+q.URL.Host+q.URL.Path)
				return nil, errors.New("connection refused")
			})}
			if code := cli.Run(t.Context(), r.World, parts(), append([]string{"check", "--wait=0s"}, c.check...)); code != 0 {
				t.Errorf("check exits with %d", code)
			}
			if got := strings.Join(asked, " "); got != c.asked {
				t.Errorf("asked %q, want %q", got, c.asked)
			}
			if out := r.Out.String(); !strings.Contains(out, c.want) || c.without != "" && strings.Contains(out, c.without) {
				t.Errorf("want %q and not %q in\n%s", c.want, c.without, out)
			}
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestTwoControlPlanes: none of the objects without namespace that belong to one
// control plane belong to another.
func TestTwoControlPlanes(t *testing.T) {
	apart := []string{"--set", "webhookConfigurationPerNamespace=true"}
	for name, args := range map[string][]string{"beside the usual one": append([]string{"-L", "mesh-b"}, apart...), "two of their own": append([]string{"-L", "mesh-a"}, apart...)} {
		t.Run(name, func(t *testing.T) {
			first := installed(t)
			if args[1] == "mesh-a" {
				first = installed(t, append([]string{"-L", "mesh-b"}, apart...)...)
			}
			n := 0
			for key, object := range installed(t, args...) {
				if object.(metav1.Object).GetNamespace() != "" || strings.HasPrefix(key, "CustomResourceDefinition/") || strings.HasPrefix(key, "Node/") {
					continue
				}
				n++
				if first[key] != nil {
					t.Errorf("both have %s", key)
				}
			}
			if n < 10 {
				t.Errorf("only %d objects were compared", n)
			}
		})
	}
	// The usual one keeps the names that are known.
	for _, key := range []string{"ClusterRole/linkerd-policy", "ClusterRoleBinding/linkerd-destination-policy", "ClusterRole/linkerd-heartbeat",
		"MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config"} {
		if installed(t, apart...)[key] == nil {
			t.Errorf("no %s", key)
		}
	}
	// And the second passes its own check.
	o := installed(t, append([]string{"-L", "mesh-b"}, apart...)...)
	if code, stdout, stderr := run(t, o, "check", "-L", "mesh-b", "--wait=0s", "--expected-version=dev-undefined"); code != 0 {
		t.Errorf("check exits with %d: %s%s", code, stdout, stderr)
	}
}
