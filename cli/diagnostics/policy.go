package diagnostics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/cli/controlapi"
	"github.com/linkerd-go/linkerd-go/cli/explain"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// answerWithin bounds the wait for the first answer of a stream.
const answerWithin = 30 * time.Second

// protoJSON writes a message as JSON. protojson varies its white space on
// purpose; a second pass through encoding/json makes the output stable.
func protoJSON(m proto.Message, indent bool) ([]byte, error) {
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if indent {
		err = json.Indent(&out, data, "", "  ")
	} else {
		err = json.Compact(&out, data)
	}
	return out.Bytes(), err
}

func newProfile(w *command.World, g *command.Globals) *cobra.Command {
	var pod, token string
	cmd := &cobra.Command{
		Use:   "profile [flags] address",
		Args:  cobra.ExactArgs(1),
		Short: "Introspect Linkerd's service discovery state",
		Long: `Introspect Linkerd's service discovery state.

This command provides debug information about the internal state of the
control-plane's destination controller. It queries the same Destination service
endpoint as the linkerd-proxy's, and returns the profile associated with that
destination.`,
		Example: `  # Get the service profile for the service or endpoint at 10.20.2.4:8080
  linkerd diagnostics profile 10.20.2.4:8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return profile(cmd.Context(), w, g, pod, token, args[0])
		},
	}
	cmd.Flags().StringVar(&pod, "destination-pod", "", "Target a specific destination Pod when there are multiple running")
	cmd.Flags().StringVar(&token, "token", "", "The context token to use when making the request to the destination API")
	return cmd
}

func profile(ctx context.Context, w *command.World, g *command.Globals, pod, token, address string) error {
	conn, err := controlapi.Dial(ctx, w, g, pod, controlapi.Destination)
	if err != nil {
		return apiFailed(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	stream, err := destinationpb.NewDestinationClient(conn).GetProfile(ctx, &destinationpb.GetDestination{Path: address, ContextToken: token})
	if err != nil {
		return apiFailed(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		return apiFailed(err)
	}
	text, err := protoJSON(answer, true)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.Out, "%s\n", text)
	return nil
}

type policyOptions struct {
	*command.Globals
	namespace, output, pod, token string
	explain                       explain.Flags
}

func newPolicy(w *command.World, g *command.Globals) *cobra.Command {
	o := &policyOptions{Globals: g}
	cmd := &cobra.Command{
		Use:   "policy [flags] resource port",
		Args:  cobra.ExactArgs(2),
		Short: "Introspect Linkerd's policy state",
		Long: `Introspect Linkerd's policy state.

This command provides debug information about the internal state of the
control-plane's policy controller. It queries the same control-plane endpoint
as the linkerd-proxy's, and returns the policies associated with the given
resource: the inbound policy of a Pod, the outbound policy of a Service.

With --explain, or with a client (--from) or a request (--path, ...), it says
instead who gets in, and which resources decide that.`,
		Example: `  # get the inbound policy for pod emoji-6d66d87995-bvrnn on port 8080
  linkerd diagnostics policy -n emojivoto po/emoji-6d66d87995-bvrnn 8080

  # get the outbound policy for Service emoji-svc on port 8080
  linkerd diagnostics policy -n emojivoto svc/emoji-svc 8080

  # why can (or can't) the pods of web call a method of emoji?
  linkerd diagnostics policy -n emojivoto deploy/emoji 8080 --from deploy/web --path /emojivoto.v1.EmojiService/ListAll

  # who is let in at the port named http, and what decides that?
  linkerd diagnostics policy -n emojivoto deploy/web http --explain`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.explain.Wanted() {
				if !cmd.Flags().Changed("output") {
					o.output = ""
				}
				return explainPolicy(cmd.Context(), w, o, args[0], args[1])
			}
			return policy(cmd.Context(), w, o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "Namespace of resource")
	f.StringVarP(&o.output, "output", "o", "yaml", "Output format. One of: yaml, json")
	f.StringVar(&o.pod, "destination-pod", "", "Target a specific destination Pod when there are multiple running")
	f.StringVar(&o.token, "token", "default:diagnostics", "Token to use when querying the policy service")
	o.explain.Register(f)
	return cmd
}

func policy(ctx context.Context, w *command.World, o *policyOptions, resource, portText string) error {
	kind, name, found := strings.Cut(resource, "/")
	if !found || name == "" {
		return errors.New("resource type and name are required")
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("invalid resource string: %s", resource)
	}
	canonical, err := workload.Canonical(kind)
	if err != nil || canonical != workload.Pod && canonical != workload.Service {
		return fmt.Errorf("invalid resource type %s; must be one of Pod or Service", kind)
	}
	if !command.OneOf(o.output, "yaml", "json") {
		return errors.New("output must be one of: yaml, json")
	}
	port, err := strconv.ParseUint(portText, 10, 32)
	if err != nil {
		return err
	}
	conn, err := controlapi.Dial(ctx, w, o.Globals, o.pod, controlapi.Policy)
	if err != nil {
		return apiFailed(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var answer proto.Message
	if canonical == workload.Pod {
		answer, err = inboundpb.NewInboundServerPoliciesClient(conn).GetPort(ctx, &inboundpb.PortSpec{
			Workload: o.namespace + ":" + name,
			Port:     uint32(port),
		})
	} else {
		answer, err = outboundpb.NewOutboundPoliciesClient(conn).Get(ctx, &outboundpb.TrafficSpec{
			SourceWorkload: o.token,
			Target:         &outboundpb.TrafficSpec_Authority{Authority: fmt.Sprintf("%s.%s.svc:%d", name, o.namespace, port)},
		})
	}
	if err != nil {
		return apiFailed(err)
	}
	text, err := protoJSON(answer, true)
	if err != nil {
		return err
	}
	if o.output == "yaml" {
		if text, err = yaml.JSONToYAML(text); err != nil {
			return err
		}
		fmt.Fprintf(w.Out, "%s", text)
		return nil
	}
	fmt.Fprintf(w.Out, "%s\n", text)
	return nil
}

// explainPolicy prints why clients may or may not reach a port. An output of
// "" is text.
func explainPolicy(ctx context.Context, w *command.World, o *policyOptions, resource, port string) error {
	kind, name, found := strings.Cut(resource, "/")
	if !found || name == "" {
		return errors.New("resource type and name are required")
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("invalid resource string: %s", resource)
	}
	canonical, err := explain.Canonical(kind)
	if err != nil {
		return err
	}
	if !command.OneOf(o.output, "", "yaml", "json") {
		return errors.New("output must be one of: yaml, json")
	}
	q := explain.Question{Namespace: o.namespace, Kind: canonical, Name: name, Port: port, ClientNamespace: o.explain.FromNamespace}
	if q.Request, err = o.explain.Request(); err != nil {
		return err
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	if q.Client, err = o.explain.Client(ctx, c, o.namespace); err != nil {
		return err
	}
	conn, err := controlapi.Dial(ctx, w, o.Globals, o.pod, controlapi.Policy)
	if err != nil {
		return command.Failf("Policy API error: %s", err)
	}
	defer conn.Close()
	answers, err := explain.NewAsker(conn).Ask(ctx, c, q)
	if err != nil {
		return err
	}
	return explain.Write(w.Out, o.output, answers, true)
}
