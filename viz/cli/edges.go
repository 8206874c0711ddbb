package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/table"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

type edgesOptions struct {
	*command.Globals
	namespace, output, to string
	allNamespaces         bool
}

// reasons are the texts for a connection without TLS (extensions chapter,
// section 3.5).
var reasons = map[string]string{
	"disabled":                          "Disabled",
	"loopback":                          "Loopback",
	"no_authority_in_http_request":      "No Authority In HTTP Request",
	"not_http":                          "Not HTTP",
	"not_provided_by_remote":            "Not Provided By Remote",
	"not_provided_by_service_discovery": "Not Provided By Service Discovery",
	"ingress_without_override":          "Ingress Without Override",
	"port_skipped":                      "Port Skipped",
	"no_tls_from_remote":                "No TLS From Remote",
	"":                                  "",
}

// NewEdges returns the command edges.
func NewEdges(w *command.World, g *command.Globals) *cobra.Command {
	o := &edgesOptions{Globals: g}
	cmd := &cobra.Command{
		Use:   "edges [flags] (RESOURCETYPE)",
		Short: "Display connections between resources, and Linkerd proxy identities",
		Long: `Display connections between resources, and Linkerd proxy identities.

  The RESOURCETYPE argument specifies the type of resource to display edges within.

  Valid resource types include: cronjobs, daemonsets, deployments, jobs, namespaces,
  pods, replicasets, replicationcontrollers and statefulsets.`,
		Example: `  # Get all edges between pods that either originate from or terminate in the test namespace.
  linkerd viz edges po -n test

  # Get all edges between pods in all namespaces.
  linkerd viz edges po --all-namespaces`,
		RunE: func(cmd *cobra.Command, args []string) error { return runEdges(cmd.Context(), w, o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of the specified resource")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "If present, returns edges across all namespaces, ignoring the \"--namespace\" flag")
	f.StringVarP(&o.output, "output", "o", "table", "Output format; one of: \"table\" or \"json\" or \"wide\"")
	f.StringVar(&o.to, "to", "", "If present, only edges to the resource of this name")
	return cmd
}

// edge is one line of output.
type edge struct {
	Src          string `json:"src"`
	SrcNamespace string `json:"src_namespace"`
	Dst          string `json:"dst"`
	DstNamespace string `json:"dst_namespace"`
	ClientID     string `json:"client_id"`
	ServerID     string `json:"server_id"`
	NoTLSReason  string `json:"no_tls_reason"`
}

func edgeType(args []string) (string, error) {
	if len(args) == 0 {
		return "", workload.ErrNone
	}
	targets, err := workload.Parse(args)
	if err != nil {
		return "", err
	}
	if len(targets) > 1 || targets[0].Name != "" {
		var names []string
		for _, t := range targets {
			names = append(names, t.Name)
		}
		return "", fmt.Errorf("Edges cannot be returned for a specific resource name; remove %s from query", strings.Join(names, " ")) //nolint:staticcheck // The text is what scripts know.
	}
	kind := targets[0].Type
	for _, k := range append([]string{workload.Namespace}, workload.PodOwners...) {
		if k == kind {
			return kind, nil
		}
	}
	return "", fmt.Errorf("Resource type is not supported: %s", kind) //nolint:staticcheck // Likewise.
}

func runEdges(ctx context.Context, w *command.World, o *edgesOptions, args []string) error {
	if !command.OneOf(o.output, "table", "json", "wide", "") {
		return errors.New("--output supports table, json and wide")
	}
	kind, err := edgeType(args)
	if err != nil {
		return fmt.Errorf("Error creating edges request: %w", err) //nolint:staticcheck // Likewise.
	}
	c, err := o.Connect(w)
	if err != nil {
		return command.Failf("Cannot connect to Kubernetes: %s", err)
	}
	x, err := workload.Read(ctx, c.Kube, "")
	if err != nil {
		return command.Failf("Edges API error: %s", err)
	}
	observations, err := (&collector{world: w, cluster: c}).once(ctx, meshed(x.Pods()))
	if err != nil {
		return command.Failf("Edges API error: %s", err)
	}
	namespace := command.ContextNamespace(o.namespace, c)
	if o.allNamespaces {
		namespace = ""
	}
	edges := findEdges(x, kind, namespace, observations)
	if o.to != "" {
		name := o.to
		if _, after, found := strings.Cut(o.to, "/"); found {
			name = after
		}
		kept := edges[:0]
		for _, e := range edges {
			if e.Dst == name {
				kept = append(kept, e)
			}
		}
		edges = kept
	}
	return writeEdges(w, o.output, edges)
}

// unmeshedClient stands for every client that has no proxy: nothing tells who
// it is.
const unmeshedClient = "-"

// findEdges reads connections off the metrics of the clients: a proxy labels
// each outbound connection with where it leads and whom it trusted. Clients
// without a proxy are seen from the server's side only.
func findEdges(x *workload.Index, kind, namespace string, observations []observation) []edge {
	type ends struct{ srcNamespace, src, dstNamespace, dst string }
	found := map[ends]edge{}
	for _, o := range observations {
		src := x.Owned(o.pod, kind)
		if src == "" {
			continue
		}
		for _, s := range o.gauges {
			l := s.Labels
			if s.Name != "tcp_open_connections" || s.Value == 0 {
				continue
			}
			if l["direction"] == "inbound" && l["no_tls_reason"] == "no_tls_from_remote" && l["target_port"] != adminPort(o.pod) {
				if namespace == "" || namespace == o.pod.Namespace {
					found[ends{unmeshedClient, unmeshedClient, o.pod.Namespace, src}] = edge{
						Src: unmeshedClient, SrcNamespace: unmeshedClient, Dst: src, DstNamespace: o.pod.Namespace, NoTLSReason: reason(l),
					}
				}
				continue
			}
			if l["direction"] != "outbound" {
				continue
			}
			dst := l["dst_"+labelOf(kind)]
			if dst == "" {
				continue
			}
			at := ends{o.pod.Namespace, src, l["dst_namespace"], dst}
			if namespace != "" && at.srcNamespace != namespace && at.dstNamespace != namespace {
				continue
			}
			e := edge{
				Src: src, SrcNamespace: at.srcNamespace, Dst: dst, DstNamespace: at.dstNamespace,
				ServerID: l["server_id"], NoTLSReason: reason(l),
			}
			if e.NoTLSReason == "" {
				e.ClientID = workload.Identity(o.pod)
			}
			// One insecure connection makes the edge insecure, whatever the others are.
			if known, ok := found[at]; ok && (known.NoTLSReason != "" || e.NoTLSReason == "") {
				continue
			}
			found[at] = e
		}
	}
	edges := make([]edge, 0, len(found))
	for _, e := range found {
		edges = append(edges, e)
	}
	sort.Slice(edges, func(i, j int) bool {
		a, b := edges[i], edges[j]
		return a.SrcNamespace+a.DstNamespace+a.Src+a.Dst < b.SrcNamespace+b.DstNamespace+b.Src+b.Dst
	})
	return edges
}

// reason says why a connection is not secured; empty when it is.
func reason(labels map[string]string) string {
	if labels["tls"] == "true" {
		return ""
	}
	key := labels["no_tls_reason"]
	if key == "" {
		key = labels["tls"]
	}
	if text, ok := reasons[key]; ok && text != "" {
		return text
	}
	return "Not Secured"
}

func writeEdges(w *command.World, format string, edges []edge) error {
	if format == "json" {
		data, err := json.MarshalIndent(edges, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(w.Out, string(data))
		return nil
	}
	if len(edges) == 0 {
		fmt.Fprintln(w.Err, "No edges found.")
		return nil
	}
	wide := format == "wide"
	left := func(header string, hide bool) table.Column {
		return table.Column{Header: header, Left: true, Hide: hide}
	}
	t := table.New(left("SRC", false), left("DST", false), left("SRC_NS", false), left("DST_NS", false),
		left("CLIENT_ID", !wide), left("SERVER_ID", !wide), left("SECURED", false))
	for _, e := range edges {
		secured := e.NoTLSReason
		if secured == "" {
			secured = "√"
		}
		t.Add(e.Src, e.Dst, e.SrcNamespace, e.DstNamespace, shortID(e.ClientID), shortID(e.ServerID), secured)
	}
	return t.WriteAligned(w.Out)
}

// shortID is the part of an identity that tells workloads apart.
func shortID(id string) string {
	parts := strings.SplitN(id, ".", 3)
	if len(parts) < 2 {
		return id
	}
	return parts[0] + "." + parts[1]
}
