package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// TestUninstallThenHelm removes the mesh as the README says, then installs the
// packed charts with Helm. The tests of the files behind this one run on that
// installation.
func TestUninstallThenHelm(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.must("linkerd uninstall --force | kubectl delete --wait -f -")
	w.eventually(patience, "nothing left of the mesh", func() error {
		out, err := shell(time.Minute, "kubectl get namespace,crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration -o name -l linkerd.io/control-plane-ns")
		if err != nil {
			return err
		}
		if find(out, `/`) {
			return errorText(out)
		}
		return nil
	})

	// An issuer that the user promised and did not bring is named, and nothing is made.
	out := w.fails("linkerd install --crds | kubectl apply -f - && linkerd install --identity-external-issuer | kubectl apply -f -")
	if !find(out, `linkerd-identity-issuer`) {
		t.Errorf("install without the promised issuer printed nothing of linkerd-identity-issuer but\n%s", out)
	}
	if out := w.must("kubectl get namespace,deployment -A -o name -l linkerd.io/control-plane-ns"); find(out, `/`) {
		t.Errorf("install without the promised issuer made\n%s", out)
	}
	// A definition that is removed before its objects are served stays for minutes: the API server gives its cleanup up.
	w.eventually(patience, "the definitions are served", func() error {
		_, err := shell(time.Minute, "for kind in $(kubectl get crd -o name -l linkerd.io/control-plane-ns); do kubectl get -A ${kind#*/} || exit 1; done")
		return err
	})
	w.must("linkerd uninstall --force | kubectl delete --wait -f -")

	dir := t.TempDir()
	w.must("go run ./charts/pack -version 1.0.0 -app dev -out " + dir)
	anchor, issuer, key := authority(t)
	w.helm("linkerd-crds", dir, map[string]any{"installGatewayAPI": true})
	w.helm("linkerd-control-plane", dir, map[string]any{
		"linkerdVersion":          "dev",
		"identityTrustAnchorsPEM": anchor,
		"identity":                map[string]any{"issuer": map[string]any{"tls": map[string]any{"crtPEM": issuer, "keyPEM": key}}},
	})
	w.must("kubectl -n linkerd wait --for=condition=Available --timeout=300s deployment --all")
	w.must("linkerd check")
	w.smiByHelm(dir)
	w.shop(30)
	w.steady(100)
}

// smiByHelm installs the adaptor for traffic splits, and removes it again. Helm
// cannot label the namespace; a Job of the chart does.
func (w *world) smiByHelm(dir string) {
	w.t.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, "linkerd-smi-*.tgz"))
	if err != nil || len(archives) != 1 {
		w.t.Fatalf("archives of linkerd-smi: %v, %v", archives, err)
	}
	w.helmChart("linkerd-smi", "linkerd-smi", archives[0], map[string]any{"linkerdVersion": "dev"})
	if out := w.must("kubectl get namespace linkerd-smi -o jsonpath='{.metadata.labels}'"); !find(out, `"linkerd.io/extension":"smi".*"pod-security.kubernetes.io/enforce":"privileged"`) {
		w.t.Errorf("labels of the namespace are %s", out)
	}
	w.must("linkerd check --wait 5m")
	w.must("linkerd smi uninstall | kubectl delete -f -")
}

// helm does what `helm install` does with a packed chart of the mesh.
func (w *world) helm(release, dir string, values map[string]any) {
	w.t.Helper()
	archives, err := filepath.Glob(filepath.Join(dir, release+"-*.tgz"))
	if err != nil || len(archives) != 1 {
		w.t.Fatalf("archives of %s: %v, %v", release, archives, err)
	}
	w.helmChart(release, "linkerd", archives[0], values)
}

// helmChart does what `helm install` does, with Helm's own library; the chart
// is an archive or a folder.
func (w *world) helmChart(release, namespace, path string, values map[string]any) {
	w.t.Helper()
	chart, err := loader.Load(path)
	if err != nil {
		w.t.Fatal(err)
	}
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.Namespace = &cluster.kubeconfig, &namespace
	var conf action.Configuration
	if err := conf.Init(flags, namespace, "secret", func(string, ...any) {}); err != nil {
		w.t.Fatal(err)
	}
	install := action.NewInstall(&conf)
	install.ReleaseName, install.Namespace, install.CreateNamespace = release, namespace, true
	if _, err := install.RunWithContext(w.t.Context(), chart, values); err != nil {
		w.t.Fatalf("helm install %s: %v", release, err)
	}
}

// authority makes a trust anchor and an issuer under it, as PEM.
func authority(t *testing.T) (anchor, issuer, key string) {
	t.Helper()
	sign := func(name string, serial int64, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, string) {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if parent == nil {
			parent, signer = template, k
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &k.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, k, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	root, rootKey, anchor := sign("root.linkerd.cluster.local", 1, nil, nil)
	_, issuerKey, issuer := sign("identity.linkerd.cluster.local", 2, root, rootKey)
	der, err := x509.MarshalECPrivateKey(issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return anchor, issuer, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}
