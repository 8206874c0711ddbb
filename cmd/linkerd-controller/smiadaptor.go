package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/smi"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

// smiAdaptorOptions are the flags of the smi-adaptor command. Source: control plane chapter, section 16.
type smiAdaptorOptions struct {
	common        ctrlflags.Common
	kube          kube.Config
	metricsAddr   string
	clusterDomain string
	workers       int
	// namespace is where the lease is; upstream's adaptor has none.
	namespace string
}

func (o *smiAdaptorOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(names.SMIAdaptor, flag.ContinueOnError)
	o.common.Register(fs)
	o.kube = kube.Config{QPS: 50, Burst: 100, Component: names.SMIAdaptor}
	o.kube.Register(fs)
	fs.StringVar(&o.metricsAddr, "metrics-addr", ":9995", "address of the admin server")
	fs.StringVar(&o.clusterDomain, "cluster-domain", names.DefaultClusterDomain, "end of the names of Services")
	fs.IntVar(&o.workers, "worker-threads", 2, "services that are worked on at a time")
	fs.StringVar(&o.namespace, "namespace", "linkerd-smi", "namespace of the adaptor, where its lease is")
	return fs
}

func (o *smiAdaptorOptions) validate() error {
	switch {
	case o.workers < 1:
		return fmt.Errorf("-worker-threads is %d and must be greater than 0", o.workers)
	case o.clusterDomain == "":
		return errors.New("-cluster-domain must not be empty")
	}
	return nil
}

func runSMIAdaptor(ctx context.Context, c call) error {
	var options smiAdaptorOptions
	clients, logger, err := c.connect(options.flags(), &options.common, &options.kube)
	if err != nil {
		return err
	}
	return options.run(ctx, clients, logger)
}

// run adapts until ctx is done. The process is ready from the start: nobody waits for its answers.
func (o *smiAdaptorOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	if err := o.validate(); err != nil {
		return err
	}
	host, err := podName()
	if err != nil {
		return err
	}
	p, up, err := start(ctx, admin.Options{Addr: o.metricsAddr, Pprof: o.common.Pprof})
	if err != nil {
		return err
	}
	events, stopEvents := recorder(clients, names.SMIEventSource)
	defer stopEvents()
	controller := smi.New(smi.Options{
		Clients:       clients,
		Namespace:     o.namespace,
		Identity:      host,
		ClusterDomain: o.clusterDomain,
		Workers:       o.workers,
		Events:        smi.Recorder{Recorder: events},
		Metrics:       reconcile.NewMetrics(prometheus.DefaultRegisterer),
		Logger:        logger,
	})
	watch := controller.Watch()
	group := kube.NewGroup(logger, watch)
	p.Go(func() error { group.Run(p.ctx); return nil })
	up()
	logger.Info("adapting traffic splits", "cluster-domain", o.clusterDomain)
	p.Go(func() error {
		// However long it takes: without the resource definition there is nothing to do, and the watch's errors say so.
		select {
		case <-watch.Synced():
			return controller.Run(p.ctx)
		case <-p.ctx.Done():
			return nil
		}
	})
	return p.Wait()
}
