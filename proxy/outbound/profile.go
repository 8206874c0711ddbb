package outbound

import (
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/retry"
	"github.com/linkerd-go/linkerd-go/proxy/route"
)

// maxProfileBody is the longest request body that a profile's retry keeps.
const maxProfileBody = 64 << 10

// alongProfile takes the way of a service profile (proxy chapter, section
// 15.4).
func (r *request) alongProfile(router *profileRouter) error {
	x := r.x
	r.profile = router.def
	if found := route.FindProfile(router.profile, x.Request); found != nil {
		for _, pr := range router.routes {
			if pr.ProfileRoute == found {
				r.profile = pr
			}
		}
	}
	x.Request.Set("l5d-dst-canonical", router.canonical)
	r.profile.http.Request()
	pr := r.profile.ProfileRoute
	retryable := pr != nil && pr.Retryable && router.budget != nil
	head, body := x.Request, x.Body
	if retryable {
		r.replay = retry.NewBody(body, head.ContentLength, maxProfileBody)
		head = new(exchange.RequestHead)
		router.budget.Deposit(r.p.cfg.Clock.Now())
	}
	for {
		a := &r.attempt
		if retryable {
			head.CopyFrom(x.Request)
			body = r.replay.Attempt()
		}
		*a = attempt{r: r, c: &x.Canceler, started: r.p.cfg.Clock.Now()}
		r.profile.actual.Request()
		stop := a.limitProfile(pr)
		resp, err := a.sendProfile(router, head, body)
		stop()
		if err != nil {
			return a.stop(err)
		}
		if retryable && r.failed(resp) && r.replay.Replayable() {
			if router.budget.Withdraw(r.p.cfg.Clock.Now()) {
				a.retried = true
				a.abandon(resp)
				continue
			}
			r.p.cfg.Series.Retryable.Count(metric.Join(r.profile.labels, metric.Labels("skipped", "no_budget")))
		}
		return a.respond(resp)
	}
}

// sendProfile sends the request to one of the profile's destinations.
func (a *attempt) sendProfile(router *profileRouter, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	b, ok := router.dist.Pick()
	if !ok {
		return nil, balance.ErrLoadShed
	}
	return a.dispatch(b, nil, head, body)
}

// limitProfile limits the wait for the response's head, if the route does.
func (a *attempt) limitProfile(pr *model.ProfileRoute) (stop func()) {
	if pr == nil || pr.Timeout == 0 {
		return func() {}
	}
	c := new(exchange.Canceler)
	a.c = c
	if err := a.r.x.Bind(c.Cancel); err != nil {
		c.Cancel(err)
	}
	var t clock.Timer = a.r.p.cfg.Clock.AfterFunc(pr.Timeout, func() {
		c.Cancel(&deadline.Error{Kind: deadline.Profile, Limit: pr.Timeout})
	})
	return func() { t.Stop() }
}

// failed reports whether a response is a failure at its head or, on HTTP/2, in
// trailers that are there.
func (r *request) failed(resp *exchange.Response) bool {
	class := classify.Start(&resp.Head, r.profile.classes())
	if r.version == exchange.HTTP2 && classify.IsGRPC(&resp.Head.Fields) && classify.Code(&resp.Head.Fields) < 0 {
		p := retry.Peek(resp.Body)
		resp.Body = p
		if p.Trailers() == nil {
			return false
		}
		return class.End(p.Trailers(), nil).Failure
	}
	return class.End(nil, nil).Failure
}
