// Package certify keeps the proxy's certificate fresh (proxy chapter, section
// 6.2; proxy API chapter, sections 7.4 and 7.5): it proves who the workload is
// with its service account token, and puts what the identity controller issues
// into the credential store, which verifies it first.
//
//	key, csr, err := identityboot.Read(dir)
//	go certify.Run(ctx, certify.Config{Store: store, Key: key, CSR: csr, …,
//		Request: certify.Over(controlConfig)})
package certify

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"

	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
)

// requestTimeout limits one certification, waiting for a connection included.
const requestTimeout = 30 * time.Second

// Requester sends a request to the identity controller.
type Requester func(context.Context, *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error)

// Config is what Run needs.
type Config struct {
	// Store gets the certificates; its ID is what is asked for.
	Store *meshtls.Store
	// Key is the private key, CSR the request for a certificate for it in DER.
	Key crypto.Signer
	CSR []byte
	// TokenFile has the service account token. It is read for each request,
	// since the kubelet replaces it.
	TokenFile string
	// MinRefresh and MaxRefresh limit the time between requests; 0 means 10s
	// and 24h.
	MinRefresh, MaxRefresh time.Duration
	// Request sends requests; see Over.
	Request Requester
	// Refreshed, if not nil, is told of each attempt, for metrics: expiry is
	// that of the new certificate, or zero after a failure.
	Refreshed func(expiry time.Time, err error)
	// Log, nil for slog's default.
	Log *slog.Logger
}

// Over returns a Requester that makes a new connection for each request: there
// is one a day, and a connection kept would outlive the certificates it was made
// with.
func Over(cfg discovery.ControlConfig) Requester {
	return func(ctx context.Context, r *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
		conn, err := discovery.Connect(cfg)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		// Waiting for the connection lets it be tried again with its own,
		// short backoff, which at the start of a cluster is much sooner than
		// the next request.
		return identitypb.NewIdentityClient(conn).Certify(ctx, r, grpc.WaitForReady(true))
	}
}

// Run certifies again and again until ctx is done. It returns the cause.
func Run(ctx context.Context, cfg Config) error {
	if cfg.MinRefresh == 0 {
		cfg.MinRefresh = 10 * time.Second
	}
	if cfg.MaxRefresh == 0 {
		cfg.MaxRefresh = 24 * time.Hour
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for {
		expiry, err := cfg.once(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			cfg.Log.Error("Failed to obtain identity", "identity", cfg.Store.ID().String(), "error", err)
		} else {
			cfg.Log.Info("Certified identity", "identity", cfg.Store.ID().String(), "expiry", expiry)
		}
		if cfg.Refreshed != nil {
			cfg.Refreshed(expiry, err)
		}
		if err != nil {
			// What there is goes on being used, and says when to worry.
			expiry = time.Time{}
			if l := cfg.Store.Leaf().Get(); l != nil {
				expiry = l.NotAfter
			}
		}
		timer := time.NewTimer(Delay(time.Now(), expiry, cfg.MinRefresh, cfg.MaxRefresh))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// Delay is the time to the next request: 70% of what remains until expiry,
// within limits; expiry is zero if there is no certificate.
func Delay(now, expiry time.Time, least, most time.Duration) time.Duration {
	if expiry.IsZero() || !expiry.After(now) {
		return least
	}
	return max(least, min(most, expiry.Sub(now)/10*7))
}

// once asks for a certificate and publishes it.
func (cfg *Config) once(ctx context.Context) (expiry time.Time, err error) {
	token, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return expiry, fmt.Errorf("read token: %w", err)
	}
	if len(token) == 0 {
		return expiry, fmt.Errorf("read token: %s is empty", cfg.TokenFile)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := cfg.Request(ctx, &identitypb.CertifyRequest{
		Identity:                  cfg.Store.ID().String(),
		Token:                     token,
		CertificateSigningRequest: cfg.CSR,
	})
	if err != nil {
		return expiry, err
	}
	if resp.GetValidUntil() == nil || resp.GetValidUntil().CheckValid() != nil {
		return expiry, errors.New("certificate comes without a valid expiry")
	}
	expiry = resp.GetValidUntil().AsTime()
	if !expiry.After(time.Now()) {
		return time.Time{}, fmt.Errorf("certificate expired at %v", expiry)
	}
	chain := append([][]byte{resp.GetLeafCertificate()}, resp.GetIntermediateCertificates()...)
	if err := cfg.Store.SetCertificate(chain, cfg.Key); err != nil {
		return time.Time{}, err
	}
	return expiry, nil
}
