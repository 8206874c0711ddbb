package names

// Annotations of Services, EgressNetworks and routes that shape traffic, by control plane
// chapter, section 3.3. Their durations are an integer and one of ms, s, m, h, d, or 0.
const (
	// AnnotationRetryHTTP lists the HTTP statuses to retry.
	AnnotationRetryHTTP = "retry.linkerd.io/http"
	// AnnotationRetryGRPC lists the gRPC codes to retry.
	AnnotationRetryGRPC = "retry.linkerd.io/grpc"
	// AnnotationRetryLimit is the number of retries of a request.
	AnnotationRetryLimit = "retry.linkerd.io/limit"
	// AnnotationRetryTimeout limits each attempt.
	AnnotationRetryTimeout = "retry.linkerd.io/timeout"

	// AnnotationTimeoutRequest limits the whole exchange.
	AnnotationTimeoutRequest = "timeout.linkerd.io/request"
	// AnnotationTimeoutResponse limits the time from the request's end to the response's end.
	AnnotationTimeoutResponse = "timeout.linkerd.io/response"
	// AnnotationTimeoutIdle limits the time without a frame.
	AnnotationTimeoutIdle = "timeout.linkerd.io/idle"

	// AnnotationFailureAccrual is one of the FailureAccrual constants.
	AnnotationFailureAccrual = "balancer.linkerd.io/failure-accrual"
	// AnnotationFailureAccrualMaxFailures is the number of failures in a row that takes an
	// endpoint out.
	AnnotationFailureAccrualMaxFailures = "balancer.linkerd.io/failure-accrual-consecutive-max-failures"
	// AnnotationFailureAccrualMinPenalty is the first time that an endpoint stays out.
	AnnotationFailureAccrualMinPenalty = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty"
	// AnnotationFailureAccrualMaxPenalty is the longest time that an endpoint stays out.
	AnnotationFailureAccrualMaxPenalty = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty"
	// AnnotationFailureAccrualJitterRatio is the random share added to a penalty.
	AnnotationFailureAccrualJitterRatio = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio"
	// AnnotationFailureAccrualSuccessRateThreshold is the success rate below which an endpoint
	// is taken out, in unified mode.
	AnnotationFailureAccrualSuccessRateThreshold = "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold"
	// AnnotationFailureAccrualSuccessRateWindow is the time over which the rate is measured.
	AnnotationFailureAccrualSuccessRateWindow = "balancer.alpha.linkerd.io/failure-accrual-success-rate-window"
	// AnnotationFailureAccrualSuccessRateMinRequests is the number of requests below which
	// there is no verdict.
	AnnotationFailureAccrualSuccessRateMinRequests = "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests"
	// AnnotationFailureAccrualHonorRetryAfter lets a server's Retry-After lengthen a penalty.
	AnnotationFailureAccrualHonorRetryAfter = "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after"

	// AnnotationPenalizeFailures makes failing endpoints look slow; Services only.
	AnnotationPenalizeFailures = "balancer.alpha.linkerd.io/penalize-failures"
	// AnnotationLoadBiaserPenalty is the latency that a failure counts as.
	AnnotationLoadBiaserPenalty = "balancer.alpha.linkerd.io/load-biaser-penalty"
	// AnnotationLoadBiaserMaxRetryAfter limits how much Retry-After is honoured.
	AnnotationLoadBiaserMaxRetryAfter = "balancer.alpha.linkerd.io/load-biaser-max-retry-after"
)

// Annotations of Services and EgressNetworks, and those of retries also of routes, that are
// ours, not upstream's: docs/traffic.md.
const (
	// AnnotationQueueCapacity is how many requests or connections may wait for an endpoint.
	AnnotationQueueCapacity = "balancer.linkerd.io/queue-capacity"
	// AnnotationFailfastTimeout is how long the first of them waits before all fail at once.
	AnnotationFailfastTimeout = "balancer.linkerd.io/failfast-timeout"
	// AnnotationDetectTimeout is how long the first bytes of a connection are waited for.
	AnnotationDetectTimeout = "timeout.linkerd.io/detect"
	// AnnotationFailureAccrualMinReady is how many endpoints, or which percentage of them,
	// failure accrual has to leave in.
	AnnotationFailureAccrualMinReady = "balancer.linkerd.io/failure-accrual-min-ready-endpoints"
	// AnnotationLoadBiaserPenaltyDecay is how fast a penalty is forgotten.
	AnnotationLoadBiaserPenaltyDecay = "balancer.alpha.linkerd.io/load-biaser-penalty-decay"
	// AnnotationSessionAffinity sends what belongs together to one endpoint:
	// `header:NAME`, `cookie:NAME` or SessionAffinityClient.
	AnnotationSessionAffinity = "balancer.linkerd.io/session-affinity"
	// AnnotationSessionAffinityMaxLoad is how many requests an endpoint may have in flight for
	// that, as a percentage of its share.
	AnnotationSessionAffinityMaxLoad = "balancer.linkerd.io/session-affinity-max-load"
	// AnnotationRetryMaxRequestBytes is how long the body of a request may be that is retried.
	AnnotationRetryMaxRequestBytes = "retry.linkerd.io/max-request-bytes"
	// AnnotationRetryBudgetPercent is how many retries there may be for a hundred requests.
	AnnotationRetryBudgetPercent = "retry.linkerd.io/budget-percent"
	// AnnotationRetryBudgetMinPerSecond is how many there may be in any case.
	AnnotationRetryBudgetMinPerSecond = "retry.linkerd.io/budget-min-per-second"
)

// Values of AnnotationSessionAffinity; a name follows the first two.
const (
	SessionAffinityHeader = "header:"
	SessionAffinityCookie = "cookie:"
	SessionAffinityClient = "client"
)

// Annotations of HTTPLocalRateLimitPolicies that are ours, not upstream's: docs/policy.md.
const (
	// AnnotationRateLimitScope says whose requests a limit is about: RateLimitScopeProxy, which
	// is so without it, or RateLimitScopeServer.
	AnnotationRateLimitScope = "ratelimit.linkerd.io/scope"
	// AnnotationRateLimitBurst is how long a limit may have been unused for all that it would
	// have let in to come at once.
	AnnotationRateLimitBurst = "ratelimit.linkerd.io/burst"

	// RateLimitScopeProxy has each proxy let in as much as the limit says, RateLimitScopeServer
	// all ready workloads of the Server together.
	RateLimitScopeProxy  = "proxy"
	RateLimitScopeServer = "server"
)

// AnnotationProbePaths lists further paths, separated by commas, at which the HTTP probes of a
// pod end because the application redirects them. It is ours, not upstream's: docs/policy.md.
const AnnotationProbePaths = "probe.linkerd.io/redirect-paths"

// Annotations of Services, EgressNetworks, HTTPRoutes and GRPCRoutes that make requests slow
// or fail on purpose. They are ours, not upstream's: docs/faults.md.
const (
	// AnnotationFaultDelay is how long requests are held before they go on.
	AnnotationFaultDelay = "fault.linkerd.io/delay"
	// AnnotationFaultDelayPercent is the share of requests that are held, from 0 to 100; all
	// without it.
	AnnotationFaultDelayPercent = "fault.linkerd.io/delay-percent"
	// AnnotationFaultAbortHTTP is the status, from 400 to 599, that HTTP requests are answered
	// with instead of going on.
	AnnotationFaultAbortHTTP = "fault.linkerd.io/abort-http"
	// AnnotationFaultAbortGRPC is the code that gRPC calls are answered with: its name, in
	// lower case and with hyphens, or its number.
	AnnotationFaultAbortGRPC = "fault.linkerd.io/abort-grpc"
	// AnnotationFaultAbortPercent is the share of requests that are aborted, from 0 to 100;
	// all without it.
	AnnotationFaultAbortPercent = "fault.linkerd.io/abort-percent"
)

// Values of AnnotationFailureAccrual.
const (
	FailureAccrualConsecutive = "consecutive"
	FailureAccrualUnified     = "unified"
)

// Values of a Service port's appProtocol that the mesh knows, compared without case. Any
// other value makes a port opaque, and none asks for detection.
const (
	AppProtocolHTTP   = "http"
	AppProtocolH2C    = "kubernetes.io/h2c"
	AppProtocolOpaque = "linkerd.io/opaque"
	AppProtocolTCP    = "linkerd.io/tcp"
)

// Values of a Server's proxyProtocol.
const (
	ProxyProtocolUnknown = "unknown"
	ProxyProtocolHTTP1   = "HTTP/1"
	ProxyProtocolHTTP2   = "HTTP/2"
	ProxyProtocolGRPC    = "gRPC"
	ProxyProtocolOpaque  = "opaque"
	ProxyProtocolTLS     = "TLS"
)
