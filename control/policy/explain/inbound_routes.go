package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

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
