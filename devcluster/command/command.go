// Package command is the command line of devcluster: flags, output and exit codes. What the commands do is
// in package cluster.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/devcluster/cluster"
	"github.com/linkerd-go/linkerd-go/devcluster/config"
	"github.com/linkerd-go/linkerd-go/devcluster/plan"
)

// Environment variables that stand in for flags.
const (
	nameVariable  = "DEVCLUSTER_NAME"
	stateVariable = "DEVCLUSTER_STATE"
)

// defaultTimeout is generous, because the machine may be busy compiling.
const defaultTimeout = 5 * time.Minute

// ErrUnhealthy makes "status" exit with 3 after it has printed what is wrong.
var ErrUnhealthy = errors.New("the cluster is not healthy")

// Outside is everything that commands touch of the world outside the clusters.
type Outside struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	// Kubectl becomes kubectl and returns its exit code.
	Kubectl func(args []string) int
	// Warning, if not empty, is shown when a cluster is started.
	Warning string
}

// options are the flags of all commands.
type options struct {
	target  cluster.Target
	timeout time.Duration
}

// New makes the root command.
func New(out Outside) *cobra.Command {
	o := &options{target: cluster.Target{RunBase: plan.DefaultRunBase}}
	root := &cobra.Command{
		Use:   "devcluster",
		Short: "Run real Kubernetes clusters on one machine, for development and tests",
		Long: "devcluster runs real, current Kubernetes clusters on one Linux machine, several at a time, each in a\n" +
			"network namespace of its own. It needs root and no Docker, no registry and no other machine.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out.Stdout)
	root.SetErr(out.Stderr)
	name := out.Getenv(nameVariable)
	if name == "" {
		name = plan.DefaultName
	}
	root.PersistentFlags().StringVar(&o.target.Name, "cluster", name, "name of the cluster, also from $"+nameVariable)
	root.PersistentFlags().StringVar(&o.target.StateBase, "state-dir", out.Getenv(stateVariable),
		"directory under which clusters keep their state, also from $"+stateVariable+" (default "+plan.DefaultStateBase+")")
	root.AddCommand(
		newUp(o, out), newDown(o, out), newStatus(o, out), newLoad(o, out), newImages(o, out),
		newKubeconfig(o, out), newList(o, out), newDeps(out), newKubectl(o, out),
	)
	return root
}

// timed is the context of one command: it ends with the timeout or with Ctrl-C.
func (o *options) timed(command *cobra.Command) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(command.Context(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	return ctx, func() { cancel(); stop() }
}

func (o *options) addTimeout(command *cobra.Command) *cobra.Command {
	command.Flags().DurationVar(&o.timeout, "timeout", defaultTimeout, "how long the command may take")
	return command
}

func newUp(o *options, out Outside) *cobra.Command {
	var images []string
	command := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster, or continue starting it; does nothing if it is up",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := o.timed(command)
			defer cancel()
			progress := cluster.NewProgress(out.Stderr)
			if out.Warning != "" {
				progress.Say("warning: %s", out.Warning)
			}
			c, err := cluster.Up(ctx, o.target, progress)
			if err != nil {
				return fmt.Errorf("%w\nwhat came up is still there: run up again to continue, or down to remove it", err)
			}
			if len(images) > 0 {
				if err := cluster.Load(ctx, o.target, images, progress); err != nil {
					return err
				}
			}
			fmt.Fprintf(out.Stdout, "export KUBECONFIG=%s\n", c.Kubeconfig())
			return nil
		},
	}
	command.Flags().StringSliceVar(&images, "load", nil, "image tar files to load afterwards")
	command.Flags().BoolVar(&o.target.APIOnly, "only-api", false, "start an API server with its store and nothing that runs pods")
	return o.addTimeout(command)
}

func newDown(o *options, out Outside) *cobra.Command {
	var all bool
	command := &cobra.Command{
		Use:   "down",
		Short: "Remove a cluster and everything of it from the machine",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := o.timed(command)
			defer cancel()
			progress := cluster.NewProgress(out.Stderr)
			if !all {
				return cluster.Down(ctx, o.target, progress)
			}
			clusters, err := cluster.List(o.target.RunBase)
			if err != nil {
				return err
			}
			var errs []error
			for _, c := range clusters {
				target := o.target
				target.Name, target.StateBase = c.Name, c.StateBase
				errs = append(errs, cluster.Down(ctx, target, progress))
			}
			return errors.Join(errs...)
		},
	}
	command.Flags().BoolVar(&all, "all", false, "remove every cluster of this machine")
	return o.addTimeout(command)
}

func newStatus(o *options, out Outside) *cobra.Command {
	var format string
	command := &cobra.Command{
		Use:   "status",
		Short: "Show a cluster's components and addresses; exits with 3 if it is not healthy",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := o.timed(command)
			defer cancel()
			c, err := o.target.Find()
			if err != nil {
				return err
			}
			status := cluster.Inspect(ctx, c)
			switch format {
			case "json":
				encoder := json.NewEncoder(out.Stdout)
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(status); err != nil {
					return err
				}
			case "":
				printStatus(out.Stdout, status, time.Now())
			default:
				return fmt.Errorf("output format %q: only json is known", format)
			}
			if !status.Healthy() {
				return ErrUnhealthy
			}
			return nil
		},
	}
	command.Flags().StringVarP(&format, "output", "o", "", "output format: json, or a table if empty")
	return o.addTimeout(command)
}

func printStatus(w io.Writer, status cluster.Status, now time.Time) {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range [][2]string{
		{"cluster", status.Cluster},
		{"API server", status.APIServer},
		{"node IP", status.NodeIP},
		{"pods", status.Pods},
		{"services", status.Services},
		{"load balancers", status.Balancers},
		{"network namespace", status.Namespace},
		{"state", status.StateDir},
		{"kubeconfig", status.Kubeconfig},
	} {
		fmt.Fprintf(table, "%s:\t%s\n", row[0], row[1])
	}
	fmt.Fprintln(table)
	table.Flush()
	fmt.Fprintln(table, "COMPONENT\tPID\tAGE\tMEMORY\tSTATE")
	for _, component := range status.Components {
		pid, age, memory, state := "-", "-", "-", "well"
		if component.PID != 0 {
			pid = fmt.Sprint(component.PID)
			age = now.Sub(component.Since).Round(time.Second).String()
			memory = fmt.Sprintf("%d MiB", component.Resident>>20)
		}
		if component.Problem != "" {
			state = component.Problem
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", component.Name, pid, age, memory, state)
	}
	table.Flush()
	for _, problem := range status.Problems {
		fmt.Fprintf(w, "problem: %s\n", problem)
	}
}

func newLoad(o *options, out Outside) *cobra.Command {
	return o.addTimeout(&cobra.Command{
		Use:   "load IMAGE.tar...",
		Short: "Import images (docker or OCI tar files) into a cluster",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, files []string) error {
			ctx, cancel := o.timed(command)
			defer cancel()
			return cluster.Load(ctx, o.target, files, cluster.NewProgress(out.Stderr))
		},
	})
}

func newImages(o *options, out Outside) *cobra.Command {
	return o.addTimeout(&cobra.Command{
		Use:   "images",
		Short: "List the images in a cluster",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, cancel := o.timed(command)
			defer cancel()
			return cluster.Images(ctx, o.target, tabwriter.NewWriter(out.Stdout, 0, 4, 2, ' ', 0))
		},
	})
}

func newKubeconfig(o *options, out Outside) *cobra.Command {
	var path bool
	command := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the administrator's kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := o.target.Find()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(c.Kubeconfig())
			if err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			if path {
				data = []byte(c.Kubeconfig() + "\n")
			}
			_, err = out.Stdout.Write(data)
			return err
		},
	}
	command.Flags().BoolVar(&path, "path", false, "print where the file is instead")
	return command
}

func newList(o *options, out Outside) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the clusters of this machine",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			clusters, err := cluster.List(o.target.RunBase)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(out.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(table, "CLUSTER\tAPI SERVER\tPODS\tSERVICES\tKUBECONFIG")
			for _, c := range clusters {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", c.Name, c.APIServer(), c.PodSubnet(), c.Services(), c.Kubeconfig())
			}
			return table.Flush()
		},
	}
}

func newDeps(out Outside) *cobra.Command {
	return &cobra.Command{
		Use:   "deps",
		Short: "Install the Debian packages that clusters need (up does it too)",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			progress := cluster.NewProgress(out.Stderr)
			if err := cluster.Prepare(command.Context(), progress); err != nil {
				return err
			}
			progress.Say("this machine has everything that clusters need")
			return nil
		},
	}
}

// newKubectl hands everything after its name to kubectl, flags too. The cluster is named before the word
// kubectl or right after it, because kubectl has a flag of that name itself.
func newKubectl(o *options, out Outside) *cobra.Command {
	return &cobra.Command{
		Use:                config.Kubectl + " [--cluster NAME] ...",
		Short:              "Run kubectl against a cluster",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			args = o.takeCluster(args)
			c, err := o.target.Find()
			if err != nil {
				return err
			}
			// A proxy that the environment names for the rest of the world does not know the way to the node.
			for name, value := range map[string]string{
				"KUBECONFIG": c.Kubeconfig(),
				"NO_PROXY":   c.NodeIP().String(),
				"no_proxy":   c.NodeIP().String(),
			} {
				if err := os.Setenv(name, value); err != nil {
					return fmt.Errorf("set %s: %w", name, err)
				}
			}
			return ExitError(out.Kubectl(args))
		},
	}
}

// takeCluster takes leading --cluster flags away from kubectl's arguments.
func (o *options) takeCluster(args []string) []string {
	for len(args) > 0 {
		if name, ok := cutFlag(args[0]); ok {
			o.target.Name, args = name, args[1:]
			continue
		}
		if args[0] == "--cluster" && len(args) > 1 {
			o.target.Name, args = args[1], args[2:]
			continue
		}
		break
	}
	return args
}

func cutFlag(arg string) (string, bool) {
	const prefix = "--cluster="
	if len(arg) > len(prefix) && arg[:len(prefix)] == prefix {
		return arg[len(prefix):], true
	}
	return "", false
}

// ExitCodeError is an error that has been shown already and only sets the exit code.
type ExitCodeError int

func (e ExitCodeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// ExitError is nil for code 0.
func ExitError(code int) error {
	if code == 0 {
		return nil
	}
	return ExitCodeError(code)
}

// ExitCode says how the process ends after err, and whether err is still to be shown.
func ExitCode(err error) (code int, show bool) {
	var exit ExitCodeError
	switch {
	case err == nil:
		return 0, false
	case errors.As(err, &exit):
		return int(exit), false
	case errors.Is(err, ErrUnhealthy):
		return 3, true
	default:
		return 1, true
	}
}
