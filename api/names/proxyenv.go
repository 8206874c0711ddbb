package names

// EnvProxyPrefix begins the names of the proxy's environment variables.
const EnvProxyPrefix = "LINKERD2_PROXY_"

// The environment variables that configure the proxy, by proxy chapter, section 2; that
// section has the grammar and the default of each.
//
// Listeners.
const (
	// EnvOutboundListenAddr is the outbound listener; EnvOutboundListenAddrs wins over it.
	EnvOutboundListenAddr = EnvProxyPrefix + "OUTBOUND_LISTEN_ADDR"
	// EnvOutboundListenAddrs is one or two outbound listeners, separated by a comma.
	EnvOutboundListenAddrs = EnvProxyPrefix + "OUTBOUND_LISTEN_ADDRS"
	// EnvInboundListenAddr is the inbound listener.
	EnvInboundListenAddr = EnvProxyPrefix + "INBOUND_LISTEN_ADDR"
	// EnvControlListenAddr is the tap listener, open only with EnvTapSvcName.
	EnvControlListenAddr = EnvProxyPrefix + "CONTROL_LISTEN_ADDR"
	// EnvAdminListenAddr is the admin listener.
	EnvAdminListenAddr = EnvProxyPrefix + "ADMIN_LISTEN_ADDR"
	// EnvInboundTCPListenBacklog is the length of the listener's queue.
	EnvInboundTCPListenBacklog = EnvProxyPrefix + "INBOUND_TCP_LISTEN_BACKLOG"
	// EnvOutboundTCPListenBacklog is the length of the listener's queue.
	EnvOutboundTCPListenBacklog = EnvProxyPrefix + "OUTBOUND_TCP_LISTEN_BACKLOG"
)

// Lifecycle and runtime.
const (
	// EnvMetricsRetainIdle is how long unused metric series are kept.
	EnvMetricsRetainIdle = EnvProxyPrefix + "METRICS_RETAIN_IDLE"
	// EnvShutdownEndpointEnabled offers POST /shutdown on the admin listener.
	EnvShutdownEndpointEnabled = EnvProxyPrefix + "SHUTDOWN_ENDPOINT_ENABLED"
	// EnvShutdownGracePeriod is how long connections may drain.
	EnvShutdownGracePeriod = EnvProxyPrefix + "SHUTDOWN_GRACE_PERIOD"
	// EnvIngressMode makes outbound routes follow the request's authority.
	EnvIngressMode = EnvProxyPrefix + "INGRESS_MODE"
	// EnvCores is the older spelling of EnvCoresMin.
	EnvCores = EnvProxyPrefix + "CORES"
	// EnvCoresMin is the least number of workers.
	EnvCoresMin = EnvProxyPrefix + "CORES_MIN"
	// EnvCoresMax is the greatest number of workers.
	EnvCoresMax = EnvProxyPrefix + "CORES_MAX"
	// EnvCoresMaxRatio is the greatest number of workers as a share of the CPUs.
	EnvCoresMaxRatio = EnvProxyPrefix + "CORES_MAX_RATIO"
	// EnvLog is the log filter.
	EnvLog = EnvProxyPrefix + "LOG"
	// EnvLogFormat is plain or json.
	EnvLogFormat = EnvProxyPrefix + "LOG_FORMAT"
	// EnvAccessLog is apache or json.
	EnvAccessLog = EnvProxyPrefix + "ACCESS_LOG"
)

// TCP keepalive (idle time) and user timeout of sockets, by side.
const (
	// EnvInboundAcceptKeepalive is for connections from clients.
	EnvInboundAcceptKeepalive = EnvProxyPrefix + "INBOUND_ACCEPT_KEEPALIVE"
	// EnvOutboundAcceptKeepalive is for connections from the workload.
	EnvOutboundAcceptKeepalive = EnvProxyPrefix + "OUTBOUND_ACCEPT_KEEPALIVE"
	// EnvInboundConnectKeepalive is for connections to the workload.
	EnvInboundConnectKeepalive = EnvProxyPrefix + "INBOUND_CONNECT_KEEPALIVE"
	// EnvOutboundConnectKeepalive is for connections to endpoints.
	EnvOutboundConnectKeepalive = EnvProxyPrefix + "OUTBOUND_CONNECT_KEEPALIVE"
	// EnvInboundAcceptUserTimeout is for connections from clients.
	EnvInboundAcceptUserTimeout = EnvProxyPrefix + "INBOUND_ACCEPT_USER_TIMEOUT"
	// EnvOutboundAcceptUserTimeout is for connections from the workload.
	EnvOutboundAcceptUserTimeout = EnvProxyPrefix + "OUTBOUND_ACCEPT_USER_TIMEOUT"
	// EnvInboundConnectUserTimeout is for connections to the workload.
	EnvInboundConnectUserTimeout = EnvProxyPrefix + "INBOUND_CONNECT_USER_TIMEOUT"
	// EnvOutboundConnectUserTimeout is for connections to endpoints.
	EnvOutboundConnectUserTimeout = EnvProxyPrefix + "OUTBOUND_CONNECT_USER_TIMEOUT"
)

// Tuning of the data path.
const (
	// EnvInboundDetectTimeout limits protocol detection.
	EnvInboundDetectTimeout = EnvProxyPrefix + "INBOUND_DETECT_TIMEOUT"
	// EnvOutboundDetectTimeout limits protocol detection.
	EnvOutboundDetectTimeout = EnvProxyPrefix + "OUTBOUND_DETECT_TIMEOUT"
	// EnvInboundConnectTimeout limits connecting to the workload.
	EnvInboundConnectTimeout = EnvProxyPrefix + "INBOUND_CONNECT_TIMEOUT"
	// EnvOutboundConnectTimeout limits connecting to endpoints and controllers.
	EnvOutboundConnectTimeout = EnvProxyPrefix + "OUTBOUND_CONNECT_TIMEOUT"
	// EnvInboundConnectExpBackoffMin is the first wait before connecting again.
	EnvInboundConnectExpBackoffMin = EnvProxyPrefix + "INBOUND_CONNECT_EXP_BACKOFF_MIN"
	// EnvInboundConnectExpBackoffMax is the longest wait before connecting again.
	EnvInboundConnectExpBackoffMax = EnvProxyPrefix + "INBOUND_CONNECT_EXP_BACKOFF_MAX"
	// EnvInboundConnectExpBackoffJitter is the random share of the wait.
	EnvInboundConnectExpBackoffJitter = EnvProxyPrefix + "INBOUND_CONNECT_EXP_BACKOFF_JITTER"
	// EnvOutboundConnectExpBackoffMin is the first wait before connecting again.
	EnvOutboundConnectExpBackoffMin = EnvProxyPrefix + "OUTBOUND_CONNECT_EXP_BACKOFF_MIN"
	// EnvOutboundConnectExpBackoffMax is the longest wait before connecting again.
	EnvOutboundConnectExpBackoffMax = EnvProxyPrefix + "OUTBOUND_CONNECT_EXP_BACKOFF_MAX"
	// EnvOutboundConnectExpBackoffJitter is the random share of the wait.
	EnvOutboundConnectExpBackoffJitter = EnvProxyPrefix + "OUTBOUND_CONNECT_EXP_BACKOFF_JITTER"
	// EnvInboundHTTPQueueCapacity is the number of requests that may wait.
	EnvInboundHTTPQueueCapacity = EnvProxyPrefix + "INBOUND_HTTP_QUEUE_CAPACITY"
	// EnvInboundHTTPFailfastTimeout is how long requests wait before they fail at once.
	EnvInboundHTTPFailfastTimeout = EnvProxyPrefix + "INBOUND_HTTP_FAILFAST_TIMEOUT"
	// EnvOutboundHTTPQueueCapacity is the number of requests that may wait.
	EnvOutboundHTTPQueueCapacity = EnvProxyPrefix + "OUTBOUND_HTTP_QUEUE_CAPACITY"
	// EnvOutboundHTTPFailfastTimeout is how long requests wait before they fail at once.
	EnvOutboundHTTPFailfastTimeout = EnvProxyPrefix + "OUTBOUND_HTTP_FAILFAST_TIMEOUT"
	// EnvOutboundTCPQueueCapacity is the number of connections that may wait.
	EnvOutboundTCPQueueCapacity = EnvProxyPrefix + "OUTBOUND_TCP_QUEUE_CAPACITY"
	// EnvOutboundTCPFailfastTimeout is how long connections wait before they fail at once.
	EnvOutboundTCPFailfastTimeout = EnvProxyPrefix + "OUTBOUND_TCP_FAILFAST_TIMEOUT"
	// EnvMaxIdleConnsPerEndpoint limits idle HTTP/1 connections to the workload; the name has no direction.
	EnvMaxIdleConnsPerEndpoint = EnvProxyPrefix + "MAX_IDLE_CONNS_PER_ENDPOINT"
	// EnvOutboundMaxIdleConnsPerEndpoint limits idle HTTP/1 connections by endpoint and authority.
	EnvOutboundMaxIdleConnsPerEndpoint = EnvProxyPrefix + "OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT"
	// EnvInboundHTTP1ConnectionPoolIdleTimeout closes idle HTTP/1 connections.
	EnvInboundHTTP1ConnectionPoolIdleTimeout = EnvProxyPrefix + "INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT"
	// EnvOutboundHTTP1ConnectionPoolIdleTimeout closes idle HTTP/1 connections.
	EnvOutboundHTTP1ConnectionPoolIdleTimeout = EnvProxyPrefix + "OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT"
	// EnvInboundMaxInFlight limits requests without a response head yet.
	EnvInboundMaxInFlight = EnvProxyPrefix + "INBOUND_MAX_IN_FLIGHT"
	// EnvOutboundMaxInFlight limits requests without a response head yet.
	EnvOutboundMaxInFlight = EnvProxyPrefix + "OUTBOUND_MAX_IN_FLIGHT"
	// EnvInboundDiscoveryIdleTimeout is how long unused policies and profiles are kept.
	EnvInboundDiscoveryIdleTimeout = EnvProxyPrefix + "INBOUND_DISCOVERY_IDLE_TIMEOUT"
	// EnvOutboundDiscoveryIdleTimeout is how long unused discovery results are kept.
	EnvOutboundDiscoveryIdleTimeout = EnvProxyPrefix + "OUTBOUND_DISCOVERY_IDLE_TIMEOUT"
	// EnvOutboundDisableInformationalHeaders keeps l5d-proxy-error and the like from the workload.
	EnvOutboundDisableInformationalHeaders = EnvProxyPrefix + "OUTBOUND_DISABLE_INFORMATIONAL_HEADERS"
	// EnvOutboundMetricsHostnameLabels fills the hostname label of outbound route metrics.
	EnvOutboundMetricsHostnameLabels = EnvProxyPrefix + "OUTBOUND_METRICS_HOSTNAME_LABELS"
	// EnvInboundMetricsAuthorityLabels with the value unsafe adds the authority label to inbound metrics.
	EnvInboundMetricsAuthorityLabels = EnvProxyPrefix + "INBOUND_METRICS_AUTHORITY_LABELS"
)

// HTTP/2.
const (
	// EnvHTTP2InitialStreamWindowSize is for clients, in bytes.
	EnvHTTP2InitialStreamWindowSize = EnvProxyPrefix + "HTTP2_INITIAL_STREAM_WINDOW_SIZE"
	// EnvHTTP2InitialConnectionWindowSize is for clients, in bytes.
	EnvHTTP2InitialConnectionWindowSize = EnvProxyPrefix + "HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"
	// EnvInboundServerHTTP2AdaptiveFlowControl sizes windows by measured bandwidth.
	EnvInboundServerHTTP2AdaptiveFlowControl = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL"
	// EnvInboundServerHTTP2InitialStreamWindowSize is in bytes, used with the connection's.
	EnvInboundServerHTTP2InitialStreamWindowSize = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE"
	// EnvInboundServerHTTP2InitialConnectionWindowSize is in bytes, used with the stream's.
	EnvInboundServerHTTP2InitialConnectionWindowSize = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"
	// EnvInboundServerHTTP2KeepAliveInterval is the time between pings, used with the timeout.
	EnvInboundServerHTTP2KeepAliveInterval = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL"
	// EnvInboundServerHTTP2KeepAliveTimeout is the wait for a ping's answer, used with the interval.
	EnvInboundServerHTTP2KeepAliveTimeout = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT"
	// EnvInboundServerHTTP2MaxConcurrentStreams is a number of streams.
	EnvInboundServerHTTP2MaxConcurrentStreams = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS"
	// EnvInboundServerHTTP2MaxFrameSize is in bytes.
	EnvInboundServerHTTP2MaxFrameSize = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_MAX_FRAME_SIZE"
	// EnvInboundServerHTTP2MaxHeaderListSize is in bytes.
	EnvInboundServerHTTP2MaxHeaderListSize = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_MAX_HEADER_LIST_SIZE"
	// EnvInboundServerHTTP2MaxPendingAcceptResetStreams guards against rapid resets.
	EnvInboundServerHTTP2MaxPendingAcceptResetStreams = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS"
	// EnvInboundServerHTTP2MaxSendBufSize is in bytes for each stream.
	EnvInboundServerHTTP2MaxSendBufSize = EnvProxyPrefix + "INBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE"
	// EnvOutboundServerHTTP2AdaptiveFlowControl sizes windows by measured bandwidth.
	EnvOutboundServerHTTP2AdaptiveFlowControl = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_ADAPTIVE_FLOW_CONTROL"
	// EnvOutboundServerHTTP2InitialStreamWindowSize is in bytes, used with the connection's.
	EnvOutboundServerHTTP2InitialStreamWindowSize = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_INITIAL_STREAM_WINDOW_SIZE"
	// EnvOutboundServerHTTP2InitialConnectionWindowSize is in bytes, used with the stream's.
	EnvOutboundServerHTTP2InitialConnectionWindowSize = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE"
	// EnvOutboundServerHTTP2KeepAliveInterval is the time between pings, used with the timeout.
	EnvOutboundServerHTTP2KeepAliveInterval = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL"
	// EnvOutboundServerHTTP2KeepAliveTimeout is the wait for a ping's answer, used with the interval.
	EnvOutboundServerHTTP2KeepAliveTimeout = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT"
	// EnvOutboundServerHTTP2MaxConcurrentStreams is a number of streams.
	EnvOutboundServerHTTP2MaxConcurrentStreams = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_MAX_CONCURRENT_STREAMS"
	// EnvOutboundServerHTTP2MaxFrameSize is in bytes.
	EnvOutboundServerHTTP2MaxFrameSize = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_MAX_FRAME_SIZE"
	// EnvOutboundServerHTTP2MaxHeaderListSize is in bytes.
	EnvOutboundServerHTTP2MaxHeaderListSize = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_MAX_HEADER_LIST_SIZE"
	// EnvOutboundServerHTTP2MaxPendingAcceptResetStreams guards against rapid resets.
	EnvOutboundServerHTTP2MaxPendingAcceptResetStreams = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_MAX_PENDING_ACCEPT_RESET_STREAMS"
	// EnvOutboundServerHTTP2MaxSendBufSize is in bytes for each stream.
	EnvOutboundServerHTTP2MaxSendBufSize = EnvProxyPrefix + "OUTBOUND_SERVER_HTTP2_MAX_SEND_BUF_SIZE"
)

// Discovery and policy.
const (
	// EnvDestinationSvcAddr is the destination controller's address.
	EnvDestinationSvcAddr = EnvProxyPrefix + "DESTINATION_SVC_ADDR"
	// EnvDestinationSvcName is the destination controller's identity.
	EnvDestinationSvcName = EnvProxyPrefix + "DESTINATION_SVC_NAME"
	// EnvDestinationContext is sent with every discovery request.
	EnvDestinationContext = EnvProxyPrefix + "DESTINATION_CONTEXT"
	// EnvDestinationProfileSuffixes lists the name suffixes that profiles are asked for.
	EnvDestinationProfileSuffixes = EnvProxyPrefix + "DESTINATION_PROFILE_SUFFIXES"
	// EnvDestinationProfileNetworks lists the networks that profiles are asked for.
	EnvDestinationProfileNetworks = EnvProxyPrefix + "DESTINATION_PROFILE_NETWORKS"
	// EnvDestinationProfileInitialTimeout is how long an inbound request waits for a profile.
	EnvDestinationProfileInitialTimeout = EnvProxyPrefix + "DESTINATION_PROFILE_INITIAL_TIMEOUT"
	// EnvPolicySvcAddr is the policy controller's address.
	EnvPolicySvcAddr = EnvProxyPrefix + "POLICY_SVC_ADDR"
	// EnvPolicySvcName is the policy controller's identity.
	EnvPolicySvcName = EnvProxyPrefix + "POLICY_SVC_NAME"
	// EnvPolicyWorkload is sent with every policy request.
	EnvPolicyWorkload = EnvProxyPrefix + "POLICY_WORKLOAD"
	// EnvPolicyClusterNetworks lists the networks of the cluster policies.
	EnvPolicyClusterNetworks = EnvProxyPrefix + "POLICY_CLUSTER_NETWORKS"
	// EnvInboundDefaultPolicy is one of the DefaultPolicy constants.
	EnvInboundDefaultPolicy = EnvProxyPrefix + "INBOUND_DEFAULT_POLICY"
	// EnvInboundPorts lists ports whose policy is watched from the start.
	EnvInboundPorts = EnvProxyPrefix + "INBOUND_PORTS"
	// EnvInboundPortsDisableProtocolDetection lists ports that are opaque until a policy arrives.
	EnvInboundPortsDisableProtocolDetection = EnvProxyPrefix + "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION"
	// EnvInboundPortsRequireIdentity is accepted and ignored.
	EnvInboundPortsRequireIdentity = EnvProxyPrefix + "INBOUND_PORTS_REQUIRE_IDENTITY"
	// EnvInboundPortsRequireTLS is accepted and ignored.
	EnvInboundPortsRequireTLS = EnvProxyPrefix + "INBOUND_PORTS_REQUIRE_TLS"
	// EnvInboundGatewaySuffixes lists the name suffixes that the gateway serves.
	EnvInboundGatewaySuffixes = EnvProxyPrefix + "INBOUND_GATEWAY_SUFFIXES"
	// EnvInboundIPs lists the workload's addresses.
	EnvInboundIPs = EnvProxyPrefix + "INBOUND_IPS"
	// EnvControlStreamInitialTimeout limits the wait for a stream's first message.
	EnvControlStreamInitialTimeout = EnvProxyPrefix + "CONTROL_STREAM_INITIAL_TIMEOUT"
	// EnvControlStreamIdleTimeout limits the wait between a stream's messages.
	EnvControlStreamIdleTimeout = EnvProxyPrefix + "CONTROL_STREAM_IDLE_TIMEOUT"
	// EnvControlStreamLifetime limits the age of a stream.
	EnvControlStreamLifetime = EnvProxyPrefix + "CONTROL_STREAM_LIFETIME"
	// EnvDNSMinTTL is the least time that a DNS answer is kept.
	EnvDNSMinTTL = EnvProxyPrefix + "DNS_MIN_TTL"
	// EnvDNSMaxTTL is the greatest time that a DNS answer is kept.
	EnvDNSMaxTTL = EnvProxyPrefix + "DNS_MAX_TTL"
	// EnvTapSvcName is the identity that may tap; unset turns tap off.
	EnvTapSvcName = EnvProxyPrefix + "TAP_SVC_NAME"
)

// Identity.
const (
	// EnvIdentityDir is the directory with FileKey and FileCSR.
	EnvIdentityDir = EnvProxyPrefix + "IDENTITY_DIR"
	// EnvIdentityTrustAnchors is the trust bundle's text, in PEM.
	EnvIdentityTrustAnchors = EnvProxyPrefix + "IDENTITY_TRUST_ANCHORS"
	// EnvIdentityTokenFile is the path of the ServiceAccount token.
	EnvIdentityTokenFile = EnvProxyPrefix + "IDENTITY_TOKEN_FILE"
	// EnvIdentityLocalName is the proxy's identity and TLS server name.
	EnvIdentityLocalName = EnvProxyPrefix + "IDENTITY_LOCAL_NAME"
	// EnvIdentityServerID is the proxy's identity when EnvIdentityLocalName is unset.
	EnvIdentityServerID = EnvProxyPrefix + "IDENTITY_SERVER_ID"
	// EnvIdentityServerName is the proxy's TLS server name when EnvIdentityLocalName is unset.
	EnvIdentityServerName = EnvProxyPrefix + "IDENTITY_SERVER_NAME"
	// EnvIdentitySvcAddr is the identity controller's address.
	EnvIdentitySvcAddr = EnvProxyPrefix + "IDENTITY_SVC_ADDR"
	// EnvIdentitySvcName is the identity controller's identity.
	EnvIdentitySvcName = EnvProxyPrefix + "IDENTITY_SVC_NAME"
	// EnvIdentityMinRefresh is the least time between certifications.
	EnvIdentityMinRefresh = EnvProxyPrefix + "IDENTITY_MIN_REFRESH"
	// EnvIdentityMaxRefresh is the greatest time between certifications.
	EnvIdentityMaxRefresh = EnvProxyPrefix + "IDENTITY_MAX_REFRESH"
	// EnvIdentityDisabled is an error whatever its value, because identity is mandatory.
	EnvIdentityDisabled = EnvProxyPrefix + "IDENTITY_DISABLED"
	// EnvIdentitySpireWorkloadAPIAddress is the socket of a SPIFFE agent, used in place of the identity controller.
	EnvIdentitySpireWorkloadAPIAddress = EnvProxyPrefix + "IDENTITY_SPIRE_WORKLOAD_API_ADDRESS"
	// EnvIdentitySpireSocket is the older spelling of EnvIdentitySpireWorkloadAPIAddress.
	EnvIdentitySpireSocket = EnvProxyPrefix + "IDENTITY_SPIRE_SOCKET"
	// EnvIdentitySpireExpBackoffMin is the first wait before asking the agent again.
	EnvIdentitySpireExpBackoffMin = EnvProxyPrefix + "IDENTITY_SPIRE_EXP_BACKOFF_MIN"
	// EnvIdentitySpireExpBackoffMax is the longest wait before asking the agent again.
	EnvIdentitySpireExpBackoffMax = EnvProxyPrefix + "IDENTITY_SPIRE_EXP_BACKOFF_MAX"
	// EnvIdentitySpireExpBackoffJitter is the random share of the wait.
	EnvIdentitySpireExpBackoffJitter = EnvProxyPrefix + "IDENTITY_SPIRE_EXP_BACKOFF_JITTER"
)

// Tracing.
const (
	// EnvTraceCollectorSvcAddr is the collector's address; unset turns tracing off.
	EnvTraceCollectorSvcAddr = EnvProxyPrefix + "TRACE_COLLECTOR_SVC_ADDR"
	// EnvTraceCollectorSvcName is the collector's identity.
	EnvTraceCollectorSvcName = EnvProxyPrefix + "TRACE_COLLECTOR_SVC_NAME"
	// EnvTraceServiceName is the service name of the spans.
	EnvTraceServiceName = EnvProxyPrefix + "TRACE_SERVICE_NAME"
	// EnvTraceAttributesPath is a file of attributes, as the downward API writes labels.
	EnvTraceAttributesPath = EnvProxyPrefix + "TRACE_ATTRIBUTES_PATH"
	// EnvTraceAnnotationsPath is injected and ignored.
	EnvTraceAnnotationsPath = EnvProxyPrefix + "TRACE_ANNOTATIONS_PATH"
	// EnvTraceProtocol is injected and ignored.
	EnvTraceProtocol = EnvProxyPrefix + "TRACE_PROTOCOL"
	// EnvTraceExtraAttributes is attributes, one key=value per line.
	EnvTraceExtraAttributes = EnvProxyPrefix + "TRACE_EXTRA_ATTRIBUTES"
)

// Environment variables of the proxy that have no prefix.
const (
	// EnvOTELResourceAttributes is further attributes of traces.
	EnvOTELResourceAttributes = "OTEL_RESOURCE_ATTRIBUTES"
	// EnvHostname is the host's name: the pod's, in Kubernetes. Controllers hold Leases under
	// it.
	EnvHostname = "HOSTNAME"
)

// Environment variables that injection sets for use in the values of others, as in
// $(_pod_name).
const (
	EnvPodName          = "_pod_name"
	EnvPodNS            = "_pod_ns"
	EnvPodUID           = "_pod_uid"
	EnvPodIP            = "_pod_ip"
	EnvPodNodeName      = "_pod_nodeName"
	EnvPodContainerName = "_pod_containerName"
	EnvPodSA            = "_pod_sa"
	EnvL5DNS            = "_l5d_ns"
	EnvL5DTrustDomain   = "_l5d_trustdomain"
)

// Environment variables of the proxy's companions.
const (
	// EnvLinkerdDisabled, when not empty, keeps the await wrapper from waiting.
	EnvLinkerdDisabled = "LINKERD_DISABLED"
	// EnvLinkerdAwaitDisabled, when not empty, keeps the await wrapper from waiting.
	EnvLinkerdAwaitDisabled = "LINKERD_AWAIT_DISABLED"
	// EnvLinkerdAwaitVerbose makes the await wrapper say what it does.
	EnvLinkerdAwaitVerbose = "LINKERD_AWAIT_VERBOSE"
	// EnvNetworkValidatorLogLevel is the network validator's log filter.
	EnvNetworkValidatorLogLevel = "LINKERD_NETWORK_VALIDATOR_LOG_LEVEL"
	// EnvNetworkValidatorLogFormat is plain or json.
	EnvNetworkValidatorLogFormat = "LINKERD_NETWORK_VALIDATOR_LOG_FORMAT"
)
