package check

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// identityData are the credentials the cluster holds.
type identityData struct {
	issuer  []*x509.Certificate
	anchors []*x509.Certificate
	// bundle is the text of the anchors, as pods get it.
	bundle string
}

func (s *state) identityChecks() []health.Check {
	now := s.world.Now
	return []health.Check{
		{Description: "certificate config is valid", Anchor: "l5d-identity-cert-config-valid", Fatal: true, Run: s.readIdentity},
		{
			Description: "trust anchors are using supported crypto algorithm", Anchor: "l5d-identity-trustAnchors-use-supported-crypto", Fatal: true,
			Run: func(context.Context) error {
				return judge("Invalid trustAnchors:", s.identity.anchors, credentials.AnchorAlgorithm)
			},
		},
		{
			Description: "trust anchors are within their validity period", Anchor: "l5d-identity-trustAnchors-are-time-valid", Fatal: true,
			Run: func(context.Context) error {
				return judge("Invalid anchors:", s.identity.anchors, func(c *x509.Certificate) error { return credentials.Validity(c, now()) })
			},
		},
		{
			Description: "trust anchors are valid for at least 60 days", Anchor: "l5d-identity-trustAnchors-not-expiring-soon", Warning: true,
			Run: func(context.Context) error {
				return judge("Anchors expiring soon:", s.identity.anchors, func(c *x509.Certificate) error { return credentials.Expiry(c, now()) })
			},
		},
		{
			Description: "issuer cert is using supported crypto algorithm", Anchor: "l5d-identity-issuer-cert-uses-supported-crypto", Fatal: true,
			Run: func(context.Context) error {
				if err := credentials.IssuerAlgorithm(s.identity.issuer[0]); err != nil {
					return fmt.Errorf("issuer certificate %w", trimSubject(err))
				}
				return nil
			},
		},
		{
			Description: "issuer cert is within its validity period", Anchor: "l5d-identity-issuer-cert-is-time-valid", Fatal: true,
			Run: func(context.Context) error {
				if err := credentials.Validity(s.identity.issuer[0], now()); err != nil {
					return fmt.Errorf("issuer certificate is %w", err)
				}
				return nil
			},
		},
		{
			Description: "issuer cert is valid for at least 60 days", Anchor: "l5d-identity-issuer-cert-not-expiring-soon", Warning: true,
			Run: func(context.Context) error {
				if err := credentials.Expiry(s.identity.issuer[0], now()); err != nil {
					return fmt.Errorf("issuer certificate %w", err)
				}
				return nil
			},
		},
		{
			Description: "issuer cert is issued by the trust anchor", Anchor: "l5d-identity-issuer-cert-issued-by-trust-anchor",
			Run: func(context.Context) error {
				trustDomain := s.value("identityTrustDomain")
				if trustDomain == "" {
					trustDomain = s.value("clusterDomain")
				}
				return credentials.Chain(s.identity.issuer, s.identity.anchors, credentials.IssuerName(s.options.Namespace, trustDomain), now())
			},
		},
		{
			Description: "issuer and trust anchor are replaced in time", Anchor: "l5d-identity-rotation", Warning: true,
			Run: s.rotation,
		},
	}
}

// rotation looks after those who replace the credentials: the control plane
// itself, or whoever else. It is our own check; upstream has no such thing.
func (s *state) rotation(ctx context.Context) error {
	now := s.world.Now()
	if !controlplane.Rotates(s.values) {
		// Whoever replaces certificates has done so when nine tenths of their
		// life are over.
		late := func(c *x509.Certificate) bool {
			return now.Sub(c.NotBefore) > c.NotAfter.Sub(c.NotBefore)/10*9
		}
		if issuer := s.identity.issuer[0]; late(issuer) {
			return fmt.Errorf("the issuer certificate expires on %s and was not replaced; the control plane does not do it, because the credentials are not its own",
				issuer.NotAfter.Format(time.RFC3339))
		}
		if !slices.ContainsFunc(s.identity.anchors, func(c *x509.Certificate) bool { return !late(c) }) {
			return fmt.Errorf("every trust anchor is about to expire, the last on %s; the control plane does not replace them, because they are not its own",
				slices.MaxFunc(s.identity.anchors, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) }).NotAfter.Format(time.RFC3339))
		}
		return nil
	}
	cm, err := s.cluster.Kube.CoreV1().ConfigMaps(s.options.Namespace).Get(ctx, rotation.ConfigMap, metav1.GetOptions{})
	if err != nil {
		return err
	}
	status, err := rotation.ParseStatus(cm.Data)
	if err != nil || status == nil {
		return err
	}
	if why := status.Neglected(now); why != "" {
		return errors.New(why)
	}
	return health.Note(fmt.Sprintf("    %s: %s on %s", status.Phase, status.Next, status.Until.Format(time.RFC3339)))
}

// trimSubject keeps "issuer certificate" from appearing twice.
func trimSubject(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), "issuer certificate "))
}

// judge lists the certificates that do not pass.
func judge(heading string, certificates []*x509.Certificate, rule func(*x509.Certificate) error) error {
	var bad []string
	for _, c := range certificates {
		if err := rule(c); err != nil {
			bad = append(bad, fmt.Sprintf("%s %s %s", c.SerialNumber, c.Subject.CommonName, err))
		}
	}
	return bullets(heading, bad)
}

func (s *state) readIdentity(ctx context.Context) error {
	roots, err := s.cluster.Kube.CoreV1().ConfigMaps(s.options.Namespace).Get(ctx, controlplane.TrustRootsName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	s.identity.bundle = roots.Data[controlplane.TrustRootsKey]
	if s.identity.bundle == "" {
		return fmt.Errorf("key %s needs to exist in ConfigMap %s", controlplane.TrustRootsKey, controlplane.TrustRootsName)
	}
	if s.identity.anchors, err = credentials.ParseCertificates(s.identity.bundle); err != nil {
		return fmt.Errorf("ConfigMap %s: %w", controlplane.TrustRootsName, err)
	}
	secret, err := s.cluster.Kube.CoreV1().Secrets(s.options.Namespace).Get(ctx, controlplane.IssuerSecret, metav1.GetOptions{})
	if err != nil {
		return err
	}
	certificateKey, privateKey, external := "crt.pem", "key.pem", "false"
	if scheme := s.value("identity.issuer.scheme"); scheme != "" && scheme != controlplane.SchemeLinkerd {
		certificateKey, privateKey, external = corev1.TLSCertKey, corev1.TLSPrivateKeyKey, "true"
	}
	for _, k := range []struct{ key, what string }{{certificateKey, "the issuer certificate"}, {privateKey, "the issuer key"}} {
		if len(secret.Data[k.key]) == 0 {
			return fmt.Errorf("key %s containing %s needs to exist in secret %s if --identity-external-issuer=%s", k.key, k.what, controlplane.IssuerSecret, external)
		}
	}
	s.identity.issuer, err = credentials.Pair(string(secret.Data[certificateKey]), string(secret.Data[privateKey]))
	return err
}

func (s *state) identityCategory() health.Category {
	return health.Category{ID: "linkerd-identity", Checks: s.identityChecks()}
}

func (s *state) identityDataPlane() health.Category {
	return health.Category{ID: "linkerd-identity-data-plane", Checks: []health.Check{{
		Description: "data plane proxies certificate match CA", Anchor: "l5d-identity-data-plane-proxies-certs-match-ca", Warning: true,
		Run: func(ctx context.Context) error {
			pods, err := s.pods(ctx, s.options.namespace)
			if err != nil {
				return err
			}
			var differ []*corev1.Pod
			for i := range pods {
				pod := &pods[i]
				c := workload.Proxy(pod)
				// What has ended needs no anchors.
				ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
				if c == nil || ended || pod.Namespace == s.options.Namespace {
					continue
				}
				for _, e := range c.Env {
					if e.Name == "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS" && e.Value != "" && strings.TrimSpace(e.Value) != strings.TrimSpace(s.identity.bundle) && !s.stillTrusts(e.Value) {
						differ = append(differ, pod)
					}
				}
			}
			// Those are the anchors of the pod's start. Our proxies follow the
			// bundle while they run, and say so.
			var stale, late []string
			for i, t := range s.trusts(ctx, differ, s.identity.bundle) {
				name := differ[i].Name
				if s.options.namespace == "" {
					name = differ[i].Namespace + "/" + name
				}
				switch t {
				case trustUnknown:
					stale = append(stale, name)
				case trustOther:
					late = append(late, name)
				}
			}
			sort.Strings(stale)
			sort.Strings(late)
			return errors.Join(
				bullets("Some pods do not have the current trust bundle and must be restarted:", stale),
				bullets("Some pods do not use the current trust bundle yet; they ask for it every few minutes, and keep an anchor of which certificates live:", late))
		},
	}}}
}

// stillTrusts reports whether a proxy that was started with a bundle accepts
// the certificates of the present: where anchors rotate, those of before are
// vouched for by cross certificates.
func (s *state) stillTrusts(bundle string) bool {
	if !controlplane.Rotates(s.values) {
		return false
	}
	anchors, err := credentials.ParseCertificates(bundle)
	return err == nil && credentials.Chain(s.identity.issuer, anchors, "", s.world.Now()) == nil
}

// webhook is one of the control plane's, with what its serving certificate is
// checked against.
type webhook struct {
	name, kind string
	// optional webhooks are skipped when they are not configured.
	optional bool
}

var webhooks = []webhook{
	{name: "proxy-injector", kind: "MutatingWebhookConfiguration"},
	{name: "sp-validator", kind: "ValidatingWebhookConfiguration"},
	{name: "policy-validator", kind: "ValidatingWebhookConfiguration", optional: true},
}

func (s *state) webhooks() health.Category {
	category := health.Category{ID: "linkerd-webhooks-and-apisvc-tls"}
	for _, h := range webhooks {
		var chain, bundle []*x509.Certificate
		category.Checks = append(category.Checks,
			health.Check{
				Description: h.name + " webhook has valid cert", Anchor: "l5d-" + h.name + "-webhook-cert-valid", Fatal: true,
				Run: func(ctx context.Context) error {
					var err error
					if chain, bundle, err = s.servingCertificate(ctx, h); err != nil {
						return err
					}
					return s.verifyServing(chain, bundle, fmt.Sprintf("linkerd-%s.%s.svc", h.name, s.options.Namespace))
				},
			},
			health.Check{
				Description: h.name + " cert is valid for at least 60 days", Anchor: "l5d-" + h.name + "-webhook-cert-not-expiring-soon", Warning: true,
				Run: func(context.Context) error {
					if chain == nil {
						return health.Skip
					}
					now := s.world.Now()
					if err := judge("Anchors expiring soon:", bundle, func(c *x509.Certificate) error { return credentials.Expiry(c, now) }); err != nil {
						return err
					}
					if err := credentials.Expiry(chain[0], now); err != nil {
						return fmt.Errorf("certificate %w", err)
					}
					return nil
				},
			},
		)
	}
	category.Checks = append(category.Checks, health.Check{
		Description: "webhook certificates are replaced in time", Anchor: "l5d-webhook-certificates", Warning: true, Run: s.webhooksKept,
	})
	return category
}

// webhooksKept looks after those who replace the certificates of webhooks: the
// control plane itself, or whoever else. It is our own check; upstream has no
// such thing.
func (s *state) webhooksKept(ctx context.Context) error {
	now := s.world.Now()
	renewAt := 2. / 3
	if at, ok := valuetree.Get(s.values, rotation.ValueWebhooksRenewAt).(float64); ok && at > 0 && at < 1 {
		renewAt = at
	}
	var late []string
	for _, h := range webhooks {
		chain, _, err := s.servingCertificate(ctx, h)
		if err != nil {
			continue // The checks before tell of it.
		}
		c := chain[0]
		at := func(part float64) time.Time {
			return c.NotBefore.Add(time.Duration(part * float64(c.NotAfter.Sub(c.NotBefore))))
		}
		if controlplane.KeepsWebhook(s.values, "linkerd-"+h.name) {
			due := at(renewAt)
			if now.After(due.Add(min(time.Hour, c.NotAfter.Sub(due)/2))) {
				late = append(late, fmt.Sprintf("%s: should have been replaced on %s, and expires on %s; see the events of Deployment linkerd-identity",
					h.name, due.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339)))
			}
		} else if now.After(at(0.9)) {
			late = append(late, fmt.Sprintf("%s: expires on %s and was not replaced; the control plane does not do it, because the certificate is not its own",
				h.name, c.NotAfter.Format(time.RFC3339)))
		}
	}
	return bullets("Webhook certificates that are late:", late)
}

func (s *state) verifyServing(chain, bundle []*x509.Certificate, name string) error {
	now := s.world.Now()
	if err := judge("anchors not within their validity period:", bundle, func(c *x509.Certificate) error { return credentials.Validity(c, now) }); err != nil {
		return err
	}
	if err := credentials.Validity(chain[0], now); err != nil {
		return fmt.Errorf("certificate is %w", err)
	}
	if err := credentials.Chain(chain, bundle, name, now); err != nil {
		return fmt.Errorf("cert is not issued by the trust anchor: %w", err)
	}
	return nil
}

// servingCertificate returns the certificate a webhook serves with, and the
// bundle the API server trusts for it.
func (s *state) servingCertificate(ctx context.Context, h webhook) (chain, bundle []*x509.Certificate, err error) {
	configuration, err := s.cluster.Dynamic.Resource(clusterResources[h.kind]).Get(ctx, s.webhookConfiguration("linkerd-"+h.name), metav1.GetOptions{})
	if apierrors.IsNotFound(err) && h.optional {
		return nil, nil, health.Skip
	}
	if err != nil {
		return nil, nil, err
	}
	hooks, _, _ := unstructured.NestedSlice(configuration.Object, "webhooks")
	if len(hooks) != 1 {
		return nil, nil, fmt.Errorf("expected 1 webhooks, found %d", len(hooks))
	}
	hook, _ := hooks[0].(map[string]any)
	encoded, _, _ := unstructured.NestedString(hook, "clientConfig", "caBundle")
	text, err := decodeBase64(encoded)
	if err != nil {
		return nil, nil, fmt.Errorf("caBundle: %w", err)
	}
	if bundle, err = credentials.ParseCertificates(text); err != nil {
		return nil, nil, fmt.Errorf("caBundle: %w", err)
	}
	secrets := s.cluster.Kube.CoreV1().Secrets(s.options.Namespace)
	certificateKey, privateKey := corev1.TLSCertKey, corev1.TLSPrivateKeyKey
	secret, err := secrets.Get(ctx, "linkerd-"+h.name+"-k8s-tls", metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		certificateKey, privateKey = "crt.pem", "key.pem"
		secret, err = secrets.Get(ctx, "linkerd-"+h.name+"-tls", metav1.GetOptions{})
	}
	if err != nil {
		return nil, nil, err
	}
	for _, key := range []string{certificateKey, privateKey} {
		if len(secret.Data[key]) == 0 {
			return nil, nil, fmt.Errorf("key %s needs to exist in secret %s", key, secret.Name)
		}
	}
	chain, err = credentials.Pair(string(secret.Data[certificateKey]), string(secret.Data[privateKey]))
	return chain, bundle, err
}

func decodeBase64(text string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	return string(data), err
}
