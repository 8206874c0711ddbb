package outbound

import (
	"net/netip"
	"slices"

	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// plan is how a connection is to be taken.
type plan uint8

const (
	// planOpaque balances the connection as it is.
	planOpaque plan = iota
	// planTLS routes by the server name of the application's own TLS.
	planTLS
	// planHTTP1 and planHTTP2 route requests.
	planHTTP1
	planHTTP2
	// planSniff looks at the first bytes and falls back to opaque.
	planSniff
	// planMaybeTLS is planTLS if there is a route for the server name, and falls
	// back to opaque.
	planMaybeTLS
)

func (p plan) String() string {
	return [...]string{"opaque", "tls", "http/1", "http/2", "sniff", "tls or opaque"}[p]
}

// afterDiscovery decides how a connection to a target is taken (proxy chapter,
// section 5.3).
func afterDiscovery(t *model.Target) plan {
	switch t.Protocol() {
	case model.ProtocolOpaque:
		return planOpaque
	case model.ProtocolTLS:
		return planTLS
	case model.ProtocolHTTP1:
		return planHTTP1
	case model.ProtocolHTTP2, model.ProtocolGRPC:
		return planHTTP2
	}
	return planSniff
}

// afterSniff decides once the first bytes are known, which are the client's if
// it spoke first; detect.Undecided stands for a timeout.
func afterSniff(t *model.Target, found detect.Protocol, client bool) plan {
	switch found {
	case detect.HTTP1:
		return planHTTP1
	case detect.HTTP2:
		return planHTTP2
	case detect.NotHTTP:
		if client && t.Policy.TLS != nil && serves(t, kindTLS) {
			return planMaybeTLS
		}
	}
	return planOpaque
}

// protocolLabel is the value of the label protocol of
// outbound_tcp_protocol_connections_total.
func protocolLabel(p plan) string {
	switch p {
	case planHTTP1:
		return "http/1"
	case planHTTP2:
		return "http/2"
	case planTLS:
		return "tls"
	case planSniff:
		return "detect"
	}
	return "opaq"
}

// reached is how an endpoint is reached: it is the endpoint itself, or, if it
// is this very pod, as nobody else is.
func reached(e *model.Endpoint, own []netip.Addr) (*model.Endpoint, bool) {
	if slices.Contains(own, e.Addr.Addr()) {
		return e.Local(), true
	}
	return e, false
}

// carries reports whether HTTP/1 requests go to the endpoint over HTTP/2.
func carries(e *model.Endpoint, http2 bool) bool { return !http2 && e.Hint == model.HintH2 }
