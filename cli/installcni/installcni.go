// Package installcni is the command linkerd install-cni: it prints the manifest
// of the CNI plugin (CLI chapter, section 2.11). It asks no cluster.
package installcni

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

var (
	versionPattern  = regexp.MustCompile(`^[\.a-zA-Z0-9-]+$`)
	registryPattern = regexp.MustCompile(`^[a-zA-Z0-9\-\./:]+$`)
	logLevels       = []string{"panic", "fatal", "error", "warn", "info", "debug", "trace"}
)

// New returns the command. chart loads the chart linkerd2-cni.
func New(w *command.World, _ *command.Globals, chart func() (controlplane.Chart, error)) *cobra.Command {
	var (
		values                   chartvalues.Options
		linkerdVersion, registry string
		skipIn, skipOut          []string
		redirect                 []uint
	)
	flags := map[string]string{}
	cmd := &cobra.Command{
		Use:   "install-cni [flags]",
		Args:  cobra.NoArgs,
		Short: "Output Kubernetes configs to install Linkerd CNI",
		Long: `Output Kubernetes configs to install Linkerd CNI.

This command installs a DaemonSet into the Linkerd control plane. The DaemonSet
copies the necessary linkerd-cni plugin binaries and configs onto the host. It
assumes that the 'linkerd install' command will be executed with the
'--linkerd-cni-enabled' flag. This command needs to be executed before the
'linkerd install --linkerd-cni-enabled' command.`,
		Example: `  # Default install.
  linkerd install-cni | kubectl apply -f -`,
	}
	f := cmd.Flags()
	f.StringVarP(&linkerdVersion, "linkerd-version", "v", version.Current(), "Tag to be used for Linkerd images")
	f.StringVar(&registry, "registry", "ghcr.io/linkerd-go", fmt.Sprintf("Docker registry to pull images from ($%s)", command.RegistryEnv))
	add := func(name, at, usage string, define func(name, usage string)) {
		define(name, usage)
		flags[name] = at
	}
	number := func(def int64) func(string, string) {
		return func(name, usage string) { f.Int64(name, def, usage) }
	}
	port := func(def uint) func(string, string) {
		return func(name, usage string) { f.Uint(name, def, usage) }
	}
	text := func(def string) func(string, string) {
		return func(name, usage string) { f.String(name, def, usage) }
	}
	add("proxy-uid", "proxyUID", "Run the proxy under this user ID", number(2102))
	add("proxy-gid", "proxyGID", "Run the proxy under this group ID", number(-1))
	add("inbound-port", "inboundProxyPort", "Proxy port to use for inbound traffic", port(4143))
	add("outbound-port", "outboundProxyPort", "Proxy port to use for outbound traffic", port(4140))
	add("control-port", "proxyControlPort", "Proxy port to use for control", port(4190))
	add("admin-port", "proxyAdminPort", "Proxy port to serve metrics on", port(4191))
	add("cni-image", "image.name", "Image for the cni-plugin", text("ghcr.io/linkerd-go/cni-plugin"))
	add("cni-image-version", "image.version", "Image Version for the cni-plugin", text(""))
	add("cni-log-level", "logLevel", "Log level for the cni plugin", text("info"))
	add("dest-cni-net-dir", "destCNINetDir", "Directory on the host where the CNI configuration will be placed", text("/etc/cni/net.d"))
	add("dest-cni-bin-dir", "destCNIBinDir", "Directory on the host where the CNI binary will be placed", text("/opt/cni/bin"))
	add("priority-class-name", "priorityClassName", "Pod priorityClassName for CNI daemonset's pods", text(""))
	add("use-wait-flag", "useWaitFlag", "Configures the CNI plugin to use the \"-w\" flag for the iptables command", func(name, usage string) { f.Bool(name, false, usage) })
	f.UintSliceVar(&redirect, "redirect-ports", nil, "Ports to redirect to proxy, if no port is specified then ALL ports are redirected")
	f.StringSliceVar(&skipIn, "skip-inbound-ports", nil, "Ports and/or port ranges (inclusive) that should skip the proxy and send directly to the application")
	f.StringSliceVar(&skipOut, "skip-outbound-ports", nil, "Outbound ports and/or port ranges (inclusive) that should skip the proxy")
	f.String("install-namespace", "", "accepted and ignored: the chart's namespace is always made")
	_ = f.MarkHidden("install-namespace")
	values.Register(f)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := chart()
		if err != nil {
			return err
		}
		v, err := c.Defaults()
		if err != nil {
			return err
		}
		if !versionPattern.MatchString(linkerdVersion) {
			return fmt.Errorf("%s is not a valid version", linkerdVersion)
		}
		v["linkerdVersion"] = linkerdVersion
		for _, ranges := range [][]string{skipIn, skipOut} {
			if err := controlplane.ValidateRanges(ranges); err != nil {
				return err
			}
		}
		for name, at := range flags {
			if flag := f.Lookup(name); flag.Changed {
				var value any = flag.Value.String()
				switch flag.Value.Type() {
				case "int64":
					value, err = f.GetInt64(name)
				case "uint":
					value, err = f.GetUint(name)
				case "bool":
					value, err = f.GetBool(name)
				}
				if err != nil {
					return err
				}
				valuetree.Set(v, at, value)
			}
		}
		if level := valuetree.String(v, "logLevel"); !command.OneOf(level, logLevels...) {
			return fmt.Errorf("--cni-log-level must be one of: %s", strings.Join(logLevels, ", "))
		}
		if env := w.Getenv(command.RegistryEnv); env != "" {
			registry = env
		} else if !f.Changed("registry") {
			registry = ""
		}
		if registry != "" {
			if !registryPattern.MatchString(registry) {
				return fmt.Errorf("%s is not a valid Docker registry. The url can contain only letters, numbers, dash, dot, slash and colon", registry)
			}
			valuetree.Set(v, "image.name", strings.TrimSuffix(registry, "/")+"/"+path.Base(valuetree.String(v, "image.name")))
		}
		if len(skipIn) > 0 {
			v["ignoreInboundPorts"] = strings.Join(skipIn, ",")
		}
		if len(skipOut) > 0 {
			v["ignoreOutboundPorts"] = strings.Join(skipOut, ",")
		}
		if len(redirect) > 0 {
			v["portsToRedirect"] = strings.Trim(strings.ReplaceAll(fmt.Sprint(redirect), " ", ","), "[]")
		}
		overrides, err := values.Read(w.Read)
		if err != nil {
			return err
		}
		v = valuetree.Merge(v, overrides)
		v["cliVersion"] = controlplane.ClientVersion()
		manifest, err := c.Render(command.DefaultCNINamespace, v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w.Out, "%s---\n", manifest)
		return err
	}
	return cmd
}
