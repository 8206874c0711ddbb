package policy

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/control/policy/serve"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/authz"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var (
	seed   = flag.Uint64("seed", 0, "seed of the random cases; 0 takes one from the clock")
	worlds = flag.Int("worlds", 300, "how many sets of resources to draw")
)

// draw is a source of random choices.
type draw struct{ *rand.Rand }

func (d draw) of(list ...string) string { return list[d.IntN(len(list))] }
func (d draw) chance(percent int) bool  { return d.IntN(100) < percent }

// Names come from small sets, so that references hit and miss.
var (
	ports      = []string{"8080", "9090", "http"}
	accounts   = []string{"a", "b", "c"}
	paths      = []string{"/", "/api", "/api/v1", "/apis", "/ready", "/shop.Catalog/Get", "/shop.Catalog/List", "/x?q=a+b&r=1"}
	hostnames  = []string{"web.example", "a.web.example", "*.web.example", "*.example"}
	addresses  = []string{"10.1.2.3", "10.9.1.1", "192.168.7.7", "203.0.113.9", "127.0.0.1", "fd00::1", "2001:db8::1", "::ffff:10.1.2.3"}
	identities = []string{
		"a.emo.serviceaccount.identity.linkerd.cluster.local", "b.emo.serviceaccount.identity.linkerd.cluster.local",
		"c.far.serviceaccount.identity.linkerd.cluster.local", "x.legacy.example", "legacy.example", "spiffe://td/a", "spiffe://vm.legacy.example/a",
	}
)

// world draws the resources of a namespace.
func (d draw) world() string {
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, "---\n"+format+"\n", args...) }
	annotations := ""
	if d.chance(60) {
		annotations = ", annotations: {config.linkerd.io/default-inbound-policy: " + d.of("all-unauthenticated", "all-authenticated", "cluster-unauthenticated", "cluster-authenticated", "deny", "audit") + "}"
	} else if d.chance(50) {
		annotations = `, annotations: {config.linkerd.io/proxy-require-identity-inbound-ports: "8080", config.linkerd.io/opaque-ports: "9090"}`
	}
	add("kind: Pod\nmetadata: {name: web, labels: {app: web}%s}\nspec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: 8080}}}]}", annotations)
	for i := range d.IntN(4) {
		add("kind: Server\nmetadata: {name: s%d, labels: {tier: %s}}\nspec: {podSelector: {matchLabels: {app: %s}}, port: %s, proxyProtocol: %s, accessPolicy: %s}", i,
			d.of("front", "back"), d.of("web", "web", "other"), d.of(ports...), d.of("unknown", "HTTP/1", "HTTP/2", "gRPC", "opaque", "TLS"),
			d.of("deny", "deny", "deny", "audit", "all-unauthenticated", "all-authenticated", "cluster-authenticated"))
	}
	for i := range d.IntN(4) {
		group := d.of("gateway.networking.k8s.io/v1", "policy.linkerd.io/v1beta3")
		hosts := ""
		if d.chance(40) {
			hosts = "hostnames: ['" + d.of(hostnames...) + "'], "
		}
		status := ""
		if d.chance(15) {
			status = "\nstatus: {parents: []}"
		}
		add("apiVersion: %s\nkind: HTTPRoute\nmetadata: {name: h%d}\nspec: {%sparentRefs: [{group: policy.linkerd.io, kind: Server, name: s%d}], rules: [%s]}%s", group, i, hosts, d.IntN(4), d.rules(d.httpRule), status)
	}
	for i := range d.IntN(3) {
		add("kind: GRPCRoute\nmetadata: {name: g%d}\nspec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: s%d}], rules: [%s]}", i, d.IntN(4), d.rules(d.grpcRule))
	}
	for i := range d.IntN(3) {
		refs := "identityRefs: [{kind: ServiceAccount, name: " + d.of(accounts...) + "}, {kind: Namespace, name: " + d.of("emo", "far") + "}]"
		if d.chance(60) {
			refs = fmt.Sprintf("identities: [%q, %q]", d.of(append(identities, "*", "*.legacy.example", "*.emo.serviceaccount.identity.linkerd.cluster.local", "A.Emo.ServiceAccount.identity.linkerd.cluster.local.")...), d.of(identities...))
		}
		add("kind: MeshTLSAuthentication\nmetadata: {name: m%d}\nspec: {%s}", i, refs)
	}
	for i := range d.IntN(3) {
		add("kind: NetworkAuthentication\nmetadata: {name: n%d}\nspec: {networks: [%s]}", i, d.of("{cidr: 10.0.0.0/8, except: [10.9.0.0/16]}", "{cidr: 10.9.0.0/16}, {cidr: fd00::/8}", "{cidr: 0.0.0.0/0}", "{cidr: 0.0.0.0/0}, {cidr: '::/0'}"))
	}
	for i := range d.IntN(5) {
		target := d.of("{group: policy.linkerd.io, kind: Server, name: s0}", "{group: policy.linkerd.io, kind: Server, name: s1}", "{kind: Namespace, name: emo}",
			"{group: policy.linkerd.io, kind: HTTPRoute, name: h0}", "{group: gateway.networking.k8s.io, kind: HTTPRoute, name: h0}",
			"{group: gateway.networking.k8s.io, kind: HTTPRoute, name: h1}", "{group: gateway.networking.k8s.io, kind: GRPCRoute, name: g0}")
		var refs []string
		switch d.IntN(4) {
		case 0:
			refs = append(refs, "{kind: ServiceAccount, name: "+d.of(accounts...)+"}")
		case 1, 2:
			refs = append(refs, fmt.Sprintf("{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m%d}", d.IntN(3)))
		}
		if d.chance(40) {
			refs = append(refs, fmt.Sprintf("{group: policy.linkerd.io, kind: NetworkAuthentication, name: n%d}", d.IntN(3)))
		}
		add("kind: AuthorizationPolicy\nmetadata: {name: %s}\nspec: {targetRef: %s, requiredAuthenticationRefs: [%s]}", d.of(fmt.Sprintf("p%d", i), fmt.Sprintf("p%d", i), "audit"), target, strings.Join(refs, ", "))
	}
	for i := range d.IntN(3) {
		add("kind: ServerAuthorization\nmetadata: {name: z%d}\nspec: {server: %s, client: %s}", i, d.of("{name: s0}", "{selector: {matchLabels: {tier: front}}}"),
			d.of("{unauthenticated: true}", "{meshTLS: {unauthenticatedTLS: true}}", "{meshTLS: {serviceAccounts: [{name: a}]}, networks: [{cidr: 10.9.0.0/16}]}", "{}"))
	}
	return strings.TrimPrefix(b.String(), "---\n")
}

func (d draw) rules(rule func() string) string {
	list := make([]string, 1+d.IntN(2))
	for i := range list {
		list[i] = rule()
	}
	return strings.Join(list, ", ")
}

func (d draw) httpRule() string {
	list := make([]string, d.IntN(3))
	for i := range list {
		var m []string
		if d.chance(80) {
			m = append(m, "path: "+d.of("{value: /api}", "{value: /api/}", "{value: /}", "{type: Exact, value: /api}", "{type: Exact, value: /ready}",
				`{type: RegularExpression, value: "/a.*|/x"}`, `{type: RegularExpression, value: "/[a-z]+"}`))
		}
		if d.chance(30) {
			m = append(m, "method: "+d.of("GET", "POST"))
		}
		if d.chance(20) {
			m = append(m, `headers: [{name: X-Who, value: `+d.of(`me`, `"m.", type: RegularExpression`)+`}]`)
		}
		if d.chance(20) {
			m = append(m, `queryParams: [{name: q, value: `+d.of(`a b`, `"a.*", type: RegularExpression`)+`}]`)
		}
		list[i] = "{" + strings.Join(m, ", ") + "}"
	}
	if len(list) == 0 {
		return "{}"
	}
	return "{matches: [" + strings.Join(list, ", ") + "]}"
}

func (d draw) grpcRule() string {
	return d.of("{}", "{matches: [{method: {service: shop.Catalog}}]}", "{matches: [{method: {service: shop.Catalog, method: Get}}]}",
		"{matches: [{method: {method: List}}, {headers: [{name: x-who, value: me}]}]}")
}

// question is one draw of who asks for what; what is left out is nil or empty.
type question struct {
	port    uint16
	client  *explainpb.Client
	request *explainpb.Request
}

func (d draw) question() question {
	q := question{port: []uint16{8080, 9090, 7070}[d.IntN(3)], client: &explainpb.Client{}}
	switch d.IntN(8) {
	case 0:
		q.client.Authentication = &explainpb.Client_Unauthenticated{}
	case 1:
		q.client.Authentication = &explainpb.Client_Anonymous{}
	case 2:
		q.client.Authentication = &explainpb.Client_ServiceAccount{ServiceAccount: &explainpb.ServiceAccount{Namespace: d.of("emo", "far"), Name: d.of(accounts...)}}
	case 3:
		if d.chance(30) {
			break // not known
		}
		fallthrough
	default:
		q.client.Authentication = &explainpb.Client_Identity{Identity: d.of(identities...)}
	}
	if d.chance(75) {
		q.client.Address = d.of(addresses...)
	}
	if d.chance(70) {
		q.request = &explainpb.Request{Method: d.of("GET", "POST", "PUT"), Path: d.of(paths...)}
		if d.chance(60) {
			q.request.Host = d.of("web.example", "a.web.example:8080", "A.Web.Example.", "example")
		}
		if d.chance(30) {
			q.request.Headers = []*explainpb.Header{{Name: "x-who", Value: d.of("me", "you")}}
		}
	}
	return q
}

// clients are those that the question may mean.
func (q question) clients(t *testing.T, config *core.Config) []authz.Client {
	var ids []authz.Client
	switch a := q.client.GetAuthentication().(type) {
	case *explainpb.Client_Unauthenticated:
		ids = []authz.Client{{}}
	case *explainpb.Client_Anonymous:
		ids = []authz.Client{{TLS: true}}
	case *explainpb.Client_Identity:
		ids = []authz.Client{{TLS: true, ID: model.MustIdentity(a.Identity)}}
	case *explainpb.Client_ServiceAccount:
		id := config.ServiceAccountIdentity(core.ID{Namespace: a.ServiceAccount.GetNamespace(), Name: a.ServiceAccount.GetName()})
		ids = []authz.Client{{TLS: true, ID: model.MustIdentity(id)}}
	default:
		ids = []authz.Client{{}, {TLS: true}}
		for _, id := range identities {
			ids = append(ids, authz.Client{TLS: true, ID: model.MustIdentity(id)})
		}
	}
	at := []string{q.client.GetAddress()}
	if at[0] == "" {
		// Not on the loopback: a question that does not say so does not mean it.
		at = []string{"10.1.2.3", "10.9.1.1", "192.168.7.7", "203.0.113.9", "fd00::1", "2001:db8::1"}
	}
	var clients []authz.Client
	for _, c := range ids {
		for _, text := range at {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				t.Fatal(err)
			}
			c.Addr = addr
			clients = append(clients, c)
		}
	}
	return clients
}

// head is the request as the proxy sees it.
func head(r *explainpb.Request) *exchange.RequestHead {
	h := &exchange.RequestHead{Version: exchange.HTTP2, Method: []byte(r.GetMethod()), Path: []byte(r.GetPath()), Authority: []byte(r.GetHost())}
	for _, f := range r.GetHeaders() {
		h.Add(f.GetName(), f.GetValue())
	}
	return h
}

// judgement is what a proxy does, in the words of explanations.
type judgement struct {
	verdict explainpb.Verdict
	by      string
}

// judge decides as the proxy does: about a request, or with nil about a connection that is not HTTP.
func judge(policy *model.ServerPolicy, client authz.Client, request *exchange.RequestHead) judgement {
	if request == nil {
		return judged(authz.Authorize(client, policy.Authorizations))
	}
	found, ok := route.Find(&policy.Routes, request)
	if !ok {
		return judgement{verdict: explainpb.Verdict_NO_ROUTE}
	}
	return judged(authz.Authorize(client, found.Route.Authorizations, policy.Authorizations))
}

func judged(by *model.Authorization, _ authz.Reason) judgement {
	switch {
	case by == nil:
		return judgement{verdict: explainpb.Verdict_DENIED}
	case by.Meta == model.Default(model.AuditName):
		return judgement{explainpb.Verdict_AUDITED, by.Meta.Name}
	}
	return judgement{explainpb.Verdict_ALLOWED, by.Meta.Name}
}

// TestExplanationsAgreeWithTheProxy draws resources and questions. Where a question leaves nothing open, the verdict and what
// it is due to must be the proxy's. Where it does, a definite verdict must hold for all that the question may mean, and an
// open one must have more than one answer, or be about an authorization that nobody of the few who are tried satisfies.
func TestExplanationsAgreeWithTheProxy(t *testing.T) {
	begin(t)
	config := policytest.Config()
	counts := map[string]int{}
	for n := range *worlds {
		d := draw{rand.New(rand.NewPCG(*seed, uint64(n)))}
		yaml := d.world()
		on(t, &config, yaml, func(ctx context.Context, x *index.Index, service *explain.Service) {
			for range 60 {
				q := d.question()
				compare(ctx, t, x, service, &config, q, counts)
				if t.Failed() {
					t.Fatalf("world %d:\n%s", n, yaml)
				}
			}
		})
	}
	t.Log(counts)
	for _, verdict := range []string{"ALLOWED", "DENIED", "AUDITED", "NO_ROUTE", "DEPENDS"} {
		if counts[verdict] == 0 {
			t.Errorf("no question had the answer %s: the cases are too narrow", verdict)
		}
	}
}

// begin settles the seed.
func begin(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("go test ./test/policy -seed %d", *seed)
}

// on calls f with an index that has the objects, and the service that explains it.
func on(t *testing.T, config *core.Config, yaml string, f func(context.Context, *index.Index, *explain.Service)) {
	x := index.New(index.Options{Config: *config, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	defer func() { cancel(); <-done }()
	var objects policytest.Objects
	for _, object := range objects.Read(t, yaml) {
		_ = x.Apply(ctx, object) // some cannot be used, which is part of the test
	}
	f(ctx, x, explain.New(x, config))
}

// received is a policy as the proxy has it once it came over the wire, in whatever rendering its decoder reads.
func received[M, P any](t *testing.T, decoder func(*M) (*P, error), sent proto.Message) *P {
	t.Helper()
	wire, err := proto.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	message := new(M)
	switch m := any(message).(type) {
	case interface{ ParseWire([]byte) error }:
		err = m.ParseWire(wire)
	case proto.Message:
		err = proto.Unmarshal(wire, m)
	default:
		t.Fatalf("%T cannot be read from the wire", message)
	}
	if err != nil {
		t.Fatal(err)
	}
	policy, err := decoder(message)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// within is a decoder with the proxy's detection timeout.
func within[M, P any](decoder func(*M, time.Duration) (*P, error)) func(*M) (*P, error) {
	return func(m *M) (*P, error) { return decoder(m, 10*time.Second) }
}

func compare(ctx context.Context, t *testing.T, x *index.Index, service *explain.Service, config *core.Config, q question, counts map[string]int) {
	t.Helper()
	sub, err := x.Inbound(ctx, index.WorkloadKey{ID: core.ID{Namespace: "emo", Name: "web"}}, q.port)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	policy := received(t, within(decode.Server), serve.Inbound(&sub.Latest().Value))
	got, err := service.Inbound(ctx, &explainpb.InboundRequest{
		Namespace: "emo", Workload: &explainpb.InboundRequest_Pod{Pod: "web"}, Port: &explainpb.InboundRequest_PortNumber{PortNumber: uint32(q.port)},
		Client: q.client, Request: q.request,
	})
	if err != nil {
		t.Fatal(err)
	}
	counts[got.GetVerdict().String()]++

	clients := q.clients(t, config)
	var answers []judgement
	isHTTP := policy.Protocol != model.ProtocolOpaque && policy.Protocol != model.ProtocolTLS
	switch {
	case !isHTTP:
		for _, c := range clients {
			answers = append(answers, judge(policy, c, nil))
		}
	case q.request != nil:
		for _, c := range clients {
			answers = append(answers, judge(policy, c, head(q.request)))
		}
	default:
		for _, c := range clients {
			if policy.Protocol == model.ProtocolDetect {
				answers = append(answers, judge(policy, c, nil))
			}
			for _, r := range policy.Routes.List {
				if r.Meta != model.Default(core.NameProbe) {
					answers = append(answers, judged(authz.Authorize(c, r.Authorizations, policy.Authorizations)))
				}
			}
		}
	}
	seen := map[explainpb.Verdict]bool{}
	for _, a := range answers {
		seen[a.verdict] = true
	}
	report := func(format string, args ...any) {
		t.Errorf("%s\nquestion: port %d, client %v, request %v\nproxy: %v\nexplanation: %v %s", fmt.Sprintf(format, args...), q.port, q.client, q.request, answers, got.GetVerdict(), got.GetSummary())
	}
	certain := q.client.GetAuthentication() != nil && q.client.GetAddress() != ""
	if got.GetVerdict() == explainpb.Verdict_DEPENDS {
		if certain && (q.request != nil || !isHTTP) {
			report("nothing is open, and the answer is")
		}
		if certain && len(seen) == 1 {
			report("all that may be meant has the same answer")
		}
		return
	}
	for v := range seen {
		if v != got.GetVerdict() {
			report("the proxy's answer is another one for some that may be meant")
			return
		}
	}
	if !certain || len(answers) != 1 {
		return
	}
	counts["certain"]++
	if a := answers[0]; a.by != "" {
		by := got.GetDecidedBy()
		name := by.GetName()
		if by.GetKind() == "Server" {
			// By its accessPolicy, which the proxy knows by its own name.
			name = a.by
			if _, err := core.ParseDefaultPolicy(a.by); err != nil {
				name = "no default policy"
			}
		}
		if name != a.by {
			report("the proxy lets the client in by %s", a.by)
		}
	}
}
