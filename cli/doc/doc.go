// Package doc is the hidden command linkerd doc: a reference of all commands
// and of the annotations that users write, as YAML (CLI chapter, section 5.3).
package doc

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// reference is the document. Its keys are what generators of documentation
// know.
type reference struct {
	CLIReference         []entry
	AnnotationsReference []annotation
}

type entry struct {
	Name             string
	Synopsis         string
	Description      string
	Options          []option
	InheritedOptions []option
	Example          string
	SeeAlso          []string
}

type option struct {
	Name         string
	Shorthand    string
	DefaultValue string
	Usage        string
}

type annotation struct{ Name, Description string }

// New returns the command.
func New(w *command.World, _ *command.Globals) *cobra.Command {
	return &cobra.Command{
		Use:    "doc",
		Hidden: true,
		Short:  "Generate YAML documentation for the Linkerd CLI",
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := yaml.Marshal(reference{entries(cmd.Root()), annotations})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w.Out, "# Commands of linkerd, and annotations that configure the mesh; written by `linkerd doc`.\n%s", text)
			return err
		},
	}
}

// entries are the commands at and below cmd that users are told of.
func entries(cmd *cobra.Command) []entry {
	var out []entry
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() || c.Name() == "help" {
			continue
		}
		e := entry{
			Name:             strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "),
			Synopsis:         c.Short,
			Description:      c.Long,
			Options:          options(c.NonInheritedFlags()),
			InheritedOptions: options(c.InheritedFlags()),
			Example:          c.Example,
		}
		below := entries(c)
		for _, b := range below {
			e.SeeAlso = append(e.SeeAlso, b.Name)
		}
		out = append(append(out, e), below...)
	}
	return out
}

func options(flags *pflag.FlagSet) []option {
	var out []option
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		out = append(out, option{f.Name, f.Shorthand, f.DefValue, f.Usage})
	})
	return out
}

// annotations are those of the injector, in the order of the names.
var annotations = []annotation{
	{names.AnnotationInject, "enabled, disabled or ingress: whether pods get a proxy, and whether it routes by the requests' authority"},
	{names.AnnotationProxyImage, "Image of the proxy, without a tag"},
	{names.AnnotationProxyVersionOverride, "Tag of the proxy's image"},
	{names.AnnotationImagePullPolicy, "Pull policy of the injected containers"},
	{names.AnnotationDebugImage, "Image of the debug container, without a tag; pods only"},
	{names.AnnotationDebugImageVersion, "Tag of the debug container's image; pods only"},
	{names.AnnotationDebugImagePullPolicy, "Pull policy of the debug container; pods only"},
	{names.AnnotationEnableDebugSidecar, "true adds the debug container"},
	{names.AnnotationControlPort, "Port of the proxy for tap"},
	{names.AnnotationAdminPort, "Port of the proxy for metrics and administration"},
	{names.AnnotationInboundPort, "Port of the proxy for inbound connections"},
	{names.AnnotationOutboundPort, "Port of the proxy for outbound connections"},
	{names.AnnotationPodInboundPorts, "Ports whose policy the proxy watches from its start, separated by commas; the container ports if not given"},
	{names.AnnotationSkipInboundPorts, "Inbound ports and ranges that bypass the proxy, separated by commas"},
	{names.AnnotationSkipOutboundPorts, "Outbound ports and ranges that bypass the proxy, separated by commas"},
	{names.AnnotationInboundProxyProtocolPorts, "Ports and ranges on which what comes in begins with a header of the PROXY protocol, separated by commas"},
	{names.AnnotationSkipSubnets, "Networks whose traffic bypasses the proxy, separated by commas"},
	{names.AnnotationSkipOutboundSubnets, "Networks to which the pod connects without the proxy, separated by commas"},
	{names.AnnotationOpaquePorts, "Ports, ranges and port names whose bytes the proxy does not look at, in place of the default list; also on Services"},
	{names.AnnotationProxyCPURequest, "CPU request of the proxy, and the least number of its workers"},
	{names.AnnotationProxyCPULimit, "CPU limit of the proxy, and the greatest number of its workers"},
	{names.AnnotationProxyCPURatioLimit, "Greatest share of the node's CPUs that the proxy has workers for; pods only"},
	{names.AnnotationProxyMemoryRequest, "Memory request of the proxy"},
	{names.AnnotationProxyMemoryLimit, "Memory limit of the proxy"},
	{names.AnnotationProxyEphemeralStorageRequest, "Request of the proxy for ephemeral storage"},
	{names.AnnotationProxyEphemeralStorageLimit, "Limit of the proxy for ephemeral storage"},
	{names.AnnotationProxyUID, "User that the proxy runs as"},
	{names.AnnotationProxyGID, "Group that the proxy runs as"},
	{names.AnnotationProxyLogLevel, "Log filter of the proxy, such as warn,linkerd=debug"},
	{names.AnnotationProxyLogHTTPHeaders, "off or insecure: whether header fields may appear in the proxy's log"},
	{names.AnnotationProxyLogFormat, "plain or json"},
	{names.AnnotationAccessLog, "Format of the access log of inbound requests: apache, apache-extended or json"},
	{names.AnnotationOutboundAccessLog, "Format of the access log of outbound requests: apache, apache-extended or json"},
	{names.AnnotationInboundForwardedFor, "append or replace: how applications are told their clients' addresses in X-Forwarded-For"},
	{names.AnnotationProxyMetricsHostnameLabels, "true fills the label hostname of outbound metrics"},
	{names.AnnotationEnableExternalProfiles, "true lets ServiceProfiles apply to names outside of the cluster"},
	{names.AnnotationProxyRequireIdentityInboundPorts, "Ports on which clients must have an identity of the mesh, separated by commas"},
	{names.AnnotationDefaultInboundPolicy, "Policy where no Server selects the port: all-authenticated, all-unauthenticated, cluster-authenticated, cluster-unauthenticated, deny or audit"},
	{names.AnnotationEnableGateway, "true makes the proxy a gateway of linked clusters; pods only"},
	{names.AnnotationProxyOutboundConnectTimeout, "Time limit of connections to others"},
	{names.AnnotationProxyInboundConnectTimeout, "Time limit of connections to the application"},
	{names.AnnotationProxyOutboundDiscoveryCacheUnusedTimeout, "Time for which what is known of an unused destination is kept"},
	{names.AnnotationProxyInboundDiscoveryCacheUnusedTimeout, "Time for which what is known of an unused port is kept"},
	{names.AnnotationProxyDisableOutboundProtocolDetectTimeout, "true waits for the first bytes of outbound connections as long as it takes"},
	{names.AnnotationProxyDisableInboundProtocolDetectTimeout, "true waits for the first bytes of inbound connections as long as it takes"},
	{names.AnnotationCloseWaitTimeout, "Time limit of the kernel's state CLOSE_WAIT; pods only, needs proxyInit.runAsRoot"},
	{names.AnnotationProxyAwait, "enabled or disabled: whether containers start only when the proxy is ready"},
	{names.AnnotationProxyAdminShutdown, "enabled or disabled: whether the proxy can be told to end by a POST to /shutdown"},
	{names.AnnotationShutdownGracePeriod, "Time that the proxy has for ending what is under way"},
	{names.AnnotationShutdownTCPGracePeriod, "The same for connections of which the proxy only knows bytes"},
	{names.AnnotationProxyWaitBeforeExitSeconds, "Seconds that a proxy which is an ordinary container runs on when its pod is to end"},
	{names.AnnotationProxyAdditionalEnv, "JSON list of environment variables of the proxy"},
	{names.AnnotationProxyEnableNativeSidecar, "true or false: whether the proxy is a native sidecar, with which Jobs end"},
	{names.AnnotationProxyEnableNativeSidecarBeta, "Older spelling of the same; pods only"},
	{names.AnnotationProxyEnableNativeSidecarAlpha, "Oldest spelling of the same"},
}
