package names

import "slices"

// AnnotationInject decides whether a namespace's pods or a pod get a proxy; its value is one
// of the Inject constants.
const AnnotationInject = "linkerd.io/inject"

// Values of AnnotationInject.
const (
	InjectEnabled  = "enabled"
	InjectDisabled = "disabled"
	// InjectIngress enables injection and makes the proxy route by the request's authority.
	InjectIngress = "ingress"
)

// Prefixes of the keys that configure proxies; a label that begins with one of them was
// probably meant as an annotation.
const (
	ConfigPrefix      = "config.linkerd.io"
	ConfigAlphaPrefix = "config.alpha.linkerd.io"
	ConfigBetaPrefix  = "config.beta.linkerd.io"
)

// LabelAdmissionWebhooks on a namespace, with the value AdmissionWebhooksDisabled, excludes
// the namespace from the mesh's webhooks.
const LabelAdmissionWebhooks = "config.linkerd.io/admission-webhooks"

// AdmissionWebhooksDisabled is the only meaningful value of LabelAdmissionWebhooks.
const AdmissionWebhooksDisabled = "disabled"

// Annotations that configure the proxy of a pod, by control plane chapter, section 3.1. A
// pod's value wins over its namespace's, and that over the installed values.
const (
	// AnnotationProxyImage is the proxy's image name without a tag.
	AnnotationProxyImage = "config.linkerd.io/proxy-image"
	// AnnotationProxyVersionOverride is the tag of the proxy's image. What an injected pod
	// really runs is in AnnotationProxyVersion.
	AnnotationProxyVersionOverride = "config.linkerd.io/proxy-version"
	// AnnotationImagePullPolicy is the pull policy of the injected containers.
	AnnotationImagePullPolicy = "config.linkerd.io/image-pull-policy"
	// AnnotationDebugImage is the debug container's image name; pods only.
	AnnotationDebugImage = "config.linkerd.io/debug-image"
	// AnnotationDebugImageVersion is the tag of the debug container's image; pods only.
	AnnotationDebugImageVersion = "config.linkerd.io/debug-image-version"
	// AnnotationDebugImagePullPolicy is the pull policy of the debug container; pods only.
	AnnotationDebugImagePullPolicy = "config.linkerd.io/debug-image-pull-policy"
	// AnnotationEnableDebugSidecar adds the debug container.
	AnnotationEnableDebugSidecar = "config.linkerd.io/enable-debug-sidecar"

	// AnnotationControlPort is the proxy's tap port.
	AnnotationControlPort = "config.linkerd.io/control-port"
	// AnnotationAdminPort is the proxy's admin and metrics port.
	AnnotationAdminPort = "config.linkerd.io/admin-port"
	// AnnotationInboundPort is the proxy's inbound port.
	AnnotationInboundPort = "config.linkerd.io/inbound-port"
	// AnnotationOutboundPort is the proxy's outbound port.
	AnnotationOutboundPort = "config.linkerd.io/outbound-port"
	// AnnotationPodInboundPorts lists the ports whose policy the proxy watches from its start.
	AnnotationPodInboundPorts = "config.linkerd.io/pod-inbound-ports"
	// AnnotationSkipInboundPorts lists inbound ports and ranges that bypass the proxy. The
	// destination controller gives endpoints on them neither identity nor protocol hint.
	AnnotationSkipInboundPorts = "config.linkerd.io/skip-inbound-ports"
	// AnnotationSkipOutboundPorts lists outbound ports and ranges that bypass the proxy.
	AnnotationSkipOutboundPorts = "config.linkerd.io/skip-outbound-ports"
	// AnnotationSkipSubnets lists networks whose traffic bypasses the proxy.
	AnnotationSkipSubnets = "config.linkerd.io/skip-subnets"
	// AnnotationSkipOutboundSubnets lists networks to which the pod connects without the proxy, while what comes from
	// them does pass it. An addition of ours.
	AnnotationSkipOutboundSubnets = "config.linkerd.io/skip-outbound-subnets"
	// AnnotationOpaquePorts lists ports, ranges and port names whose bytes the proxy does not
	// look at. It replaces the default list. Also on Services, EgressNetworks and
	// ExternalWorkloads.
	AnnotationOpaquePorts = "config.linkerd.io/opaque-ports"

	// AnnotationProxyCPURequest also sets the minimum of the proxy's workers.
	AnnotationProxyCPURequest = "config.linkerd.io/proxy-cpu-request"
	// AnnotationProxyCPULimit also sets the maximum of the proxy's workers.
	AnnotationProxyCPULimit = "config.linkerd.io/proxy-cpu-limit"
	// AnnotationProxyCPURatioLimit limits the proxy's workers to a share of the CPUs; pods
	// only.
	AnnotationProxyCPURatioLimit = "config.linkerd.io/proxy-cpu-ratio-limit"
	// AnnotationProxyMemoryRequest is a quantity.
	AnnotationProxyMemoryRequest = "config.linkerd.io/proxy-memory-request"
	// AnnotationProxyMemoryLimit is a quantity.
	AnnotationProxyMemoryLimit = "config.linkerd.io/proxy-memory-limit"
	// AnnotationProxyEphemeralStorageRequest is a quantity.
	AnnotationProxyEphemeralStorageRequest = "config.linkerd.io/proxy-ephemeral-storage-request"
	// AnnotationProxyEphemeralStorageLimit is a quantity.
	AnnotationProxyEphemeralStorageLimit = "config.linkerd.io/proxy-ephemeral-storage-limit"
	// AnnotationProxyUID is the user that the proxy runs as.
	AnnotationProxyUID = "config.linkerd.io/proxy-uid"
	// AnnotationProxyGID is the group that the proxy runs as.
	AnnotationProxyGID = "config.linkerd.io/proxy-gid"

	// AnnotationProxyLogLevel is the proxy's log filter.
	AnnotationProxyLogLevel = "config.linkerd.io/proxy-log-level"
	// AnnotationProxyLogHTTPHeaders is `off`, `insecure` or empty; another value makes
	// injection fail.
	AnnotationProxyLogHTTPHeaders = "config.linkerd.io/proxy-log-http-headers"
	// AnnotationProxyLogFormat is `plain` or `json`.
	AnnotationProxyLogFormat = "config.linkerd.io/proxy-log-format"
	// AnnotationAccessLog is `apache` or `json`.
	AnnotationAccessLog = "config.linkerd.io/access-log"
	// AnnotationOutboundAccessLog is a format for a log of the requests that the pod sends:
	// `apache`, `apache-extended` or `json`. An addition of ours.
	AnnotationOutboundAccessLog = "config.linkerd.io/outbound-access-log"
	// AnnotationInboundForwardedFor says how applications are told their clients' addresses in
	// X-Forwarded-For: `append` or `replace`. An addition of ours.
	AnnotationInboundForwardedFor = "config.linkerd.io/inbound-forwarded-for"
	// AnnotationInboundProxyProtocolPorts lists ports where connections may begin with a header
	// of the PROXY protocol, which says who the client is. An addition of ours.
	AnnotationInboundProxyProtocolPorts = "config.linkerd.io/inbound-proxy-protocol-ports"
	// AnnotationProxyMetricsHostnameLabels fills the hostname label of outbound metrics.
	AnnotationProxyMetricsHostnameLabels = "config.linkerd.io/proxy-metrics-hostname-labels"

	// AnnotationEnableExternalProfiles lets profiles apply to names outside the cluster.
	AnnotationEnableExternalProfiles = "config.linkerd.io/enable-external-profiles"
	// AnnotationProxyRequireIdentityInboundPorts lists ports where a default policy that
	// allows traffic asks for authentication.
	AnnotationProxyRequireIdentityInboundPorts = "config.linkerd.io/proxy-require-identity-inbound-ports"
	// AnnotationDefaultInboundPolicy is one of the DefaultPolicy constants; the policy
	// controller reads it from the pod.
	AnnotationDefaultInboundPolicy = "config.linkerd.io/default-inbound-policy"
	// AnnotationEnableGateway makes the proxy a multicluster gateway; pods only.
	AnnotationEnableGateway = "config.linkerd.io/enable-gateway"

	// AnnotationProxyOutboundConnectTimeout is a Go duration.
	AnnotationProxyOutboundConnectTimeout = "config.linkerd.io/proxy-outbound-connect-timeout"
	// AnnotationProxyInboundConnectTimeout is a Go duration.
	AnnotationProxyInboundConnectTimeout = "config.linkerd.io/proxy-inbound-connect-timeout"
	// AnnotationProxyOutboundDiscoveryCacheUnusedTimeout is a Go duration.
	AnnotationProxyOutboundDiscoveryCacheUnusedTimeout = "config.linkerd.io/proxy-outbound-discovery-cache-unused-timeout"
	// AnnotationProxyInboundDiscoveryCacheUnusedTimeout is a Go duration.
	AnnotationProxyInboundDiscoveryCacheUnusedTimeout = "config.linkerd.io/proxy-inbound-discovery-cache-unused-timeout"
	// AnnotationProxyDisableOutboundProtocolDetectTimeout waits for the protocol practically
	// for ever.
	AnnotationProxyDisableOutboundProtocolDetectTimeout = "config.linkerd.io/proxy-disable-outbound-protocol-detect-timeout"
	// AnnotationProxyDisableInboundProtocolDetectTimeout waits for the protocol practically
	// for ever.
	AnnotationProxyDisableInboundProtocolDetectTimeout = "config.linkerd.io/proxy-disable-inbound-protocol-detect-timeout"
	// AnnotationCloseWaitTimeout is a Go duration for the kernel's CLOSE_WAIT state; pods
	// only, and the init container must run as root.
	AnnotationCloseWaitTimeout = "config.linkerd.io/close-wait-timeout"

	// AnnotationProxyAwait, `enabled` or `disabled`, lets containers start only once the proxy
	// is ready.
	AnnotationProxyAwait = "config.linkerd.io/proxy-await"
	// AnnotationProxyAdminShutdown, `enabled` or `disabled`, offers the proxy's shutdown
	// endpoint.
	AnnotationProxyAdminShutdown = "config.linkerd.io/proxy-admin-shutdown"
	// AnnotationShutdownGracePeriod is a Go duration: how long the proxy may drain.
	AnnotationShutdownGracePeriod = "config.linkerd.io/shutdown-grace-period"
	// AnnotationShutdownTCPGracePeriod is the same for connections of which the proxy only
	// knows bytes. An addition of ours.
	AnnotationShutdownTCPGracePeriod = "config.linkerd.io/shutdown-tcp-grace-period"
	// AnnotationProxyWaitBeforeExitSeconds delays the end of a proxy that is an ordinary
	// container.
	AnnotationProxyWaitBeforeExitSeconds = "config.alpha.linkerd.io/proxy-wait-before-exit-seconds"
	// AnnotationProxyAdditionalEnv is a JSON array of Kubernetes EnvVars; values, namespace
	// and pod are merged by name.
	AnnotationProxyAdditionalEnv = "config.linkerd.io/proxy-additional-env"

	// AnnotationProxyEnableNativeSidecar makes the proxy an init container that keeps running.
	// It wins over the two older spellings.
	AnnotationProxyEnableNativeSidecar = "config.linkerd.io/proxy-enable-native-sidecar"
	// AnnotationProxyEnableNativeSidecarBeta is an older spelling; pods only.
	AnnotationProxyEnableNativeSidecarBeta = "config.beta.linkerd.io/proxy-enable-native-sidecar"
	// AnnotationProxyEnableNativeSidecarAlpha is the oldest spelling.
	AnnotationProxyEnableNativeSidecarAlpha = "config.alpha.linkerd.io/proxy-enable-native-sidecar"
)

// AnnotationTraceAttributePrefix begins annotations of a pod whose rest is the key of a trace
// attribute.
const AnnotationTraceAttributePrefix = "resource.opentelemetry.io/"

// Values of the on/off annotations that are not booleans.
const (
	ValueEnabled  = "enabled"
	ValueDisabled = "disabled"
)

// Values of AnnotationDefaultInboundPolicy, of the chart value of that name, and of a
// Server's accessPolicy.
const (
	DefaultPolicyAllAuthenticated       = "all-authenticated"
	DefaultPolicyAllUnauthenticated     = "all-unauthenticated"
	DefaultPolicyClusterAuthenticated   = "cluster-authenticated"
	DefaultPolicyClusterUnauthenticated = "cluster-unauthenticated"
	DefaultPolicyDeny                   = "deny"
	DefaultPolicyAudit                  = "audit"
)

// DefaultPolicies returns the names of the six policies.
func DefaultPolicies() []string {
	return []string{
		DefaultPolicyAllAuthenticated,
		DefaultPolicyAllUnauthenticated,
		DefaultPolicyClusterAuthenticated,
		DefaultPolicyClusterUnauthenticated,
		DefaultPolicyDeny,
		DefaultPolicyAudit,
	}
}

// IsDefaultPolicy says whether s names one of the six policies.
func IsDefaultPolicy(s string) bool {
	return slices.Contains(DefaultPolicies(), s)
}

// inheritable are the annotations that pods take over from their namespace.
var inheritable = []string{
	AnnotationInject,
	AnnotationProxyImage,
	AnnotationProxyVersionOverride,
	AnnotationImagePullPolicy,
	AnnotationEnableDebugSidecar,
	AnnotationControlPort,
	AnnotationAdminPort,
	AnnotationInboundPort,
	AnnotationOutboundPort,
	AnnotationPodInboundPorts,
	AnnotationSkipInboundPorts,
	AnnotationSkipOutboundPorts,
	AnnotationSkipSubnets,
	AnnotationSkipOutboundSubnets,
	AnnotationOpaquePorts,
	AnnotationProxyCPURequest,
	AnnotationProxyCPULimit,
	AnnotationProxyMemoryRequest,
	AnnotationProxyMemoryLimit,
	AnnotationProxyEphemeralStorageRequest,
	AnnotationProxyEphemeralStorageLimit,
	AnnotationProxyUID,
	AnnotationProxyGID,
	AnnotationProxyLogLevel,
	AnnotationProxyLogHTTPHeaders,
	AnnotationProxyLogFormat,
	AnnotationAccessLog,
	AnnotationOutboundAccessLog,
	AnnotationInboundForwardedFor,
	AnnotationInboundProxyProtocolPorts,
	AnnotationProxyMetricsHostnameLabels,
	AnnotationEnableExternalProfiles,
	AnnotationProxyRequireIdentityInboundPorts,
	AnnotationDefaultInboundPolicy,
	AnnotationProxyOutboundConnectTimeout,
	AnnotationProxyInboundConnectTimeout,
	AnnotationProxyOutboundDiscoveryCacheUnusedTimeout,
	AnnotationProxyInboundDiscoveryCacheUnusedTimeout,
	AnnotationProxyDisableOutboundProtocolDetectTimeout,
	AnnotationProxyDisableInboundProtocolDetectTimeout,
	AnnotationProxyAwait,
	AnnotationProxyAdminShutdown,
	AnnotationShutdownGracePeriod,
	AnnotationShutdownTCPGracePeriod,
	AnnotationProxyWaitBeforeExitSeconds,
	AnnotationProxyAdditionalEnv,
	AnnotationProxyEnableNativeSidecar,
	AnnotationProxyEnableNativeSidecarAlpha,
}

// podOnly are the annotations that have no effect on a namespace.
var podOnly = []string{
	AnnotationDebugImage,
	AnnotationDebugImageVersion,
	AnnotationDebugImagePullPolicy,
	AnnotationProxyCPURatioLimit,
	AnnotationEnableGateway,
	AnnotationCloseWaitTimeout,
	AnnotationProxyEnableNativeSidecarBeta,
}

// InheritableAnnotations returns the annotations that the injector copies from a namespace to
// its pods where they lack them: AnnotationInject and those of the proxy's configuration that
// are not for pods only. The slice is the caller's.
func InheritableAnnotations() []string {
	return slices.Clone(inheritable)
}

// PodOnlyAnnotations returns the annotations of the proxy's configuration that have no effect
// on a namespace. The slice is the caller's.
func PodOnlyAnnotations() []string {
	return slices.Clone(podOnly)
}

// Labels and annotations that injection writes on a pod, by control plane chapter, section
// 3.2.
const (
	// LabelControlPlaneNS is the namespace of the control plane that a pod's proxy belongs to.
	// It is the mark of a meshed pod.
	LabelControlPlaneNS = "linkerd.io/control-plane-ns"
	// LabelWorkloadNS is the pod's own namespace.
	LabelWorkloadNS = "linkerd.io/workload-ns"
	// LabelProxyOwnerPrefix and an owner's kind in lower case make the label that names the
	// owner.
	LabelProxyOwnerPrefix = "linkerd.io/proxy-"
	// LabelProxyDeployment names the Deployment that a pod belongs to.
	LabelProxyDeployment = LabelProxyOwnerPrefix + "deployment"
	// LabelProxyReplicationController names the ReplicationController that a pod belongs to.
	LabelProxyReplicationController = LabelProxyOwnerPrefix + "replicationcontroller"
	// LabelProxyReplicaSet names the ReplicaSet that a pod belongs to.
	LabelProxyReplicaSet = LabelProxyOwnerPrefix + "replicaset"
	// LabelProxyJob names the Job that a pod belongs to.
	LabelProxyJob = LabelProxyOwnerPrefix + "job"
	// LabelProxyDaemonSet names the DaemonSet that a pod belongs to.
	LabelProxyDaemonSet = LabelProxyOwnerPrefix + "daemonset"
	// LabelProxyStatefulSet names the StatefulSet that a pod belongs to.
	LabelProxyStatefulSet = LabelProxyOwnerPrefix + "statefulset"
	// LabelProxyCronJob names the CronJob that a pod belongs to; only manual injection writes
	// it.
	LabelProxyCronJob = LabelProxyOwnerPrefix + "cronjob"

	// AnnotationCreatedBy says which program of which version made an object, such as
	// `linkerd/proxy-injector v1`; see CreatedBy.
	AnnotationCreatedBy = "linkerd.io/created-by"
	// AnnotationProxyVersion is the version of the proxy in the pod.
	AnnotationProxyVersion = "linkerd.io/proxy-version"
	// AnnotationTrustRootSHA256 is the hexadecimal SHA-256 of the trust bundle's text.
	AnnotationTrustRootSHA256 = "linkerd.io/trust-root-sha256"
)

// Programs for CreatedBy.
const (
	CreatorProxyInjector = "proxy-injector"
	CreatorCLI           = "cli"
	CreatorHelm          = "helm"
)

// CreatedBy returns the value of AnnotationCreatedBy for a program and its version.
func CreatedBy(program, version string) string {
	return "linkerd/" + program + " " + version
}
