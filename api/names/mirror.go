package names

// Labels and annotations of multicluster, by extensions chapter, section 11.2.
const (
	// MirrorPrefix begins the keys that are not copied to mirrors.
	MirrorPrefix = "mirror.linkerd.io"

	// LabelExported on a Service of the target cluster exports it; the value is one of the
	// Exported constants. A Link may select other labels.
	LabelExported = "mirror.linkerd.io/exported"
	// LabelFederated on a Service, with the value FederatedMember, makes it part of a
	// federated Service.
	LabelFederated = "mirror.linkerd.io/federated"
	// LabelMirroredService is "true" on what a mirror controller created.
	LabelMirroredService = "mirror.linkerd.io/mirrored-service"
	// LabelMirroredGateway is "true" on the Service that gateway probes go to.
	LabelMirroredGateway = "mirror.linkerd.io/mirrored-gateway"
	// LabelMirrorClusterName names the target cluster of a mirror.
	LabelMirrorClusterName = "mirror.linkerd.io/cluster-name"
	// LabelHeadlessMirrorSvcName names the root of a headless mirror.
	LabelHeadlessMirrorSvcName = "mirror.linkerd.io/headless-mirror-svc-name"

	// AnnotationRemoteResourceVersion is the resourceVersion that was mirrored last.
	AnnotationRemoteResourceVersion = "mirror.linkerd.io/remote-resource-version"
	// AnnotationRemoteSvcFQName is the service's full name in the target cluster.
	AnnotationRemoteSvcFQName = "mirror.linkerd.io/remote-svc-fq-name"
	// AnnotationRemoteGatewayIdentity is the identity of the gateway in front of a mirror's
	// endpoints.
	AnnotationRemoteGatewayIdentity = "mirror.linkerd.io/remote-gateway-identity"

	// AnnotationGatewayIdentity on a gateway's Service is the gateway's identity.
	AnnotationGatewayIdentity = "mirror.linkerd.io/gateway-identity"
	// AnnotationMulticlusterGateway is "true" on a gateway's Service.
	AnnotationMulticlusterGateway = "mirror.linkerd.io/multicluster-gateway"
	// AnnotationProbePeriod is the time between probes of a gateway.
	AnnotationProbePeriod = "mirror.linkerd.io/probe-period"
	// AnnotationProbePath is the path that probes of a gateway ask for.
	AnnotationProbePath = "mirror.linkerd.io/probe-path"
	// AnnotationProbeTimeout is reserved.
	AnnotationProbeTimeout = "mirror.linkerd.io/probe-timeout"
	// AnnotationProbeFailureThreshold is reserved.
	AnnotationProbeFailureThreshold = "mirror.linkerd.io/probe-failure-threshold"

	// RemoteDiscovery is a label on a mirror Service, naming the cluster that has its
	// endpoints, and an annotation on a federated Service, listing `<service>@<cluster>`.
	RemoteDiscovery = "multicluster.linkerd.io/remote-discovery"
	// LabelRemoteService is the service's name in that cluster.
	LabelRemoteService = "multicluster.linkerd.io/remote-service"
	// AnnotationLocalDiscovery on a federated Service names its local member.
	AnnotationLocalDiscovery = "multicluster.linkerd.io/local-discovery"
	// LabelMulticlusterClusterName on a Secret of type SecretTypeRemoteKubeconfig names the
	// cluster that it gives access to.
	LabelMulticlusterClusterName = "multicluster.linkerd.io/cluster-name"
	// AnnotationMulticlusterTrustDomain on such a Secret is the cluster's trust domain.
	AnnotationMulticlusterTrustDomain = "multicluster.linkerd.io/trust-domain"
	// AnnotationMulticlusterClusterDomain on such a Secret is the cluster's DNS domain.
	AnnotationMulticlusterClusterDomain = "multicluster.linkerd.io/cluster-domain"
)

// Values of LabelExported and LabelFederated.
const (
	// ExportedGateway mirrors through the gateway.
	ExportedGateway = "true"
	// ExportedRemoteDiscovery mirrors without a gateway.
	ExportedRemoteDiscovery = "remote-discovery"
	FederatedMember         = "member"
)

const (
	// SecretTypeRemoteKubeconfig is the type of Secrets with access to another cluster.
	SecretTypeRemoteKubeconfig = "mirror.linkerd.io/remote-kubeconfig"
	// SecretRemoteKubeconfig is the key in such a Secret.
	SecretRemoteKubeconfig = "kubeconfig"
	// LeaseServiceMirrorPrefix and a Link's name make the name of its mirror's Lease.
	LeaseServiceMirrorPrefix = "service-mirror-write-"
	// LeaseLocalServiceMirror is the Lease of the mirror of the local cluster.
	LeaseLocalServiceMirror = "local-service-mirror-write"
)
