package rotation

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/linkerd-go/linkerd-go/api/names"
	api "github.com/linkerd-go/linkerd-go/api/rotation"
)

// objects are what the cluster holds, as read at one time.
type objects struct {
	anchor, issuer *corev1.Secret
	roots, state   *corev1.ConfigMap
}

// read reads all four objects. One that is missing is an error: none of them is ours to bring into being.
func read(ctx context.Context, client kubernetes.Interface, namespace string) (*objects, error) {
	var o objects
	var err error
	secrets, maps := client.CoreV1().Secrets(namespace), client.CoreV1().ConfigMaps(namespace)
	if o.anchor, err = secrets.Get(ctx, api.AnchorSecret, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("reading the trust anchor: %w", err)
	}
	if o.issuer, err = secrets.Get(ctx, names.SecretIdentityIssuer, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("reading the issuer: %w", err)
	}
	if o.roots, err = maps.Get(ctx, names.ConfigMapTrustRoots, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("reading the trust bundle: %w", err)
	}
	if o.state, err = maps.Get(ctx, api.ConfigMap, metav1.GetOptions{}); err != nil {
		return nil, fmt.Errorf("reading requests for rotation: %w", err)
	}
	return &o, nil
}

// world translates the objects. A trust anchor that cannot be read is an error; what can be made from it need not be readable.
func (o *objects) world(now time.Time) (World, error) {
	w := World{Now: now}
	var err error
	if w.Keys, err = readKeys(o.anchor); err != nil {
		return w, fmt.Errorf("secret %s: %w", api.AnchorSecret, err)
	}
	if w.Bundle, err = decodeCerts([]byte(o.roots.Data[names.ConfigMapTrustRootsBundle])); err != nil {
		return w, fmt.Errorf("config map %s: %w", names.ConfigMapTrustRoots, err)
	}
	if w.Keys.Next != nil {
		w.PublishedAt = publishedAt(o.roots, w.Keys.Next.Cert)
	}
	if issuer, err := decodeAuthority(o.issuer.Data[names.IssuerLinkerdCert], o.issuer.Data[names.IssuerLinkerdKey]); err == nil {
		w.Issuer = issuer.Cert
	}
	w.IssuerRequested = timeIn(o.state, api.KeyRequestIssuer)
	w.AnchorRequested = timeIn(o.state, api.KeyRequestAnchor)
	w.CancelRequested = timeIn(o.state, api.KeyRequestCancel)
	w.OlderLeaves = timeIn(o.state, api.KeyOlderLeaves)
	return w, nil
}

func timeIn(cm *corev1.ConfigMap, key string) time.Time {
	t, err := time.Parse(time.RFC3339, cm.Data[key])
	if err != nil {
		return time.Time{}
	}
	return t
}

func publishedAt(roots *corev1.ConfigMap, c *x509.Certificate) time.Time {
	name, text, _ := strings.Cut(roots.Annotations[api.AnnotationPublished], "@")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || name != fingerprint(c) {
		return time.Time{}
	}
	return at
}

func readKeys(secret *corev1.Secret) (Keys, error) {
	var k Keys
	var err error
	cert, key := api.KeyCurrentCert, api.KeyCurrentKey
	if len(secret.Data[cert]) == 0 {
		cert, key = api.KeyFirstCert, api.KeyFirstKey
	}
	if k.Current, err = decodeAuthority(secret.Data[cert], secret.Data[key]); err != nil {
		return k, err
	}
	if k.Cross, err = decodeCerts(secret.Data[api.KeyCross]); err != nil {
		return k, fmt.Errorf("%s: %w", api.KeyCross, err)
	}
	k.Retired = strings.Fields(string(secret.Data[api.KeyRetired]))
	if len(secret.Data[api.KeyNextCert]) == 0 {
		return k, nil
	}
	if k.Next, err = decodeAuthority(secret.Data[api.KeyNextCert], secret.Data[api.KeyNextKey]); err != nil {
		return k, fmt.Errorf("next anchor: %w", err)
	}
	cross, err := decodeCerts(secret.Data[api.KeyNextCross])
	if err != nil {
		return k, fmt.Errorf("%s: %w", api.KeyNextCross, err)
	}
	if len(cross) > 0 {
		k.NextCross = cross[0]
	}
	return k, nil
}

// writeKeys is readKeys the other way; what else the Secret has stays.
func writeKeys(secret *corev1.Secret, k Keys) (*corev1.Secret, error) {
	out := secret.DeepCopy()
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	for _, key := range []string{api.KeyCross, api.KeyNextCert, api.KeyNextKey, api.KeyNextCross, api.KeyRetired} {
		delete(out.Data, key)
	}
	key, err := encodeKey(k.Current.Key)
	if err != nil {
		return nil, err
	}
	// Also if it is that of the installation: a manifest with another must not take its place.
	out.Data[api.KeyCurrentCert], out.Data[api.KeyCurrentKey] = encodeCerts(k.Current.Cert), key
	if len(k.Cross) > 0 {
		out.Data[api.KeyCross] = encodeCerts(k.Cross...)
	}
	if len(k.Retired) > 0 {
		out.Data[api.KeyRetired] = []byte(strings.Join(k.Retired, "\n"))
	}
	if k.Next != nil {
		if key, err = encodeKey(k.Next.Key); err != nil {
			return nil, err
		}
		out.Data[api.KeyNextCert], out.Data[api.KeyNextKey] = encodeCerts(k.Next.Cert), key
		if k.NextCross != nil {
			out.Data[api.KeyNextCross] = encodeCerts(k.NextCross)
		}
	}
	return out, nil
}

// writeBundle makes the trust roots those of a decision.
func writeBundle(roots *corev1.ConfigMap, w World, bundle []*x509.Certificate) *corev1.ConfigMap {
	out := roots.DeepCopy()
	if out.Data == nil {
		out.Data = map[string]string{}
	}
	// Blanks at the end would make a difference to what the chart renders.
	out.Data[names.ConfigMapTrustRootsBundle] = strings.TrimSpace(string(encodeCerts(bundle...)))
	if next := w.Keys.Next; next != nil {
		if out.Annotations == nil {
			out.Annotations = map[string]string{}
		}
		out.Annotations[api.AnnotationPublished] = fingerprint(next.Cert) + "@" + w.Now.UTC().Format(time.RFC3339)
	} else {
		delete(out.Annotations, api.AnnotationPublished)
	}
	return out
}

func writeIssuer(secret *corev1.Secret, issuer *Authority, cross []*x509.Certificate) (*corev1.Secret, error) {
	key, err := encodeKey(issuer.Key)
	if err != nil {
		return nil, err
	}
	out := secret.DeepCopy()
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	out.Data[names.IssuerLinkerdCert] = encodeCerts(chainOf(issuer.Cert, cross)...)
	out.Data[names.IssuerLinkerdKey] = key
	return out, nil
}

// rememberLifetime records the lifetime of leaves, and when it became shorter, until when older leaves may live. It returns
// nil if there is nothing to record.
func rememberLifetime(state *corev1.ConfigMap, p Policy, now time.Time) *corev1.ConfigMap {
	life := p.Leaf + 2*p.Skew
	known, err := time.ParseDuration(state.Data[api.KeyLeafLifetime])
	if err == nil && known == life {
		return nil
	}
	out := state.DeepCopy()
	if out.Data == nil {
		out.Data = map[string]string{}
	}
	out.Data[api.KeyLeafLifetime] = life.String()
	if until := now.Add(known + p.Margin); err == nil && known > life && until.After(timeIn(state, api.KeyOlderLeaves)) {
		out.Data[api.KeyOlderLeaves] = until.UTC().Format(time.RFC3339)
	}
	return out
}

// status describes a world and what was decided about it.
func status(w World, d Decision, p Policy) api.Status {
	describe := func(c *x509.Certificate) *api.Certificate {
		if c == nil {
			return nil
		}
		return &api.Certificate{Name: c.Subject.CommonName, Fingerprint: fingerprint(c)[:16], NotAfter: c.NotAfter.UTC(), Due: p.due(c).UTC()}
	}
	s := api.Status{
		Phase: string(d.Phase), Next: d.Reason, Until: d.Until.UTC().Truncate(time.Second), Reported: w.Now.UTC().Truncate(time.Second),
		Issuer: describe(w.Issuer), Anchor: describe(w.Keys.Current.Cert),
	}
	if w.Keys.Next != nil {
		s.NextAnchor = describe(w.Keys.Next.Cert)
	}
	return s
}

// writeStatus returns the ConfigMap with the status, or nil if what it has is good enough.
func writeStatus(state *corev1.ConfigMap, s api.Status) (*corev1.ConfigMap, error) {
	if old, err := api.ParseStatus(state.Data); err == nil && old != nil && s.Reported.Sub(old.Reported) < api.ReportInterval {
		same := s
		same.Reported = old.Reported
		if reflect.DeepEqual(same, *old) {
			return nil, nil
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the status: %w", err)
	}
	out := state.DeepCopy()
	out.Data = maps.Clone(out.Data)
	if out.Data == nil {
		out.Data = map[string]string{}
	}
	out.Data[api.KeyStatus] = string(text)
	return out, nil
}
