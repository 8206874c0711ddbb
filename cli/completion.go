package cli

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// completeWithin bounds what a completion may ask of a cluster.
const completeWithin = 5 * time.Second

// newCompletion is the command completion (CLI chapter, section 5.2).
func newCompletion(w *command.World, _ *command.Globals) *cobra.Command {
	return &cobra.Command{
		Use:       "completion [bash|zsh|fish]",
		Short:     "Output shell completion code for the specified shell (bash, zsh or fish)",
		Long:      "Output shell completion code for the specified shell (bash, zsh or fish).",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.ExactArgs(1),
		Example: `  # bash <= 3.2:
  source /dev/stdin <<< "$(linkerd completion bash)"

  # bash >= 4.0:
  source <(linkerd completion bash)

  # zsh:
  source <(linkerd completion zsh)

  # fish:
  linkerd completion fish | source`,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w.Out, true)
			case "zsh":
				return root.GenZshCompletion(w.Out)
			case "fish":
				return root.GenFishCompletion(w.Out, true)
			default:
				return fmt.Errorf("unsupported shell type (must be bash, zsh or fish): %s", args[0])
			}
		},
	}
}

// completeFlags adds what the values of flags can be, for every command below
// root.
func completeFlags(w *command.World, g *command.Globals, root *cobra.Command) {
	namespaces := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		c, err := g.Connect(w)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
		defer cancel()
		list, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, ns := range list.Items {
			names = append(names, ns.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	contexts := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = g.Kubeconfig
		config, err := rules.Load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for name := range config.Contexts {
			names = append(names, name)
		}
		sort.Strings(names)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
	outputs := cobra.FixedCompletions([]string{"basic", "json", "short", "table"}, cobra.ShellCompDirectiveNoFileComp)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for name, complete := range map[string]cobra.CompletionFunc{
			"namespace": namespaces, "linkerd-namespace": namespaces, "cni-namespace": namespaces,
			"to-namespace": namespaces, "from-namespace": namespaces, "context": contexts, "output": outputs,
		} {
			if cmd.LocalFlags().Lookup(name) != nil {
				// It fails only for a flag that does not exist.
				_ = cmd.RegisterFlagCompletionFunc(name, complete)
			}
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(root)
}

// resourceTypes are offered for arguments that name resources.
var resourceTypes = []string{
	workload.CronJob, workload.DaemonSet, workload.Deployment, workload.Job, workload.Namespace, workload.Pod,
	workload.ReplicaSet, workload.ReplicationController, workload.Service, workload.StatefulSet,
}

// completeResources adds types and names of resources to the commands that
// take them: TYPE, TYPE NAME... and TYPE/NAME.
func completeResources(w *command.World, g *command.Globals, root *cobra.Command) {
	names := func(cmd *cobra.Command, kind string) []string {
		c, err := g.Connect(w)
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
		defer cancel()
		namespace := command.ContextNamespace(cmd.Flags().Lookup("namespace").Value.String(), c)
		index, err := workload.Read(ctx, c.Kube, namespace)
		if err != nil {
			return nil
		}
		var out []string
		for _, object := range index.Objects(workload.Target{Type: kind}, nil) {
			out = append(out, object.Name)
		}
		sort.Strings(out)
		return out
	}
	// pods says that an argument may be the name of a pod alone.
	complete := func(pods bool) cobra.CompletionFunc {
		return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			var all []string
			friendly, _, isPath := strings.Cut(begun, "/")
			switch {
			case isPath:
				if kind, err := workload.Canonical(friendly); err == nil {
					for _, name := range names(cmd, kind) {
						all = append(all, friendly+"/"+name)
					}
				}
			case pods:
				all = names(cmd, workload.Pod)
			case len(args) == 0:
				all = resourceTypes
			default:
				if kind, err := workload.Canonical(args[0]); err == nil {
					all = names(cmd, kind)
				}
			}
			var out []string
			for _, candidate := range all {
				if strings.HasPrefix(candidate, begun) && !slices.Contains(args, candidate) {
					out = append(out, candidate)
				}
			}
			return out, cobra.ShellCompDirectiveNoFileComp
		}
	}
	for _, line := range [][]string{
		{"authz"}, {"viz", "stat"}, {"viz", "edges"}, {"stat"}, {"edges"}, {"diagnostics", "proxy-metrics"}, {"metrics"}, {"identity"},
	} {
		cmd, rest, err := root.Find(line)
		if err == nil && len(rest) == 0 && cmd.Flags().Lookup("namespace") != nil {
			cmd.ValidArgsFunction = complete(line[0] == "identity")
		}
	}
}
