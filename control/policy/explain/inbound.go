package explain

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// ErrPort is the error of a port that cannot be asked about.
var ErrPort = errors.New("no such port")

// PortNamed returns the number of a port of a workload by its name.
func PortNamed(w *core.Workload, name string) (uint16, error) {
	switch ports := w.Named[name]; len(ports) {
	case 0:
		if len(w.Named) == 0 {
			return 0, fmt.Errorf("%w: %s has no named ports, so that a port must be given by its number", ErrPort, w.ID)
		}
		known := make([]string, 0, len(w.Named))
		for name := range w.Named {
			known = append(known, name)
		}
		slices.Sort(known)
		return 0, fmt.Errorf("%w: %s has no port %q; it has %s", ErrPort, w.ID, name, list(known))
	case 1:
		return ports[0], nil
	default:
		texts := make([]string, len(ports))
		for i, port := range ports {
			texts[i] = strconv.Itoa(int(port))
		}
		return 0, fmt.Errorf("%w: port %q of %s is %s; give the number", ErrPort, name, w.ID, list(texts))
	}
}

// inbound is one question on its way to an explanation.
type inbound struct {
	config   *core.Config
	source   Source
	workload *core.Workload
	port     uint16
	client   Client
	request  *Request // nil if the question is about none in particular
	// server is nil if no Server selects the port.
	server   *core.Server
	compiled *core.InboundServer
	// considered are the authorizations that could have let the client in.
	considered []core.Authorization
	steps      []Step
}

// Inbound explains what a client gets at a port of a workload. A nil request asks about connections and requests of any
// kind.
func Inbound(config *core.Config, source Source, w *core.Workload, port uint16, client Client, request *Request) *Explanation {
	q := &inbound{
		config: config, source: source, workload: w, port: port, client: client,
		compiled: config.Inbound(source, w, port),
	}
	if request != nil {
		q.request = request.complete(q.compiled.Protocol == core.ProtocolGRPC)
	}
	q.selection()
	e := q.decide()
	e.Port = port
	q.unusable()
	e.Steps = q.steps
	return e
}

func (q *inbound) step(s Step) { q.steps = append(q.steps, s) }

// what names the port.
func (q *inbound) what() string {
	kind := "pod"
	if q.workload.External {
		kind = "external workload"
	}
	return fmt.Sprintf("port %d of %s %s", q.port, kind, q.workload.ID)
}

// selection says which Server is in force, or which default.
func (q *inbound) selection() {
	selecting := core.Selecting(q.source, q.workload, q.port)
	if len(selecting) == 0 {
		q.byDefault()
		return
	}
	q.server = selecting[0]
	chosen := Step{Mark: Yes, Subject: policyResource("Server", q.server.ID), Text: fmt.Sprintf("is for port %d: %s", q.port, serverText(q.server))}
	for _, s := range selecting[1:] {
		chosen.Steps = append(chosen.Steps, Step{
			Mark: Warning, Subject: policyResource("Server", s.ID),
			Text: "is for the port too, and has no effect there: Server " + q.server.ID.String() + " is older",
		})
	}
	if q.server.AccessPolicy == "" {
		chosen.Steps = append(chosen.Steps, Step{Mark: Warning, Text: "its accessPolicy cannot be read, and lets nobody in"})
	}
	q.step(chosen)
}

func selectorText(s *core.Server) string {
	name, selector := "podSelector", s.Pods
	if s.Externals != nil {
		name, selector = "externalWorkloadSelector", s.Externals
	}
	if selector == nil {
		return "no selector"
	}
	return name + " " + cmp.Or(selector.String(), "{}")
}

func serverText(s *core.Server) string {
	return fmt.Sprintf("%s, port %s; proxyProtocol %s, accessPolicy %s", selectorText(s), portText(s), protocolText(s.Protocol), cmp.Or(string(s.AccessPolicy), "unreadable"))
}

func portText(s *core.Server) string {
	if s.PortName != "" {
		return s.PortName
	}
	return strconv.Itoa(int(s.Port))
}

// protocolText is a protocol as a Server has it.
func protocolText(p core.Protocol) string {
	switch p {
	case core.ProtocolHTTP1:
		return names.ProxyProtocolHTTP1
	case core.ProtocolHTTP2:
		return names.ProxyProtocolHTTP2
	case core.ProtocolGRPC:
		return names.ProxyProtocolGRPC
	case core.ProtocolOpaque:
		return names.ProxyProtocolOpaque
	case core.ProtocolTLS:
		return names.ProxyProtocolTLS
	}
	return names.ProxyProtocolUnknown
}

// byDefault says which default policy applies where no Server does, and why no Server does. Source: proxy API chapter,
// section 5.3.
func (q *inbound) byDefault() {
	w := q.workload
	where := "it is that of the cluster (proxy.defaultInboundPolicy of the control plane)"
	if w.DefaultPolicy != "" {
		where = "it is the annotation " + names.AnnotationDefaultInboundPolicy + " of the pod, its own or what its namespace had when it was injected"
	}
	s := Step{
		Subject: Resource{Kind: kindDefault, Name: q.compiled.Ref.Default},
		Text:    fmt.Sprintf("no Server is for port %d, so that this policy applies: %s", q.port, where),
	}
	if w.RequireIdentity.Has(q.port) {
		s.Steps = append(s.Steps, Step{Text: fmt.Sprintf("the annotation %s asks for an identity at port %d", names.AnnotationProxyRequireIdentityInboundPorts, q.port)})
	}
	if q.compiled.Protocol == core.ProtocolOpaque {
		s.Steps = append(s.Steps, Step{Text: fmt.Sprintf("the annotation %s makes port %d opaque", names.AnnotationOpaquePorts, q.port)})
	}
	for _, server := range sorted(q.source.Servers(w.Namespace)) {
		switch forPods, forPort := server.For(w), server.ForPort(w, q.port); {
		case forPods:
			s.Steps = append(s.Steps, Step{Mark: No, Subject: policyResource("Server", server.ID), Text: "is for these pods, but for port " + portText(server)})
		case forPort:
			s.Steps = append(s.Steps, Step{Mark: No, Subject: policyResource("Server", server.ID), Text: "is for the port, but for other pods: " + selectorText(server)})
		}
	}
	for _, policy := range sortedPolicies(q.source, w.Namespace) {
		if policy.Target == core.TargetNamespace {
			s.Steps = append(s.Steps, Step{
				Mark: Warning, Subject: policyResource("AuthorizationPolicy", policy.ID),
				Text: "is for the namespace, which means its Servers: it does not apply to a port that no Server is for",
			})
		}
	}
	q.step(s)
}

func sorted(servers []*core.Server) []*core.Server {
	return slices.SortedFunc(slices.Values(servers), func(a, b *core.Server) int { return cmp.Compare(a.Name, b.Name) })
}

func sortedPolicies(lookup core.Lookup, namespace string) []*core.AuthorizationPolicy {
	return slices.SortedFunc(slices.Values(lookup.AuthorizationPolicies(namespace)), func(a, b *core.AuthorizationPolicy) int { return cmp.Compare(a.Name, b.Name) })
}

// outcome is what a list of authorizations comes to.
type outcome struct {
	answer answer
	// by is the first that permits the client; zero if none surely does.
	by core.Authorization
	// open has those before it that perhaps permit the client.
	open []opening
}

// opening is an authorization that permits the client if something holds which the question leaves open.
type opening struct {
	by    Resource
	holds string
}

// or is the outcome of one list followed by another.
func (o outcome) or(next outcome) outcome {
	switch {
	case o.answer == yes || next.answer == no:
		return o
	case o.answer == no:
		return next
	}
	// Whether the first or the second lets the client in is open, that one of them does may be sure.
	return outcome{answer: next.answer, by: next.by, open: append(slices.Clone(o.open), next.open...)}
}

// judge says what a list of compiled authorizations means for the client, with a step for each.
func (q *inbound) judge(authorizations []core.Authorization) (outcome, []Step) {
	var o outcome
	var steps []Step
	for _, a := range authorizations {
		s, result := q.authorization(a)
		steps = append(steps, s)
		if result == maybe && o.answer != yes {
			o.open = append(o.open, opening{q.by(a), openText(s.Steps)})
		}
		if result == yes && o.answer != yes {
			o.by = a
		}
		o.answer = max(o.answer, result)
	}
	return o, steps
}

// openText joins what is left open.
func openText(steps []Step) string {
	var texts []string
	for _, s := range steps {
		if s.Mark == Open {
			texts = append(texts, s.Text)
		}
	}
	return strings.Join(texts, ", ")
}

// by names what a compiled authorization comes from.
func (q *inbound) by(a core.Authorization) Resource {
	switch {
	case a.Ref.Default == core.NameProbe, a.Ref.Default == nameLocalhost:
		return Resource{Kind: kindDefault, Name: a.Ref.Default}
	case a.Ref.Default != "" && q.server != nil:
		// The Server itself, by its accessPolicy.
		return policyResource("Server", q.server.ID)
	case a.Ref.Default != "":
		return Resource{Kind: kindDefault, Name: a.Ref.Default}
	case a.Ref.Kind == "serverauthorization":
		return policyResource("ServerAuthorization", core.ID{Namespace: q.workload.Namespace, Name: a.Ref.Name})
	}
	return policyResource("AuthorizationPolicy", core.ID{Namespace: q.workload.Namespace, Name: a.Ref.Name})
}

// authorization says whether one authorization permits the client.
func (q *inbound) authorization(a core.Authorization) (Step, answer) {
	where, whereText := q.client.in(a.Networks)
	who, whoText := q.client.is(a.Clients)
	result := min(where, who)
	s := Step{Mark: result.mark(), Subject: q.by(a)}
	lets := [...]string{"does not let the client in", "lets some clients in", "lets the client in"}[result]
	if q.client.Proof == Unknown && !q.client.Address.IsValid() {
		lets = "lets clients in"
	}
	var policy *core.AuthorizationPolicy
	switch {
	case a.Ref.Default == core.NameProbe:
		s.Text = lets + " for the probes of the kubelet"
	case a.Ref.Default != "" && q.server != nil:
		s.Text = fmt.Sprintf("its accessPolicy %s %s", a.Ref.Default, lets)
		if a.Ref.Default == string(core.Audit) && result == yes {
			s.Text += ", and has it logged and counted"
		}
	case a.Ref.Default != "":
		s.Text = lets
	case a.Ref.Kind == "serverauthorization":
		s.Text = lets
	default:
		s.Text = lets
		for _, p := range q.source.AuthorizationPolicies(q.workload.Namespace) {
			if p.Name == a.Ref.Name {
				policy, s.Text = p, fmt.Sprintf("for %s: %s", targetText(p), lets)
			}
		}
	}
	if policy == nil {
		s.Steps = []Step{{Mark: who.mark(), Text: whoText}, {Mark: where.mark(), Text: whereText}}
		return s, result
	}
	switch {
	case policy.MeshTLS != nil:
		s.Steps = append(s.Steps, Step{Mark: who.mark(), Subject: policyResource("MeshTLSAuthentication", *policy.MeshTLS), Text: whoText})
	case policy.ServiceAccount != nil:
		s.Steps = append(s.Steps, Step{Mark: who.mark(), Subject: Resource{Kind: "ServiceAccount", Namespace: policy.ServiceAccount.Namespace, Name: policy.ServiceAccount.Name}, Text: whoText})
	}
	if policy.Network != nil {
		s.Steps = append(s.Steps, Step{Mark: where.mark(), Subject: policyResource("NetworkAuthentication", *policy.Network), Text: whereText})
	}
	if len(s.Steps) == 0 {
		s.Steps = []Step{{Mark: Yes, Text: "it asks for nothing: requiredAuthenticationRefs is empty"}}
	}
	return s, result
}

func targetText(p *core.AuthorizationPolicy) string {
	if p.Target == core.TargetNamespace {
		return "the Servers of the namespace"
	}
	return string(p.Target) + " " + p.TargetName
}

// broken returns steps for the policies that a filter takes which are not compiled, for what they refer to is not there.
func (q *inbound) broken(takes func(*core.AuthorizationPolicy) bool) []Step {
	var steps []Step
	for _, p := range sortedPolicies(q.source, q.workload.Namespace) {
		if !takes(p) {
			continue
		}
		var missing Resource
		switch {
		case p.MeshTLS != nil && q.source.MeshTLSAuthentication(*p.MeshTLS) == nil:
			missing = policyResource("MeshTLSAuthentication", *p.MeshTLS)
		case p.Network != nil && q.source.NetworkAuthentication(*p.Network) == nil:
			missing = policyResource("NetworkAuthentication", *p.Network)
		default:
			continue
		}
		steps = append(steps, Step{
			Mark: Warning, Subject: policyResource("AuthorizationPolicy", p.ID),
			Text: fmt.Sprintf("for %s: has no effect, for there is no %s", targetText(p), missing),
		})
	}
	return steps
}

// nameLocalhost is the name of the authorization that every proxy adds.
const nameLocalhost = "localhost"

// loopback is the authorization that every proxy adds.
func (q *inbound) loopback() (outcome, []Step) {
	if !q.client.loopback() {
		return outcome{}, nil
	}
	a := core.Authorization{Ref: core.Ref{Default: nameLocalhost}}
	return outcome{answer: yes, by: a}, []Step{{Mark: Yes, Subject: q.by(a), Text: "clients on the pod's own loopback are always let in"}}
}

// decide comes to the verdict.
func (q *inbound) decide() *Explanation {
	routes, limited, isHTTP := q.routes()
	all, steps := q.judge(q.compiled.Authorizations)
	q.considered = append(q.considered, q.compiled.Authorizations...)
	if q.server != nil {
		steps = append(steps, q.broken(func(p *core.AuthorizationPolicy) bool { return p.For(q.server) })...)
		if q.server.AccessPolicy == core.Deny {
			steps = append(steps, Step{Subject: policyResource("Server", q.server.ID), Text: "its accessPolicy deny lets nobody else in"})
		}
	} else if q.compiled.Ref.Default == string(core.Deny) {
		steps = append(steps, Step{Mark: No, Subject: Resource{Kind: kindDefault, Name: string(core.Deny)}, Text: "lets nobody in"})
	}
	local, localSteps := q.loopback()
	all, steps = all.or(local), append(steps, localSteps...)

	var verdicts []verdictOf
	if !isHTTP || q.compiled.Protocol == core.ProtocolDetect && q.request == nil {
		verdicts = append(verdicts, verdictOf{outcome: all, tcp: true, text: "connections that are not HTTP"})
	}
	noRoute := false
	if isHTTP {
		var chosen []verdictOf
		chosen, noRoute = q.choose(routes, all)
		verdicts = append(verdicts, chosen...)
	}
	q.steps = append(q.steps, steps...)
	q.stray()
	if noRoute {
		return q.conclude(NoRoute, nil)
	}
	if isHTTP {
		q.limits(limited)
	}
	return q.conclude("", verdicts)
}

// verdictOf is the outcome for one kind of traffic.
type verdictOf struct {
	outcome outcome
	tcp     bool
	// text names the traffic.
	text string
	// instead is what the route does with requests that are let in, instead of passing them on.
	instead      string
	status, code int
}

// inboundRoute is a compiled route with what is known of its object.
type inboundRoute struct {
	core.InboundRoute
	resource Resource
}

// routes returns the routes of the port, and whether it can be HTTP at all. It adds steps for those that have no effect.
func (q *inbound) routes() (routes []inboundRoute, limited *core.RateLimit, isHTTP bool) {
	compiled := q.compiled.HTTPRoutes
	switch q.compiled.Protocol {
	case core.ProtocolOpaque, core.ProtocolTLS:
		text := "the port is opaque: connections are judged as a whole, and requests are not seen"
		if q.compiled.Protocol == core.ProtocolTLS {
			text = "the port is for the application's own TLS: connections are judged as a whole, and requests are not seen"
		}
		q.step(Step{Text: text})
	case core.ProtocolGRPC:
		compiled = q.compiled.GRPCRoutes
	}
	for _, r := range compiled {
		route := inboundRoute{InboundRoute: r}
		switch r.Ref.Default {
		case core.NameProbe:
			route.resource = Resource{Kind: kindDefault, Name: core.NameProbe}
		case "":
			route.resource = Resource{Group: r.Ref.Group, Kind: r.Ref.Kind, Namespace: q.workload.Namespace, Name: r.Ref.Name}
		}
		routes = append(routes, route)
	}
	q.routesWithoutEffect(routes)
	isHTTP = q.compiled.Protocol != core.ProtocolOpaque && q.compiled.Protocol != core.ProtocolTLS
	if isHTTP {
		limited = q.compiled.RateLimit
	}
	return routes, limited, isHTTP
}

// routesWithoutEffect says why routes that refer to the Server are not in force.
func (q *inbound) routesWithoutEffect(inForce []inboundRoute) {
	if q.server == nil {
		return
	}
	parent := core.Parent{Kind: core.ParentServer, ID: q.server.ID}
	for _, r := range core.SortRoutes(q.source.RoutesOf(parent)) {
		if slices.ContainsFunc(inForce, func(f inboundRoute) bool {
			return f.Ref.Group == r.Group && f.Ref.Kind == string(r.Kind) && f.Ref.Name == r.Name && r.Namespace == q.server.Namespace
		}) {
			continue
		}
		text := ""
		switch {
		case r.NotInbound != "":
			text = r.NotInbound
		case !r.Attached(parent, 0):
			text = "its status does not say that it is Accepted"
		case r.Kind != core.HTTPRoute && r.Kind != core.GRPCRoute:
			text = "such routes are not for Servers"
		default:
			text = "the Server's proxyProtocol is " + protocolText(q.compiled.Protocol)
		}
		q.step(Step{Mark: Warning, Subject: routeResource(r), Text: "has no effect at Server " + q.server.ID.String() + ": " + text})
	}
}

// choose judges the routes: the one that takes the request, or, without a request, each. It reports whether there is a
// request that no route takes. server is the outcome of what applies to all routes.
func (q *inbound) choose(routes []inboundRoute, server outcome) (verdicts []verdictOf, noRoute bool) {
	grpc := q.compiled.Protocol == core.ProtocolGRPC
	if q.request == nil {
		for _, r := range routes {
			o, steps := q.route(r)
			if r.Ref.Default == core.NameProbe {
				s := Step{Subject: r.resource, Text: "the kubelet's probes are let in without anything else: " + rulesText(r.InboundRoute)}
				s.Mark = Note
				q.step(s)
				continue
			}
			o = o.or(server)
			text := ""
			s := Step{Subject: r.resource, Text: rulesText(r.InboundRoute), Steps: steps}
			if r.Ref.Default == "" {
				text = "requests of " + r.resource.String()
				s.Text = "takes " + rulesText(r.InboundRoute)
			} else {
				s.Text, text = "no route of a user's is attached: all requests are judged alike", "requests"
			}
			q.step(s)
			verdicts = append(verdicts, verdictOf{outcome: o, text: text})
		}
		if len(routes) > 0 && routes[0].Ref.Default == "" {
			q.step(Step{Text: "requests that no route takes, the kubelet's probes too, are answered with HTTP 404 (gRPC: NotFound)"})
		}
		return verdicts, false
	}
	if _, _, isCall := q.request.rpc(); grpc && !isCall {
		q.step(Step{Mark: No, Text: fmt.Sprintf("%s is no gRPC call, which is a POST of /service/method", q.request)})
		return nil, true
	}
	type candidate struct {
		inboundRoute
		found found
	}
	var best *candidate
	var others []Step
	for _, r := range routes {
		f, why, ok := q.request.match(matchableOf(r.Hosts, r.Rules), grpc)
		switch {
		case !ok:
			others = append(others, Step{Mark: No, Subject: r.resource, Text: why})
		case best == nil:
			best = &candidate{r, f}
		case f.rank.beats(best.found.rank):
			others = append(others, Step{Mark: No, Subject: best.resource, Text: "matches too (" + best.found.how + "), but not as closely"})
			best = &candidate{r, f}
		default:
			others = append(others, Step{Mark: No, Subject: r.resource, Text: "matches too (" + f.how + "), but not as closely, or is younger"})
		}
	}
	if best == nil {
		q.step(Step{Mark: No, Text: fmt.Sprintf("no route takes %s", q.request), Steps: others})
		return nil, true
	}
	o, steps := q.route(best.inboundRoute)
	s := Step{Mark: Yes, Subject: best.resource, Text: fmt.Sprintf("takes %s: %s", q.request, best.found.how), Steps: slices.Concat(steps, others)}
	if best.Ref.Default == core.NameDefault {
		s.Text = "no route of a user's is attached: the default route " + s.Text
	}
	q.step(s)
	v := verdictOf{outcome: o.or(server), text: q.request.String()}
	rule := best.Rules[best.found.rule]
	if steps := filters(rule.Filters); len(steps) > 0 {
		q.step(Step{Subject: best.resource, Text: "does more with requests that are let in", Steps: steps})
	}
	switch fail, redirect, _ := end(rule.Filters); {
	case fail != nil:
		v.instead, v.status, v.code = "is answered in the server's place: "+failureText(fail), int(fail.Status), int(fail.Code)
	case redirect != nil:
		v.instead, v.status = redirectText(redirect), int(redirect.Status)
	}
	return []verdictOf{v}, false
}

func redirectText(r *core.Redirect) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+" "+value)
		}
	}
	add("scheme", r.Scheme)
	add("host", r.Host)
	if r.Port != 0 {
		add("port", strconv.Itoa(int(r.Port)))
	}
	add("path", r.Path.Full)
	add("path prefix", r.Path.Prefix)
	return fmt.Sprintf("is redirected (status %d, to %s), unless that is where the request is going already", r.Status, cmp.Or(strings.Join(parts, ", "), "the same place"))
}

func matchableOf(hosts []core.Host, rules []core.Rule) matchable {
	m := matchable{hosts: hosts}
	for _, r := range rules {
		m.rules = append(m.rules, rule{r.HTTP, r.GRPC})
	}
	return m
}

// rulesText says what a route takes.
func rulesText(r core.InboundRoute) string {
	var texts []string
	for _, rule := range r.Rules {
		for _, m := range rule.HTTP {
			texts = append(texts, httpText(m))
		}
		for _, m := range rule.GRPC {
			texts = append(texts, grpcText(m))
		}
		if len(rule.HTTP) == 0 && len(rule.GRPC) == 0 {
			texts = append(texts, "any request")
		}
	}
	text := strings.Join(texts, "; or ")
	if len(r.Hosts) > 0 {
		hosts := make([]string, len(r.Hosts))
		for i, h := range r.Hosts {
			hosts[i] = hostText(h)
		}
		text += " at " + list(hosts)
	}
	return text
}

// route judges what is permitted at one route, without what is permitted at the Server.
func (q *inbound) route(r inboundRoute) (outcome, []Step) {
	o, steps := q.judge(r.Authorizations)
	if r.Ref.Default != core.NameProbe {
		q.considered = append(q.considered, r.Authorizations...)
	}
	if r.Ref.Default == "" {
		steps = append(steps, q.broken(func(p *core.AuthorizationPolicy) bool {
			return p.ForRoute(&core.Route{Object: core.Object{ID: core.ID{Name: r.Ref.Name}}, Group: r.Ref.Group, Kind: core.RouteKind(r.Ref.Kind)})
		})...)
		if len(r.Authorizations) == 0 {
			steps = append(steps, Step{Text: "no AuthorizationPolicy is for this route: what the Server lets in gets through"})
		}
	}
	return o, steps
}

// limits says which rate limit applies.
func (q *inbound) limits(limit *core.RateLimit) {
	if q.server == nil {
		return
	}
	others := slices.SortedFunc(slices.Values(q.source.RateLimits(q.server.Namespace)), func(a, b *core.RateLimit) int { return cmp.Compare(a.Name, b.Name) })
	for _, other := range others {
		if other.Server != q.server.Name || limit != nil && other.Name == limit.Name {
			continue
		}
		text := "has no effect: another one is older"
		switch {
		case !other.Accepted:
			text = "has no effect: its status does not say that it is Accepted"
		}
		q.step(Step{Mark: Warning, Subject: policyResource("HTTPLocalRateLimitPolicy", other.ID), Text: text})
	}
	if limit == nil {
		return
	}
	whose := "each pod lets in"
	if limit.Replicas != 0 {
		whose = fmt.Sprintf("all pods of the Server let in together (ready: %d)", limit.Replicas)
	}
	s := Step{Subject: policyResource("HTTPLocalRateLimitPolicy", limit.ID), Text: "limits the requests that " + whose + "; what is beyond gets HTTP 429 (gRPC: ResourceExhausted)"}
	rate := func(n uint32, whom string) {
		share := ""
		if limit.Replicas != 0 {
			share = fmt.Sprintf(" (this pod's share: %d)", limit.Share(n))
		}
		s.Steps = append(s.Steps, Step{Text: fmt.Sprintf("%d a second%s from %s", n, share, whom)})
	}
	if limit.Total != 0 {
		rate(limit.Total, "all clients together")
	}
	overridden := false
	for _, o := range limit.Overrides {
		if q.client.Proof == Unknown || slices.ContainsFunc(o.Identities, func(identity string) bool { return strings.EqualFold(identity, q.client.Identity) }) {
			overridden = q.client.Proof != Unknown
			rate(o.RequestsPerSecond, list(o.Identities))
			if overridden {
				break
			}
		}
	}
	if limit.Identity != 0 && !overridden {
		rate(limit.Identity, "each identity; clients without one share")
	}
	if limit.Burst != 0 {
		s.Steps = append(s.Steps, Step{Text: fmt.Sprintf("what is not used adds up for %v, and may come at once", limit.Burst)})
	}
	q.step(s)
}

// stray warns of policies that are for a Server or a route that does not exist.
func (q *inbound) stray() {
	namespace := q.workload.Namespace
	for _, p := range sortedPolicies(q.source, namespace) {
		if p.Target == core.TargetServer && !slices.ContainsFunc(q.source.Servers(namespace), func(s *core.Server) bool { return s.Name == p.TargetName }) {
			q.step(Step{Mark: Warning, Subject: policyResource("AuthorizationPolicy", p.ID), Text: "has no effect: there is no Server " + namespace + "/" + p.TargetName})
		}
	}
}

// unusable names the resources of the namespace that the controller cannot use.
func (q *inbound) unusable() {
	for _, u := range q.source.Unusable(q.workload.Namespace) {
		switch u.Kind {
		case "Pod", "Service", "ExternalWorkload", "EgressNetwork", "TLSRoute", "TCPRoute":
			continue
		}
		q.step(Step{
			Mark: Warning, Subject: Resource{Group: u.Group, Kind: u.Kind, Namespace: u.Namespace, Name: u.Name},
			Text: "cannot be used, and is as it was before if it could be used then: " + u.Err.Error(),
		})
	}
}

// conclude makes the explanation of what the kinds of traffic come to.
//
// A verdict that is given is NoRoute.
func (q *inbound) conclude(verdict Verdict, verdicts []verdictOf) *Explanation {
	e := &Explanation{Verdict: verdict}
	who := q.client.String()
	if verdict == NoRoute {
		e.Status, e.Code = http.StatusNotFound, int(codes.NotFound)
		e.Answer = "HTTP 404 (gRPC: NotFound)"
		e.Summary = fmt.Sprintf("no route: %s takes no %s, from %s", q.what(), q.request, who)
		return e
	}
	each := make([]Verdict, len(verdicts))
	for i, v := range verdicts {
		each[i] = q.verdict(v.outcome)
	}
	e.Verdict = each[0]
	for _, v := range each[1:] {
		if v != e.Verdict {
			e.Verdict = Depends
		}
	}
	tcp, requests := false, false
	for _, v := range verdicts {
		tcp, requests = tcp || v.tcp, requests || !v.tcp
	}
	switch e.Verdict {
	case Allowed, Audited:
		e.By = q.by(verdicts[0].outcome.by)
		for _, v := range verdicts {
			if q.by(v.outcome.by) != e.By {
				e.By = Resource{}
			}
		}
		by := ""
		if e.By != (Resource{}) {
			by = ", by " + e.By.String()
		}
		e.Summary = fmt.Sprintf("allowed: %s reaches %s%s", who, q.what(), by)
		if q.request != nil && requests {
			e.Summary = fmt.Sprintf("allowed: %s gets through with %s to %s%s", who, q.request, q.what(), by)
		}
		if e.Verdict == Audited {
			e.Summary = "audited: " + strings.TrimPrefix(e.Summary, "allowed: ") + "; with accessPolicy deny it would be refused"
		}
		if v := verdicts[0]; v.instead != "" {
			e.Status, e.Code, e.Answer = v.status, v.code, v.instead
		}
	case Denied:
		e.Summary = fmt.Sprintf("denied: %s is refused at %s", who, q.what())
		if q.request != nil && requests {
			e.Summary = fmt.Sprintf("denied: %s is refused with %s at %s", who, q.request, q.what())
		}
		if reason := q.refusal(); reason != "" {
			e.Summary += ": " + reason
		}
		e.By = q.refusing()
		if requests {
			e.Status, e.Code = http.StatusForbidden, int(codes.PermissionDenied)
		}
		switch {
		case requests && tcp:
			e.Answer = "HTTP 403 (gRPC: PermissionDenied); connections that are not HTTP are closed"
		case q.compiled.Protocol == core.ProtocolGRPC:
			e.Answer = "gRPC PermissionDenied"
		case requests:
			e.Answer = "HTTP 403 (gRPC: PermissionDenied)"
		default:
			e.Answer = "the connection is closed"
		}
	case Depends:
		e.Summary = q.depends(verdicts, each)
	}
	return e
}

// depends is the summary of a verdict that is open.
func (q *inbound) depends(verdicts []verdictOf, each []Verdict) string {
	var open []opening
	same := true
	for i, v := range verdicts {
		same = same && each[i] == Depends
		for _, o := range v.outcome.open {
			if !slices.Contains(open, o) {
				open = append(open, o)
			}
		}
	}
	by := func(open []opening, why bool) string {
		texts := make([]string, len(open))
		for i, o := range open {
			texts[i] = o.by.String()
			if why {
				texts[i] += " (" + o.holds + ")"
			}
		}
		return strings.Join(texts, " or ")
	}
	anybody := q.client == Client{}
	audited := ""
	if slices.ContainsFunc(verdicts, func(v verdictOf) bool { return v.outcome.answer == yes && len(v.outcome.open) > 0 }) {
		audited = ", and is audited else"
	}
	switch {
	case same && anybody:
		if audited != "" {
			audited = "; who else comes is audited"
		}
		return fmt.Sprintf("depends: %s is open to whom %s lets in%s", q.what(), by(open, false), audited)
	case same:
		return fmt.Sprintf("depends: %s reaches %s if %s lets it in%s", q.client, q.what(), by(open, true), audited)
	}
	var parts []string
	for i, v := range verdicts {
		text := v.text + " are " + string(each[i])
		switch each[i] {
		case Allowed, Audited:
			text += " by " + q.by(v.outcome.by).String()
		case Depends:
			text = v.text + " are allowed if " + by(v.outcome.open, !anybody) + " lets it in"
			if v.outcome.answer == yes {
				text += ", and are audited else"
			}
		}
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	return fmt.Sprintf("depends: from %s, at %s: %s", q.client, q.what(), strings.Join(parts, "; "))
}

func (q *inbound) verdict(o outcome) Verdict {
	switch {
	case o.answer == no:
		return Denied
	case o.answer == maybe:
		return Depends
	case o.by.Ref.Default == string(core.Audit):
		if len(o.open) > 0 {
			return Depends // on who lets the client in: one of these, or audit
		}
		return Audited
	}
	return Allowed
}

// refusing names what refuses those who nothing lets in.
func (q *inbound) refusing() Resource {
	if q.server != nil {
		return policyResource("Server", q.server.ID)
	}
	return Resource{Kind: kindDefault, Name: q.compiled.Ref.Default}
}

// refusal says in a few words why nobody lets the client in: what stands between it and those authorizations that come
// closest.
func (q *inbound) refusal() string {
	const (
		nobody = iota
		elsewhere
		unmeshed
		other
	)
	reason := nobody
	var closest []string
	for _, a := range q.considered {
		where, _ := q.client.in(a.Networks)
		who, _ := q.client.is(a.Clients)
		this := elsewhere
		if where != no && who == no {
			this = other
			if q.client.Proof == Plain {
				this = unmeshed
			}
		}
		if this > reason {
			reason, closest = this, nil
		}
		if name := q.by(a).String(); this == reason && !slices.Contains(closest, name) {
			closest = append(closest, name)
		}
	}
	switch reason {
	case elsewhere:
		return "it is outside the networks of " + list(closest)
	case unmeshed:
		return "it is not TLS, and an identity is asked for by " + list(closest)
	case other:
		return "its identity is not among those of " + list(closest)
	}
	return "nothing lets anybody in"
}
