package main

import (
	"context"
	"crypto/fips140"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/calm"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/ready"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// errVersionPrinted ends a command whose only task was to print the version.
var errVersionPrinted = flag.ErrHelp

// call is how a command was called.
type call struct {
	// args do not include the command's name.
	args           []string
	stdout, stderr io.Writer
}

// parse parses a command's flags and returns its logger. Errors of the arguments have been printed when it returns.
func (c call) parse(fs *flag.FlagSet, common *ctrlflags.Common) (*slog.Logger, error) {
	fs.SetOutput(c.stderr)
	if err := fs.Parse(c.args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if common.Version {
		fmt.Fprintln(c.stdout, version.Version)
		return nil, errVersionPrinted
	}
	logger, err := common.Logger(c.stderr)
	if err != nil {
		return nil, err
	}
	slog.SetDefault(logger)
	kube.SetLogger(logger)
	logger.Info("starting", "command", fs.Name(), "version", version.Version, "fips140", fips140.Enabled())
	return logger, nil
}

// connect is parse for a command that talks to the API server.
func (c call) connect(fs *flag.FlagSet, common *ctrlflags.Common, config *kube.Config) (*kube.Clients, *slog.Logger, error) {
	logger, err := c.parse(fs, common)
	if err != nil {
		return nil, nil, err
	}
	clients, err := kube.Connect(*config)
	return clients, logger, err
}

// process runs the parts of a command side by side: each part gets a context that ends when the command shall stop, be it
// by a signal or because a part failed, and wait returns when all have ended.
type process struct {
	*errgroup.Group
	// ctx ends when the command shall stop.
	ctx context.Context
	// gate is what the admin server's /ready shows.
	gate *ready.Gate
	// feeding ends when fed is called.
	feeding context.Context
	fed     context.CancelFunc
}

// feed runs a part that streams are fed from. It outlives the process's context: the streams of a process that stops end over some
// seconds, and until then their clients have to hear of changes. Who serves the streams calls fed when they have ended.
func (p *process) feed(run func(context.Context)) {
	p.Go(func() error { run(p.feeding); return nil })
}

// start begins a process: the admin server is bound and answers at once, so that the kubelet sees a live process while the
// rest comes up. The process is ready when the returned function has been called.
func start(ctx context.Context, options admin.Options) (*process, func(), error) {
	group, ctx := errgroup.WithContext(ctx)
	p := &process{Group: group, ctx: ctx, gate: new(ready.Gate)}
	p.feeding, p.fed = context.WithCancel(context.WithoutCancel(ctx))
	release := p.gate.Hold("startup")
	options.Ready = p.gate
	server := admin.New(options)
	lis, err := server.Listen()
	if err != nil {
		return nil, nil, err
	}
	p.Go(func() error { return server.Serve(ctx, lis) })
	calm.Limit()
	p.Go(func() error { calm.Run(ctx); return nil })
	return p, release, nil
}

// fail stops the process because of an error at startup and waits until its parts have ended. One that is told to stop while
// it starts has not failed.
func (p *process) fail(err error) error {
	p.fed()
	if errors.Is(err, context.Canceled) && p.ctx.Err() != nil {
		return p.Wait()
	}
	p.Go(func() error { return err })
	return p.Wait()
}

// podName is the process's name among the replicas that want a lease: that of the pod.
func podName() (string, error) {
	if name := os.Getenv(names.EnvHostname); name != "" {
		return name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("finding the name of this process for the lease: %w", err)
	}
	return name, nil
}

// recorder returns what writes the events of a component, until the returned function is called.
func recorder(clients *kube.Clients, component string) (record.EventRecorder, func()) {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clients.Kube.CoreV1().Events("")})
	return broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component}), broadcaster.Shutdown
}

// listen binds a TCP address. Who serves closes the listener too; its owner does so again however the command ends.
func listen(addr string) (net.Listener, error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return lis, nil
}
