package meshtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// TestVerifierForgets checks that what was found good once is not good with
// other anchors, at another time, or for another usage.
func TestVerifierForgets(t *testing.T) {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make1 := func(serial int64, ca bool, until time.Time, parent *x509.Certificate) *x509.Certificate {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "x"}, NotBefore: now.Add(-time.Hour), NotAfter: until,
			IsCA: ca, BasicConstraintsValid: true}
		if !ca {
			tmpl.Subject.CommonName = "leaf"
			tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		if parent == nil {
			parent = tmpl
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// The root ends before the leaf: the whole chain counts.
	root := make1(1, true, now.Add(time.Hour), nil)
	leaf := make1(2, false, now.Add(2*time.Hour), root)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	var v verifier
	chain := []*x509.Certificate{leaf}
	for i, c := range []struct {
		anchors *x509.CertPool
		at      time.Duration
		usage   x509.ExtKeyUsage
		ok      bool
	}{
		{pool, 0, x509.ExtKeyUsageClientAuth, true},
		{pool, 0, x509.ExtKeyUsageClientAuth, true},
		{pool, 90 * time.Minute, x509.ExtKeyUsageClientAuth, false},
		{pool, -2 * time.Hour, x509.ExtKeyUsageClientAuth, false},
		{pool, 0, x509.ExtKeyUsageServerAuth, false},
		{x509.NewCertPool(), 0, x509.ExtKeyUsageClientAuth, false},
		{pool, time.Minute, x509.ExtKeyUsageClientAuth, true},
	} {
		if err := v.verify(chain, c.anchors, now.Add(c.at), c.usage); (err == nil) != c.ok {
			t.Errorf("case %d: %v", i, err)
		}
	}
	if len(v.good) != 1 {
		t.Error(len(v.good), "chains remembered")
	}
}
