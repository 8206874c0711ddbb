package inbound

import (
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
)

// plan is how a connection is to be taken.
type plan uint8

const (
	// planForward copies bytes to the application.
	planForward plan = iota
	// planHTTP1 and planHTTP2 serve HTTP.
	planHTTP1
	planHTTP2
	// planSniff looks at the first bytes and falls back to bytes.
	planSniff
	// planSniffHTTP1 looks at the first bytes and falls back to HTTP/1: the
	// port speaks HTTP/1, but a meshed client may have upgraded.
	planSniffHTTP1
)

func (p plan) String() string {
	return [...]string{"forward", "http/1", "http/2", "sniff", "sniff http/1"}[p]
}

// wantsTLSSniff says whether a connection to a port of this protocol is looked
// at for TLS. Opaque ports are not: their client may wait for the server to
// speak first.
func wantsTLSSniff(p model.Protocol) bool { return p != model.ProtocolOpaque }

// afterTLS decides how a connection is taken once its TLS is known (proxy
// chapter, section 5.3).
func afterTLS(p model.Protocol, tls series.TLSState) plan {
	switch p {
	case model.ProtocolOpaque, model.ProtocolTLS:
		return planForward
	case model.ProtocolHTTP1:
		if tls == series.TLSMesh {
			return planSniffHTTP1
		}
		return planHTTP1
	case model.ProtocolHTTP2, model.ProtocolGRPC:
		return planHTTP2
	}
	if tls == series.TLSOpaque {
		// A ClientHello for somebody else is no HTTP.
		return planForward
	}
	return planSniff
}

// afterSniff decides how a connection is taken once its first bytes are known;
// detect.Undecided stands for a timeout.
func afterSniff(p plan, found detect.Protocol) plan {
	switch found {
	case detect.HTTP1:
		return planHTTP1
	case detect.HTTP2:
		return planHTTP2
	case detect.Undecided:
		if p == planSniffHTTP1 {
			return planHTTP1
		}
	}
	return planForward
}
