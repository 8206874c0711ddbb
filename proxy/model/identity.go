package model

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Identity is the name a workload proves by its certificate: a DNS-like name
// (foo.ns.serviceaccount.identity.linkerd.cluster.local) or a URI
// (spiffe://…). The zero value is "none". It is comparable; equality of
// identities is equality of strings (proxy chapter, section 6.1).
type Identity struct {
	name string
	uri  bool
}

// ErrBadIdentity is wrapped by the errors of the parsers in this file.
var ErrBadIdentity = errors.New("not a valid identity")

// ParseIdentity takes anything with "://" in it for a URI, everything else for
// a DNS-like name.
func ParseIdentity(s string) (Identity, error) {
	if strings.Contains(s, "://") {
		return ParseURIIdentity(s)
	}
	return ParseDNSIdentity(s)
}

// ParseDNSIdentity accepts a DNS name; case and a trailing dot do not matter.
func ParseDNSIdentity(s string) (Identity, error) {
	n, err := ParseDNSName(s)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadIdentity, err)
	}
	return Identity{name: n}, nil
}

// ParseURIIdentity accepts an absolute URI with an authority; it is kept as it
// is spelled.
func ParseURIIdentity(s string) (Identity, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrBadIdentity, err)
	}
	if u.Scheme == "" || u.Host == "" {
		return Identity{}, fmt.Errorf("%w: %q has no scheme or no authority", ErrBadIdentity, s)
	}
	return Identity{name: s, uri: true}, nil
}

// MustIdentity is ParseIdentity for constants and tests; it panics on error.
func MustIdentity(s string) Identity {
	id, err := ParseIdentity(s)
	if err != nil {
		panic(err)
	}
	return id
}

// IsZero reports whether there is no identity.
func (i Identity) IsZero() bool { return i.name == "" }

// IsURI reports whether the identity is a URI rather than a DNS-like name.
func (i Identity) IsURI() bool { return i.uri }

// String is the identity's text, empty for none.
func (i Identity) String() string { return i.name }

// TLSIdentity is what a client must know to make a mesh TLS connection: who
// the server has to be, and the server name to send. The zero value means that
// the endpoint is not meshed.
type TLSIdentity struct {
	// ID has to be among the names of the server's certificate.
	ID Identity
	// ServerName is the SNI, never matched against the certificate.
	ServerName string
}

// IsZero reports whether the endpoint has no identity.
func (t TLSIdentity) IsZero() bool { return t.ID.IsZero() }

// DNSTLS is the TLS identity of a server whose DNS-like identity is also the
// server name, as everything inside the cluster is.
func DNSTLS(id Identity) TLSIdentity { return TLSIdentity{ID: id, ServerName: id.String()} }

// ParseDNSName checks that s is a DNS name and returns it in lower case without
// the trailing dot. Labels have 1 to 63 letters, digits, "-" or "_" and neither
// start nor end with "-"; a name of digits only, as in an IP address, is not one.
func ParseDNSName(s string) (string, error) {
	n := strings.ToLower(strings.TrimSuffix(s, "."))
	if n == "" || len(n) > 253 {
		return "", fmt.Errorf("%q is not a DNS name: bad length", s)
	}
	if _, err := netip.ParseAddr(n); err == nil {
		return "", fmt.Errorf("%q is an IP address, not a DNS name", s)
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("%q is not a DNS name: bad label length", s)
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%q is not a DNS name: label starts or ends with a dash", s)
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return "", fmt.Errorf("%q is not a DNS name: bad character", s)
			}
		}
	}
	return n, nil
}
