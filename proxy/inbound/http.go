package inbound

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/authz"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/observe"
	"github.com/linkerd-go/linkerd-go/proxy/origproto"
	"github.com/linkerd-go/linkerd-go/proxy/pause"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// request is the state of one exchange. It comes from a pool and is nobody's
// after Serve returned.
type request struct {
	p *Proxy
	c *Conn
	x *exchange.Exchange

	pol    *policy
	permit *permit
	// trusted says that the client's identity is what it was permitted for.
	trusted bool
	found   route.Found
	// origin is the client's Origin field, if the rule shares responses with
	// other origins.
	origin []byte
	// profile is the way through a service profile, nil for most requests.
	profile *profileRoute

	// carried is the version of an HTTP/1 request that came over HTTP/2.
	carried origproto.Form
	// body and response watch both bodies.
	body, response observe.Body
	// ending is around response if that is of gRPC.
	ending  refusal.Tail
	started time.Time
	// sent is when the request's body was over, as time since started; the
	// client may still send while the response ends.
	sent    atomic.Int64
	counted bool // request_total has it
	timed   bool // the latency was recorded
	// at is when the first frame of the response came, or, once ended, the
	// last.
	at       time.Time
	ended    bool
	status   int
	class    classify.Response
	trailers *exchange.Fields
	// tap is nil unless somebody observes the request.
	tap   *tap.Session
	bytes uint64
	// received is the length of the request's body so far. It may be read once
	// the response was closed.
	received uint64
	// entry is that of the access log, nil unless there is one.
	entry *accesslog.Entry
	// spans is nil unless the request is traced.
	spans *tracing.Spans
	// refused is what was answered in the application's place, why how the
	// response broke off, grpc its status label.
	refused *refusal.Refusal
	why     error
	grpc    string
}

var requests = sync.Pool{New: func() any { return new(request) }}

// Serve takes one request from its head to the last byte of its response: the
// path of HTTP through the inbound proxy.
func (p *Proxy) Serve(x *exchange.Exchange) {
	r := requests.Get().(*request)
	r.p, r.c, r.x, r.started = p, x.Conn.(*Conn), x, p.cfg.Clock.Now()
	r.pol = r.c.port.policy.Load()
	if p.cfg.AccessLog != nil {
		r.entry = p.cfg.AccessLog.Begin(r.c.client, r.c.tls.Client.String(), r.started)
	}
	if err := r.handle(); err != nil {
		r.fail(err)
	} else {
		p.cfg.Memory.Served(r.c.standing)
	}
	r.finish()
}

// handle is Serve; the error says why there is no response yet.
func (r *request) handle() error {
	p, x := r.p, r.x
	// Shed load that would only wait, or that there is no memory for; probes
	// have to be answered all the same.
	n := p.inFlight.Add(1)
	if p.cfg.MaxInFlight > 0 && n > int64(p.cfg.MaxInFlight) || x.Shed || !r.c.own && p.cfg.Memory.Refuse(r.started, r.c.standing) {
		p.inFlight.Add(-1)
		return balance.ErrLoadShed
	}
	waiting := true
	defer func() {
		if waiting {
			p.inFlight.Add(-1)
		}
	}()
	// A request that is part of a trace gets a span; none begins with a probe.
	if !r.c.own {
		r.spans = p.cfg.Tracer.Server(x.Request, "inbound", r.c.target)
	}
	// A request that a peer's proxy carried over HTTP/2 becomes what it was.
	r.carried = origproto.Restore(x.Request)
	if r.carried == origproto.None && x.Request.Version != exchange.HTTP2 && !x.Request.Upgrade {
		// Over HTTP/2 there are no such fields: its codec refuses them.
		exchange.StripConnection(&x.Request.Fields)
	}
	// Nobody but this proxy says who the client is.
	disown(&x.Request.Fields)
	if id := r.c.tls.Client; !id.IsZero() {
		x.Request.Add("l5d-client-id", id.String())
	}
	if err := uri.Normalize(x.Request, r.c.defaultAuthority()); err != nil {
		return err
	}
	r.entry.Request(x.Request, x.Request.Version)
	// May it pass?
	if err := r.authorize(); err != nil {
		return err
	}
	// From here on the request is counted, whatever becomes of it.
	r.permit.allow.Add(1)
	r.permit.route.Request()
	r.body.Watch(x.Body, (*requestSide)(r))
	if p.cfg.Tap.Active() {
		r.tap = p.cfg.Tap.Begin(r.tapped())
	}
	if next := r.c.next; next != nil {
		waiting = false
		p.inFlight.Add(-1)
		r.serveNext(next)
		return nil
	}
	if err := p.profiles.find(r); err != nil {
		return err
	}
	// On to the application.
	p.cfg.ForwardedFor.apply(x.Request, r.c.client.Addr())
	pick, err := r.c.port.app(appKey{r.c.target, x.Request.Version == exchange.HTTP2}).balancer.Pick(&x.Canceler)
	if err != nil {
		return err
	}
	defer pick.Release()
	r.spans.Client(x.Request)
	var sent time.Time
	if r.entry != nil {
		sent = p.cfg.Clock.Now()
	}
	resp, err := pick.Service().client.RoundTrip(&x.Canceler, x.Request, &r.body)
	if r.entry != nil {
		r.entry.Elsewhere = p.cfg.Clock.Now().Sub(sent)
	}
	waiting = false
	p.inFlight.Add(-1)
	if err != nil {
		return &clientError{r.c.target.String(), err}
	}
	defer resp.Close()
	return r.respond(resp)
}

// disown removes what a client says of its own identity. Where header fields become
// variables (CGI, WSGI) a low line is as good as a hyphen.
func disown(f *exchange.Fields) {
	const name = "l5d-client-id"
	f.List = slices.DeleteFunc(f.List, func(e exchange.Field) bool {
		if len(e.Name) != len(name) {
			return false
		}
		for i, c := range e.Name {
			switch {
			case c == '_':
				c = '-'
			case 'A' <= c && c <= 'Z':
				c |= 0x20
			}
			if c != name[i] {
				return false
			}
		}
		return true
	})
}

// clientError is an error at the application, as opposed to the proxy.
type clientError struct {
	addr string
	err  error
}

func (e *clientError) Error() string { return fmt.Sprintf("client %s: server: %s", e.addr, e.err) }
func (e *clientError) Unwrap() error { return e.err }

// authorize finds the route of the request and applies the policy of the port:
// authorization, filters, rate limit. It sets r.permit.
func (r *request) authorize() error {
	pol, head := r.pol, r.x.Request
	if pol.Invalid != "" {
		r.count(r.p.cfg.Series.InvalidPolicy, "", "")
		return refusal.Internal(refusal.Because("invalid server policy: invalid server configuration", pol.Invalid), errors.New(pol.Invalid))
	}
	found, ok := route.Find(&pol.Routes, head)
	if !ok {
		r.count(r.p.cfg.Series.HTTPNoRoute, "", "")
		r.c.log().Info("No route found for request", "server", pol.Meta, "method", string(head.Method), "path", string(head.Path))
		return refusal.NotFound("no route found for request")
	}
	r.found = found
	by, reason := authz.Authorize(r.c.who(), found.Route.Authorizations, pol.Authorizations)
	if by == nil {
		r.count(r.p.cfg.Series.HTTPDeny, series.Route(found.Route.Meta), "")
		refused := refusal.Forbidden("unauthorized request on route")
		r.c.log().Info("Request denied", "server", pol.Meta, "route", found.Route.Meta, "tls", r.c.tls.Client,
			"reason", reason, "error", refused)
		return refused
	}
	if by.Meta.Name == model.AuditName {
		r.c.log().Info("Request allowed", "server", pol.Meta, "route", found.Route.Meta, "tls", r.c.tls.Client, "authz", by.Meta)
	}
	if d := route.Delay(found.Rule.Filters, nil); d > 0 {
		if err := pause.For(&r.x.Canceler, r.p.cfg.Clock, d); err != nil {
			return err
		}
	}
	r.origin = route.Origin(found.Rule.Filters, head)
	if v := route.Apply(found.Rule.Filters, found, head, nil); v.Action != route.Continue {
		return refusal.Verdict(v)
	}
	if exceeded := pol.limiter.Allow(r.started, r.c.tls.Client); exceeded != nil {
		meta := ""
		if m := pol.limiter.Meta(); m != (model.Meta{}) {
			meta = metric.Labels("ratelimit_group", m.Group, "ratelimit_kind", m.Kind, "ratelimit_name", m.Name)
		}
		r.count(r.p.cfg.Series.HTTPRateLimit, "", metric.Join(meta, metric.Labels("ratelimit_scope", exceeded.Label())))
		return refusal.RateLimited(exceeded.Error(), exceeded.Wait)
	}
	r.trusted = by.Authn.Kind == model.AuthnIdentity
	r.permit = r.c.permit(pol, found, by, r.authority())
	return nil
}

// count counts a refusal.
func (r *request) count(f *metric.Family, route, extra string) {
	f.Count(metric.Join(series.Target(r.c.target), r.pol.srv, route, extra, r.c.tls.Labels()))
}

// authority is the label, if it is wanted.
func (r *request) authority() string {
	if !r.p.cfg.AuthorityLabels {
		return ""
	}
	return r.p.cfg.Series.Names.Label(string(r.x.Request.Authority))
}

// heldPermit is a permit that a connection holds.
type heldPermit struct {
	pol       *policy
	found     *model.Route
	by        *model.Authorization
	authority string
	permit    *permit
}

// permit finds the handles for what was permitted, at the connection if it
// was permitted before.
func (c *Conn) permit(pol *policy, found route.Found, by *model.Authorization, authority string) *permit {
	if list := c.permits.Load(); list != nil {
		for i := range *list {
			h := &(*list)[i]
			if h.pol == pol && h.found == found.Route && h.by == by && h.authority == authority {
				return h.permit
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.port.hold(permitKey{
		target: c.target, tls: c.tls, srv: pol.Meta, route: found.Route.Meta, authz: by.Meta,
		authority: authority, grpc: pol.Routes.GRPC,
	}, pol)
	// What was used before stays until the connection ends, for requests that
	// are in flight may still use it. But a policy is sent again every few
	// minutes, and a connection may live for weeks: of policies that are over
	// only permits are kept that no entry of the present one has.
	next := []heldPermit{{pol, found.Route, by, authority, m}}
	if list := c.permits.Load(); list != nil {
		for _, h := range *list {
			if h.pol != pol {
				if h.permit == m {
					c.port.release(m)
					continue
				}
				h = heldPermit{permit: h.permit}
			}
			next = append(next, h)
		}
	}
	c.permits.Store(&next)
	return m
}

// defaultAuthority is what a request is for that does not say it.
func (c *Conn) defaultAuthority() string {
	if c.alpn != "" {
		// Direct connections have none.
		return ""
	}
	return c.authority
}

// respond passes the application's response on.
func (r *request) respond(resp *exchange.Response) error {
	head := &resp.Head
	r.status = head.Status
	r.class = classify.Start(head, r.profile.classes())
	upgraded := resp.Upgraded != nil
	if !upgraded && head.Version != exchange.HTTP2 {
		exchange.StripConnection(&head.Fields)
	}
	route.ApplyResponse(r.found.Rule.Filters, r.origin, head)
	r.answered(head)
	if upgraded {
		if r.x.Request.Version != exchange.HTTP2 {
			r.c.drain.Bytes()
		}
		r.response.Watch(exchange.Empty, (*responseSide)(r))
		return r.x.Tunnel(head, resp.Upgraded)
	}
	if r.carried != origproto.None {
		origproto.Mark(head)
	}
	r.response.Watch(resp.Body, (*responseSide)(r))
	err := r.x.Respond(head, r.tail(&r.response))
	r.response.Finish(err)
	return nil
}

// tail makes errors of a gRPC response's body trailers.
func (r *request) tail(b exchange.Body) exchange.Body {
	if b.Ended() || !refusal.IsGRPC(r.x.Request) {
		return b
	}
	r.ending = refusal.Tail{Body: b, Judge: (*tailSide)(r), Informational: r.informational()}
	return &r.ending
}

// tailSide judges the end of a gRPC response. It is the request itself, since
// every call would have to allocate another.
type tailSide request

// Judge implements refusal.Judge.
func (t *tailSide) Judge(err error) *refusal.Refusal {
	if errors.Is(err, exchange.ErrClientGone) {
		return nil
	}
	// What the response is broken by happened at the application.
	return (*request)(t).refuse(&clientError{t.c.target.String(), err})
}

// serveNext lets another handler answer, watching as for the application.
func (r *request) serveNext(next exchange.Handler) {
	x := r.x
	inner, body, conn := x.Responder, x.Body, x.Conn
	x.Responder, x.Body = &watched{Responder: inner, r: r}, &r.body
	if r.c.own {
		x.Conn = visitor{r.c, r.trusted}
	}
	next.Serve(x)
	x.Responder, x.Body, x.Conn = inner, body, conn
}

// visitor is the client of a server of the proxy's own.
type visitor struct {
	*Conn
	trusted bool
}

// Trusted reports whether the policy let the request in for its client's
// identity.
func (v visitor) Trusted() bool { return v.trusted }

// watched is a responder whose responses are watched.
type watched struct {
	exchange.Responder
	r *request
}

func (w *watched) Respond(head *exchange.ResponseHead, body exchange.Body) error {
	r := w.r
	r.status = head.Status
	r.class = classify.Start(head, nil)
	r.answered(head)
	r.response.Watch(body, (*responseSide)(r))
	err := w.Responder.Respond(head, &r.response)
	r.response.Finish(err)
	return err
}

// Refuse answers a request that was handed on, to a gateway, with a refusal of
// whom it was handed to. It is told and counted like one of the inbound proxy's.
func Refuse(x *exchange.Exchange, refused *refusal.Refusal) {
	w, ok := x.Responder.(*watched)
	if !ok {
		_ = refusal.Respond(x, refused, refusal.Options{Informational: true})
		return
	}
	x.Responder = w.Responder
	w.r.fail(refused)
}

// fail answers the request with a refusal, or resets it.
func (r *request) fail(err error) {
	refused := r.refuse(err)
	if refused == nil {
		// The reset of an HTTP/2 application is passed on, and a client that
		// went away needs no answer.
		r.x.Cancel(err)
		r.response.Watch(broken{err}, (*responseSide)(r))
		r.response.Finish(err)
		return
	}
	if refused.Label != "" {
		r.p.cfg.Series.InboundHTTPErrors.Count(metric.Join(metric.Labels("error", refused.Label), series.Target(r.c.target), r.pol.srv))
	}
	// What a policy refuses is told where it does; failures, the application's too, here.
	if (refused.Label != "" || refused.Cause != nil) && !errors.Is(err, balance.ErrLoadShed) {
		r.c.log().Info("Request failed", "error", err, "cause", refused.Reason())
	} else {
		r.c.log().Debug("Request refused", "error", err)
	}
	r.status, r.refused = refused.Status, refused
	head := exchange.ResponseHead{Version: r.x.Request.Version}
	grpc := refusal.IsGRPC(r.x.Request)
	refusal.Fill(&head, grpc, refused, refusal.Options{Informational: r.informational(), OrigProto: r.carried != origproto.None})
	r.class = classify.Start(&head, nil)
	r.answered(&head)
	if r.carried != origproto.None {
		origproto.Mark(&head)
	}
	if refused.Close && r.carried == origproto.None {
		r.x.CloseAfter()
	}
	// To the endpoint's metrics a response made up in its place is its own.
	r.response.Watch(exchange.Empty, (*responseSide)(r))
	// The client being gone changes nothing any more.
	_ = r.x.Respond(&head, exchange.Empty)
}

// broken is a body that fails.
type broken struct{ err error }

func (b broken) Next() (exchange.Frame, error) { return exchange.Frame{}, b.err }
func (b broken) Ready() bool                   { return true }
func (b broken) Ended() bool                   { return false }
func (b broken) Close(error)                   {}

// informational reports whether the client may be told reasons.
func (r *request) informational() bool { return !r.c.tls.Client.IsZero() }

// answered tells observers of the response's head.
func (r *request) answered(head *exchange.ResponseHead) {
	if r.entry != nil {
		r.entry.Response(head, r.p.cfg.Clock.Now())
	}
	if r.tap != nil {
		r.tap.Response(head, r.p.cfg.Clock.Now())
	}
}

// finish tells of the exchange's end and gives the state back.
func (r *request) finish() {
	r.body.Finish(nil)
	if r.entry != nil || r.spans != nil {
		r.told()
	}
	*r = request{}
	requests.Put(r)
}

// told ends the spans and writes the access log.
func (r *request) told() {
	reason := ""
	switch {
	case r.refused != nil:
		reason = r.refused.Reason()
	case r.why != nil:
		reason = r.why.Error()
	}
	r.spans.End(tracing.Outcome{Status: r.status, GRPC: r.grpc, Broken: r.why != nil, Reason: reason, Bytes: r.bytes})
	if r.entry == nil {
		return
	}
	// Of what failed early nothing was taken down yet.
	r.entry.Request(r.x.Request, r.x.Request.Version)
	r.entry.Duration = r.p.cfg.Clock.Now().Sub(r.started)
	r.entry.RequestBytes, r.entry.ResponseBytes = r.received, r.bytes
	r.entry.GRPC, r.entry.Error = r.grpc, reason
	r.p.cfg.AccessLog.Write(r.entry)
}

// requestSide hears of the request's body.
type requestSide request

func (s *requestSide) Frame(f exchange.Frame) {
	if f.Trailers != nil {
		disown(f.Trailers) // an application may put them beside the other fields
	}
	if n := uint64(len(f.Data)); n > 0 {
		s.permit.route.RequestFrames.Observe(n)
		s.received += n
	}
	s.count()
}

// count counts the request, with the first frame of its body.
func (s *requestSide) count() {
	if !s.counted {
		s.counted = true
		s.permit.endpoint.Request()
	}
}

func (s *requestSide) Over(error) {
	if !s.counted {
		// There was no body: it was over when the request came.
		s.count()
		s.sent.Store(1)
		return
	}
	s.sent.Store(int64(max(s.p.cfg.Clock.Now().Sub(s.started), 1)))
}

// responseSide hears of the response's body.
type responseSide request

func (s *responseSide) Frame(f exchange.Frame) {
	if s.permit == nil {
		return
	}
	if n := len(f.Data); n > 0 {
		s.permit.route.ResponseFrames.Observe(uint64(n))
		s.bytes += uint64(n)
	}
	if f.Trailers != nil {
		s.trailers = f.Trailers
	}
	// Reading the clock is a good part of what counting costs.
	if !s.timed || f.End {
		s.at = s.p.cfg.Clock.Now()
	}
	s.ended = f.End
	s.latency(s.at)
}

// latency is recorded with the first frame, or the end.
func (s *responseSide) latency(now time.Time) {
	if !s.timed {
		s.timed = true
		took := now.Sub(s.started)
		s.permit.endpoint.Latency(s.status, took)
		if s.profile != nil {
			s.profile.http.Latency(s.status, took)
		}
	}
}

func (s *responseSide) Over(err error) {
	class := s.class.End(s.trailers, err)
	s.why, s.grpc = err, class.GRPC
	if s.permit == nil {
		return
	}
	now := s.at
	if !s.ended {
		now = s.p.cfg.Clock.Now()
	}
	c := series.Class{Status: s.status, Failure: class.Failure, GRPC: class.GRPC, Error: class.Error}
	if err == nil && !s.timed {
		s.latency(now)
	}
	s.permit.endpoint.Response(c)
	s.permit.route.Status(c)
	s.permit.route.RequestDuration.ObserveDuration(now.Sub(s.started))
	if sent := time.Duration(s.sent.Load()); sent != 0 {
		s.permit.route.ResponseDuration.ObserveDuration(now.Sub(s.started) - sent)
	}
	s.profile.over(c)
	if s.tap != nil {
		s.tap.End(tap.End{At: now, Bytes: s.bytes, GRPC: tap.GRPC(class.GRPC), Reset: tap.Reset(err), Trailers: s.trailers})
	}
}

// tapped describes the request to observers.
func (r *request) tapped() tap.Request {
	source := map[string]string{"tls": string(r.c.tls.Reason)}
	switch r.c.tls.State {
	case series.TLSMesh:
		source = map[string]string{"tls": "true", "client_id": r.c.tls.Client.String()}
	case series.TLSOpaque:
		source = map[string]string{"tls": "passthru", "sni": r.c.tls.SNI}
	}
	t := tap.Request{
		Source: r.c.client, Destination: r.c.target, Head: r.x.Request, At: r.started,
		SourceLabels: model.MakeLabels(source), DestinationLabels: model.Labels{{Key: "tls", Value: string(series.Loopback)}},
	}
	return t
}
