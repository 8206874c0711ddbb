package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// certManager is a cluster on which cert-manager and trust-manager keep the
// credentials of the mesh. `make certmanager` builds their programs and images
// and runs the tests that use it.
type certManager struct{ *world }

// newCertManager installs cert-manager and trust-manager with their charts, in
// a cluster without the mesh.
func newCertManager(t *testing.T) *certManager {
	t.Helper()
	out := os.Getenv("LINKERD_CERTMANAGER")
	if out == "" {
		t.Skip("no cert-manager: run `make certmanager`")
	}
	w := newWorld(t, injected, "config.linkerd.io/proxy-inbound-connect-timeout=10s", "config.linkerd.io/proxy-outbound-connect-timeout=10s")
	w.noMesh()
	image := func(program string) map[string]any {
		return map[string]any{"repository": "test.invalid/" + program, "tag": "test"}
	}
	if _, err := shell(time.Minute, "kubectl get namespace cert-manager"); err != nil {
		w.helmChart("cert-manager", "cert-manager", filepath.Join(out, "charts/cert-manager"), map[string]any{
			"image": image("controller"), "webhook": map[string]any{"image": image("webhook")}, "cainjector": map[string]any{"image": image("cainjector")},
			"crds": map[string]any{"enabled": true}, "startupapicheck": map[string]any{"enabled": false},
		})
		w.must("kubectl -n cert-manager wait --for=condition=Available --timeout=180s deployment --all")
		w.eventually(2*time.Minute, "trust-manager to be installed, which needs the webhook of cert-manager", func() error {
			// Its certificate comes into use a while after it is available.
			_, err := shell(time.Minute, "kubectl apply --dry-run=server -f test/e2e/testdata/certmanager/authority.yaml")
			return err
		})
		w.helmChart("trust-manager", "cert-manager", filepath.Join(out, "charts/trust-manager"), map[string]any{
			"image": image("trustmanager"), "defaultPackage": map[string]any{"enabled": false},
		})
		w.must("kubectl -n cert-manager wait --for=condition=Available --timeout=180s deployment --all")
	}
	return &certManager{w}
}

// noMesh removes the mesh if there is one.
func (w *world) noMesh() {
	w.t.Helper()
	if _, err := shell(time.Minute, "kubectl get namespace linkerd"); err == nil {
		w.must("kubectl delete namespace linkerd")
	}
	if out := w.must("kubectl get crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration -o name -l linkerd.io/control-plane-ns"); strings.TrimSpace(out) != "" {
		w.must("linkerd uninstall --force | kubectl delete --ignore-not-found -f -")
	}
}

// manifest applies a file of testdata/certmanager.
func (c *certManager) manifest(name string) {
	c.t.Helper()
	c.must("kubectl apply -f test/e2e/testdata/certmanager/" + name)
}

// made waits for a Certificate.
func (c *certManager) made(namespace, name string) {
	c.t.Helper()
	c.must("kubectl -n " + namespace + " wait --for=condition=Ready --timeout=60s certificate/" + name)
}

// renew does what `cmctl renew` does, and waits for the new certificate.
func (c *certManager) renew(namespace, name, secret string) {
	c.t.Helper()
	old := c.secret(namespace, secret)
	c.must(fmt.Sprintf(`kubectl -n %s patch certificate %s --subresource=status --type=json -p '[{"op":"add","path":"/status/conditions/-",`+
		`"value":{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"by a test","lastTransitionTime":"%s"}}]'`,
		namespace, name, time.Now().UTC().Format(time.RFC3339)))
	c.eventually(time.Minute, "Certificate "+name+" to be renewed", func() error {
		if bytes.Equal(c.secret(namespace, secret).Data["tls.crt"], old.Data["tls.crt"]) {
			return errors.New("it is the old one")
		}
		return nil
	})
}

func (w *world) secret(namespace, name string) *corev1.Secret {
	w.t.Helper()
	s, err := cluster.client.CoreV1().Secrets(namespace).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// certificate reads the first certificate of a PEM text.
func (w *world) certificate(text []byte) *x509.Certificate {
	w.t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		w.t.Fatalf("no certificate in %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

func (w *world) issuer() *x509.Certificate {
	w.t.Helper()
	return w.certificate(w.secret("linkerd", "linkerd-identity-issuer").Data["tls.crt"])
}

// issuedBy waits until the proxies of the namespace have certificates of an issuer.
func (w *world) issuedBy(issuer *x509.Certificate) {
	w.t.Helper()
	keyID := "keyid:" + strings.ReplaceAll(fmt.Sprintf("% x", issuer.SubjectKeyId), " ", ":")
	for _, p := range w.pods("app!=stocktake") {
		w.eventually(2*time.Minute, p.Name+" to have a certificate of the new issuer", func() error {
			out, err := shell(time.Minute, "linkerd identity -n "+w.ns+" "+p.Name)
			if err == nil && !strings.Contains(out, keyID) {
				err = fmt.Errorf("its certificate is not of %s:\n%s", keyID, out)
			}
			return err
		})
	}
}

// healthy checks the mesh as its user does, and that nothing failed so far.
func (w *world) healthy(when string) {
	w.t.Helper()
	out := w.must("linkerd check && linkerd check --proxy --namespace " + w.ns)
	if strings.Contains(out, "must be restarted") || !strings.Contains(out, "√ issuer and trust anchor are replaced in time") {
		w.t.Errorf("%s: check says\n%s", when, out)
	}
	s := w.stats("traffic")
	if s.Failed > 0 {
		w.t.Fatalf("%s: %d of %d requests failed: %v", when, s.Failed, s.Sent, s.Errors)
	}
	w.t.Logf("%s: %d requests, none failed, p99 %.1f ms", when, s.Sent, s.P99Millis)
}

// shortLives are values by which certificates of workloads live for half a
// minute, so that a test sees them renewed.
var shortLives = map[string]any{"scheme": "kubernetes.io/tls", "issuanceLifetime": "20s", "clockSkewAllowance": "5s"}

// TestCertManagerKeepsEverything leaves all credentials of the mesh to
// cert-manager and trust-manager, set up as the users' documents do, and lets
// each of them be replaced while every request counts.
func TestCertManagerKeepsEverything(t *testing.T) {
	c := newCertManager(t)
	c.manifest("authority.yaml")
	c.made("cert-manager", "linkerd-trust-anchor")
	c.keepAnchor()
	c.manifest("namespace.yaml")
	c.manifest("issuer.yaml")
	c.manifest("bundle.yaml")
	c.webhookAuthority()
	c.manifest("webhooks.yaml")
	c.made("linkerd", "linkerd-identity-issuer")
	for _, name := range webhookNames {
		c.made("linkerd", "linkerd-"+name)
	}

	charts := t.TempDir()
	c.must("go run ./charts/pack -version 1.0.0 -app dev -out " + charts)
	c.helm("linkerd-crds", charts, map[string]any{"installGatewayAPI": true})
	external := func(name string) map[string]any {
		return map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-" + name}
	}
	c.helm("linkerd-control-plane", charts, map[string]any{
		"linkerdVersion":   "dev",
		"installNamespace": false,
		"identity":         map[string]any{"externalCA": true, "issuer": shortLives},
		"proxyInjector":    external("proxy-injector"), "profileValidator": external("sp-validator"), "policyValidator": external("policy-validator"),
	})
	c.must("kubectl -n linkerd wait --for=condition=Available --timeout=180s deployment --all")
	c.shop(100)
	c.steady(500)
	c.reset("traffic")
	c.healthy("after the installation")

	c.run("the issuer is renewed by the clock", func(w *world) {
		c := &certManager{w}
		first := c.issuer()
		// A renewal every half minute.
		c.must(`kubectl -n linkerd patch certificate linkerd-identity-issuer --type=merge -p '{"spec":{"renewBefore":"47h59m30s"}}'`)
		seen := map[string]bool{first.SerialNumber.String(): true}
		c.eventually(3*time.Minute, "two renewals", func() error {
			seen[c.issuer().SerialNumber.String()] = true
			if len(seen) < 3 {
				return fmt.Errorf("%d so far", len(seen)-1)
			}
			return nil
		})
		c.manifest("issuer.yaml")
		c.made("linkerd", "linkerd-identity-issuer")
		c.issuedBy(c.issuer())
		if out := c.must("kubectl -n linkerd get events --field-selector reason=IssuerUpdated -o name"); strings.TrimSpace(out) == "" {
			w.t.Error("no event IssuerUpdated")
		}
		c.healthy("after renewals of the issuer")
	})

	c.run("the trust anchor is replaced", func(w *world) {
		c := &certManager{w}
		old := c.bundle()
		if len(old) != 1 {
			w.t.Fatalf("%d trust anchors, want one", len(old))
		}
		c.keepAnchor()
		c.renew("cert-manager", "linkerd-trust-anchor", "linkerd-trust-anchor")
		c.eventually(time.Minute, "both anchors in the bundle", func() error {
			if b := c.bundle(); len(b) != 2 || !slices.Contains(b, old[0]) {
				return fmt.Errorf("%d anchors", len(b))
			}
			return nil
		})
		c.trusted()
		c.healthy("with both anchors")
		c.renew("linkerd", "linkerd-identity-issuer", "linkerd-identity-issuer")
		issuer := c.issuer()
		anchor := c.certificate(c.secret("cert-manager", "linkerd-trust-anchor").Data["tls.crt"])
		if err := issuer.CheckSignatureFrom(anchor); err != nil {
			w.t.Fatalf("the issuer is not of the new anchor: %v", err)
		}
		c.issuedBy(issuer)
		c.healthy("with an issuer of the new anchor")
		// Control plane and other namespaces: no longer than a certificate lives.
		time.Sleep(30 * time.Second)
		c.keepAnchor()
		c.eventually(time.Minute, "the old anchor to leave the bundle", func() error {
			if b := c.bundle(); len(b) != 1 || b[0] == old[0] {
				return fmt.Errorf("%d anchors", len(b))
			}
			return nil
		})
		c.trusted()
		// Some more lives of certificates, with pods that know the new anchor only.
		c.must("kubectl -n " + c.ns + " rollout restart deployment/front")
		c.must("kubectl -n " + c.ns + " rollout status deployment/front --timeout=180s")
		time.Sleep(30 * time.Second)
		c.healthy("without the old anchor")
	})

	c.run("the trust anchor is replaced without preparation", func(w *world) {
		c := &certManager{w}
		// A bundle of the present anchor alone, as some documents have it.
		c.must(`kubectl patch bundle linkerd-identity-trust-roots --type=json -p '[{"op":"remove","path":"/spec/sources/1"}]'`)
		old := c.bundle()
		c.renew("cert-manager", "linkerd-trust-anchor", "linkerd-trust-anchor")
		c.eventually(time.Minute, "the new anchor alone in the bundle", func() error {
			if b := c.bundle(); len(b) != 1 || b[0] == old[0] {
				return fmt.Errorf("%d anchors", len(b))
			}
			return nil
		})
		c.eventually(time.Minute, "the identity controller to keep the issuer's anchor", func() error {
			out := c.must("kubectl -n linkerd get events --field-selector reason=IssuerUpdateSkipped -o jsonpath='{.items[*].message}'")
			if !strings.Contains(out, "stays trusted") {
				return fmt.Errorf("events: %q", out)
			}
			return nil
		})
		if out := c.fails("linkerd check"); !strings.Contains(out, "× issuer cert is issued by the trust anchor") {
			w.t.Errorf("check says\n%s", out)
		}
		// Every proxy asks within seconds here, and has renewed after half a minute.
		time.Sleep(30 * time.Second)
		c.renew("linkerd", "linkerd-identity-issuer", "linkerd-identity-issuer")
		c.issuedBy(c.issuer())
		c.trusted()
		time.Sleep(20 * time.Second)
		c.healthy("after an anchor that came unprepared")
		c.keepAnchor()
		c.manifest("bundle.yaml")
	})

	c.run("the webhooks' certificates are renewed", func(w *world) {
		c := &certManager{w}
		for _, name := range webhookNames {
			c.renew("linkerd", "linkerd-"+name, "linkerd-"+name+"-k8s-tls")
		}
		for _, name := range webhookNames {
			c.served(name)
		}
		c.injects("after-renewal")
		// Their CA: the API server gets it from the injector of CAs.
		c.webhookAuthority()
		for _, name := range webhookNames {
			c.renew("linkerd", "linkerd-"+name, "linkerd-"+name+"-k8s-tls")
		}
		for _, name := range webhookNames {
			c.served(name)
		}
		c.injects("after-other-ca")
		c.refuses()
		c.healthy("with other certificates of the webhooks")
	})

	c.run("nothing is written by others than its keeper", func(w *world) {
		for _, o := range []struct{ object, keeper string }{
			{"secret/linkerd-identity-issuer", "cert-manager"},
			{"secret/linkerd-proxy-injector-k8s-tls", "cert-manager"},
			{"secret/linkerd-sp-validator-k8s-tls", "cert-manager"},
			{"secret/linkerd-policy-validator-k8s-tls", "cert-manager"},
			{"configmap/linkerd-identity-trust-roots", "trust-manager"},
		} {
			out := w.must("kubectl -n linkerd get " + o.object + " --show-managed-fields -o jsonpath='{.metadata.managedFields[*].manager}'")
			for _, m := range strings.Fields(out) {
				if !strings.HasPrefix(m, o.keeper) {
					w.t.Errorf("%s was written by %s: %q", o.object, m, out)
				}
			}
			if strings.TrimSpace(out) == "" {
				w.t.Errorf("%s: nobody wrote it", o.object)
			}
			// Its answer of no is also its exit status.
			w.fails("kubectl -n linkerd auth can-i update " + o.object + " --as system:serviceaccount:linkerd:linkerd-identity")
		}
		if out := w.fails("linkerd identity rotate"); !strings.Contains(out, "were not made by the control plane") {
			w.t.Errorf("rotate says %q", out)
		}
	})
}

// TestCertManagerKeepsTheIssuer is the older set-up of the users' documents:
// the trust anchor is given, cert-manager keeps the issuer under it.
func TestCertManagerKeepsTheIssuer(t *testing.T) {
	c := newCertManager(t)
	dir := t.TempDir()
	anchorFile := filepath.Join(dir, "ca.crt")
	prepare := func() string {
		c.noMesh()
		c.must("kubectl delete bundle --ignore-not-found linkerd-identity-trust-roots")
		c.manifest("authority.yaml")
		c.manifest("namespace.yaml")
		c.manifest("issuer.yaml")
		c.made("linkerd", "linkerd-identity-issuer")
		c.must(`kubectl get secret linkerd-identity-issuer -o jsonpath="{.data.ca\.crt}" -n linkerd | base64 -d > ` + anchorFile)
		anchor, err := os.ReadFile(anchorFile)
		if err != nil {
			t.Fatal(err)
		}
		return string(anchor)
	}

	// As one chart, with Helm.
	anchor := prepare()
	c.must("go run ./charts/pack -version 1.0.0 -app dev -out " + dir)
	c.helmChart("linkerd2", "linkerd", filepath.Join(dir, "linkerd2-1.0.0.tgz"), map[string]any{
		"linkerdVersion":          "dev",
		"identityTrustAnchorsPEM": anchor,
		"identity":                map[string]any{"issuer": map[string]any{"scheme": "kubernetes.io/tls"}},
		"installNamespace":        false,
		"installGatewayAPI":       true,
	})
	c.must("kubectl -n linkerd wait --for=condition=Available --timeout=180s deployment --all")
	c.must("linkerd check")
	values := c.must("kubectl get configmap linkerd-config -n linkerd -o jsonpath='{.data.values}'")
	if line := strings.Split(anchor, "\n")[1]; !strings.Contains(values, "identityTrustAnchorsPEM: |") || !strings.Contains(values, line) {
		t.Errorf("linkerd-config does not have the trust anchor:\n%s", values)
	}

	// With the CLI.
	prepare()
	c.must("linkerd install --crds | kubectl apply -f -")
	c.must("linkerd install --identity-external-issuer --identity-trust-anchors-file " + anchorFile +
		" --identity-issuance-lifetime=20s --identity-clock-skew-allowance=5s | kubectl apply -f -")
	c.must("linkerd check")
	c.shop(100)
	c.steady(500)
	c.reset("traffic")
	c.renew("linkerd", "linkerd-identity-issuer", "linkerd-identity-issuer")
	c.issuedBy(c.issuer())
	c.healthy("after a renewal of the issuer")
}

var webhookNames = []string{"proxy-injector", "sp-validator", "policy-validator"}

// keepAnchor makes the present trust anchor also the previous one, as the
// users' documents do. The bundle is of both.
func (c *certManager) keepAnchor() {
	c.t.Helper()
	c.must("kubectl -n cert-manager get secret linkerd-trust-anchor -o yaml" +
		" | sed -e s/linkerd-trust-anchor/linkerd-previous-anchor/ | grep -vE '^ *(resourceVersion|uid):' | kubectl apply -f -")
}

// webhookAuthority gives the webhooks' issuer a CA, another one each time.
func (c *certManager) webhookAuthority() {
	c.t.Helper()
	_, cert, key := authority(c.t)
	dir := c.t.TempDir()
	for name, text := range map[string]string{"ca.crt": cert, "ca.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	c.must(fmt.Sprintf("kubectl -n linkerd create secret tls webhook-issuer-tls --cert=%[1]s/ca.crt --key=%[1]s/ca.key --dry-run=client -o yaml | kubectl apply -f -", dir))
}

// trusted waits until every proxy of the mesh says that it trusts what the
// bundle has now.
func (w *world) trusted() {
	w.t.Helper()
	cm, err := cluster.client.CoreV1().ConfigMaps("linkerd").Get(w.t.Context(), "linkerd-identity-trust-roots", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	want := names.TrustBundleHash([]byte(cm.Data["ca-bundle.crt"]))
	w.eventually(2*time.Minute, "every proxy to trust the present anchors", func() error {
		for _, p := range w.pods("app!=stocktake") {
			if got := w.metrics(p.Name).sum(names.MetricTrustAnchorsHash); got != want {
				return fmt.Errorf("%s has a bundle of hash %.0f, want %.0f", p.Name, got, want)
			}
		}
		return nil
	})
}

// served waits until a webhook serves the certificate of its Secret, and the
// API server accepts it.
func (c *certManager) served(name string) {
	c.t.Helper()
	secret := c.secret("linkerd", "linkerd-"+name+"-k8s-tls")
	kind := "validatingwebhookconfiguration"
	if name == "proxy-injector" {
		kind = "mutatingwebhookconfiguration"
	}
	c.eventually(time.Minute, "the CA of "+name+" to be injected", func() error {
		out := c.must("kubectl get " + kind + " linkerd-" + name + "-webhook-config -o jsonpath='{.webhooks[0].clientConfig.caBundle}' | base64 -d")
		// It stays beside the one before, as long as that is valid.
		if !strings.Contains(out, strings.TrimSpace(string(secret.Data["ca.crt"]))) {
			return fmt.Errorf("it is %q", out)
		}
		return nil
	})
	// `linkerd check` looks at what is served.
	c.eventually(2*time.Minute, "the certificate of "+name+" to be served", func() error {
		_, err := shell(time.Minute, "linkerd check")
		return err
	})
}

// injects makes a pod, which has to get a proxy.
func (c *certManager) injects(name string) {
	c.t.Helper()
	c.must("kubectl -n " + c.ns + " create --dry-run=server -o yaml -f - <<END | grep -q 'name: linkerd-proxy'\n" +
		"{apiVersion: v1, kind: Pod, metadata: {name: " + name + "}, spec: {containers: [{name: a, image: a}]}}\nEND")
}

// refuses makes resources that the validators have to refuse.
func (c *certManager) refuses() {
	c.t.Helper()
	for webhook, manifest := range map[string]string{
		"linkerd-policy-validator.linkerd.io": "{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: a}, spec: {podSelector: {}, port: 1, accessPolicy: nonsense}}",
		"linkerd-sp-validator.linkerd.io":     "{apiVersion: linkerd.io/v1alpha2, kind: ServiceProfile, metadata: {name: a}, spec: {routes: [{name: r, timeout: soon, condition: {method: GET}}]}}",
	} {
		out := c.fails("kubectl -n " + c.ns + " create --dry-run=server -f - <<END\n" + manifest + "\nEND")
		if !strings.Contains(out, webhook) {
			c.t.Errorf("%s did not refuse, but: %s", webhook, out)
		}
	}
}
