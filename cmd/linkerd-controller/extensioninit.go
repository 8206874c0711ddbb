package main

import (
	"context"
	"flag"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/extensioninit"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// extensionInitOptions are the flags of the extension-init command. Sources: extensions chapter, section 1; CLI chapter,
// section 10.5.
type extensionInitOptions struct {
	common    ctrlflags.Common
	kube      kube.Config
	extension extensioninit.Options
}

func (o *extensionInitOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("extension-init", flag.ContinueOnError)
	o.common.Register(fs)
	o.kube = kube.Config{Component: "extension-init"}
	o.kube.Register(fs)
	fs.StringVar(&o.extension.Extension, "extension", "", "name of the extension")
	fs.StringVar(&o.extension.Namespace, "namespace", "", "namespace of the extension")
	fs.StringVar(&o.extension.Linkerd, "linkerd-namespace", names.DefaultControlPlaneNamespace, "namespace of the control plane")
	fs.StringVar(&o.extension.PrometheusURL, "prometheus-url", "", "address of a Prometheus that is not the extension's own")
	return fs
}

// runExtensionInit labels the namespace of an extension and ends.
func runExtensionInit(ctx context.Context, c call) error {
	var options extensionInitOptions
	logger, err := c.parse(options.flags(), &options.common)
	if err != nil {
		return err
	}
	if err := options.extension.Validate(); err != nil {
		return err
	}
	clients, err := kube.Connect(options.kube)
	if err != nil {
		return err
	}
	if err := extensioninit.Apply(ctx, clients.Kube, options.extension); err != nil {
		return err
	}
	logger.Info("namespace labelled", "namespace", options.extension.Namespace, "extension", options.extension.Extension)
	return nil
}
