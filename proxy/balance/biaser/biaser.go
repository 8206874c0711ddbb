// Package biaser decides which responses count against the load of an endpoint
// (proxy chapter, section 13.4): an endpoint that refuses quickly must not look
// fast.
package biaser

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Classify reports whether the response is to be penalised, and how long the
// server asks its clients to stay away, 0 if it does not say. now is for dates
// in Retry-After.
func Classify(head *exchange.ResponseHead, now time.Time) (hint time.Duration, penalised bool) {
	switch s := head.Status; {
	case s == 429 || s == 503:
		return hintOf(head, now), true
	case s >= 500 && s <= 599:
		return 0, true
	case s == 200 && bytes.HasPrefix(head.Get("content-type"), []byte("application/grpc")):
		// Only a response without a body has its status here; in trailers
		// it comes too late for a measurement.
		switch string(head.Get("grpc-status")) {
		case "8", "14":
			return pushback(head), true
		case "2", "4", "13", "15":
			return 0, true
		}
	}
	return 0, false
}

func hintOf(head *exchange.ResponseHead, now time.Time) time.Duration {
	v := strings.TrimSpace(string(head.Get("retry-after")))
	if v == "" {
		return pushback(head)
	}
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	// RFC 9110, section 5.6.7: the current form and two obsolete ones.
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.Parse(layout, v); err == nil {
			return max(t.Sub(now), 0)
		}
	}
	return 0
}

func pushback(head *exchange.ResponseHead) time.Duration {
	ms, err := strconv.ParseInt(string(head.Get("grpc-retry-pushback-ms")), 10, 32)
	if err != nil || ms < 0 {
		return 0
	}
	return time.Duration(ms) * time.Millisecond
}
