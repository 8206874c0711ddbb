package explain

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// outbound is one question about a Service on its way to an explanation.
type outbound struct {
	config *core.Config
	source Source
	target core.Target
	// namespace is the clients'.
	namespace string
	request   *Request
	compiled  *core.OutboundPolicy
	steps     []Step
}

// Outbound explains where the proxies of clients of a namespace send what is meant for a port of a Service. A nil request asks
// for all routes.
func Outbound(config *core.Config, source Source, service core.ID, port uint16, namespace string, request *Request) *Explanation {
	q := &outbound{config: config, source: source, namespace: namespace, target: core.Target{Destination: core.ToService, ID: service, Port: port}}
	found := source.Service(service)
	if found != nil {
		if _, has := found.Ports[port]; !has {
			q.target.Destination = core.ToUndefinedPort
		}
	}
	q.compiled = config.Outbound(source, q.target, namespace)
	if request != nil {
		q.request = request.complete(q.compiled.Protocol == core.ProtocolGRPC)
		if _, _, isCall := q.request.rpc(); !isCall && len(q.compiled.HTTPRoutes) > 0 {
			q.request = request.complete(false)
		}
	}
	q.protocol(found)
	e := q.decide(found)
	q.withoutEffect()
	q.accrual()
	e.Steps, e.Port = q.steps, port
	return e
}

func (q *outbound) step(s Step) { q.steps = append(q.steps, s) }

func (q *outbound) resource() Resource {
	return Resource{Kind: "Service", Namespace: q.target.ID.Namespace, Name: q.target.ID.Name}
}

func (q *outbound) what() string {
	return fmt.Sprintf("port %d of Service %s", q.target.Port, q.target.ID)
}

// protocol says how clients take the port, and why. Source: proxy API chapter, section 6.4.
func (q *outbound) protocol(service *core.Service) {
	s := Step{Subject: q.resource()}
	switch {
	case service == nil:
		s.Mark, s.Text = Warning, "does not exist"
	case q.target.Destination == core.ToUndefinedPort:
		ports := make([]int, 0, len(service.Ports))
		for port := range service.Ports {
			ports = append(ports, int(port))
		}
		slices.Sort(ports)
		s.Mark, s.Text = No, fmt.Sprintf("has no port %d, but %s", q.target.Port, strings.Trim(fmt.Sprint(ports), "[]"))
	default:
		app, opaque := service.Ports[q.target.Port], service.Opaque
		why := "nothing says what it speaks"
		switch {
		case app != core.AppUnset:
			why = "the Service's appProtocol says so"
		case opaque.Present && opaque.Ports.Has(q.target.Port):
			why = "the annotation " + names.AnnotationOpaquePorts + " lists it"
		case !opaque.Present && q.config.DefaultOpaquePorts.Has(q.target.Port):
			why = "it is among the cluster's default opaque ports"
		case q.compiled.Protocol != core.ProtocolDetect:
			why = "the routes that are attached say so"
		}
		s.Text = fmt.Sprintf("port %d is taken as %s: %s", q.target.Port, q.taken(), why)
	}
	q.step(s)
}

func (q *outbound) taken() string {
	if q.compiled.Protocol == core.ProtocolGRPC && len(q.compiled.HTTPRoutes) > 0 {
		return "whatever is detected, and HTTP/2 as gRPC"
	}
	return protocolName(q.compiled.Protocol)
}

func protocolName(p core.Protocol) string {
	switch p {
	case core.ProtocolDetect:
		return "whatever is detected"
	case core.ProtocolOpaque:
		return "bytes (opaque)"
	case core.ProtocolTLS:
		return "TLS"
	}
	return protocolText(p)
}

func (q *outbound) route(r core.OutboundRoute) Resource {
	if r.Ref.Default != "" {
		return Resource{Kind: kindDefault, Name: r.Ref.Default}
	}
	return Resource{Group: r.Ref.Group, Kind: r.Ref.Kind, Namespace: r.Ref.Namespace, Name: r.Ref.Name}
}

// decide finds the route of the request, or lists all routes.
func (q *outbound) decide(service *core.Service) *Explanation {
	e := &Explanation{Verdict: Allowed}
	if q.target.Destination == core.ToUndefinedPort {
		e.Verdict, e.By, e.Answer = Denied, q.resource(), "the connection is closed"
		e.Summary = fmt.Sprintf("denied: Service %s has no port %d", q.target.ID, q.target.Port)
		return e
	}
	grpc := q.compiled.Protocol == core.ProtocolGRPC
	routes := slices.Concat(q.compiled.GRPCRoutes, q.compiled.HTTPRoutes)
	isHTTP := len(routes) > 0
	isCall := false
	if q.request != nil {
		_, _, isCall = q.request.rpc()
	}
	if grpc && len(q.compiled.HTTPRoutes) > 0 && q.request != nil {
		// Which of the two a request meets depends on the version of HTTP; a question about what cannot be a call is about
		// HTTP/1.
		if grpc = isCall; grpc {
			routes = q.compiled.GRPCRoutes
		} else {
			routes = q.compiled.HTTPRoutes
		}
	}
	if q.request == nil || !isHTTP {
		for _, r := range slices.Concat(routes, q.compiled.TLSRoutes, q.compiled.OpaqueRoutes) {
			for _, rule := range r.Rules {
				q.step(Step{Subject: q.route(r), Text: "takes " + takes(r, rule, isHTTP), Steps: fate(rule)})
			}
		}
		e.Summary = fmt.Sprintf("%s: %s", q.what(), describe(q.compiled))
		if service == nil {
			e.Verdict, e.Summary = Denied, fmt.Sprintf("denied: there is no Service %s", q.target.ID)
			e.By = q.resource()
		}
		return e
	}
	best, rank := -1, found{}
	var others []Step
	for i, r := range routes {
		m := matchable{hosts: r.Hosts}
		for _, rl := range r.Rules {
			m.rules = append(m.rules, rule{rl.HTTP, rl.GRPC})
		}
		f, why, ok := q.request.match(m, grpc)
		switch {
		case grpc && !isCall:
			others = append(others, Step{Mark: No, Subject: q.route(r), Text: fmt.Sprintf("%s is no gRPC call, which is a POST of /service/method", q.request)})
		case !ok:
			others = append(others, Step{Mark: No, Subject: q.route(r), Text: why})
		case best < 0 || f.rank.beats(rank.rank):
			if best >= 0 {
				others = append(others, Step{Mark: No, Subject: q.route(routes[best]), Text: "matches too (" + rank.how + "), but not as closely"})
			}
			best, rank = i, f
		default:
			others = append(others, Step{Mark: No, Subject: q.route(r), Text: "matches too (" + f.how + "), but not as closely, or is younger"})
		}
	}
	if best < 0 {
		e.Verdict, e.Status, e.Code, e.Answer = NoRoute, http.StatusNotFound, int(codes.NotFound), "HTTP 404 (gRPC: NotFound)"
		e.Summary = fmt.Sprintf("no route: no route of %s takes %s", q.what(), q.request)
		q.steps = append(q.steps, others...)
		return e
	}
	r := routes[best]
	chosen := r.Rules[rank.rule]
	e.By = q.route(r)
	q.step(Step{Mark: Yes, Subject: e.By, Text: fmt.Sprintf("takes %s: %s", q.request, rank.how), Steps: slices.Concat(fate(chosen), others)})
	e.Summary = fmt.Sprintf("allowed: %s to %s goes by %s to %s", q.request, q.what(), e.By, backendsText(chosen.Backends))
	switch fail, redirect, _ := end(chosen.Filters); {
	case fail != nil:
		e.Verdict, e.Status, e.Code = Denied, int(fail.Status), int(fail.Code)
		e.Answer = failureText(fail)
		e.Summary = fmt.Sprintf("denied: %s answers %s to %s in the server's place: %s", e.By, q.request, q.what(), e.Answer)
		return e
	case redirect != nil:
		e.Status, e.Answer = int(redirect.Status), redirectText(redirect)
		e.Summary = fmt.Sprintf("allowed: %s redirects %s to %s", e.By, q.request, q.what())
		return e
	}
	if len(chosen.Backends.Backends) > 0 && !slices.ContainsFunc(chosen.Backends.Backends, func(b core.Backend) bool { return b.Invalid == "" }) {
		e.Verdict, e.Status, e.Code = Denied, http.StatusInternalServerError, int(codes.Internal)
		e.Answer = "HTTP 500: " + chosen.Backends.Backends[0].Invalid
		e.Summary = fmt.Sprintf("denied: %s takes %s to %s, and has no backend that can be used", e.By, q.request, q.what())
	}
	return e
}

// describe counts the routes of a policy.
func describe(p *core.OutboundPolicy) string {
	own := 0
	for _, r := range slices.Concat(p.HTTPRoutes, p.GRPCRoutes, p.TLSRoutes, p.OpaqueRoutes) {
		if r.Ref.Default == "" {
			own++
		}
	}
	switch own {
	case 0:
		return "no route is attached; everything goes to its endpoints"
	case 1:
		return "one route is in force"
	}
	return fmt.Sprintf("%d routes are in force", own)
}

func takes(r core.OutboundRoute, rule core.OutboundRule, isHTTP bool) string {
	text := rulesText(core.InboundRoute{Hosts: r.Hosts, Rules: []core.Rule{{HTTP: rule.HTTP, GRPC: rule.GRPC}}})
	if !isHTTP || len(rule.HTTP)+len(rule.GRPC) == 0 {
		text = "connections"
		if len(r.Hosts) > 0 {
			hosts := make([]string, len(r.Hosts))
			for i, h := range r.Hosts {
				hosts[i] = hostText(h)
			}
			text += " for " + list(hosts)
		}
	}
	return text
}

// fate says what becomes of what a rule takes.
func fate(rule core.OutboundRule) []Step {
	steps := filters(rule.Filters)
	note := func(format string, args ...any) { steps = append(steps, Step{Text: fmt.Sprintf(format, args...)}) }
	if _, _, ends := end(rule.Filters); ends {
		return steps
	}
	for _, b := range rule.Backends.Backends {
		s := Step{Mark: Yes, Subject: backendResource(b), Text: "is where it goes"}
		if rule.Backends.Random && len(rule.Backends.Backends) > 1 {
			s.Text = fmt.Sprintf("is where it goes, with weight %d", b.Weight)
		}
		if b.Ref.Port != 0 {
			s.Text += fmt.Sprintf(", port %d", b.Ref.Port)
		}
		if b.Invalid != "" {
			s.Mark, s.Text = No, "cannot be used: "+b.Invalid
		}
		steps = append(steps, s)
	}
	if t := rule.Timeouts; t != nil {
		if t.Request != 0 {
			note("a request may take %s", t.Request)
		}
		if t.Response != 0 {
			note("the response may take %s to begin", t.Response)
		}
		if t.Idle != 0 {
			note("a stream may be idle for %s", t.Idle)
		}
	}
	if rule.AttemptTimeout != 0 {
		note("each attempt at a backend may take %s", rule.AttemptTimeout)
	}
	if r := rule.Retry; r != nil {
		note("up to %d retries", r.Limit)
	}
	return steps
}

func backendResource(b core.Backend) Resource {
	return Resource{Group: strings.TrimPrefix(b.Ref.Group, core.GroupCore), Kind: cmp.Or(b.Ref.Kind, kindDefault), Namespace: b.Ref.Namespace, Name: cmp.Or(b.Ref.Name, b.Ref.Default)}
}

func backendsText(d core.Distribution) string {
	if len(d.Backends) == 0 {
		return "nowhere"
	}
	texts := make([]string, len(d.Backends))
	for i, b := range d.Backends {
		texts[i] = backendResource(b).String()
		if len(d.Backends) > 1 {
			texts[i] += fmt.Sprintf(" (weight %d)", b.Weight)
		}
	}
	return list(texts)
}

// withoutEffect says why routes that refer to the Service are not in force at the port for these clients. Source: proxy API
// chapter, section 6.6.
func (q *outbound) withoutEffect() {
	parent := core.Parent{Kind: core.ParentService, ID: q.target.ID}
	inForce := slices.Concat(q.compiled.HTTPRoutes, q.compiled.GRPCRoutes, q.compiled.TLSRoutes, q.compiled.OpaqueRoutes)
	for _, r := range core.SortRoutes(q.source.RoutesOf(parent)) {
		if slices.ContainsFunc(inForce, func(o core.OutboundRoute) bool {
			return o.Ref.Group == r.Group && o.Ref.Kind == string(r.Kind) && o.Ref.Namespace == r.Namespace && o.Ref.Name == r.Name
		}) {
			continue
		}
		refers := func(which func(core.ParentRef) bool) bool {
			return slices.ContainsFunc(r.Parents, func(p core.ParentRef) bool { return p.Parent == parent && which(p) })
		}
		text := ""
		switch {
		case !refers(func(p core.ParentRef) bool { return p.Port == 0 || p.Port == q.target.Port }):
			text = "is for another port of the Service"
		case !r.Attached(parent, q.target.Port):
			text = "has no effect: its status does not say that it is Accepted"
		case r.Namespace != q.target.ID.Namespace && r.Namespace != q.namespace:
			text = fmt.Sprintf("is a consumer's own, for clients of namespace %s, not of %s", r.Namespace, q.namespace)
		default:
			text = "has no effect: the port is taken as " + q.taken() + ", or an older route of its kind is in force"
		}
		mark := Warning
		if strings.HasPrefix(text, "is ") {
			mark = Note
		}
		q.step(Step{Mark: mark, Subject: routeResource(r), Text: text})
	}
	namespaces := []string{q.target.ID.Namespace}
	if q.namespace != q.target.ID.Namespace {
		namespaces = append(namespaces, q.namespace)
	}
	for _, namespace := range namespaces {
		for _, u := range q.source.Unusable(namespace) {
			if strings.HasSuffix(u.Kind, "Route") {
				q.step(Step{
					Mark: Warning, Subject: Resource{Group: u.Group, Kind: u.Kind, Namespace: u.Namespace, Name: u.Name},
					Text: "cannot be used, and is as it was before if it could be used then: " + u.Err.Error(),
				})
			}
		}
	}
}

// accrual says when endpoints are taken out.
func (q *outbound) accrual() {
	if a := q.compiled.Accrual; a != nil {
		text := fmt.Sprintf("an endpoint is taken out after %d failures in a row, for %s to %s", a.MaxFailures, a.Backoff.Min, a.Backoff.Max)
		if a.Unified {
			text += fmt.Sprintf(", or if less than %v of its requests succeed", a.Threshold)
		}
		switch {
		case a.Ejection.Count > 0:
			text += fmt.Sprintf(", unless fewer than %d were left", a.Ejection.Count)
		case a.Ejection.Percent > 0:
			text += fmt.Sprintf(", unless less than %d%% were left", a.Ejection.Percent)
		}
		q.step(Step{Subject: q.resource(), Text: text})
	}
}

// filters says what filters do with what passes them.
func filters(all []core.Filter) []Step {
	var steps []Step
	note := func(format string, args ...any) { steps = append(steps, Step{Text: fmt.Sprintf(format, args...)}) }
	for _, f := range all {
		switch {
		case f.RequestHeaders != nil:
			note("changes header fields of the request")
		case f.ResponseHeaders != nil:
			note("changes header fields of the response")
		case f.Redirect != nil:
			note("%s", redirectText(f.Redirect))
		case f.Rewrite != nil:
			note("rewrites the URL: host %q, path %q, path prefix %q", f.Rewrite.Host, f.Rewrite.Path.Full, f.Rewrite.Path.Prefix)
		case f.CORS != nil:
			note("answers browsers of the origins %s (CORS)", list(f.CORS.Origins))
		case f.Mirror != nil:
			note("sends a copy of %d out of %d to %s", f.Mirror.Numerator, f.Mirror.Denominator, f.Mirror.To.ID)
		case f.Delay != nil:
			note("holds %s of the requests for %v", share(f.Delay.Numerator, f.Delay.Denominator), f.Delay.Time)
		case f.Fail != nil:
			note("answers %s of the requests in the server's place: %s", share(f.Fail.Numerator, f.Fail.Denominator), failureText(f.Fail))
		case f.Forbidden:
			note("closes the connection")
		case f.Invalid != "":
			note("closes the connection: %s", f.Invalid)
		}
	}
	return steps
}

// end finds the filter that answers in the server's place, for sure; at most one of the two is set. ends is also true for
// filters that close the connection.
func end(list []core.Filter) (fail *core.Failure, redirect *core.Redirect, ends bool) {
	for _, f := range list {
		switch {
		case f.Fail != nil && f.Fail.Numerator == f.Fail.Denominator:
			return f.Fail, nil, true
		case f.Redirect != nil:
			// What is there already goes on to the backends.
			return nil, f.Redirect, false
		case f.Forbidden, f.Invalid != "":
			return nil, nil, true
		}
	}
	return nil, nil, false
}

// failureText is an answer made by a proxy. Of the status and the code, one is for the route's protocol.
func failureText(f *core.Failure) string {
	var answer []string
	if f.Status != 0 {
		answer = append(answer, fmt.Sprintf("HTTP %d", f.Status))
	}
	if f.Code != 0 {
		answer = append(answer, "gRPC "+codes.Code(f.Code).String())
	}
	text := strings.Join(answer, " or ")
	if f.Message != "" {
		text += ", " + f.Message
	}
	return text
}

// share is a ratio as a percentage. Both numbers are 0 if there is no ratio.
func share(numerator, denominator uint32) string {
	if numerator == denominator {
		return "all"
	}
	return strconv.FormatFloat(100*float64(numerator)/float64(denominator), 'f', -1, 64) + " %"
}
