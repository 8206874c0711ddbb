package policy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/control/policy/serve"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
)

// services draws Services with routes of producers and consumers.
func (d draw) services() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, "---\n"+format+"\n", args...) }
	app := d.of("", "", "", ", appProtocol: http", ", appProtocol: kubernetes.io/h2c", ", appProtocol: other")
	add("kind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.43.0.1, ports: [{name: a, port: 80%s}, {name: b, port: 3306}]}", app)
	add("kind: Service\nmetadata: {name: other}\nspec: {clusterIP: 10.43.0.2, ports: [{port: 80}]}")
	for i := range d.IntN(4) {
		kind, rule := "HTTPRoute", d.httpRule
		version := d.of("gateway.networking.k8s.io/v1", "policy.linkerd.io/v1beta3")
		if d.chance(25) {
			kind, rule, version = "GRPCRoute", d.grpcRule, "gateway.networking.k8s.io/v1"
		}
		hosts, port, status := "", "", ""
		if d.chance(30) {
			hosts = "hostnames: ['" + d.of(hostnames...) + "'], "
		}
		if d.chance(50) {
			port = ", port: " + d.of("80", "80", "3306")
		}
		if d.chance(10) {
			status = "\nstatus: {parents: []}"
		}
		backends := d.of("", "backendRefs: [{name: web, namespace: emo, port: 80}]", "backendRefs: [{name: web, namespace: emo, port: 80, weight: 3}, {name: other, namespace: emo, port: 80}]",
			"backendRefs: [{name: gone, namespace: emo, port: 80}]")
		rules := make([]string, 1+d.IntN(2))
		for j := range rules {
			text := strings.TrimSuffix(rule(), "}")
			if backends != "" && text != "{" {
				text += ", "
			}
			rules[j] = text + backends + "}"
		}
		add("apiVersion: %s\nkind: %s\nmetadata: {name: r%d, namespace: %s}\nspec: {%sparentRefs: [{group: '', kind: Service, name: web, namespace: emo%s}], rules: [%s]}%s",
			version, kind, i, d.of("emo", "emo", "far"), hosts, port, strings.Join(rules, ", "), status)
	}
	return strings.TrimPrefix(b.String(), "---\n")
}

// TestOutboundExplanationsAgreeWithTheProxy draws Services, routes and requests. The route that an explanation names, and
// what it says of the backends, must be those that a client's proxy finds in the policy that it is sent.
func TestOutboundExplanationsAgreeWithTheProxy(t *testing.T) {
	begin(t)
	config := policytest.Config()
	counts := map[string]int{}
	for n := range *worlds {
		d := draw{rand.New(rand.NewPCG(*seed, uint64(n)))}
		yaml := d.services()
		on(t, &config, yaml, func(ctx context.Context, x *index.Index, service *explain.Service) {
			for range 30 {
				q := d.question()
				port, namespace := []uint16{80, 80, 80, 3306, 99}[d.IntN(5)], d.of("emo", "far", "near")
				compareOutbound(ctx, t, x, service, port, namespace, q.request, counts)
				if t.Failed() {
					t.Fatalf("world %d:\n%s", n, yaml)
				}
			}
		})
	}
	t.Log(counts)
	for _, outcome := range []string{"route of a user's", "default route", "no route", "no backend", "connection"} {
		if counts[outcome] == 0 {
			t.Errorf("no question was about a case of %q: the cases are too narrow", outcome)
		}
	}
}

// isCall reports whether a request can be one of gRPC.
func isCall(request *explainpb.Request) bool {
	return request.GetMethod() == "POST" && strings.Count(request.GetPath(), "/") > 1
}

func compareOutbound(ctx context.Context, t *testing.T, x *index.Index, service *explain.Service, port uint16, namespace string, request *explainpb.Request, counts map[string]int) {
	t.Helper()
	id := core.ID{Namespace: "emo", Name: "web"}
	got, err := service.Outbound(ctx, &explainpb.OutboundRequest{Namespace: id.Namespace, Service: id.Name, Port: uint32(port), ClientNamespace: namespace, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	report := func(format string, args ...any) {
		t.Errorf("%s\nquestion: port %d, clients of %s, request %v\nexplanation: %v %s, by %v", fmt.Sprintf(format, args...), port, namespace, request, got.GetVerdict(), got.GetSummary(), got.GetDecidedBy())
	}
	if port == 99 {
		if got.GetVerdict() != explainpb.Verdict_DENIED {
			report("the Service has no such port")
		}
		return
	}
	sub, err := x.OutboundByName(ctx, id, "", port, namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	policy := received(t, decode.ClientPolicy, serve.Outbound(&sub.Latest().Value))
	http := policy.HTTP1
	if http == nil || policy.HTTP2 != nil && policy.HTTP2.Routes.GRPC && isCall(request) {
		http = policy.HTTP2 // what can be a call is taken for one
	}
	if request == nil || http == nil {
		counts["connection"]++
		if got.GetVerdict() != explainpb.Verdict_ALLOWED {
			report("nothing stands in the way")
		}
		return
	}
	found, ok := route.Find(&http.Routes, head(request))
	if !ok {
		counts["no route"]++
		if got.GetVerdict() != explainpb.Verdict_NO_ROUTE {
			report("the proxy finds no route")
		}
		return
	}
	by, meta := got.GetDecidedBy(), found.Route.Meta
	if meta.IsDefault() {
		counts["default route"]++
	} else {
		counts["route of a user's"]++
	}
	if by.GetKind() != meta.Kind || by.GetGroup() != meta.Group || by.GetNamespace() != meta.Namespace || by.GetName() != meta.Name {
		report("the proxy takes route %v", meta)
	}
	usable := 0
	for _, b := range found.Rule.Distribution.Backends {
		if b.Backend.Kind != model.BackendFail {
			usable++
		}
	}
	if usable == 0 && len(found.Rule.Distribution.Backends) > 0 {
		counts["no backend"]++
		if got.GetVerdict() != explainpb.Verdict_DENIED || got.GetAnswer().GetHttpStatus() != 500 {
			report("the proxy has no backend to use")
		}
		return
	}
	if got.GetVerdict() != explainpb.Verdict_ALLOWED {
		report("the proxy sends it on")
	}
}
