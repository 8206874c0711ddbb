package outbound

import (
	"net/netip"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

// What is told of a request when it is over: its spans, and its line in the
// access log.

// begin begins the request's entry in the access log, if there is one.
func (r *request) begin() {
	if r.p.cfg.AccessLog == nil {
		return
	}
	// Through a gateway it is the connection of another proxy.
	var client netip.AddrPort
	if c, ok := r.x.Conn.(interface{ Client() netip.AddrPort }); ok {
		client = c.Client()
	}
	r.entry = r.p.cfg.AccessLog.Begin(client, "", r.started)
}

// answering takes down the head of the response.
func (r *request) answering(head *exchange.ResponseHead) {
	if r.entry != nil {
		r.entry.Response(head, r.p.cfg.Clock.Now())
	}
}

// roundTrip is the endpoint's, timed for the access log.
func (a *attempt) roundTrip(e *endpoint, head *exchange.RequestHead) (*exchange.Response, error) {
	entry := a.r.entry
	if entry == nil {
		return e.roundTrip(a.c, head, &a.body)
	}
	now := a.r.p.cfg.Clock.Now
	began := now()
	defer func() { entry.Elsewhere += now().Sub(began) }()
	entry.Server, entry.ServerID = e.model.Addr, e.model.TLS.ID.String()
	return e.roundTrip(a.c, head, &a.body)
}

// outcome is how the attempt ended. It is made only for those who ask.
func (a *attempt) outcome() tracing.Outcome {
	o := tracing.Outcome{Status: a.status, GRPC: a.code, Broken: a.why != nil, Bytes: a.bytes}
	switch {
	case a.refused != nil:
		o.Reason = a.refused.Reason()
	case a.why != nil:
		o.Reason = a.why.Error()
	}
	return o
}

// told ends the spans and writes the access log.
func (r *request) told() {
	if r.spans == nil && r.entry == nil {
		return
	}
	o := r.attempt.outcome()
	switch {
	case r.refused != nil:
		o = tracing.Outcome{Status: r.refused.Status, Reason: r.refused.Reason()}
		if r.grpc {
			o.Status, o.GRPC = 200, strconv.Itoa(r.refused.Code)
		}
	case r.why != nil:
		o = tracing.Outcome{Broken: true, Reason: r.why.Error()}
	}
	r.spans.End(o)
	if r.entry == nil {
		return
	}
	// Of what failed early nothing was taken down yet.
	r.entry.Request(r.x.Request, r.version)
	r.entry.Duration = r.p.cfg.Clock.Now().Sub(r.started)
	r.entry.RequestBytes, r.entry.ResponseBytes = r.attempt.received, o.Bytes
	r.entry.GRPC, r.entry.Error = o.GRPC, o.Reason
	r.p.cfg.AccessLog.Write(r.entry)
}
