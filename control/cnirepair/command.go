package cnirepair

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/ctrlflags"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/ready"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

const (
	// envPrefix is what the names of the environment's variables begin with.
	envPrefix = "LINKERD_CNI_REPAIR_CONTROLLER_"
	// logTarget is the name of this program in log filters.
	logTarget = "linkerd_cni_repair_controller"
)

// command is what the command line and the environment say.
type command struct {
	common    ctrlflags.Common
	kube      kube.Config
	adminAddr string
	node      string
	podName   string
}

func (c *command) flags(env []string) *flag.FlagSet {
	get := func(name string) string {
		for _, v := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(v, envPrefix+name+"="); ok {
				return value
			}
		}
		return ""
	}
	fs := flag.NewFlagSet(Name, flag.ContinueOnError)
	c.common.Register(fs)
	c.kube = kube.Config{Component: "cni-repair"}
	c.kube.Register(fs)
	fs.StringVar(&c.adminAddr, "admin-addr", ":9990", "address of the admin server")
	fs.StringVar(&c.node, "node-name", get("NODE_NAME"), "node whose pods are repaired")
	fs.StringVar(&c.podName, "controller-pod-name", get("POD_NAME"), "name of the controller's own pod")

	level := ownLevel{&c.common.LogLevel}
	_ = level.Set(logTarget + "=info,warn")
	if v := get("LOG_LEVEL"); v != "" {
		_ = level.Set(v)
	}
	fs.Lookup("log-level").Value = level
	if v := get("LOG_FORMAT"); v != "" {
		c.common.LogFormat = v
	}
	return fs
}

// ownLevel is the flag for a log filter of which only the directive for this program counts, if there is one.
type ownLevel struct{ level *string }

func (o ownLevel) String() string {
	if o.level == nil {
		return ""
	}
	return *o.level
}

// Set reads a filter. Whether its levels exist is found out when the logger is made.
func (o ownLevel) Set(filter string) error {
	*o.level = filter
	for directive := range strings.SplitSeq(filter, ",") {
		if level, ok := strings.CutPrefix(strings.TrimSpace(directive), logTarget+"="); ok {
			*o.level = level
		}
	}
	return nil
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Run executes the command linkerd-cni-repair-controller with the arguments after its name until ctx is done, and returns
// its exit code. The log goes to stderr. It is called once per process, since it makes its logger the process's own.
func Run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	var c command
	fs := c.flags(env)
	fs.SetOutput(stderr)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	}
	if c.common.Version {
		fmt.Fprintln(stdout, version.Version)
		return exitOK
	}
	logger, err := c.common.Logger(stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", Name, err)
		return exitUsage
	}
	slog.SetDefault(logger)
	kube.SetLogger(logger)
	clients, err := kube.Connect(c.kube)
	if err == nil {
		err = c.run(ctx, clients, logger)
	}
	if err != nil {
		logger.Error("the repair controller ends", "error", err)
		return exitFailed
	}
	return exitOK
}

// run repairs until ctx is done. The admin server comes up first, so that the kubelet sees a live process while the rest
// comes up.
func (c *command) run(ctx context.Context, clients *kube.Clients, logger *slog.Logger) error {
	if c.node == "" {
		return errors.New("-node-name must be set")
	}
	if c.podName == "" {
		return errors.New("-controller-pod-name must be set")
	}
	repairer, err := New(Options{
		Client: clients.Kube, Node: c.node, PodName: c.podName,
		Registerer: prometheus.DefaultRegisterer, Logger: logger,
	})
	if err != nil {
		return err
	}
	gate := new(ready.Gate)
	synced := gate.Hold("pods")
	server := admin.New(admin.Options{Addr: c.adminAddr, Ready: gate, Pprof: c.common.Pprof})
	lis, err := server.Listen()
	if err != nil {
		return err
	}
	logger.Info("starting", "version", version.Version, "node", c.node, "admin", lis.Addr().String())
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return server.Serve(ctx, lis) })
	watches := kube.NewGroup(logger, repairer.Watch())
	running.Go(func() error { watches.Run(ctx); return nil })
	running.Go(func() error { repairer.Run(ctx); return nil })
	running.Go(func() error {
		err := watches.WaitSynced(ctx, kube.SyncTimeout)
		if ctx.Err() != nil {
			return nil
		}
		synced()
		return err
	})
	return running.Wait()
}
