package resource

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// dnsIdentity is an identity in the form of a DNS name, or a suffix of such. Source: control plane chapter, the patterns at
// its beginning.
var dnsIdentity = regexp.MustCompile(`^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

var (
	spiffeDomain  = regexp.MustCompile(`^[a-z0-9._-]+$`)
	spiffeSegment = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)
)

// checkIdentity checks an identity as users write it. A proxy that is sent one that it cannot read does without the whole
// policy of its port.
func checkIdentity(text string) error {
	path, isSPIFFE := strings.CutPrefix(text, "spiffe://")
	if !isSPIFFE {
		if !dnsIdentity.MatchString(text) {
			return fmt.Errorf("%q is neither a DNS-like identity nor a SPIFFE ID", text)
		}
		return nil
	}
	segments := strings.Split(path, "/")
	if !spiffeDomain.MatchString(segments[0]) {
		return fmt.Errorf("%q is not a SPIFFE ID: its trust domain must consist of a-z, 0-9, '-', '.' and '_'", text)
	}
	for _, segment := range segments[1:] {
		if !spiffeSegment.MatchString(segment) || segment == "." || segment == ".." {
			return fmt.Errorf("%q is not a SPIFFE ID: %q is no segment of its path", text, segment)
		}
	}
	return nil
}

// account returns the identity of a service account that is referred to from a namespace.
func (r Reader) account(field, from, namespace, name string) (string, error) {
	if name == "" {
		return "", at(field+".name", errors.New("must be set"))
	}
	if namespace == "" {
		namespace = from
	}
	identity := r.Config.ServiceAccountIdentity(core.ID{Namespace: namespace, Name: name})
	if err := checkIdentity(identity); err != nil {
		return "", fmt.Errorf("%s: %s/%s is not the name of a service account", field, namespace, name)
	}
	return identity, nil
}
