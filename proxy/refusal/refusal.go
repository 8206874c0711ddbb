// Package refusal is what the proxy answers by itself: a request it will not or
// cannot pass on gets a response made here (proxy chapter, section 7.8).
//
// A Refusal is a value with a reason. The same words reach the log, the metric
// label and the response:
//
//	r := refusal.Forbidden("unauthorized request on route")
//	log.Info("Request denied", "error", r)
//	errors.Count(r.Label)
//	refusal.Respond(x, r, refusal.Options{Informational: peerIsMeshed})
//
// A Refusal is not changed after it was made and may be shared by goroutines.
package refusal

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
)

// gRPC codes that refusals use.
const (
	codeDeadlineExceeded   = 4
	codeNotFound           = 5
	codePermissionDenied   = 7
	codeResourceExhausted  = 8
	codeFailedPrecondition = 9
	codeAborted            = 10
	codeInternal           = 13
	codeUnavailable        = 14
)

// Refusal is one answer. It is an error, so that it can travel up a path in
// the place of a response.
type Refusal struct {
	// Status and Code are what HTTP and gRPC clients get.
	Status int
	Code   int
	// Close ends the client's connection after the response.
	Close bool
	// Text is the reason.
	Text string
	// Location is set for redirects.
	Location string
	// Headers are further fields of HTTP answers, Metadata of those to gRPC
	// calls.
	Headers, Metadata []model.Header
	// Label is the value of the error label of the error counters; empty if
	// the refusal is not counted as an error of the proxy.
	Label string
	// Cause is what happened, if the refusal was made of an error.
	Cause error
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Text }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

// Reason is what happened: the cause where there is one, else the text.
func (r *Refusal) Reason() string {
	if r.Cause != nil {
		return r.Cause.Error()
	}
	return r.Text
}

// Unexpected is the text for what has none of its own.
const Unexpected = "unexpected error"

// maxDetail bounds, in bytes, what a client is told of a policy.
const maxDetail = 256

// Because is a text with what is behind it, as far as that may stand in a header.
func Because(text, detail string) string {
	if len(detail) > maxDetail {
		detail = detail[:maxDetail]
	}
	b := []byte(text + ": " + detail)
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// Forbidden refuses a client without permission.
func Forbidden(text string) *Refusal {
	return &Refusal{Status: 403, Code: codePermissionDenied, Text: text}
}

// NotFound refuses a request that no route takes.
func NotFound(text string) *Refusal { return &Refusal{Status: 404, Code: codeNotFound, Text: text} }

// Redirect sends the client elsewhere.
func Redirect(status int, location string) *Refusal {
	return &Refusal{Status: status, Code: codeNotFound, Text: "redirected", Location: location}
}

// Preflight tells a browser what a page of another origin may send. It is no
// failure, and so has no reason.
func Preflight(status int, headers []model.Header) *Refusal {
	return &Refusal{Status: status, Code: codeNotFound, Headers: headers}
}

// RateLimited refuses a client that asks too often, and tells it when another
// request may pass: in whole seconds as HTTP does (RFC 9110, section 10.2.3), in
// milliseconds as gRPC does (gRFC A6), which has clients that retry heed it.
func RateLimited(text string, wait time.Duration) *Refusal {
	atLeast := func(unit time.Duration) string {
		return strconv.FormatInt(int64(max(1, (wait+unit-1)/unit)), 10)
	}
	return &Refusal{
		Status: 429, Code: codeResourceExhausted, Text: text,
		Headers:  []model.Header{{Name: "retry-after", Value: atLeast(time.Second)}},
		Metadata: []model.Header{{Name: "grpc-retry-pushback-ms", Value: atLeast(time.Millisecond)}},
	}
}

// Verdict is what filters decided instead of letting a request go on.
func Verdict(v route.Verdict) *Refusal {
	switch v.Action {
	case route.Redirected:
		return Redirect(v.Status, v.Location)
	case route.Failed:
		if v.Failure.GRPC {
			return InjectedGRPC(int(v.Failure.Code), v.Message)
		}
		return InjectedHTTP(v.Status, v.Message)
	case route.Preflight:
		return Preflight(v.Status, v.Headers)
	}
	return Internal(Unexpected, errors.New(v.Message))
}

// Internal is for what the proxy has no better answer to.
func Internal(text string, cause error) *Refusal {
	return &Refusal{Status: 500, Code: codeInternal, Close: true, Text: text, Label: "unexpected", Cause: cause}
}

// BadGateway says that the server could not be talked to.
func BadGateway(text string, cause error) *Refusal {
	return &Refusal{Status: 502, Code: codeUnavailable, Close: true, Text: text, Cause: cause}
}

// Unavailable says that no server takes the request.
func Unavailable(text string, cause error) *Refusal {
	return &Refusal{Status: 503, Code: codeUnavailable, Close: true, Text: text, Label: "loadshed", Cause: cause}
}

// GatewayTimeout says that waiting took too long, and closes.
func GatewayTimeout(text string, cause error) *Refusal {
	return &Refusal{Status: 504, Code: codeDeadlineExceeded, Close: true, Text: text, Cause: cause}
}

// TimedOut is GatewayTimeout without closing, for limits that a policy sets.
func TimedOut(text string, cause error) *Refusal {
	return &Refusal{Status: 504, Code: codeDeadlineExceeded, Text: text, Label: "response timeout", Cause: cause}
}

// Loop refuses a request that came back to its gateway.
func Loop(text string) *Refusal {
	return &Refusal{Status: 508, Code: codeAborted, Close: true, Text: text, Label: "gateway loop"}
}

// InjectedHTTP is a failure that a policy asks for.
func InjectedHTTP(status int, text string) *Refusal {
	return &Refusal{Status: status, Code: codeFailedPrecondition, Text: text}
}

// InjectedGRPC is a gRPC failure that a policy asks for.
func InjectedGRPC(code int, text string) *Refusal {
	return &Refusal{Status: 200, Code: code, Text: text}
}

// Labeled is a copy of r with another error label.
func (r *Refusal) Labeled(label string) *Refusal {
	n := *r
	n.Label = label
	return &n
}

// As finds the refusal in an error's chain, nil if there is none.
func As(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// Options say how a refusal is told.
type Options struct {
	// Informational allows the headers that explain the refusal.
	Informational bool
	// OrigProto says that the request is HTTP/1 carried over HTTP/2: the
	// connection is not the client's to close.
	OrigProto bool
}

// IsGRPC reports whether a request is a gRPC call.
func IsGRPC(h *exchange.RequestHead) bool {
	return h.Version == exchange.HTTP2 && bytes.HasPrefix(h.Get("content-type"), []byte("application/grpc"))
}

// Respond answers the exchange with the refusal.
func Respond(x *exchange.Exchange, r *Refusal, o Options) error {
	head := &exchange.ResponseHead{Version: x.Request.Version, Status: r.Status}
	Fill(head, IsGRPC(x.Request), r, o)
	if r.Close {
		x.CloseAfter()
	}
	return x.Respond(head, exchange.Empty)
}

// Fill makes head, whose version is set, the refusal's response.
func Fill(head *exchange.ResponseHead, grpc bool, r *Refusal, o Options) {
	text := r.Text
	if !headerValue(text) {
		text = Unexpected
	}
	head.Status, head.ContentLength = r.Status, 0
	head.Add("content-length", "0")
	if grpc {
		head.Status = 200
		head.Add("content-type", "application/grpc")
		head.Add("grpc-status", strconv.Itoa(r.Code))
		for _, h := range r.Metadata {
			head.Add(h.Name, h.Value)
		}
		if o.Informational {
			head.Add("grpc-message", percentEncode(text))
			head.Add("l5d-proxy-error", text)
		}
		if r.Close {
			head.Add("l5d-proxy-connection", "close")
		}
		return
	}
	if r.Location != "" {
		head.Add("location", r.Location)
	}
	for _, h := range r.Headers {
		head.Add(h.Name, h.Value)
	}
	if o.Informational && text != "" {
		head.Add("l5d-proxy-error", text)
	}
	if r.Close {
		if head.Version == exchange.HTTP11 && !o.OrigProto {
			head.Add("connection", "close")
		}
		if o.Informational {
			head.Add("l5d-proxy-connection", "close")
		}
	}
}

// headerValue reports whether s can stand in a header.
func headerValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\t' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

// percentEncode makes a grpc-message of s (gRPC over HTTP/2: Percent-Encoded).
func percentEncode(s string) string {
	var b []byte
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			if b == nil {
				b = append(make([]byte, 0, len(s)+8), s[:i]...)
			}
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		} else if b != nil {
			b = append(b, c)
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}

// Judge says what becomes of a body's error; nil lets it pass on as it is.
type Judge interface {
	Judge(err error) *Refusal
}

// JudgeFunc is a function as a Judge.
type JudgeFunc func(error) *Refusal

// Judge calls f.
func (f JudgeFunc) Judge(err error) *Refusal { return f(err) }

// Tail turns the failure of a gRPC response's body into trailers, so that the
// client hears the reason instead of a reset.
type Tail struct {
	exchange.Body
	Judge Judge
	// Informational allows grpc-message.
	Informational bool
	ended         bool
}

var _ exchange.Body = (*Tail)(nil)

// Next is the body's next frame, or trailers in place of its error.
func (t *Tail) Next() (exchange.Frame, error) {
	f, err := t.Body.Next()
	if err == nil {
		return f, nil
	}
	r := t.Judge.Judge(err)
	if r == nil {
		return f, err
	}
	t.ended = true
	trailers := &exchange.Fields{}
	trailers.Add("grpc-status", strconv.Itoa(r.Code))
	if t.Informational {
		text := r.Text
		if !headerValue(text) {
			text = Unexpected
		}
		trailers.Add("grpc-message", percentEncode(text))
	}
	return exchange.Frame{End: true, Trailers: trailers}, nil
}

// Ended is also true after the trailers that were made up.
func (t *Tail) Ended() bool { return t.ended || t.Body.Ended() }

// Close gives the body up.
func (t *Tail) Close(cause error) {
	if !t.ended {
		t.Body.Close(cause)
	}
}
