package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/logfilter"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

var (
	versionPattern  = regexp.MustCompile(`^[\.a-zA-Z0-9-]+$`)
	logLevels       = []string{"panic", "fatal", "error", "warn", "info", "debug", "trace"}
	inboundPolicies = []string{"all-authenticated", "all-unauthenticated", "cluster-authenticated", "cluster-unauthenticated", "deny", "audit"}
)

// Validate refuses values that would give a control plane that cannot work;
// the texts are those of the CLI chapter, section 2.6. What that section does
// not name the chart's schema refuses, in Render. kube may be nil when the
// cluster is to be ignored.
func Validate(ctx context.Context, kube kubernetes.Interface, namespace string, values map[string]any, now time.Time) error {
	get := func(p string) string { return valuetree.String(values, p) }
	if v := get("linkerdVersion"); !versionPattern.MatchString(v) {
		return fmt.Errorf("%s is not a valid version", v)
	}
	if v := get("proxy.image.version"); v != "" && !versionPattern.MatchString(v) {
		return fmt.Errorf("%s is not a valid version", v)
	}
	if !command.OneOf(get("controllerLogLevel"), logLevels...) {
		return fmt.Errorf("--controller-log-level must be one of: %s", strings.Join(logLevels, ", "))
	}
	if err := ValidateProxy(values); err != nil {
		return err
	}
	if kube != nil && valuetree.Bool(values, "enableEndpointSlices") {
		if err := endpointSliceAccess(ctx, kube); err != nil {
			return err
		}
	}
	trustDomain := get("identityTrustDomain")
	if trustDomain == "" {
		trustDomain = get("clusterDomain")
	}
	if errs := validation.IsDNS1123Subdomain(trustDomain); len(errs) > 0 {
		return fmt.Errorf("invalid trust domain '%s': %s", trustDomain, errs[0])
	}
	for _, network := range strings.Split(get("clusterNetworks"), ",") {
		if _, err := netip.ParsePrefix(strings.TrimSpace(network)); err != nil {
			return fmt.Errorf("cannot parse destination get networks: %w", err)
		}
	}
	for _, p := range []string{"imagePullPolicy", "proxy.image.pullPolicy", "debugContainer.image.pullPolicy"} {
		if v := get(p); v != "" && !command.OneOf(v, "Always", "IfNotPresent", "Never") {
			return errors.New("--image-pull-policy must be one of: Always, IfNotPresent, Never")
		}
	}
	for _, p := range []string{"proxyInit.ignoreInboundPorts", "proxyInit.ignoreOutboundPorts"} {
		if v := get(p); v != "" {
			if err := ValidateRanges(strings.Split(v, ",")); err != nil {
				return err
			}
		}
	}
	if v := get("proxy.defaultInboundPolicy"); !command.OneOf(v, inboundPolicies...) {
		return fmt.Errorf("--default-inbound-policy must be one of: %s (got %s)", strings.Join(inboundPolicies, ", "), v)
	}
	return validateIssuer(namespace, trustDomain, values, now)
}

// ValidateProxy refuses settings of proxies that pods could not be made with,
// or their proxies not started.
func ValidateProxy(values map[string]any) error {
	if err := validateProxyLogLevel(valuetree.String(values, "proxy.logLevel")); err != nil {
		return err
	}
	if err := validateResources(values); err != nil {
		return err
	}
	return validatePorts(values)
}

func validateProxyLogLevel(level string) error {
	if level == "" {
		return errors.New("--proxy-log-level must not be empty")
	}
	if _, err := logfilter.Parse(level); err != nil {
		return fmt.Errorf("%q is not a valid proxy log level - for allowed syntax check https://docs.rs/env_logger/latest/env_logger/#enabling-logging", level)
	}
	return nil
}

func validateResources(values map[string]any) error {
	for _, kind := range []string{"cpu", "memory"} {
		parsed := map[string]resource.Quantity{}
		for _, bound := range []string{"request", "limit"} {
			v := valuetree.String(values, "proxy.resources."+kind+"."+bound)
			if v == "" {
				continue
			}
			q, err := resource.ParseQuantity(v)
			if err != nil {
				return fmt.Errorf("Invalid %s %s '%s' for --proxy-%s-%s flag", kind, bound, v, kind, bound) //nolint:staticcheck // The text is what scripts know.
			}
			parsed[bound] = q
		}
		request, hasRequest := parsed["request"]
		limit, hasLimit := parsed["limit"]
		if hasRequest && hasLimit && limit.Cmp(request) < 0 {
			return fmt.Errorf("The %s limit '%s' cannot be lower than the %s request '%s'", kind, limit.String(), kind, request.String()) //nolint:staticcheck // Likewise.
		}
	}
	return nil
}

// validatePorts refuses ports on which a proxy cannot listen.
func validatePorts(values map[string]any) error {
	taken := map[uint64]string{}
	for _, name := range []string{"inbound", "outbound", "control", "admin"} {
		v := valuetree.String(values, "proxy.ports."+name)
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("value proxy.ports.%s (--%s-port): %q is not a port, 1 to 65535", name, name, v)
		}
		if other, ok := taken[n]; ok {
			return fmt.Errorf("value proxy.ports.%s (--%s-port): port %d is the %s port, too", name, name, n, other)
		}
		taken[n] = name
	}
	return nil
}

// ValidateRanges refuses what is not a port or a range of ports.
func ValidateRanges(ranges []string) error {
	for _, r := range ranges {
		lower, upper, isRange := strings.Cut(r, "-")
		if !isRange {
			if _, err := port(r); err != nil {
				return fmt.Errorf("%q is not a valid port nor port-range", r)
			}
			continue
		}
		if strings.Contains(upper, "-") {
			return errors.New("ranges expected as <lower>-<upper>")
		}
		from, err := port(lower)
		if err != nil {
			return fmt.Errorf("%q is not a valid lower-bound", lower)
		}
		to, err := port(upper)
		if err != nil {
			return fmt.Errorf("%q is not a valid upper-bound", upper)
		}
		if to < from {
			return fmt.Errorf("%q: upper-bound must be greater than or equal to lower-bound", r)
		}
	}
	return nil
}

func port(s string) (uint64, error) { return strconv.ParseUint(strings.TrimSpace(s), 10, 16) }

func validateIssuer(namespace, trustDomain string, values map[string]any, now time.Time) error {
	certificate := valuetree.String(values, "identity.issuer.tls.crtPEM")
	key := valuetree.String(values, "identity.issuer.tls.keyPEM")
	if valuetree.String(values, "identity.issuer.scheme") == SchemeKubernetes {
		if certificate != "" {
			return errors.New("--identity-issuer-certificate-file must not be specified if --identity-external-issuer=true")
		}
		if key != "" {
			return errors.New("--identity-issuer-key-file must not be specified if --identity-external-issuer=true")
		}
		return nil
	}
	anchors := valuetree.String(values, "identityTrustAnchorsPEM")
	if anchors == "" && valuetree.Bool(values, "identity.externalCA") {
		// The anchors are in the cluster, kept by somebody else.
		if _, err := credentials.Pair(certificate, key); err != nil {
			return fmt.Errorf("failed to validate issuer credentials: %w", err)
		}
		return nil
	}
	issuer := credentials.Issuer{TrustAnchors: anchors, Certificate: certificate, Key: key}
	if err := credentials.Verify(issuer, credentials.IssuerName(namespace, trustDomain), now); err != nil {
		return fmt.Errorf("failed to validate issuer credentials: %w", err)
	}
	return nil
}

func endpointSliceAccess(ctx context.Context, kube kubernetes.Interface) error {
	list, err := kube.Discovery().ServerResourcesForGroupVersion("discovery.k8s.io/v1")
	if err != nil {
		return fmt.Errorf("EndpointSlice resource not found: %w", err)
	}
	found := false
	for _, r := range list.APIResources {
		found = found || r.Kind == "EndpointSlice"
	}
	if !found {
		return errors.New("EndpointSlice resource not found")
	}
	return Authorized(ctx, kube, authorizationv1.ResourceAttributes{Verb: "list", Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"})
}

// Authorized asks the API server whether the user may do something.
func Authorized(ctx context.Context, kube kubernetes.Interface, attributes authorizationv1.ResourceAttributes) error {
	review, err := kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if review.Status.Allowed {
		return nil
	}
	what := attributes.Resource
	if attributes.Group != "" {
		what += "." + attributes.Group
	}
	if review.Status.Reason != "" {
		return fmt.Errorf("not authorized to access %s: %s", what, review.Status.Reason)
	}
	return fmt.Errorf("not authorized to access %s", what)
}
