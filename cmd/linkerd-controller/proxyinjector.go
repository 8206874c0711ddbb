package main

import (
	"context"
	"flag"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/charts"
	"github.com/linkerd-go/linkerd-go/control/injector"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/version"
	"github.com/linkerd-go/linkerd-go/internal/webhook"
)

// injectorOptions are the flags of the proxy-injector command. Source: control plane chapter, section 4.1.
type injectorOptions struct {
	common    ctrlflags.Common
	kube      kube.Config
	addr      string
	adminAddr string
	namespace string
	// certDir and files are not flags: the charts mount them at fixed paths. Tests set them.
	certDir string
	files   injector.Files
}

func (o *injectorOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("proxy-injector", flag.ContinueOnError)
	o.common.Register(fs)
	o.kube = kube.Config{QPS: 100, Burst: 200, Component: "proxy-injector"}
	o.kube.Register(fs)
	o.certDir, o.files = webhook.DefaultCertDir, injector.DefaultFiles
	fs.StringVar(&o.addr, "addr", webhook.DefaultAddr, "address to serve the webhook on")
	fs.StringVar(&o.adminAddr, "metrics-addr", ":9995", "address of the admin server")
	fs.StringVar(&o.namespace, "linkerd-namespace", names.DefaultControlPlaneNamespace, "namespace of the control plane")
	return fs
}

func runProxyInjector(ctx context.Context, c call) error {
	var options injectorOptions
	clients, logger, err := c.connect(options.flags(), &options.common, &options.kube)
	if err != nil {
		return err
	}
	return options.run(ctx, clients, logger)
}

// run serves until ctx is done: first what can fail without the API server, then the watches, and only then the door is
// opened.
func (o *injectorOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	render, err := charts.PatchRenderer(o.namespace)
	if err != nil {
		return err
	}
	defaults, err := controlPlaneDefaults()
	if err != nil {
		return err
	}
	certificate, err := webhook.LoadCertificate(o.certDir)
	if err != nil {
		return err
	}
	events, stopEvents := recorder(clients, injector.EventSource)
	defer stopEvents()
	// A registry of its own, so that what runs twice in a process does not meet itself.
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(certificate.TTL("proxy-injector"))
	watches := injector.NewWatches(clients.Metadata, logger)
	handler, err := injector.New(injector.Options{
		Namespace: o.namespace,
		Version:   version.Version,
		Files:     o.files,
		Defaults:  defaults,
		Lookup:    watches,
		Render:    render,
		Events:    events,
		Metrics:   metrics,
		Logger:    logger,
	})
	if err != nil {
		return err
	}
	server := webhook.New(webhook.Options{Addr: o.addr, Certificate: certificate, Admit: handler.Admit, Linger: webhook.Linger, Logger: logger})
	lis, err := server.Listen()
	if err != nil {
		return err
	}
	defer lis.Close()
	p, up, err := start(ctx, admin.Options{
		Addr: o.adminAddr, Pprof: o.common.Pprof, Gatherer: prometheus.Gatherers{prometheus.DefaultGatherer, metrics},
	})
	if err != nil {
		return err
	}
	p.Go(func() error { certificate.Watch(p.ctx, logger); return nil })
	p.Go(func() error { watches.Run(p.ctx); return nil })
	if err := watches.WaitSynced(p.ctx); err != nil {
		return p.fail(err)
	}
	p.Go(func() error { return server.Serve(p.ctx, lis) })
	up()
	logger.Info("serving", "addr", lis.Addr().String())
	return p.Wait()
}

// controlPlaneDefaults are the values that the templates of the proxy are written for.
func controlPlaneDefaults() (map[string]any, error) {
	chart, err := charts.Load(charts.ControlPlane)
	if err != nil {
		return nil, err
	}
	return chart.Defaults()
}
