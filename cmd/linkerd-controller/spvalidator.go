package main

import (
	"context"
	"flag"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/control/spvalidator"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/webhook"
)

// spValidatorOptions are the flags of the sp-validator command. Source: control plane chapter, sections 4.1 and 5.
type spValidatorOptions struct {
	common      ctrlflags.Common
	addr        string
	metricsAddr string
	kubeconfig  string
	// certDir is not a flag: the charts mount the certificate at a fixed path. Tests set it.
	certDir string
}

func (o *spValidatorOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("sp-validator", flag.ContinueOnError)
	o.common.Register(fs)
	o.certDir = webhook.DefaultCertDir
	fs.StringVar(&o.addr, "addr", webhook.DefaultAddr, "address to serve admission reviews on")
	fs.StringVar(&o.metricsAddr, "metrics-addr", ":9997", "address of the admin server")
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "accepted and without effect: the validator reads nothing from the cluster")
	return fs
}

func runSPValidator(ctx context.Context, c call) error {
	var options spValidatorOptions
	logger, err := c.parse(options.flags(), &options.common)
	if err != nil {
		return err
	}
	certificate, err := webhook.LoadCertificate(options.certDir)
	if err != nil {
		return err
	}
	server := webhook.New(webhook.Options{Addr: options.addr, Certificate: certificate, Admit: spvalidator.Admit, Linger: webhook.Linger, Logger: logger})
	lis, err := server.Listen()
	if err != nil {
		return err
	}
	defer lis.Close()
	// A registry of its own, so that what runs twice in a process does not meet itself.
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(certificate.TTL("sp-validator"))
	p, up, err := start(ctx, admin.Options{
		Addr: options.metricsAddr, Pprof: options.common.Pprof, Gatherer: prometheus.Gatherers{prometheus.DefaultGatherer, metrics},
	})
	if err != nil {
		return err
	}
	p.Go(func() error { certificate.Watch(p.ctx, logger); return nil })
	p.Go(func() error { return server.Serve(p.ctx, lis) })
	up()
	logger.Info("serving", "addr", lis.Addr().String())
	return p.Wait()
}
