package smi

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/version"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

type checkOptions struct {
	*command.Globals
	output string
	wait   time.Duration
}

func newCheck(w *command.World, g *command.Globals) *cobra.Command {
	o := &checkOptions{Globals: g}
	cmd := &cobra.Command{
		Use:   "check [flags]",
		Args:  cobra.NoArgs,
		Short: "Check the SMI extension for potential problems",
		Long: `Check the SMI extension for potential problems.

The check command will perform a series of checks to validate that the Linkerd
SMI extension is configured correctly. If the command encounters a failure it
will print additional information about the failure and exit with a non-zero
exit code.`,
		Example: `  # Check that the SMI extension is up and running
  linkerd smi check`,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), w) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", health.FormatTable, "Output format. One of: table, json, short")
	f.DurationVar(&o.wait, "wait", 5*time.Minute, "Maximum allowed time for all tests to pass")
	// Flags that `linkerd check` hands on to every extension.
	f.String("pre", "", "accepted and ignored")
	f.Bool("proxy", false, "accepted and ignored: the adaptor's proxies are always checked")
	f.StringP("namespace", "n", "", "accepted and ignored: the extension has one namespace")
	for _, name := range []string{"pre", "proxy", "namespace"} {
		_ = f.MarkHidden(name)
	}
	return cmd
}

func (o *checkOptions) run(ctx context.Context, w *command.World) error {
	switch o.output {
	case "basic", "wide":
		o.output = health.FormatTable
	case health.FormatTable, health.FormatJSON, health.FormatShort:
	default:
		return fmt.Errorf("Validation error when executing check command: Invalid output type '%s'. Supported output types are: json, table, short", o.output) //nolint:staticcheck // The text is what scripts know.
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	s := &state{cluster: c}
	printer := health.NewPrinter(w.Out, o.output, w.Terminal)
	outcome := health.Run(ctx, []health.Category{s.category()}, health.Options{
		HintBase: health.HintBase(version.Current()), Wait: o.wait, Now: w.Now, After: w.After,
	}, printer.Observe)
	if err := printer.EndRun(outcome); err != nil {
		return err
	}
	printer.Status(outcome.Success)
	if !outcome.Success {
		return command.Silent()
	}
	return nil
}

// state is what the checks of one run know.
type state struct {
	cluster *cluster.Cluster
	// namespace is set by the first check.
	namespace string
}

// category is the list of checks (CLI chapter, section 8.2).
func (s *state) category() health.Category {
	return health.Category{ID: "linkerd-smi", Checks: []health.Check{
		{
			Description: "linkerd-smi extension Namespace exists", Anchor: "l5d-smi-ns-exists", Fatal: true,
			Run: func(ctx context.Context) error {
				ns, err := find(ctx, s.cluster)
				if err != nil {
					return err
				}
				if ns == nil {
					return fmt.Errorf("no namespace has the label %s", selector)
				}
				s.namespace = ns.Name
				return nil
			},
		},
		{
			Description: "SMI extension service account exists", Anchor: "l5d-smi-sc-exists", Fatal: true, Warning: true,
			Run: func(ctx context.Context) error {
				_, err := s.cluster.Kube.CoreV1().ServiceAccounts(s.namespace).Get(ctx, names.SMIAdaptor, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return fmt.Errorf("missing ServiceAccounts: %s", names.SMIAdaptor)
				}
				return err
			},
		},
		{Description: "SMI extension pods are injected", Anchor: "l5d-smi-pods-injection", Warning: true, Run: s.withPods(injected)},
		{Description: "SMI extension pods are running", Anchor: "l5d-smi-pods-running", Fatal: true, Retry: true, Surface: true, Run: s.withPods(running)},
		{
			Description: "SMI extension proxies are healthy", Anchor: "l5d-smi-proxy-healthy", Fatal: true, Retry: true, Surface: true,
			Run: s.withPods(func(pods []corev1.Pod) error { return workload.ProxiesReady(pods, s.namespace) }),
		},
	}}
}

// withPods is a check of the adaptor's pods, sorted by name. Others, as that of
// the Job which labels the namespace, come and go.
func (s *state) withPods(run func([]corev1.Pod) error) func(context.Context) error {
	return func(ctx context.Context) error {
		list, err := s.cluster.Kube.CoreV1().Pods(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: "component=" + names.SMIAdaptor})
		if err != nil {
			return err
		}
		pods := list.Items
		sort.Slice(pods, func(i, j int) bool { return pods[i].Name < pods[j].Name })
		return run(pods)
	}
}

func injected(pods []corev1.Pod) error {
	for i := range pods {
		if workload.Proxy(&pods[i]) == nil {
			return fmt.Errorf("could not find proxy container for %s pod", pods[i].Name)
		}
	}
	return nil
}

func running(pods []corev1.Pod) error {
	if len(pods) == 0 {
		return errors.New("Could not find pods for deployment " + names.SMIAdaptor) //nolint:staticcheck // As the checks of other extensions say it.
	}
	for i := range pods {
		pod := &pods[i]
		if pod.Status.Phase != corev1.PodRunning {
			return fmt.Errorf("%s status is %s", pod.Name, pod.Status.Phase)
		}
		if container := workload.NotReady(pod); container != "" {
			return fmt.Errorf("container %s in pod %s is not ready", container, pod.Name)
		}
	}
	return nil
}
