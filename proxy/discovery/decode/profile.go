package decode

import (
	"errors"
	"fmt"
	"math"
	"strings"

	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// Profile decodes a service profile (proxy API chapter, section 4.4). Routes
// and response classes that cannot be used are left out.
func Profile(p *destinationpb.DestinationProfile) *model.Profile {
	out := &model.Profile{
		Opaque: p.GetOpaqueProtocol(),
		Parent: resource(p.GetParentRef().GetResource()),
		Ref:    resource(p.GetProfileRef().GetResource()),
		Budget: budget(p.GetRetryBudget()),
	}
	if n, err := model.ParseDNSName(p.GetFullyQualifiedName()); err == nil {
		out.Name = n
	}
	for _, r := range p.GetRoutes() {
		if route, err := profileRoute(r); err == nil {
			out.Routes = append(out.Routes, route)
		}
	}
	for _, d := range p.GetDstOverrides() {
		if d.GetWeight() > 0 && isAuthority(strings.Replace(d.GetAuthority(), ".:", ":", 1)) {
			out.Overrides = append(out.Overrides, model.Override{Path: d.GetAuthority(), Weight: d.GetWeight()})
		}
	}
	if e, ok := Endpoint(p.GetEndpoint(), nil); ok {
		out.Endpoint = e
	}
	return out
}

func budget(b *destinationpb.RetryBudget) *model.RetryBudget {
	ttl, err := duration(b.GetTtl(), "ttl")
	if err != nil || math.IsNaN(float64(b.GetRetryRatio())) {
		return nil
	}
	out := &model.RetryBudget{Ratio: float64(b.GetRetryRatio()), MinPerSecond: b.GetMinRetriesPerSecond(), TTL: ttl}
	if !out.Valid() {
		return nil
	}
	return out
}

func profileRoute(r *destinationpb.Route) (model.ProfileRoute, error) {
	cond, err := requestMatch(r.GetCondition(), 0)
	if err != nil {
		return model.ProfileRoute{}, err
	}
	out := model.ProfileRoute{Condition: cond, Labels: model.MakeLabels(r.GetMetricsLabels()), Retryable: r.GetIsRetryable()}
	if d, err := optionalDuration(r.GetTimeout(), "timeout"); err == nil {
		out.Timeout = d
	}
	for _, c := range r.GetResponseClasses() {
		if m, err := responseMatch(c.GetCondition(), 0); err == nil {
			out.Classes = append(out.Classes, model.ResponseClass{Condition: m, Failure: c.GetIsFailure()})
		}
	}
	return out, nil
}

// maxDepth limits how deep conditions are nested, so that matching a request
// cannot take the stack.
const maxDepth = 64

var errTooDeep = errors.New("condition is nested too deeply")

func requestMatch(m *destinationpb.RequestMatch, depth int) (out model.RequestMatch, err error) {
	if depth > maxDepth {
		return out, errTooDeep
	}
	children := func(op model.MatchOp, list ...*destinationpb.RequestMatch) (model.RequestMatch, error) {
		out := model.RequestMatch{Op: op}
		for _, c := range list {
			child, err := requestMatch(c, depth+1)
			if err != nil {
				return out, err
			}
			out.Children = append(out.Children, child)
		}
		return out, nil
	}
	switch k := m.GetMatch().(type) {
	case *destinationpb.RequestMatch_All:
		return children(model.OpAll, k.All.GetMatches()...)
	case *destinationpb.RequestMatch_Any:
		return children(model.OpAny, k.Any.GetMatches()...)
	case *destinationpb.RequestMatch_Not:
		return children(model.OpNot, k.Not)
	case *destinationpb.RequestMatch_Path:
		re, err := model.CompileRegex(anchored(k.Path.GetRegex()))
		return model.RequestMatch{Op: model.OpPath, Path: re}, err
	case *destinationpb.RequestMatch_Method:
		name, err := method(k.Method)
		return model.RequestMatch{Op: model.OpMethod, Method: name}, err
	}
	return out, missing("request condition")
}

// anchored makes an expression match whole paths; if it is anchored already
// that changes nothing.
func anchored(expr string) string { return "^(?:" + expr + ")$" }

func responseMatch(m *destinationpb.ResponseMatch, depth int) (out model.ResponseMatch, err error) {
	if depth > maxDepth {
		return out, errTooDeep
	}
	children := func(op model.MatchOp, list ...*destinationpb.ResponseMatch) (model.ResponseMatch, error) {
		out := model.ResponseMatch{Op: op}
		for _, c := range list {
			child, err := responseMatch(c, depth+1)
			if err != nil {
				return out, err
			}
			out.Children = append(out.Children, child)
		}
		return out, nil
	}
	switch k := m.GetMatch().(type) {
	case *destinationpb.ResponseMatch_All:
		return children(model.OpAll, k.All.GetMatches()...)
	case *destinationpb.ResponseMatch_Any:
		return children(model.OpAny, k.Any.GetMatches()...)
	case *destinationpb.ResponseMatch_Not:
		return children(model.OpNot, k.Not)
	case *destinationpb.ResponseMatch_Status:
		lo, hi := k.Status.GetMin(), k.Status.GetMax()
		if lo < 100 || hi < 100 || lo > 999 || hi > 999 {
			return out, fmt.Errorf("status range %d to %d is not valid", lo, hi)
		}
		return model.ResponseMatch{Op: model.OpStatus, Status: model.StatusRange{Min: int(lo), Max: int(hi)}}, nil
	}
	return out, missing("response condition")
}
