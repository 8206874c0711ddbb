package meshtls

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"
)

// maxVerified limits how many chains are remembered; a mesh's proxy talks to
// fewer peers than this, and forgetting only costs time.
const maxVerified = 1024

// verifier checks chains against the trust anchors and remembers the good ones:
// peers present the same chain on each connection for a day, and checking its
// signatures is a quarter of a handshake's work. What is remembered is only
// good with the same anchors and within the validity of the whole chain. The
// peer's proof that it has the leaf's key is not part of it and is checked by
// crypto/tls on each handshake.
type verifier struct {
	mu sync.Mutex
	// good is guarded by mu.
	good map[[sha256.Size]byte]verified
}

// verified is a chain that was found good.
type verified struct {
	anchors     *x509.CertPool
	from, until time.Time
}

// verify checks that a chain, leaf first, leads to the anchors, is valid at now,
// and is for the usage.
func (v *verifier) verify(chain []*x509.Certificate, anchors *x509.CertPool, now time.Time, usage x509.ExtKeyUsage) error {
	h := sha256.New()
	h.Write([]byte{byte(usage)})
	for _, c := range chain {
		h.Write(c.Raw)
	}
	var key [sha256.Size]byte
	h.Sum(key[:0])
	v.mu.Lock()
	known, ok := v.good[key]
	v.mu.Unlock()
	if ok && known.anchors == anchors && !now.Before(known.from) && !now.After(known.until) {
		return nil
	}

	opts := x509.VerifyOptions{Roots: anchors, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}}
	if len(chain) > 1 {
		opts.Intermediates = x509.NewCertPool()
		for _, c := range chain[1:] {
			opts.Intermediates.AddCert(c)
		}
	}
	paths, err := chain[0].Verify(opts)
	if err != nil {
		return err
	}
	good := verified{anchors: anchors, from: chain[0].NotBefore, until: chain[0].NotAfter}
	for _, c := range paths[0] {
		if c.NotBefore.After(good.from) {
			good.from = c.NotBefore
		}
		if c.NotAfter.Before(good.until) {
			good.until = c.NotAfter
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.good == nil || len(v.good) >= maxVerified {
		v.good = make(map[[sha256.Size]byte]verified)
	}
	v.good[key] = good
	return nil
}
