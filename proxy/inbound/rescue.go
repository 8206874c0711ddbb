package inbound

import (
	"errors"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/origproto"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// refuse decides what a request is answered with that failed with err: the
// table of the proxy chapter, section 7.8. nil means that there is nobody to
// answer, or that the failure is passed on as a reset.
func (r *request) refuse(err error) *refusal.Refusal {
	var client *clientError
	atClient := errors.As(err, &client)
	var reset *exchange.ResetError
	var timeout *netx.ConnectTimeout
	switch {
	case errors.Is(err, exchange.ErrClientGone):
		return nil
	case refusal.As(err) != nil:
		return refusal.As(err)
	case errors.Is(err, balance.ErrFailfast):
		return refusal.GatewayTimeout("service in fail-fast", err).Labeled("failfast")
	case errors.Is(err, balance.ErrLoadShed):
		return refusal.Unavailable("service unavailable", err)
	case errors.As(err, &reset):
		if r.carried != origproto.None || r.x.Request.Version != exchange.HTTP2 {
			return refusal.BadGateway(err.Error(), err)
		}
		return nil
	case errors.As(err, &timeout), deadline.Is(err, deadline.Connect):
		return refusal.GatewayTimeout(err.Error(), err)
	case errors.Is(err, uri.ErrNoAuthority):
		return refusal.Internal(err.Error(), err)
	case atClient:
		return refusal.BadGateway(err.Error(), err)
	}
	return refusal.Internal(refusal.Unexpected, err)
}
