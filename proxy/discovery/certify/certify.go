// Package certify keeps the proxy's certificate fresh (proxy chapter, section
// 6.2; proxy API chapter, sections 7.4 and 7.5): it proves who the workload is
// with its service account token, and puts what the identity controller issues
// into the credential store, which verifies it first. It also asks the
// controller for the trust anchors, which change while the proxy lives
// (docs/decisions/identity-rotation.md); a controller that does not know that
// question leaves those of the start in use.
//
//	key, csr, err := identityboot.Read(dir)
//	go certify.Run(ctx, certify.Config{Store: store, Key: key, CSR: csr, …,
//		Request: certify.Over(controlConfig)})
package certify

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	identitypb "github.com/linkerd-go/linkerd-go/api/lean/identity"
	trustpb "github.com/linkerd-go/linkerd-go/api/lean/trust"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// requestTimeout limits one certification, waiting for a connection included;
// trustTimeout a question for the trust anchors, which a certification may be
// waiting for.
const (
	requestTimeout = 30 * time.Second
	trustTimeout   = 10 * time.Second
)

// Times between questions for the trust anchors, if the controller does not
// tell one, or does not answer.
const (
	askAgain = 5 * time.Minute
	askRetry = time.Minute
)

// Requester sends a request to the identity controller.
type Requester func(context.Context, *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error)

// Asker asks the identity controller for the trust anchors.
type Asker func(context.Context, *trustpb.GetBundleRequest) (*trustpb.GetBundleResponse, error)

// Config is what Run needs.
type Config struct {
	// Store gets the certificates; its ID is what is asked for.
	Store *meshtls.Store
	// Key is the private key of the first certificate, CSR the request for it in
	// DER.
	Key crypto.Signer
	CSR []byte
	// NewKey makes the same for each certificate after the first, so that a key
	// that got out is of no use for longer than one certificate lives. Nil keeps
	// the first.
	NewKey func() (crypto.Signer, []byte, error)
	// TokenFile has the service account token. It is read for each request,
	// since the kubelet replaces it.
	TokenFile string
	// MinRefresh and MaxRefresh limit the time between requests; 0 means 10s
	// and 24h.
	MinRefresh, MaxRefresh time.Duration
	// Request sends requests; see Over.
	Request Requester
	// Ask asks for the trust anchors; see AskOver. Nil leaves those of the
	// start in use.
	Ask Asker
	// Keep, if not nil, is given each bundle that came into use, for the next
	// start.
	Keep func(bundle []byte) error
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
		resp := new(identitypb.CertifyResponse)
		return resp, unary(ctx, conn, identitypb.Identity_Certify_FullMethodName, r.AppendWire(nil), resp.ParseWire)
	}
}

// AskOver is Over for the trust anchors.
func AskOver(cfg discovery.ControlConfig) Asker {
	return func(ctx context.Context, r *trustpb.GetBundleRequest) (*trustpb.GetBundleResponse, error) {
		conn, err := discovery.Connect(cfg)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		resp := new(trustpb.GetBundleResponse)
		return resp, unary(ctx, conn, trustpb.Trust_GetBundle_FullMethodName, r.AppendWire(nil), resp.ParseWire)
	}
}

// unary calls a method once there is a connection.
func unary(ctx context.Context, conn *rpc.Conn, method string, request []byte, parse func([]byte) error) error {
	b, err := conn.Call(ctx, method, request, rpc.Wait)
	if err != nil {
		return err
	}
	return parse(b)
}

// trust is what Run knows about the anchors; only its goroutine uses it.
type trust struct {
	// have is the hash of the bundle in use, if the controller gave it.
	have []byte
	// pending is a bundle that the present certificate does not lead to: it
	// waits for one that does.
	pending []byte
	// at is when to ask, zero for not before the next certification.
	at time.Time
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
	var trusted trust
	var renew time.Time // now
	for {
		if !trusted.at.IsZero() && !time.Now().Before(trusted.at) {
			cfg.ask(ctx, &trusted)
			if trusted.pending != nil {
				renew = time.Now()
			}
		}
		if !time.Now().Before(renew) {
			renew = cfg.certify(ctx, &trusted)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		next := renew
		if !trusted.at.IsZero() && trusted.at.Before(next) {
			next = trusted.at
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// certify makes one attempt, of which it tells everybody, and returns when to
// make the next.
func (cfg *Config) certify(ctx context.Context, trusted *trust) time.Time {
	if cfg.Ask != nil && cfg.Store.Certified() && trusted.pending == nil {
		// The next certificate may be one of another anchor's.
		cfg.ask(ctx, trusted)
	}
	first := !cfg.Store.Certified()
	expiry, err := cfg.once(ctx, trusted)
	if ctx.Err() != nil {
		return time.Time{}
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
	} else if first && cfg.Ask != nil {
		// The anchors of the start are as old as the pod.
		trusted.at = time.Now()
	}
	return time.Now().Add(Delay(time.Now(), expiry, cfg.MinRefresh, cfg.MaxRefresh))
}

// ask asks for the anchors, uses them, and says when to ask again.
func (cfg *Config) ask(ctx context.Context, trusted *trust) {
	ctx, cancel := context.WithTimeout(ctx, trustTimeout)
	defer cancel()
	resp, err := cfg.Ask(ctx, &trustpb.GetBundleRequest{Have: trusted.have})
	if err != nil {
		trusted.at = time.Now().Add(askRetry)
		if rpc.CodeOf(err) == rpc.Unimplemented {
			trusted.at = time.Time{}
		} else {
			cfg.Log.Warn("Failed to ask for trust anchors", "error", err)
		}
		return
	}
	wait := askAgain
	if d := resp.GetAskAgain(); d.CheckValid() == nil && d.AsDuration() >= time.Second {
		wait = d.AsDuration()
	}
	// Proxies that were started together must not ask together.
	trusted.at = time.Now().Add(wait*9/10 + rand.N(wait/5))
	bundle := resp.GetBundle()
	if len(bundle) == 0 {
		return
	}
	err = cfg.Store.Trust(bundle)
	switch {
	case errors.Is(err, meshtls.ErrCutOff):
		cfg.Log.Info("Trust anchors need another certificate", "error", err)
		trusted.pending = bundle
	case err != nil:
		cfg.Log.Warn("Keeping the old trust anchors", "error", err)
	default:
		cfg.use(bundle, trusted)
	}
}

// use remembers a bundle that is in use.
func (cfg *Config) use(bundle []byte, trusted *trust) {
	sum := sha256.Sum256(bundle)
	trusted.have, trusted.pending = sum[:], nil
	cfg.Log.Info("Trust anchors were updated", "sha256", hex.EncodeToString(sum[:]))
	if cfg.Keep == nil {
		return
	}
	if err := cfg.Keep(bundle); err != nil {
		cfg.Log.Warn("Failed to keep trust anchors for the next start", "error", err)
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
func (cfg *Config) once(ctx context.Context, trusted *trust) (expiry time.Time, err error) {
	token, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return expiry, fmt.Errorf("read token: %w", err)
	}
	if len(token) == 0 {
		return expiry, fmt.Errorf("read token: %s is empty", cfg.TokenFile)
	}
	key, csr := cfg.Key, cfg.CSR
	if cfg.NewKey != nil && cfg.Store.Certified() {
		if key, csr, err = cfg.NewKey(); err != nil {
			return expiry, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := cfg.Request(ctx, &identitypb.CertifyRequest{
		Identity:                  cfg.Store.ID().String(),
		Token:                     token,
		CertificateSigningRequest: csr,
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
	if pending := trusted.pending; pending != nil {
		trusted.pending = nil
		err := cfg.Store.Renew(pending, chain, key)
		if err == nil {
			cfg.use(pending, trusted)
			return expiry, nil
		}
		// It is offered again with the next question.
		cfg.Log.Warn("Keeping the old trust anchors", "error", err)
	}
	if err := cfg.Store.SetCertificate(chain, key); err != nil {
		return time.Time{}, err
	}
	return expiry, nil
}
