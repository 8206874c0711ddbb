// Package uninstall is the command linkerd uninstall: it prints what to delete
// to remove the control plane (CLI chapter, section 2.10).
package uninstall

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

const extensionLabel = "linkerd.io/extension"

type options struct {
	*command.Globals
	force  bool
	output string
}

// New returns the command.
func New(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Output Kubernetes resources to uninstall Linkerd control plane",
		Long: `Output Kubernetes resources to uninstall Linkerd control plane.

This command provides all Kubernetes namespace-scoped and cluster-scoped resources (e.g services, deployments, RBACs, etc.) necessary to uninstall Linkerd control plane.`,
		Example: ` linkerd uninstall | kubectl delete -f -`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), w, o) },
	}
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Force uninstall even if there exist non-control-plane injected pods")
	cmd.Flags().StringVarP(&o.output, "output", "o", "yaml", "Output format. One of: json|yaml")
	return cmd
}

func run(ctx context.Context, w *command.World, o *options) error {
	if !command.OneOf(o.output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	if !o.force {
		refused, err := refuse(ctx, w, c, o.Namespace)
		if err != nil {
			return err
		}
		if refused {
			return command.Silent()
		}
	}
	found, err := controlplane.Find(ctx, c, controlplane.ClusterKinds, controlplane.ControlPlaneNS)
	if err != nil {
		return &command.Failure{Message: err.Error()}
	}
	if len(found) == 0 {
		fmt.Fprintln(w.Err, "No resources found to uninstall")
		return nil
	}
	manifest, err := controlplane.Documents(found)
	if err != nil {
		return err
	}
	return chartvalues.WriteManifest(w.Out, manifest, o.output)
}

// refuse reports extensions and meshed pods that would be left without their
// control plane.
func refuse(ctx context.Context, w *command.World, c *cluster.Cluster, namespace string) (bool, error) {
	refused := false
	namespaces, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: extensionLabel})
	if err != nil {
		return false, fmt.Errorf("failed to list namespaces: %w", err)
	}
	ofExtension := map[string]bool{}
	if len(namespaces.Items) > 0 {
		refused = true
		fmt.Fprintln(w.Err, "Please uninstall the following extensions before uninstalling the control-plane:")
		for _, ns := range namespaces.Items {
			ofExtension[ns.Name] = true
			fmt.Fprintf(w.Err, "\t* %s\n", ns.Labels[extensionLabel])
		}
	}
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: controlplane.ControlPlaneNS})
	if err != nil {
		return false, fmt.Errorf("failed to list pods: %w", err)
	}
	first := true
	for _, p := range pods.Items {
		if p.Namespace == namespace || ofExtension[p.Namespace] {
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			// Of a Job that is done: no proxy runs there that could miss the control plane.
			continue
		}
		if first {
			fmt.Fprintln(w.Err, "Please uninject the following pods before uninstalling the control-plane:")
			first, refused = false, true
		}
		fmt.Fprintf(w.Err, "\t* %s/%s\n", p.Namespace, p.Name)
	}
	return refused, nil
}
