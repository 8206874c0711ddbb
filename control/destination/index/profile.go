package index

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/linkerd-go/linkerd-go/api/crd/serviceprofile/v1alpha2"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

// serviceProfile converts a ServiceProfile. The admission webhook refuses what is wrong in one, but it may have been
// bypassed: a route, a response class or a budget that makes no sense is logged and left out, so that the rest of the
// profile still works. Source: proxy API chapter, section 4.4; control plane chapter, section 5.
func (c converter) serviceProfile(u *unstructured.Unstructured) (*core.ServiceProfile, error) {
	var sp v1alpha2.ServiceProfile
	if err := decode(u, &sp); err != nil {
		return nil, err
	}
	profile := &core.ServiceProfile{ID: idOf(&sp), Budget: core.DefaultRetryBudget}
	for _, spec := range sp.Spec.Routes {
		if spec == nil {
			c.logger.Error("route ignored", "profile", profile.ID, "error", "it is null")
			continue
		}
		route, err := c.route(profile.ID, spec)
		if err != nil {
			c.logger.Error("route ignored", "profile", profile.ID, "route", spec.Name, "error", err)
			continue
		}
		profile.Routes = append(profile.Routes, route)
	}
	if b := sp.Spec.RetryBudget; b != nil {
		ttl, err := time.ParseDuration(b.TTL)
		switch {
		case err != nil:
			c.logger.Error("retry budget ignored", "profile", profile.ID, "error", err)
		case b.RetryRatio < 0:
			c.logger.Error("retry budget ignored", "profile", profile.ID, "error", fmt.Errorf("the ratio %g is negative", b.RetryRatio))
		default:
			profile.Budget = core.RetryBudget{Ratio: b.RetryRatio, MinPerSecond: uint32(max(b.MinRetriesPerSecond, 0)), TTL: ttl}
		}
	}
	profile.Overrides = overrides(sp.Spec.DstOverrides)
	var errs []error
	profile.Opaque, errs = portlist.Parse(strings.Join(sp.Spec.OpaquePorts, ","), nil)
	for _, err := range errs {
		c.logger.Warn("part of a port list ignored", "profile", profile.ID, "field", "spec.opaquePorts", "error", err)
	}
	return profile, nil
}

// overrides converts the shares of a traffic split. Their weights go out in ten-thousandths, as numbers of 32 bits; where they
// do not fit, all are made smaller alike, for only their ratio counts. No share is lost by that.
func overrides(shares []*v1alpha2.WeightedDst) []core.Override {
	shares = slices.DeleteFunc(slices.Clone(shares), func(dst *v1alpha2.WeightedDst) bool { return dst == nil })
	weights := make([]float64, len(shares))
	var sum float64
	for i, dst := range shares {
		if value := dst.Weight.Value(); value > math.MaxInt64/1000 {
			weights[i] = float64(value) * 10000 // in thousandths it is no number of 64 bits
		} else {
			weights[i] = float64(max(dst.Weight.MilliValue(), 0)) * 10
		}
		sum += weights[i]
	}
	scale := 1.0
	if sum > math.MaxUint32 {
		scale = math.MaxUint32 / 2 / sum
	}
	var list []core.Override
	for i, dst := range shares {
		weight := uint32(weights[i] * scale)
		if weight == 0 && weights[i] > 0 {
			weight = 1
		}
		list = append(list, core.Override{Authority: dst.Authority, Weight: weight})
	}
	return list
}

func (c converter) route(profile core.ID, spec *v1alpha2.RouteSpec) (core.Route, error) {
	if spec.Condition == nil {
		return core.Route{}, errors.New("no condition")
	}
	condition, err := requestMatch(spec.Condition)
	if err != nil {
		return core.Route{}, err
	}
	route := core.Route{Name: spec.Name, Condition: condition, Retryable: spec.IsRetryable}
	for i, class := range spec.ResponseClasses {
		if class == nil || class.Condition == nil {
			c.logger.Error("response class ignored", "profile", profile, "route", spec.Name, "index", i, "error", "no condition")
			continue
		}
		match, err := responseMatch(class.Condition)
		if err != nil {
			c.logger.Error("response class ignored", "profile", profile, "route", spec.Name, "index", i, "error", err)
			continue
		}
		route.Classes = append(route.Classes, core.ResponseClass{Condition: match, IsFailure: class.Failure()})
	}
	if spec.Timeout != "" {
		if route.Timeout, err = time.ParseDuration(spec.Timeout); err != nil {
			c.logger.Error("route timeout ignored", "profile", profile, "route", spec.Name, "error", err)
		}
	}
	return route, nil
}

var (
	errEmptyRequestMatch  = errors.New("a request match needs one of all, any, not, method, pathRegex")
	errEmptyResponseMatch = errors.New("a response match needs one of all, any, not, status")
)

// requestMatch converts a condition. Several fields in one object mean that all must hold.
func requestMatch(m *v1alpha2.RequestMatch) (core.RequestMatch, error) {
	if m == nil {
		return core.RequestMatch{}, errEmptyRequestMatch
	}
	list := func(children []*v1alpha2.RequestMatch) ([]core.RequestMatch, error) {
		out := make([]core.RequestMatch, 0, len(children))
		for _, child := range children {
			match, err := requestMatch(child)
			if err != nil {
				return nil, err
			}
			out = append(out, match)
		}
		return out, nil
	}
	var parts []core.RequestMatch
	if m.All != nil {
		all, err := list(m.All)
		if err != nil {
			return core.RequestMatch{}, err
		}
		parts = append(parts, core.RequestMatch{All: all})
	}
	if m.Any != nil {
		any, err := list(m.Any)
		if err != nil {
			return core.RequestMatch{}, err
		}
		parts = append(parts, core.RequestMatch{Any: any})
	}
	if m.Method != "" {
		parts = append(parts, core.RequestMatch{Method: strings.ToUpper(m.Method)})
	}
	if m.Not != nil {
		not, err := requestMatch(m.Not)
		if err != nil {
			return core.RequestMatch{}, err
		}
		parts = append(parts, core.RequestMatch{Not: &not})
	}
	if m.PathRegex != "" {
		if _, err := regexp.Compile(m.PathRegex); err != nil {
			return core.RequestMatch{}, fmt.Errorf("path regex %q: %w", m.PathRegex, err)
		}
		parts = append(parts, core.RequestMatch{Path: m.PathRegex})
	}
	switch len(parts) {
	case 0:
		return core.RequestMatch{}, errEmptyRequestMatch
	case 1:
		return parts[0], nil
	}
	return core.RequestMatch{All: parts}, nil
}

// responseMatch converts a condition. Several fields in one object mean that all must hold.
func responseMatch(m *v1alpha2.ResponseMatch) (core.ResponseMatch, error) {
	if m == nil {
		return core.ResponseMatch{}, errEmptyResponseMatch
	}
	list := func(children []*v1alpha2.ResponseMatch) ([]core.ResponseMatch, error) {
		out := make([]core.ResponseMatch, 0, len(children))
		for _, child := range children {
			match, err := responseMatch(child)
			if err != nil {
				return nil, err
			}
			out = append(out, match)
		}
		return out, nil
	}
	var parts []core.ResponseMatch
	if m.All != nil {
		all, err := list(m.All)
		if err != nil {
			return core.ResponseMatch{}, err
		}
		parts = append(parts, core.ResponseMatch{All: all})
	}
	if m.Any != nil {
		any, err := list(m.Any)
		if err != nil {
			return core.ResponseMatch{}, err
		}
		parts = append(parts, core.ResponseMatch{Any: any})
	}
	if s := m.Status; s != nil {
		for _, bound := range []int32{s.Min, s.Max} {
			if bound != 0 && (bound < 100 || bound > 599) {
				return core.ResponseMatch{}, fmt.Errorf("status %d is not in 100 to 599", bound)
			}
		}
		if s.Min != 0 && s.Max != 0 && s.Min > s.Max {
			return core.ResponseMatch{}, fmt.Errorf("status range %d to %d is empty", s.Min, s.Max)
		}
		parts = append(parts, core.ResponseMatch{Status: &core.StatusRange{Min: uint32(s.Min), Max: uint32(s.Max)}})
	}
	if m.Not != nil {
		not, err := responseMatch(m.Not)
		if err != nil {
			return core.ResponseMatch{}, err
		}
		parts = append(parts, core.ResponseMatch{Not: &not})
	}
	switch len(parts) {
	case 0:
		return core.ResponseMatch{}, errEmptyResponseMatch
	case 1:
		return parts[0], nil
	}
	return core.ResponseMatch{All: parts}, nil
}
