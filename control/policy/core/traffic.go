package core

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/duration"
)

// Defaults of the annotations that shape traffic. Source: control plane chapter, section 3.3.
const (
	defaultRetryLimit    = 1
	defaultMaxFailures   = 7
	defaultMinPenalty    = time.Second
	defaultMaxPenalty    = 60 * time.Second
	defaultJitter        = 0.5
	defaultThreshold     = 0.8
	defaultWindow        = 10 * time.Second
	defaultMinRequests   = 5
	defaultBiaserPenalty = 5 * time.Second
	defaultMaxRetryAfter = 300 * time.Second
	minWindow            = 10 * time.Millisecond
	maxMinRequests       = 1_000_000
	maxMillis            = math.MaxUint32 * time.Millisecond
	maxJitter            = 100
)

// Annotations are those of a Kubernetes object.
type Annotations map[string]string

// errAt says which annotation is wrong.
func errAt(key string, err error) error { return fmt.Errorf("annotation %s: %w", key, err) }

// read parses an annotation, if there is one, in place of fallback.
func read[T any](a Annotations, key string, fallback T, parse func(string) (T, error)) (T, bool, error) {
	text, ok := a[key]
	if !ok {
		return fallback, false, nil
	}
	value, err := parse(text)
	if err != nil {
		return fallback, true, errAt(key, err)
	}
	return value, true, nil
}

// given parses an annotation, or returns nil if there is none.
func given[T any](a Annotations, key string, parse func(string) (T, error)) (*T, error) {
	var none T
	value, has, err := read(a, key, none, parse)
	if !has || err != nil {
		return nil, err
	}
	return &value, nil
}

// valueOr returns what p points to, or fallback.
func valueOr[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}

func parseUint[T uint16 | uint32](bits int) func(string) (T, error) {
	return func(text string) (T, error) {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, bits)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number from 0 to %d", text, uint64(1)<<bits-1)
		}
		return T(n), nil
	}
}

func parseFloat(low, high float64) func(string) (float64, error) {
	return func(text string) (float64, error) {
		f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || math.IsNaN(f) || f < low || f > high {
			return 0, fmt.Errorf("%q is not a number from %v to %v", text, low, high)
		}
		return f, nil
	}
}

func parseBool(text string) (bool, error) {
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
	return b, nil
}

// compound is a duration as the Gateway API (GEP-2257) and Go's Duration.String write it: `1m30s`, `1m0s`.
var compound = regexp.MustCompile(`^([0-9]+(h|ms|m|s)){2,}$`)

func parseDuration(text string) (time.Duration, error) {
	d, err := duration.Parse(text)
	if err != nil && compound.MatchString(strings.TrimSpace(text)) {
		d, err = time.ParseDuration(strings.TrimSpace(text))
	}
	if err != nil {
		return 0, fmt.Errorf("%q is %w", text, err)
	}
	return d, nil
}

// ParseTraffic reads the settings of a Service or an EgressNetwork. What is wrong turns its own feature off and is returned
// as an error; the rest is not affected.
func ParseTraffic(a Annotations) (Traffic, []error) {
	var t Traffic
	var errs []error
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	var err error
	t.Timeouts, err = ParseTimeouts(a)
	keep(err)
	t.HTTPRetry, err = ParseHTTPRetry(a)
	keep(err)
	t.GRPCRetry, err = ParseGRPCRetry(a)
	keep(err)
	t.Faults, err = ParseFaults(a)
	keep(err)
	t.Accrual, err = parseAccrual(a)
	keep(err)
	t.Biaser, err = parseBiaser(a)
	keep(err)
	t.Queue, err = parseQueue(a)
	keep(err)
	t.Affinity, err = parseAffinity(a)
	keep(err)
	t.Detect, err = parseDetect(a)
	keep(err)
	return t, errs
}

// ParseTimeouts reads timeouts.
func ParseTimeouts(a Annotations) (TimeoutSettings, error) {
	var s TimeoutSettings
	var errs [3]error
	s.Request, errs[0] = given(a, names.AnnotationTimeoutRequest, parseDuration)
	s.Response, errs[1] = given(a, names.AnnotationTimeoutResponse, parseDuration)
	s.Idle, errs[2] = given(a, names.AnnotationTimeoutIdle, parseDuration)
	if err := errors.Join(errs[:]...); err != nil {
		return TimeoutSettings{}, err
	}
	return s, nil
}

// over returns the settings, completed by what others say where they say nothing.
func (s TimeoutSettings) over(others TimeoutSettings) TimeoutSettings {
	return TimeoutSettings{cmp.Or(s.Request, others.Request), cmp.Or(s.Response, others.Response), cmp.Or(s.Idle, others.Idle)}
}

// timeouts returns what the settings come to.
func (s TimeoutSettings) timeouts() Timeouts {
	return Timeouts{valueOr(s.Request, 0), valueOr(s.Response, 0), valueOr(s.Idle, 0)}
}

// ParseHTTPRetry reads what to retry of HTTP.
func ParseHTTPRetry(a Annotations) (RetrySettings, error) {
	statuses, err := given(a, names.AnnotationRetryHTTP, parseStatuses)
	s, err := parseRetry(a, err)
	if statuses != nil && err == nil {
		s.Statuses = *statuses
	}
	return s, err
}

// ParseGRPCRetry reads what to retry of gRPC.
func ParseGRPCRetry(a Annotations) (RetrySettings, error) {
	codes, err := given(a, names.AnnotationRetryGRPC, parseCodes)
	s, err := parseRetry(a, err)
	if err == nil {
		s.Codes = codes
	}
	return s, err
}

// parseRetry reads what retries of all protocols have.
func parseRetry(a Annotations, err error) (s RetrySettings, _ error) {
	var err1, err2, err3, err4 error
	s.Limit, err1 = given(a, names.AnnotationRetryLimit, parseUint[uint16](16))
	s.Timeout, err2 = given(a, names.AnnotationRetryTimeout, parseDuration)
	s.Budget, err3 = parseBudget(a)
	s.MaxRequestBytes, err4 = given(a, names.AnnotationRetryMaxRequestBytes, parseRequestBytes)
	if err := errors.Join(err, err1, err2, err3, err4); err != nil {
		return RetrySettings{}, err
	}
	_, http := a[names.AnnotationRetryHTTP]
	_, grpc := a[names.AnnotationRetryGRPC]
	s.Listed = http || grpc
	return s, nil
}

// over returns the settings, completed by what others say where they say nothing.
func (s RetrySettings) over(others RetrySettings) RetrySettings {
	if s.Statuses == nil {
		s.Statuses = others.Statuses
	}
	return RetrySettings{
		cmp.Or(s.Limit, others.Limit), cmp.Or(s.Timeout, others.Timeout), s.Statuses, cmp.Or(s.Codes, others.Codes),
		cmp.Or(s.MaxRequestBytes, others.MaxRequestBytes), cmp.Or(s.Budget, others.Budget), s.Listed || others.Listed,
	}
}

// retry returns what the settings come to, or nil if they say nothing.
func (s RetrySettings) retry() *Retry {
	if s.Limit == nil && s.Timeout == nil && s.Statuses == nil && s.Codes == nil {
		return nil
	}
	r := &Retry{
		Limit: valueOr(s.Limit, defaultRetryLimit), Timeout: valueOr(s.Timeout, 0),
		Statuses: s.Statuses, Codes: valueOr(s.Codes, GRPCCodes{}),
		MaxRequestBytes: valueOr(s.MaxRequestBytes, defaultRequestBytes), Budget: s.Budget,
	}
	if !s.Listed && s.Timeout == nil && r.Limit > 0 {
		// Who says how often, and not what, means what is most likely another endpoint's to answer.
		r.Statuses, r.Codes = []StatusRange{{502, 504}}, GRPCCodes{Unavailable: true}
	}
	return r
}

func parseStatuses(list string) ([]StatusRange, error) {
	var ranges []StatusRange
	for element := range strings.SplitSeq(list, ",") {
		switch element = strings.TrimSpace(element); strings.ToLower(element) {
		case "5xx":
			ranges = append(ranges, StatusRange{500, 599})
			continue
		case "gateway-error":
			ranges = append(ranges, StatusRange{502, 504})
			continue
		}
		first, last, isRange := strings.Cut(element, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || low < 100 || high > 599 || low > high {
			return nil, fmt.Errorf("%q is neither a status from 100 to 599, a range of these, 5xx nor gateway-error", element)
		}
		ranges = append(ranges, StatusRange{uint16(low), uint16(high)})
	}
	return ranges, nil
}

func parseCodes(list string) (GRPCCodes, error) {
	var codes GRPCCodes
	for element := range strings.SplitSeq(list, ",") {
		switch element = strings.TrimSpace(element); strings.ToLower(element) {
		case "cancelled":
			codes.Cancelled = true
		case "deadline-exceeded":
			codes.DeadlineExceeded = true
		case "resource-exhausted":
			codes.ResourceExhausted = true
		case "internal":
			codes.Internal = true
		case "unavailable":
			codes.Unavailable = true
		default:
			return GRPCCodes{}, fmt.Errorf("%q is none of cancelled, deadline-exceeded, internal, resource-exhausted, unavailable", element)
		}
	}
	return codes, nil
}

func parseAccrual(a Annotations) (*FailureAccrual, error) {
	mode, ok := a[names.AnnotationFailureAccrual]
	if !ok {
		return nil, nil
	}
	if mode != names.FailureAccrualConsecutive && mode != names.FailureAccrualUnified {
		return nil, errAt(names.AnnotationFailureAccrual, fmt.Errorf("%q is neither %s nor %s", mode, names.FailureAccrualConsecutive, names.FailureAccrualUnified))
	}
	var f FailureAccrual
	var errs [8]error
	f.MaxFailures, _, errs[0] = read(a, names.AnnotationFailureAccrualMaxFailures, defaultMaxFailures, parseUint[uint32](32))
	f.Backoff.Min, _, errs[1] = read(a, names.AnnotationFailureAccrualMinPenalty, defaultMinPenalty, parseDuration)
	f.Backoff.Max, _, errs[2] = read(a, names.AnnotationFailureAccrualMaxPenalty, defaultMaxPenalty, parseDuration)
	f.Backoff.Jitter, _, errs[3] = read(a, names.AnnotationFailureAccrualJitterRatio, defaultJitter, parseFloat(0, maxJitter))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if f.Backoff.Max <= 0 || f.Backoff.Min > f.Backoff.Max {
		return nil, errAt(names.AnnotationFailureAccrualMaxPenalty, errors.New("must be greater than 0 and not less than the minimum"))
	}
	// Without the limit that somebody wanted, none may be taken out.
	var err error
	if f.Ejection, _, err = read(a, names.AnnotationFailureAccrualMinReady, Ejection{}, parseEjection); err != nil {
		return nil, err
	}
	if mode == names.FailureAccrualConsecutive {
		return &f, nil
	}
	f.Unified = true
	f.Threshold, _, errs[4] = read(a, names.AnnotationFailureAccrualSuccessRateThreshold, defaultThreshold, parseFloat(0, 1))
	f.Window, _, errs[5] = read(a, names.AnnotationFailureAccrualSuccessRateWindow, defaultWindow, parseDuration)
	f.MinRequests, _, errs[6] = read(a, names.AnnotationFailureAccrualSuccessRateMinRequests, defaultMinRequests, parseUint[uint32](32))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	switch {
	case f.Window <= 0, f.Threshold != 0 && f.Window < minWindow:
		return nil, errAt(names.AnnotationFailureAccrualSuccessRateWindow, fmt.Errorf("must not be less than %v", minWindow))
	case f.Threshold != 0 && f.MinRequests > maxMinRequests:
		return nil, errAt(names.AnnotationFailureAccrualSuccessRateMinRequests, fmt.Errorf("must not be greater than %d", maxMinRequests))
	}
	f.Backoff.RetryAfter, _, errs[7] = read(a, names.AnnotationFailureAccrualHonorRetryAfter, false, parseBool)
	// The hint is a refinement: without it, the rest still makes sense.
	return &f, errs[7]
}

func parseBiaser(a Annotations) (*LoadBiaser, error) {
	on, _, err := read(a, names.AnnotationPenalizeFailures, false, parseBool)
	if err != nil || !on {
		return nil, err
	}
	penalty, _, err1 := read(a, names.AnnotationLoadBiaserPenalty, defaultBiaserPenalty, parseDuration)
	maxRetryAfter, _, err2 := read(a, names.AnnotationLoadBiaserMaxRetryAfter, defaultMaxRetryAfter, parseDuration)
	decay, _, err3 := read(a, names.AnnotationLoadBiaserPenaltyDecay, defaultPenaltyDecay, positive)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if penalty > maxMillis {
		return nil, errAt(names.AnnotationLoadBiaserPenalty, fmt.Errorf("must not be greater than %v", maxMillis))
	}
	return &LoadBiaser{Penalty: penalty, MaxRetryAfter: maxRetryAfter, PenaltyDecay: decay}, nil
}
