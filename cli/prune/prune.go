// Package prune is the command linkerd prune: it prints objects of the control
// plane that the current version no longer has (CLI chapter, section 2.9).
package prune

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// New returns the command.
func New(w *command.World, g *command.Globals, charts controlplane.Charts) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Args:  cobra.NoArgs,
		Short: "Output extraneous Kubernetes resources in the linkerd control plane",
		Long:  `Output extraneous Kubernetes resources in the linkerd control plane.`,
		Example: `  # Prune extraneous resources.
  linkerd prune | kubectl delete -f -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), w, g, charts, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "Output format. One of: json|yaml")
	return cmd
}

func run(ctx context.Context, w *command.World, g *command.Globals, charts controlplane.Charts, output string) error {
	if !command.OneOf(output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", output)
	}
	c, err := g.Connect(w)
	if err != nil {
		return err
	}
	values, err := controlplane.Stored(ctx, charts, c, g.Namespace)
	if errors.Is(err, controlplane.ErrNoOverrides) {
		return command.Failf("%s\nNote this command is only for installations performed with the Linkerd CLI.", err)
	}
	if err != nil {
		return fmt.Errorf("failed to load stored values: %w", err)
	}
	if err := controlplane.Validate(ctx, c.Kube, g.Namespace, values, w.Now()); err != nil {
		return err
	}
	manifest, err := controlplane.Render(charts, g.Namespace, values)
	if err != nil {
		return err
	}
	crdValues, err := controlplane.CRDValues(ctx, charts, c, nil)
	if err != nil {
		return err
	}
	crds, err := controlplane.RenderCRDs(charts, g.Namespace, crdValues)
	if err != nil {
		return err
	}
	rendered, err := controlplane.Objects(append(append(manifest, "\n---\n"...), crds...))
	if err != nil {
		return err
	}
	found, err := controlplane.Find(ctx, c, controlplane.AllKinds, controlplane.ControlPlaneNS)
	if err != nil {
		return err
	}
	documents, err := controlplane.Documents(controlplane.Without(found, rendered))
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, documents, output)
}
