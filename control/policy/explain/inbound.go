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
