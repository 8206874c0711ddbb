// Package installcni is the command linkerd install-cni: it prints the manifest
// of the CNI plugin (CLI chapter, section 2.11). It asks no cluster.
package installcni

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

// options are what the flags say.
type options struct {
	values                   chartvalues.Options
	linkerdVersion, registry string
	skipIn, skipOut          []string
	redirect                 []uint
	// flags are those that are a value of the chart; places says which.
	flags  *pflag.FlagSet
	places map[string]string
}

// New returns the command. chart loads the chart linkerd2-cni.
func New(w *command.World, _ *command.Globals, chart func() (controlplane.Chart, error)) *cobra.Command {
	o := options{places: map[string]string{}}
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
		RunE: func(*cobra.Command, []string) error {
			c, err := chart()
			if err != nil {
				return err
			}
			manifest, err := o.render(w, c)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w.Out, "%s---\n", manifest)
			return err
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// register defines the flags.
func (o *options) register(f *pflag.FlagSet) {
	o.flags = f
	f.StringVarP(&o.linkerdVersion, "linkerd-version", "v", version.Current(), "Tag to be used for Linkerd images")
	f.StringVar(&o.registry, "registry", "ghcr.io/linkerd-go", fmt.Sprintf("Docker registry to pull images from ($%s)", command.RegistryEnv))
	add := func(name, at, usage string, define func(name, usage string)) {
		define(name, usage)
		o.places[name] = at
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
	no := func(name, usage string) { f.Bool(name, false, usage) }
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
	add("use-wait-flag", "useWaitFlag", "Configures the CNI plugin to use the \"-w\" flag for the iptables command", no)
	f.UintSliceVar(&o.redirect, "redirect-ports", nil, "Ports to redirect to proxy, if no port is specified then ALL ports are redirected")
	f.StringSliceVar(&o.skipIn, "skip-inbound-ports", nil, "Ports and/or port ranges (inclusive) that should skip the proxy and send directly to the application")
	f.StringSliceVar(&o.skipOut, "skip-outbound-ports", nil, "Outbound ports and/or port ranges (inclusive) that should skip the proxy")
	f.String("install-namespace", "", "accepted and ignored: the chart's namespace is always made")
	_ = f.MarkHidden("install-namespace")
	o.values.Register(f)
}

// render checks what was asked for and gives the manifest.
func (o *options) render(w *command.World, chart controlplane.Chart) ([]byte, error) {
	v, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	if !versionPattern.MatchString(o.linkerdVersion) {
		return nil, fmt.Errorf("%s is not a valid version", o.linkerdVersion)
	}
	v["linkerdVersion"] = o.linkerdVersion
	for _, ranges := range [][]string{o.skipIn, o.skipOut} {
		if err := controlplane.ValidateRanges(ranges); err != nil {
			return nil, err
		}
	}
	if err := o.changed(v); err != nil {
		return nil, err
	}
	if level := valuetree.String(v, "logLevel"); !command.OneOf(level, logLevels...) {
		return nil, fmt.Errorf("--cni-log-level must be one of: %s", strings.Join(logLevels, ", "))
	}
	registry := w.Getenv(command.RegistryEnv)
	if registry == "" && o.flags.Changed("registry") {
		registry = o.registry
	}
	if registry != "" {
		if !registryPattern.MatchString(registry) {
			return nil, fmt.Errorf("%s is not a valid Docker registry. The url can contain only letters, numbers, dash, dot, slash and colon", registry)
		}
		valuetree.Set(v, "image.name", strings.TrimSuffix(registry, "/")+"/"+path.Base(valuetree.String(v, "image.name")))
	}
	if len(o.skipIn) > 0 {
		v["ignoreInboundPorts"] = strings.Join(o.skipIn, ",")
	}
	if len(o.skipOut) > 0 {
		v["ignoreOutboundPorts"] = strings.Join(o.skipOut, ",")
	}
	if len(o.redirect) > 0 {
		v["portsToRedirect"] = strings.Trim(strings.ReplaceAll(fmt.Sprint(o.redirect), " ", ","), "[]")
	}
	overrides, err := o.values.Read(w.Read)
	if err != nil {
		return nil, err
	}
	v = valuetree.Merge(v, overrides)
	v["cliVersion"] = controlplane.ClientVersion()
	return chart.Render(command.DefaultCNINamespace, v)
}

// changed sets the values whose flags were given.
func (o *options) changed(v map[string]any) (err error) {
	for name, at := range o.places {
		flag := o.flags.Lookup(name)
		if !flag.Changed {
			continue
		}
		var value any = flag.Value.String()
		switch flag.Value.Type() {
		case "int64":
			value, err = o.flags.GetInt64(name)
		case "uint":
			value, err = o.flags.GetUint(name)
		case "bool":
			value, err = o.flags.GetBool(name)
		}
		if err != nil {
			return err
		}
		valuetree.Set(v, at, value)
	}
	return nil
}
