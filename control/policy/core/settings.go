package core

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Annotations that are ours alone: docs/traffic.md.

const (
	defaultPenaltyDecay = 10 * time.Second
	defaultMinRetries   = 10
	defaultRequestBytes = 64 << 10
	// maxRequestBytes is what proxies may be made to keep of a request. All requests under way that may be retried take as
	// much, in the pod of whoever sends them.
	maxRequestBytes = 4 << 20
)

// positive reads a duration that is longer than 0.
func positive(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is not longer than 0", text)
	}
	return d, err
}

func parseQueue(a Annotations) (Queue, error) {
	var q Queue
	var errs [2]error
	q.Capacity, _, errs[0] = read(a, names.AnnotationQueueCapacity, 0, func(text string) (uint32, error) {
		n, err := parseUint[uint32](32)(text)
		if err == nil && n == 0 {
			err = fmt.Errorf("%q: a queue has room for at least 1", text)
		}
		return n, err
	})
	q.Failfast, _, errs[1] = read(a, names.AnnotationFailfastTimeout, 0, positive)
	return q, errors.Join(errs[:]...)
}

func parseDetect(a Annotations) (time.Duration, error) {
	d, _, err := read(a, names.AnnotationDetectTimeout, 0, positive)
	return d, err
}

// parseEjection reads a number, or a percentage.
func parseEjection(text string) (e Ejection, err error) {
	number, isPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
	n, err := parseUint[uint32](32)(number)
	if err != nil || isPercent && n > 100 {
		return e, fmt.Errorf("%q is neither a number of endpoints nor a percentage from 0%% to 100%%", text)
	}
	if isPercent {
		return Ejection{Percent: n}, nil
	}
	return Ejection{Count: n}, nil
}

func parseRequestBytes(text string) (uint32, error) {
	n, err := parseUint[uint32](32)(text)
	if err != nil || n > maxRequestBytes {
		return 0, fmt.Errorf("%q is not a number of bytes from 0 to %d", text, maxRequestBytes)
	}
	return n, nil
}

// parseBudget reads the budget of retries, or returns nil if there is none.
func parseBudget(a Annotations) (*RetryBudget, error) {
	percent, err := given(a, names.AnnotationRetryBudgetPercent, parseFloat(0, 100))
	least, hasLeast, err2 := read(a, names.AnnotationRetryBudgetMinPerSecond, defaultMinRetries, parseUint[uint32](32))
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if percent == nil {
		if hasLeast {
			return nil, errAt(names.AnnotationRetryBudgetMinPerSecond, fmt.Errorf("needs %s", names.AnnotationRetryBudgetPercent))
		}
		return nil, nil
	}
	return &RetryBudget{Percent: *percent, MinPerSecond: least}, nil
}

// maxAffinityLoad bounds what endpoints may be loaded with for the sake of sessions, in percent.
const maxAffinityLoad = 10_000

// parseAffinity reads what sessions are, and how much they may load an endpoint with.
func parseAffinity(a Annotations) (Affinity, error) {
	affinity, has, err1 := read(a, names.AnnotationSessionAffinity, Affinity{}, func(text string) (Affinity, error) {
		if name, ok := strings.CutPrefix(text, names.SessionAffinityHeader); ok && httpguts.ValidHeaderFieldName(name) {
			return Affinity{Header: strings.ToLower(name)}, nil
		}
		if name, ok := strings.CutPrefix(text, names.SessionAffinityCookie); ok && httpguts.ValidHeaderFieldName(name) {
			return Affinity{Cookie: name}, nil
		}
		if text == names.SessionAffinityClient {
			return Affinity{Client: true}, nil
		}
		return Affinity{}, fmt.Errorf("%q is none of %sNAME, %sNAME and %s", text, names.SessionAffinityHeader, names.SessionAffinityCookie, names.SessionAffinityClient)
	})
	load, hasLoad, err2 := read(a, names.AnnotationSessionAffinityMaxLoad, 0, func(text string) (uint32, error) {
		number, isPercent := strings.CutSuffix(strings.TrimSpace(text), "%")
		n, err := parseUint[uint32](32)(number)
		if err != nil || !isPercent || n <= 100 || n > maxAffinityLoad {
			return 0, fmt.Errorf("%q is not a percentage from 101%% to %d%%", text, maxAffinityLoad)
		}
		return n, nil
	})
	if err := errors.Join(err1, err2); err != nil {
		return Affinity{}, err
	}
	if hasLoad && !has {
		return Affinity{}, errAt(names.AnnotationSessionAffinityMaxLoad, fmt.Errorf("needs %s", names.AnnotationSessionAffinity))
	}
	affinity.MaxLoad = load
	return affinity, nil
}

// maxBurst bounds how much of a rate limit adds up while it is not used.
const maxBurst = time.Hour

// ParseRateLimit reads the settings of a rate limit: whether it is for all workloads of its Server together, and its burst.
func ParseRateLimit(a Annotations) (shared bool, burst time.Duration, err error) {
	shared, _, err1 := read(a, names.AnnotationRateLimitScope, false, func(text string) (bool, error) {
		switch text {
		case names.RateLimitScopeProxy, names.RateLimitScopeServer:
			return text == names.RateLimitScopeServer, nil
		}
		return false, fmt.Errorf("%q is neither %s nor %s", text, names.RateLimitScopeProxy, names.RateLimitScopeServer)
	})
	burst, _, err2 := read(a, names.AnnotationRateLimitBurst, 0, func(text string) (time.Duration, error) {
		d, err := positive(text)
		if err == nil && d > maxBurst {
			err = fmt.Errorf("%q is longer than %v", text, maxBurst)
		}
		return d, err
	})
	return shared, burst, errors.Join(err1, err2)
}

// CheckSettings reads what only this mesh knows of the annotations of an EgressNetwork, to find mistakes: others than those of
// upstream's annotations, which are admitted, can be refused.
func CheckSettings(a Annotations) error {
	_, err1 := parseQueue(a)
	_, err2 := parseDetect(a)
	_, _, err3 := read(a, names.AnnotationFailureAccrualMinReady, Ejection{}, parseEjection)
	_, err4 := parseBudget(a)
	_, err5 := given(a, names.AnnotationRetryMaxRequestBytes, parseRequestBytes)
	return errors.Join(err1, err2, err3, err4, err5)
}
