package app

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/config"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/certify"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/spiffe"
	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// credentials makes the store that certificates will be put into.
func (a *App) credentials() error {
	c := &a.cfg.Identity
	id, err := model.ParseIdentity(c.ServerID)
	if err != nil {
		return fmt.Errorf("%w: identity %q: %w", config.ErrInvalid, c.ServerID, err)
	}
	// Whoever certifies this proxy has an anchor among those of the pod's start
	// or among those that were known last; which of them still count is asked
	// after the first certification.
	anchors := []byte(c.TrustAnchors)
	if c.SPIRE == "" {
		anchors = append(append(anchors, '\n'), identityboot.KeptBundle(c.Dir)...)
	}
	a.store, err = meshtls.New(meshtls.Config{
		ID: id, ServerName: c.ServerName, Anchors: anchors, Now: a.o.Clock.Now,
		Log: logs.For(a.o.Log.Logger(), "linkerd_meshtls"),
	})
	if err != nil {
		return fmt.Errorf("%w: trust anchors: %w", config.ErrInvalid, err)
	}
	return nil
}

// identityClient makes what keeps the certificate fresh.
func (a *App) identityClient(set *series.Set, resolutions *metric.Family) error {
	c := &a.cfg.Identity
	refreshed := a.identityMetrics()
	anchors := a.reg.Open(names.MetricTrustAnchorsHash,
		"Number of the trust anchors that the Identity service gave to this proxy, 0 before it gave any; a prefix of the bundle's SHA-256",
		metric.Gauge)
	log := logs.For(a.o.Log.Logger(), "linkerd_app", "identity")
	if c.SPIRE != "" {
		a.certify = func(ctx context.Context) error {
			return spiffe.Run(ctx, spiffe.Config{
				Store: a.store, Socket: c.SPIRE, Backoff: model.Backoff(c.SPIREBackoff), Refreshed: refreshed, Log: log,
				Anchors: []byte(c.TrustAnchors), Federated: c.SPIREFederated,
			})
		}
		return nil
	}
	key, csr, err := identityboot.Read(c.Dir)
	if err != nil {
		return fmt.Errorf("%w: identity directory: %w", config.ErrInvalid, err)
	}
	if token, err := os.ReadFile(c.TokenFile); err != nil || len(token) == 0 {
		return fmt.Errorf("%w: token file %s is missing or empty", config.ErrInvalid, c.TokenFile)
	}
	cc, err := a.controlConfig("identity", c.Controller, set, resolutions)
	if err != nil {
		return err
	}
	inUse := anchors.Gauge("")
	a.certify = func(ctx context.Context) error {
		return certify.Run(ctx, certify.Config{
			Store: a.store, Key: key, CSR: csr, TokenFile: c.TokenFile,
			NewKey:     func() (crypto.Signer, []byte, error) { return identityboot.NewKey(c.ServerID) },
			MinRefresh: c.MinRefresh, MaxRefresh: c.MaxRefresh,
			Request: certify.Over(cc), Refreshed: refreshed, Log: log,
			Ask: certify.AskOver(cc),
			Keep: func(bundle []byte) error {
				inUse.Set(names.TrustBundleHash(bundle))
				return identityboot.KeepBundle(c.Dir, bundle)
			},
		})
	}
	return nil
}

// identityMetrics adds the certificate's metrics and gives what counts
// refreshes.
func (a *App) identityMetrics() func(time.Time, error) {
	expiry := a.reg.Open("control_identity_cert_expiration_timestamp_seconds",
		"When this proxy's current mTLS identity certificate will expire (in seconds since the UNIX epoch)",
		metric.Gauge, metric.Unit("seconds")).Gauge("")
	refresh := a.reg.Open("control_identity_cert_refresh_timestamp_seconds",
		"When this proxy's current mTLS identity certificate was last updated (in seconds since the UNIX epoch)",
		metric.Gauge, metric.Unit("seconds")).Gauge("")
	refreshes := a.reg.Open("control_identity_cert_refreshes",
		"The total number of times this proxy's mTLS identity certificate has been refreshed by the Identity service")
	ok, failed := refreshes.Counter(metric.Labels("result", "ok")), refreshes.Counter(metric.Labels("result", "error"))
	return func(until time.Time, err error) {
		if err != nil {
			failed.Add(1)
			return
		}
		ok.Add(1)
		expiry.Set(float64(until.Unix()))
		refresh.Set(float64(a.o.Clock.Now().UnixMilli()) / 1000)
	}
}

// controlHooks counts the calls to a controller.
func controlHooks(h *series.HTTP, balancer *series.Balancer, addr string) discovery.ControlHooks {
	// What the connection's own balancer does is told by how many addresses
	// and connections there are; it has no queue that can be looked into.
	var addrs, connected, resolutions atomic.Int64
	var requests atomic.Uint64
	balancer.Add(addr, func() series.BalancerStats {
		ready := max(connected.Load(), 0)
		return series.BalancerStats{
			Ready: int(ready), Pending: int(max(addrs.Load()-ready, 0)),
			Reset: uint64(resolutions.Load()), QueueRequests: requests.Load(),
		}
	})
	return discovery.ControlHooks{
		Request: func() {
			requests.Add(1)
			h.Request()
		},
		Resolved: func(n int) {
			addrs.Store(int64(n))
			resolutions.Add(1)
		},
		Connected: func(delta int) { connected.Add(int64(delta)) },
		Response: func(c classify.Class, took time.Duration) {
			h.Latency(200, took)
			h.Response(series.Class{Status: 200, Failure: c.Failure, GRPC: c.GRPC})
		},
	}
}
