package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/api/names"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/control/destination/clusters"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/control/destination/serve"
	"github.com/linkerd-go/linkerd-go/control/externalworkload"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/ctrltrace"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

// destinationOptions are the flags of the destination command. Source: control plane chapter, section 10; proxy API
// chapter, section 3.1.
type destinationOptions struct {
	common         ctrlflags.Common
	kube           kube.Config
	addr           string
	metricsAddr    string
	config         core.Config
	transportMode  string
	endpointSlices bool
	opaquePorts    string
	http2          string
	queueCapacity  int
	// hostname is the name of this process in leases: the pod's name. It is no flag: Kubernetes puts it in the environment.
	hostname string
	// registry is not a flag: tests have one each.
	registry prometheus.Registerer
}

func (o *destinationOptions) flags() *flag.FlagSet {
	fs := flag.NewFlagSet("destination", flag.ContinueOnError)
	o.common.Register(fs)
	o.hostname = os.Getenv(names.EnvHostname)
	o.registry = prometheus.DefaultRegisterer
	// Watches are few and long; the limits are for the time of startup.
	o.kube = kube.Config{QPS: 100, Burst: 200, Component: "destination"}
	o.kube.Register(fs)
	o.kube.RegisterRate(fs)
	fs.StringVar(&o.addr, "addr", ":8086", "address to serve gRPC on")
	fs.StringVar(&o.metricsAddr, "metrics-addr", ":9996", "address of the admin server")
	fs.StringVar(&o.config.ControllerNamespace, "controller-namespace", names.DefaultControlPlaneNamespace, "namespace of the control plane")
	fs.StringVar(&o.transportMode, "outbound-transport-mode", "transparent", "how proxies reach each other: transparent or transport-header")
	fs.BoolVar(&o.config.H2Upgrade, "enable-h2-upgrade", true, "carry HTTP/1 over HTTP/2 between proxies")
	fs.BoolVar(&o.endpointSlices, "enable-endpoint-slices", true, "watch EndpointSlices instead of Endpoints")
	fs.BoolVar(&o.config.IPv6, "enable-ipv6", true, "let clients use IPv6 addresses")
	fs.Func("identity-peer-namespaces", "namespaces of other control planes with the same trust anchors and trust domain, separated by commas", func(list string) error {
		o.config.Peers = strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
		return nil
	})
	fs.StringVar(&o.config.TrustDomain, "identity-trust-domain", "", "DNS name below which all identities are")
	fs.StringVar(&o.config.ClusterDomain, "cluster-domain", "", "end of the names of Services")
	fs.StringVar(&o.opaquePorts, "default-opaque-ports", "", "ports that are opaque where no annotation says which are")
	fs.StringVar(&o.http2, "meshed-http2-client-params", "", "HTTP/2 parameters of connections to meshed endpoints, as JSON")
	fs.IntVar(&o.queueCapacity, "stream-queue-capacity", 100, "changes that a stream may be behind before it is closed")
	fs.BoolVar(&o.config.ZoneWeights, "ext-endpoint-zone-weights", false, "give endpoints in the client's zone a higher weight")
	fs.Bool("export-queue-metrics", true, "accepted and without effect: streams have no queues")
	return fs
}

// validate checks the flags against each other and fills in what depends on them. It returns the HTTP/2 parameters.
func (o *destinationOptions) validate(logger *slog.Logger) (*destinationpb.Http2ClientParams, error) {
	if o.config.IPv6 && !o.endpointSlices {
		return nil, errors.New("-enable-ipv6 needs -enable-endpoint-slices: Endpoints have one address family")
	}
	if o.queueCapacity <= 0 {
		return nil, fmt.Errorf("-stream-queue-capacity is %d and must be greater than 0", o.queueCapacity)
	}
	for flag, value := range map[string]*string{"identity-trust-domain": &o.config.TrustDomain, "cluster-domain": &o.config.ClusterDomain} {
		if *value == "" {
			*value = names.DefaultClusterDomain
			logger.Warn("flag not set; using the default", "flag", flag, "default", *value)
		}
	}
	switch o.transportMode {
	case "transport-header":
		o.config.TransportHeader = true
	case "transparent":
	default:
		logger.Error("unknown transport mode; using transparent", "flag", "outbound-transport-mode", "value", o.transportMode)
	}
	var errs []error
	if o.config.DefaultOpaque, errs = portlist.Parse(o.opaquePorts, nil); len(errs) > 0 {
		logger.Warn("part of a port list ignored", "flag", "default-opaque-ports", "error", errors.Join(errs...))
	}
	if o.http2 == "" {
		return nil, nil
	}
	// The field names are those of the protocol buffers, and durations are objects of seconds and nanos: the plain JSON
	// form of the generated struct, not the JSON mapping of protocol buffers.
	params := new(destinationpb.Http2ClientParams)
	if err := json.Unmarshal([]byte(o.http2), params); err != nil {
		return nil, fmt.Errorf("-meshed-http2-client-params: %w", err)
	}
	return params, nil
}

func runDestination(ctx context.Context, c call) error {
	var options destinationOptions
	clients, logger, err := c.connect(options.flags(), &options.common, &options.kube)
	if err != nil {
		return err
	}
	return options.run(ctx, clients, logger)
}

// watched is what the controller cannot do without.
func (o *destinationOptions) watched() []schema.GroupVersionResource {
	all := []schema.GroupVersionResource{
		{Version: "v1", Resource: "pods"},
		{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"},
		{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"},
		{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"},
	}
	if o.endpointSlices {
		all = append(all, schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"})
	}
	return all
}

// run serves until ctx is done. Its order: sockets are bound first, so that a bad address is found at once; calls are
// answered only after everything is known, so that no client is told that nothing exists; at the end streams are closed
// before the server waits for them.
func (o *destinationOptions) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	http2, err := o.validate(logger)
	if err != nil {
		return err
	}
	if o.endpointSlices && o.hostname == "" {
		return fmt.Errorf("%s is not set: it names this process in leases", names.EnvHostname)
	}
	lis, err := listen(o.addr)
	if err != nil {
		return err
	}
	defer lis.Close()
	stopTrace, err := ctrltrace.Start("linkerd-destination", o.common.TraceCollector)
	if err != nil {
		return err
	}
	defer stopTrace()
	p, up, err := start(ctx, admin.Options{Addr: o.metricsAddr, Pprof: o.common.Pprof})
	if err != nil {
		return err
	}
	if err := kube.Persist(p.ctx, logger, func(ctx context.Context) error { return kube.CheckList(ctx, clients.Kube, o.watched()...) }); err != nil {
		return p.fail(err)
	}

	local := index.New(index.Options{
		Config:   o.config,
		Capacity: o.queueCapacity,
		Resolver: net.DefaultResolver,
		Metrics:  index.NewMetrics(o.registry, index.LocalCluster),
		Logger:   logger,
	})
	linked := clusters.New(clusters.Options{
		Namespace:      o.config.ControllerNamespace,
		Config:         o.config,
		Capacity:       o.queueCapacity,
		EndpointSlices: o.endpointSlices,
		Connect: func(kubeconfig []byte) (*kube.Clients, error) {
			return kube.ConnectKubeconfig(kubeconfig, kube.Config{QPS: o.kube.QPS, Burst: o.kube.Burst, Component: "remote"})
		},
		Registerer: o.registry,
		Logger:     logger,
	})
	if err := o.registry.Register(linked.Collector()); err != nil {
		return p.fail(err)
	}
	watches := append(local.Watches(index.Source{Clients: clients, EndpointSlices: o.endpointSlices}), linked.Watch(clients))
	var external *externalworkload.Controller
	if o.endpointSlices {
		external = externalworkload.New(externalworkload.Options{
			Clients:   clients,
			Namespace: o.config.ControllerNamespace,
			Identity:  o.hostname,
			Metrics:   reconcile.NewMetrics(o.registry),
			Logger:    logger,
		})
		watches = append(watches, external.Watches()...)
	}
	group := kube.NewGroup(logger, watches...)
	p.feed(local.Run)
	p.feed(linked.Run)
	p.feed(group.Run)
	if err := group.WaitSynced(p.ctx, kube.SyncTimeout); err != nil {
		return p.fail(err)
	}

	service := serve.New(serve.Options{
		Index:         local,
		Clusters:      linked,
		ClusterDomain: o.config.ClusterDomain,
		HTTP2:         http2,
		Metrics:       serve.NewMetrics(o.registry),
		Logger:        logger,
	})
	if external != nil {
		p.Go(func() error { return external.Run(p.ctx) })
	}
	server := grpcserve.New(ctrltrace.ServerOptions(o.common.TraceCollector)...)
	destinationpb.RegisterDestinationServer(server.Registrar(), service)
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
