// Package cli is the command linkerd viz: the golden metrics of workloads, and
// who talks to whom (CLI chapter, section 6).
//
// The commands here need nothing installed in the cluster: they ask the
// proxies themselves, through port-forwards to their admin ports, and put the
// answers together the way the metrics API does. What can only be known from
// history is an estimate from two looks a few seconds apart.
package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/internal/command"
)

// absent are commands of the extension that this version does not have, with
// what to use instead.
var absent = map[string]string{
	"install":   "nothing has to be installed for linkerd viz stat and linkerd viz edges; the metrics store and the dashboard are not part of this version",
	"uninstall": "this version installs nothing for viz, so there is nothing to remove",
	"check":     "use linkerd check and linkerd check --proxy",
	"tap":       "tap is not part of this version; the access log of a proxy is turned on with the annotation config.linkerd.io/access-log",
	"top":       "top is not part of this version; use linkerd viz stat",
	"routes":    "routes is not part of this version; use linkerd diagnostics proxy-metrics and look at route_response_total",
	"list":      "tap is not part of this version; linkerd get pods lists the meshed pods",
	"profile":   "tap is not part of this version; use linkerd profile with --open-api, --proto or --template",
	"prune":     "this version installs nothing for viz, so there is nothing to remove",
	"authz":     "use linkerd authz, and with --from and --explain for who is let in and why",

	"stat-inbound":  "use linkerd viz stat, or linkerd diagnostics proxy-metrics and look at response_total and its route_name",
	"stat-outbound": "use linkerd viz stat --to, or linkerd diagnostics proxy-metrics and look at outbound_http_route_request_statuses_total",
	"allow-scrapes": "this version installs no Prometheus; let yours reach port linkerd-admin with a Server and an AuthorizationPolicy",

	"dashboard": "the dashboard is not part of this version; use linkerd viz stat and linkerd viz edges",
}

// New returns the command with its subcommands.
func New(w *command.World, g *command.Globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "viz",
		Short: "viz shows the golden metrics of Linkerd service mesh",
		Long:  `viz shows the golden metrics of Linkerd service mesh.`,
		Example: `  # Success rate, request rate and latencies of all deployments of a namespace
  linkerd viz stat deploy -n emojivoto

  # Who talks to whom, and whether it is secured
  linkerd viz edges deploy -n emojivoto`,
		// An unknown subcommand must not print help to a pipe that applies it.
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			if instead, ok := absent[args[0]]; ok {
				return command.Failf("linkerd viz %s is not available: %s", args[0], instead)
			}
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		},
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	cmd.PersistentFlags().String("viz-namespace", "", "Name of the viz extension namespace (accepted; the proxies are asked directly)")
	cmd.AddCommand(NewEdges(w, g), NewStat(w, g))
	return cmd
}

// uses are the usage lines of commands that were once at the top level (CLI
// chapter, section 1.6).
var uses = map[string]string{
	"dashboard": "dashboard [flags]",
	"routes":    "routes [flags] (RESOURCES)",
	"tap":       "tap [flags] (RESOURCE)",
	"top":       "top [flags] (RESOURCE)",
}

// Moved returns the constructors of the commands that were once at the top
// level.
func Moved() []func(*command.World, *command.Globals) *cobra.Command {
	out := []func(*command.World, *command.Globals) *cobra.Command{NewEdges, NewStat}
	for _, name := range []string{"dashboard", "routes", "tap", "top"} {
		out = append(out, func(*command.World, *command.Globals) *cobra.Command {
			return &cobra.Command{
				Use:                uses[name],
				Short:              name + " is not part of this version",
				FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
				RunE: func(*cobra.Command, []string) error {
					return command.Failf("linkerd viz %s is not available: %s", name, absent[name])
				},
			}
		})
	}
	return out
}
