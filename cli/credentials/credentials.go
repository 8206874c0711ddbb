// Package credentials makes and judges the certificates the mesh's identities
// hang from: trust anchors and the issuer (CLI chapter, sections 2.4 to 2.6).
//
// install generates them, install and upgrade verify what the user brings, and
// check judges what the cluster holds. The functions are pure apart from the
// random source and may be called from any goroutine.
package credentials

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/rotation"
)

// Issuer is the certificate authority of the control plane with its anchors,
// all PEM.
type Issuer struct {
	TrustAnchors string
	Certificate  string
	Key          string
}

// Lifetimes of generated credentials. The anchor is in every pod's
// configuration and is costly to replace; the issuer is one Secret.
const (
	anchorLifetime = 10 * 365 * 24 * time.Hour
	issuerLifetime = 365 * 24 * time.Hour
	// backdate makes a fresh certificate valid on nodes whose clock is behind. The
	// identity controller counts on it where it asks how old a certificate is.
	backdate = rotation.Backdate
)

// ExpiresSoon is the time before expiry at which checks begin to warn.
const ExpiresSoon = 60 * 24 * time.Hour

// IssuerName is the DNS name an issuer certificate has to carry.
func IssuerName(namespace, trustDomain string) string {
	return fmt.Sprintf("identity.%s.%s", namespace, trustDomain)
}

// GenerateWithKey makes a trust anchor and an issuer signed by it, both ECDSA P-256.
// Who keeps the key of the anchor can make the issuers to come.
func GenerateWithKey(name string, now time.Time) (made *Issuer, anchorKeyPEM string, err error) {
	anchorKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("generating the trust anchor: %w", err)
	}
	anchor, err := template("root."+strings.TrimPrefix(name, "identity."), now, anchorLifetime)
	if err != nil {
		return nil, "", err
	}
	anchorDER, err := x509.CreateCertificate(rand.Reader, anchor, anchor, anchorKey.Public(), anchorKey)
	if err != nil {
		return nil, "", fmt.Errorf("generating the trust anchor: %w", err)
	}
	issuerKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("generating the issuer: %w", err)
	}
	issuer, err := template(name, now, issuerLifetime)
	if err != nil {
		return nil, "", err
	}
	issuer.DNSNames = []string{name}
	issuer.MaxPathLenZero = true
	issuerDER, err := x509.CreateCertificate(rand.Reader, issuer, anchor, issuerKey.Public(), anchorKey)
	if err != nil {
		return nil, "", fmt.Errorf("generating the issuer: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(issuerKey)
	if err != nil {
		return nil, "", fmt.Errorf("generating the issuer: %w", err)
	}
	anchorKeyDER, err := x509.MarshalECPrivateKey(anchorKey)
	if err != nil {
		return nil, "", fmt.Errorf("generating the trust anchor: %w", err)
	}
	return &Issuer{
		TrustAnchors: encode("CERTIFICATE", anchorDER),
		Certificate:  encode("CERTIFICATE", issuerDER),
		Key:          encode("EC PRIVATE KEY", keyDER),
	}, encode("EC PRIVATE KEY", anchorKeyDER), nil
}

// Generate is GenerateWithKey for who has no use for the key of the anchor.
func Generate(name string, now time.Time) (*Issuer, error) {
	issuer, _, err := GenerateWithKey(name, now)
	return issuer, err
}

func template(name string, now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("generating a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// ParseCertificates returns all certificates of a PEM text, at least one.
func ParseCertificates(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, certificate)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificates found")
	}
	return out, nil
}

// NormalizeKey re-encodes a private key, so that what is stored holds nothing
// but the key. EC keys come out as SEC 1, others as PKCS #8.
func NormalizeKey(text string) (string, error) {
	key, err := parseKey([]byte(text))
	if err != nil {
		return "", err
	}
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		der, err := x509.MarshalECPrivateKey(ec)
		if err != nil {
			return "", err
		}
		return encode("EC PRIVATE KEY", der), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return encode("PRIVATE KEY", der), nil
}

// NormalizeCertificates re-encodes certificates likewise.
func NormalizeCertificates(text string) (string, error) {
	certificates, err := ParseCertificates(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, c := range certificates {
		b.WriteString(encode("CERTIFICATE", c.Raw))
	}
	return b.String(), nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return nil, errors.New("no private key found")
		}
		switch block.Type {
		case "EC PRIVATE KEY":
			return x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			signer, ok := key.(crypto.Signer)
			if !ok {
				return nil, fmt.Errorf("unsupported private key %T", key)
			}
			return signer, nil
		}
	}
}

// Pair checks that key and certificate belong together and returns the parsed
// certificates, the issuer first.
func Pair(certificate, key string) ([]*x509.Certificate, error) {
	if _, err := tls.X509KeyPair([]byte(certificate), []byte(key)); err != nil {
		return nil, fmt.Errorf("failed to read CA: %w", err)
	}
	return ParseCertificates(certificate)
}

// Verify judges an issuer against its anchors in the order of the CLI chapter,
// section 2.6. name may be empty, then the issuer's own name is not looked at.
func Verify(i Issuer, name string, now time.Time) error {
	chain, err := Pair(i.Certificate, i.Key)
	if err != nil {
		return err
	}
	issuer := chain[0]
	if err := Validity(issuer, now); err != nil {
		return err
	}
	if err := IssuerAlgorithm(issuer); err != nil {
		return err
	}
	if !issuer.IsCA {
		return errors.New("issuer cert is not a CA")
	}
	anchors, err := ParseCertificates(i.TrustAnchors)
	if err != nil {
		return fmt.Errorf("failed to read trust anchors: %w", err)
	}
	return Chain(chain, anchors, name, now)
}

// Validity returns why a certificate is not valid at a time.
func Validity(c *x509.Certificate, now time.Time) error {
	if c.NotBefore.After(now) {
		return fmt.Errorf("not valid before: %s", c.NotBefore.Format(time.RFC3339))
	}
	if c.NotAfter.Before(now) {
		return fmt.Errorf("not valid anymore. Expired on %s", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// Expiry returns an error for a certificate that ends within ExpiresSoon.
func Expiry(c *x509.Certificate, now time.Time) error {
	if now.Add(ExpiresSoon).After(c.NotAfter) {
		return fmt.Errorf("will expire on %s", c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// IssuerAlgorithm returns why the algorithms of an issuer are not supported.
func IssuerAlgorithm(c *x509.Certificate) error {
	if c.PublicKeyAlgorithm != x509.ECDSA {
		return fmt.Errorf("issuer certificate must use ECDSA for public key algorithm, instead %s was used", c.PublicKeyAlgorithm)
	}
	return ecdsaAlgorithm(c)
}

func ecdsaAlgorithm(c *x509.Certificate) error {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("expected an ECDSA public key, got %T", c.PublicKey)
	}
	if key.Curve != elliptic.P256() {
		return fmt.Errorf("must use P-256 curve for public key, instead %s was used", key.Curve.Params().Name)
	}
	switch c.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.SHA256WithRSA:
		return nil
	default:
		return fmt.Errorf("must be signed by an ECDSA P-256 key, instead %s was used", c.SignatureAlgorithm)
	}
}

// AnchorAlgorithm returns why the algorithms of a trust anchor are not
// supported.
func AnchorAlgorithm(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ecdsaAlgorithm(c)
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits != 2048 && bits != 4096 {
			return fmt.Errorf("RSA must use a 2048 or 4096 bit public key, instead %d bit public key was used", bits)
		}
		if c.SignatureAlgorithm != x509.SHA256WithRSA {
			return fmt.Errorf("must be signed by an RSA 2048/4096 bit key, instead %s was used", c.SignatureAlgorithm)
		}
		return nil
	default:
		return fmt.Errorf("trust anchor must use ECDSA or RSA for public key algorithm, instead %s was used", c.PublicKeyAlgorithm)
	}
}

// Chain verifies that a chain, leaf first, hangs from one of the anchors.
func Chain(chain, anchors []*x509.Certificate, name string, now time.Time) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		roots.AddCert(a)
	}
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName:       name,
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}
