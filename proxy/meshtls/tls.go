package meshtls

import (
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// curves are the key exchanges; crypto/tls prefers the hybrid one. A FIPS build has those that no auditor asks about; which
// ciphers it has is crypto/tls's own choice. Source: proxy chapter, section 6.1.
var curves = keyExchanges(fips140.Enabled())

func keyExchanges(fips bool) []tls.CurveID {
	if fips {
		return []tls.CurveID{tls.CurveP256, tls.CurveP384}
	}
	return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}
}

// base is what both roles have in common. Sessions are never resumed: a
// resumed one would skip the verification by the current anchors, and tickets
// cost memory for every connection.
func (s *Store) base() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       curves,
		SessionTicketsDisabled: true,
		Time:                   s.now,
		// A certificate compressed or padded by the library would only cost;
		// dynamic record sizes cost system calls, and peers are near.
		DynamicRecordSizingDisabled: true,
	}
}

// ServerConfig is for connections whose SNI is ServerName. Clients may have a
// certificate; if they have one it has to lead to the anchors. Handshakes fail
// with ErrNoCertificate before there are credentials.
func (s *Store) ServerConfig() *tls.Config { return s.server }

// DirectConfig is ServerConfig for connections to the inbound port itself: it
// agrees on the transport header protocol and on no other.
func (s *Store) DirectConfig() *tls.Config { return s.direct }

func (s *Store) serverConfig(protocols ...string) *tls.Config {
	c := s.base()
	c.NextProtos = protocols
	c.ClientAuth = tls.RequestClientCert
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		l := s.leaf.Get()
		if l == nil {
			return nil, ErrNoCertificate
		}
		return l.Certificate, nil
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		if err := s.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth); err != nil {
			return fmt.Errorf("verify client certificate: %w", err)
		}
		return nil
	}
	return c
}

// ClientConfig is for connections to the server that id tells of. The server's
// certificate has to lead to the anchors and to name id.ID; the server name is
// only sent. transport offers the transport header protocol. Before there are
// credentials no client certificate is presented.
//
// A config serves all connections to the same id; callers keep it.
func (s *Store) ClientConfig(id model.TLSIdentity, transport bool) *tls.Config {
	c := s.base()
	c.ServerName = id.ServerName
	if transport {
		c.NextProtos = []string{ALPNTransport}
	}
	// The library would compare the certificate with the server name, which
	// is not who the peer has to be. VerifyConnection does it all.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := s.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth); err != nil {
			return fmt.Errorf("verify server certificate: %w", err)
		}
		if !hasIdentity(cs.PeerCertificates[0], id.ID) {
			return ErrIdentityMismatch
		}
		return nil
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if l := s.leaf.Get(); l != nil {
			return l.Certificate, nil
		}
		return &tls.Certificate{}, nil
	}
	return c
}

// hasIdentity reports whether the certificate names id among its alternative
// names.
func hasIdentity(c *x509.Certificate, id model.Identity) bool {
	if id.IsURI() {
		for _, u := range c.URIs {
			if u.String() == id.String() {
				return true
			}
		}
		return false
	}
	for _, n := range c.DNSNames {
		if got, err := model.ParseDNSIdentity(n); err == nil && got == id {
			return true
		}
	}
	return false
}

// PeerIdentities is who a verified peer is: the first name in its certificate
// that is a DNS name or a URI, and those after it in the order of the
// certificate. The first is zero if the peer has no certificate.
func PeerIdentities(cs *tls.ConnectionState) (first model.Identity, others []model.Identity) {
	if len(cs.PeerCertificates) == 0 {
		return model.Identity{}, nil
	}
	c := cs.PeerCertificates[0]
	add := func(id model.Identity, err error) {
		switch {
		case err != nil:
		case first.IsZero():
			first = id
		default:
			others = append(others, id)
		}
	}
	if len(c.URIs) > 0 && len(c.DNSNames) > 0 {
		inOrder(c, add)
		return first, others
	}
	for _, n := range c.DNSNames {
		add(model.ParseDNSIdentity(n))
	}
	for _, u := range c.URIs {
		add(model.ParseURIIdentity(u.String()))
	}
	return first, others
}

// Tags of GeneralName (RFC 5280, section 4.2.1.6).
const (
	tagDNS = 2
	tagURI = 6
)

// inOrder looks into the extension itself: the parsed certificate has DNS names
// and URIs in separate lists and has lost which came first.
func inOrder(c *x509.Certificate, add func(model.Identity, error)) {
	oidSAN := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidSAN) {
			continue
		}
		var seq asn1.RawValue
		if _, err := asn1.Unmarshal(e.Value, &seq); err != nil {
			return
		}
		for rest := seq.Bytes; len(rest) > 0; {
			var name asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &name); err != nil {
				return
			}
			switch name.Tag {
			case tagDNS:
				add(model.ParseDNSIdentity(string(name.Bytes)))
			case tagURI:
				add(model.ParseURIIdentity(string(name.Bytes)))
			}
		}
	}
}
