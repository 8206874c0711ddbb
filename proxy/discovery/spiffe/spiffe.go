// Package spiffe gets the credentials of workloads outside Kubernetes from a
// SPIFFE agent (proxy chapter, section 6.4; proxy API chapter, section 8). The
// agent pushes a new certificate whenever it is time; there is no timer here.
//
//	go spiffe.Run(ctx, spiffe.Config{Store: store, Socket: "/run/spire/agent.sock"})
//
// Trust anchors come from the proxy's configuration; the bundle in the agent's
// answers is not used.
package spiffe

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	spiffepb "github.com/linkerd-go/linkerd-go/api/lean/spiffe"
	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// ErrNoSVID: the agent has credentials, but none for this workload.
var ErrNoSVID = errors.New("no matching SVID found")

// Config is what Run needs.
type Config struct {
	// Store gets the certificates; its ID is the SPIFFE id to look for.
	Store *meshtls.Store
	// Socket is the path of the agent's Unix socket; a prefix "unix:" is
	// taken off.
	Socket string
	// Backoff between streams; zero means 100ms to 1s with a jitter of 0.1.
	Backoff model.Backoff
	// Refreshed, if not nil, is told of each answer, for metrics: expiry is
	// that of the new certificate, or zero after a failure.
	Refreshed func(expiry time.Time, err error)
	// Log, nil for slog's default.
	Log *slog.Logger
}

// forever is how long the agent stays where it is.
const forever = 365 * 24 * time.Hour

// Run follows the agent until ctx is done, whose cause it returns, or the agent
// has rejected the request as invalid.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Backoff == (model.Backoff{}) {
		cfg.Backoff = model.Backoff{Min: 100 * time.Millisecond, Max: time.Second, Jitter: 0.1}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Refreshed == nil {
		cfg.Refreshed = func(time.Time, error) {}
	}
	path := strings.TrimPrefix(cfg.Socket, "unix:")
	conn := rpc.New(rpc.Config{
		Name: "workload API", Authority: "localhost",
		// There is one agent, whose address is its path.
		Resolve: func(context.Context) (dns.Answer, error) {
			return dns.Answer{Addrs: []netip.AddrPort{{}}, TTL: forever}, nil
		},
		Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		Backoff: cfg.Backoff, Log: cfg.Log,
	})
	defer conn.Close()
	retries := backoff.Series{B: cfg.Backoff}
	for {
		worked, err := cfg.once(ctx, conn)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if rpc.CodeOf(err) == rpc.InvalidArgument {
			return fmt.Errorf("workload API: %w", err)
		}
		cfg.Log.Warn("Workload API stream ended", "error", err)
		if worked {
			retries.Reset()
		}
		timer := time.NewTimer(retries.Next())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// once follows one stream to its end.
func (cfg *Config) once(ctx context.Context, conn *rpc.Conn) (worked bool, err error) {
	// Agents refuse calls without the field, so that no browser can be tricked
	// into one.
	stream, err := conn.Stream(ctx, spiffepb.SpiffeWorkloadAPI_FetchX509SVID_FullMethodName, nil, rpc.Wait, rpc.Header("workload.spiffe.io", "true"))
	if err != nil {
		return false, err
	}
	defer stream.Close()
	for {
		b, err := stream.Recv()
		resp := new(spiffepb.X509SVIDResponse)
		if err == nil {
			err = resp.ParseWire(b)
		}
		if err != nil {
			return worked, err
		}
		worked = true
		expiry, err := cfg.publish(resp)
		if err != nil {
			cfg.Log.Error("Failed to obtain identity", "identity", cfg.Store.ID().String(), "error", err)
		}
		cfg.Refreshed(expiry, err)
	}
}

// publish takes the own credentials out of an answer.
func (cfg *Config) publish(resp *spiffepb.X509SVIDResponse) (time.Time, error) {
	for _, s := range resp.GetSvids() {
		if s.GetSpiffeId() != cfg.Store.ID().String() {
			continue
		}
		expiry, err := cfg.use(s)
		if err != nil {
			// Another entry may be better.
			cfg.Log.Warn("Skipping unusable SVID", "id", s.GetSpiffeId(), "error", err)
			continue
		}
		return expiry, nil
	}
	return time.Time{}, ErrNoSVID
}

func (cfg *Config) use(s *spiffepb.X509SVID) (time.Time, error) {
	certs, err := x509.ParseCertificates(s.GetX509Svid())
	if err != nil {
		return time.Time{}, fmt.Errorf("parse certificates: %w", err)
	}
	if len(certs) == 0 {
		return time.Time{}, errors.New("certificate list is empty")
	}
	key, err := x509.ParsePKCS8PrivateKey(s.GetX509SvidKey())
	if err != nil {
		return time.Time{}, fmt.Errorf("parse key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return time.Time{}, errors.New("key cannot sign")
	}
	var chain [][]byte
	for _, c := range certs {
		chain = append(chain, c.Raw)
	}
	if err := cfg.Store.SetCertificate(chain, signer); err != nil {
		return time.Time{}, err
	}
	return certs[0].NotAfter, nil
}
