package cni

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/linkerd-go/linkerd-go/redirect/cmdlog"
	"github.com/linkerd-go/linkerd-go/redirect/install"
)

// Run serves the call that the CNI_ variables of the process's environment and
// its standard input describe, and returns the exit code. The protocol fixes
// where things come from and go to, so only the log's place is free.
func Run(ctx context.Context, stdout, stderr io.Writer) int {
	p := plugin{stdout: stdout, stderr: stderr, setup: install.Run, check: install.Check}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add:   func(args *skel.CmdArgs) error { return p.add(ctx, args) },
		Check: func(args *skel.CmdArgs) error { return p.checkPod(ctx, args) },
		Del:   func(args *skel.CmdArgs) error { return p.del(args) },
		// There is nothing to collect, and an unready API is told by ADD.
		GC:     func(*skel.CmdArgs) error { return nil },
		Status: func(*skel.CmdArgs) error { return nil },
	}, version.All, "CNI plugin "+Type+" redirects a pod's traffic to its Linkerd proxy")
	if err != nil {
		if printErr := err.Print(); printErr != nil {
			fmt.Fprintln(stderr, "cannot tell the container runtime about the error:", printErr)
		}
		return 1
	}
	return 0
}

// A plugin serves calls.
type plugin struct {
	stdout, stderr io.Writer
	setup          func(context.Context, install.Config, *slog.Logger) error
	check          func(context.Context, install.Config) error
}

// log makes the logger that a configuration asks for.
func (p *plugin) log(c *Config, args *skel.CmdArgs) *slog.Logger {
	level := slog.LevelWarn
	switch c.LogLevel {
	case "debug":
		level = slog.LevelDebug
	case "info":
		level = slog.LevelInfo
	}
	log, err := cmdlog.New(p.stderr, "plain", level)
	if err != nil {
		// The format above is known.
		panic(err)
	}
	return log.With("plugin", Type, "container", args.ContainerID)
}

// add sets up a pod that is being made.
func (p *plugin) add(ctx context.Context, args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		return err
	}
	log := p.log(c, args)
	cfg, err := p.forPod(ctx, c, args, log)
	if err != nil {
		log.Error("cannot set up the pod", "error", err)
		return err
	}
	if cfg != nil {
		if err := p.setup(ctx, *cfg, log); err != nil {
			log.Error("cannot set up the pod", "error", err)
			return err
		}
	}
	result, err := c.result().GetAsVersion(c.CNIVersion)
	if err != nil {
		return fmt.Errorf("convert the result to CNI version %s: %w", c.CNIVersion, err)
	}
	return result.PrintTo(p.stdout)
}

// forPod returns what is to be set up for the pod that a call is about, or nil
// if it is none of ours.
func (p *plugin) forPod(ctx context.Context, c *Config, args *skel.CmdArgs, log *slog.Logger) (*install.Config, error) {
	ref, ok := parseArgs(args.Args)
	if !ok {
		log.Debug("skipped: the call is not about a Kubernetes pod")
		return nil, nil
	}
	log = log.With("namespace", ref.namespace, "pod", ref.name)
	api, err := newKube(c.Kubernetes)
	if err != nil {
		return nil, err
	}
	pod, err := api.pod(ctx, ref)
	if err != nil {
		return nil, err
	}
	if reason := skipReason(pod); reason != "" {
		log.Debug("skipped: " + reason)
		return nil, nil
	}
	ns, err := api.namespace(ctx, ref.namespace)
	if err != nil {
		return nil, err
	}
	var extra []string
	if isControlPlane(pod) {
		svc, err := api.service(ctx, "default", "kubernetes")
		if err != nil {
			log.Warn("cannot find out the ports of the Kubernetes API, assuming the usual ones", "error", err)
			svc = nil
		}
		extra = apiPorts(svc)
	}
	cfg, err := decide(c, pod, ns, extra)
	if err != nil {
		return nil, err
	}
	cfg.Netns = args.Netns
	log.Info("redirecting the pod's traffic", "netns", cfg.Netns, "mode", cfg.Mode)
	return &cfg, nil
}

// checkPod fails if a pod that add has set up has lost its rules.
func (p *plugin) checkPod(ctx context.Context, args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		return err
	}
	log := p.log(c, args)
	cfg, err := p.forPod(ctx, c, args, log)
	if err != nil || cfg == nil || cfg.Simulate {
		return err
	}
	return p.check(ctx, *cfg)
}

// del has nothing to do: the rules end with the namespace they are in.
func (p *plugin) del(args *skel.CmdArgs) error {
	c, err := ParseConfig(args.StdinData)
	if err != nil {
		// A pod must be removable whatever has become of the configuration.
		return nil
	}
	p.log(c, args).Debug("nothing to do for DEL")
	return nil
}
