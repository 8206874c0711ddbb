// Package authz decides whether a client may connect to a port or send a
// request (proxy chapter, section 9.3). It is pure: policy and client in,
// permit or refusal with a reason out.
package authz

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Client is who connects.
type Client struct {
	// Addr is the client's IP address, IPv4-mapped or not.
	Addr netip.Addr
	// TLS says that the connection is mesh TLS that this proxy terminated.
	TLS bool
	// ID is the first name of the client's certificate, zero without one, and
	// Others are those after it, if it has several: the authority that signed it
	// says that the client is all of them.
	ID     model.Identity
	Others []model.Identity
}

// Reason says why a client is refused; the most promising entry of the list
// tells it.
type Reason uint8

// The reasons, from the least to the most promising.
const (
	// Permitted is not a refusal.
	Permitted Reason = iota
	// NoAuthorization: the policy permits nobody.
	NoAuthorization
	// NetworkNotPermitted: no entry is for the client's address.
	NetworkNotPermitted
	// NotMeshed: the client would have to use mesh TLS.
	NotMeshed
	// NotIdentified: the client would have to have an identity.
	NotIdentified
	// IdentityNotPermitted: no entry is for the client's identity.
	IdentityNotPermitted
)

// String is for logs.
func (r Reason) String() string {
	switch r {
	case Permitted:
		return "permitted"
	case NoAuthorization:
		return "no authorization"
	case NetworkNotPermitted:
		return "client network is not permitted"
	case NotMeshed:
		return "client is not meshed"
	case NotIdentified:
		return "client has no identity"
	}
	return "client identity is not permitted"
}

// Authorize returns the first entry that permits the client, looking through
// the lists in order: for a request its route's then its server's, for a
// connection only the server's. by is nil if none does, and reason says why.
func Authorize(c Client, lists ...[]model.Authorization) (by *model.Authorization, reason Reason) {
	reason = NoAuthorization
	for _, list := range lists {
		for i := range list {
			r := check(&list[i], c)
			if r == Permitted {
				return &list[i], Permitted
			}
			reason = max(reason, r)
		}
	}
	return nil, reason
}

func check(a *model.Authorization, c Client) Reason {
	in := false
	for i := range a.Networks {
		if a.Networks[i].Contains(c.Addr) {
			in = true
			break
		}
	}
	if !in {
		return NetworkNotPermitted
	}
	switch a.Authn.Kind {
	case model.AuthnNone:
		return Permitted
	case model.AuthnTLS:
		if !c.TLS {
			return NotMeshed
		}
		return Permitted
	case model.AuthnIdentity:
		switch {
		case !c.TLS:
			return NotMeshed
		case c.ID.IsZero():
			return NotIdentified
		case identified(&a.Authn, c.ID):
			return Permitted
		}
		for _, id := range c.Others {
			if identified(&a.Authn, id) {
				return Permitted
			}
		}
		return IdentityNotPermitted
	}
	// An authentication of no kind, which translation never makes.
	return NoAuthorization
}

func identified(a *model.Authentication, id model.Identity) bool {
	if slices.Contains(a.Identities, id) {
		return true
	}
	for _, s := range a.Suffixes {
		if s == "" {
			return true
		}
		head, ok := strings.CutSuffix(domain(id), s)
		if ok && len(head) > 1 && head[len(head)-1] == '.' {
			return true
		}
	}
	return false
}

// domain is the part of an identity that is a DNS name: all of a DNS-like one,
// the trust domain of a SPIFFE ID, nothing of another URI.
func domain(id model.Identity) string {
	if !id.IsURI() {
		return id.String()
	}
	rest, ok := strings.CutPrefix(id.String(), "spiffe://")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}
