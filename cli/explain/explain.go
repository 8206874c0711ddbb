// Package explain asks the policy controller why a client may or may not reach
// a port, and prints the answer; `linkerd diagnostics policy` and `linkerd
// authz` share it. What decides is known to the controller alone: this package
// turns what an operator writes into a question, and an answer into text.
//
//	var f explain.Flags
//	f.Register(cmd.Flags())
//	client, err := f.Client(ctx, w, cluster, namespace)
//	request, err := f.Request()
//	a, err := asker.Inbound(ctx, question)
//	explain.Print(w.Out, a, true) // with the reasons
//
// Values are for one goroutine.
package explain

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// Flags are how an operator says who asks for what.
type Flags struct {
	// Explain asks for all reasons.
	Explain             bool
	From, FromNamespace string
	FromIP              string
	Method, Path, Host  string
	Headers             []string
}

// Register adds the flags to a command.
func (f *Flags) Register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.Explain, "explain", false, "Say which resources decide who gets in, and why")
	fs.StringVar(&f.From, "from", "", "The client: TYPE/NAME of a workload or ServiceAccount (sa/NAME), NAMESPACE/SERVICEACCOUNT, a mesh identity, an IP address, or \"unauthenticated\" for one outside of the mesh")
	fs.StringVar(&f.FromNamespace, "from-namespace", "", "Namespace of the client (default that of the resource)")
	fs.StringVar(&f.FromIP, "from-ip", "", "IP address of the client, where that of --from is not known")
	fs.StringVar(&f.Method, "method", "", "Method of the request that the client makes")
	fs.StringVar(&f.Path, "path", "", "Path of the request, with its query; for gRPC /SERVICE/METHOD")
	fs.StringVar(&f.Host, "host", "", "Host that the request is for")
	fs.StringArrayVar(&f.Headers, "header", nil, "Header of the request, NAME:VALUE; may be repeated")
}

// Wanted reports whether an explanation is asked for.
func (f *Flags) Wanted() bool {
	return f.Explain || f.From != "" || f.FromIP != "" || f.HasRequest()
}

// HasRequest reports whether the question is about a request.
func (f *Flags) HasRequest() bool {
	return f.Method != "" || f.Path != "" || f.Host != "" || len(f.Headers) > 0
}

// Request returns the request in question, nil for none in particular.
func (f *Flags) Request() (*explainpb.Request, error) {
	if !f.HasRequest() {
		return nil, nil
	}
	r := &explainpb.Request{Method: strings.ToUpper(f.Method), Path: f.Path, Host: f.Host}
	for _, h := range f.Headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q is not of the form NAME:VALUE", h)
		}
		r.Headers = append(r.Headers, &explainpb.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	return r, nil
}

// Unauthenticated is what an operator writes for a client outside of the mesh.
const Unauthenticated = "unauthenticated"

// Client returns the client in question, nil for none in particular. Workloads
// and addresses are looked up in the cluster; a workload stands for its first
// pod.
func (f *Flags) Client(ctx context.Context, c *cluster.Cluster, namespace string) (*explainpb.Client, error) {
	client := &explainpb.Client{}
	if f.FromIP != "" {
		if _, err := netip.ParseAddr(f.FromIP); err != nil {
			return nil, fmt.Errorf("--from-ip %q is not an IP address", f.FromIP)
		}
		client.Address = f.FromIP
	}
	if f.FromNamespace != "" {
		namespace = f.FromNamespace
	}
	if f.From == "" {
		if f.FromIP == "" {
			return nil, nil
		}
		return client, nil
	}
	if f.From == Unauthenticated {
		client.Authentication = &explainpb.Client_Unauthenticated{Unauthenticated: &explainpb.Nothing{}}
		return client, nil
	}
	if addr, err := netip.ParseAddr(f.From); err == nil {
		return f.at(ctx, c, client, addr)
	}
	kind, name, isResource := strings.Cut(f.From, "/")
	switch {
	case strings.Contains(f.From, "://"), !isResource && strings.Contains(f.From, "."):
		client.Authentication = &explainpb.Client_Identity{Identity: f.From}
		return client, nil
	case !isResource || kind == "" || name == "" || strings.Contains(name, "/"):
		return nil, fmt.Errorf("--from %q is none of TYPE/NAME, NAMESPACE/SERVICEACCOUNT, an identity, an IP address, %s", f.From, Unauthenticated)
	}
	switch kind {
	case "sa", "serviceaccount", "serviceaccounts":
		client.Authentication = account(namespace, name)
		return client, nil
	}
	canonical, err := workload.Canonical(kind)
	if err != nil {
		client.Authentication = account(kind, name)
		return client, nil
	}
	x, err := workload.Read(ctx, c.Kube, namespace)
	if err != nil {
		return nil, err
	}
	objects := x.Objects(workload.Target{Type: canonical, Name: name}, nil)
	if len(objects) == 0 {
		return nil, fmt.Errorf("--from: there is no %s %s in namespace %s", canonical, name, namespace)
	}
	pods := Running(objects[0].Pods)
	if len(pods) == 0 {
		return nil, fmt.Errorf("--from: no pod of %s %s/%s is running", canonical, namespace, name)
	}
	of(client, pods[0])
	return client, nil
}

func account(namespace, name string) *explainpb.Client_ServiceAccount {
	return &explainpb.Client_ServiceAccount{ServiceAccount: &explainpb.ServiceAccount{Namespace: namespace, Name: name}}
}

// of makes a client that of a pod.
func of(client *explainpb.Client, pod *corev1.Pod) {
	if client.GetAddress() == "" {
		client.Address = pod.Status.PodIP
	}
	if identity := workload.Identity(pod); identity != "" {
		client.Authentication = &explainpb.Client_Identity{Identity: identity}
	} else {
		client.Authentication = &explainpb.Client_Unauthenticated{Unauthenticated: &explainpb.Nothing{}}
	}
}

// at makes a client that of the pod with an address. An address that no pod
// has is outside of the mesh.
func (f *Flags) at(ctx context.Context, c *cluster.Cluster, client *explainpb.Client, addr netip.Addr) (*explainpb.Client, error) {
	client.Address = addr.String()
	client.Authentication = &explainpb.Client_Unauthenticated{Unauthenticated: &explainpb.Nothing{}}
	pods, err := c.Kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "status.podIP=" + addr.String()})
	if err != nil {
		return nil, fmt.Errorf("--from: failed to find the pod at %s: %w", addr, err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		// Pods on the node's network share its address, and who speaks from
		// it cannot be told.
		if p.Status.PodIP == addr.String() && p.Status.Phase == corev1.PodRunning && !p.Spec.HostNetwork {
			of(client, p)
		}
	}
	return client, nil
}

// Running returns the running pods, by name.
func Running(pods []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range pods {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// answerWithin bounds the wait for an answer.
const answerWithin = 30 * time.Second

// Asker asks the policy controller.
type Asker struct{ client explainpb.ExplainClient }

// NewAsker returns the Asker at a connection to the policy API.
func NewAsker(conn grpc.ClientConnInterface) *Asker {
	return &Asker{explainpb.NewExplainClient(conn)}
}

// Inbound asks about a port of a workload. The error is fit to be printed.
func (a *Asker) Inbound(ctx context.Context, q *explainpb.InboundRequest) (*explainpb.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	answer, err := a.client.Inbound(ctx, q)
	return answer, failed(err)
}

// Outbound asks about a port of a Service. The error is fit to be printed.
func (a *Asker) Outbound(ctx context.Context, q *explainpb.OutboundRequest) (*explainpb.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	answer, err := a.client.Outbound(ctx, q)
	return answer, failed(err)
}

// ErrOlder is the error of a control plane that cannot explain.
var ErrOlder = errors.New("the policy controller cannot explain its policies: it is older than this command; see `linkerd upgrade`")

func failed(err error) error {
	if err == nil {
		return nil
	}
	switch s := status.Convert(err); s.Code() {
	case codes.Unimplemented:
		return &command.Failure{Message: ErrOlder.Error()}
	case codes.NotFound, codes.InvalidArgument:
		return command.Failf("%s", s.Message())
	}
	return command.Failf("Policy API error: %s", err)
}

// Pods asks the same of the same port of pods that should be alike, and
// returns the answers that differ, each with the pods that have it.
func (a *Asker) Pods(ctx context.Context, pods []*corev1.Pod, q func(pod *corev1.Pod) *explainpb.InboundRequest) ([]Answer, error) {
	var answers []Answer
	index := map[string]int{}
	for _, pod := range pods {
		e, err := a.Inbound(ctx, q(pod))
		if err != nil {
			return nil, err
		}
		data, err := JSON(e)
		if err != nil {
			return nil, err
		}
		key := strings.ReplaceAll(string(data), pod.Namespace+"/"+pod.Name, "the pod")
		if at, seen := index[key]; seen {
			answers[at].Pods = append(answers[at].Pods, pod.Name)
			continue
		}
		index[key] = len(answers)
		answers = append(answers, Answer{Explanation: e, Pods: []string{pod.Name}})
	}
	return answers, nil
}

// Answer is an explanation and the pods that it is for.
type Answer struct {
	Explanation *explainpb.Explanation
	Pods        []string
}

// marks are those of the CLI chapter, section 1.8, and two more.
var marks = map[explainpb.Mark]string{
	explainpb.Mark_NOTE:    "-",
	explainpb.Mark_YES:     "√",
	explainpb.Mark_NO:      "×",
	explainpb.Mark_WARNING: "‼",
	explainpb.Mark_OPEN:    "?",
}

// Resource is a resource as people write it.
func Resource(r *explainpb.Resource) string {
	switch {
	case r == nil:
		return ""
	case r.GetKind() == "default" && names.IsDefaultPolicy(r.GetName()):
		return "default policy " + r.GetName()
	case r.GetNamespace() == "":
		return r.GetKind() + " " + r.GetName()
	}
	return r.GetKind() + " " + r.GetNamespace() + "/" + r.GetName()
}

// Print writes an explanation: the verdict in a line, and with chain the
// reasons below it.
func Print(out io.Writer, a Answer, chain bool) {
	e := a.Explanation
	fmt.Fprintln(out, e.GetSummary())
	if len(a.Pods) > 1 {
		fmt.Fprintf(out, "  - the same for pods %s\n", strings.Join(a.Pods[1:], ", "))
	}
	if !chain {
		return
	}
	if text := e.GetAnswer().GetText(); text != "" {
		fmt.Fprintf(out, "  - the client gets: %s\n", text)
	}
	printSteps(out, e.GetSteps(), "  ")
}

func printSteps(out io.Writer, steps []*explainpb.Step, indent string) {
	for _, s := range steps {
		text := s.GetText()
		if r := Resource(s.GetResource()); r != "" {
			text = r + ": " + text
		}
		fmt.Fprintf(out, "%s%s %s\n", indent, marks[s.GetMark()], text)
		printSteps(out, s.GetSteps(), indent+"  ")
	}
}

// JSON is an explanation as JSON, indented. protojson varies its white space
// on purpose; a second pass through encoding/json makes the output stable.
func JSON(e *explainpb.Explanation) ([]byte, error) {
	data, err := protojson.Marshal(e)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, data, "", "  ")
	return out.Bytes(), err
}

// Write writes explanations: as text for an output of "", else as a list in
// JSON or YAML.
func Write(out io.Writer, output string, answers []Answer, chain bool) error {
	if output == "" {
		for i, a := range answers {
			if i > 0 && chain {
				fmt.Fprintln(out)
			}
			Print(out, a, chain)
		}
		return nil
	}
	list := []any{}
	for _, a := range answers {
		data, err := JSON(a.Explanation)
		if err != nil {
			return err
		}
		var object map[string]any
		if err := json.Unmarshal(data, &object); err != nil {
			return err
		}
		if len(a.Pods) > 0 {
			object["pods"] = a.Pods
		}
		list = append(list, object)
	}
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	if output == "yaml" {
		if data, err = yaml.JSONToYAML(data); err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", data)
	return err
}
