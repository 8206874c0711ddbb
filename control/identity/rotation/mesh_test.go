package rotation

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/api/names"
	api "github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/control/identity"
)

const ns = "linkerd"

// mesh is a mesh in virtual time: the cluster's objects, an identity controller that sees them late, as mounted files, and
// proxies that get certificates from it and learn anchors in their ways. After everything that happens each proxy has to
// accept each other's certificate.
type mesh struct {
	t      *testing.T
	client *fake.Clientset
	policy Policy
	start  time.Time
	out    strings.Builder

	issuer  *identity.Issuer
	bundle  []byte
	mounted time.Time
	files   string
	proxies []*proxy

	// met says that nothing changed since the proxies met.
	met bool

	known  map[string]string // fingerprint to name
	counts map[string]int
	shown  string
	raw    string
	// crash makes a write fail: at 0, before it is done or after.
	crash      int
	crashAfter bool
	crashed    bool
}

// proxy is a workload.
type proxy struct {
	name string
	// live proxies ask for the bundle; the others know what they were started with.
	live     bool
	key      *ecdsa.PrivateKey
	anchors  *x509.CertPool
	have     string
	chain    []*x509.Certificate
	asks     time.Time
	renewsAt time.Time
}

var testPolicy = Policy{
	IssuerLifetime: 365 * 24 * time.Hour, AnchorLifetime: 10 * 365 * 24 * time.Hour, RenewAt: 2. / 3,
	Leaf: 24 * time.Hour, Skew: 20 * time.Second, Margin: 5 * time.Minute,
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newMesh is what an installation leaves, with two of our proxies and one of upstream's.
func newMesh(t *testing.T, policy Policy) *mesh {
	m := &mesh{t: t, policy: policy, start: time.Now(), known: map[string]string{}, counts: map[string]int{}, crash: -1}
	anchor := must[*Authority](t)(newAnchor("root.linkerd.cluster.local", policy.AnchorLifetime, m.start))
	issuer := must[*Authority](t)(newIssuer("identity.linkerd.cluster.local", m.start.Add(policy.IssuerLifetime), anchor, m.start))
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }
	secret := must[*corev1.Secret](t)(writeKeys(&corev1.Secret{ObjectMeta: meta(api.AnchorSecret)}, Keys{Current: anchor}))
	signer := must[*corev1.Secret](t)(writeIssuer(&corev1.Secret{ObjectMeta: meta(names.SecretIdentityIssuer)}, issuer, nil))
	m.client = fake.NewSimpleClientset(secret, signer,
		&corev1.ConfigMap{ObjectMeta: meta(names.ConfigMapTrustRoots), Data: map[string]string{names.ConfigMapTrustRootsBundle: string(encodeCerts(anchor.Cert))}},
		&corev1.ConfigMap{ObjectMeta: meta(api.ConfigMap)},
	)
	react := func(action clienttesting.Action) (bool, runtime.Object, error) {
		if m.crash < 0 {
			return false, nil, nil
		}
		m.crash--
		if m.crash >= 0 {
			return false, nil, nil
		}
		m.crashed = true
		if m.crashAfter {
			update := action.(clienttesting.UpdateAction)
			if err := m.client.Tracker().Update(update.GetResource(), update.GetObject(), ns); err != nil {
				t.Error(err)
			}
		}
		return true, nil, errors.New("the process died")
	}
	m.client.PrependReactor("update", "*", react)
	m.mount()
	for _, p := range []struct {
		name string
		live bool
	}{{"web", true}, {"db", true}, {"upstream", false}} {
		m.add(p.name, p.live)
	}
	m.show()
	return m
}

func (m *mesh) objects() *objects {
	return must[*objects](m.t)(read(context.Background(), m.client, ns))
}

// mount is what the kubelet does once in a while.
func (m *mesh) mount() {
	o := m.objects()
	bundle := []byte(o.roots.Data[names.ConfigMapTrustRootsBundle])
	m.mounted = time.Now()
	if files := string(bundle) + string(o.issuer.Data[names.IssuerLinkerdCert]); files == m.files {
		return
	} else {
		m.files = files
	}
	issuer, err := identity.NewIssuer(o.issuer.Data[names.IssuerLinkerdCert], o.issuer.Data[names.IssuerLinkerdKey], bundle, time.Now())
	if err != nil {
		m.t.Errorf("%s: identity refuses the issuer: %v", m.at(), err)
		return
	}
	m.issuer, m.bundle = issuer, bundle
}

// add starts a proxy with the bundle that there is now in its environment.
func (m *mesh) add(name string, live bool) {
	key := must[*ecdsa.PrivateKey](m.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	p := &proxy{name: name, live: live, key: key}
	m.trust(p, m.bundle)
	m.renew(p)
	m.proxies = append(m.proxies, p)
}

func (m *mesh) trust(p *proxy, bundle []byte) {
	if p.have == string(bundle) {
		return
	}
	m.met = false
	p.have, p.anchors = string(bundle), x509.NewCertPool()
	for _, c := range must[[]*x509.Certificate](m.t)(decodeCerts(bundle)) {
		p.anchors.AddCert(c)
	}
}

func (m *mesh) renew(p *proxy) {
	m.met = false
	der := must[[]byte](m.t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: p.name}, DNSNames: []string{p.name},
	}, p.key))
	csr := must[*x509.CertificateRequest](m.t)(x509.ParseCertificateRequest(der))
	leaf, above, err := m.issuer.Sign(csr, identity.Lifetimes{Issuance: m.policy.Leaf, ClockSkew: m.policy.Skew}, time.Now())
	if err != nil {
		m.t.Fatal(err)
	}
	p.chain = []*x509.Certificate{leaf}
	for _, der := range above {
		p.chain = append(p.chain, must[*x509.Certificate](m.t)(x509.ParseCertificate(der)))
	}
	p.renewsAt = time.Now().Add(time.Until(leaf.NotAfter) / 10 * 7)
}

func (m *mesh) controller() *Controller {
	return must[*Controller](m.t)(New(Options{
		Client: m.client, Namespace: ns, TrustDomain: "cluster.local", Policy: m.policy, Interval: time.Minute,
		Identity: "test", Event: func(string) {}, Logger: slog.New(slog.DiscardHandler),
	}))
}

// step lets a time pass and everybody act once.
func (m *mesh) step(d time.Duration) {
	time.Sleep(d)
	if time.Since(m.mounted) >= 90*time.Second {
		m.mount()
	}
	for _, p := range m.proxies {
		if p.live && !time.Now().Before(p.asks) {
			m.trust(p, m.bundle)
			p.asks = time.Now().Add(5 * time.Minute)
		}
		if !time.Now().Before(p.renewsAt) {
			m.renew(p)
		}
	}
	if err := m.controller().Settle(context.Background()); err != nil && !m.crashed {
		m.t.Errorf("%s: %v", m.at(), err)
	}
	m.crashed = false
	m.meet()
	m.show()
	m.client.ClearActions()
}

// meet lets every proxy verify every other.
func (m *mesh) meet() {
	if m.met {
		return
	}
	m.met = true
	for _, server := range m.proxies {
		intermediates := x509.NewCertPool()
		for _, c := range server.chain[1:] {
			intermediates.AddCert(c)
		}
		for _, client := range m.proxies {
			_, err := server.chain[0].Verify(x509.VerifyOptions{Roots: client.anchors, Intermediates: intermediates, CurrentTime: time.Now()})
			if err != nil {
				m.t.Errorf("%s: %s does not accept %s: %v", m.at(), client.name, server.name, err)
			}
		}
	}
}

func (m *mesh) at() string { return "+" + time.Since(m.start).Round(time.Second).String() }

// name names a certificate in the order of appearance.
func (m *mesh) name(kind string, c *x509.Certificate) string {
	f := fingerprint(c)
	if m.known[f] == "" {
		m.counts[kind]++
		m.known[f] = fmt.Sprintf("%s%d", kind, m.counts[kind])
	}
	return m.known[f]
}

// show prints the objects if they changed.
func (m *mesh) show() {
	o := m.objects()
	raw := fmt.Sprint(o.anchor.Data, o.roots.Data, o.issuer.Data, o.state.Data)
	if raw == m.raw {
		return
	}
	m.raw = raw
	k, err := readKeys(o.anchor)
	if err != nil {
		m.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "anchor %s", m.name("A", k.Current.Cert))
	if k.Next != nil {
		fmt.Fprintf(&b, " next %s", m.name("A", k.Next.Cert))
	}
	b.WriteString(" bundle")
	for _, c := range must[[]*x509.Certificate](m.t)(decodeCerts([]byte(o.roots.Data[names.ConfigMapTrustRootsBundle]))) {
		b.WriteString(" " + m.name("A", c))
	}
	chain := must[[]*x509.Certificate](m.t)(decodeCerts(o.issuer.Data[names.IssuerLinkerdCert]))
	fmt.Fprintf(&b, " issuer %s", m.name("I", chain[0]))
	for _, c := range chain[1:] {
		b.WriteString(" cross " + m.name("X", c))
	}
	if s, err := api.ParseStatus(o.state.Data); err == nil && s != nil {
		fmt.Fprintf(&b, " | %s", s.Phase)
		if s.Error != "" {
			fmt.Fprintf(&b, "error: %s", s.Error)
		} else {
			fmt.Fprintf(&b, ", at +%s: %s", s.Until.Sub(m.start).Round(time.Second), s.Next)
		}
	}
	if text := b.String(); text != m.shown {
		m.shown = text
		fmt.Fprintf(&m.out, "%s %s\n", m.at(), text)
	}
}

// run lets a time pass in steps.
func (m *mesh) run(total, step time.Duration) {
	for end := time.Now().Add(total); time.Now().Before(end) && !m.t.Failed(); {
		m.step(step)
	}
}

func (m *mesh) request(key string) {
	o := m.objects()
	if o.state.Data == nil {
		o.state.Data = map[string]string{}
	}
	o.state.Data[key] = time.Now().UTC().Format(time.RFC3339)
	if err := m.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("configmaps"), o.state, ns); err != nil {
		m.t.Fatal(err)
	}
}

// put applies objects of an earlier time, as an old manifest does.
func (m *mesh) put(old *objects) {
	if err := m.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("configmaps"), old.roots, ns); err != nil {
		m.t.Fatal(err)
	}
	if err := m.client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("secrets"), old.issuer, ns); err != nil {
		m.t.Fatal(err)
	}
}
