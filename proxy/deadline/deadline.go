// Package deadline has the errors of timeouts (proxy chapter, sections 7.8 and
// 15.2): which limit was reached, and whether the response had begun. Layers
// that enforce limits make them, layers that answer, count or retry branch on
// them.
package deadline

import (
	"errors"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// Kind is the limit that was reached.
type Kind uint8

// The kinds.
const (
	// ResponseHeaders: a retried route's limit on each attempt.
	ResponseHeaders Kind = iota + 1
	// Response: from the end of the request to the end of the response.
	Response
	// Request: the whole stream.
	Request
	// Idle: no frame in either direction.
	Idle
	// Profile: a service profile's limit until the response's head.
	Profile
	// Connect: no connection to the endpoint in time.
	Connect
	// Attempt: from when a backend is sent the request to the end of its
	// response.
	Attempt
)

// Error is a limit that was reached. It is comparable.
type Error struct {
	Kind  Kind
	Limit time.Duration
	// Streaming says that the response's head had been passed on.
	Streaming bool
}

// Error is the text that clients get.
func (e *Error) Error() string {
	switch e.Kind {
	case Profile:
		return "HTTP response timeout after " + netx.Duration(e.Limit)
	case Connect:
		return "connect timed out after " + netx.Duration(e.Limit)
	}
	what := "timed out waiting for response headers: "
	if e.Streaming {
		what = "timed out processing response stream: "
	}
	switch e.Kind {
	case ResponseHeaders:
		what += "response header timeout: "
	case Response:
		what += "response stream timeout: "
	case Idle:
		what += "idle timeout: "
	case Attempt:
		what += "backend request timeout: "
	default:
		what += "request timeout: "
	}
	return what + netx.Duration(e.Limit)
}

// Timeout is true, as in net.Error.
func (e *Error) Timeout() bool { return true }

// Label is the value of the error label of route metrics.
func (e *Error) Label() string {
	switch e.Kind {
	case ResponseHeaders:
		return "RESPONSE_HEADERS_TIMEOUT"
	case Response:
		return "RESPONSE_STREAM_TIMEOUT"
	case Idle:
		return "IDLE_TIMEOUT"
	case Connect:
		return "IO"
	}
	return "REQUEST_TIMEOUT"
}

// Is reports whether err is, or wraps, a timeout of the given kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
