// Package smi is the command linkerd smi: it installs, removes and checks the
// adaptor for traffic splits (CLI chapter, section 8.2).
package smi

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// namespace is where the extension is installed.
const namespace = "linkerd-smi"

// selector finds what belongs to the extension.
const selector = names.LabelExtension + "=" + names.ExtensionSMI

// New returns the command. chart loads the chart linkerd-smi.
func New(w *command.World, g *command.Globals, chart func() (controlplane.Chart, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:  "smi",
		Args: cobra.NoArgs,
		// What cannot be run prints its help, whatever subcommand was meant.
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Short: "smi manages the SMI extension of Linkerd service mesh",
		Long: `smi manages the SMI extension of Linkerd service mesh.

The extension makes TrafficSplits of the Service Mesh Interface work: it writes
their shares into ServiceProfiles.`,
	}
	cmd.AddCommand(newInstall(w, g, chart), newUninstall(w, g), newCheck(w, g), newVersion(w, g))
	return cmd
}

// find returns the namespace of the extension; nil when there is none.
func find(ctx context.Context, c *cluster.Cluster) (*corev1.Namespace, error) {
	list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil || len(list.Items) == 0 {
		return nil, err
	}
	return &list.Items[0], nil
}

func newUninstall(w *command.World, g *command.Globals) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "uninstall",
		Args:  cobra.NoArgs,
		Short: "Output Kubernetes resources to uninstall the Linkerd-SMI extension",
		Long: `Output Kubernetes resources to uninstall the Linkerd-SMI extension.

This command provides all Kubernetes namespace-scoped and cluster-scoped
resources (e.g services, deployments, RBACs, etc.) necessary to uninstall the
Linkerd-SMI extension. TrafficSplits go with their definition; the shares that
they have in ServiceProfiles stay, unless the TrafficSplits are deleted before.`,
		Example: ` linkerd smi uninstall | kubectl delete -f -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return uninstall(cmd.Context(), w, g, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "yaml", "Output format. One of: json|yaml")
	return cmd
}

func uninstall(ctx context.Context, w *command.World, g *command.Globals, output string) error {
	if !command.OneOf(output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", output)
	}
	c, err := g.Connect(w)
	if err != nil {
		return err
	}
	found, err := controlplane.Find(ctx, c, controlplane.ClusterKinds, selector)
	if err != nil {
		return &command.Failure{Message: err.Error()}
	}
	if len(found) == 0 {
		return command.Failf("No resources found to uninstall")
	}
	manifest, err := controlplane.Documents(found)
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, manifest, output)
}
