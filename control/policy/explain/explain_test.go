package explain_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/grpc/status"

	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestExplanations gives the objects of each file in testdata to the controller, asks the questions, and compares the
// explanations with the file. `go test ./control/policy/explain -update` writes them down; to add a case, add a file without
// `want` parts and do that. The parts of a file are, in any number and order:
//
//	-- settings --  one per line; of the controller: default=POLICY
//	-- apply --     objects, as YAML documents; what is left out of them is filled in, see package policytest
//	-- ask --       questions, one per line, see below
//	-- want --      the explanations
//
// A question is a workload and a port, `pod/web-1 8080` or `externalworkload/vm http`, or a Service and a port, `svc/web 80`,
// then any of: `sa=NAMESPACE/NAME`, `id=IDENTITY`, `plain`, `anonymous`, `ip=ADDRESS` about the client, `ns=NAMESPACE` of
// the clients of a Service, and `GET`, `/path`, `host=NAME`, `NAME:VALUE` (a header) about the request.
func TestExplanations(t *testing.T) { golden.Archives(t, "testdata", play) }

func play(t *testing.T, parts []txtar.File) []txtar.File {
	config := policytest.Config()
	for _, part := range parts {
		if part.Name != "settings" {
			continue
		}
		for setting := range strings.FieldsSeq(string(part.Data)) {
			policy, ok := strings.CutPrefix(setting, "default=")
			if !ok {
				t.Fatalf("unknown setting %q", setting)
			}
			if err := config.DefaultPolicy.Set(policy); err != nil {
				t.Fatal(err)
			}
		}
	}
	x := index.New(index.Options{Config: config, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	defer func() { cancel(); <-done }()
	service := explain.New(x, &config)
	var objects policytest.Objects
	var out []txtar.File
	for _, part := range parts {
		switch part.Name {
		case "want":
			continue
		case "apply":
			for _, object := range objects.Read(t, string(part.Data)) {
				_ = x.Apply(ctx, object) // what is wrong with an object is part of explanations
			}
		}
		out = append(out, part)
		if part.Name == "ask" {
			var answers strings.Builder
			for line := range strings.Lines(string(part.Data)) {
				line = strings.TrimSpace(line)
				fmt.Fprintf(&answers, "> %s\n%s\n", line, ask(ctx, t, service, line))
			}
			out = append(out, txtar.File{Name: "want", Data: []byte(strings.TrimSuffix(answers.String(), "\n"))})
		}
	}
	return out
}

func ask(ctx context.Context, t *testing.T, service *explain.Service, question string) string {
	words := strings.Fields(question)
	kind, name, _ := strings.Cut(words[0], "/")
	client := &explainpb.Client{}
	request := &explainpb.Request{}
	isClient, isRequest := false, false
	namespace := ""
	for _, word := range words[2:] {
		key, value, assigned := strings.Cut(word, "=")
		header, content, isHeader := strings.Cut(word, ":")
		switch {
		case key == "sa":
			ns, account, _ := strings.Cut(value, "/")
			client.Authentication = &explainpb.Client_ServiceAccount{ServiceAccount: &explainpb.ServiceAccount{Namespace: ns, Name: account}}
		case key == "id":
			client.Authentication = &explainpb.Client_Identity{Identity: value}
		case key == "plain":
			client.Authentication = &explainpb.Client_Unauthenticated{}
		case key == "anonymous":
			client.Authentication = &explainpb.Client_Anonymous{}
		case key == "ip":
			client.Address = value
		case key == "ns":
			namespace = value
		case key == "host":
			request.Host = value
		case strings.HasPrefix(word, "/"):
			request.Path = word
		case isHeader:
			request.Headers = append(request.Headers, &explainpb.Header{Name: header, Value: content})
		case !assigned && strings.ToUpper(word) == word:
			request.Method = word
		default:
			t.Fatalf("unknown word %q in %q", word, question)
		}
		switch key {
		case "sa", "id", "plain", "anonymous", "ip":
			isClient = true
		case "ns":
		default:
			isRequest = true
		}
	}
	if !isClient {
		client = nil
	}
	if !isRequest {
		request = nil
	}
	number, noNumber := strconv.ParseUint(words[1], 10, 32)
	var answer *explainpb.Explanation
	var err error
	if kind == "svc" {
		answer, err = service.Outbound(ctx, &explainpb.OutboundRequest{
			Namespace: policytest.Namespace, Service: name, Port: uint32(number), ClientNamespace: namespace, Request: request,
		})
	} else {
		q := &explainpb.InboundRequest{Namespace: policytest.Namespace, Client: client, Request: request}
		q.Workload = &explainpb.InboundRequest_Pod{Pod: name}
		if kind == "externalworkload" {
			q.Workload = &explainpb.InboundRequest_ExternalWorkload{ExternalWorkload: name}
		}
		q.Port = &explainpb.InboundRequest_PortNumber{PortNumber: uint32(number)}
		if noNumber != nil {
			q.Port = &explainpb.InboundRequest_PortName{PortName: words[1]}
		}
		answer, err = service.Inbound(ctx, q)
	}
	if err != nil {
		return fmt.Sprintf("%s: %s\n", status.Code(err), status.Convert(err).Message())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", answer.GetVerdict(), answer.GetSummary())
	if by := answer.GetDecidedBy(); by != nil {
		fmt.Fprintf(&b, "  by %s\n", resource(by))
	}
	if a := answer.GetAnswer(); a.GetText() != "" {
		fmt.Fprintf(&b, "  gets %d/%d %s\n", a.GetHttpStatus(), a.GetGrpcCode(), a.GetText())
	}
	write(&b, answer.GetSteps(), "  ")
	return b.String()
}

func resource(r *explainpb.Resource) string {
	return explain.Resource{Group: r.GetGroup(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName()}.String()
}

func write(b *strings.Builder, steps []*explainpb.Step, indent string) {
	for _, s := range steps {
		mark := [...]string{"-", "√", "×", "‼", "?"}[s.GetMark()]
		if s.GetResource() != nil {
			fmt.Fprintf(b, "%s%s %s: %s\n", indent, mark, resource(s.GetResource()), s.GetText())
		} else {
			fmt.Fprintf(b, "%s%s %s\n", indent, mark, s.GetText())
		}
		write(b, s.GetSteps(), indent+"  ")
	}
}
