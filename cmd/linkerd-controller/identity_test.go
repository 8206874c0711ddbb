package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// pair makes a CA certificate, of parent or of itself, that ends after a time.
func pair(t *testing.T, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey, until time.Duration) (*x509.Certificate, *ecdsa.PrivateKey, []byte, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(until),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// freeAddr is an address that nobody listens on, on a host of its own: there, no other test takes it before it is used.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.66.0.5:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// TestIdentityOfAnExpiredIssuer starts the identity controller with an issuer that expired while the cluster was switched off.
// Where the credentials are its own it makes a new one and serves; elsewhere it says why it cannot start.
func TestIdentityOfAnExpiredIssuer(t *testing.T) {
	anchor, anchorKey, anchorPEM, anchorKeyPEM := pair(t, "root.linkerd.cluster.local", nil, nil, 1000*time.Hour)
	_, _, issuerPEM, issuerKeyPEM := pair(t, "identity.linkerd.cluster.local", anchor, anchorKey, -time.Minute)
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Error(err)
		}
	}
	write(names.IssuerLinkerdCert, issuerPEM)
	write(names.IssuerLinkerdKey, issuerKeyPEM)
	roots := filepath.Join(t.TempDir(), "ca-bundle.crt")
	if err := os.WriteFile(roots, anchorPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "linkerd", Name: name} }
	client := fake.NewSimpleClientset(
		&corev1.Secret{ObjectMeta: meta(rotation.AnchorSecret), Data: map[string][]byte{"tls.crt": anchorPEM, "tls.key": anchorKeyPEM}},
		&corev1.Secret{ObjectMeta: meta(names.SecretIdentityIssuer), Data: map[string][]byte{names.IssuerLinkerdCert: issuerPEM, names.IssuerLinkerdKey: issuerKeyPEM}},
		&corev1.ConfigMap{ObjectMeta: meta(names.ConfigMapTrustRoots), Data: map[string]string{names.ConfigMapTrustRootsBundle: string(anchorPEM)}},
		&corev1.ConfigMap{ObjectMeta: meta(rotation.ConfigMap)},
	)
	client.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authorizationv1.SelfSubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}}, nil
	})
	// As the kubelet does, if sooner.
	client.PrependReactor("update", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if s := action.(clienttesting.UpdateAction).GetObject().(*corev1.Secret); s.Name == names.SecretIdentityIssuer {
			write(names.IssuerLinkerdKey, s.Data[names.IssuerLinkerdKey])
			write(names.IssuerLinkerdCert, s.Data[names.IssuerLinkerdCert])
		}
		return false, nil, nil
	})
	start := func(flags ...string) (address string, done chan error, stop func()) {
		var o identityOptions
		address = freeAddr(t)
		if err := o.flags().Parse(append([]string{
			"-addr=127.0.0.1:0", "-admin-addr=" + address, "-controller-namespace=linkerd", "-identity-trust-domain=cluster.local",
			"-identity-scheme=linkerd.io/tls", "-issuer=" + dir,
		}, flags...)); err != nil {
			t.Fatal(err)
		}
		o.roots = roots
		ctx, cancel := context.WithCancel(t.Context())
		done = make(chan error, 1)
		go func() { done <- o.run(ctx, &kube.Clients{Kube: client}, slog.New(slog.DiscardHandler)) }()
		return address, done, cancel
	}

	_, done, stop := start()
	defer stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "verifying issuer certificate: x509: certificate has expired") {
		t.Errorf("without rotation it ends with %v", err)
	}

	address, done, stop := start("-identity-rotation", "-identity-rotation-interval=100ms")
	defer stop()
	ready := func() error {
		response, err := http.Get("http://" + address + "/ready")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", response.Status)
		}
		return nil
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := ready()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %v", err)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
