package meshtls

import (
	"crypto/x509"
	"strings"
)

// Federate replaces the authorities of other trust domains, by the domain's name.
// Each is believed about SPIFFE IDs of its own domain, and about nothing else: not
// about DNS names, of which the mesh's own identities are. Nil believes nobody.
// Peers are verified against the new ones from their next handshake on. The
// certificates must not be changed after.
func (s *Store) Federate(domains map[string][]*x509.Certificate) {
	own, _ := trustDomain(s.id.String())
	pools := make(map[string]*x509.CertPool, len(domains))
	old := s.federated.Load()
	for name, certs := range domains {
		if name == own || len(certs) == 0 {
			continue
		}
		pool := x509.NewCertPool()
		for _, c := range certs {
			pool.AddCert(c)
		}
		// What was verified by the same authorities stays verified.
		if old != nil && (*old)[name] != nil && (*old)[name].Equal(pool) {
			pool = (*old)[name]
		}
		pools[name] = pool
	}
	s.federated.Store(&pools)
}

// trustDomain is that of a SPIFFE ID.
func trustDomain(id string) (string, bool) {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	name, _, _ := strings.Cut(rest, "/")
	return name, ok && name != ""
}

// foreign gives the authorities that are believed about a peer of another trust
// domain, nil if it is none. Such a peer has one name, which is its SPIFFE ID
// (X.509-SVID, section 2).
func (s *Store) foreign(leaf *x509.Certificate) *x509.CertPool {
	domains := s.federated.Load()
	if domains == nil || len(*domains) == 0 || len(leaf.URIs) != 1 || len(leaf.DNSNames) > 0 {
		return nil
	}
	// The same text that is the peer's identity in the end.
	name, ok := trustDomain(leaf.URIs[0].String())
	if !ok {
		return nil
	}
	return (*domains)[name]
}
