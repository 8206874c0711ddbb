// Package cli is the command linkerd: it joins the subcommands, and knows what
// holds for all of them: global flags, exit codes, plugins (CLI chapter,
// section 1).
//
// cmd/linkerd gives it the pieces of other rooms: charts, and the commands of
// extensions. Run may be called once per process; tests call it with a World
// of their own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/cli/older"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// Constructor makes a command.
type Constructor = func(w *command.World, g *command.Globals) *cobra.Command

// Parts are what cmd/linkerd joins to the commands of this room.
type Parts struct {
	Charts controlplane.Charts
	// CNI loads the chart of the CNI plugin.
	CNI func() (controlplane.Chart, error)
	// SMI loads the chart of the adaptor for traffic splits.
	SMI func() (controlplane.Chart, error)
	// Commands are those of other rooms, and of packages that need more than a
	// World.
	Commands []Constructor
	// Moved are commands that were once at the top and now live below viz; they
	// keep working with a notice (CLI chapter, section 1.6).
	Moved []Constructor
}

// New returns the root command.
func New(w *command.World, parts Parts) *cobra.Command {
	g := &command.Globals{}
	root := &cobra.Command{
		Use:   "linkerd",
		Short: "linkerd manages the Linkerd service mesh",
		Long:  "linkerd manages the Linkerd service mesh.",
		// Failures are printed by Run, each in its own manner.
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return g.Complete(w)
		},
	}
	root.SetIn(w.In)
	root.SetErr(w.Err)
	// Only help is for standard output. Set for all commands, it would also get
	// the notices about deprecated flags, in the middle of a manifest.
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		cmd.SetOut(w.Out)
		help(cmd, args)
	})
	root.CompletionOptions.DisableDefaultCmd = true
	g.Register(root)
	for _, make := range own(parts) {
		root.AddCommand(make(w, g))
	}
	for _, make := range parts.Commands {
		root.AddCommand(make(w, g))
	}
	for _, make := range parts.Moved {
		cmd := make(w, g)
		use := cmd.Use
		cmd.Hidden = true
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			fmt.Fprintf(w.Err, "Command %q is deprecated, use instead 'linkerd viz %s'\n\n", cmd.Name(), use)
			return run(cmd, args)
		}
		root.AddCommand(cmd)
	}
	completeFlags(w, g, root)
	completeResources(w, g, root)
	return root
}

// Run executes one command line and returns the exit code.
func Run(ctx context.Context, w *command.World, parts Parts, args []string) int {
	root := New(w, parts)
	if len(args) > 1 && args[0] == "-l" {
		// Releases up to 2.7; below commands -l is a selector.
		fmt.Fprintln(w.Err, "Flag -l has been deprecated, use -L or --linkerd-namespace")
		args = append([]string{"-L"}, args[1:]...)
	}
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		root.SetOut(w.Out)
	}
	if code, done := plugin(ctx, w, root, args); done {
		return code
	}
	// Not before: a plugin reads for itself.
	w.In = command.Until(ctx, w.In)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var failure *command.Failure
	if errors.As(err, &failure) {
		if failure.Message != "" {
			fmt.Fprintln(w.Err, strings.TrimSuffix(failure.Message, "\n"))
		}
		return max(failure.Code, 1)
	}
	if ctx.Err() != nil {
		// Interrupted: how the command is used is not what went wrong.
		fmt.Fprintf(w.Err, "Error: %s\n", err)
		return 1
	}
	fmt.Fprintf(w.Err, "Error: %s\n%s\n", err, cmd.UsageString())
	return 1
}

// plugin runs linkerd-<name> from the path for a command this program does not
// have (CLI chapter, section 1.5). The exit code of the plugin becomes ours.
func plugin(ctx context.Context, w *command.World, root *cobra.Command, args []string) (code int, done bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "help", "__complete", "__completeNoDesc":
		return 0, false
	}
	cmd, _, err := root.Find(args)
	if err == nil && cmd.Annotations[older.Absent] == "" {
		return 0, false
	}
	if err != nil && strings.HasPrefix(args[0], "-") {
		fmt.Fprintln(w.Err, "Cannot accept flags before Linkerd extension name")
		return 1, true
	}
	path, err := w.LookPath("linkerd-" + args[0])
	if err != nil {
		return 0, false
	}
	if err := w.Exec(ctx, path, args[1:], w.In, w.Out, w.Err); err != nil {
		fmt.Fprintln(w.Err, err)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 {
			return exit.ExitCode(), true
		}
		return 1, true
	}
	return 0, true
}
