package smi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/check"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// order of the templates in the manifest: what others need comes first.
var order = []string{"namespace", "traffic-split", "adaptor-rbac", "adaptor"}

type installOptions struct {
	*command.Globals
	chart      func() (controlplane.Chart, error)
	skipChecks bool
	wait       time.Duration
	output     string
	values     chartvalues.Options
}

func newInstall(w *command.World, g *command.Globals, chart func() (controlplane.Chart, error)) *cobra.Command {
	o := &installOptions{Globals: g, chart: chart}
	cmd := &cobra.Command{
		Use:   "install [flags]",
		Args:  cobra.NoArgs,
		Short: "Output Kubernetes resources to install linkerd-smi extension",
		Long:  `Output Kubernetes resources to install linkerd-smi extension.`,
		Example: `  # Default install.
  linkerd smi install | kubectl apply -f -

The installation can be configured by using the --set, --values, --set-string and --set-file flags.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), w) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.skipChecks, "skip-checks", false, "Skip checks for linkerd core control-plane existence")
	f.DurationVar(&o.wait, "wait", 5*time.Minute, "Wait for core control-plane components to be available")
	f.StringVarP(&o.output, "output", "o", "yaml", "Output format. One of: json|yaml")
	o.values.Register(f)
	return cmd
}

func (o *installOptions) run(ctx context.Context, w *command.World) error {
	if !command.OneOf(o.output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	chart, err := o.chart()
	if err != nil {
		return err
	}
	values, err := chart.Defaults()
	if err != nil {
		return err
	}
	values["linkerdNamespace"] = o.Namespace
	if !o.skipChecks {
		core, err := check.FindCore(ctx, w, o.Globals, o.wait)
		if err != nil {
			return err
		}
		// What the installation of the mesh says holds for its extensions, too.
		values["cniEnabled"] = valuetree.Bool(core.Values, "cniEnabled")
		if domain := valuetree.String(core.Values, "clusterDomain"); domain != "" {
			values["clusterDomain"] = domain
		}
	}
	if registry := strings.TrimSuffix(w.Getenv(command.RegistryEnv), "/"); registry != "" {
		valuetree.Set(values, "adaptor.image.registry", registry)
		valuetree.Set(values, "namespaceMetadata.image.registry", registry)
	}
	given, err := o.values.Read(w.Read)
	if err != nil {
		return err
	}
	values = valuetree.Merge(values, given)
	values["cliVersion"] = controlplane.ClientVersion()
	manifest, err := chart.Render(namespace, values, order...)
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, manifest, o.output)
}
