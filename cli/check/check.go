// Package check is the command linkerd check: it asks the cluster whether the
// mesh can be installed, is installed well, and works (CLI chapter, section 4).
//
// Each category has its own file and returns its checks as data. The checks
// share a state that earlier ones fill: a check may rely on what a fatal check
// before it has found.
package check

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/channel"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

type options struct {
	*command.Globals
	charts controlplane.Charts

	pre             bool
	crds            bool
	proxy           bool
	cniEnabled      bool
	namespace       string
	expectedVersion string
	clientVersion   string
	versionServer   string
	output          string
	wait            time.Duration
	// configOnly is `check config` of older releases: without the control plane.
	configOnly bool
	// multicluster is a flag of older releases: the extension is checked anyway.
	multicluster bool
}

// New returns the command.
func New(w *command.World, g *command.Globals, charts controlplane.Charts) *cobra.Command {
	o := &options{Globals: g, charts: charts}
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Args:  command.AtMostOne("config"),
		Short: "Check the Linkerd installation for potential problems",
		Long: `Check the Linkerd installation for potential problems.

The check command will perform a series of checks to validate that the linkerd
CLI and control plane are configured correctly. If the command encounters a
failure it will print additional information about the failure and exit with a
non-zero exit code.`,
		Example: `  # Check that the Linkerd control plane is up and running
  linkerd check

  # Check that the Linkerd control plane can be installed in the "test" namespace
  linkerd check --pre --linkerd-namespace test

  # Check that the Linkerd data plane proxies in the "app" namespace are up and running
  linkerd check --proxy --namespace app`,
		ValidArgs: []string{"config"},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.configOnly = len(args) == 1
			return run(cmd, w, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.pre, "pre", false, "Only run pre-installation checks, to determine if the control plane can be installed")
	f.BoolVar(&o.crds, "crds", false, "Only run checks which determine if the Linkerd CRDs have been installed")
	f.BoolVar(&o.proxy, "proxy", false, "Only run data-plane checks, to determine if the data plane is healthy")
	f.BoolVar(&o.cniEnabled, "linkerd-cni-enabled", false, "When running pre-installation checks (--pre), assume the linkerd-cni plugin is already installed, and a NET_ADMIN check is not needed")
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace to use for --proxy checks (default: all namespaces)")
	f.StringVar(&o.expectedVersion, "expected-version", "", "Overrides the version used when checking if Linkerd is running the latest version (mostly for testing)")
	f.StringVar(&o.versionServer, "version-server", "", "Address that is asked for the latest version, or \"none\" to ask nobody (default: the value versionCheckURL of the installation, else "+channel.Server+")")
	f.StringVar(&o.clientVersion, "cli-version-override", "", "Used to override the version of the cli (mostly for testing)")
	f.StringVarP(&o.output, "output", "o", health.FormatTable, "Output format. One of: table, json, short")
	f.DurationVar(&o.wait, "wait", 5*time.Minute, "Maximum allowed time for all tests to pass")
	f.BoolVar(&o.multicluster, "multicluster", false, "accepted: an installed extension is always checked")
	_ = f.MarkHidden("multicluster")
	return cmd
}

func (o *options) validate() error {
	switch {
	case o.pre && o.proxy:
		return errors.New("--pre and --proxy flags are mutually exclusive")
	case o.pre && o.crds:
		return errors.New("--pre and --crds flags are mutually exclusive")
	case o.cniEnabled && !o.pre:
		return errors.New("--linkerd-cni-enabled can only be used with --pre")
	}
	switch o.output {
	case "basic", "wide":
		// Names other commands have for the readable form.
		o.output = health.FormatTable
	case health.FormatTable, health.FormatJSON, health.FormatShort:
	default:
		return fmt.Errorf("Invalid output type '%s'. Supported output types are: json, table, short", o.output) //nolint:staticcheck // The text is what scripts know.
	}
	return nil
}

func run(cmd *cobra.Command, w *command.World, o *options) error {
	ctx := cmd.Context()
	if err := o.validate(); err != nil {
		return fmt.Errorf("Validation error when executing check command: %w", err) //nolint:staticcheck // Likewise.
	}
	s := &state{world: w, options: o, client: o.clientVersion}
	if s.client == "" {
		s.client = version.Current()
	}
	if o.pre {
		manifest, err := preManifest(w, o)
		if err != nil {
			return command.Failf("Error rendering install manifest: %s", err)
		}
		s.manifest = manifest
	}
	printer := health.NewPrinter(w.Out, o.output, w.Terminal)
	base := health.HintBase(s.client)
	outcome := health.Run(ctx, s.categories(), health.Options{HintBase: base, Wait: o.wait, Now: w.Now, After: w.After}, printer.Observe)
	if err := printer.EndRun(outcome); err != nil {
		return err
	}
	success := outcome.Success
	if !o.pre && !o.crds && !o.configOnly && s.cluster != nil {
		ok, err := runExtensions(ctx, w, o, s.cluster, cmd, printer, base)
		if err != nil {
			printer.Status(false)
			return command.Failf("Failed to run extensions checks: %s", err)
		}
		success = success && ok
	}
	printer.Status(success)
	if !success {
		return command.Silent()
	}
	return nil
}

// categories selects by the flags; the order is fixed (CLI chapter, section
// 4.2).
func (s *state) categories() []health.Category {
	o := s.options
	usual := !o.pre && !o.crds
	all := []struct {
		wanted   bool
		category func() health.Category
	}{
		{true, s.kubernetesAPI},
		{true, s.kubernetesVersion},
		{true, s.gatewayAPI},
		{o.pre, s.preInstall},
		{o.crds || o.configOnly, s.crds},
		{usual && !o.configOnly, s.existence},
		{usual && !o.configOnly, s.config},
		{usual && !o.configOnly || o.pre && o.cniEnabled, s.cni},
		{usual && !o.configOnly, s.identityCategory},
		{usual && !o.configOnly, s.webhooks},
		{usual && o.proxy, s.identityDataPlane},
		{true, s.versions},
		{usual && !o.proxy && !o.configOnly, s.controlPlaneVersion},
		{usual && !o.configOnly, s.controlPlaneProxies},
		{usual && o.proxy, s.dataPlane},
		{usual && !o.configOnly, s.highAvailability},
		{usual && !o.proxy && !o.configOnly, s.extensions},
	}
	var out []health.Category
	for _, c := range all {
		if c.wanted {
			out = append(out, c.category())
		}
	}
	return out
}

// missing is the error of objects that should exist; nil for none.
func missing(kind string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("missing %ss: %s", kind, strings.Join(names, ", "))
}

// bullets is a heading with one line per item.
func bullets(heading string, items []string) error {
	if len(items) == 0 {
		return nil
	}
	return errors.New(heading + command.Lines(items))
}
