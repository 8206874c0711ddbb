// Command controller is cert-manager's controller: the control loops as
// released, under a main of ours that takes the flags of the chart. It has
// those loops that certificates of issuers of the kinds CA and SelfSigned need.
// It elects no leader: here is one of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	logsapi "k8s.io/component-base/logs/api/v1"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	"github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	"github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	"github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	"github.com/cert-manager/cert-manager/pkg/controller/issuers"
	// The issuers that the loops can work with register themselves.
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/logs"
)

// loops are the names under which the control loops are registered.
var loops = []string{
	issuers.ControllerName, clusterissuers.ControllerName,
	trigger.ControllerName, keymanager.ControllerName, requestmanager.ControllerName,
	issuing.ControllerName, readiness.ControllerName, revisionmanager.ControllerName,
	approver.ControllerName, ca.CRControllerName, selfsigned.CRControllerName,
}

// healthAddress is where the chart's probe asks.
const healthAddress = ":9403"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options := controller.ContextOptions{
		KubernetesAPIQPS: 20, KubernetesAPIBurst: 50,
		CertificateOptions: controller.CertificateOptions{
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	}
	flags := pflag.NewFlagSet("controller", pflag.ContinueOnError)
	flags.StringVar(&options.ClusterResourceNamespace, "cluster-resource-namespace", "kube-system", "where the Secrets of ClusterIssuers are")
	flags.String("leader-election-namespace", "", "is not used")
	flags.String("acme-http01-solver-image", "", "is not used")
	flags.Int("max-concurrent-challenges", 0, "is not used")
	logging := logsapi.NewLoggingConfiguration()
	logs.AddFlags(logging, flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	logs.InitLogs()
	defer logs.FlushLogs()
	if err := logs.ValidateAndApply(logging); err != nil {
		return fmt.Errorf("flags of logging: %w", err)
	}

	group, ctx := errgroup.WithContext(ctx)
	ctx = logs.NewContext(ctx, logs.FromContext(ctx, "controller"))
	factory, err := controller.NewContextFactory(ctx, options)
	if err != nil {
		return err
	}
	for _, name := range loops {
		loop, err := controller.Known()[name](factory)
		if err != nil {
			return fmt.Errorf("control loop %s: %w", name, err)
		}
		group.Go(func() error {
			if err := loop.Run(5, ctx); err != nil {
				return fmt.Errorf("control loop %s: %w", name, err)
			}
			return nil
		})
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())

	live := http.NewServeMux()
	live.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: healthAddress, Handler: live, ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}
