package meshtls

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// ALPNTransport is the protocol by which proxies agree on a transport header
// (proxy API chapter, section 10).
const ALPNTransport = "transport.l5d.io/v1"

// Reasons why credentials or peers are refused.
var (
	// ErrNoAnchors: there is no certificate in the trust anchors.
	ErrNoAnchors = errors.New("no trust anchor could be parsed")
	// ErrIdentityMismatch: the server proved to be somebody else.
	ErrIdentityMismatch = errors.New("certificate does not match TLS identity")
	// ErrCutOff: under other anchors the own certificate would not be good.
	ErrCutOff = errors.New("own certificate does not lead to these trust anchors")
	// ErrNoCertificate: there are no credentials yet to answer with.
	ErrNoCertificate = errors.New("no certificate yet")
)

// Config is what a Store starts with.
type Config struct {
	// ID is the identity that the own certificates must have.
	ID model.Identity
	// ServerName is the SNI under which other proxies ask for this one.
	ServerName string
	// Anchors is the bundle of trust anchors in PEM.
	Anchors []byte
	// Now replaces time.Now.
	Now func() time.Time
	// Log gets warnings about anchors that are skipped; nil is slog's default.
	Log *slog.Logger
}

// Leaf is a set of credentials, immutable.
type Leaf struct {
	// Certificate is the chain with its key, as crypto/tls wants it.
	Certificate *tls.Certificate
	// NotBefore and NotAfter limit the leaf's validity.
	NotBefore, NotAfter time.Time
}

// Store keeps the credentials. Use New to make one.
type Store struct {
	id   model.Identity
	name string
	now  func() time.Time
	log  *slog.Logger

	anchors atomic.Pointer[x509.CertPool]
	// federated are the authorities of other trust domains; see Federate.
	federated atomic.Pointer[map[string]*x509.CertPool]
	leaf      *watch.Value[*Leaf]
	// verifier has a lock of its own.
	verifier verifier
	// set serialises setting, so that what is verified is what is published.
	set sync.Mutex

	server, direct *tls.Config
}

// New makes a store without a certificate. It fails if no anchor can be parsed.
func New(cfg Config) (*Store, error) {
	s := &Store{id: cfg.ID, name: cfg.ServerName, now: cfg.Now, log: cfg.Log, leaf: watch.New[*Leaf](nil)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if err := s.SetAnchors(cfg.Anchors); err != nil {
		return nil, err
	}
	s.server = s.serverConfig()
	s.direct = s.serverConfig(ALPNTransport)
	return s, nil
}

// ID is the own identity.
func (s *Store) ID() model.Identity { return s.id }

// ServerName is the SNI that means this proxy.
func (s *Store) ServerName() string { return s.name }

// Leaf is the current credentials as a watched value, nil before the first.
func (s *Store) Leaf() watch.Reader[*Leaf] { return s.leaf }

// Certified reports whether there are credentials.
func (s *Store) Certified() bool { return s.leaf.Get() != nil }

// Valid reports whether there are credentials that have not expired: with
// others every peer refuses to speak to this proxy.
func (s *Store) Valid() bool {
	l := s.leaf.Get()
	return l != nil && s.now().Before(l.NotAfter)
}

// SetAnchors replaces the trust anchors by those of a PEM bundle. Certificates
// in it that cannot be parsed are skipped with a warning; if none is left the
// old anchors stay and ErrNoAnchors is returned. Peers are verified against the
// new ones from their next handshake on.
func (s *Store) SetAnchors(bundle []byte) error {
	s.set.Lock()
	defer s.set.Unlock()
	pool, err := s.pool(bundle)
	if err != nil {
		return err
	}
	s.anchors.Store(pool)
	return nil
}

// Trust is SetAnchors for anchors that come while the proxy runs: it refuses,
// with ErrCutOff, those under which the own certificate is not good. Who gets
// that asks for another certificate and gives both to Renew.
func (s *Store) Trust(bundle []byte) error {
	s.set.Lock()
	defer s.set.Unlock()
	pool, err := s.pool(bundle)
	if err != nil {
		return err
	}
	if l := s.leaf.Get(); l != nil && s.now().Before(l.NotAfter) {
		chain, err := parse(l.Certificate.Certificate)
		if err == nil {
			err = s.verifyOwn(chain, pool)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCutOff, err)
		}
	}
	s.anchors.Store(pool)
	return nil
}

// pool reads a bundle.
func (s *Store) pool(bundle []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	n := 0
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			s.log.Warn("Skipping invalid trust anchor", "error", err)
			continue
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, ErrNoAnchors
	}
	return pool, nil
}

// SetCertificate publishes new credentials: a chain in DER, leaf first, and its
// key. The chain has to lead to the trust anchors and the leaf has to have the
// own identity; else the old credentials stay.
func (s *Store) SetCertificate(chain [][]byte, key crypto.Signer) error {
	return s.renew(s.anchors.Load, chain, key)
}

// Renew is SetCertificate together with new anchors: either both are taken, if
// the chain leads to them, or none.
func (s *Store) Renew(bundle []byte, chain [][]byte, key crypto.Signer) error {
	pool, err := s.pool(bundle)
	if err != nil {
		return err
	}
	return s.renew(func() *x509.CertPool { return pool }, chain, key)
}

func parse(chain [][]byte) ([]*x509.Certificate, error) {
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d of chain: %w", i, err)
		}
		certs[i] = c
	}
	return certs, nil
}

// verifyOwn checks that an own chain leads to anchors, for both roles.
func (s *Store) verifyOwn(chain []*x509.Certificate, anchors *x509.CertPool) error {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := s.verifier.verify(chain, anchors, s.now(), usage); err != nil {
			return fmt.Errorf("verify own certificate: %w", err)
		}
	}
	return nil
}

// renew verifies credentials by anchors and publishes both.
func (s *Store) renew(by func() *x509.CertPool, chain [][]byte, key crypto.Signer) error {
	s.set.Lock()
	defer s.set.Unlock()
	if len(chain) == 0 {
		return errors.New("certificate chain is empty")
	}
	certs, err := parse(chain)
	if err != nil {
		return err
	}
	anchors := by()
	if err := s.verifyOwn(certs, anchors); err != nil {
		return err
	}
	if !hasIdentity(certs[0], s.id) {
		return fmt.Errorf("%w: own certificate is not for %s", ErrIdentityMismatch, s.id)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(certs[0].PublicKey) {
		return errors.New("own certificate is not for the own key")
	}
	// Anchors first: peers are shown what they were verified by.
	s.anchors.Store(anchors)
	s.leaf.Set(&Leaf{
		Certificate: &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: certs[0]},
		NotBefore:   certs[0].NotBefore,
		NotAfter:    certs[0].NotAfter,
	})
	return nil
}

// verify checks that a chain, leaf first, leads to the anchors, or for a peer of
// another trust domain to that domain's, and is valid now.
func (s *Store) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	err := s.verifier.verify(chain, s.anchors.Load(), s.now(), usage)
	if err == nil {
		return nil
	}
	if pool := s.foreign(chain[0]); pool != nil {
		return s.verifier.verify(chain, pool, s.now(), usage)
	}
	return err
}

// Verify checks a peer's chain, leaf first, as a handshake with a client does.
func (s *Store) Verify(chain []*x509.Certificate) error {
	return s.verify(chain, x509.ExtKeyUsageClientAuth)
}
