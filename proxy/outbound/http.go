package outbound

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/observe"
	"github.com/linkerd-go/linkerd-go/proxy/pause"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/retry"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// Handler serves the requests of one connection.
type Handler struct {
	p *Proxy
	// target is where requests go; nil in ingress mode, where each says it.
	target *target
	// conn is nil for connections that are not the application's.
	conn *Conn
	// loud allows informational headers whatever the configuration says.
	loud bool
}

var _ exchange.Handler = (*Handler)(nil)

// request is the state of one exchange. It comes from a pool and is nobody's
// after Serve returned.
type request struct {
	p *Proxy
	h *Handler
	x *exchange.Exchange
	t *target
	// version is what the client speaks, whatever becomes of the head.
	version exchange.Version
	grpc    bool
	started time.Time
	done    func() // releases what was discovered for this request alone
	waiting bool   // counted as in flight: there is no response yet
	spans   *tracing.Spans
	// entry is that of the access log, nil unless there is one.
	entry *accesslog.Entry
	// refused is what was answered before there was an endpoint, why the reason
	// for no answer at all.
	refused *refusal.Refusal
	why     error

	// What the route decided.
	rule     *rule
	found    route.Found
	route    *series.OutboundRoute
	profile  *profileRoute
	timeouts model.Timeouts
	retry    *model.Retry
	// budget limits retries beside a profile; nil does not.
	budget  *retry.Budget
	replay  *retry.Body
	retries int
	// origin is the application's Origin field, if the rule shares responses
	// with other origins.
	origin []byte
	// copies are to be sent to the rule's mirrors.
	copies []*copied

	attempt attempt
	// ending is around the response's body if that is of gRPC.
	ending refusal.Tail
}

// attempt is one try to have the request answered.
type attempt struct {
	r        *request
	c        *exchange.Canceler
	limits   *limits
	backend  *ruleBackend
	pick     balance.Pick[*endpoint]
	picked   bool
	body     observe.Body
	response observe.Body
	started  time.Time
	// sent is when the request's body was over, as time since started; the
	// client may still send while the response ends.
	sent    atomic.Int64
	counted bool
	timed   bool
	// at is when the first frame of the response came, or, once ended, the
	// last.
	at       time.Time
	ended    bool
	status   int
	class    classify.Response
	trailers *exchange.Fields
	// refused is what was answered in the endpoint's place.
	refused *refusal.Refusal
	// made is the response in the endpoint's place.
	made exchange.Response
	over bool
	// retried says that another attempt follows.
	retried bool
	// tap is nil unless somebody observes the attempt.
	tap   *tap.Session
	bytes uint64
	// received is the length of the request's body so far. It may be read once
	// the response was closed.
	received uint64
	// why is how the response broke off, code its gRPC status label.
	why  error
	code string
}

var requests = sync.Pool{New: func() any { return new(request) }}

// Serve takes one request from its head to the last byte of its response: the
// path of HTTP through the outbound proxy.
func (h *Handler) Serve(x *exchange.Exchange) {
	r := requests.Get().(*request)
	r.p, r.h, r.x, r.t = h.p, h, x, h.target
	r.version, r.started = x.Request.Version, h.p.cfg.Clock.Now()
	r.grpc = refusal.IsGRPC(x.Request)
	r.begin()
	if err := r.handle(); err != nil {
		r.fail(err)
	} else if h.conn != nil {
		h.p.cfg.Memory.Served(h.conn.standing)
	}
	r.finish()
}

// refuses reports whether there is no memory for a request. For one that came
// through the gateway that was asked where it came in.
func (h *Handler) refuses(now time.Time) bool {
	return h.conn != nil && h.p.cfg.Memory.Refuse(now, h.conn.standing)
}

// handle is Serve; the error says why there is no response yet.
func (r *request) handle() error {
	p, h, x := r.p, r.h, r.x
	// Shed load that would only wait, or that there is no memory for.
	n := p.inFlight.Add(1)
	if p.cfg.MaxInFlight > 0 && n > int64(p.cfg.MaxInFlight) || x.Shed || h.refuses(r.started) {
		p.inFlight.Add(-1)
		return balance.ErrLoadShed
	}
	r.waiting = true
	if r.version != exchange.HTTP2 && !x.Request.Upgrade {
		exchange.StripConnection(&x.Request.Fields)
	}
	// What is it for? An ingress controller's requests say it themselves.
	if r.t == nil {
		if err := r.discover(); err != nil {
			return err
		}
	}
	if err := uri.Normalize(x.Request, r.t.authority()); err != nil {
		return err
	}
	r.entry.Request(x.Request, r.version)
	// A request that is part of a trace gets a span.
	r.spans = p.cfg.Tracer.Server(x.Request, "outbound", r.t.key.addr)
	k := kindHTTP1
	if r.version == exchange.HTTP2 {
		k = kindHTTP2
	}
	// The routers of the moment decide; again, if they were replaced before
	// the request was sent.
	err := r.t.current(k, func(s *snapshot) error { return r.along(s.http[k]) })
	if err == errNoRoute {
		return refusal.NotFound("no route")
	}
	if err != nil {
		return &logicalError{r.t, err}
	}
	return nil
}

// logicalError says what the request was for.
type logicalError struct {
	t   *target
	err error
}

func (e *logicalError) Error() string { return fmt.Sprintf("logical service %s: %s", e.t, e.err) }
func (e *logicalError) Unwrap() error { return e.err }

// along takes the way of a router.
func (r *request) along(router *httpRouter) error {
	if router.profile != nil {
		return r.alongProfile(router.profile)
	}
	if router.invalid != "" {
		return refusal.Internal(refusal.Because(errInvalidPolicy.Error(), router.invalid), fmt.Errorf("%w: %s", errInvalidPolicy, router.invalid))
	}
	found, ok := route.Find(&router.policy.Routes, r.x.Request)
	if !ok {
		return refusal.NotFound("no route")
	}
	r.found, r.rule = found, router.rules[found.RouteIndex][found.RuleIndex]
	r.route = r.rule.route(r.hostname())
	r.timeouts, r.retry = route.Params(found.Rule, r.x.Request)
	if r.rule.shares {
		r.origin = r.x.Request.Get("origin")
	}
	var err error
	if r.rule.delays {
		err = r.hold()
	}
	if err == nil {
		err = r.try()
	}
	if err != nil && !errors.Is(err, balance.ErrClosed) {
		return &routeError{r.rule.meta, err}
	}
	return err
}

// routeError says by which route a request failed.
type routeError struct {
	route model.Meta
	err   error
}

func (e *routeError) Error() string { return "route " + label(e.route) + ": " + e.err.Error() }
func (e *routeError) Unwrap() error { return e.err }

// hostname is the label, if it is wanted.
func (r *request) hostname() []byte {
	if !r.p.cfg.HostnameLabels {
		return nil
	}
	host, _ := uri.Split(route.Authority(r.x.Request))
	if !uri.Name(host) {
		return nil
	}
	return []byte(r.p.cfg.Series.Names.Label(string(host)))
}

// try makes attempts until one is answered for good, and passes its response
// on.
func (r *request) try() error {
	head, body := r.x.Request, r.x.Body
	switch {
	case r.retry != nil:
		r.rule.budget.Deposit(r.started)
		r.replay = retry.NewBody(body, head.ContentLength, r.retry.MaxRequestBytes)
	case r.rule != nil && r.rule.mirrors:
		r.replay = retry.NewBody(body, head.ContentLength, mirrorBytes)
	}
	// Filters and endpoints change the head, so each attempt has its own; and
	// so that what a rewrite changed is not what the next router goes by.
	own := r.retry != nil || r.rule != nil && r.rule.rewrites
	if own {
		head = new(exchange.RequestHead)
	}
	for {
		a := &r.attempt
		if own {
			head.CopyFrom(r.x.Request)
		}
		if r.replay != nil {
			body = r.replay.Attempt()
		}
		*a = attempt{r: r, c: &r.x.Canceler, started: r.started}
		if r.retries > 0 {
			a.started = r.p.cfg.Clock.Now()
		}
		resp, err := a.send(head, body)
		if err == nil {
			if !r.again(&resp.Head, &resp.Body, nil) {
				return a.respond(resp)
			}
			a.retried = true
			a.abandon(resp)
		} else {
			if !r.again(nil, nil, err) {
				return a.stop(err)
			}
			a.retried = true
			a.finish(err)
		}
		if err := r.pause(); err != nil {
			r.route.Duration.ObserveDuration(r.p.cfg.Clock.Now().Sub(r.started))
			r.route.End(result(series.Class{}, err))
			return err
		}
	}
}

// again decides whether there is to be another attempt (proxy chapter, section
// 15.1). The response's body may be looked into.
func (r *request) again(head *exchange.ResponseHead, body *exchange.Body, err error) bool {
	if r.retry == nil || errors.Is(err, balance.ErrClosed) {
		return false
	}
	wanted, trailers := r.wanted(head, body, err)
	switch {
	case !wanted:
		if r.retries > 0 && err == nil && classify.Start(head, nil).End(trailers, nil).Success() {
			r.route.RetrySucceeded()
		}
		return false
	case r.retries >= r.retry.Max:
		r.route.RetryLimit()
		return false
	case !r.replay.Replayable():
		return false
	case !r.rule.dist.Ready(), r.rule.budget != nil && !r.rule.budget.Withdraw(r.p.cfg.Clock.Now()):
		r.route.RetryOverflow()
		return false
	}
	return true
}

// wanted reports whether the outcome of an attempt is one to retry. The
// response's body may be looked into, for trailers.
func (r *request) wanted(head *exchange.ResponseHead, body *exchange.Body, err error) (wanted bool, trailers *exchange.Fields) {
	if err != nil {
		return !errors.Is(err, balance.ErrClosed) && retry.WantedError(err), nil
	}
	if r.retry.Codes != 0 && r.version == exchange.HTTP2 && classify.Code(&head.Fields) < 0 && !retry.Wanted(r.retry, head, nil) {
		p := retry.Peek(*body)
		*body, trailers = p, p.Trailers()
	}
	return retry.Wanted(r.retry, head, trailers), trailers
}

// pause waits before the next attempt. The error says why there will be none.
func (r *request) pause() error {
	var d time.Duration
	if b := r.retry.Backoff; b != nil {
		d = backoff.Delay(*b, r.retries, rand.Float64())
	}
	if err := r.wait(d); err != nil {
		return err
	}
	r.retries++
	if r.route != nil {
		r.route.RetrySent()
	}
	return nil
}

// hold waits as long as the rule delays this request.
func (r *request) hold() error {
	if d := route.Delay(r.rule.Filters, nil); d > 0 {
		return r.wait(d)
	}
	return nil
}

// wait waits, and no longer than the request may take.
func (r *request) wait(d time.Duration) error {
	var late error
	if limit := r.timeouts.Request; limit > 0 {
		if left := limit - r.p.cfg.Clock.Now().Sub(r.started); left <= d {
			d, late = max(left, 0), &deadline.Error{Kind: deadline.Request, Limit: limit}
		}
	}
	if d == 0 {
		if err := r.x.Cause(); err != nil {
			return err
		}
		return late
	}
	if err := pause.For(&r.x.Canceler, r.p.cfg.Clock, d); err != nil {
		return err
	}
	return late
}

// send chooses backend and endpoint and sends the request. If there is an
// error nothing was answered in the endpoint's place.
func (a *attempt) send(head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	r := a.r
	if v := route.Apply(r.rule.Filters, r.found, head, nil); v.Action != route.Continue {
		return nil, refusal.Verdict(v)
	}
	backend, ok := r.rule.dist.Pick()
	if !ok {
		return nil, balance.ErrLoadShed
	}
	a.backend = backend
	backend.metrics.Request()
	if r.rule.mirrors && r.retries == 0 {
		r.copy(backend, head)
	}
	resp, err := a.dispatch(backend.backend, backend.filters, head, body)
	if err != nil && !errors.Is(err, balance.ErrClosed) {
		err = &backendError{backend.backend, err}
	}
	return resp, err
}

// backendError says at which backend a request failed.
type backendError struct {
	b   *backend
	err error
}

func (e *backendError) Error() string { return "backend " + e.b.String() + ": " + e.err.Error() }
func (e *backendError) Unwrap() error { return e.err }

// dispatch sends the request to an endpoint of the backend.
func (a *attempt) dispatch(b *backend, filters []model.Filter, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	r := a.r
	if v := route.Apply(filters, r.found, head, nil); v.Action != route.Continue {
		return nil, refusal.Verdict(v)
	}
	if b.balancer == nil {
		return nil, refusal.BadGateway(b.fail, nil)
	}
	// The request's time runs while it waits for an endpoint, too.
	a.limit()
	pick, err := b.balancer.PickFor(a.c, r.p.session(b, head))
	if err != nil {
		return nil, err
	}
	a.pick, a.picked = pick, true
	e := pick.Service()
	if a.limits != nil {
		a.limits.dispatched()
	}
	a.body.Watch(body, (*requestSide)(a))
	if r.p.cfg.Tap.Active() {
		a.tap = r.p.cfg.Tap.Begin(a.tapped(e, head))
	}
	r.spans.Client(head)
	resp, err := a.roundTrip(e, head)
	for n := 0; err != nil && a.moves(b, e, err, n); n++ {
		if e, err = a.move(b, head, err); err != nil {
			return nil, err
		}
		resp, err = a.roundTrip(e, head)
	}
	if a.limits != nil && err == nil {
		a.limits.head()
	}
	if err == nil {
		// The attempt's own copy: what Head notes there Complete and Release heed.
		a.pick.Head(&resp.Head)
		if a.tap != nil {
			a.tap.Response(&resp.Head, r.p.cfg.Clock.Now())
		}
		return resp, nil
	}
	refused := atEndpoint(err, r.version)
	if refused == nil {
		return nil, err
	}
	// The endpoint could not be talked to: a response is made in its place,
	// which is judged, counted and retried as if it had sent it.
	a.refused = refused.Labeled("")
	a.refused.Text = fmt.Sprintf("endpoint %s: %s", e.model.Addr, refused.Text)
	r.log().Info("Endpoint failed", "error", a.refused.Text)
	a.made.Head.Reset()
	a.made.Head.Version = r.version
	refusal.Fill(&a.made.Head, r.grpc, a.refused, r.informs())
	a.made.Body = exchange.Empty
	if a.tap != nil {
		a.tap.Response(&a.made.Head, r.p.cfg.Clock.Now())
	}
	return &a.made, nil
}

// limit makes the timers of the attempt, if it has any, and starts the request's.
func (a *attempt) limit() {
	r := a.r
	headers := time.Duration(0)
	if r.retry != nil && r.retries < r.retry.Max {
		headers = r.retry.Timeout
	}
	if r.timeouts == (model.Timeouts{}) && headers == 0 {
		return
	}
	a.limits = &limits{clk: r.p.cfg.Clock, c: a.own(), t: r.timeouts, headers: headers}
	var until time.Time
	if r.timeouts.Request > 0 {
		until = r.started.Add(r.timeouts.Request)
	}
	a.limits.start(until)
}

// own gives the attempt a canceler of its own: what ends this attempt must not
// end the next.
func (a *attempt) own() *exchange.Canceler {
	if a.c == &a.r.x.Canceler {
		c := new(exchange.Canceler)
		a.c = c
		if err := a.r.x.Bind(c.Cancel); err != nil {
			c.Cancel(err)
		}
	}
	return a.c
}

// respond passes the attempt's response on.
func (a *attempt) respond(resp *exchange.Response) error {
	r, head := a.r, &resp.Head
	r.answered()
	r.mirror()
	defer a.release()
	defer resp.Close()
	a.status = head.Status
	a.class = classify.Start(head, r.profile.classes())
	if a.refused == nil {
		r.connectionHeaders(a, resp)
	}
	if r.rule != nil {
		if a.backend != nil {
			route.ApplyResponse(a.backend.filters, r.origin, head)
		}
		route.ApplyResponse(r.rule.Filters, r.origin, head)
	}
	r.answering(head)
	if a.refused != nil && a.refused.Close {
		r.x.CloseAfter()
	}
	if resp.Upgraded != nil {
		if r.h.conn != nil && r.version != exchange.HTTP2 {
			r.h.conn.drain.Bytes()
		}
		a.response.Watch(exchange.Empty, (*responseSide)(a))
		return r.x.Tunnel(head, resp.Upgraded)
	}
	a.response.Watch(resp.Body, (*responseSide)(a))
	err := r.x.Respond(head, r.tail(&a.response))
	a.response.Finish(err)
	return nil
}

// connectionHeaders takes out of the response what is between proxies, and
// ends the client's connection if the server's proxy asks for it.
func (r *request) connectionHeaders(a *attempt, resp *exchange.Response) {
	head := &resp.Head
	head.Del("l5d-proxy-error")
	if v := head.Get("l5d-proxy-connection"); v != nil {
		e := a.pick.Service()
		if strings.EqualFold(string(v), "close") && e.forward && e.tls != nil {
			r.x.CloseAfter()
		}
		head.Del("l5d-proxy-connection")
	}
	if resp.Upgraded == nil && r.version != exchange.HTTP2 {
		exchange.StripConnection(&head.Fields)
	}
}

// tail makes errors of a gRPC response's body trailers.
func (r *request) tail(b exchange.Body) exchange.Body {
	if !r.grpc || b.Ended() {
		return b
	}
	r.ending = refusal.Tail{Body: b, Informational: r.informs().Informational, Judge: (*tailSide)(r)}
	return &r.ending
}

// tailSide judges the end of a gRPC response. It is the request itself, since
// every call would have to allocate another.
type tailSide request

// Judge implements refusal.Judge. An endpoint that is lost in the middle is as
// unavailable as one that is lost before it answered.
func (t *tailSide) Judge(err error) *refusal.Refusal {
	r := atEndpoint(err, t.version)
	if r == nil {
		return refuse(err, t.version)
	}
	r.Text = fmt.Sprintf("endpoint %s: %s", t.attempt.pick.Service().model.Addr, r.Text)
	return r
}

// abandon gives up a response that is to be tried again.
func (a *attempt) abandon(resp *exchange.Response) {
	a.status = resp.Head.Status
	a.class = classify.Start(&resp.Head, a.r.profile.classes())
	a.response.Watch(exchange.Empty, (*responseSide)(a))
	resp.Close()
	a.release()
}

// stop ends an attempt that failed for good.
func (a *attempt) stop(err error) error {
	if errors.Is(err, balance.ErrClosed) {
		// Of an old router: the next begins anew.
		a.release()
		return err
	}
	a.finish(err)
	return err
}

// finish ends an attempt that was not answered.
func (a *attempt) finish(err error) {
	if !a.over {
		(*responseSide)(a).Over(err)
	}
	a.release()
}

// release gives back what the attempt held.
func (a *attempt) release() {
	a.body.Finish(nil)
	if a.r.spans != nil {
		a.r.spans.Sent(a.outcome())
	}
	if a.limits != nil {
		a.limits.stop()
	}
	if a.c != &a.r.x.Canceler {
		_ = a.r.x.Bind(nil)
	}
	if a.picked {
		a.picked = false
		a.pick.Release()
	}
}

// informs says whether the client is told reasons.
func (r *request) informs() refusal.Options {
	return refusal.Options{Informational: r.h.loud || !r.p.cfg.Quiet}
}

// fail answers the request with a refusal, or resets it.
func (r *request) fail(err error) {
	refused := refuse(err, r.version)
	if r.refused = refused; refused == nil {
		r.why = err
		r.x.Cancel(err)
		return
	}
	if refused.Label != "" {
		r.p.cfg.Series.OutboundHTTPErrors.Count(errorLabels(refused.Label))
	}
	if refused.Label != "" && !errors.Is(err, balance.ErrLoadShed) {
		r.log().Info("Request failed", "error", err, "cause", refused.Reason())
	} else {
		r.log().Debug("Request refused", "error", err)
	}
	r.x.Request.Version = r.version
	head := &exchange.ResponseHead{Version: r.version}
	refusal.Fill(head, r.grpc, refused, r.informs())
	r.answering(head)
	if refused.Close {
		r.x.CloseAfter()
	}
	// The client being gone changes nothing any more.
	_ = r.x.Respond(head, exchange.Empty)
}

// answered takes the request out of those that wait for a response; bodies may
// stream for ever.
func (r *request) answered() {
	if r.waiting {
		r.waiting = false
		r.p.inFlight.Add(-1)
	}
}

// finish gives the state back.
func (r *request) finish() {
	r.answered()
	r.mirror()
	r.told()
	if r.done != nil {
		r.done()
	}
	*r = request{}
	requests.Put(r)
}
