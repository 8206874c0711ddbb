package model

import (
	"regexp"
	"time"
)

// Route is an HTTP or gRPC route of either direction. Which of the two match
// forms its rules use is told by the list that contains it (Routes.GRPC).
type Route struct {
	Meta Meta
	// Hosts the route applies to; empty means any.
	Hosts []HostMatch
	// Authorizations are the route's own (inbound only); the server's follow
	// them in order of evaluation.
	Authorizations []Authorization
	Rules          []Rule
}

// Routes is a list of routes in delivered order.
type Routes struct {
	// GRPC says that matches are by service and method.
	GRPC bool
	List []Route
}

// Rule is one way through a route.
type Rule struct {
	// Matches are alternatives; empty matches every request as prefix "/".
	Matches []Match
	// Filters are applied in order.
	Filters []Filter

	// The following are set in outbound policies only.

	Distribution Distribution
	Timeouts     Timeouts
	// Retry is nil if the rule does not retry.
	Retry *Retry
	// AllowHeaders honours and strips the l5d-retry-*, l5d-timeout and
	// similar request headers (proxy chapter, section 12.4).
	AllowHeaders bool
}

// HostMatch matches a host or SNI: exactly, or as one of its proper subdomains.
// Name is in lower case without a trailing dot.
type HostMatch struct {
	Name string
	// Suffix makes Name stand for "*.Name": at least one more label.
	Suffix bool
}

// Match is one condition on a request; all parts that are set must hold.
type Match struct {
	// Path is the condition on the path, with kind PathAny for none. Not used
	// by gRPC matches.
	Path PathMatch
	// Headers and Query are all to be met.
	Headers []HeaderMatch
	Query   []QueryMatch
	// Method is a method's name, empty for any.
	Method string
	// Service and RPC are the parts of the path of a gRPC request; empty
	// matches any. Used by gRPC matches only.
	Service, RPC string
}

// PathKind says how a path is compared.
type PathKind uint8

// The kinds of path matches.
const (
	// PathAny is no condition. It differs from prefix "/" in nothing but
	// what redirects may replace.
	PathAny PathKind = iota
	PathExact
	PathPrefix
	PathRegex
)

// PathMatch is a condition on the path without its query.
type PathMatch struct {
	Kind PathKind
	// Value is the path, the prefix, or the expression's text.
	Value string
	// Regex is compiled for PathRegex; see Spans.
	Regex *Regex
}

// HeaderMatch is a condition on a header: any of its values has to fit.
type HeaderMatch struct {
	// Name is in lower case.
	Name string
	// Exact is compared if Regex is nil.
	Exact string
	Regex *Regex
}

// QueryMatch is a condition on a query parameter: any of its occurrences has
// to fit, after form decoding.
type QueryMatch struct {
	Name  string
	Exact string
	Regex *Regex
}

// Regex is an expression whose leftmost-first match has to span the whole
// text: "a|ab" does not match "ab" (proxy API chapter, section 11).
type Regex struct{ re *regexp.Regexp }

// CompileRegex compiles expr.
func CompileRegex(expr string) (*Regex, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	return &Regex{re}, nil
}

// Spans reports whether the expression matches all of b.
func (r *Regex) Spans(b []byte) bool {
	loc := r.re.FindIndex(b)
	return loc != nil && loc[0] == 0 && loc[1] == len(b)
}

// SpansString is Spans for a string.
func (r *Regex) SpansString(s string) bool {
	loc := r.re.FindStringIndex(s)
	return loc != nil && loc[0] == 0 && loc[1] == len(s)
}

// String is the expression's text.
func (r *Regex) String() string { return r.re.String() }

// FilterKind says what a filter does.
type FilterKind uint8

// The kinds of filters.
const (
	// FilterRequestHeaders and FilterResponseHeaders use Filter.Headers.
	FilterRequestHeaders FilterKind = iota + 1
	FilterResponseHeaders
	// FilterRedirect uses Filter.Redirect.
	FilterRedirect
	// FilterFailure uses Filter.Failure.
	FilterFailure
	// FilterInternalError answers 500 with Filter.Message: the control plane
	// sent a filter that this proxy does not know, and traffic must not pass
	// as if it were not there.
	FilterInternalError
	// FilterForbidden and FilterInvalidBackend close TCP and TLS connections.
	FilterForbidden
	FilterInvalidBackend
	// FilterRewrite uses Filter.Rewrite, FilterCORS Filter.CORS, FilterMirror
	// Filter.Mirror and FilterDelay Filter.Delay. They are not upstream's:
	// docs/differences.md.
	FilterRewrite
	FilterCORS
	FilterMirror
	FilterDelay
)

// Filter is one step on the way of a request; Kind says which field is set.
type Filter struct {
	Kind     FilterKind
	Headers  *HeaderModifier
	Redirect *Redirect
	Failure  *Failure
	Rewrite  *Rewrite
	CORS     *CORS
	Mirror   *Mirror
	Delay    *Delay
	Message  string
}

// Header is a header field; Name is in lower case.
type Header struct{ Name, Value string }

// HeaderModifier changes headers: Add first, then Set, then Remove.
type HeaderModifier struct {
	Add, Set []Header
	// Remove has lower-case names.
	Remove []string
}

// Redirect answers a request with another place to go to. Empty parts are
// taken from the request.
type Redirect struct {
	// Scheme is "http", "https", another scheme, or empty.
	Scheme string
	Host   string
	// Port is 0 if not set.
	Port uint16
	// Status is the response's status, never 0.
	Status int
	Path   PathModifier
}

// PathModifier changes a path and keeps its query. The zero value changes
// nothing.
type PathModifier struct {
	// Full replaces the path. Prefix replaces the matched prefix, if
	// HasPrefix is set. At most one of the two is used.
	Full      string
	Prefix    string
	HasPrefix bool
}

// Rewrite changes where a request says that it goes.
type Rewrite struct {
	// Host replaces the authority if it is not empty.
	Host string
	Path PathModifier
}

// Mirror sends copies of a share of the requests to a backend as well.
type Mirror struct {
	Backend *Backend
	// Numerator out of Denominator requests are copied; Denominator is never 0.
	Numerator, Denominator uint32
}

// Delay holds a share of the requests before they go on.
type Delay struct {
	Time time.Duration
	// Numerator out of Denominator requests are held; Denominator is never 0.
	Numerator, Denominator uint32
}

// CORS says which pages of other origins may send requests and read the
// responses. Source: the Gateway API's HTTPCORSFilter and the Fetch standard.
type CORS struct {
	// AnyOrigin allows all; otherwise one of Origins has to match.
	AnyOrigin   bool
	Origins     []Origin
	Credentials bool
	// AnyMethod and AnyHeader allow what is asked for; otherwise Methods and
	// Headers are what the browser is told, joined for the header.
	AnyMethod, AnyHeader bool
	Methods, Headers     string
	// Expose is joined for the header; empty for none.
	Expose string
	// MaxAge is in whole seconds, as text for the header; empty for none.
	MaxAge string
}

// Origin matches the value of an Origin header.
type Origin struct {
	// Scheme is in lower case.
	Scheme string
	// Host is in lower case. With Wildcard set, it is what comes after the
	// star: the host has to end in it and be longer.
	Host     string
	Wildcard bool
	// Port is never 0: that of the scheme stands for none.
	Port uint16
}

// Failure makes up a failing response for a share of the requests.
type Failure struct {
	// Status is the HTTP status; not used if GRPC is set.
	Status int
	// GRPC says that Code is to be sent as grpc-status.
	GRPC    bool
	Code    uint32
	Message string
	// Numerator out of Denominator requests fail; Denominator is never 0.
	Numerator, Denominator uint32
}

// Timeouts of a route (proxy chapter, section 15.2). Zero means none.
type Timeouts struct {
	// Request limits everything from when the route handles the request.
	Request time.Duration
	// Response limits the time from the end of the request body to the end
	// of the response.
	Response time.Duration
	// Idle limits the time without a frame in either direction.
	Idle time.Duration
	// Attempt limits each attempt, from when the request is sent to the end of
	// the response.
	Attempt time.Duration
}

// Retry says which failures of a route are tried again.
type Retry struct {
	// Max is the number of retries after the first attempt.
	Max int
	// MaxRequestBytes limits the body that is kept for a retry.
	MaxRequestBytes int
	// Statuses are the HTTP statuses to retry.
	Statuses []StatusRange
	// Codes are the gRPC codes to retry.
	Codes CodeSet
	// Timeout limits the wait for each attempt's response head; zero for none.
	Timeout time.Duration
	// Backoff is nil if retries follow at once.
	Backoff *Backoff
	// Budget limits the retries of all requests of the rule together; nil does
	// not.
	Budget *RetryBudget
}

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ Min, Max int }

// Contains reports whether status is within the range.
func (r StatusRange) Contains(status int) bool { return r.Min <= status && status <= r.Max }

// CodeSet is a set of gRPC status codes.
type CodeSet uint32

// Codes makes a set. Codes above 31 do not exist and are left out.
func Codes(codes ...uint32) CodeSet {
	var s CodeSet
	for _, c := range codes {
		s = s.With(c)
	}
	return s
}

// With returns the set with code in it.
func (s CodeSet) With(code uint32) CodeSet {
	if code > 31 {
		return s
	}
	return s | 1<<code
}

// Contains reports whether code is in the set.
func (s CodeSet) Contains(code uint32) bool { return code <= 31 && s&(1<<code) != 0 }

// Backoff is an exponential backoff (proxy chapter, section 13.5).
type Backoff struct {
	Min, Max time.Duration
	// Jitter is the share of a delay that is at most added at random.
	Jitter float64
}

// Default durations of load balancing (proxy chapter, sections 13.3 and 13.4).
const (
	DefaultRTT           = 30 * time.Millisecond
	DefaultDecay         = 10 * time.Second
	DefaultPenalty       = 5 * time.Second
	DefaultMaxRetryAfter = 300 * time.Second
)
