package diagnostics

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

const scrapeTimeout = 30 * time.Second

func newControllerMetrics(w *command.World, g *command.Globals) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "controller-metrics",
		Aliases: []string{"cp-metrics"},
		Args:    cobra.NoArgs,
		Short:   "Fetch metrics directly from Linkerd control plane containers",
		Long:    `Fetch metrics directly from Linkerd control plane containers.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return controllerMetrics(cmd.Context(), w, g, wait)
		},
	}
	cmd.Flags().DurationVarP(&wait, "wait", "w", scrapeTimeout, "Time allowed to fetch diagnostics")
	return cmd
}

func controllerMetrics(ctx context.Context, w *command.World, g *command.Globals, wait time.Duration) error {
	c, err := g.Connect(w)
	if err != nil {
		return err
	}
	pods, err := c.Kube.CoreV1().Pods(g.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-ns=" + g.Namespace})
	if err != nil {
		return err
	}
	type source struct {
		pod       *corev1.Pod
		container string
		port      int32
	}
	var sources []source
	for i := range pods.Items {
		pod := &pods.Items[i]
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for _, container := range containers {
				for _, port := range container.Ports {
					if strings.HasSuffix(port.Name, "-admin") {
						sources = append(sources, source{pod, container.Name, port.ContainerPort})
					}
				}
			}
		}
	}
	sort.SliceStable(sources, func(i, j int) bool {
		if sources[i].pod.Name != sources[j].pod.Name {
			return sources[i].pod.Name < sources[j].pod.Name
		}
		return sources[i].container < sources[j].container
	})
	for i, s := range sources {
		fmt.Fprintf(w.Out, "#\n# POD %s (%d of %d)\n", s.pod.Name, i+1, len(sources))
		metrics, err := metricsOf(ctx, w, c, s.pod, s.port, wait)
		if err != nil {
			fmt.Fprintf(w.Out, "# ERROR %s\n", err)
			continue
		}
		fmt.Fprintf(w.Out, "# CONTAINER %s \n#\n%s", s.container, metrics)
	}
	return nil
}

// NewProxyMetrics returns the command proxy-metrics.
func NewProxyMetrics(w *command.World, g *command.Globals) *cobra.Command {
	var namespace string
	var obfuscate bool
	cmd := &cobra.Command{
		Use:   "proxy-metrics [flags] (RESOURCE)",
		Args:  cobra.ExactArgs(1),
		Short: "Fetch metrics directly from Linkerd proxies",
		Long: `Fetch metrics directly from Linkerd proxies.

  This command initiates a port-forward to a given pod or set of pods, and
  queries the /metrics endpoint on the Linkerd proxies.

  The RESOURCE argument specifies the target resource to query metrics for:
  (TYPE/NAME)`,
		Example: `  # Get metrics from pod-foo-bar in the default namespace.
  linkerd diagnostics proxy-metrics po/pod-foo-bar

  # Get metrics from the web deployment in the emojivoto namespace.
  linkerd diagnostics proxy-metrics -n emojivoto deploy/web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return proxyMetrics(cmd.Context(), w, g, namespace, args[0], obfuscate)
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace of resource")
	cmd.Flags().BoolVar(&obfuscate, "obfuscate", false, "Obfuscate sensitive information")
	return cmd
}

func proxyMetrics(ctx context.Context, w *command.World, g *command.Globals, namespace, resource string, obfuscate bool) error {
	targets, err := workload.Parse([]string{resource})
	if err != nil {
		return err
	}
	c, err := g.Connect(w)
	if err != nil {
		return err
	}
	index, err := workload.Read(ctx, c.Kube, command.ContextNamespace(namespace, c))
	if err != nil {
		return err
	}
	var pods []*corev1.Pod
	objects := index.Objects(targets[0], nil)
	if len(objects) == 0 {
		return fmt.Errorf("%s not found in namespace %q", targets[0], command.ContextNamespace(namespace, c))
	}
	for _, o := range objects {
		pods = append(pods, o.Pods...)
	}
	sort.SliceStable(pods, func(i, j int) bool { return pods[i].Name < pods[j].Name })
	for i, pod := range pods {
		fmt.Fprintf(w.Out, "#\n# POD %s (%d of %d)\n#\n", pod.Name, i+1, len(pods))
		port := workload.AdminPort(pod)
		if port == 0 {
			fmt.Fprintf(w.Out, "# ERROR: pod %s has no linkerd-admin port\n", pod.Name)
			continue
		}
		metrics, err := metricsOf(ctx, w, c, pod, port, scrapeTimeout)
		if err != nil {
			fmt.Fprintf(w.Out, "# ERROR: %s\n", err)
			continue
		}
		if obfuscate {
			metrics = Obfuscate(metrics)
		}
		fmt.Fprintf(w.Out, "%s", metrics)
	}
	return nil
}

// sensitive matches the labels that name things of the user.
var sensitive = regexp.MustCompile(`\b(authority|client_id|server_id|target_addr|dst_service|dst_namespace)="((?:[^"\\]|\\.)*)"`)

// Obfuscate replaces the values of labels that name things of the user by
// short hashes: the same value keeps the same hash, so that metrics can still
// be related to each other.
func Obfuscate(metrics []byte) []byte {
	return sensitive.ReplaceAllFunc(metrics, func(match []byte) []byte {
		key, value, _ := bytes.Cut(match, []byte(`="`))
		sum := sha256.Sum256(bytes.TrimSuffix(value, []byte(`"`)))
		return []byte(string(key) + `="` + hex.EncodeToString(sum[:4]) + `"`)
	})
}
