package outbound

import (
	"errors"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/retry"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/series"
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
	r.beside(router)
	retryable := pr != nil && pr.Retryable && router.budget != nil
	again := r.retry != nil
	head, body := x.Request, x.Body
	switch {
	case retryable:
		r.replay = retry.NewBody(body, head.ContentLength, maxProfileBody)
		router.budget.Deposit(r.p.cfg.Clock.Now())
	case again:
		r.replay = retry.NewBody(body, head.ContentLength, r.retry.MaxRequestBytes)
		r.budget.Deposit(r.started)
	}
	if r.replay != nil {
		head = new(exchange.RequestHead)
	}
	for {
		a := &r.attempt
		if r.replay != nil {
			head.CopyFrom(x.Request)
			body = r.replay.Attempt()
		}
		*a = attempt{r: r, c: &x.Canceler, started: r.p.cfg.Clock.Now()}
		r.profile.actual.Request()
		stop := a.limitProfile(pr)
		resp, err := a.sendProfile(router, head, body)
		stop()
		if again {
			if err := r.retryBeside(router, resp, err); err == errRetry {
				continue
			} else if err != nil {
				return err
			}
		}
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

// beside finds what the policy says of a request where the profile says nothing:
// time limits if its route in the profile has none, and retries if the profile
// has none for any route. Where requests go is up to the profile alone.
func (r *request) beside(router *profileRouter) {
	r.timeouts, r.retry, r.budget = model.Timeouts{}, nil, nil
	found, ok := route.Find(&router.policy.Routes, r.x.Request)
	if !ok {
		return
	}
	timeouts, retry := route.Params(found.Rule, r.x.Request)
	if pr := r.profile.ProfileRoute; pr == nil || pr.Timeout == 0 {
		r.timeouts = timeouts
	}
	if !router.retries {
		r.retry, r.budget = retry, router.budgets[found.RouteIndex][found.RuleIndex]
	}
}

// errRetry says that there is to be another attempt.
var errRetry = errors.New("another attempt")

// retryBeside decides whether the policy wants another attempt after one that
// ended with resp or err, and waits for it: errRetry. Any other error is the
// request's.
func (r *request) retryBeside(router *profileRouter, resp *exchange.Response, err error) error {
	var head *exchange.ResponseHead
	var body *exchange.Body
	if err == nil {
		head, body = &resp.Head, &resp.Body
	}
	wanted, _ := r.wanted(head, body, err)
	if !wanted || r.retries >= r.retry.Max || !r.replay.Replayable() || !router.dist.Ready() {
		return nil
	}
	if r.budget != nil && !r.budget.Withdraw(r.p.cfg.Clock.Now()) {
		r.p.cfg.Series.Retryable.Count(metric.Join(r.profile.labels, metric.Labels("skipped", "no_budget")))
		return nil
	}
	a := &r.attempt
	a.retried = true
	if err == nil {
		a.abandon(resp)
	} else {
		a.finish(err)
	}
	if err := r.pause(); err != nil {
		r.profile.http.Response(series.Class{Failure: true, Error: errorLabel(err)})
		return err
	}
	return errRetry
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
	c := a.own()
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
