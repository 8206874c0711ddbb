// Package classify says whether responses are successes or failures (proxy
// chapter, section 15.3), for metrics, circuit breakers and retries.
//
//	c := classify.Start(head, route.Classes)     // nil classes but for profiles
//	…                                            // the body passes
//	class := c.End(trailers, err)
package classify

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/breaker"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// gRPC status codes that are failures: UNKNOWN, DEADLINE_EXCEEDED,
// PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const failureCodes model.CodeSet = 1<<2 | 1<<4 | 1<<7 | 1<<13 | 1<<14 | 1<<15

const (
	codeUnknown = 2
	// codeLast is the last that is told apart; gRPC has seventeen.
	codeLast              = 99
	codeResourceExhausted = 8
)

// Class is what a response was.
type Class struct {
	Failure bool
	// GRPC is the value of the label grpc_status: a number, or empty for what
	// is not gRPC.
	GRPC string
	// Error is the value of the label error, empty unless the exchange
	// broke.
	Error string
	// Outcome is what the circuit breaker gets to hear.
	Outcome breaker.Outcome
}

// Success reports whether the class is "success" in metrics.
func (c Class) Success() bool { return !c.Failure }

// Label is the value of the label classification.
func (c Class) Label() string {
	if c.Failure {
		return "failure"
	}
	return "success"
}

// Response is a classification under way. It is a value; the zero one is of no
// response at all.
type Response struct {
	status int
	grpc   bool
	// code is the gRPC status seen in the head, -1 if none was.
	code int
	// decided and failure are what a profile's response class said.
	decided, failure bool
}

// Start looks at a response's head. classes are those of a profile's route, in
// order; the first that matches decides.
func Start(head *exchange.ResponseHead, classes []model.ResponseClass) Response {
	r := Response{status: head.Status, grpc: IsGRPC(&head.Fields), code: -1}
	if r.grpc {
		r.code = Code(&head.Fields)
	}
	for i := range classes {
		if classes[i].Condition.Matches(head.Status) {
			r.decided, r.failure = true, classes[i].Failure
			break
		}
	}
	return r
}

// IsGRPC reports whether the content type is one of gRPC's.
func IsGRPC(f *exchange.Fields) bool {
	return bytes.HasPrefix(f.Get("content-type"), []byte("application/grpc"))
}

// Code reads grpc-status; -1 if it is missing or not a number.
func Code(f *exchange.Fields) int {
	if f == nil {
		return -1
	}
	// Most heads have none, and the error of parsing nothing allocates.
	text := f.Get("grpc-status")
	if len(text) == 0 {
		return -1
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return -1
	}
	return int(n)
}

// End classifies the response now that it is over. trailers may be nil; err is
// why the body broke off, nil if it came to its end.
func (r Response) End(trailers *exchange.Fields, err error) Class {
	// A client that has had enough, as every watch ends, says nothing against
	// what it got so far.
	left := r.status != 0 && errors.Is(err, exchange.ErrClientGone)
	if err != nil && !left {
		return Failed(err)
	}
	code := r.code
	if r.grpc && code < 0 {
		code = Code(trailers)
	}
	c := r.class(code)
	if left {
		c.Outcome = breaker.Unknown
	}
	return c
}

// class classifies a complete response.
func (r Response) class(code int) Class {
	var c Class
	limited := r.status == 429
	switch {
	case r.grpc && code < 0:
		// A call without a status is a success to metrics, as upstream has
		// it, though its status is UNKNOWN.
		c.GRPC = strconv.Itoa(codeUnknown)
	case r.grpc:
		c.GRPC = strconv.Itoa(code)
		if code > codeLast {
			// As gRPC's libraries do; servers must not make up any number
			// of labels.
			c.GRPC = strconv.Itoa(codeUnknown)
		}
		c.Failure = failureCodes.Contains(uint32(code))
		limited = limited || code == codeResourceExhausted
	default:
		c.Failure = r.status >= 500 && r.status <= 599
	}
	if r.decided {
		c.Failure = r.failure
	}
	switch {
	case c.Failure:
		c.Outcome = breaker.Failure
	case limited:
		c.Outcome = breaker.RateLimited
	default:
		c.Outcome = breaker.Success
	}
	return c
}

// GRPC is the class of a call that ended with the given status code.
func GRPC(code uint32) Class {
	return Response{status: 200, grpc: true, code: int(code)}.class(int(code))
}

// Failed is the class of an exchange that broke, before the response's head or, if
// the client is still there, after it. A client that went away is not the endpoint's
// fault: the breaker does not hear of it.
func Failed(err error) Class {
	c := Class{Failure: true, Error: ErrorLabel(err), Outcome: breaker.Failure}
	if errors.Is(err, exchange.ErrClientGone) {
		c.Outcome = breaker.Unknown
	}
	return c
}

// ErrorLabel is the value of the label error of legacy metrics: "timeout",
// "h2(<REASON>)" or "unclassified".
func ErrorLabel(err error) string {
	var timeout interface{ Timeout() bool }
	var reset *exchange.ResetError
	switch {
	case errors.As(err, &reset):
		if !reset.Known() {
			// Peers choose codes, and must not make up any number of labels.
			return "h2(UNKNOWN)"
		}
		return "h2(" + reset.CodeName() + ")"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "unclassified"
}
