package route

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Request headers by which a client asks for retries and timeouts (proxy
// chapter, section 12.4).
const (
	headerRetryHTTP       = "l5d-retry-http"
	headerRetryGRPC       = "l5d-retry-grpc"
	headerRetryLimit      = "l5d-retry-limit"
	headerRetryTimeout    = "l5d-retry-timeout"
	headerTimeout         = "l5d-timeout"
	headerRequestTimeout  = "l5d-request-timeout"
	headerResponseTimeout = "l5d-response-timeout"
)

// What a retry is like that only headers ask for.
const (
	headerRetryMax   = 1
	headerRetryBytes = 64 << 10
)

var headerRetryBackoff = model.Backoff{Min: 25 * time.Millisecond, Max: 250 * time.Millisecond, Jitter: 1}

// Params are the timeouts and the retry of a request: its rule's and, if the
// rule allows it, those that the request's l5d-* headers ask for, which are
// removed whether or not they are valid.
func Params(rule *model.Rule, head *exchange.RequestHead) (model.Timeouts, *model.Retry) {
	if !rule.AllowHeaders {
		return rule.Timeouts, rule.Retry
	}
	timeouts, retry := rule.Timeouts, rule.Retry
	take := func(name string) (string, bool) {
		v := head.Get(name)
		if v == nil {
			return "", false
		}
		s := string(v)
		head.Del(name)
		return s, true
	}
	duration := func(name string, d *time.Duration) bool {
		if s, ok := take(name); ok {
			if v, ok := ParseDuration(s); ok {
				*d = v
				return true
			}
		}
		return false
	}
	if request := new(time.Duration); true {
		general := duration(headerTimeout, request)
		if duration(headerRequestTimeout, request) || general {
			timeouts.Request = *request
		}
	}
	duration(headerResponseTimeout, &timeouts.Response)

	var statuses []model.StatusRange
	var codes model.CodeSet
	if s, ok := take(headerRetryHTTP); ok {
		statuses = parseStatuses(s)
	}
	if s, ok := take(headerRetryGRPC); ok {
		codes = parseCodes(s)
	}
	limit := -1
	if s, ok := take(headerRetryLimit); ok {
		if n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16); err == nil {
			limit = int(n)
		}
	}
	var attempt time.Duration
	hasAttempt := duration(headerRetryTimeout, &attempt)

	if retry == nil && statuses == nil && codes == 0 || statuses == nil && codes == 0 && limit < 0 && !hasAttempt {
		return timeouts, retry
	}
	r := model.Retry{Max: headerRetryMax, MaxRequestBytes: headerRetryBytes, Backoff: &headerRetryBackoff}
	if retry != nil {
		r = *retry
	}
	if statuses != nil {
		r.Statuses = statuses
	}
	if codes != 0 {
		r.Codes = codes
	}
	if limit >= 0 {
		r.Max = limit
	}
	if hasAttempt {
		r.Timeout = attempt
	}
	return timeouts, &r
}

// ParseDuration parses the duration grammar of the proxy (proxy chapter,
// section 2.1): digits and one of ms, s, m, h, d, or just 0.
func ParseDuration(s string) (time.Duration, bool) {
	s = strings.TrimSpace(s)
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	if err != nil {
		return 0, false
	}
	var unit time.Duration
	switch s[i:] {
	case "ms":
		unit = time.Millisecond
	case "s":
		unit = time.Second
	case "m":
		unit = time.Minute
	case "h":
		unit = time.Hour
	case "d":
		unit = 24 * time.Hour
	case "":
		return 0, n == 0
	default:
		return 0, false
	}
	if n > math.MaxInt64/int64(unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// parseStatuses parses "5xx,gateway-error,404,500-503"; nil if anything in it
// is wrong.
func parseStatuses(s string) []model.StatusRange {
	var out []model.StatusRange
	for item := range strings.SplitSeq(s, ",") {
		switch item = strings.TrimSpace(item); item {
		case "5xx":
			out = append(out, model.StatusRange{Min: 500, Max: 599})
		case "gateway-error":
			out = append(out, model.StatusRange{Min: 502, Max: 504})
		default:
			lo, hi, ranged := strings.Cut(item, "-")
			if !ranged {
				hi = lo
			}
			a, err1 := strconv.Atoi(lo)
			b, err2 := strconv.Atoi(hi)
			if err1 != nil || err2 != nil || a < 100 || b > 599 || a > b {
				return nil
			}
			out = append(out, model.StatusRange{Min: a, Max: b})
		}
	}
	return out
}

// parseCodes parses a list of names of gRPC codes; 0 if anything is wrong.
func parseCodes(s string) model.CodeSet {
	var out model.CodeSet
	for item := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(item) {
		case "cancelled":
			out = out.With(1)
		case "deadline-exceeded":
			out = out.With(4)
		case "resource-exhausted":
			out = out.With(8)
		case "internal":
			out = out.With(13)
		case "unavailable":
			out = out.With(14)
		default:
			return 0
		}
	}
	return out
}
