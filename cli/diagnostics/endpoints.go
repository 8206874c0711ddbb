package diagnostics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	"github.com/linkerd-go/linkerd-go/cli/controlapi"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/table"
)

// collectFor is how long updates of one authority are collected: there is no
// last update.
const collectFor = 5 * time.Second

type endpointsOptions struct {
	*command.Globals
	output  string
	pod     string
	token   string
	timeout time.Duration
}

// NewEndpoints returns the command endpoints.
func NewEndpoints(w *command.World, g *command.Globals) *cobra.Command {
	o := &endpointsOptions{Globals: g}
	cmd := &cobra.Command{
		Use:     "endpoints [flags] authorities",
		Aliases: []string{"ep"},
		Args:    cobra.MinimumNArgs(1),
		Short:   "Introspect Linkerd's service discovery state",
		Long: `Introspect Linkerd's service discovery state.

This command provides debug information about the internal state of the
control-plane's destination container. It queries the same Destination service
endpoint as the linkerd-proxy's, and returns the addresses associated with that
destination.`,
		Example: `  # get all endpoints for the authorities emoji-svc.emojivoto.svc.cluster.local:8080 and web-svc.emojivoto.svc.cluster.local:80
  linkerd diagnostics endpoints emoji-svc.emojivoto.svc.cluster.local:8080 web-svc.emojivoto.svc.cluster.local:80

  # get that same information in json format
  linkerd diagnostics endpoints -o json emoji-svc.emojivoto.svc.cluster.local:8080 web-svc.emojivoto.svc.cluster.local:80`,
		RunE: func(cmd *cobra.Command, args []string) error { return endpoints(cmd.Context(), w, o, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "table", "Output format; one of: \"table\" or \"json\"")
	f.StringVar(&o.pod, "destination-pod", "", "Target a specific destination Pod when there are multiple running")
	f.StringVar(&o.token, "token", "", "The context token to use when making the request to the destination API")
	f.DurationVar(&o.timeout, "timeout", collectFor, "How long to collect updates for each authority")
	return cmd
}

// row is one endpoint.
type row struct {
	Namespace string            `json:"namespace"`
	IP        string            `json:"ip"`
	Port      uint32            `json:"port"`
	Pod       string            `json:"pod"`
	Service   string            `json:"service"`
	Weight    uint32            `json:"weight"`
	HTTP2     json.RawMessage   `json:"http2,omitempty"`
	Labels    map[string]string `json:"labels"`
}

func endpoints(ctx context.Context, w *command.World, o *endpointsOptions, authorities []string) error {
	if !command.OneOf(o.output, "table", "json") {
		return errors.New("--output currently only supports table and json")
	}
	conn, err := controlapi.Dial(ctx, w, o.Globals, o.pod, controlapi.Destination)
	if err != nil {
		return apiFailed(err)
	}
	defer conn.Close()
	client := destinationpb.NewDestinationClient(conn)
	var rows []row
	for _, authority := range authorities {
		found, err := collect(ctx, client, authority, o)
		if err != nil {
			return apiFailed(err)
		}
		rows = append(rows, found...)
	}
	sort.SliceStable(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		if a.Service != b.Service {
			return a.Service < b.Service
		}
		return a.IP+a.Pod < b.IP+b.Pod
	})
	if len(rows) == 0 {
		fmt.Fprintln(w.Err, "No endpoints found.")
		return nil
	}
	if o.output == "json" {
		data, err := json.MarshalIndent(rows, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintln(w.Out, string(data))
		return nil
	}
	for start := 0; start < len(rows); {
		end := start
		t := table.New(table.Column{Header: "NAMESPACE", Left: true}, table.Column{Header: "IP", Left: true}, table.Column{Header: "PORT", Left: true},
			table.Column{Header: "POD", Left: true}, table.Column{Header: "SERVICE", Left: true})
		for ; end < len(rows) && rows[end].Namespace == rows[start].Namespace; end++ {
			r := rows[end]
			t.Add(r.Namespace, r.IP, fmt.Sprint(r.Port), r.Pod, r.Service)
		}
		if start > 0 {
			fmt.Fprintln(w.Out)
		}
		if err := t.WriteAligned(w.Out); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// collect follows the updates of one authority until the time is over, and
// returns what is there at the end.
func collect(ctx context.Context, client destinationpb.DestinationClient, authority string, o *endpointsOptions) ([]row, error) {
	if !strings.Contains(authority, ":") {
		authority += ":80"
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	stream, err := client.Get(ctx, &destinationpb.GetDestination{Scheme: "http:", Path: authority, ContextToken: o.token})
	if err != nil {
		return nil, err
	}
	found := map[string]row{}
	for {
		update, err := stream.Recv()
		// The server is told of the deadline and may see it first, when it
		// ends the stream without an error.
		if status.Code(err) == codes.DeadlineExceeded || errors.Is(err, io.EOF) && (len(found) > 0 || nearlyOver(ctx, o.timeout)) {
			break
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("the control plane ended the stream for %s before it said anything", authority)
		}
		if err != nil {
			return nil, err
		}
		switch u := update.GetUpdate().(type) {
		case *destinationpb.Update_Add:
			for _, a := range u.Add.GetAddrs() {
				r, err := endpointRow(authority, u.Add.GetMetricLabels(), a)
				if err != nil {
					return nil, err
				}
				found[address(a.GetAddr())] = r
			}
		case *destinationpb.Update_Remove:
			for _, a := range u.Remove.GetAddrs() {
				delete(found, address(a))
			}
		case *destinationpb.Update_NoEndpoints:
			clear(found)
		}
	}
	rows := make([]row, 0, len(found))
	for _, r := range found {
		rows = append(rows, r)
	}
	return rows, nil
}

// nearlyOver reports whether all but a tenth of the time is gone.
func nearlyOver(ctx context.Context, limit time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < limit/10
}

func endpointRow(authority string, setLabels map[string]string, a *destinationpb.WeightedAddr) (row, error) {
	labels := map[string]string{}
	for k, v := range setLabels {
		labels[k] = v
	}
	for k, v := range a.GetMetricLabels() {
		labels[k] = v
	}
	r := row{
		Namespace: labels["namespace"],
		IP:        ip(a.GetAddr().GetIp()),
		Port:      a.GetAddr().GetPort(),
		Pod:       labels["pod"],
		Service:   authority,
		Weight:    a.GetWeight(),
		Labels:    labels,
	}
	if service := labels["service"]; service != "" && r.Namespace != "" {
		r.Service = service + "." + r.Namespace
	}
	if a.GetHttp2() != nil {
		data, err := protoJSON(a.GetHttp2(), false)
		if err != nil {
			return r, err
		}
		r.HTTP2 = data
	}
	return r, nil
}

func address(a *netpb.TcpAddress) string { return fmt.Sprintf("%s:%d", ip(a.GetIp()), a.GetPort()) }

// ip writes an address of the API.
func ip(a *netpb.IPAddress) string {
	if v6 := a.GetIpv6(); v6 != nil {
		var b [16]byte
		for i := range 8 {
			b[i] = byte(v6.GetFirst() >> (56 - 8*i))
			b[8+i] = byte(v6.GetLast() >> (56 - 8*i))
		}
		return netip.AddrFrom16(b).String()
	}
	v4 := a.GetIpv4()
	return netip.AddrFrom4([4]byte{byte(v4 >> 24), byte(v4 >> 16), byte(v4 >> 8), byte(v4)}).String()
}
