package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Proof is what a client proves of itself.
type Proof int

// The proofs.
const (
	// Unknown: the question does not say.
	Unknown Proof = iota
	// Plain: no mesh TLS.
	Plain
	// Anonymous: mesh TLS without an identity.
	Anonymous
	// Identified: mesh TLS with an identity.
	Identified
)

// Client is who would connect. The zero value is anybody.
type Client struct {
	Proof Proof
	// Identity is set if the client is Identified: a DNS name in lower case or a URI.
	Identity string
	// Address is where the client is; not valid if that is not known.
	Address netip.Addr
}

// ErrIdentity is the error of what cannot be an identity.
var ErrIdentity = errors.New("neither a DNS name nor a URI")

// NewClient returns a client with an identity as users write it.
func NewClient(identity string, address netip.Addr) (Client, error) {
	name, ok := normalIdentity(identity)
	if !ok {
		return Client{}, fmt.Errorf("identity %q is %w", identity, ErrIdentity)
	}
	return Client{Proof: Identified, Identity: name, Address: address}, nil
}

// String names the client as a reader knows it.
func (c Client) String() string {
	who := "a client"
	switch c.Proof {
	case Plain:
		who = "a client outside of the mesh"
	case Anonymous:
		who = "a meshed client without identity"
	case Identified:
		who = c.Identity
		if id, ok := names.ParseIdentity(c.Identity); ok {
			who = "ServiceAccount " + id.Namespace + "/" + id.ServiceAccount
		}
	}
	if c.Address.IsValid() {
		who += " at " + c.Address.String()
	}
	return who
}

// normalIdentity returns an identity in the spelling in which proxies compare it, or false if they cannot read it. Source:
// proxy chapter, section 6.1.
func normalIdentity(identity string) (string, bool) {
	if scheme, rest, uri := strings.Cut(identity, "://"); uri {
		return identity, scheme != "" && rest != "" && !strings.HasPrefix(rest, "/")
	}
	name := strings.ToLower(strings.TrimSuffix(identity, "."))
	if name == "" || len(name) > 253 {
		return "", false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}) {
			return "", false
		}
	}
	return name, true
}

// answer is whether something holds: no, maybe (the question leaves it open), or yes.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func (a answer) mark() Mark { return [...]Mark{No, Open, Yes}[a] }

// in says whether the client is in one of the networks, and how that is seen.
func (c Client) in(networks []core.Network) (answer, string) {
	texts := make([]string, len(networks))
	for i, n := range networks {
		texts[i] = n.CIDR.String()
		if len(n.Except) > 0 {
			except := make([]string, len(n.Except))
			for j, hole := range n.Except {
				except[j] = hole.String()
			}
			texts[i] += " except " + list(except)
		}
	}
	if everywhere(networks) {
		return yes, "from anywhere"
	}
	if !c.Address.IsValid() {
		return maybe, "only from " + list(texts)
	}
	address := c.Address.Unmap().WithZone("")
	for i, n := range networks {
		if n.Contains(address) {
			return yes, fmt.Sprintf("%s is in %s", address, texts[i])
		}
	}
	return no, fmt.Sprintf("%s is outside %s", address, list(texts))
}

// everywhere reports whether networks contain all addresses of both families.
func everywhere(networks []core.Network) bool {
	all := func(bits int) bool {
		return slices.ContainsFunc(networks, func(n core.Network) bool {
			return n.CIDR.Bits() == 0 && len(n.Except) == 0 && n.CIDR.Addr().BitLen() == bits
		})
	}
	return all(32) && all(128)
}

// is says whether the client proves what is asked for, and how that is seen.
func (c Client) is(asked core.Clients) (answer, string) {
	wanted := "an identity among " + list(asked.Identities)
	if slices.Contains(asked.Identities, "*") {
		wanted = "any mesh identity"
	}
	switch {
	case !asked.TLS:
		return yes, "no identity is asked for"
	case asked.Anonymous:
		switch c.Proof {
		case Unknown:
			return maybe, "clients must use mesh TLS"
		case Plain:
			return no, "the client is not TLS: it is outside of the mesh"
		default:
			return yes, "the client uses mesh TLS"
		}
	case c.Proof == Unknown:
		return maybe, "clients must have " + wanted
	case c.Proof == Plain:
		return no, "the client is not TLS: it is outside of the mesh, and must have " + wanted
	case c.Proof == Anonymous:
		return no, "the client has no identity, and must have " + wanted
	}
	for _, identity := range asked.Identities {
		if identity == "*" && c.matches(identity) {
			return yes, "any mesh identity will do, and the client's is " + c.Identity
		}
		if c.matches(identity) {
			return yes, fmt.Sprintf("identity %s is in [%s]", c.Identity, list(asked.Identities))
		}
	}
	return no, fmt.Sprintf("identity %s is not in [%s]", c.Identity, list(asked.Identities))
}

// matches reports whether the client's identity is one that a user has written. Source: proxy chapter, section 9.3.
func (c Client) matches(written string) bool {
	name, labels, isSuffix := core.SplitIdentity(written)
	if !isSuffix {
		normal, ok := normalIdentity(name)
		return ok && normal == c.Identity
	}
	if len(labels) == 0 {
		return true
	}
	domain := c.Identity
	if rest, isSPIFFE := strings.CutPrefix(domain, "spiffe://"); isSPIFFE {
		// Its trust domain has labels.
		domain, _, _ = strings.Cut(rest, "/")
	} else if strings.Contains(domain, "://") {
		return false // other URIs have none
	}
	head, ok := strings.CutSuffix(domain, "."+strings.ToLower(strings.Join(labels, ".")))
	return ok && head != ""
}

// loopback reports whether the client is on the pod's own loopback, whom proxies always let in. Source: proxy chapter, section
// 9.3.
func (c Client) loopback() bool {
	address := c.Address.Unmap()
	return address == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || address == netip.IPv6Loopback()
}
