package outbound

import (
	"errors"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// refuse decides what a request is answered with that failed with err before it
// reached an endpoint: the table of the proxy chapter, section 7.8. nil means
// that there is nobody to answer, or that the failure is passed on as a reset.
func refuse(err error, version exchange.Version) *refusal.Refusal {
	var reset *exchange.ResetError
	var timeout *deadline.Error
	var ingress *ingressError
	switch {
	case errors.Is(err, exchange.ErrClientGone), errors.As(err, &ingress):
		return nil
	case refusal.As(err) != nil:
		return refusal.As(err)
	case errors.Is(err, balance.ErrFailfast):
		return refusal.GatewayTimeout(err.Error(), err).Labeled("failfast")
	case errors.Is(err, balance.ErrLoadShed):
		return refusal.Unavailable(err.Error(), err)
	case errors.As(err, &timeout) && timeout.Kind == deadline.Profile:
		return refusal.GatewayTimeout(err.Error(), err).Labeled("response timeout")
	case errors.As(err, &timeout) && timeout.Kind != deadline.Connect:
		return refusal.TimedOut(err.Error(), err)
	case errors.As(err, &reset) && version == exchange.HTTP2:
		return nil
	case errors.Is(err, uri.ErrNoAuthority):
		return refusal.Internal(err.Error(), err)
	}
	return refusal.Internal(refusal.Unexpected, err)
}

// atEndpoint decides what is answered in the place of an endpoint that could
// not be talked to; nil if the error is not the endpoint's.
func atEndpoint(err error, version exchange.Version) *refusal.Refusal {
	var reset *exchange.ResetError
	var policy *deadline.Error
	var connect *netx.ConnectTimeout
	switch {
	case errors.Is(err, exchange.ErrClientGone), refusal.As(err) != nil:
		return nil
	case errors.As(err, &connect), deadline.Is(err, deadline.Connect):
		return refusal.GatewayTimeout(err.Error(), err)
	case errors.As(err, &policy):
		return nil
	case errors.As(err, &reset) && version == exchange.HTTP2:
		return nil
	}
	return refusal.BadGateway(err.Error(), err)
}

// errorLabel is the error label of the registry's route metrics.
func errorLabel(err error) string {
	if err == nil {
		return ""
	}
	var reset *exchange.ResetError
	var timeout *deadline.Error
	switch {
	case errors.Is(err, balance.ErrFailfast):
		return "FAIL_FAST"
	case errors.Is(err, balance.ErrLoadShed):
		return "LOAD_SHED"
	case errors.As(err, &timeout):
		return timeout.Label()
	case errors.As(err, &reset):
		switch reset.Code {
		case exchange.CodeCancel:
			return "CANCEL"
		case exchange.CodeRefusedStream:
			return "REFUSED"
		case exchange.CodeEnhanceYourCalm:
			return "ENHANCE_YOUR_CALM"
		}
		return "RESET"
	case errors.Is(err, exchange.ErrClientGone):
		return "CANCEL"
	case errors.Is(err, exchange.ErrDraining):
		return "GO_AWAY"
	case netx.Errno(err) != "" || netx.IsClosed(err):
		return "IO"
	}
	return "UNKNOWN"
}

// tcpLabel is the error label of outbound_tcp_errors_total.
func tcpLabel(err error) string {
	switch {
	case errors.Is(err, balance.ErrFailfast):
		return "failfast"
	case errors.Is(err, balance.ErrLoadShed):
		return "loadshed"
	case netx.Errno(err) != "" || netx.IsClosed(err):
		return ioLabel
	}
	return "unexpected"
}
