// Package identity is the mesh's certificate authority: it gives a workload that proves with a ServiceAccount token who it
// is a short-lived certificate for that identity.
//
// The pieces, from the outside in: Service answers the gRPC call and does the checks in their order; Credentials holds the
// current Issuer and replaces it when its files change; Issuer signs. A Reviewer asks Kubernetes about tokens, Events
// takes what an operator should see.
//
//	creds := identity.NewCredentials(files, events, logger)
//	if err := creds.Load(); err != nil { ... }       // at startup a bad issuer is fatal
//	go creds.Watch(ctx)                              // later a bad one leaves the old one in use
//	identitypb.RegisterIdentityServer(registrar, identity.NewService(identity.Options{...}))
//
// Everything may be used from any goroutine. Source: proxy API chapter, section 7; control plane chapter, section 11.
package identity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
)

// Events takes what happened to the issuer and to workloads. Its methods must not block and may be called from any
// goroutine.
type Events interface {
	// IssuerUpdated tells that a new issuer is in use.
	IssuerUpdated(message string)
	// IssuerUpdateSkipped tells that a new issuer was refused and the old one stays.
	IssuerUpdateSkipped(message string)
	// IssuerValidationFailed tells that the issuer in use is not good any more.
	IssuerValidationFailed(message string)
	// IssuedLeafCertificate tells that a ServiceAccount was given a certificate.
	IssuedLeafCertificate(namespace, serviceAccount, message string)
}

// Options are the parts of a Service. All must be set.
type Options struct {
	// Domain is the part of identities that this control plane decides.
	Domain Domain
	// Lifetimes say for how long certificates are good.
	Lifetimes Lifetimes
	// Credentials hold the issuer.
	Credentials *Credentials
	// Reviewer asks about tokens.
	Reviewer Reviewer
	// Events takes what an operator should see.
	Events Events
	// Logger takes the refusals.
	Logger *slog.Logger
}

// Service implements the Identity gRPC service.
type Service struct {
	identitypb.UnimplementedIdentityServer
	options Options
}

var _ identitypb.IdentityServer = (*Service)(nil)

// NewService returns a service with the given parts.
func NewService(options Options) *Service { return &Service{options: options} }

// Certify answers one request for a certificate. The order of the checks, their codes and texts are those of the proxy
// API chapter, section 7.2.
func (s *Service) Certify(ctx context.Context, request *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
	response, err := s.certify(ctx, request)
	if err != nil {
		s.options.Logger.Warn("certificate refused", "identity", request.GetIdentity(), "error", err)
	}
	return response, err
}

func (s *Service) certify(ctx context.Context, request *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
	issuer := s.options.Credentials.Issuer()
	if issuer == nil {
		return nil, status.Error(codes.Unavailable, "cert issuer not ready yet")
	}
	identity := request.GetIdentity()
	switch {
	case identity == "":
		return nil, status.Error(codes.InvalidArgument, "missing identity")
	case len(request.GetToken()) == 0:
		return nil, status.Error(codes.InvalidArgument, "missing token")
	case len(request.GetCertificateSigningRequest()) == 0:
		return nil, status.Error(codes.InvalidArgument, "missing certificate signing request")
	}
	csr, err := parseRequest(request.GetCertificateSigningRequest())
	if err != nil {
		return nil, err
	}
	if err := issuer.Verify(time.Now()); err != nil {
		s.options.Events.IssuerValidationFailed(err.Error())
		return nil, status.Error(codes.Unknown, err.Error())
	}
	if err := checkRequest(csr, identity); err != nil {
		return nil, err
	}
	namespace, account, err := s.checkToken(ctx, string(request.GetToken()), identity)
	if err != nil {
		return nil, err
	}
	leaf, above, err := issuer.Sign(csr, s.options.Lifetimes, time.Now())
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	s.options.Events.IssuedLeafCertificate(namespace, account, fmt.Sprintf("issued certificate for %s until %s: %x",
		identity, leaf.NotAfter, sha256.Sum256(leaf.Raw)))
	s.options.Logger.Info("certificate issued", "identity", identity, "until", leaf.NotAfter, "serial", leaf.SerialNumber)
	return &identitypb.CertifyResponse{
		LeafCertificate:          leaf.Raw,
		IntermediateCertificates: above,
		ValidUntil:               timestamppb.New(leaf.NotAfter),
	}, nil
}

// checkToken checks that the token belongs to the given identity and returns whose it is.
func (s *Service) checkToken(ctx context.Context, token, identity string) (namespace, account string, err error) {
	review, err := reviewToken(ctx, s.options.Reviewer, token)
	switch {
	case err != nil:
		return "", "", status.Errorf(codes.Internal, "error validating token for %s: %v", identity, err)
	case review.Error != "":
		return "", "", status.Error(codes.InvalidArgument, review.Error)
	case !review.Authenticated:
		return "", "", status.Error(codes.FailedPrecondition, "authentication token could not be authenticated")
	}
	found, err := s.options.Domain.Identity(review.Username)
	if err != nil {
		return "", "", err
	}
	if found != identity {
		return "", "", status.Errorf(codes.FailedPrecondition,
			"requested identity did not match provided token: requested=%s; found=%s", identity, found)
	}
	namespace, account = accountOf(review.Username)
	return namespace, account, nil
}
