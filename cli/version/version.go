// Package version is the command linkerd version (CLI chapter, section 5.1).
package version

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/version"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// queryTimeout bounds each question to the cluster: a version is no reason to
// wait.
const queryTimeout = 5 * time.Second

const unavailable = "unavailable"

type options struct {
	*command.Globals
	short      bool
	clientOnly bool
	proxies    bool
	namespace  string
	output     string
}

// New returns the command.
func New(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the client and server version information",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), w, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.short, "short", false, "Print the version number(s) only, with no additional output")
	f.BoolVar(&o.clientOnly, "client", false, "Print the client version only")
	f.BoolVar(&o.proxies, "proxy", false, "Print data-plane versions")
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace to use for --proxy (default: all namespaces)")
	f.StringVarP(&o.output, "output", "o", "", "Output format, json for one object instead of text")
	return cmd
}

func run(ctx context.Context, w *command.World, o *options) error {
	if !command.OneOf(o.output, "", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	client, server := version.Current(), ""
	var proxies map[string]int
	if !o.clientOnly {
		server = serverVersion(ctx, w, o)
		if o.proxies {
			proxies = proxyVersions(ctx, w, o)
		}
	}
	if o.output == "json" {
		data, err := json.MarshalIndent(struct {
			Client  string         `json:"client"`
			Server  string         `json:"server,omitempty"`
			Proxies map[string]int `json:"proxies,omitempty"`
		}{client, server, proxies}, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(w.Out, string(data))
		return nil
	}
	clientPrefix, serverPrefix := "Client version: ", "Server version: "
	if o.short {
		clientPrefix, serverPrefix = "", ""
	}
	fmt.Fprintf(w.Out, "%s%s\n", clientPrefix, client)
	if o.clientOnly {
		return nil
	}
	fmt.Fprintf(w.Out, "%s%s\n", serverPrefix, server)
	if !o.proxies {
		return nil
	}
	if proxies == nil {
		fmt.Fprintln(w.Out, "Proxy versions: "+unavailable)
		return nil
	}
	fmt.Fprintln(w.Out, "Proxy versions:")
	var names []string
	for v := range proxies {
		names = append(names, v)
	}
	sort.Strings(names)
	for _, v := range names {
		fmt.Fprintf(w.Out, "\t%s (%d pods)\n", v, proxies[v])
	}
	return nil
}

func serverVersion(ctx context.Context, w *command.World, o *options) string {
	c, err := o.Connect(w)
	if err != nil {
		return unavailable
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	cm, err := c.Kube.CoreV1().ConfigMaps(o.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return unavailable
	}
	values, err := controlplane.Values(cm)
	if err != nil {
		return unavailable
	}
	if v := valuetree.String(values, "linkerdVersion"); v != "" {
		return v
	}
	return unavailable
}

// proxyVersions counts pods by the version of their proxy; nil when that
// cannot be told.
func proxyVersions(ctx context.Context, w *command.World, o *options) map[string]int {
	c, err := o.Connect(w)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	pods, err := c.Kube.CoreV1().Pods(o.namespace).List(ctx, metav1.ListOptions{LabelSelector: controlplane.ControlPlaneNS + "=" + o.Namespace})
	if err != nil {
		return nil
	}
	counts := map[string]int{}
	for i := range pods.Items {
		if v := workload.ProxyVersion(&pods.Items[i]); v != "" {
			counts[v]++
		}
	}
	return counts
}
