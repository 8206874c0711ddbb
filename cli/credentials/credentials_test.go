package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

const name = "identity.linkerd.cluster.local"

func generate(t *testing.T, at time.Time) *Issuer {
	t.Helper()
	i, err := Generate(name, at)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// selfSigned makes a certificate with its own algorithm and properties.
func selfSigned(t *testing.T, curve elliptic.Curve, isCA bool) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER)
}

func TestVerify(t *testing.T) {
	good := generate(t, now)
	other := generate(t, now)
	wide, wideKey := selfSigned(t, elliptic.P521(), true)
	leaf, leafKey := selfSigned(t, elliptic.P256(), false)
	one, oneKey := selfSigned(t, elliptic.P256(), true)
	for title, c := range map[string]struct {
		issuer Issuer
		name   string
		at     time.Time
		want   string
	}{
		"generated":          {*good, name, now, ""},
		"anchor is issuer":   {Issuer{one, one, oneKey}, name, now, ""},
		"another key":        {Issuer{good.TrustAnchors, good.Certificate, other.Key}, name, now, "failed to read CA: "},
		"no PEM":             {Issuer{good.TrustAnchors, "x", "y"}, name, now, "failed to read CA: "},
		"too early":          {*good, name, now.Add(-time.Hour), "not valid before: 2026-03-14T15:08:26Z"},
		"expired":            {*good, name, now.Add(2 * 365 * 24 * time.Hour), "not valid anymore. Expired on 2027-03-14T15:09:26Z"},
		"wrong curve":        {Issuer{wide, wide, wideKey}, name, now, "must use P-256 curve for public key, instead P-521 was used"},
		"not a CA":           {Issuer{leaf, leaf, leafKey}, name, now, "issuer cert is not a CA"},
		"another anchor":     {Issuer{other.TrustAnchors, good.Certificate, good.Key}, name, now, "x509: certificate signed by unknown authority"},
		"another name":       {*good, "identity.mesh.cluster.local", now, "x509: certificate is valid for identity.linkerd.cluster.local, not identity.mesh.cluster.local"},
		"anchors unreadable": {Issuer{"x", good.Certificate, good.Key}, name, now, "failed to read trust anchors: no certificates found"},
	} {
		got := ""
		if err := Verify(c.issuer, c.name, c.at); err != nil {
			got = err.Error()
		}
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", title, got, c.want)
		}
	}
}

func TestAnchorAlgorithm(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for algorithm, want := range map[x509.SignatureAlgorithm]string{
		x509.SHA256WithRSA: "",
		x509.SHA512WithRSA: "must be signed by an RSA 2048/4096 bit key, instead SHA512-RSA was used",
	} {
		c.SignatureAlgorithm = algorithm
		der, err := x509.CreateCertificate(rand.Reader, c, c, small.Public(), small)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := AnchorAlgorithm(parsed); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%v: %q, want %q", algorithm, got, want)
		}
	}
}

func TestNormalize(t *testing.T) {
	i := generate(t, now)
	dirty := "some text\n" + i.Certificate + "more text\n" + i.TrustAnchors
	if got, err := NormalizeCertificates(dirty); err != nil || got != i.Certificate+i.TrustAnchors {
		t.Errorf("certificates: %q, %v", got, err)
	}
	if got, err := NormalizeKey("text\n" + i.Key); err != nil || got != i.Key {
		t.Errorf("key: %v", err)
	}
	if _, err := NormalizeKey(i.Certificate); err == nil {
		t.Error("a certificate is taken for a key")
	}
}

// TestKindsOfKeys: what an issuer and an anchor of each kind of key are told.
func TestKindsOfKeys(t *testing.T) {
	rsaKey := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	ecKey := func(curve elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for title, c := range map[string]struct {
		key            crypto.Signer
		issuer, anchor string
	}{
		"ECDSA P-256": {ecKey(elliptic.P256()), "", ""},
		"ECDSA P-384": {ecKey(elliptic.P384()), "must use P-256 curve for public key, instead P-384 was used", "must use P-256 curve for public key, instead P-384 was used"},
		"RSA 2048":    {rsaKey(2048), "issuer certificate must use ECDSA for public key algorithm, instead RSA was used", ""},
		"RSA 3072":    {rsaKey(3072), "issuer certificate must use ECDSA for public key algorithm, instead RSA was used", "RSA must use a 2048 or 4096 bit public key, instead 3072 bit public key was used"},
		"Ed25519":     {edKey, "issuer certificate must use ECDSA for public key algorithm, instead Ed25519 was used", "trust anchor must use ECDSA or RSA for public key algorithm, instead Ed25519 was used"},
	} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		text := encode("CERTIFICATE", der)
		says := func(err error) string {
			if err == nil {
				return ""
			}
			return err.Error()
		}
		if got := says(Verify(Issuer{text, text, encode("PRIVATE KEY", keyDER)}, name, now)); got != c.issuer {
			t.Errorf("issuer of %s: %q, want %q", title, got, c.issuer)
		}
		if got := says(AnchorAlgorithm(parsed)); got != c.anchor {
			t.Errorf("anchor of %s: %q, want %q", title, got, c.anchor)
		}
	}
}
