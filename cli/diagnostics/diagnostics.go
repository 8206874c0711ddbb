// Package diagnostics is the command linkerd diagnostics: metrics of proxies
// and controllers, and the answers of the control plane for one destination
// (CLI chapter, sections 5.5 to 5.9).
//
// The commands read; they change nothing. Each has its own file.
package diagnostics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
)

// Ports of the APIs in the destination pod.
const (
	destinationPort = 8086
	policyPort      = 8090
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

// api is the connection to an API of the destination pod.
type api struct {
	*grpc.ClientConn
	tunnel io.Closer
}

func (a *api) Close() {
	_ = a.ClientConn.Close()
	if a.tunnel != nil {
		_ = a.tunnel.Close()
	}
}

// dialAPI connects to a port of the destination pod: to the address given with
// --api-addr, else through a port-forward to the given pod or to the first
// that runs.
func dialAPI(ctx context.Context, w *command.World, g *command.Globals, pod string, port int32) (*api, error) {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	if g.APIAddr != "" {
		conn, err := grpc.NewClient("passthrough:///"+g.APIAddr, plain)
		if err != nil {
			return nil, err
		}
		return &api{ClientConn: conn}, nil
	}
	c, err := g.Connect(w)
	if err != nil {
		return nil, err
	}
	if pod == "" {
		if pod, err = runningPod(ctx, c, g.Namespace, "destination"); err != nil {
			return nil, err
		}
	}
	stream, tunnel, err := w.Dial(ctx, c, g.Namespace, pod, port)
	if err != nil {
		return nil, err
	}
	used := false
	conn, err := grpc.NewClient("passthrough:///"+pod, plain, grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
		if used {
			// One command, one connection: a second attempt means that the first ended.
			return nil, errors.New("the connection to the control plane was lost")
		}
		used = true
		return stream, nil
	}))
	if err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return &api{ClientConn: conn, tunnel: tunnel}, nil
}

// runningPod returns the first running pod of a component.
func runningPod(ctx context.Context, c *cluster.Cluster, namespace, component string) (string, error) {
	pods, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=" + component})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("no running pods found for linkerd-%s", component)
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
