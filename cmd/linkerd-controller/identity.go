package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	trustpb "github.com/linkerd-go/linkerd-go/api/proto/trust"
	"github.com/linkerd-go/linkerd-go/control/identity"
	"github.com/linkerd-go/linkerd-go/control/identity/rotation"
	servingcerts "github.com/linkerd-go/linkerd-go/control/identity/serving"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/ctrltrace"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// identityOptions are the flags of the identity command. Source: control plane chapter, section 11.1.
type identityOptions struct {
	common    ctrlflags.Common
	kube      kube.Config
	addr      string
	adminAddr string
	domain    identity.Domain
	scheme    string
	lifetime  string
	clockSkew string
	issuerDir string
	// roots is not a flag: the charts mount the trust anchors at a fixed path. Tests set it.
	roots string
	// rotate says that issuer and trust anchor are the control plane's own, to be replaced in time.
	rotate   bool
	rotation rotation.Policy
	interval time.Duration
	// webhooks are those whose certificates are the control plane's own.
	webhooks        string
	webhookSuffix   string
	serving         servingcerts.Policy
	servingInterval time.Duration
	servingCreate   bool
}

func (o *identityOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("identity", flag.ContinueOnError)
	o.common.Register(fs)
	o.kube = kube.Config{QPS: 100, Burst: 200, Component: "identity"}
	o.kube.Register(fs)
	o.kube.RegisterRate(fs)
	o.roots = names.PathTrustRoots
	fs.StringVar(&o.addr, "addr", ":8080", "address to serve gRPC on")
	fs.StringVar(&o.adminAddr, "admin-addr", ":9990", "address of the admin server")
	fs.StringVar(&o.domain.ControllerNamespace, "controller-namespace", "", "namespace of the control plane")
	fs.StringVar(&o.domain.TrustDomain, "identity-trust-domain", "", "DNS name below which all identities are")
	fs.StringVar(&o.scheme, "identity-scheme", "", "type of the issuer's Secret, which decides the names of its files")
	fs.StringVar(&o.lifetime, "identity-issuance-lifetime", "", "lifetime of certificates; empty is 24h")
	fs.StringVar(&o.clockSkew, "identity-clock-skew-allowance", "", "time by which clocks may differ; empty is 10s")
	fs.StringVar(&o.issuerDir, "issuer", names.DirIssuer, "directory of the issuer's certificate and key")
	fs.BoolVar(&o.rotate, "identity-rotation", false, "replace issuer and trust anchor before they expire; their objects must be the control plane's own")
	fs.DurationVar(&o.rotation.IssuerLifetime, "identity-rotation-issuer-lifetime", 365*24*time.Hour, "lifetime of new issuers")
	fs.DurationVar(&o.rotation.AnchorLifetime, "identity-rotation-anchor-lifetime", 10*365*24*time.Hour, "lifetime of new trust anchors")
	fs.Float64Var(&o.rotation.RenewAt, "identity-rotation-renew-at", 2./3, "part of its life after which a certificate is replaced")
	fs.DurationVar(&o.rotation.Margin, "identity-rotation-margin", 5*time.Minute, "time for mounted files to follow their objects")
	fs.DurationVar(&o.interval, "identity-rotation-interval", 30*time.Second, "time between looks at what there is to rotate")
	fs.StringVar(&o.webhooks, "webhook-certificates", "", "webhooks whose certificates to replace before they expire, separated by commas: proxy-injector, sp-validator, policy-validator")
	fs.StringVar(&o.webhookSuffix, "webhook-configuration-suffix", "", "end of the names of the webhooks' configurations, where a cluster has more than one control plane")
	fs.DurationVar(&o.serving.Lifetime, "webhook-certificates-lifetime", 365*24*time.Hour, "lifetime of new certificates of webhooks")
	fs.Float64Var(&o.serving.RenewAt, "webhook-certificates-renew-at", 2./3, "part of its life after which a webhook's certificate is replaced")
	fs.DurationVar(&o.serving.Margin, "webhook-certificates-margin", 5*time.Minute, "time for webhooks to follow their Secrets, and for API servers to follow webhooks' configurations")
	fs.DurationVar(&o.servingInterval, "webhook-certificates-interval", 10*time.Second, "time between looks at webhooks' certificates")
	fs.BoolVar(&o.servingCreate, "webhook-certificates-create", false, "make the Secrets of webhooks' certificates where there are none")
	return fs
}

// files returns where the issuer is, by the scheme of its Secret.
func (o *identityOptions) files() identity.Files {
	cert, key := names.IssuerKubernetesCert, names.IssuerKubernetesKey
	if o.scheme == names.IssuerSchemeLinkerd {
		cert, key = names.IssuerLinkerdCert, names.IssuerLinkerdKey
	}
	return identity.Files{Cert: filepath.Join(o.issuerDir, cert), Key: filepath.Join(o.issuerDir, key), Roots: o.roots}
}

// lifetimes reads the two durations. A bad one is not worth a mesh without certificates: it is logged, and the default
// used.
func (o *identityOptions) lifetimes(logger *slog.Logger) identity.Lifetimes {
	read := func(flag, text string, fallback time.Duration) time.Duration {
		if text == "" {
			return fallback
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			logger.Warn("bad duration; using the default", "flag", flag, "error", err, "default", fallback)
			return fallback
		}
		return d
	}
	return identity.Lifetimes{
		Issuance:  read("identity-issuance-lifetime", o.lifetime, 24*time.Hour),
		ClockSkew: read("identity-clock-skew-allowance", o.clockSkew, 10*time.Second),
	}
}

func runIdentity(ctx context.Context, c call) error {
	var options identityOptions
	logger, err := c.parse(options.flags(), &options.common)
	if err != nil {
		return err
	}
	if options.scheme == "" || options.domain.TrustDomain == "" {
		// An install without identity says so in this way; it is not an error.
		logger.Error("identity disabled: -identity-scheme and -identity-trust-domain must be set")
		return nil
	}
	clients, err := kube.Connect(options.kube)
	if err != nil {
		return err
	}
	return options.run(ctx, clients, logger)
}

// run serves until ctx is done. Its order: what can be checked without help first, then what needs the API server, then
// the issuer, and only then the door is opened. An issuer that cannot be used ends it, unless this process replaces issuers.
func (o *identityOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	if err := o.domain.Validate(); err != nil {
		return err
	}
	lis, err := listen(o.addr)
	if err != nil {
		return err
	}
	defer lis.Close()
	stopTrace, err := ctrltrace.Start("linkerd-identity", o.common.TraceCollector)
	if err != nil {
		return err
	}
	defer stopTrace()
	p, up, err := start(ctx, admin.Options{Addr: o.adminAddr, Pprof: o.common.Pprof})
	if err != nil {
		return err
	}
	if err := kube.Persist(p.ctx, logger, func(ctx context.Context) error {
		return kube.CheckAccess(ctx, clients.Kube, authorizationv1.ResourceAttributes{
			Verb: "create", Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews",
		})
	}); err != nil {
		return p.fail(err)
	}

	kubeEvents, stopEvents := recorder(clients, names.DeploymentIdentity)
	defer stopEvents()
	events := identity.Recorder{Recorder: kubeEvents, ControllerNamespace: o.domain.ControllerNamespace}
	lifetimes := o.lifetimes(logger)
	var rotating *rotation.Controller
	if o.rotate {
		if rotating, err = o.rotator(clients, lifetimes, events, logger); err != nil {
			return p.fail(err)
		}
	}
	keeper, err := o.keeper(clients, events, logger)
	if err != nil {
		return p.fail(err)
	}
	creds := identity.NewCredentials(o.files(), events, logger)
	memory := identity.Remembered{ConfigMaps: clients.Kube.CoreV1().ConfigMaps(o.domain.ControllerNamespace)}
	recalling, recalled := context.WithTimeout(p.ctx, recallLimit)
	if err := creds.Recall(recalling, memory, lifetimes); err != nil {
		logger.Warn("former trust anchors are not known", "error", err)
	}
	recalled()
	if err := creds.Load(); err != nil {
		if rotating == nil {
			return p.fail(err)
		}
		// A cluster that was switched off for long, say. Who rotates makes a
		// new issuer, which is read when it arrives.
		logger.Error("issuer cannot be used; waiting for a new one", "error", err)
	}
	for _, ttl := range expiries(creds) {
		if err := prometheus.Register(ttl); err != nil {
			return p.fail(err)
		}
		defer prometheus.Unregister(ttl)
	}
	p.Go(func() error { creds.Watch(p.ctx); return nil })
	p.Go(func() error { creds.Share(p.ctx, memory, lifetimes); return nil })
	if rotating != nil {
		p.Go(func() error { return rotating.Run(p.ctx) })
	}
	if keeper != nil {
		p.Go(func() error { return keeper.Run(p.ctx) })
	}

	server := grpcserve.New(ctrltrace.ServerOptions(o.common.TraceCollector)...)
	identitypb.RegisterIdentityServer(server.Registrar(), identity.NewService(identity.Options{
		Domain:      o.domain,
		Lifetimes:   lifetimes,
		Credentials: creds,
		Reviewer:    identity.TokenReviews{Client: clients.Kube.AuthenticationV1().TokenReviews()},
		Events:      identity.NewSparing(events, lifetimes.Issuance),
		Logger:      logger,
	}))
	trustpb.RegisterTrustServer(server.Registrar(), &identity.Trust{Credentials: creds, Lifetimes: lifetimes})
	p.Go(func() error { return server.Serve(p.ctx, lis) })
	select {
	case <-creds.Loaded():
		up()
		logger.Info("serving", "addr", lis.Addr().String())
	case <-p.ctx.Done():
	}
	return p.Wait()
}

// recallLimit is how long the start waits to hear of former trust anchors. What other replicas say later is taken later.
const recallLimit = 5 * time.Second

// expiries tell monitoring when certificates have to have been replaced.
func expiries(creds *identity.Credentials) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "issuer_cert_ttl_seconds",
			Help: "Seconds until the issuer's certificate expires.",
		}, creds.TTL),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "trust_anchor_ttl_seconds",
			Help: "Seconds until the last of the trust anchors expires.",
		}, creds.AnchorTTL),
	}
}

// rotator returns what replaces issuer and trust anchor. Replicas are candidates for its lease under the names of their pods.
func (o *identityOptions) rotator(clients *kube.Clients, lifetimes identity.Lifetimes, events identity.Recorder, logger *slog.Logger) (*rotation.Controller, error) {
	if o.scheme != names.IssuerSchemeLinkerd {
		return nil, fmt.Errorf("-identity-rotation is for issuers of scheme %s: those of scheme %s are somebody else's", names.IssuerSchemeLinkerd, o.scheme)
	}
	host, err := podName()
	if err != nil {
		return nil, err
	}
	o.rotation.Leaf, o.rotation.Skew = lifetimes.Issuance, lifetimes.ClockSkew
	return rotation.New(rotation.Options{
		Client: clients.Kube, Namespace: o.domain.ControllerNamespace, TrustDomain: o.domain.TrustDomain,
		Policy: o.rotation, Interval: o.interval, Identity: host, Event: events.Rotated, Logger: logger,
	})
}

// keeper returns what replaces the certificates of webhooks, or nil if none are the control plane's own.
func (o *identityOptions) keeper(clients *kube.Clients, events identity.Recorder, logger *slog.Logger) (*servingcerts.Controller, error) {
	hooks, err := servingcerts.Parse(o.webhooks, o.webhookSuffix)
	if err != nil {
		return nil, fmt.Errorf("-webhook-certificates: %w", err)
	}
	if len(hooks) == 0 {
		return nil, nil
	}
	host, err := podName()
	if err != nil {
		return nil, err
	}
	return servingcerts.New(servingcerts.Options{
		Client: clients.Kube, Namespace: o.domain.ControllerNamespace, Webhooks: hooks, Policy: o.serving, Interval: o.servingInterval,
		Create: o.servingCreate, Identity: host, Event: events.WebhookCertificate, Failure: events.WebhookCertificateFailed, Logger: logger,
	})
}
