package controlplane

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Rotates reports whether issuer and trust anchor of an installation are the
// control plane's own, which it replaces (docs/decisions/identity-rotation.md).
func Rotates(values map[string]any) bool {
	return valuetree.Bool(values, rotation.ValueEnabled) && !valuetree.Bool(values, "identity.externalCA") &&
		valuetree.String(values, "identity.issuer.scheme") == SchemeLinkerd
}

// AnchorSecret is the Secret with the trust anchor and its key, from which the
// control plane makes issuers to come. It has no label of the control plane's:
// what prunes by label must not take it, since no chart renders it.
func AnchorSecret(namespace, certificate, key string) ([]byte, error) {
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata":   map[string]any{"name": rotation.AnchorSecret, "namespace": namespace},
		"stringData": map[string]any{rotation.KeyFirstCert: certificate, rotation.KeyFirstKey: key},
	})
}

// present replaces issuer and trust anchors among the values by what the
// cluster has by now, if the control plane replaces them: a manifest with those
// of the first day would take a rotation back.
func present(ctx context.Context, c *cluster.Cluster, namespace string, values map[string]any) error {
	if !Rotates(values) {
		return nil
	}
	roots, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, TrustRootsName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to get ConfigMap %s/%s: %w", namespace, TrustRootsName, err)
	}
	issuer, err := c.Kube.CoreV1().Secrets(namespace).Get(ctx, IssuerSecret, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to get Secret %s/%s: %w", namespace, IssuerSecret, err)
	}
	for path, text := range map[string]string{
		"identityTrustAnchorsPEM":    roots.Data[TrustRootsKey],
		"identity.issuer.tls.crtPEM": string(issuer.Data[names.IssuerLinkerdCert]),
		"identity.issuer.tls.keyPEM": string(issuer.Data[names.IssuerLinkerdKey]),
	} {
		if text = strings.TrimSpace(text); text != "" {
			valuetree.Set(values, path, text+"\n")
		}
	}
	return nil
}

// credentialValues are the values that hold issuer and trust anchors.
var credentialValues = []string{"identityTrustAnchorsPEM", "identity.issuer.tls.crtPEM", "identity.issuer.tls.keyPEM"}

// SameCredentials reports whether two sets of values have the same issuer and
// trust anchors.
func SameCredentials(a, b map[string]any) bool {
	for _, path := range credentialValues {
		if strings.TrimSpace(valuetree.String(a, path)) != strings.TrimSpace(valuetree.String(b, path)) {
			return false
		}
	}
	return true
}
