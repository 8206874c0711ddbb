package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/control/identity"
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

func runIdentity(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var options identityOptions
	logger, err := parse(options.flags(), &options.common, args, stdout, stderr)
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
// the issuer, and only then the door is opened.
func (o *identityOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	if err := o.domain.Validate(); err != nil {
		return err
	}
	lis, err := listen(o.addr)
	if err != nil {
		return err
	}
	stopTrace, err := ctrltrace.Start("linkerd-identity", o.common.TraceCollector)
	if err != nil {
		lis.Close()
		return err
	}
	defer stopTrace()
	p, up, err := start(ctx, admin.Options{Addr: o.adminAddr, Pprof: o.common.Pprof})
	if err != nil {
		lis.Close()
		return err
	}
	if err := kube.CheckAccess(p.ctx, clients.Kube, authorizationv1.ResourceAttributes{
		Verb: "create", Group: "authentication.k8s.io", Version: "v1", Resource: "tokenreviews",
	}); err != nil {
		lis.Close()
		return p.fail(err)
	}

	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.Kube.CoreV1().Events("")})
	events := identity.Recorder{
		Recorder:            broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: names.DeploymentIdentity}),
		ControllerNamespace: o.domain.ControllerNamespace,
	}
	creds := identity.NewCredentials(o.files(), events, logger)
	if err := creds.Load(); err != nil {
		lis.Close()
		return p.fail(err)
	}
	ttl := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "issuer_cert_ttl_seconds",
		Help: "Seconds until the issuer's certificate expires.",
	}, creds.TTL)
	if err := prometheus.Register(ttl); err != nil {
		lis.Close()
		return p.fail(err)
	}
	defer prometheus.Unregister(ttl)
	p.Go(func() error { creds.Watch(p.ctx); return nil })

	server := grpcserve.New(ctrltrace.ServerOptions(o.common.TraceCollector)...)
	identitypb.RegisterIdentityServer(server.Registrar(), identity.NewService(identity.Options{
		Domain:      o.domain,
		Lifetimes:   o.lifetimes(logger),
		Credentials: creds,
		Reviewer:    identity.TokenReviews{Client: clients.Kube.AuthenticationV1().TokenReviews()},
		Events:      events,
		Logger:      logger,
	}))
	p.Go(func() error { return server.Serve(p.ctx, lis) })
	up()
	logger.Info("serving", "addr", lis.Addr().String())
	return p.Wait()
}
