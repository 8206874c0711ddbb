package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/control/identity"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// web is the identity that the tests ask for.
const web = "web.emo.serviceaccount.identity.linkerd.cluster.local"

// authority is a CA certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// newAuthority makes a certificate signed by parent, or by itself if parent is nil, valid from an hour ago for the given
// time from now.
func newAuthority(t *testing.T, name string, parent *authority, valid time.Duration, isCA bool) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signAuthority(t, name, parent, key, valid, isCA)
}

func signAuthority(t *testing.T, name string, parent *authority, key crypto.Signer, valid time.Duration, isCA bool) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(valid),
		IsCA:                  isCA,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	self := &authority{cert: template, key: key}
	if parent == nil {
		parent = self
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	if self.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return self
}

func certPEM(authorities ...*authority) []byte {
	var out []byte
	for _, a := range authorities {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return out
}

func (a *authority) keyPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// csr makes a request for web, changed by edit, signed with an ECDSA key or the given one.
func csr(t *testing.T, key crypto.Signer, edit func(*x509.CertificateRequest)) []byte {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: web}, DNSNames: []string{web}}
	if edit != nil {
		edit(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// events is an identity.Events that remembers.
type events struct {
	mu   sync.Mutex // guards seen
	seen []string
}

func (e *events) add(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, text)
}

// take returns what was seen and forgets it.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := e.seen
	e.seen = nil
	return seen
}

func (e *events) IssuerUpdated(string)                 { e.add("IssuerUpdated") }
func (e *events) IssuerUpdateSkipped(m string)         { e.add("IssuerUpdateSkipped: " + m) }
func (e *events) IssuerValidationFailed(string)        { e.add("IssuerValidationFailed") }
func (e *events) IssuedLeafCertificate(n, a, _ string) { e.add("IssuedLeafCertificate " + n + "/" + a) }

// reviewer is an identity.Reviewer: a function.
type reviewer func(token, audience string) (identity.Review, error)

func (r reviewer) Review(_ context.Context, token, audience string) (identity.Review, error) {
	return r(token, audience)
}

// authenticated answers every token with one user.
func authenticated(username string) reviewer {
	return func(string, string) (identity.Review, error) {
		return identity.Review{Authenticated: true, Username: username}, nil
	}
}

// fixture is a service with its files.
type fixture struct {
	files   identity.Files
	events  *events
	creds   *identity.Credentials
	service *identity.Service
	root    *authority
}

func (f *fixture) write(t *testing.T, issuer *authority, roots *authority) {
	t.Helper()
	for file, content := range map[string][]byte{
		f.files.Cert: certPEM(issuer), f.files.Key: issuer.keyPEM(t), f.files.Roots: certPEM(roots),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// writeRoots replaces the trust anchors alone.
func (f *fixture) writeRoots(t *testing.T, roots ...*authority) {
	t.Helper()
	if err := os.WriteFile(f.files.Roots, certPEM(roots...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newFixture returns a service whose issuer is valid for the given time.
func newFixture(t *testing.T, valid time.Duration, review identity.Reviewer) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{
		files: identity.Files{
			Cert: filepath.Join(dir, "crt.pem"), Key: filepath.Join(dir, "key.pem"), Roots: filepath.Join(dir, "ca-bundle.crt"),
		},
		events: &events{},
		root:   newAuthority(t, "root", nil, 10*365*24*time.Hour, true),
	}
	f.write(t, newAuthority(t, "issuer", f.root, valid, true), f.root)
	logger := slog.New(slog.DiscardHandler)
	f.creds = identity.NewCredentials(f.files, f.events, logger)
	f.service = identity.NewService(identity.Options{
		Domain:      identity.Domain{ControllerNamespace: "linkerd", TrustDomain: "cluster.local"},
		Lifetimes:   identity.Lifetimes{Issuance: 24 * time.Hour, ClockSkew: 20 * time.Second},
		Credentials: f.creds,
		Reviewer:    review,
		Events:      f.events,
		Logger:      logger,
	})
	return f
}

func (f *fixture) load(t *testing.T) *fixture {
	t.Helper()
	if err := f.creds.Load(); err != nil {
		t.Fatal(err)
	}
	return f
}

func request(t *testing.T) *identitypb.CertifyRequest {
	return &identitypb.CertifyRequest{Identity: web, Token: []byte("token"), CertificateSigningRequest: csr(t, nil, nil)}
}

func TestCertify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 365*24*time.Hour, authenticated("system:serviceaccount:emo:web")).load(t)
		answer, err := f.service.Certify(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(answer.GetLeafCertificate())
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.GetIntermediateCertificates()) != 1 {
			t.Fatalf("got %d intermediates, want the issuer alone", len(answer.GetIntermediateCertificates()))
		}
		issuer, err := x509.ParseCertificate(answer.GetIntermediateCertificates()[0])
		if err != nil {
			t.Fatal(err)
		}
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(f.root.cert)
		intermediates.AddCert(issuer)
		if _, err := leaf.Verify(x509.VerifyOptions{
			DNSName: web, Roots: roots, Intermediates: intermediates, CurrentTime: time.Now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}); err != nil {
			t.Error(err)
		}
		now := time.Now().UTC()
		if leaf.Subject.CommonName != web || !slices.Equal(leaf.DNSNames, []string{web}) || leaf.IsCA {
			t.Errorf("got subject %v, names %v, CA %v", leaf.Subject, leaf.DNSNames, leaf.IsCA)
		}
		if !leaf.NotBefore.Equal(now.Add(-20*time.Second)) || !leaf.NotAfter.Equal(now.Add(24*time.Hour+20*time.Second)) {
			t.Errorf("got %v to %v at %v", leaf.NotBefore, leaf.NotAfter, now)
		}
		if !answer.GetValidUntil().AsTime().Equal(leaf.NotAfter) {
			t.Errorf("valid until %v, want %v", answer.GetValidUntil().AsTime(), leaf.NotAfter)
		}
		if want := x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment; leaf.KeyUsage != want {
			t.Errorf("key usage %v, want %v", leaf.KeyUsage, want)
		}
		if want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}; !slices.Equal(leaf.ExtKeyUsage, want) {
			t.Errorf("extended key usage %v, want %v", leaf.ExtKeyUsage, want)
		}
		if leaf.SignatureAlgorithm != x509.ECDSAWithSHA256 {
			t.Errorf("signature %v", leaf.SignatureAlgorithm)
		}
		if got := f.events.take(); !slices.Equal(got, []string{"IssuedLeafCertificate emo/web"}) {
			t.Errorf("events %q", got)
		}
		again, err := f.service.Certify(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		second, _ := x509.ParseCertificate(again.GetLeafCertificate())
		if second.SerialNumber.Cmp(leaf.SerialNumber) == 0 {
			t.Error("two leaves have the same serial number")
		}
	})
}

// TestSubject: of the subject of a request only the name that was checked comes into the certificate.
func TestSubject(t *testing.T) {
	f := newFixture(t, 365*24*time.Hour, authenticated("system:serviceaccount:emo:web")).load(t)
	for _, name := range []string{"", web} {
		r := request(t)
		r.CertificateSigningRequest = csr(t, nil, func(c *x509.CertificateRequest) {
			c.Subject = pkix.Name{CommonName: name, Organization: []string{"system:masters"}, OrganizationalUnit: []string{"x"}, SerialNumber: "1",
				ExtraNames: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 65}, Value: "admin"}}}
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: []byte{5, 0}}}
		})
		answer, err := f.service.Certify(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(answer.GetLeafCertificate())
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if name != "" {
			want = "CN=" + name
		}
		if got := leaf.Subject.String(); got != want {
			t.Errorf("subject %q, want %q", got, want)
		}
		if slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "1.2.3.4" }) {
			t.Error("an extension was copied")
		}
	}
}

// TestRefusals has one case per row of the proxy API chapter, section 7.2, each also wrong in what later rows check, so
// that the order shows.
func TestRefusals(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	broken := csr(t, nil, nil)
	broken[len(broken)-1] ^= 1
	with := func(der []byte) func(*identitypb.CertifyRequest) {
		return func(r *identitypb.CertifyRequest) { r.CertificateSigningRequest = der }
	}
	good := authenticated("system:serviceaccount:emo:web")
	for _, c := range []struct {
		name     string
		edit     func(*identitypb.CertifyRequest)
		reviewer reviewer
		code     codes.Code
		text     string
	}{
		{"no identity", func(r *identitypb.CertifyRequest) { r.Identity, r.Token = "", nil }, nil,
			codes.InvalidArgument, "missing identity"},
		{"no token", func(r *identitypb.CertifyRequest) { r.Token, r.CertificateSigningRequest = nil, nil }, nil,
			codes.InvalidArgument, "missing token"},
		{"no CSR", func(r *identitypb.CertifyRequest) { r.CertificateSigningRequest = nil }, nil,
			codes.InvalidArgument, "missing certificate signing request"},
		{"CSR is not DER", with([]byte("-----BEGIN")), nil, codes.InvalidArgument, "asn1"},
		{"CSR signed with another key", with(broken), nil, codes.InvalidArgument, "not signed with its own key"},
		{"no DNS name", with(csr(t, nil, func(r *x509.CertificateRequest) { r.DNSNames = nil })), nil,
			codes.FailedPrecondition, "CSR must have exactly one DNSName"},
		{"two DNS names", with(csr(t, nil, func(r *x509.CertificateRequest) { r.DNSNames = []string{web, "b"} })), nil,
			codes.FailedPrecondition, "CSR must have exactly one DNSName"},
		{"another DNS name", with(csr(t, nil, func(r *x509.CertificateRequest) { r.DNSNames = []string{"b"} })), nil,
			codes.FailedPrecondition, "CSR name does not match requested identity: csr=b; req=" + web},
		{"another common name", with(csr(t, nil, func(r *x509.CertificateRequest) { r.Subject.CommonName = "b" })), nil,
			codes.FailedPrecondition, "invalid CommonName: b"},
		{"e-mail", with(csr(t, nil, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} })), nil,
			codes.FailedPrecondition, "cannot validate email addresses"},
		{"IP address", with(csr(t, nil, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{{1, 2, 3, 4}} })), nil,
			codes.FailedPrecondition, "cannot validate IP addresses"},
		{"URI", with(csr(t, nil, func(r *x509.CertificateRequest) {
			r.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}}
		})), nil, codes.FailedPrecondition, "cannot validate URIs"},
		{"API server away", nil, func(string, string) (identity.Review, error) { return identity.Review{}, errors.New("away") },
			codes.Internal, "error validating token for " + web + ": away"},
		{"token cannot be judged", nil, func(string, string) (identity.Review, error) { return identity.Review{Error: "expired"}, nil },
			codes.InvalidArgument, "expired"},
		{"bad token", nil, func(string, string) (identity.Review, error) { return identity.Review{}, nil },
			codes.FailedPrecondition, "authentication token could not be authenticated"},
		{"a person's token", nil, authenticated("admin"), codes.InvalidArgument, "Username must be in form system:TYPE:NS:SA: admin"},
		{"odd username", nil, authenticated("system:serviceaccount:emo:a.b"), codes.InvalidArgument, "Not a label: a.b"},
		{"somebody else's token", nil, authenticated("system:serviceaccount:emo:db"), codes.FailedPrecondition,
			"requested identity did not match provided token: requested=" + web + "; found=db.emo.serviceaccount.identity.linkerd.cluster.local"},
		{"RSA key", with(csr(t, rsaKey, nil)), good, codes.Internal, "CSR must contain an ECDSA public key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.reviewer == nil {
				c.reviewer = func(string, string) (identity.Review, error) {
					t.Error("token reviewed although the request was bad")
					return identity.Review{}, nil
				}
			}
			f := newFixture(t, time.Hour, c.reviewer).load(t)
			r := request(t)
			if c.edit != nil {
				c.edit(r)
			}
			_, err := f.service.Certify(t.Context(), r)
			if got := status.Code(err); got != c.code || !strings.Contains(status.Convert(err).Message(), c.text) {
				t.Fatalf("got %v, want %v: %s", err, c.code, c.text)
			}
			if seen := f.events.take(); len(seen) > 0 {
				t.Errorf("events %q", seen)
			}
		})
	}
}

func TestBeforeTheIssuerIsLoaded(t *testing.T) {
	f := newFixture(t, time.Hour, nil)
	_, err := f.service.Certify(t.Context(), &identitypb.CertifyRequest{})
	if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "cert issuer not ready yet" {
		t.Fatalf("got %v", err)
	}
}

// TestIssuerExpires follows leaves towards the end of their issuer, and beyond.
func TestIssuerExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, 30*time.Hour, authenticated("system:serviceaccount:emo:web")).load(t)
		start := time.Now()
		at := func(d time.Duration) { time.Sleep(time.Until(start.Add(d))) }
		for _, c := range []struct{ at, valid time.Duration }{
			{0, 24*time.Hour + 20*time.Second},
			{5 * time.Hour, 24*time.Hour + 20*time.Second},
			{7 * time.Hour, 23 * time.Hour}, // no leaf outlives its issuer
			{29 * time.Hour, time.Hour},
		} {
			at(c.at)
			answer, err := f.service.Certify(t.Context(), request(t))
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Until(answer.GetValidUntil().AsTime()); got != c.valid {
				t.Errorf("at %v: valid for %v, want %v", c.at, got, c.valid)
			}
		}
		if got, want := f.creds.TTL(), time.Hour.Seconds(); got != want {
			t.Errorf("time left: got %v, want %v", got, want)
		}
		f.events.take()
		at(31 * time.Hour)
		_, err := f.service.Certify(t.Context(), request(t))
		if status.Code(err) != codes.Unknown || !strings.Contains(err.Error(), "expired") {
			t.Errorf("got %v", err)
		}
		if got := f.events.take(); !slices.Equal(got, []string{"IssuerValidationFailed"}) {
			t.Errorf("events %q", got)
		}
	})
}

// TestReload follows an issuer over good and bad changes of its files.
func TestReload(t *testing.T) {
	f := newFixture(t, time.Hour, authenticated("system:serviceaccount:emo:web")).load(t)
	issuer := func() string {
		t.Helper()
		answer, err := f.service.Certify(t.Context(), request(t))
		if err != nil {
			t.Fatal(err)
		}
		f.events.take()
		cert, err := x509.ParseCertificate(answer.GetIntermediateCertificates()[0])
		if err != nil {
			t.Fatal(err)
		}
		return cert.Subject.CommonName
	}
	step := func(name, wantIssuer, wantEvent string) {
		t.Helper()
		f.events.take()
		f.creds.Reload()
		got := strings.Join(f.events.take(), ",")
		if wantEvent == "" && got != "" || !strings.HasPrefix(got, wantEvent) {
			t.Errorf("%s: events %q, want %q", name, got, wantEvent)
		}
		if got := issuer(); got != wantIssuer {
			t.Errorf("%s: issued by %s, want %s", name, got, wantIssuer)
		}
	}
	step("nothing changed", "issuer", "")
	f.write(t, newAuthority(t, "second", f.root, time.Hour, true), f.root)
	step("a good one", "second", "IssuerUpdated")
	f.write(t, newAuthority(t, "leaf", f.root, time.Hour, false), f.root)
	step("not a CA", "second", "IssuerUpdateSkipped")
	f.write(t, newAuthority(t, "old", f.root, -time.Minute, true), f.root)
	step("expired", "second", "IssuerUpdateSkipped")
	other := newAuthority(t, "other root", nil, time.Hour, true)
	f.write(t, newAuthority(t, "stranger", other, time.Hour, true), f.root)
	step("not below a trust anchor", "second", "IssuerUpdateSkipped")
	f.write(t, newAuthority(t, "stranger", other, time.Hour, true), other)
	step("its trust anchor follows", "stranger", "IssuerUpdated")
	if err := os.WriteFile(f.files.Key, f.root.keyPEM(t), 0o600); err != nil {
		t.Fatal(err)
	}
	step("key of another", "stranger", "IssuerUpdateSkipped")
	if err := os.Remove(f.files.Key); err != nil {
		t.Fatal(err)
	}
	step("no key", "stranger", "IssuerUpdateSkipped")
}

func TestLoadRefuses(t *testing.T) {
	root := newAuthority(t, "root", nil, time.Hour, true)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaIssuer := signAuthority(t, "rsa", root, rsaKey, time.Hour, true)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edIssuer := signAuthority(t, "ed25519", root, edKey, time.Hour, true)
	expired := newAuthority(t, "expired", root, -time.Minute, true)
	oldRoot := newAuthority(t, "old root", nil, -time.Minute, true)
	ofOldRoot := newAuthority(t, "issuer", oldRoot, time.Hour, true)
	for _, c := range []struct {
		name             string
		cert, key, roots []byte
		want             string
	}{
		{"RSA key", certPEM(rsaIssuer), rsaIssuer.keyPEM(t), certPEM(root), "must be an ECDSA key"},
		{"Ed25519 key", certPEM(edIssuer), edIssuer.keyPEM(t), certPEM(root), "must be an ECDSA key"},
		{"expired issuer", certPEM(expired), expired.keyPEM(t), certPEM(root), "verifying issuer certificate: x509: certificate has expired"},
		{"expired trust anchor", certPEM(ofOldRoot), ofOldRoot.keyPEM(t), certPEM(oldRoot), "verifying issuer certificate: x509: certificate has expired"},
		{"no certificate", nil, root.keyPEM(t), certPEM(root), "reading issuer certificate"},
		{"no key", certPEM(root), certPEM(root), certPEM(root), "reading issuer key"},
		{"no trust anchor", certPEM(root), root.keyPEM(t), nil, "reading trust anchors"},
	} {
		if _, err := identity.NewIssuer(c.cert, c.key, c.roots, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestAnchorsOfOtherKinds: how an anchor signs is no matter of ours.
func TestAnchorsOfOtherKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"RSA": rsaKey, "Ed25519": edKey} {
		root := signAuthority(t, name, nil, key, time.Hour, true)
		f := newFixture(t, time.Hour, authenticated("system:serviceaccount:emo:web"))
		f.write(t, newAuthority(t, "issuer", root, time.Hour, true), root)
		f.load(t)
		if _, err := f.service.Certify(t.Context(), request(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIssuerComesLate: what was not there at the start is taken when it comes.
func TestIssuerComesLate(t *testing.T) {
	f := newFixture(t, time.Hour, authenticated("system:serviceaccount:emo:web"))
	f.write(t, newAuthority(t, "expired", f.root, -time.Minute, true), f.root)
	if err := f.creds.Load(); err == nil {
		t.Fatal("an expired issuer was taken")
	}
	if _, err := f.service.Certify(t.Context(), request(t)); status.Code(err) != codes.Unavailable {
		t.Errorf("without an issuer: %v", err)
	}
	select {
	case <-f.creds.Loaded():
		t.Error("nothing was loaded")
	default:
	}
	f.write(t, newAuthority(t, "issuer", f.root, time.Hour, true), f.root)
	f.creds.Reload()
	select {
	case <-f.creds.Loaded():
	default:
		t.Error("the new issuer was not loaded")
	}
	if _, err := f.service.Certify(t.Context(), request(t)); err != nil {
		t.Error(err)
	}
}

func TestDomain(t *testing.T) {
	for _, c := range []struct {
		domain identity.Domain
		ok     bool
	}{
		{identity.Domain{ControllerNamespace: "linkerd", TrustDomain: "cluster.local"}, true},
		{identity.Domain{ControllerNamespace: "linkerd.x", TrustDomain: "cluster.local"}, false},
		{identity.Domain{ControllerNamespace: "linkerd", TrustDomain: "Cluster"}, false},
	} {
		if err := c.domain.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: got %v", c.domain, err)
		}
	}
}

// TestTokenReviews asks a fake API server, which refuses the mesh's audience for one token as Kubernetes does for tokens
// that were not made for it.
func TestTokenReviews(t *testing.T) {
	client := fake.NewClientset()
	var audiences [][]string
	client.PrependReactor("create", "tokenreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		audiences = append(audiences, review.Spec.Audiences)
		if review.Spec.Token == "legacy" && len(review.Spec.Audiences) > 0 {
			review.Status.Error = `[invalid bearer token, token audiences ["api"] is invalid for the target audiences ["identity.l5d.io"]]`
			return true, review, nil
		}
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: "system:serviceaccount:emo:web"}}
		return true, review, nil
	})
	f := newFixture(t, time.Hour, identity.TokenReviews{Client: client.AuthenticationV1().TokenReviews()}).load(t)
	for _, c := range []struct {
		token string
		want  [][]string
	}{
		{"projected", [][]string{{"identity.l5d.io"}}},
		{"legacy", [][]string{{"identity.l5d.io"}, nil}},
	} {
		audiences = nil
		r := request(t)
		r.Token = []byte(c.token)
		if _, err := f.service.Certify(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(audiences, c.want, slices.Equal) {
			t.Errorf("%s: asked for audiences %q, want %q", c.token, audiences, c.want)
		}
	}
}
