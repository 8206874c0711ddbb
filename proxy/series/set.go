package series

import (
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/metric"
)

// Set has all families that the paths count in. Those of the process, of
// identity and of DNS are added by their owners.
type Set struct {
	reg *metric.Registry
	// Names bounds the values of labels that peers choose: server names of
	// passed-through TLS, authorities, names in transport headers.
	Names *Vocabulary

	// Endpoint metrics, section 23.2.
	requests, latency, responses *metric.Family
	// Profile route metrics, section 23.3.
	routeRequests, routeLatency, routeResponses *metric.Family
	actualRequests, actualResponses             *metric.Family
	Retryable                                   *metric.Family
	// Control client metrics, section 23.4.
	controlRequests, controlLatency, controlResponses *metric.Family
	// Transport metrics, section 23.5.
	tcpOpen, tcpOpenNow, tcpRead, tcpWrite, tcpClose *metric.Family

	// Authorization and error metrics, section 23.6.
	HTTPAllow, HTTPDeny, HTTPNoRoute, HTTPRateLimit *metric.Family
	TCPAllow, TCPDeny, TCPTerminate                 *metric.Family
	InboundHTTPErrors, InboundTCPErrors             *metric.Family
	// InvalidPolicy is ours: inbound requests and connections that were refused
	// because the policy of their port cannot be used.
	InvalidPolicy                         *metric.Family
	OutboundHTTPErrors, OutboundTCPErrors *metric.Family
	// StackCreate and StackDrop, section 23.7.
	StackCreate, StackDrop *metric.Family

	// Registry families, sections 23.8 and 23.9.
	InboundDetect, OutboundDetect Detect
	TransportHeaders              *metric.Family
	inHTTP, inGRPC                inboundRoute
	OutboundProtocols             *metric.Family
	outHTTP, outGRPC              outboundRoute
	TCPRouteOpen, TCPRouteClose   *metric.Family
	TLSRouteOpen, TLSRouteClose   *metric.Family
	transferCost                  *metric.Family
	// Balancers, section 23.10.
	HTTPBalancer, TCPBalancer, TLSBalancer *Balancer
}

// Detect are the families of protocol detection.
type Detect struct{ Duration, Results *metric.Family }

// inboundRoute are the families of inbound routes, for HTTP or for gRPC.
type inboundRoute struct {
	requests, requestDuration, responseDuration, requestFrames, responseFrames, statuses *metric.Family
}

// outboundRoute are the families of outbound routes and their backends, for
// HTTP or for gRPC.
type outboundRoute struct {
	duration, statuses, frames                                       *metric.Family
	retries, retrySuccesses, retryLimit, retryOverflow               *metric.Family
	backendRequests, backendDuration, backendStatuses, backendFrames *metric.Family
}

// maxNames is how many names that peers choose labels have.
const maxNames = 200

// latencyBuckets are the upper bounds of legacy latencies, in milliseconds.
var latencyBuckets = []float64{
	1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000,
	10000, 20000, 30000, 40000, 50000,
}

// New adds the families to the registry.
func New(reg *metric.Registry) *Set {
	s := &Set{reg: reg, Names: NewVocabulary(maxNames, 10*time.Minute, time.Now)}
	exp := metric.Option(metric.Expires)
	ms := metric.Buckets(1, latencyBuckets...)
	legacy := reg.Legacy

	s.requests = legacy("request_total", "Total count of HTTP requests.", exp)
	s.latency = legacy("response_latency_ms", "Elapsed times between a request's headers being received and its response stream's first frame.", exp, ms)
	s.responses = legacy("response_total", "Total count of HTTP responses.", exp)
	s.routeRequests = legacy("route_request_total", "Total count of HTTP requests by profile route.", exp)
	s.routeLatency = legacy("route_response_latency_ms", "Response latencies by profile route.", exp, ms)
	s.routeResponses = legacy("route_response_total", "Total count of HTTP responses by profile route.", exp)
	s.actualRequests = legacy("route_actual_request_total", "Total count of HTTP requests by profile route, retries included.", exp)
	s.actualResponses = legacy("route_actual_response_total", "Total count of HTTP responses by profile route, retries included.", exp)
	s.Retryable = legacy("route_retryable_total", "Total count of retryable HTTP responses by profile route.", exp)
	s.controlRequests = legacy("control_request_total", "Total count of requests to controllers.", exp)
	s.controlLatency = legacy("control_response_latency_ms", "Response latencies of controllers.", exp, ms)
	s.controlResponses = legacy("control_response_total", "Total count of responses of controllers.", exp)
	s.tcpOpen = legacy("tcp_open_total", "Total count of opened connections.", exp)
	s.tcpOpenNow = legacy("tcp_open_connections", "Number of currently-open connections.", exp, metric.Gauge)
	s.tcpRead = legacy("tcp_read_bytes_total", "Total count of bytes read from peers.", exp)
	s.tcpWrite = legacy("tcp_write_bytes_total", "Total count of bytes written to peers.", exp)
	s.tcpClose = legacy("tcp_close_total", "Total count of closed connections.", exp)

	s.HTTPAllow = legacy("inbound_http_authz_allow_total", "The total number of inbound HTTP requests that were authorized.")
	s.HTTPDeny = legacy("inbound_http_authz_deny_total", "The total number of inbound HTTP requests that could not be processed due to being unauthorized.")
	s.HTTPNoRoute = legacy("inbound_http_route_not_found_total", "The total number of inbound HTTP requests that could not be associated with a route.")
	s.HTTPRateLimit = legacy("inbound_http_local_ratelimit_total", "The total number of inbound HTTP requests that could not be processed due to being rate-limited.")
	s.TCPAllow = legacy("inbound_tcp_authz_allow_total", "The total number of inbound TCP connections that were authorized.")
	s.TCPDeny = legacy("inbound_tcp_authz_deny_total", "The total number of inbound TCP connections that were denied.")
	s.TCPTerminate = legacy("inbound_tcp_authz_terminate_total", "The total number of inbound TCP connections that were terminated due to an authorization change.")
	s.InboundHTTPErrors = legacy("inbound_http_errors_total", "The total number of inbound HTTP requests that could not be processed due to a proxy error.")
	s.InboundTCPErrors = legacy("inbound_tcp_errors_total", "The total number of inbound TCP connections that could not be processed due to a proxy error.")
	s.InvalidPolicy = legacy("inbound_policy_invalid_total", "The total number of inbound requests and connections that were refused because the policy of their port could not be used.")
	s.OutboundHTTPErrors = legacy("outbound_http_errors_total", "The total number of outbound HTTP requests that could not be processed due to a proxy error.")
	s.OutboundTCPErrors = legacy("outbound_tcp_errors_total", "The total number of outbound TCP connections that could not be processed due to a proxy error.")
	s.StackCreate = legacy("stack_create_total", "Total number of services created.")
	s.StackDrop = legacy("stack_drop_total", "Total number of services dropped.")

	s.InboundDetect = detect(reg, "inbound_tcp_detect_http")
	s.TransportHeaders = reg.Open("inbound_tcp_transport_header_connections", "TCP connections with transport headers")
	s.inHTTP = inbound(reg, "inbound_http", "HTTP")
	s.inGRPC = inbound(reg, "inbound_grpc", "gRPC")
	s.OutboundProtocols = reg.Open("outbound_tcp_protocol_connections", "Outbound TCP connections by protocol configuration")
	s.OutboundDetect = detect(reg, "outbound_tcp_detect_http")
	s.outHTTP = outbound(reg, "outbound_http", "HTTP")
	s.outGRPC = outbound(reg, "outbound_grpc", "gRPC")
	s.TCPRouteOpen = reg.Open("outbound_tcp_route_open", "The number of TCP connections opened on a route")
	s.TCPRouteClose = reg.Open("outbound_tcp_route_close", "The number of TCP connections closed on a route")
	s.TLSRouteOpen = reg.Open("outbound_tls_route_open", "The number of TLS connections opened on a route")
	s.TLSRouteClose = reg.Open("outbound_tls_route_close", "The number of TLS connections closed on a route")
	s.transferCost = reg.Open("outbound_tcp_transfer_cost_bytes", "The total amount of data sent and received by zone locality", metric.Unit("bytes"))
	s.HTTPBalancer = NewBalancer(reg, "outbound_http_balancer")
	s.TCPBalancer = NewBalancer(reg, "outbound_tcp_balancer")
	s.TLSBalancer = NewBalancer(reg, "outbound_tls_balancer")
	return s
}

// seconds makes a family of durations.
func seconds(bounds ...float64) []metric.Option {
	return []metric.Option{metric.Unit("seconds"), metric.Buckets(1e9, bounds...)}
}

// frames makes a family of sizes.
func frames() []metric.Option {
	return []metric.Option{metric.Unit("bytes"), metric.Buckets(1, 128, 1024, 10240)}
}

func detect(reg *metric.Registry, name string) Detect {
	return Detect{
		Duration: reg.Open(name+"_duration_seconds", "Time taken for protocol detection", seconds(0.001, 0.1)...),
		Results:  reg.Open(name+"_results", "Protocol detection results"),
	}
}

func inbound(reg *metric.Registry, prefix, what string) inboundRoute {
	return inboundRoute{
		requests:         reg.Open(prefix+"_requests", "Inbound "+what+" requests"),
		requestDuration:  reg.Open(prefix+"_request_duration_seconds", "The time between request initialization and response completion", seconds(0.025, 0.05, 0.1, 0.25, 0.5, 1, 10)...),
		responseDuration: reg.Open(prefix+"_response_duration_seconds", "The time between request completion and response completion", seconds(0.05, 0.5, 1, 10)...),
		requestFrames:    reg.Open(prefix+"_request_frame_size_bytes", "Request body data frame sizes", frames()...),
		responseFrames:   reg.Open(prefix+"_response_frame_size_bytes", "Response body data frame sizes", frames()...),
		statuses:         reg.Open(prefix+"_statuses", "Completed responses by status"),
	}
}

func outbound(reg *metric.Registry, prefix, what string) outboundRoute {
	route := prefix + "_route_"
	return outboundRoute{
		duration:        reg.Open(route+"request_duration_seconds", "The time between request initialization and response completion", seconds(0.05, 0.5, 1, 10)...),
		statuses:        reg.Open(route+"request_statuses", "Completed "+what+" request-response streams"),
		frames:          reg.Open(route+"request_frame_size_bytes", "Request body data frame sizes", frames()...),
		retries:         reg.Open(route+"retry_requests", "Retry requests emitted"),
		retrySuccesses:  reg.Open(route+"retry_successes", "Successful responses to retry requests"),
		retryLimit:      reg.Open(route+"retry_limit_exceeded", "Responses that could not be retried because of the limit"),
		retryOverflow:   reg.Open(route+"retry_overflow", "Retries that were not made because the backend was not ready"),
		backendRequests: reg.Open(route+"backend_requests", "The total number of requests dispatched to a backend"),
		backendDuration: reg.Open(route+"backend_response_duration_seconds", "The time between request completion and response completion", seconds(0.025, 0.05, 0.1, 0.25, 0.5, 1, 10)...),
		backendStatuses: reg.Open(route+"backend_response_statuses", "Completed responses by status"),
		backendFrames:   reg.Open(route+"backend_response_frame_size_bytes", "Response body data frame sizes", frames()...),
	}
}
