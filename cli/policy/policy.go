// Package policy is the command linkerd policy. Its subcommand generate proposes
// the policy that lets in exactly the clients that proxies have seen.
//
//	samples of proxies ──count──► traffic of a port ──propose──► resources ──► YAML
//
// What proxies counted becomes resources by pure functions; only generate.go has
// to do with a cluster. Nothing is changed there: what is proposed goes to
// standard output, what was seen to standard error.
package policy

import (
	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/internal/command"
)

// New returns the command with its subcommands.
func New(w *command.World, g *command.Globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:  "policy",
		Args: cobra.NoArgs,
		// What cannot be run prints its help, whatever subcommand was meant.
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Short: "Propose policies",
		Long: `Propose policies.

To see which policies are in force and why a client is let in or refused, use
'linkerd authz' and 'linkerd diagnostics policy'.`,
	}
	cmd.AddCommand(newGenerate(w, g))
	return cmd
}
