// Package diagnostics is the command linkerd diagnostics: metrics of proxies
// and controllers, and the answers of the control plane for one destination
// (CLI chapter, sections 5.5 to 5.9).
//
// The commands read; they change nothing. Each has its own file.
package diagnostics

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
)

// New returns the command with its subcommands. Run without one it shows the
// controllers' metrics, as older releases do.
func New(w *command.World, g *command.Globals) *cobra.Command {
	metrics := newControllerMetrics(w, g)
	cmd := &cobra.Command{
		Use:     "diagnostics [flags]",
		Aliases: []string{"dg"},
		Args:    cobra.NoArgs,
		RunE:    metrics.RunE,
		Short:   "Commands used to diagnose Linkerd components",
		Long:    `Commands used to diagnose Linkerd components.`,
		Example: `  # Get control-plane component metrics
  linkerd diagnostics controller-metrics

  # Get metrics from the web deployment in the emojivoto namespace.
  linkerd diagnostics proxy-metrics -n emojivoto deploy/web

  # Get the endpoints for authorities in Linkerd's control-plane itself
  linkerd diagnostics endpoints web.linkerd-viz.svc.cluster.local:8084`,
	}
	cmd.Flags().AddFlag(metrics.Flags().Lookup("wait"))
	cmd.AddCommand(metrics, NewEndpoints(w, g), newPolicy(w, g), newProfile(w, g), NewProxyMetrics(w, g))
	return cmd
}

// Old gives a command another name and hides it.
func Old(name string, cmd *cobra.Command) *cobra.Command {
	cmd.Use = name + " " + afterName(cmd.Use)
	cmd.Aliases = nil
	cmd.Hidden = true
	return cmd
}

func afterName(use string) string {
	for i := range use {
		if use[i] == ' ' {
			return use[i+1:]
		}
	}
	return ""
}

// apiFailed is how the commands report what the control plane refused.
func apiFailed(err error) error { return command.Failf("Destination API error: %s", err) }

// metricsOf scrapes one port of a pod.
func metricsOf(ctx context.Context, w *command.World, c *cluster.Cluster, pod *corev1.Pod, port int32, timeout time.Duration) ([]byte, error) {
	if pod.Status.Phase != corev1.PodRunning {
		return nil, fmt.Errorf("pod not running: %s", pod.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, tunnel, err := w.Dial(ctx, c, pod.Namespace, pod.Name, port)
	if err != nil {
		return nil, err
	}
	defer tunnel.Close()
	return scrape.Text(ctx, func(context.Context) (net.Conn, error) { return conn, nil })
}
