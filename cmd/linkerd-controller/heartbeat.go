package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/heartbeat"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// heartbeatOptions are the flags of the heartbeat command. Source: control plane chapter, section 12.
type heartbeatOptions struct {
	common     ctrlflags.Common
	kube       kube.Config
	prometheus string
	namespace  string
	url        string
}

func (o *heartbeatOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("heartbeat", flag.ContinueOnError)
	o.common.Register(fs)
	o.kube = kube.Config{Component: "heartbeat"}
	o.kube.Register(fs)
	fs.StringVar(&o.prometheus, "prometheus-url", "http://127.0.0.1:9090", "address of Prometheus")
	fs.StringVar(&o.url, "url", heartbeat.URL, "address that the heartbeat is sent to")
	fs.StringVar(&o.namespace, "controller-namespace", names.DefaultControlPlaneNamespace, "namespace of the control plane")
	return fs
}

// runHeartbeat sends one heartbeat and ends.
func runHeartbeat(ctx context.Context, c call) error {
	var options heartbeatOptions
	clients, logger, err := c.connect(options.flags(), &options.common, &options.kube)
	if err != nil {
		return err
	}
	client, err := promapi.NewClient(promapi.Config{Address: options.prometheus})
	if err != nil {
		return fmt.Errorf("making the Prometheus client for %s: %w", options.prometheus, err)
	}
	values := heartbeat.Collect(ctx, heartbeat.Sources{
		Clients: clients, Namespace: options.namespace, Prometheus: promv1.NewAPI(client),
	}, logger)
	if err := heartbeat.Send(ctx, http.DefaultClient, options.url, values); err != nil {
		return err
	}
	logger.Info("heartbeat sent", "values", values.Encode())
	return nil
}
