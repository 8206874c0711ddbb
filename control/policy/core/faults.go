package core

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Faults make requests slow or fail on purpose (docs/faults.md). Fields that are nil do nothing.
type Faults struct {
	// Delay comes first: a request can be held and then aborted.
	Delay *Delay
	// HTTP and GRPC abort requests; which one counts depends on the route.
	HTTP, GRPC *Failure
}

// Delay holds Numerator out of Denominator requests for a time.
type Delay struct {
	Time                   time.Duration
	Numerator, Denominator uint32
}

// percents is how many parts a percent has in ratios.
const percents = 10_000

// grpcNames are the names of gRPC's codes, by number. Source: gRPC's status codes.
var grpcNames = []string{
	"ok", "cancelled", "unknown", "invalid-argument", "deadline-exceeded", "not-found", "already-exists", "permission-denied",
	"resource-exhausted", "failed-precondition", "aborted", "out-of-range", "unimplemented", "internal", "unavailable", "data-loss",
	"unauthenticated",
}

// ParseFaults reads faults, or returns nil if there are none.
func ParseFaults(a Annotations) (*Faults, error) {
	delay, hasDelay, err1 := read(a, names.AnnotationFaultDelay, 0, positive)
	delayed, hasDelayed, err2 := read(a, names.AnnotationFaultDelayPercent, 100, parseFloat(0, 100))
	status, hasHTTP, err3 := read(a, names.AnnotationFaultAbortHTTP, 0, parseAbortStatus)
	code, hasGRPC, err4 := read(a, names.AnnotationFaultAbortGRPC, 0, parseAbortCode)
	aborted, hasAborted, err5 := read(a, names.AnnotationFaultAbortPercent, 100, parseFloat(0, 100))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	switch {
	case hasDelayed && !hasDelay:
		return nil, errAt(names.AnnotationFaultDelayPercent, fmt.Errorf("needs %s", names.AnnotationFaultDelay))
	case hasAborted && !hasHTTP && !hasGRPC:
		return nil, errAt(names.AnnotationFaultAbortPercent, fmt.Errorf("needs %s or %s", names.AnnotationFaultAbortHTTP, names.AnnotationFaultAbortGRPC))
	case !hasDelay && !hasHTTP && !hasGRPC:
		return nil, nil
	}
	faults := &Faults{}
	if hasDelay {
		faults.Delay = &Delay{Time: delay, Numerator: parts(delayed), Denominator: parts(100)}
	}
	if hasHTTP {
		faults.HTTP = &Failure{Status: status, Numerator: parts(aborted), Denominator: parts(100)}
	}
	if hasGRPC {
		faults.GRPC = &Failure{Code: code, Numerator: parts(aborted), Denominator: parts(100)}
	}
	return faults, nil
}

// parts is a share of 100 as a numerator.
func parts(percent float64) uint32 { return uint32(percent*percents + 0.5) }

func parseAbortStatus(text string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil || n < 400 || n > 599 {
		return 0, fmt.Errorf("%q is not a status from 400 to 599", text)
	}
	return uint16(n), nil
}

func parseAbortCode(text string) (uint16, error) {
	text = strings.TrimSpace(text)
	for code, name := range grpcNames[1:] {
		if text == name || text == strconv.Itoa(code+1) {
			return uint16(code + 1), nil
		}
	}
	return 0, fmt.Errorf("%q is not a gRPC code: one of %s, or its number", text, strings.Join(grpcNames[1:], ", "))
}

// filters returns what carries out the faults on a route of a kind, before anything else. by names whose faults they are, for
// those who see the failures.
func (f *Faults) filters(kind RouteKind, by string) []Filter {
	if f == nil || kind != HTTPRoute && kind != GRPCRoute {
		return nil
	}
	var list []Filter
	if f.Delay != nil {
		list = append(list, Filter{Delay: f.Delay})
	}
	abort := f.HTTP
	if kind == GRPCRoute {
		abort = f.GRPC
	}
	if abort != nil {
		failure := *abort
		failure.Message = "fault injected by " + by
		list = append(list, Filter{Fail: &failure})
	}
	return list
}

// who names the route to those who see what it does.
func (r *Route) who() string { return string(r.Kind) + " " + r.ID.String() }

// who names the parent to those who see what it does.
func (p *outboundParent) who() string { return string(p.parent.Kind) + " " + p.parent.ID.String() }

// faulty returns the route's rules with its faults before their filters.
func (r *Route) faulty() []Rule {
	faults := r.Faults.filters(r.Kind, r.who())
	if len(faults) == 0 {
		return r.Rules
	}
	rules := slices.Clone(r.Rules)
	for i := range rules {
		rules[i].Filters = slices.Concat(faults, rules[i].Filters)
	}
	return rules
}
