// Package older has commands of releases up to 2.11 that scripts still call
// (CLI chapter, section 9): get, logs, repair, alpha and install-sp; and says of
// extensions that are not here what to do instead.
//
// They are hidden, and do what they did with what there is today.
package older

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// NewGet returns the command get, which lists pods.
func NewGet(w *command.World, g *command.Globals) *cobra.Command {
	var namespace string
	var all bool
	cmd := &cobra.Command{
		Use:    "get [flags] pods",
		Short:  "Display pods of the mesh",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind, err := workload.Canonical(args[0]); err != nil || kind != workload.Pod {
				return fmt.Errorf("invalid resource type %s, valid types: pod", args[0])
			}
			c, err := g.Connect(w)
			if err != nil {
				return err
			}
			if all {
				namespace = metav1.NamespaceAll
			} else {
				namespace = command.ContextNamespace(namespace, c)
			}
			pods, err := c.Kube.CoreV1().Pods(namespace).List(cmd.Context(), metav1.ListOptions{LabelSelector: controlplane.ControlPlaneNS + "=" + g.Namespace})
			if err != nil {
				return err
			}
			if len(pods.Items) == 0 {
				fmt.Fprintln(w.Err, "No resources found.")
				return nil
			}
			var names []string
			for _, p := range pods.Items {
				names = append(names, p.Namespace+"/"+p.Name)
			}
			sort.Strings(names)
			for _, name := range names {
				fmt.Fprintln(w.Out, name)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "Namespace of pods")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "If present, returns pods across all namespaces, ignoring the \"--namespace\" flag")
	return cmd
}

// NewAlpha returns the command alpha, whose prototypes are gone.
func NewAlpha(w *command.World, _ *command.Globals) *cobra.Command {
	return &cobra.Command{
		Use:                "alpha",
		Short:              "experimental subcommands, of which there are none",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(w.Err, "The prototype commands below linkerd alpha are gone; use linkerd viz stat and linkerd diagnostics")
			return nil
		},
	}
}

// NewInstallSP returns the command install-sp. The control plane has no
// ServiceProfiles any more, so there is nothing to print.
func NewInstallSP(w *command.World) *cobra.Command {
	return &cobra.Command{
		Use:    "install-sp",
		Short:  "Output Kubernetes configs to install Linkerd Service Profiles",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(w.Err, "The services of the control plane need no ServiceProfiles; nothing to install")
			return nil
		},
	}
}

// NewMulticluster returns the command multicluster, which this version does not
// have: users' documents have it, and an unknown command would leave them
// guessing whether they mistyped.
func NewMulticluster(w *command.World, _ *command.Globals) *cobra.Command {
	cmd := notHere("multicluster", "the extension for linked clusters is not part of this version")
	cmd.Aliases = []string{"mc"}
	return cmd
}

// NewJaeger returns the command jaeger, likewise.
func NewJaeger(w *command.World, _ *command.Globals) *cobra.Command {
	return notHere("jaeger", "proxies send spans to any collector by themselves; see the values below proxy.tracing of linkerd install and linkerd upgrade")
}

// Absent is an annotation of commands that only say what to use instead. A
// plugin of that name goes first.
const Absent = "absent"

func notHere(name, instead string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Annotations:        map[string]string{Absent: "true"},
		Short:              "not part of this version",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return command.Failf("linkerd %s is not available: %s", name, instead)
		},
	}
}

// NewRepair returns the command repair: it prints the Secret that upgrade
// reads, made again from the configuration and the issuer in the cluster.
func NewRepair(w *command.World, g *command.Globals, charts controlplane.Charts) *cobra.Command {
	cmd := &cobra.Command{
		Use:    "repair",
		Short:  "Output the secret/linkerd-config-overrides resource if it has been deleted",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return repair(cmd.Context(), w, g, charts) },
	}
	cmd.Flags().BoolP("force", "f", false, "accepted: the versions of client and cluster are not compared")
	return cmd
}

func repair(ctx context.Context, w *command.World, g *command.Globals, charts controlplane.Charts) error {
	c, err := g.Connect(w)
	if err != nil {
		return err
	}
	cm, err := c.Kube.CoreV1().ConfigMaps(g.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("failed to load %s: %w", controlplane.ConfigMapName, err)
	}
	values, err := controlplane.Values(cm)
	if err != nil {
		return err
	}
	if valuetree.String(values, "identity.issuer.scheme") == controlplane.SchemeLinkerd {
		// The configuration holds everything but private keys.
		secret, err := c.Kube.CoreV1().Secrets(g.Namespace).Get(ctx, controlplane.IssuerSecret, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("failed to load the issuer credentials: %w", err)
		}
		valuetree.Set(values, "identity.issuer.tls.crtPEM", strings.TrimSpace(string(secret.Data["crt.pem"]))+"\n")
		valuetree.Set(values, "identity.issuer.tls.keyPEM", strings.TrimSpace(string(secret.Data["key.pem"]))+"\n")
	}
	chart, err := charts.ControlPlane()
	if err != nil {
		return err
	}
	defaults, err := chart.Defaults()
	if err != nil {
		return err
	}
	difference := valuetree.Difference(defaults, values)
	for key, value := range difference {
		// What the configuration never has is not thereby switched off.
		if value == nil || key == "linkerdVersion" || key == "cliVersion" {
			delete(difference, key)
		}
	}
	text, err := yaml.Marshal(withoutNulls(difference))
	if err != nil {
		return err
	}
	secret, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata": map[string]any{
			"name": controlplane.OverridesName, "namespace": g.Namespace,
			"labels": map[string]any{controlplane.ControlPlaneNS: g.Namespace},
		},
		"stringData": map[string]any{controlplane.OverridesName: string(text)},
	})
	if err != nil {
		return err
	}
	_, err = w.Out.Write(secret)
	return err
}

func withoutNulls(values map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range values {
		switch v := value.(type) {
		case nil:
		case map[string]any:
			if inner := withoutNulls(v); len(inner) > 0 || len(v) == 0 {
				out[key] = inner
			}
		default:
			out[key] = v
		}
	}
	return out
}

type logOptions struct {
	*command.Globals
	container, component string
	noColor, timestamps  bool
	since                time.Duration
	tail                 int64
}

// NewLogs returns the command logs: the logs of the control plane, as they are
// written.
func NewLogs(w *command.World, g *command.Globals) *cobra.Command {
	o := &logOptions{Globals: g}
	cmd := &cobra.Command{
		Use:    "logs [flags]",
		Short:  "Tail logs from containers in the Linkerd control plane",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return logs(cmd.Context(), w, o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.container, "container", "c", "", "Tail logs from the specified container")
	f.StringVar(&o.component, "control-plane-component", "", "Tail logs from the specified control plane component")
	f.BoolVarP(&o.noColor, "no-color", "n", false, "accepted: the output has no colours")
	f.DurationVarP(&o.since, "since", "s", 48*time.Hour, "Duration of how far back logs should be retrieved")
	f.Int64Var(&o.tail, "tail", -1, "Last number of log lines to show for a given container. -1 does not show previous log lines")
	f.BoolVarP(&o.timestamps, "timestamps", "t", false, "Print timestamps for each given log line")
	return cmd
}

func logs(ctx context.Context, w *command.World, o *logOptions) error {
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	selector := controlplane.ControlPlaneNS + "=" + o.Namespace
	if o.component != "" {
		selector += ",linkerd.io/control-plane-component=" + o.component
	}
	pods, err := c.Kube.CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	since := int64(o.since.Seconds())
	options := corev1.PodLogOptions{Follow: true, Timestamps: o.timestamps, SinceSeconds: &since}
	if o.tail >= 0 {
		options.TailLines = &o.tail
	}
	var mu sync.Mutex // guards the writing of lines
	var wait sync.WaitGroup
	found := false
	for _, pod := range pods.Items {
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for _, container := range containers {
				if o.container != "" && container.Name != o.container || container.Name == "linkerd-init" {
					continue
				}
				found = true
				options := options
				options.Container = container.Name
				wait.Add(1)
				go func() {
					defer wait.Done()
					stream, err := c.Kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &options).Stream(ctx)
					if err != nil {
						if !errors.Is(err, context.Canceled) && !apierrors.IsNotFound(err) {
							fmt.Fprintf(w.Err, "%s %s: %s\n", pod.Name, container.Name, err)
						}
						return
					}
					defer stream.Close()
					copyLines(w.Out, &mu, pod.Name+" "+container.Name+" ", stream)
				}()
			}
		}
	}
	wait.Wait()
	if !found {
		return fmt.Errorf("no control-plane containers found in namespace %q", o.Namespace)
	}
	return nil
}

func copyLines(out io.Writer, mu *sync.Mutex, prefix string, in io.Reader) {
	reader := bufio.NewReader(in)
	for {
		line, err := reader.ReadString('\n')
		if line != "" {
			mu.Lock()
			fmt.Fprint(out, prefix, line)
			mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}
