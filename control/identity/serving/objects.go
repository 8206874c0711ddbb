package serving

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Webhook is one of the control plane's.
type Webhook struct {
	// Service is the name of its Service; Secret, Configuration and Name follow from it.
	Service string
	// Suffix ends the name of its configuration, where there is more than one control plane.
	Suffix string
	// Mutating says of which kind its configuration is.
	Mutating bool
}

// All are the control plane's webhooks, by the names that the option -webhook-certificates has for them.
var All = map[string]Webhook{
	"proxy-injector":   {Service: "linkerd-proxy-injector", Mutating: true},
	"sp-validator":     {Service: "linkerd-sp-validator"},
	"policy-validator": {Service: "linkerd-policy-validator"},
}

// Parse reads a list of names, separated by commas, of webhooks whose configurations have names with a suffix, which is mostly
// empty.
func Parse(list, suffix string) ([]Webhook, error) {
	var out []Webhook
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		h, ok := All[name]
		if !ok {
			return nil, fmt.Errorf("there is no webhook %q", name)
		}
		h.Suffix = suffix
		out = append(out, h)
	}
	return out, nil
}

// Secret is the name of the Secret that it serves from.
func (h Webhook) Secret() string { return h.Service + "-k8s-tls" }

// Configuration is the name of its configuration.
func (h Webhook) Configuration() string { return h.Service + "-webhook-config" + h.Suffix }

// Name is that of the webhook in its configuration.
func (h Webhook) Name() string { return h.Service + ".linkerd.io" }

// Keys of the Secret beside tls.crt and tls.key.
const (
	keyNextCert = "next.crt"
	keyNextKey  = "next.key"
	// keyEarlier has the current certificate and those before it, without keys. Who applies an older manifest takes away
	// tls.crt, which is served until the files follow, and this says what it was.
	keyEarlier = "earlier.crt"
)

// Annotations: fingerprint, "@", RFC 3339.
const (
	// annotationServed of the Secret says when its certificate came into it.
	annotationServed = "linkerd.io/webhook-certificate-served"
	// annotationPublished of the configuration says when the next certificate came into its bundle.
	annotationPublished = "linkerd.io/webhook-certificate-published"
)

// maxEarlier limits keyEarlier.
const maxEarlier = 4

func stamp(c *x509.Certificate, now time.Time) string {
	return fingerprint(c) + "@" + now.UTC().Format(time.RFC3339)
}

// stamped is when an annotation says that something happened with a certificate, zero if it is about another.
func stamped(annotation string, c *x509.Certificate) time.Time {
	name, text, _ := strings.Cut(annotation, "@")
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || name != fingerprint(c) {
		return time.Time{}
	}
	return at
}

// ErrForeign is met when somebody else looks after a certificate, who alone should.
type ErrForeign struct {
	// Object is what says so, Why what it says.
	Object, Why string
}

// Error implements error.
func (e *ErrForeign) Error() string {
	return fmt.Sprintf("%s is not the control plane's own: %s", e.Object, e.Why)
}

// objects are what the cluster holds about one webhook, as read at one time.
type objects struct {
	host string
	// secret is only a name if it is absent.
	secret *corev1.Secret
	absent bool
	// meta and bundle are those of the configuration.
	meta   metav1.ObjectMeta
	bundle []byte
}

// read reads Secret and configuration. A configuration is never made here; a Secret only if create says so.
func (c *Controller) read(ctx context.Context, h Webhook) (*objects, error) {
	o := &objects{host: h.Service + "." + c.o.Namespace + ".svc"}
	var err error
	o.secret, err = c.o.Client.CoreV1().Secrets(c.o.Namespace).Get(ctx, h.Secret(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && c.o.Create:
		o.absent = true
		o.secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.o.Namespace, Name: h.Secret()}, Type: corev1.SecretTypeTLS}
	case err != nil:
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	registrations := c.o.Client.AdmissionregistrationV1()
	found := false
	take := func(name string, client admissionregistrationv1.WebhookClientConfig) {
		if name == h.Name() {
			found, o.bundle = true, client.CABundle
		}
	}
	if h.Mutating {
		config, err := registrations.MutatingWebhookConfigurations().Get(ctx, h.Configuration(), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading the configuration of the webhook: %w", err)
		}
		o.meta = config.ObjectMeta
		for _, w := range config.Webhooks {
			take(w.Name, w.ClientConfig)
		}
	} else {
		config, err := registrations.ValidatingWebhookConfigurations().Get(ctx, h.Configuration(), metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading the configuration of the webhook: %w", err)
		}
		o.meta = config.ObjectMeta
		for _, w := range config.Webhooks {
			take(w.Name, w.ClientConfig)
		}
	}
	if !found {
		return nil, fmt.Errorf("configuration %s has no webhook %s", h.Configuration(), h.Name())
	}
	return o, o.foreign(h)
}

// foreign looks for the marks of others who keep certificates, whatever the options say: two who replace one certificate would
// replace it for ever.
func (o *objects) foreign(h Webhook) error {
	for key := range o.meta.Annotations {
		if strings.HasPrefix(key, "cert-manager.io/inject-ca-from") {
			return &ErrForeign{"configuration " + h.Configuration(), "annotation " + key}
		}
	}
	for key := range o.secret.Annotations {
		if strings.HasPrefix(key, "cert-manager.io/") {
			return &ErrForeign{"secret " + h.Secret(), "annotation " + key}
		}
	}
	if owners := o.secret.OwnerReferences; len(owners) > 0 {
		return &ErrForeign{"secret " + h.Secret(), "owned by " + owners[0].Kind + " " + owners[0].Name}
	}
	return nil
}

// world translates the objects. What cannot be read or served is as good as missing: it is made anew.
func (o *objects) world(now time.Time) World {
	w := World{Now: now, Bundle: decode(o.bundle), Earlier: decode(o.secret.Data[keyEarlier])}
	if pair, err := readPair(o.secret.Data[corev1.TLSCertKey], o.secret.Data[corev1.TLSPrivateKeyKey], o.host); err == nil {
		w.Current = pair
		w.Served = stamped(o.secret.Annotations[annotationServed], pair.Cert)
	}
	if pair, err := readPair(o.secret.Data[keyNextCert], o.secret.Data[keyNextKey], o.host); err == nil && now.Before(pair.Cert.NotAfter) {
		w.Next = pair
		w.Published = stamped(o.meta.Annotations[annotationPublished], pair.Cert)
	}
	return w
}

// withNext is the Secret with the next certificate in it.
func (o *objects) withNext(next *Pair, now time.Time) *corev1.Secret {
	if o.absent {
		// Nothing is served yet, and the kind of Secret wants a certificate.
		return o.serving(next, nil, now)
	}
	out := o.clone()
	out.Data[keyNextCert], out.Data[keyNextKey] = next.CertPEM, next.KeyPEM
	return out
}

// noted is the Secret that says since when its certificate is in it.
func (o *objects) noted(current *Pair, earlier []*x509.Certificate, now time.Time) *corev1.Secret {
	out := o.clone()
	out.Annotations[annotationServed] = stamp(current.Cert, now)
	earlier = with([]*x509.Certificate{current.Cert}, earlier)
	out.Data[keyEarlier] = encode(earlier[:min(len(earlier), maxEarlier)]...)
	return out
}

// serving is the Secret with another certificate to serve.
func (o *objects) serving(pair *Pair, earlier []*x509.Certificate, now time.Time) *corev1.Secret {
	out := o.noted(pair, earlier, now)
	out.Data[corev1.TLSCertKey], out.Data[corev1.TLSPrivateKeyKey] = pair.CertPEM, pair.KeyPEM
	delete(out.Data, keyNextCert)
	delete(out.Data, keyNextKey)
	return out
}

func (o *objects) clone() *corev1.Secret {
	out := o.secret.DeepCopy()
	if out.Data == nil {
		out.Data = map[string][]byte{}
	}
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	return out
}

// write writes the Secret, unless somebody else did meanwhile.
func (c *Controller) write(ctx context.Context, o *objects, secret *corev1.Secret) error {
	secrets := c.o.Client.CoreV1().Secrets(c.o.Namespace)
	var err error
	if o.absent {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	return err
}

// publish writes bundle and annotation of the configuration, and nothing else of it: what this version does not know of stays,
// and so does what others change, unless it is what was read.
func (c *Controller) publish(ctx context.Context, h Webhook, o *objects, bundle []*x509.Certificate, next *Pair, now time.Time) error {
	var published any // null takes it away
	if next != nil {
		published = stamp(next.Cert, now)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": o.meta.ResourceVersion,
			"annotations":     map[string]any{annotationPublished: published},
		},
		"webhooks": []any{map[string]any{"name": h.Name(), "clientConfig": map[string]any{"caBundle": encode(bundle...)}}},
	})
	if err != nil {
		return fmt.Errorf("encoding the bundle: %w", err)
	}
	registrations := c.o.Client.AdmissionregistrationV1()
	if h.Mutating {
		_, err = registrations.MutatingWebhookConfigurations().Patch(ctx, h.Configuration(), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	} else {
		_, err = registrations.ValidatingWebhookConfigurations().Patch(ctx, h.Configuration(), types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}
	return err
}

// services names webhooks for a log.
func services(hooks []Webhook) []string {
	var out []string
	for _, h := range hooks {
		out = append(out, h.Service)
	}
	slices.Sort(out)
	return out
}
