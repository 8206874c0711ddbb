package serve

import (
	"cmp"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	grpcroutepb "github.com/linkerd-go/linkerd-go/api/proto/grpcroute"
	httproutepb "github.com/linkerd-go/linkerd-go/api/proto/httproute"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	opaqueroutepb "github.com/linkerd-go/linkerd-go/api/proto/opaqueroute"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	tlsroutepb "github.com/linkerd-go/linkerd-go/api/proto/tlsroute"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
)

// Values that no resource changes. Source: proxy API chapter, sections 6.5 and 6.8.
const (
	queueCapacity   = 100
	failfastTimeout = 3 * time.Second
	defaultRTT      = 30 * time.Millisecond
	decay           = 10 * time.Second
	retryMinBackoff = 25 * time.Millisecond
	retryMaxBackoff = 250 * time.Millisecond
	retryJitter     = 1
	budgetTTL       = 10 * time.Second
)

// Outbound encodes where a proxy sends what it is asked to send.
func Outbound(policy *core.OutboundPolicy) *outboundpb.OutboundPolicy {
	return &outboundpb.OutboundPolicy{Metadata: metadata(policy.Parent), Protocol: outboundProtocol(policy)}
}

func outboundProtocol(p *core.OutboundPolicy) *outboundpb.ProxyProtocol {
	http1 := func() *outboundpb.ProxyProtocol_Http1 {
		return &outboundpb.ProxyProtocol_Http1{Routes: httpRoutes(p.HTTPRoutes), FailureAccrual: accrual(p.Accrual)}
	}
	http2 := func() *outboundpb.ProxyProtocol_Http2 {
		return &outboundpb.ProxyProtocol_Http2{Routes: httpRoutes(p.HTTPRoutes), FailureAccrual: accrual(p.Accrual)}
	}
	opaque := &outboundpb.ProxyProtocol_Opaque{Routes: opaqueRoutes(p.OpaqueRoutes)}
	switch p.Protocol {
	case core.ProtocolHTTP1:
		return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Http1_{Http1: http1()}}
	case core.ProtocolHTTP2:
		return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Http2_{Http2: http2()}}
	case core.ProtocolGRPC:
		grpc := &outboundpb.ProxyProtocol_Grpc{Routes: grpcRoutes(p.GRPCRoutes), FailureAccrual: accrual(p.Accrual)}
		if len(p.HTTPRoutes) > 0 {
			grpc.Http1, grpc.Opaque, grpc.Tls = http1(), opaque, tlsBeside(p.TLSRoutes)
			grpc.DetectTimeout = limit(p.Detect)
		}
		return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Grpc_{Grpc: grpc}}
	case core.ProtocolTLS:
		return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Tls_{Tls: &outboundpb.ProxyProtocol_Tls{Routes: tlsRoutes(p.TLSRoutes)}}}
	case core.ProtocolOpaque:
		return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Opaque_{Opaque: opaque}}
	}
	return &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Detect_{Detect: &outboundpb.ProxyProtocol_Detect{
		Timeout: durationpb.New(cmp.Or(p.Detect, detectTimeout)), TimeoutSet: p.Detect != 0, Opaque: opaque, Http1: http1(), Http2: http2(), Tls: tlsBeside(p.TLSRoutes),
	}}}
}

func accrual(a *core.FailureAccrual) *outboundpb.FailureAccrual {
	if a == nil {
		return nil
	}
	encoded := &outboundpb.FailureAccrual{}
	if e := a.Ejection; e != (core.Ejection{}) {
		encoded.Ejection = &outboundpb.EjectionConfig{MinReadyEndpoints: e.Count, MinReadyPercent: e.Percent}
	}
	backoff := &outboundpb.ExponentialBackoff{
		MinBackoff:            durationpb.New(a.Backoff.Min),
		MaxBackoff:            durationpb.New(a.Backoff.Max),
		JitterRatio:           float32(a.Backoff.Jitter),
		RespectRetryAfterHint: a.Backoff.RetryAfter,
	}
	if a.Unified {
		encoded.Kind = &outboundpb.FailureAccrual_Unified_{Unified: &outboundpb.FailureAccrual_Unified{
			SuccessRateThreshold:   a.Threshold,
			Decay:                  durationpb.New(a.Window),
			MinRequests:            a.MinRequests,
			MaxConsecutiveFailures: a.MaxFailures,
			Backoff:                backoff,
		}}
		return encoded
	}
	encoded.Kind = &outboundpb.FailureAccrual_ConsecutiveFailures_{
		ConsecutiveFailures: &outboundpb.FailureAccrual_ConsecutiveFailures{MaxFailures: a.MaxFailures, Backoff: backoff},
	}
	return encoded
}

// tlsBeside encodes routes for TLS at a port that HTTP comes to as well; none is nil.
func tlsBeside(list []core.OutboundRoute) *outboundpb.ProxyProtocol_Tls {
	if len(list) == 0 {
		return nil
	}
	return &outboundpb.ProxyProtocol_Tls{Routes: tlsRoutes(list)}
}

// limit encodes a duration of which 0 means none.
func limit(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func timeouts(t *core.Timeouts) *httproutepb.Timeouts {
	if t == nil {
		return nil
	}
	return &httproutepb.Timeouts{Request: limit(t.Request), Response: limit(t.Response), Idle: limit(t.Idle)}
}

func retryBackoff() *outboundpb.ExponentialBackoff {
	return &outboundpb.ExponentialBackoff{
		MinBackoff: durationpb.New(retryMinBackoff), MaxBackoff: durationpb.New(retryMaxBackoff), JitterRatio: retryJitter,
	}
}

func httpRetry(r *core.Retry) *outboundpb.HttpRoute_Retry {
	if r == nil {
		return nil
	}
	conditions := &outboundpb.HttpRoute_Retry_Conditions{}
	for _, s := range r.Statuses {
		conditions.StatusRanges = append(conditions.StatusRanges, &outboundpb.HttpRoute_Retry_Conditions_StatusRange{Start: uint32(s.First), End: uint32(s.Last)})
	}
	return &outboundpb.HttpRoute_Retry{
		MaxRetries: uint32(r.Limit), MaxRequestBytes: r.MaxRequestBytes, Conditions: conditions, Timeout: limit(r.Timeout), Backoff: retryBackoff(),
		Budget: retryBudget(r.Budget),
	}
}

// retryBudget encodes a budget; none is nil.
func retryBudget(b *core.RetryBudget) *destinationpb.RetryBudget {
	if b == nil {
		return nil
	}
	return &destinationpb.RetryBudget{
		RetryRatio: float32(b.Percent / 100), MinRetriesPerSecond: b.MinPerSecond, Ttl: durationpb.New(budgetTTL),
	}
}

func grpcRetry(r *core.Retry) *outboundpb.GrpcRoute_Retry {
	if r == nil {
		return nil
	}
	return &outboundpb.GrpcRoute_Retry{
		MaxRetries: uint32(r.Limit), MaxRequestBytes: r.MaxRequestBytes, Timeout: limit(r.Timeout), Backoff: retryBackoff(),
		Budget: retryBudget(r.Budget),
		Conditions: &outboundpb.GrpcRoute_Retry_Conditions{
			Cancelled:         r.Codes.Cancelled,
			DeadineExceeded:   r.Codes.DeadlineExceeded,
			ResourceExhausted: r.Codes.ResourceExhausted,
			Internal:          r.Codes.Internal,
			Unavailable:       r.Codes.Unavailable,
		},
	}
}

// requestTimeout is the older form of a rule's timeout.
func requestTimeout(t *core.Timeouts) *durationpb.Duration {
	if t == nil {
		return nil
	}
	return limit(t.Request)
}

// backend encodes a backend, all kinds of which are the same for all kinds of routes.
func backend(b core.Backend) *outboundpb.Backend {
	encoded := &outboundpb.Backend{
		Metadata: metadata(b.Ref),
		Queue: &outboundpb.Queue{
			Capacity:           cmp.Or(b.Queue.Capacity, queueCapacity),
			FailfastTimeout:    durationpb.New(cmp.Or(b.Queue.Failfast, failfastTimeout)),
			CapacitySet:        b.Queue.Capacity != 0,
			FailfastTimeoutSet: b.Queue.Failfast != 0,
		},
	}
	switch {
	case b.Invalid != "":
	case b.Path != "":
		balancer := &outboundpb.Backend_BalanceP2C{Discovery: &outboundpb.Backend_EndpointDiscovery{
			Kind: &outboundpb.Backend_EndpointDiscovery_Dst{Dst: &outboundpb.Backend_EndpointDiscovery_DestinationGet{Path: b.Path}},
		}}
		if b.Biaser == nil {
			balancer.Load = &outboundpb.Backend_BalanceP2C_PeakEwma_{PeakEwma: &outboundpb.Backend_BalanceP2C_PeakEwma{
				DefaultRtt: durationpb.New(defaultRTT), Decay: durationpb.New(decay),
			}}
		} else {
			balancer.Load = &outboundpb.Backend_BalanceP2C_PenaltyPeakEwma_{PenaltyPeakEwma: &outboundpb.Backend_BalanceP2C_PenaltyPeakEwma{
				DefaultRtt:    durationpb.New(defaultRTT),
				Decay:         durationpb.New(decay),
				Penalty:       durationpb.New(b.Biaser.Penalty),
				MaxRetryAfter: durationpb.New(b.Biaser.MaxRetryAfter),
				PenaltyDecay:  durationpb.New(b.Biaser.PenaltyDecay),
			}}
		}
		balancer.SessionAffinity = sessionAffinity(b.Affinity)
		encoded.Kind = &outboundpb.Backend_Balancer{Balancer: balancer}
	case b.Forward.IsValid():
		encoded.Kind = &outboundpb.Backend_Forward{Forward: &destinationpb.WeightedAddr{
			Addr:   &netpb.TcpAddress{Ip: ip(b.Forward.Addr()), Port: uint32(b.Forward.Port())},
			Weight: 1,
		}}
	}
	return encoded
}

// sessionAffinity encodes what sessions are; none is nil.
func sessionAffinity(a core.Affinity) *outboundpb.SessionAffinity {
	encoded := &outboundpb.SessionAffinity{MaxLoadPercent: a.MaxLoad}
	switch {
	case a.Header != "":
		encoded.By = &outboundpb.SessionAffinity_Header{Header: a.Header}
	case a.Cookie != "":
		encoded.By = &outboundpb.SessionAffinity_Cookie{Cookie: a.Cookie}
	case a.Client:
		encoded.By = &outboundpb.SessionAffinity_Client{Client: true}
	default:
		return nil
	}
	return encoded
}

// refusal is the filter of a backend that cannot be used.
func refusal(b core.Backend) []core.Filter {
	if b.Invalid == "" {
		return b.Filters
	}
	return []core.Filter{{
		// Clients of gRPC are told a code that they know, and that says that trying again is of no use.
		Fail:    &core.Failure{Status: http.StatusInternalServerError, Code: uint16(codes.Internal), Message: b.Invalid},
		Invalid: b.Invalid,
	}}
}

// HTTP.

func httpRoutes(list []core.OutboundRoute) []*outboundpb.HttpRoute {
	var encoded []*outboundpb.HttpRoute
	for _, r := range list {
		route := &outboundpb.HttpRoute{Metadata: metadata(r.Ref), Hosts: hosts(r.Hosts)}
		for _, rule := range r.Rules {
			route.Rules = append(route.Rules, &outboundpb.HttpRoute_Rule{
				Matches:                httpMatches(rule.HTTP),
				Filters:                httpFilters(rule.Filters),
				Backends:               httpBackends(rule.Backends),
				RequestTimeout:         requestTimeout(rule.Timeouts),
				Timeouts:               timeouts(rule.Timeouts),
				Retry:                  httpRetry(rule.Retry),
				AllowL5DRequestHeaders: rule.AllowRequestHeaders,
				BackendRequestTimeout:  limit(rule.AttemptTimeout),
			})
		}
		encoded = append(encoded, route)
	}
	return encoded
}

func httpFilters(list []core.Filter) []*outboundpb.HttpRoute_Filter {
	var encoded []*outboundpb.HttpRoute_Filter
	for _, f := range list {
		filter := &outboundpb.HttpRoute_Filter{}
		switch {
		case f.RequestHeaders != nil:
			filter.Kind = &outboundpb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: requestHeaders(f.RequestHeaders)}
		case f.ResponseHeaders != nil:
			filter.Kind = &outboundpb.HttpRoute_Filter_ResponseHeaderModifier{ResponseHeaderModifier: responseHeaders(f.ResponseHeaders)}
		case f.Redirect != nil:
			filter.Kind = &outboundpb.HttpRoute_Filter_Redirect{Redirect: redirect(f.Redirect)}
		case f.Rewrite != nil:
			filter.UrlRewrite = urlRewrite(f.Rewrite)
			filter.Kind = &outboundpb.HttpRoute_Filter_FailureInjector{FailureInjector: cannotRewrite()}
		case f.CORS != nil:
			// Without it browsers refuse by themselves.
			filter.Cors = cors(f.CORS)
			filter.Kind = noChange()
		case f.Mirror != nil:
			filter.RequestMirror = mirror(f.Mirror)
			filter.Kind = noChange()
		case f.Delay != nil:
			filter.Delay = delay(f.Delay)
			filter.Kind = noChange()
		case f.Fail != nil:
			filter.Kind = &outboundpb.HttpRoute_Filter_FailureInjector{FailureInjector: httpFailure(f.Fail)}
		}
		encoded = append(encoded, filter)
	}
	return encoded
}

// noChange is what proxies do that do not know a filter of ours: a filter without a kind would make them refuse the whole
// policy.
func noChange() *outboundpb.HttpRoute_Filter_RequestHeaderModifier {
	return &outboundpb.HttpRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &httproutepb.RequestHeaderModifier{}}
}

func cors(c *core.CORS) *httproutepb.Cors {
	return &httproutepb.Cors{
		AllowOrigins:     c.Origins,
		AllowCredentials: c.Credentials,
		AllowMethods:     c.Methods,
		AllowHeaders:     c.Headers,
		ExposeHeaders:    c.Expose,
		MaxAge:           limit(c.MaxAge),
	}
}

func urlRewrite(r *core.Rewrite) *httproutepb.UrlRewrite {
	return &httproutepb.UrlRewrite{Host: r.Host, Path: pathModifier(r.Path)}
}

// cannotRewrite is what a proxy does that does not know rewrites: it must not send the request to where it is not meant to go.
func cannotRewrite() *httproutepb.HttpFailureInjector {
	return &httproutepb.HttpFailureInjector{Status: http.StatusInternalServerError, Message: "this proxy cannot rewrite URLs"}
}

func delay(d *core.Delay) *httproutepb.Delay {
	return &httproutepb.Delay{Time: durationpb.New(d.Time), Ratio: ratio(d.Numerator, d.Denominator)}
}

func httpFailure(f *core.Failure) *httproutepb.HttpFailureInjector {
	return &httproutepb.HttpFailureInjector{Status: uint32(f.Status), Message: f.Message, Ratio: ratio(f.Numerator, f.Denominator)}
}

func grpcFailure(f *core.Failure) *grpcroutepb.GrpcFailureInjector {
	return &grpcroutepb.GrpcFailureInjector{Code: uint32(f.Code), Message: f.Message, Ratio: ratio(f.Numerator, f.Denominator)}
}

// ratio encodes a share; all of it is nil.
func ratio(numerator, denominator uint32) *httproutepb.Ratio {
	if numerator == denominator {
		return nil
	}
	return &httproutepb.Ratio{Numerator: numerator, Denominator: denominator}
}

func mirror(m *core.Mirror) *outboundpb.RequestMirror {
	return &outboundpb.RequestMirror{
		Backend: backend(*m.Backend),
		Ratio:   &httproutepb.Ratio{Numerator: m.Numerator, Denominator: m.Denominator},
	}
}

func httpBackends(d core.Distribution) *outboundpb.HttpRoute_Distribution {
	encode := func(b core.Backend) *outboundpb.HttpRoute_RouteBackend {
		return &outboundpb.HttpRoute_RouteBackend{Backend: backend(b), Filters: httpFilters(refusal(b))}
	}
	switch {
	case len(d.Backends) == 0:
		return &outboundpb.HttpRoute_Distribution{Kind: &outboundpb.HttpRoute_Distribution_Empty_{Empty: &outboundpb.HttpRoute_Distribution_Empty{}}}
	case !d.Random:
		first := &outboundpb.HttpRoute_Distribution_FirstAvailable{}
		for _, b := range d.Backends {
			first.Backends = append(first.Backends, encode(b))
		}
		return &outboundpb.HttpRoute_Distribution{Kind: &outboundpb.HttpRoute_Distribution_FirstAvailable_{FirstAvailable: first}}
	}
	random := &outboundpb.HttpRoute_Distribution_RandomAvailable{}
	for _, b := range d.Backends {
		random.Backends = append(random.Backends, &outboundpb.HttpRoute_WeightedRouteBackend{Backend: encode(b), Weight: b.Weight})
	}
	return &outboundpb.HttpRoute_Distribution{Kind: &outboundpb.HttpRoute_Distribution_RandomAvailable_{RandomAvailable: random}}
}

// gRPC.

func grpcRoutes(list []core.OutboundRoute) []*outboundpb.GrpcRoute {
	var encoded []*outboundpb.GrpcRoute
	for _, r := range list {
		route := &outboundpb.GrpcRoute{Metadata: metadata(r.Ref), Hosts: hosts(r.Hosts)}
		for _, rule := range r.Rules {
			route.Rules = append(route.Rules, &outboundpb.GrpcRoute_Rule{
				Matches:                grpcMatches(rule.GRPC),
				Filters:                grpcFilters(rule.Filters),
				Backends:               grpcBackends(rule.Backends),
				RequestTimeout:         requestTimeout(rule.Timeouts),
				Timeouts:               timeouts(rule.Timeouts),
				Retry:                  grpcRetry(rule.Retry),
				AllowL5DRequestHeaders: rule.AllowRequestHeaders,
			})
		}
		encoded = append(encoded, route)
	}
	return encoded
}

// grpcFilters encodes filters. What changes responses and what mirrors are extensions of ours, which other proxies skip.
func grpcFilters(list []core.Filter) []*outboundpb.GrpcRoute_Filter {
	var encoded []*outboundpb.GrpcRoute_Filter
	for _, f := range list {
		switch {
		case f.RequestHeaders != nil:
			encoded = append(encoded, &outboundpb.GrpcRoute_Filter{
				Kind: &outboundpb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: requestHeaders(f.RequestHeaders)},
			})
		case f.ResponseHeaders != nil:
			encoded = append(encoded, &outboundpb.GrpcRoute_Filter{Kind: unchanged(), ResponseHeaderModifier: responseHeaders(f.ResponseHeaders)})
		case f.Mirror != nil:
			encoded = append(encoded, &outboundpb.GrpcRoute_Filter{Kind: unchanged(), RequestMirror: mirror(f.Mirror)})
		case f.Delay != nil:
			encoded = append(encoded, &outboundpb.GrpcRoute_Filter{Kind: unchanged(), Delay: delay(f.Delay)})
		case f.Fail != nil:
			encoded = append(encoded, &outboundpb.GrpcRoute_Filter{
				Kind: &outboundpb.GrpcRoute_Filter_FailureInjector{FailureInjector: grpcFailure(f.Fail)},
			})
		}
	}
	return encoded
}

// unchanged is noChange for gRPC.
func unchanged() *outboundpb.GrpcRoute_Filter_RequestHeaderModifier {
	return &outboundpb.GrpcRoute_Filter_RequestHeaderModifier{RequestHeaderModifier: &httproutepb.RequestHeaderModifier{}}
}

func grpcBackends(d core.Distribution) *outboundpb.GrpcRoute_Distribution {
	encode := func(b core.Backend) *outboundpb.GrpcRoute_RouteBackend {
		return &outboundpb.GrpcRoute_RouteBackend{Backend: backend(b), Filters: grpcFilters(refusal(b))}
	}
	switch {
	case len(d.Backends) == 0:
		return &outboundpb.GrpcRoute_Distribution{Kind: &outboundpb.GrpcRoute_Distribution_Empty_{Empty: &outboundpb.GrpcRoute_Distribution_Empty{}}}
	case !d.Random:
		first := &outboundpb.GrpcRoute_Distribution_FirstAvailable{}
		for _, b := range d.Backends {
			first.Backends = append(first.Backends, encode(b))
		}
		return &outboundpb.GrpcRoute_Distribution{Kind: &outboundpb.GrpcRoute_Distribution_FirstAvailable_{FirstAvailable: first}}
	}
	random := &outboundpb.GrpcRoute_Distribution_RandomAvailable{}
	for _, b := range d.Backends {
		random.Backends = append(random.Backends, &outboundpb.GrpcRoute_WeightedRouteBackend{Backend: encode(b), Weight: b.Weight})
	}
	return &outboundpb.GrpcRoute_Distribution{Kind: &outboundpb.GrpcRoute_Distribution_RandomAvailable_{RandomAvailable: random}}
}

// TLS.

func tlsRoutes(list []core.OutboundRoute) []*outboundpb.TlsRoute {
	var encoded []*outboundpb.TlsRoute
	for _, r := range list {
		route := &outboundpb.TlsRoute{Metadata: metadata(r.Ref)}
		for _, h := range r.Hosts {
			match := &tlsroutepb.SniMatch{Match: &tlsroutepb.SniMatch_Exact{Exact: h.Name}}
			if h.Suffix {
				match.Match = &tlsroutepb.SniMatch_Suffix_{Suffix: &tlsroutepb.SniMatch_Suffix{ReverseLabels: reversed(h.Name)}}
			}
			route.Snis = append(route.Snis, match)
		}
		for _, rule := range r.Rules {
			route.Rules = append(route.Rules, &outboundpb.TlsRoute_Rule{Backends: tlsBackends(rule.Backends), Filters: tlsFilters(rule.Filters)})
		}
		encoded = append(encoded, route)
	}
	return encoded
}

func tlsFilters(list []core.Filter) []*outboundpb.TlsRoute_Filter {
	var encoded []*outboundpb.TlsRoute_Filter
	for _, f := range list {
		switch {
		case f.Forbidden:
			encoded = append(encoded, &outboundpb.TlsRoute_Filter{Kind: &outboundpb.TlsRoute_Filter_Forbidden{Forbidden: &opaqueroutepb.Forbidden{}}})
		case f.Invalid != "":
			encoded = append(encoded, &outboundpb.TlsRoute_Filter{Kind: &outboundpb.TlsRoute_Filter_Invalid{Invalid: &opaqueroutepb.Invalid{Message: f.Invalid}}})
		}
	}
	return encoded
}

func tlsBackends(d core.Distribution) *outboundpb.TlsRoute_Distribution {
	encode := func(b core.Backend) *outboundpb.TlsRoute_RouteBackend {
		return &outboundpb.TlsRoute_RouteBackend{Backend: backend(b), Filters: tlsFilters(refusal(b))}
	}
	switch {
	case len(d.Backends) == 0:
		return &outboundpb.TlsRoute_Distribution{Kind: &outboundpb.TlsRoute_Distribution_Empty_{Empty: &outboundpb.TlsRoute_Distribution_Empty{}}}
	case !d.Random:
		first := &outboundpb.TlsRoute_Distribution_FirstAvailable{}
		for _, b := range d.Backends {
			first.Backends = append(first.Backends, encode(b))
		}
		return &outboundpb.TlsRoute_Distribution{Kind: &outboundpb.TlsRoute_Distribution_FirstAvailable_{FirstAvailable: first}}
	}
	random := &outboundpb.TlsRoute_Distribution_RandomAvailable{}
	for _, b := range d.Backends {
		random.Backends = append(random.Backends, &outboundpb.TlsRoute_WeightedRouteBackend{Backend: encode(b), Weight: b.Weight})
	}
	return &outboundpb.TlsRoute_Distribution{Kind: &outboundpb.TlsRoute_Distribution_RandomAvailable_{RandomAvailable: random}}
}

// Opaque.

func opaqueRoutes(list []core.OutboundRoute) []*outboundpb.OpaqueRoute {
	var encoded []*outboundpb.OpaqueRoute
	for _, r := range list {
		route := &outboundpb.OpaqueRoute{Metadata: metadata(r.Ref)}
		for _, rule := range r.Rules {
			route.Rules = append(route.Rules, &outboundpb.OpaqueRoute_Rule{Backends: opaqueBackends(rule.Backends), Filters: opaqueFilters(rule.Filters)})
		}
		encoded = append(encoded, route)
	}
	return encoded
}

func opaqueFilters(list []core.Filter) []*outboundpb.OpaqueRoute_Filter {
	var encoded []*outboundpb.OpaqueRoute_Filter
	for _, f := range list {
		switch {
		case f.Forbidden:
			encoded = append(encoded, &outboundpb.OpaqueRoute_Filter{Kind: &outboundpb.OpaqueRoute_Filter_Forbidden{Forbidden: &opaqueroutepb.Forbidden{}}})
		case f.Invalid != "":
			encoded = append(encoded, &outboundpb.OpaqueRoute_Filter{Kind: &outboundpb.OpaqueRoute_Filter_Invalid{Invalid: &opaqueroutepb.Invalid{Message: f.Invalid}}})
		}
	}
	return encoded
}

func opaqueBackends(d core.Distribution) *outboundpb.OpaqueRoute_Distribution {
	encode := func(b core.Backend) *outboundpb.OpaqueRoute_RouteBackend {
		return &outboundpb.OpaqueRoute_RouteBackend{Backend: backend(b), Filters: opaqueFilters(refusal(b))}
	}
	switch {
	case len(d.Backends) == 0:
		return &outboundpb.OpaqueRoute_Distribution{Kind: &outboundpb.OpaqueRoute_Distribution_Empty_{Empty: &outboundpb.OpaqueRoute_Distribution_Empty{}}}
	case !d.Random:
		first := &outboundpb.OpaqueRoute_Distribution_FirstAvailable{}
		for _, b := range d.Backends {
			first.Backends = append(first.Backends, encode(b))
		}
		return &outboundpb.OpaqueRoute_Distribution{Kind: &outboundpb.OpaqueRoute_Distribution_FirstAvailable_{FirstAvailable: first}}
	}
	random := &outboundpb.OpaqueRoute_Distribution_RandomAvailable{}
	for _, b := range d.Backends {
		random.Backends = append(random.Backends, &outboundpb.OpaqueRoute_WeightedRouteBackend{Backend: encode(b), Weight: b.Weight})
	}
	return &outboundpb.OpaqueRoute_Distribution{Kind: &outboundpb.OpaqueRoute_Distribution_RandomAvailable_{RandomAvailable: random}}
}
