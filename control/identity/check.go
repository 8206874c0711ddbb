package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Domain is the part of identities that a control plane decides: two control planes with different domains never give two
// workloads the same name.
type Domain struct {
	// ControllerNamespace is the namespace of the control plane.
	ControllerNamespace string
	// TrustDomain is the DNS name below which all identities of the mesh are.
	TrustDomain string
}

// Validate checks that the domain can be part of DNS names.
func (d Domain) Validate() error {
	if errs := validation.IsDNS1123Label(d.ControllerNamespace); len(errs) > 0 {
		return fmt.Errorf("controller namespace %q: %s", d.ControllerNamespace, errs[0])
	}
	if errs := validation.IsDNS1123Subdomain(d.TrustDomain); len(errs) > 0 {
		return fmt.Errorf("trust domain %q: %s", d.TrustDomain, errs[0])
	}
	return nil
}

// Identity returns the identity of the holder of a token, from the username that Kubernetes knows it by:
// `system:<type>:<namespace>:<name>`. Source: proxy API chapter, section 7.2, rows 14 and 15.
func (d Domain) Identity(username string) (string, error) {
	parts := strings.Split(username, ":")
	if len(parts) != 4 || parts[0] != "system" {
		return "", status.Errorf(codes.InvalidArgument, "Username must be in form system:TYPE:NS:SA: %s", username)
	}
	for _, part := range parts[1:] {
		if len(validation.IsDNS1123Label(part)) > 0 {
			return "", status.Errorf(codes.InvalidArgument, "Not a label: %s", part)
		}
	}
	return fmt.Sprintf("%s.%s.%s.identity.%s.%s", parts[3], parts[2], parts[1], d.ControllerNamespace, d.TrustDomain), nil
}

// accountOf splits a username that Domain.Identity accepted.
func accountOf(username string) (namespace, account string) {
	parts := strings.Split(username, ":")
	return parts[2], parts[3]
}

// parseRequest reads a CSR in DER and checks that its sender has the key. The API chapter's server does not check that;
// the control plane chapter, section 18.4, names it as a gap.
func parseRequest(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	// Other kinds of key are refused later, with an error of their own; not all of them can be checked.
	if err := csr.CheckSignature(); err != nil && !errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return nil, status.Errorf(codes.InvalidArgument, "CSR is not signed with its own key: %v", err)
	}
	return csr, nil
}

// checkRequest checks that a CSR asks for nothing but the given identity. Source: proxy API chapter, section 7.2, rows 7
// to 10.
func checkRequest(csr *x509.CertificateRequest, identity string) error {
	refuse := func(format string, args ...any) error {
		return status.Errorf(codes.FailedPrecondition, format, args...)
	}
	switch {
	case len(csr.DNSNames) != 1:
		return refuse("CSR must have exactly one DNSName")
	case csr.DNSNames[0] != identity:
		return refuse("CSR name does not match requested identity: csr=%s; req=%s", csr.DNSNames[0], identity)
	case csr.Subject.CommonName != "" && csr.Subject.CommonName != identity:
		return refuse("invalid CommonName: %s", csr.Subject.CommonName)
	case len(csr.EmailAddresses) > 0:
		return refuse("cannot validate email addresses")
	case len(csr.IPAddresses) > 0:
		return refuse("cannot validate IP addresses")
	case len(csr.URIs) > 0:
		return refuse("cannot validate URIs")
	}
	return nil
}
