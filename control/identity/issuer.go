package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Lifetimes say for how long leaf certificates are good.
type Lifetimes struct {
	// Issuance is the lifetime, from now.
	Issuance time.Duration
	// ClockSkew is added at both ends, so that a peer whose clock is a little off accepts the certificate.
	ClockSkew time.Duration
}

// Issuer is what signs leaf certificates: a CA certificate with its key and the certificates that lead from it to a trust
// anchor. It is immutable; any goroutine may use it.
type Issuer struct {
	cert   *x509.Certificate
	chain  []*x509.Certificate // above cert, in the order of the file; the anchor is usually not in it
	key    *ecdsa.PrivateKey
	roots  *x509.CertPool // what the chain must lead to
	pems   pems           // what it was read from, to see whether that changed
	bundle []byte         // the trust anchors as they were read, PEM
	end    time.Time      // when the last of the trust anchors expires
	beside bool           // its own anchors are not in the file, and were added
}

// pems is the content of the three files.
type pems struct{ cert, key, roots string }

// NewIssuer reads an issuer from the content of its three files and checks it: the key belongs to the certificate, the
// certificate is a CA, and it leads to one of the trust anchors now.
//
// The key may be in SEC1 or PKCS#8 form and must be ECDSA, because leaves are signed with ECDSA and SHA-256 only. Source:
// control plane chapter, section 11.2; of section 18.4, the refusal of RSA keys at load.
func NewIssuer(certPEM, keyPEM, rootsPEM []byte, now time.Time) (*Issuer, error) {
	anchors, err := parseCertificates(rootsPEM)
	if err != nil {
		return nil, fmt.Errorf("reading trust anchors: %w", err)
	}
	roots := x509.NewCertPool()
	var end time.Time
	for _, anchor := range anchors {
		roots.AddCert(anchor)
		if anchor.NotAfter.After(end) {
			end = anchor.NotAfter
		}
	}
	certs, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading issuer certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading issuer key: %w", err)
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("issuer key does not belong to issuer certificate")
	}
	issuer := &Issuer{
		cert: certs[0], chain: certs[1:], key: key, roots: roots, bundle: rootsPEM, end: end,
		pems: pems{string(certPEM), string(keyPEM), string(rootsPEM)},
	}
	if err := issuer.Verify(now); err != nil {
		return nil, fmt.Errorf("verifying issuer certificate: %w", err)
	}
	if !issuer.cert.IsCA {
		return nil, errors.New("issuer certificate is not a CA certificate")
	}
	return issuer, nil
}

// Verify checks that the issuer leads to a trust anchor at the given time. Its name does not matter.
func (i *Issuer) Verify(now time.Time) error {
	_, err := i.paths(now)
	return err
}

// paths returns the ways that lead from the issuer to a trust anchor; each ends with that.
func (i *Issuer) paths(now time.Time) ([][]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, cert := range i.chain {
		intermediates.AddCert(cert)
	}
	return i.cert.Verify(x509.VerifyOptions{
		Roots:         i.roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
}

// anchors returns the trust anchors that the issuer leads to.
func (i *Issuer) anchors(now time.Time) []*x509.Certificate {
	paths, err := i.paths(now)
	if err != nil {
		return nil
	}
	var out []*x509.Certificate
	for _, path := range paths {
		if anchor := path[len(path)-1]; !slices.ContainsFunc(out, anchor.Equal) {
			out = append(out, anchor)
		}
	}
	return out
}

// withAnchors adds to a bundle those anchors that it does not have. A bundle that has all of them stays the same to the byte.
func withAnchors(bundle []byte, anchors []*x509.Certificate) []byte {
	if len(anchors) == 0 {
		return bundle
	}
	has, err := parseCertificates(bundle)
	if err != nil {
		return bundle
	}
	out := bundle
	for _, anchor := range anchors {
		if slices.ContainsFunc(has, anchor.Equal) {
			continue
		}
		out = append(append(slices.Clip(out), '\n'), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: anchor.Raw})...)
	}
	return out
}

// NotAfter is when the first certificate from the issuer upwards expires. No leaf may outlive it.
func (i *Issuer) NotAfter() time.Time {
	end := i.cert.NotAfter
	for _, cert := range i.chain {
		if cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	return end
}

// errNotECDSA is what a CSR with another kind of key is refused with.
var errNotECDSA = errors.New("CSR must contain an ECDSA public key")

// Sign issues a certificate for the common name, key and DNS names of csr, which the caller has checked; what else a subject may
// hold nobody checks, and it is left out. It returns the certificate and the DER of the certificates above it, the issuer's first. Source: proxy API chapter, section 7.3.
//
// Serial numbers are random: a counter would repeat after each restart and across replicas.
func (i *Issuer) Sign(csr *x509.CertificateRequest, lifetimes Lifetimes, now time.Time) (*x509.Certificate, [][]byte, error) {
	if _, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok {
		return nil, nil, errNotECDSA
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	notAfter := now.Add(lifetimes.Issuance).Add(lifetimes.ClockSkew)
	if end := i.NotAfter(); end.Before(notAfter) {
		notAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)), // zero is not allowed
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
		Subject:               pkix.Name{CommonName: csr.Subject.CommonName},
		DNSNames:              csr.DNSNames,
		NotBefore:             now.Add(-lifetimes.ClockSkew),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, i.cert, csr.PublicKey, i.key)
	if err != nil {
		return nil, nil, fmt.Errorf("signing certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("reading signed certificate: %w", err)
	}
	above := [][]byte{i.cert.Raw}
	for _, cert := range i.chain {
		above = append(above, cert.Raw)
	}
	return leaf, above, nil
}

// parseCertificates reads at least one certificate.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block of type CERTIFICATE")
	}
	return certs, nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			return nil, errors.New("no PEM block with a private key")
		}
		var key crypto.PrivateKey
		var err error
		switch block.Type {
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default: // openssl writes the parameters of the curve into a block of their own
			continue
		}
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*ecdsa.PrivateKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("key of type %T: leaf certificates are signed with ECDSA, so the issuer's key must be an ECDSA key", key)
	}
}
