// Package spiffe gets the credentials of workloads outside Kubernetes from a
// SPIFFE agent (proxy chapter, section 6.4; proxy API chapter, section 8). The
// agent pushes a new certificate whenever it is time; there is no timer here.
//
//	go spiffe.Run(ctx, spiffe.Config{Store: store, Socket: "/run/spire/agent.sock"})
//
// Trust anchors are those of the proxy's configuration and those of the bundle in
// the agent's answers, as long as they are there: so that an anchor that replaces
// another is known in time. Authorities of federated trust domains are believed if
// the configuration says so, and only about their own workloads.
package spiffe

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
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
	// Anchors are the configured trust anchors in PEM, which the agent's bundle
	// is added to.
	Anchors []byte
	// Federated are the other trust domains that are believed about their own
	// workloads, if the agent has their bundles.
	Federated []string
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
	c := &client{Config: cfg}
	for {
		worked, err := c.once(ctx, conn)
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

// client is Run's state, which its goroutine alone uses.
type client struct {
	Config
	// anchors are those in use since the agent gave a bundle.
	anchors []byte
}

// once follows one stream to its end.
func (c *client) once(ctx context.Context, conn *rpc.Conn) (worked bool, err error) {
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
		expiry, err := c.publish(resp)
		if err != nil {
			c.Log.Error("Failed to obtain identity", "identity", c.Store.ID().String(), "error", err)
		}
		c.Refreshed(expiry, err)
	}
}

// publish takes the own credentials out of an answer.
func (c *client) publish(resp *spiffepb.X509SVIDResponse) (time.Time, error) {
	c.federate(resp.GetFederatedBundles())
	for _, s := range resp.GetSvids() {
		if s.GetSpiffeId() != c.Store.ID().String() {
			continue
		}
		expiry, err := c.use(s)
		if err != nil {
			// Another entry may be better.
			c.Log.Warn("Skipping unusable SVID", "id", s.GetSpiffeId(), "error", err)
			continue
		}
		return expiry, nil
	}
	return time.Time{}, ErrNoSVID
}

func (c *client) use(s *spiffepb.X509SVID) (time.Time, error) {
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
	for _, cert := range certs {
		chain = append(chain, cert.Raw)
	}
	if err := c.renew(s.GetBundle(), chain, signer); err != nil {
		return time.Time{}, err
	}
	return certs[0].NotAfter, nil
}

// renew takes a certificate, together with the bundle of its trust domain if there
// is one that can be read.
func (c *client) renew(bundle []byte, chain [][]byte, key crypto.Signer) error {
	given, err := x509.ParseCertificates(bundle)
	if err != nil {
		c.Log.Warn("Skipping an invalid trust bundle", "error", err)
	}
	if len(given) == 0 {
		return c.Store.SetCertificate(chain, key)
	}
	anchors := c.together(given)
	if err := c.Store.Renew(anchors, chain, key); err != nil {
		return err
	}
	if !bytes.Equal(anchors, c.anchors) {
		sum := sha256.Sum256(anchors)
		c.Log.Info("Trust anchors were updated", "sha256", hex.EncodeToString(sum[:]))
		c.anchors = anchors
	}
	return nil
}

// together is what is given and what is configured, in PEM: peers in the cluster
// may have another authority than the agent.
func (c *client) together(given []*x509.Certificate) []byte {
	var out []byte
	has := map[string]bool{}
	add := func(der []byte) {
		if !has[string(der)] {
			has[string(der)] = true
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	for _, cert := range given {
		add(cert.Raw)
	}
	for rest := c.Config.Anchors; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			add(block.Bytes)
		}
	}
}

// federate takes the bundles of the trust domains that are to be believed. One
// that is missing, or cannot be read, is believed no more.
func (c *client) federate(bundles map[string][]byte) {
	if len(c.Federated) == 0 {
		return
	}
	domains := map[string][]*x509.Certificate{}
	for id, der := range bundles {
		name := strings.TrimSuffix(strings.TrimPrefix(id, "spiffe://"), "/")
		if !slices.Contains(c.Federated, name) {
			continue
		}
		certs, err := x509.ParseCertificates(der)
		if err != nil {
			c.Log.Warn("Skipping an invalid federated bundle", "domain", name, "error", err)
			continue
		}
		domains[name] = certs
	}
	c.Store.Federate(domains)
}
