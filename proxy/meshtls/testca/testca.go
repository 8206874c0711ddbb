// Package testca makes certificates for tests: an authority, leaves of any
// identity, and credential stores filled with them. Not for production use.
package testca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// CA is a certificate authority: a trust anchor and an issuer below it.
type CA struct {
	// PEM is the trust anchor.
	PEM []byte
	// NotBefore and NotAfter are the validity of what is issued; set to a
	// day around the present by New.
	NotBefore, NotAfter time.Time

	root, issuer       *x509.Certificate
	rootKey, issuerKey crypto.Signer
	serial             atomic.Int64
}

// New makes an authority.
func New(t testing.TB) *CA {
	t.Helper()
	return NewWith(t, NewKey(t), NewKey(t))
}

// NewWith is New with given keys, of any kind, for trust anchor and issuer.
func NewWith(t testing.TB, root, issuer crypto.Signer) *CA {
	t.Helper()
	c := &CA{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	from, to := c.NotBefore.AddDate(-10, 0, 0), c.NotAfter.AddDate(30, 0, 0)
	c.rootKey, c.issuerKey = root, issuer
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root.linkerd.cluster.local"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	c.root = sign(t, tmpl, tmpl, c.rootKey.Public(), c.rootKey)
	c.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.root.Raw})
	tmpl = &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "identity.linkerd.cluster.local"}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	c.issuer = sign(t, tmpl, c.root, c.issuerKey.Public(), c.rootKey)
	return c
}

// NewKey makes a P-256 key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Issue issues a leaf with the given names, DNS-like or URIs, for pub, and
// returns the chain in DER, leaf first.
func (c *CA) Issue(t testing.TB, pub crypto.PublicKey, names ...string) [][]byte {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(100 + c.serial.Add(1)),
		NotBefore:    c.NotBefore, NotAfter: c.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if !strings.Contains(n, "://") {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
			continue
		}
		u, err := url.Parse(n)
		if err != nil {
			t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, u)
	}
	leaf := sign(t, tmpl, c.issuer, pub, c.issuerKey)
	return [][]byte{leaf.Raw, c.issuer.Raw}
}

// Store returns a credential store for id that trusts this authority, with a
// certificate.
func (c *CA) Store(t testing.TB, id string) *meshtls.Store {
	t.Helper()
	s := c.EmptyStore(t, id)
	key := NewKey(t)
	if err := s.SetCertificate(c.Issue(t, key.Public(), id), key); err != nil {
		t.Fatal(err)
	}
	return s
}

// EmptyStore is Store before the first certificate.
func (c *CA) EmptyStore(t testing.TB, id string) *meshtls.Store {
	t.Helper()
	parsed, err := model.ParseIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	name := parsed.String()
	if parsed.IsURI() {
		name = "server.test"
	}
	s, err := meshtls.New(meshtls.Config{ID: parsed, ServerName: name, Anchors: c.PEM})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
