package rotation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	api "github.com/linkerd-go/linkerd-go/api/rotation"
)

// backdate makes a new certificate valid at peers whose clock is behind. What was issued by us was issued this long after its
// NotBefore.
const backdate = api.Backdate

// maxCross limits the cross certificates that travel with an issuer: each costs some 500 bytes per handshake, and more than
// this many anchors in the time of one's validity are a test.
const maxCross = 3

// Authority is a CA certificate with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// issued is when a certificate was made, not earlier.
func issued(c *x509.Certificate) time.Time { return c.NotBefore.Add(backdate) }

// fingerprint names a certificate: the SHA-256 of its DER, in hexadecimal.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func template(subject pkix.Name, now, until time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// newAnchor makes a trust anchor. Each has a subject of its own, so that verifiers that look for parents by name find one.
func newAnchor(name string, lifetime time.Duration, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of a trust anchor: %w", err)
	}
	t, err := template(pkix.Name{CommonName: name}, now, now.Add(lifetime))
	if err != nil {
		return nil, err
	}
	t.Subject.SerialNumber = now.UTC().Format("20060102T150405Z")
	cert, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: cert, Key: key}, nil
}

// crossSign certifies the key of next by current, for who trusts current only. It is valid as long as both.
func crossSign(next *x509.Certificate, current *Authority, now time.Time) (*x509.Certificate, error) {
	until := next.NotAfter
	if current.Cert.NotAfter.Before(until) {
		until = current.Cert.NotAfter
	}
	t, err := template(next.Subject, now, until)
	if err != nil {
		return nil, err
	}
	t.SubjectKeyId = next.SubjectKeyId
	public, ok := next.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errNotECDSA
	}
	return sign(t, current.Cert, public, current.Key)
}

// newIssuer makes an issuer under anchor, that ends at the latest at until, and not after the anchor.
func newIssuer(name string, until time.Time, anchor *Authority, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of an issuer: %w", err)
	}
	if anchor.Cert.NotAfter.Before(until) {
		until = anchor.Cert.NotAfter
	}
	t, err := template(pkix.Name{CommonName: name}, now, until)
	if err != nil {
		return nil, err
	}
	t.DNSNames = []string{name}
	t.MaxPathLenZero = true
	cert, err := sign(t, anchor.Cert, &key.PublicKey, anchor.Key)
	if err != nil {
		return nil, err
	}
	return &Authority{Cert: cert, Key: key}, nil
}

// lifeWith is when an issuer ends that travels with cross certificates: with the first of them, so that they serve as long as
// they can, unless that is sooner than least.
func lifeWith(cross []*x509.Certificate, until, least time.Time) time.Time {
	for _, c := range cross {
		if c.NotAfter.Before(until) && !c.NotAfter.Before(least) {
			until = c.NotAfter
		}
	}
	return until
}

// chainOf is what travels with an issuer: the issuer, and those cross certificates that live as long as it does. A shorter
// one would shorten the life of every leaf.
func chainOf(issuer *x509.Certificate, cross []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{issuer}
	for _, c := range cross {
		if !c.NotAfter.Before(issuer.NotAfter) {
			chain = append(chain, c)
		}
	}
	return chain
}

// signedBy reports whether anchor signed cert, and cert is good at now.
func signedBy(cert, anchor *x509.Certificate, now time.Time) bool {
	return cert != nil && anchor != nil && !now.Before(cert.NotBefore) && now.Before(cert.NotAfter) && cert.IsCA && cert.CheckSignatureFrom(anchor) == nil
}

var errNotECDSA = errors.New("key is not an ECDSA key, with which alone issuers are signed here")

func encodeCerts(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return out.Bytes()
}

// decodeCerts reads all certificates of a text, maybe none.
func decodeCerts(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// decodeAuthority reads a certificate and the key that belongs to it.
func decodeAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := decodeCerts(certPEM)
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	for {
		var block *pem.Block
		if block, keyPEM = pem.Decode(keyPEM); block == nil {
			return nil, errors.New("no private key")
		}
		var key any
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			return nil, errNotECDSA
		default: // openssl writes the parameters of the curve into a block of their own
			continue
		}
		if err != nil {
			return nil, err
		}
		ec, ok := key.(*ecdsa.PrivateKey)
		if !ok {
			return nil, errNotECDSA
		}
		if !ec.PublicKey.Equal(certs[0].PublicKey) {
			return nil, errors.New("key does not belong to certificate")
		}
		return &Authority{Cert: certs[0], Key: ec}, nil
	}
}
