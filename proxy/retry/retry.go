// Package retry says which exchanges are tried again (proxy chapter, sections
// 15.1 and 15.4), and keeps what is needed for that: the request's body, the
// first frames of the response, and the budget of service profiles.
//
//	body := retry.NewBody(x.Body, contentLength, limit)
//	for attempt := 0; ; attempt++ {
//		resp, err := client.RoundTrip(c, head, body.Attempt())
//		peeked := retry.Peek(resp.Body)
//		if attempt == r.Max || !body.Replayable() || !retry.Wanted(r, &resp.Head, peeked.Trailers()) { … }
//	}
//
// Decisions are pure functions; the types belong to one exchange, except
// Budget, which is shared.
package retry

import (
	"errors"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/classify"
	"github.com/linkerd-go/linkerd-go/proxy/deadline"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Wanted reports whether a response is one that the rule retries. trailers are
// those that are known already, nil if none are.
func Wanted(r *model.Retry, head *exchange.ResponseHead, trailers *exchange.Fields) bool {
	for _, s := range r.Statuses {
		if s.Contains(head.Status) {
			return true
		}
	}
	if r.Codes == 0 {
		return false
	}
	code := classify.Code(&head.Fields)
	if code < 0 {
		code = classify.Code(trailers)
	}
	return code >= 0 && r.Codes.Contains(uint32(code))
}

// WantedError reports whether an attempt that failed with err is retried: only
// if the server cannot have begun to act, or took too long to answer.
func WantedError(err error) bool {
	var reset *exchange.ResetError
	return errors.Is(err, balance.ErrFailfast) || deadline.Is(err, deadline.ResponseHeaders) || deadline.Is(err, deadline.Attempt) ||
		errors.As(err, &reset) && reset.Code == exchange.CodeRefusedStream
}
