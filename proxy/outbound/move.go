package outbound

import (
	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/tap"
)

// maxMoves is how often a request is given to another endpoint because the one
// that was chosen went away before it was asked. It is no limit but for endpoints
// that come and go all the time.
const maxMoves = 8

// maxConnects is how many endpoints are tried until one can be connected to. An
// attempt may cost a connect timeout, so there are few.
const maxConnects = 3

// moves reports whether a request that was not sent is given to another endpoint,
// the nth time: because the one that was chosen went away, or because it cannot be
// connected to and there is one of which that is not known. Whatever the request
// is, nobody has seen it.
func (a *attempt) moves(b *backend, e *endpoint, err error, n int) bool {
	if e.lost(err) {
		return n < maxMoves
	}
	return n < maxConnects-1 && e.movable() && exchange.Unsent(err) && a.c.Cause() == nil && b.balancer.Spare()
}

// move gives a request that was not sent because of err another endpoint, waiting
// for one like any other request. An endpoint that leaves must not keep what it
// never saw: it may be gone for good, and those that are left can answer.
func (a *attempt) move(b *backend, head *exchange.RequestHead, err error) (*endpoint, error) {
	failed := !a.pick.Service().lost(err)
	if failed {
		a.unreached(err)
	}
	a.picked = false
	a.pick.Release()
	pick, err := b.balancer.PickFor(a.c, a.r.p.session(b, head))
	if err != nil {
		return nil, err
	}
	a.pick, a.picked = pick, true
	e := pick.Service()
	if failed {
		if a.body.Over() {
			(*requestSide)(a).count()
		}
		if a.tap != nil {
			a.tap = a.r.p.cfg.Tap.Begin(a.tapped(e, head))
		}
	}
	return e, nil
}

// unreached counts what could not be sent as a request that the endpoint failed,
// which is what it would be without another endpoint.
func (a *attempt) unreached(err error) {
	now := a.r.p.cfg.Clock.Now()
	status := 502
	if refused := atEndpoint(err, a.r.version); refused != nil {
		status = refused.Status
	}
	(*requestSide)(a).count()
	a.counted = false
	m := a.pick.Service().metrics
	m.Latency(status, now.Sub(a.started))
	m.Response(series.Class{Status: status, Failure: true})
	a.pick.Outcome(breaker.Failure)
	if a.tap != nil {
		a.tap.End(tap.End{At: now, Reset: tap.Reset(err)})
	}
}
