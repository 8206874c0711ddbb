package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// webhookValues are the values that belong to each webhook, by the name of its
// Service.
var webhookValues = map[string]string{
	"linkerd-proxy-injector":   "proxyInjector",
	"linkerd-sp-validator":     "profileValidator",
	"linkerd-policy-validator": "policyValidator",
}

// WebhookConfiguration is the name of the configuration of a webhook, which is
// named by its Service.
func WebhookConfiguration(values map[string]any, namespace, service string) string {
	name := service + "-webhook-config"
	if valuetree.Bool(values, "webhookConfigurationPerNamespace") && namespace != "linkerd" {
		name += "-" + namespace
	}
	return name
}

// KeepsWebhook reports whether the control plane replaces the certificate of a
// webhook before it expires: unless the user brought it, or cert-manager does
// (docs/identity.md). The webhook is named by its Service.
func KeepsWebhook(values map[string]any, service string) bool {
	key, ok := webhookValues[service]
	if !ok || !valuetree.Bool(values, rotation.ValueWebhooks) {
		return false
	}
	given := func(field string) bool { return valuetree.String(values, key+"."+field) != "" }
	return !valuetree.Bool(values, key+".externalSecret") && !given("caBundle") && !(given("crtPEM") && given("keyPEM"))
}

// WebhooksNow puts the certificates of the webhooks that the control plane keeps
// among the values, for the chart to render them as the cluster has them: new
// ones would not be what pods serve that run. They are no settings, and are
// neither stored nor shown. What the cluster does not have, or has no use for
// any more, is left for the chart to make.
func WebhooksNow(ctx context.Context, c *cluster.Cluster, namespace string, values map[string]any, now time.Time) error {
	present := map[string]any{}
	for service := range webhookValues {
		if !KeepsWebhook(values, service) || !valuetree.Bool(values, rotation.ValueWebhooksRendered) {
			continue
		}
		secret, err := c.Kube.CoreV1().Secrets(namespace).Get(ctx, service+"-k8s-tls", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("failed to get Secret %s/%s-k8s-tls: %w", namespace, service, err)
		}
		crt, key := secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
		pair, err := tls.X509KeyPair(crt, key)
		if err != nil || !now.Before(pair.Leaf.NotAfter) {
			continue
		}
		bundle, err := webhookBundle(ctx, c, service, WebhookConfiguration(values, namespace, service))
		if err != nil {
			return err
		}
		if bundle == "" {
			bundle = string(crt)
		}
		present[service] = map[string]any{"crt": string(crt), "key": string(key), "ca": bundle}
	}
	if len(present) > 0 {
		values[generatedCertificates] = present
	}
	return nil
}

// generatedCertificates is the value under which the chart keeps certificates
// while it renders.
const generatedCertificates = "generatedCertificates"

// webhookBundle is what API servers trust of a webhook, empty if they trust
// nothing.
func webhookBundle(ctx context.Context, c *cluster.Cluster, service, name string) (string, error) {
	var bundles [][]byte
	var err error
	if service == "linkerd-proxy-injector" {
		config, getErr := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
		if err = getErr; err == nil {
			for _, w := range config.Webhooks {
				bundles = append(bundles, w.ClientConfig.CABundle)
			}
		}
	} else {
		config, getErr := c.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, name, metav1.GetOptions{})
		if err = getErr; err == nil {
			for _, w := range config.Webhooks {
				bundles = append(bundles, w.ClientConfig.CABundle)
			}
		}
	}
	switch {
	case apierrors.IsNotFound(err) || err == nil && len(bundles) == 0:
		return "", nil
	case err != nil:
		return "", fmt.Errorf("failed to get webhook configuration %s: %w", name, err)
	}
	return string(bundles[0]), nil
}
