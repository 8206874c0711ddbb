package names

// Ports of the proxy; all four can be changed by values and annotations.
const (
	// PortProxyInbound takes connections to the workload.
	PortProxyInbound = 4143
	// PortProxyOutbound takes connections from the workload.
	PortProxyOutbound = 4140
	// PortProxyControl serves tap.
	PortProxyControl = 4190
	// PortProxyAdmin serves metrics, probes and shutdown.
	PortProxyAdmin = 4191
)

// Ports on which the control plane serves.
const (
	PortIdentityGRPC    = 8080
	PortDestinationGRPC = 8086
	PortPolicyGRPC      = 8090
	// PortWebhook is where the injector and the profile validator serve.
	PortWebhook = 8443
	// PortPolicyWebhook is where the policy validator serves.
	PortPolicyWebhook = 9443
)

// Admin ports of the control plane.
const (
	PortIdentityAdmin      = 9990
	PortPolicyAdmin        = 9990
	PortProxyInjectorAdmin = 9995
	PortDestinationAdmin   = 9996
	PortSPValidatorAdmin   = 9997
)

// Ports of the extensions.
const (
	PortMetricsAPIGRPC     = 8085
	PortMetricsAPIAdmin    = 9995
	PortTapAPI             = 8089
	PortTapAdmin           = 9998
	PortTapInjectorWebhook = 8443
	PortTapInjectorAdmin   = 9995
	PortWeb                = 8084
	PortWebAdmin           = 9994
	PortPrometheus         = 9090
	PortServiceMirrorAdmin = 9999
	PortSMIAdaptorAdmin    = 9995
)

// Names of ports.
const (
	// PortNameProxyInbound is the inbound port in a pod, an ExternalWorkload and a gateway.
	PortNameProxyInbound = "linkerd-proxy"
	// PortNameProxyAdmin is the admin port in a pod.
	PortNameProxyAdmin = "linkerd-admin"

	PortNameGRPC               = "grpc" // of the Services of identity, destination and policy
	PortNameIdentityGRPC       = "ident-grpc"
	PortNameIdentityAdmin      = "ident-admin"
	PortNameDestinationGRPC    = "dest-grpc"
	PortNameDestinationAdmin   = "dest-admin"
	PortNamePolicyGRPC         = "policy-grpc"
	PortNamePolicyAdmin        = "policy-admin"
	PortNamePolicyHTTPS        = "policy-https"
	PortNameSPValidator        = "sp-validator"
	PortNameSPValidatorAdmin   = "spval-admin"
	PortNameProxyInjector      = "proxy-injector"
	PortNameProxyInjectorAdmin = "injector-admin"

	// PortNameMulticlusterGateway and PortNameMulticlusterProbe are the ports of a gateway's
	// Service.
	PortNameMulticlusterGateway = "mc-gateway"
	PortNameMulticlusterProbe   = "mc-probe"
)

// Default lists of ports, in the form that values and annotations have them.
const (
	// DefaultOpaquePorts speak server-first or binary protocols: SMTP, MySQL, Galera,
	// PostgreSQL, Redis, Elasticsearch and Memcached.
	DefaultOpaquePorts = "25,587,3306,4444,5432,6379,9300,11211"
	// DefaultIgnorePorts bypass the proxy in both directions: Galera replication.
	DefaultIgnorePorts = "4567,4568"
	// DefaultKubeAPIServerPorts bypass the proxy out of the control plane's own pods.
	DefaultKubeAPIServerPorts = "443,6443"
)
