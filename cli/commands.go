package cli

import (
	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/authz"
	"github.com/linkerd-go/linkerd-go/cli/check"
	"github.com/linkerd-go/linkerd-go/cli/diagnostics"
	"github.com/linkerd-go/linkerd-go/cli/doc"
	"github.com/linkerd-go/linkerd-go/cli/identity"
	"github.com/linkerd-go/linkerd-go/cli/install"
	"github.com/linkerd-go/linkerd-go/cli/installcni"
	"github.com/linkerd-go/linkerd-go/cli/older"
	"github.com/linkerd-go/linkerd-go/cli/policy"
	"github.com/linkerd-go/linkerd-go/cli/profile"
	"github.com/linkerd-go/linkerd-go/cli/prune"
	"github.com/linkerd-go/linkerd-go/cli/smi"
	"github.com/linkerd-go/linkerd-go/cli/uninstall"
	"github.com/linkerd-go/linkerd-go/cli/upgrade"
	"github.com/linkerd-go/linkerd-go/cli/version"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// own lists the commands of this room.
func own(parts Parts) []Constructor {
	return []Constructor{
		authz.New,
		func(w *command.World, g *command.Globals) *cobra.Command { return check.New(w, g, parts.Charts) },
		newCompletion,
		func(w *command.World, g *command.Globals) *cobra.Command {
			cmd := diagnostics.New(w, g)
			cmd.AddCommand(older.NewInstallSP(w))
			return cmd
		},
		doc.New,
		identity.New,
		func(w *command.World, g *command.Globals) *cobra.Command { return install.New(w, g, parts.Charts) },
		func(w *command.World, g *command.Globals) *cobra.Command { return installcni.New(w, g, parts.CNI) },
		policy.New,
		profile.New,
		func(w *command.World, g *command.Globals) *cobra.Command { return prune.New(w, g, parts.Charts) },
		func(w *command.World, g *command.Globals) *cobra.Command { return smi.New(w, g, parts.SMI) },
		uninstall.New,
		func(w *command.World, g *command.Globals) *cobra.Command { return upgrade.New(w, g, parts.Charts) },
		version.New,
		older.NewAlpha,
		older.NewGet,
		func(w *command.World, _ *command.Globals) *cobra.Command { return older.NewInstallSP(w) },
		older.NewMulticluster,
		older.NewJaeger,
		older.NewLogs,
		func(w *command.World, g *command.Globals) *cobra.Command { return older.NewRepair(w, g, parts.Charts) },
		// Names of releases up to 2.9 (CLI chapter, section 9).
		func(w *command.World, g *command.Globals) *cobra.Command {
			return diagnostics.Old("endpoints", diagnostics.NewEndpoints(w, g))
		},
		func(w *command.World, g *command.Globals) *cobra.Command {
			return diagnostics.Old("metrics", diagnostics.NewProxyMetrics(w, g))
		},
	}
}
