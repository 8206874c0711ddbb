// Package policyvalidator decides whether the policy resources that users write make sense, for the admission webhook of
// those kinds.
//
//	validator := policyvalidator.New(policyvalidator.Options{Config: &config, Logger: logger})
//	webhook.Options{Admit: validator.Admit, ...}
//
// What the policy controller cannot read (package control/policy/resource) is refused with the same words that the controller
// would log; beyond that, rules.go refuses what can be read but cannot be meant. A Validator keeps no state and may be used
// from any goroutine. Source: control plane chapter, section 6.
package policyvalidator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/json"

	policyv1alpha1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	policyv1beta1 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	policyv1beta3 "github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
)

// Validator answers admission requests.
type Validator struct {
	reader resource.Reader
	logger *slog.Logger
	kinds  map[metav1.GroupKind]validate
	// overlaps says which other Servers are for what a Server selects; nil knows of none.
	overlaps func(*core.Server) []string
}

// validate checks the JSON of one object. The error is a decodeError if it could not be read at all, and a noEffect if it may
// be there.
type validate func(object []byte) error

// noEffect is the error of an object that is admitted although the controller will ignore it. Its author is warned.
type noEffect struct{ error }

// worthKnowing is the error of an object that is in force, but perhaps not as its author thinks, who is warned.
type worthKnowing struct{ warnings []string }

func (w worthKnowing) Error() string { return strings.Join(w.warnings, "; ") }

// decodeError is the error of an object that has not the shape of its kind.
type decodeError struct{ error }

// Options are the parts of a Validator.
type Options struct {
	// Config has the names that identities are made of.
	Config *core.Config
	// Overlaps says, in a sentence each, which other Servers are for what a Server selects. It must be quick; nil knows of
	// none.
	Overlaps func(*core.Server) []string
	// Logger takes what is admitted without being understood.
	Logger *slog.Logger
}

// New returns a validator.
func New(options Options) *Validator {
	v := &Validator{reader: resource.Reader{Config: options.Config}, logger: options.Logger, overlaps: options.Overlaps}
	policy := func(kind string) metav1.GroupKind {
		return metav1.GroupKind{Group: core.GroupPolicy, Kind: strings.ToLower(kind)}
	}
	gateway := func(kind string) metav1.GroupKind {
		return metav1.GroupKind{Group: core.GroupGateway, Kind: strings.ToLower(kind)}
	}
	v.kinds = map[metav1.GroupKind]validate{
		policy("AuthorizationPolicy"):      decoded[policyv1alpha1.AuthorizationPolicy](v.authorizationPolicy),
		policy("MeshTLSAuthentication"):    decoded[policyv1alpha1.MeshTLSAuthentication](v.meshTLSAuthentication),
		policy("NetworkAuthentication"):    decoded[policyv1alpha1.NetworkAuthentication](v.networkAuthentication),
		policy("Server"):                   decoded[policyv1beta3.Server](v.server),
		policy("ServerAuthorization"):      decoded[policyv1beta1.ServerAuthorization](v.serverAuthorization),
		policy("EgressNetwork"):            decoded[policyv1alpha1.EgressNetwork](v.egressNetwork),
		policy("HTTPLocalRateLimitPolicy"): decoded[policyv1alpha1.HTTPLocalRateLimitPolicy](v.rateLimit),
		policy("HTTPRoute"):                decoded[gatewayv1.HTTPRoute](v.policyHTTPRoute),
		gateway("HTTPRoute"):               decoded[gatewayv1.HTTPRoute](v.gatewayHTTPRoute),
		gateway("GRPCRoute"):               decoded[gatewayv1.GRPCRoute](v.grpcRoute),
		gateway("TLSRoute"):                decoded[gatewayv1.TLSRoute](v.tlsRoute),
		gateway("TCPRoute"):                decoded[gatewayv1.TCPRoute](v.tcpRoute),
	}
	return v
}

// decoded reads the JSON of an object before check sees it.
func decoded[O any](check func(*O) error) validate {
	return func(data []byte) error {
		var shape struct {
			Spec *struct{} `json:"spec"`
		}
		if err := json.UnmarshalCaseSensitivePreserveInts(data, &shape); err != nil {
			return decodeError{err}
		}
		if shape.Spec == nil {
			return decodeError{errors.New("spec: must be set")}
		}
		object := new(O)
		if err := json.UnmarshalCaseSensitivePreserveInts(data, object); err != nil {
			return decodeError{err}
		}
		return check(object)
	}
}

// Admit decides about one admission request. A bad object is a denial, not an error.
func (v *Validator) Admit(_ context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	kind := metav1.GroupKind{Group: strings.ToLower(request.Kind.Group), Kind: strings.ToLower(request.Kind.Kind)}
	check, ok := v.kinds[kind]
	if !ok {
		return nil, fmt.Errorf("unsupported resource type: %s.%s.%s", request.Kind.Group, request.Kind.Version, request.Kind.Kind)
	}
	err := check(request.Object.Raw)
	var undecodable decodeError
	if errors.As(err, &undecodable) && kind.Group == core.GroupGateway {
		// The Gateway API grows without us, and its objects may be meant for other controllers.
		v.logger.Warn("object admitted that cannot be read", "kind", request.Kind.Kind, "namespace", request.Namespace,
			"name", request.Name, "error", err)
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"ignored by linkerd: " + err.Error()}}, nil
	}
	var ignored noEffect
	if errors.As(err, &ignored) {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"ignored by linkerd: " + err.Error()}}, nil
	}
	var known worthKnowing
	if errors.As(err, &known) {
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: known.warnings}, nil
	}
	if err == nil {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusForbidden, Message: err.Error()}}, nil
}
