package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/resource"
	"github.com/linkerd-go/linkerd-go/control/policy/serve"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/control/policyvalidator"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
	"github.com/linkerd-go/linkerd-go/internal/webhook"
)

// policyOptions are the flags of the policy command. Source: control plane chapter, section 7.1; proxy API chapter, section
// 5.1.
type policyOptions struct {
	common       ctrlflags.Common
	kube         kube.Config
	adminAddr    string
	grpcAddr     string
	serverAddr   string
	certFile     string
	keyFile      string
	noAdmission  bool
	config       core.Config
	networks     networkList
	probes       networkList
	opaquePorts  string
	deployment   string
	patchTimeout int
	// registry is not a flag: tests have one each.
	registry prometheus.Registerer
}

// networkList is a flag of networks, separated by commas.
type networkList []netip.Prefix

// String implements flag.Value.
func (l *networkList) String() string {
	texts := make([]string, len(*l))
	for i, prefix := range *l {
		texts[i] = prefix.String()
	}
	return strings.Join(texts, ",")
}

// Set implements flag.Value.
func (l *networkList) Set(text string) error {
	var list networkList
	for element := range strings.SplitSeq(text, ",") {
		if element = strings.TrimSpace(element); element == "" {
			continue
		}
		prefix, err := resource.ParseNetwork(element)
		if err != nil {
			return err
		}
		list = append(list, prefix)
	}
	*l = list
	return nil
}

// logLevelVariable has the log level for those who cannot change the arguments.
const logLevelVariable = "LINKERD_POLICY_CONTROLLER_LOG"

func (o *policyOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("policy", flag.ContinueOnError)
	o.common.Register(fs)
	if level := os.Getenv(logLevelVariable); level != "" {
		o.common.LogLevel = level
	}
	o.kube = kube.Config{QPS: 100, Burst: 200, Component: "policy"}
	o.kube.Register(fs)
	o.kube.RegisterRate(fs)
	o.registry = prometheus.DefaultRegisterer
	o.networks.Set("10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16")
	o.config.DefaultPolicy = core.AllUnauthenticated
	fs.StringVar(&o.adminAddr, "admin-addr", "0.0.0.0:8080", "address of the admin server")
	fs.StringVar(&o.grpcAddr, "grpc-addr", "0.0.0.0:8090", "address to serve gRPC on")
	fs.StringVar(&o.serverAddr, "server-addr", "0.0.0.0:443", "address to serve admission reviews on")
	fs.StringVar(&o.keyFile, "server-tls-key", filepath.Join(webhook.DefaultCertDir, "tls.key"), "key of the admission server")
	fs.StringVar(&o.certFile, "server-tls-certs", filepath.Join(webhook.DefaultCertDir, "tls.crt"), "certificate of the admission server")
	fs.BoolVar(&o.noAdmission, "admission-controller-disabled", false, "serve no admission reviews")
	fs.Var(&o.networks, "cluster-networks", "networks inside the cluster, separated by commas")
	fs.Var(&o.probes, "probe-networks", "networks that the kubelet's probes come from, separated by commas; none lets no probe in by itself")
	fs.StringVar(&o.config.TrustDomain, "identity-domain", names.DefaultClusterDomain, "DNS name below which all identities are")
	fs.StringVar(&o.config.ClusterDomain, "cluster-domain", names.DefaultClusterDomain, "end of the names of Services")
	fs.Var(&o.config.DefaultPolicy, "default-policy", "policy of ports that no Server selects")
	fs.StringVar(&o.deployment, "policy-deployment-name", names.DeploymentDestination, "Deployment that owns the lease")
	fs.StringVar(&o.config.ControllerNamespace, "control-plane-namespace", names.DefaultControlPlaneNamespace, "namespace of the control plane")
	fs.StringVar(&o.opaquePorts, "default-opaque-ports", "", "ports that are opaque where no annotation says which are")
	fs.IntVar(&o.patchTimeout, "patch-timeout-ms", 5000, "milliseconds that writing a status may take")
	fs.BoolVar(&o.config.AllowRequestHeaders, "allow-l5d-request-headers", false, "let clients set timeouts and retries by request headers")
	fs.StringVar(&o.config.GlobalEgressNamespace, "global-egress-network-namespace", "linkerd-egress", "namespace of the EgressNetworks for clients of all namespaces")
	return fs
}

// validate fills in what depends on other flags.
func (o *policyOptions) validate(logger *slog.Logger) {
	o.config.ClusterNetworks, o.config.ProbeNetworks = o.networks, o.probes
	var errs []error
	if o.config.DefaultOpaquePorts, errs = portlist.Parse(o.opaquePorts, nil); len(errs) > 0 {
		logger.Warn("part of a port list ignored", "flag", "default-opaque-ports", "error", errors.Join(errs...))
	}
}

func runPolicy(ctx context.Context, c call) error {
	var options policyOptions
	clients, logger, err := c.connect(options.flags(), &options.common, &options.kube)
	if err != nil {
		return err
	}
	return options.run(ctx, clients, logger)
}

// admission returns what serves admission reviews until the process stops, and what is to be done in the end.
func (o *policyOptions) admission(overlaps func(*core.Server) []string, logger *slog.Logger) (func(p *process), func(), error) {
	if o.noAdmission {
		return func(*process) {}, func() {}, nil
	}
	certificate, err := webhook.LoadCertificateFiles(o.certFile, o.keyFile)
	if err != nil {
		return nil, nil, err
	}
	validator := policyvalidator.New(policyvalidator.Options{Config: &o.config, Overlaps: overlaps, Logger: logger})
	server := webhook.New(webhook.Options{Addr: o.serverAddr, Certificate: certificate, Admit: validator.Admit, Linger: webhook.Linger, Logger: logger})
	lis, err := server.Listen()
	if err != nil {
		return nil, nil, err
	}
	ttl := certificate.TTL("policy-validator")
	if err := o.registry.Register(ttl); err != nil {
		lis.Close()
		return nil, nil, err
	}
	return func(p *process) {
		p.Go(func() error { certificate.Watch(p.ctx, logger); return nil })
		p.Go(func() error { return server.Serve(p.ctx, lis) })
		logger.Info("serving admission reviews", "addr", lis.Addr().String())
	}, func() { o.registry.Unregister(ttl); lis.Close() }, nil
}

// run serves until ctx is done. Its order: sockets are bound first, so that a bad address is found at once; admission
// reviews need nothing else and are answered from then on; gRPC calls only after everything is known, so that no proxy is
// told that nothing exists; at the end streams are closed before the server waits for them.
func (o *policyOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	o.validate(logger)
	lis, err := listen(o.grpcAddr)
	if err != nil {
		return err
	}
	defer lis.Close()
	// known is the index once it knows everything: what it says before would be wrong.
	var known atomic.Pointer[index.Index]
	admit, drop, err := o.admission(func(s *core.Server) (overlaps []string) {
		if x := known.Load(); x != nil {
			// If it has stopped, nothing is known of others.
			_ = x.View(ctx, func(v index.View) { overlaps = core.Overlaps(v, v.Workloads(s.Namespace), s) })
		}
		return overlaps
	}, logger)
	if err != nil {
		return err
	}
	defer drop()
	p, up, err := start(ctx, admin.Options{Addr: o.adminAddr, ReadyText: "ready", Pprof: o.common.Pprof})
	if err != nil {
		return err
	}
	admit(p)
	// A process that stops is not ready, so that no new work is sent to it.
	p.Go(func() error {
		<-p.ctx.Done()
		p.gate.Close()
		return nil
	})

	x := index.New(index.Options{Config: o.config, Metrics: index.NewMetrics(o.registry), Logger: logger})
	var watches []*kube.Watch
	var missing []*index.Missing
	if err := kube.Persist(p.ctx, logger, func(ctx context.Context) error {
		err := kube.CheckList(ctx, clients.Kube, x.Required()...)
		if err == nil {
			watches, missing, err = x.Watches(clients)
		}
		return err
	}); err != nil {
		return p.fail(err)
	}
	if err := o.registry.Register(x); err != nil {
		return p.fail(err)
	}
	defer o.registry.Unregister(x)
	group := kube.NewGroup(logger, watches...)
	p.feed(x.Run)
	p.feed(group.Run)
	p.feed(func(ctx context.Context) { x.WatchLater(ctx, clients, missing) })
	if err := group.WaitSynced(p.ctx, kube.SyncTimeout); err != nil {
		return p.fail(err)
	}

	known.Store(x)
	hostname, err := podName()
	if err != nil {
		return p.fail(err)
	}
	events, stopEvents := recorder(clients, names.FieldManagerPolicy)
	defer stopEvents()
	writer := status.NewWriter(status.Options{
		Source:     x,
		Kube:       clients.Kube,
		Dynamic:    clients.Dynamic,
		Namespace:  o.config.ControllerNamespace,
		Deployment: o.deployment,
		Identity:   hostname,
		Timeout:    time.Duration(o.patchTimeout) * time.Millisecond,
		Events:     events,
		Metrics:    status.NewMetrics(o.registry),
		Logger:     logger,
	})
	p.Go(func() error { return writer.Run(p.ctx) })

	service := serve.New(serve.Options{Index: x, ClusterDomain: o.config.ClusterDomain, Logger: logger})
	server := grpcserve.New()
	service.Register(server.Registrar())
	explain.New(x, &o.config).Register(server.Registrar())
	p.Go(func() error {
		err := server.Serve(p.ctx, lis)
		service.Stop()
		service.Wait()
		p.fed()
		return err
	})
	up()
	logger.Info("serving", "addr", lis.Addr().String())
	return p.Wait()
}
