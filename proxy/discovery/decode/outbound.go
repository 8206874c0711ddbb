package decode

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	httproutepb "github.com/linkerd-go/linkerd-go/api/lean/httproute"
	outboundpb "github.com/linkerd-go/linkerd-go/api/lean/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// ClientPolicy decodes the policy of a target (proxy API chapter, section 6.9).
// If it breaks a rule the error says which, and the policy is an invalid one.
func ClientPolicy(p *outboundpb.OutboundPolicy) (*model.ClientPolicy, error) {
	out, err := clientPolicy(p)
	if err != nil {
		return model.InvalidClientPolicy(err.Error()), fmt.Errorf("invalid client policy: %w", err)
	}
	return out, nil
}

func clientPolicy(p *outboundpb.OutboundPolicy) (out *model.ClientPolicy, err error) {
	out = new(model.ClientPolicy)
	if out.Parent, err = outboundMeta(p.GetMetadata()); err != nil {
		return nil, err
	}
	switch k := p.GetProtocol().GetKind().(type) {
	case *outboundpb.ProxyProtocol_Detect_:
		out.Protocol = model.ProtocolDetect
		d := k.Detect
		var timeout time.Duration
		if timeout, err = duration(d.GetTimeout(), "detect timeout"); err != nil {
			return nil, err
		}
		// Otherwise it is what control planes send in any case.
		if d.GetTimeoutSet() {
			out.Detect = timeout
		}
		if d.GetOpaque() == nil || d.GetHttp1() == nil || d.GetHttp2() == nil {
			return nil, missing("opaque, http1 or http2 of detect")
		}
		if out.HTTP1, err = httpPolicy(d.GetHttp1().GetRoutes(), d.GetHttp1().GetFailureAccrual()); err != nil {
			return nil, err
		}
		if out.HTTP2, err = httpPolicy(d.GetHttp2().GetRoutes(), d.GetHttp2().GetFailureAccrual()); err != nil {
			return nil, err
		}
		if out.TCP, err = opaquePolicy(d.GetOpaque()); err != nil {
			return nil, err
		}
		if d.GetTls() != nil {
			out.TLS, err = tlsPolicy(d.GetTls())
		}
	case *outboundpb.ProxyProtocol_Http1_:
		out.Protocol = model.ProtocolHTTP1
		out.HTTP1, err = httpPolicy(k.Http1.GetRoutes(), k.Http1.GetFailureAccrual())
	case *outboundpb.ProxyProtocol_Http2_:
		out.Protocol = model.ProtocolHTTP2
		out.HTTP2, err = httpPolicy(k.Http2.GetRoutes(), k.Http2.GetFailureAccrual())
	case *outboundpb.ProxyProtocol_Grpc_:
		out.Protocol = model.ProtocolGRPC
		if out.HTTP2, err = grpcPolicy(k.Grpc); err != nil {
			return nil, err
		}
		if h, o := k.Grpc.GetHttp1(), k.Grpc.GetOpaque(); h != nil && o != nil {
			// Our control plane says what else comes to the port.
			out.Protocol = model.ProtocolDetect
			if out.Detect, err = optionalDuration(k.Grpc.GetDetectTimeout(), "detect timeout"); err != nil {
				return nil, err
			}
			if out.HTTP1, err = httpPolicy(h.GetRoutes(), h.GetFailureAccrual()); err != nil {
				return nil, err
			}
			if out.TCP, err = opaquePolicy(o); err != nil {
				return nil, err
			}
			if k.Grpc.GetTls() != nil {
				out.TLS, err = tlsPolicy(k.Grpc.GetTls())
			}
		}
	case *outboundpb.ProxyProtocol_Opaque_:
		out.Protocol = model.ProtocolOpaque
		out.TCP, err = opaquePolicy(k.Opaque)
	case *outboundpb.ProxyProtocol_Tls_:
		out.Protocol = model.ProtocolTLS
		out.TCP, err = tlsPolicy(k.Tls)
	default:
		return nil, missing("protocol")
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func httpPolicy(routes []*outboundpb.HttpRoute, accrual *outboundpb.FailureAccrual) (out *model.HTTPPolicy, err error) {
	out = new(model.HTTPPolicy)
	if out.Routes.List, err = each(routes, httpRoute); err != nil {
		return nil, err
	}
	out.Accrual, err = failureAccrual(accrual)
	return out, err
}

func grpcPolicy(p *outboundpb.ProxyProtocol_Grpc) (out *model.HTTPPolicy, err error) {
	out = &model.HTTPPolicy{Routes: model.Routes{GRPC: true}}
	if out.Routes.List, err = each(p.GetRoutes(), grpcRoute); err != nil {
		return nil, err
	}
	out.Accrual, err = failureAccrual(p.GetFailureAccrual())
	return out, err
}

func httpRoute(r *outboundpb.HttpRoute) (out model.Route, err error) {
	if out.Meta, err = outboundMeta(r.GetMetadata()); err != nil {
		return out, fmt.Errorf("route: %w", err)
	}
	defer func() { err = inRoute(out.Meta, err) }()
	if out.Hosts, err = hosts(r.GetHosts()); err != nil {
		return out, err
	}
	out.Rules, err = each(r.GetRules(), httpRule)
	return out, err
}

func httpRule(r *outboundpb.HttpRoute_Rule) (out model.Rule, err error) {
	if out.Matches, err = httpMatches(r.GetMatches()); err != nil {
		return out, err
	}
	if out.Filters, err = each(r.GetFilters(), httpFilter); err != nil {
		return out, err
	}
	switch k := r.GetBackends().GetKind().(type) {
	case *outboundpb.HttpRoute_Distribution_Empty_:
	case *outboundpb.HttpRoute_Distribution_FirstAvailable_:
		out.Distribution, err = firstAvailable(k.FirstAvailable.GetBackends(), httpFilter)
	case *outboundpb.HttpRoute_Distribution_RandomAvailable_:
		out.Distribution, err = randomAvailable(k.RandomAvailable.GetBackends(), httpFilter)
	default:
		err = missing("distribution")
	}
	if err != nil {
		return out, err
	}
	out.AllowHeaders = r.GetAllowL5DRequestHeaders()
	if out.Timeouts.Request, err = optionalDuration(r.GetRequestTimeout(), "request timeout"); err != nil {
		return out, err
	}
	if err = timeouts(&out.Timeouts, r.GetTimeouts()); err != nil {
		return out, err
	}
	if out.Timeouts.Attempt, err = optionalDuration(r.GetBackendRequestTimeout(), "backend request timeout"); err != nil {
		return out, err
	}
	if t := r.GetRetry(); t != nil {
		if t.GetConditions() == nil {
			return out, missing("retry conditions")
		}
		if out.Retry, err = retry(t); err != nil {
			return out, err
		}
		for _, s := range t.GetConditions().GetStatusRanges() {
			if s.GetStart() < 1 || s.GetStart() > s.GetEnd() || s.GetEnd() > 599 {
				return out, fmt.Errorf("retry status range %d to %d is not valid", s.GetStart(), s.GetEnd())
			}
			out.Retry.Statuses = append(out.Retry.Statuses, model.StatusRange{Min: int(s.GetStart()), Max: int(s.GetEnd())})
		}
	}
	return out, nil
}

func httpFilter(f *outboundpb.HttpRoute_Filter) (model.Filter, error) {
	// What we know takes the place of what others are to do instead.
	switch {
	case f.GetUrlRewrite() != nil:
		return rewrite(f.GetUrlRewrite())
	case f.GetCors() != nil:
		return cors(f.GetCors())
	case f.GetRequestMirror() != nil:
		return mirror(f.GetRequestMirror())
	case f.GetDelay() != nil:
		return delay(f.GetDelay())
	}
	switch k := f.GetKind().(type) {
	case *outboundpb.HttpRoute_Filter_FailureInjector:
		return httpFailure(k.FailureInjector)
	case *outboundpb.HttpRoute_Filter_RequestHeaderModifier:
		return requestHeaders(k.RequestHeaderModifier)
	case *outboundpb.HttpRoute_Filter_Redirect:
		return redirect(k.Redirect)
	case *outboundpb.HttpRoute_Filter_ResponseHeaderModifier:
		return responseHeaders(k.ResponseHeaderModifier)
	}
	return model.Filter{}, missing("filter kind")
}

func mirror(m *outboundpb.RequestMirror) (model.Filter, error) {
	to, err := backend(m.GetBackend())
	if err != nil {
		return model.Filter{}, fmt.Errorf("mirror: %w", err)
	}
	out := &model.Mirror{Backend: to}
	if out.Numerator, out.Denominator, err = ratio(m.GetRatio()); err != nil {
		return model.Filter{}, fmt.Errorf("mirror: %w", err)
	}
	return model.Filter{Kind: model.FilterMirror, Mirror: out}, nil
}

func grpcRoute(r *outboundpb.GrpcRoute) (out model.Route, err error) {
	if out.Meta, err = outboundMeta(r.GetMetadata()); err != nil {
		return out, fmt.Errorf("route: %w", err)
	}
	defer func() { err = inRoute(out.Meta, err) }()
	if out.Hosts, err = hosts(r.GetHosts()); err != nil {
		return out, err
	}
	out.Rules, err = each(r.GetRules(), grpcRule)
	return out, err
}

func grpcRule(r *outboundpb.GrpcRoute_Rule) (out model.Rule, err error) {
	if out.Matches, err = grpcMatches(r.GetMatches()); err != nil {
		return out, err
	}
	if out.Filters, err = each(r.GetFilters(), grpcFilter); err != nil {
		return out, err
	}
	switch k := r.GetBackends().GetKind().(type) {
	case *outboundpb.GrpcRoute_Distribution_Empty_:
	case *outboundpb.GrpcRoute_Distribution_FirstAvailable_:
		out.Distribution, err = firstAvailable(k.FirstAvailable.GetBackends(), grpcFilter)
	case *outboundpb.GrpcRoute_Distribution_RandomAvailable_:
		out.Distribution, err = randomAvailable(k.RandomAvailable.GetBackends(), grpcFilter)
	default:
		err = missing("distribution")
	}
	if err != nil {
		return out, err
	}
	out.AllowHeaders = r.GetAllowL5DRequestHeaders()
	if out.Timeouts.Request, err = optionalDuration(r.GetRequestTimeout(), "request timeout"); err != nil {
		return out, err
	}
	if err = timeouts(&out.Timeouts, r.GetTimeouts()); err != nil {
		return out, err
	}
	if t := r.GetRetry(); t != nil {
		c := t.GetConditions()
		if c == nil {
			return out, missing("retry conditions")
		}
		if out.Retry, err = retry(t); err != nil {
			return out, err
		}
		for code, set := range map[uint32]bool{1: c.GetCancelled(), 4: c.GetDeadineExceeded(), 8: c.GetResourceExhausted(),
			13: c.GetInternal(), 14: c.GetUnavailable()} {
			if set {
				out.Retry.Codes = out.Retry.Codes.With(code)
			}
		}
	}
	return out, nil
}

func grpcFilter(f *outboundpb.GrpcRoute_Filter) (model.Filter, error) {
	switch {
	case f.GetResponseHeaderModifier() != nil:
		return responseHeaders(f.GetResponseHeaderModifier())
	case f.GetRequestMirror() != nil:
		return mirror(f.GetRequestMirror())
	case f.GetDelay() != nil:
		return delay(f.GetDelay())
	}
	switch k := f.GetKind().(type) {
	case *outboundpb.GrpcRoute_Filter_FailureInjector:
		return grpcFailure(k.FailureInjector)
	case *outboundpb.GrpcRoute_Filter_RequestHeaderModifier:
		return requestHeaders(k.RequestHeaderModifier)
	}
	return model.Filter{}, missing("filter kind")
}

func opaquePolicy(p *outboundpb.ProxyProtocol_Opaque) (*model.TCPPolicy, error) {
	if len(p.GetRoutes()) > 1 {
		return nil, errors.New("opaque traffic has more than one route")
	}
	routes, err := each(p.GetRoutes(), func(r *outboundpb.OpaqueRoute) (out model.TCPRoute, err error) {
		if out.Meta, err = outboundMeta(r.GetMetadata()); err != nil {
			return out, fmt.Errorf("route: %w", err)
		}
		defer func() { err = inRoute(out.Meta, err) }()
		if len(r.GetRules()) != 1 {
			return out, errors.New("opaque route does not have exactly one rule")
		}
		rule := r.GetRules()[0]
		if out.Filters, err = each(rule.GetFilters(), opaqueFilter); err != nil {
			return out, err
		}
		switch k := rule.GetBackends().GetKind().(type) {
		case *outboundpb.OpaqueRoute_Distribution_Empty_:
		case *outboundpb.OpaqueRoute_Distribution_FirstAvailable_:
			out.Distribution, err = firstAvailable(k.FirstAvailable.GetBackends(), opaqueFilter)
		case *outboundpb.OpaqueRoute_Distribution_RandomAvailable_:
			out.Distribution, err = randomAvailable(k.RandomAvailable.GetBackends(), opaqueFilter)
		default:
			err = missing("distribution")
		}
		return out, err
	})
	return &model.TCPPolicy{Routes: routes}, err
}

func opaqueFilter(f *outboundpb.OpaqueRoute_Filter) (model.Filter, error) {
	switch k := f.GetKind().(type) {
	case *outboundpb.OpaqueRoute_Filter_Invalid:
		return model.Filter{Kind: model.FilterInvalidBackend, Message: k.Invalid.GetMessage()}, nil
	case *outboundpb.OpaqueRoute_Filter_Forbidden:
		return model.Filter{Kind: model.FilterForbidden}, nil
	}
	return model.Filter{}, missing("filter kind")
}

func tlsPolicy(p *outboundpb.ProxyProtocol_Tls) (*model.TCPPolicy, error) {
	routes, err := each(p.GetRoutes(), func(r *outboundpb.TlsRoute) (out model.TCPRoute, err error) {
		if out.Meta, err = outboundMeta(r.GetMetadata()); err != nil {
			return out, fmt.Errorf("route: %w", err)
		}
		defer func() { err = inRoute(out.Meta, err) }()
		if out.SNIs, err = snis(r.GetSnis()); err != nil {
			return out, err
		}
		if len(r.GetRules()) != 1 {
			return out, errors.New("tls route does not have exactly one rule")
		}
		rule := r.GetRules()[0]
		if out.Filters, err = each(rule.GetFilters(), tlsFilter); err != nil {
			return out, err
		}
		switch k := rule.GetBackends().GetKind().(type) {
		case *outboundpb.TlsRoute_Distribution_Empty_:
		case *outboundpb.TlsRoute_Distribution_FirstAvailable_:
			out.Distribution, err = firstAvailable(k.FirstAvailable.GetBackends(), tlsFilter)
		case *outboundpb.TlsRoute_Distribution_RandomAvailable_:
			out.Distribution, err = randomAvailable(k.RandomAvailable.GetBackends(), tlsFilter)
		default:
			err = missing("distribution")
		}
		return out, err
	})
	return &model.TCPPolicy{Routes: routes}, err
}

func tlsFilter(f *outboundpb.TlsRoute_Filter) (model.Filter, error) {
	switch k := f.GetKind().(type) {
	case *outboundpb.TlsRoute_Filter_Invalid:
		return model.Filter{Kind: model.FilterInvalidBackend, Message: k.Invalid.GetMessage()}, nil
	case *outboundpb.TlsRoute_Filter_Forbidden:
		return model.Filter{Kind: model.FilterForbidden}, nil
	}
	return model.Filter{}, missing("filter kind")
}

// routeBackend is what the backends of the four kinds of routes have in common,
// and weightedBackend their weighted forms.
type routeBackend[F any] interface {
	GetBackend() *outboundpb.Backend
	GetFilters() []F
}

type weightedBackend[B any] interface {
	comparable
	GetBackend() B
	GetWeight() uint32
}

func firstAvailable[F any, B routeBackend[F]](list []B, filter func(F) (model.Filter, error)) (out model.Distribution, err error) {
	out.Kind = model.DistributionFirstAvailable
	if len(list) == 0 {
		return out, missing("backends")
	}
	out.Backends, err = each(list, func(b B) (model.RouteBackend, error) { return routeBackendOf(b, 1, filter) })
	return out, err
}

func randomAvailable[F any, B routeBackend[F], W weightedBackend[B]](list []W, filter func(F) (model.Filter, error)) (out model.Distribution, err error) {
	out.Kind = model.DistributionRandomAvailable
	if len(list) == 0 {
		return out, missing("backends")
	}
	out.Backends, err = each(list, func(w W) (model.RouteBackend, error) {
		return routeBackendOf(w.GetBackend(), w.GetWeight(), filter)
	})
	return out, err
}

func routeBackendOf[F any, B routeBackend[F]](b B, weight uint32, filter func(F) (model.Filter, error)) (out model.RouteBackend, err error) {
	out.Weight = weight
	if out.Filters, err = each(b.GetFilters(), filter); err != nil {
		return out, err
	}
	out.Backend, err = backend(b.GetBackend())
	return out, err
}

func backend(b *outboundpb.Backend) (out *model.Backend, err error) {
	if b == nil {
		return nil, missing("backend")
	}
	out = new(model.Backend)
	if out.Meta, err = outboundMeta(b.GetMetadata()); err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("backend %s: %w", out.Meta, err)
		}
	}()
	if b.GetQueue() == nil {
		return out, missing("queue")
	}
	var failfast time.Duration
	if failfast, err = duration(b.GetQueue().GetFailfastTimeout(), "failfast timeout"); err != nil {
		return out, err
	}
	// What nobody asked for is what control planes send in any case.
	if b.GetQueue().GetCapacitySet() {
		out.Queue.Capacity = int(b.GetQueue().GetCapacity())
	}
	if b.GetQueue().GetFailfastTimeoutSet() {
		out.Queue.Failfast = failfast
	}
	switch k := b.GetKind().(type) {
	case *outboundpb.Backend_Forward:
		e, ok := Endpoint(k.Forward, nil)
		if !ok {
			return out, missing("address to forward to")
		}
		out.Kind, out.Forward, out.Load = model.BackendForward, e, model.DefaultLoad()
	case *outboundpb.Backend_Balancer:
		out.Kind = model.BackendBalance
		dst, ok := k.Balancer.GetDiscovery().GetKind().(*outboundpb.Backend_EndpointDiscovery_Dst)
		if !ok || dst.Dst.GetPath() == "" {
			return out, missing("discovery")
		}
		out.Path = dst.Dst.GetPath()
		if out.Load, err = load(k.Balancer); err == nil {
			out.Affinity, err = affinity(k.Balancer.GetSessionAffinity())
		}
	default:
		// Not an error: routes may answer by a filter before it matters.
		out.Message = fmt.Sprintf("backend for %s %s/%s has no dispatcher", out.Meta.Kind, out.Meta.Namespace, out.Meta.Name)
	}
	return out, err
}

func affinity(a *outboundpb.SessionAffinity) (out model.Affinity, err error) {
	if a == nil {
		return out, nil
	}
	switch k := a.GetBy().(type) {
	case *outboundpb.SessionAffinity_Header:
		out.Kind, out.Name = model.AffinityHeader, strings.ToLower(k.Header)
	case *outboundpb.SessionAffinity_Cookie:
		out.Kind, out.Name = model.AffinityCookie, k.Cookie
	case *outboundpb.SessionAffinity_Client:
		// A kind that is not known here is none.
		if k.Client {
			out.Kind = model.AffinityClient
		}
	}
	if (out.Kind == model.AffinityHeader || out.Kind == model.AffinityCookie) && out.Name == "" {
		return out, missing("name of session affinity")
	}
	out.MaxLoad = a.GetMaxLoadPercent()
	return out, nil
}

func load(b *outboundpb.Backend_BalanceP2C) (out model.Load, err error) {
	// or reads an optional duration that has a default; the first error counts.
	or := func(d *lean.Duration, what string, otherwise time.Duration) time.Duration {
		v, e := optionalDuration(d, what)
		if err == nil {
			err = e
		}
		if v == 0 {
			return otherwise
		}
		return v
	}
	switch k := b.GetLoad().(type) {
	case *outboundpb.Backend_BalanceP2C_PeakEwma_:
		if out.DefaultRTT, err = duration(k.PeakEwma.GetDefaultRtt(), "default rtt"); err != nil {
			return out, err
		}
		out.Decay, err = duration(k.PeakEwma.GetDecay(), "decay")
	case *outboundpb.Backend_BalanceP2C_PenaltyPeakEwma_:
		p := k.PenaltyPeakEwma
		out.Penalize = true
		out.DefaultRTT = or(p.GetDefaultRtt(), "default rtt", model.DefaultRTT)
		out.Decay = or(p.GetDecay(), "decay", model.DefaultDecay)
		out.Penalty = or(p.GetPenalty(), "penalty", model.DefaultPenalty)
		out.MaxRetryAfter = or(p.GetMaxRetryAfter(), "max retry after", model.DefaultMaxRetryAfter)
		out.PenaltyDecay = or(p.GetPenaltyDecay(), "penalty decay", model.DefaultDecay)
	default:
		err = missing("load")
	}
	return out, err
}

func timeouts(out *model.Timeouts, t *httproutepb.Timeouts) error {
	request, err := optionalDuration(t.GetRequest(), "request timeout")
	if err != nil {
		return err
	}
	if request > 0 {
		out.Request = request
	}
	if out.Response, err = optionalDuration(t.GetResponse(), "response timeout"); err != nil {
		return err
	}
	out.Idle, err = optionalDuration(t.GetIdle(), "idle timeout")
	return err
}

// retries is what the retries of both kinds of routes have in common.
type retries interface {
	GetMaxRetries() uint32
	GetMaxRequestBytes() uint32
	GetTimeout() *lean.Duration
	GetBackoff() *outboundpb.ExponentialBackoff
	GetBudget() *destinationpb.RetryBudget
}

func retry(r retries) (*model.Retry, error) {
	if r.GetMaxRetries() > math.MaxUint16 {
		return nil, fmt.Errorf("max retries %d is too many", r.GetMaxRetries())
	}
	out := &model.Retry{Max: int(r.GetMaxRetries()), MaxRequestBytes: int(r.GetMaxRequestBytes()), Budget: budget(r.GetBudget())}
	if r.GetBudget() != nil && !out.Budget.Valid() {
		return nil, errors.New("retry budget is not valid")
	}
	var err error
	if out.Timeout, err = optionalDuration(r.GetTimeout(), "retry timeout"); err != nil {
		return nil, err
	}
	if b := r.GetBackoff(); b != nil {
		bo, err := backoff(b)
		if err != nil {
			return nil, err
		}
		out.Backoff = &bo
	}
	return out, nil
}

func backoff(b *outboundpb.ExponentialBackoff) (out model.Backoff, err error) {
	if b == nil {
		return out, missing("backoff")
	}
	if out.Min, err = duration(b.GetMinBackoff(), "min backoff"); err != nil {
		return out, err
	}
	if out.Max, err = duration(b.GetMaxBackoff(), "max backoff"); err != nil {
		return out, err
	}
	out.Jitter = float64(b.GetJitterRatio())
	if out.Max == 0 || out.Max < out.Min {
		return out, fmt.Errorf("backoff from %v to %v is not valid", out.Min, out.Max)
	}
	if !(out.Jitter >= 0 && out.Jitter <= 100) {
		return out, fmt.Errorf("backoff jitter %v is not valid", out.Jitter)
	}
	return out, nil
}

// maxMinRequests limits what a unified breaker may wait for.
const maxMinRequests = 1_000_000

func failureAccrual(f *outboundpb.FailureAccrual) (*model.FailureAccrual, error) {
	if f == nil {
		return nil, nil
	}
	out, err := accrualKind(f)
	if err != nil {
		return nil, err
	}
	out.Ejection.Count, out.Ejection.Percent = f.GetEjection().GetMinReadyEndpoints(), f.GetEjection().GetMinReadyPercent()
	if out.Ejection.Percent > 100 {
		return nil, fmt.Errorf("failure accrual: %d percent of the endpoints cannot stay in", out.Ejection.Percent)
	}
	return out, nil
}

func accrualKind(f *outboundpb.FailureAccrual) (*model.FailureAccrual, error) {
	switch k := f.GetKind().(type) {
	case *outboundpb.FailureAccrual_ConsecutiveFailures_:
		b, err := backoff(k.ConsecutiveFailures.GetBackoff())
		if err != nil {
			return nil, fmt.Errorf("failure accrual: %w", err)
		}
		return &model.FailureAccrual{MaxConsecutive: k.ConsecutiveFailures.GetMaxFailures(), Backoff: b,
			RetryAfter: k.ConsecutiveFailures.GetBackoff().GetRespectRetryAfterHint()}, nil
	case *outboundpb.FailureAccrual_Unified_:
		u := k.Unified
		b, err := backoff(u.GetBackoff())
		if err != nil {
			return nil, fmt.Errorf("failure accrual: %w", err)
		}
		t := u.GetSuccessRateThreshold()
		if !(t >= 0 && t <= 1) {
			return nil, fmt.Errorf("failure accrual: success rate threshold %v is not valid", t)
		}
		window := model.DefaultDecay
		if u.GetDecay() != nil {
			if window, err = duration(u.GetDecay(), "window"); err != nil {
				return nil, fmt.Errorf("failure accrual: %w", err)
			}
		}
		if window < 10*time.Millisecond && t > 0 {
			return nil, fmt.Errorf("failure accrual: window %v is too short", window)
		}
		if u.GetMinRequests() > maxMinRequests {
			return nil, fmt.Errorf("failure accrual: min requests %d is too many", u.GetMinRequests())
		}
		return &model.FailureAccrual{Unified: true, MaxConsecutive: u.GetMaxConsecutiveFailures(),
			Threshold: uint32(math.Round(t * 10000)), Window: window, MinRequests: u.GetMinRequests(), Backoff: b,
			RetryAfter: u.GetBackoff().GetRespectRetryAfterHint()}, nil
	}
	return nil, missing("failure accrual kind")
}
