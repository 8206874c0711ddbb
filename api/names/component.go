package names

// Labels of the control plane's own objects, by control plane chapter, sections 1 and 3.4.
const (
	// LabelControlPlaneComponent names the component that an object or a pod belongs to; its
	// value is one of the Component constants. Such pods are not injected.
	LabelControlPlaneComponent = "linkerd.io/control-plane-component"
	// LabelIsControlPlane is "true" on a control plane's namespace.
	LabelIsControlPlane = "linkerd.io/is-control-plane"
	// LabelCNIResource marks objects of the CNI plugin; such pods are not injected.
	LabelCNIResource = "linkerd.io/cni-resource"
	// LabelPodSecurityEnforce is the Pod Security level of a namespace.
	LabelPodSecurityEnforce = "pod-security.kubernetes.io/enforce"
	// LabelNamespaceName is the name that Kubernetes puts on every namespace.
	LabelNamespaceName = "kubernetes.io/metadata.name"
	// AnnotationSafeToEvict is "true" on control-plane pods.
	AnnotationSafeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"
	// AnnotationInjectCAFrom asks cert-manager for a webhook's CA bundle from a Certificate.
	AnnotationInjectCAFrom = "cert-manager.io/inject-ca-from"
	// AnnotationInjectCAFromSecret asks cert-manager for a webhook's CA bundle from a Secret.
	AnnotationInjectCAFromSecret = "cert-manager.io/inject-ca-from-secret"
)

// Labels that Kubernetes recommends, as the mesh's objects carry them.
const (
	LabelAppName    = "app.kubernetes.io/name"
	LabelAppPartOf  = "app.kubernetes.io/part-of"
	LabelAppVersion = "app.kubernetes.io/version"
	// LabelAppInstance and LabelAppName give a pod its service name in traces.
	LabelAppInstance = "app.kubernetes.io/instance"
	// PartOf is the value of LabelAppPartOf.
	PartOf = "Linkerd"
)

// Values of LabelControlPlaneComponent.
const (
	ComponentIdentity      = "identity"
	ComponentDestination   = "destination"
	ComponentProxyInjector = "proxy-injector"
	ComponentHeartbeat     = "heartbeat"
	// ComponentController is on objects that belong to no single component.
	ComponentController = "controller"
)

// Defaults of an installation.
const (
	DefaultControlPlaneNamespace = "linkerd"
	DefaultClusterDomain         = "cluster.local"
	// DefaultGlobalEgressNetworkNamespace holds the EgressNetworks that apply to namespaces
	// that have none.
	DefaultGlobalEgressNetworkNamespace = "linkerd-egress"
	// DefaultClusterNetworks are the networks that count as the cluster's own.
	DefaultClusterNetworks = "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
)

// Deployments and the CronJob of the control plane; their ServiceAccounts have the same names.
const (
	DeploymentIdentity      = "linkerd-identity"
	DeploymentDestination   = "linkerd-destination"
	DeploymentProxyInjector = "linkerd-proxy-injector"
	CronJobHeartbeat        = "linkerd-heartbeat"
)

// Services of the control plane.
const (
	ServiceIdentity            = "linkerd-identity"
	ServiceIdentityHeadless    = "linkerd-identity-headless"
	ServiceDestination         = "linkerd-dst"
	ServiceDestinationHeadless = "linkerd-dst-headless"
	ServicePolicy              = "linkerd-policy"
	ServiceSPValidator         = "linkerd-sp-validator"
	ServicePolicyValidator     = "linkerd-policy-validator"
	ServiceProxyInjector       = "linkerd-proxy-injector"
)

// Containers of the control plane's pods.
const (
	ContainerIdentity      = "identity"
	ContainerDestination   = "destination"
	ContainerPolicy        = "policy"
	ContainerSPValidator   = "sp-validator"
	ContainerProxyInjector = "proxy-injector"
	ContainerHeartbeat     = "heartbeat"
)

// ConfigMaps and Secrets of the control plane, and their keys.
const (
	// ConfigMapConfig has the values that the control plane was installed with.
	ConfigMapConfig = "linkerd-config"
	// ConfigMapConfigValues is the key of the values, as YAML.
	ConfigMapConfigValues = "values"
	// ConfigMapConfigCRDsVersion is the key of the CRD chart's version.
	ConfigMapConfigCRDsVersion = "linkerd-crds-chart-version"
	// CRDsChartVersion is the value of that key.
	CRDsChartVersion = "linkerd-crds-1.0.0-edge"
	// ConfigMapTrustRoots has the trust bundle.
	ConfigMapTrustRoots = "linkerd-identity-trust-roots"
	// ConfigMapTrustRootsBundle is the key of the bundle, as PEM.
	ConfigMapTrustRootsBundle = "ca-bundle.crt"
	// SecretIdentityIssuer has the issuer's certificate and key; the scheme decides the keys.
	SecretIdentityIssuer = "linkerd-identity-issuer"
	// SecretConfigOverrides has the values that differ from the chart's, under a key of the
	// same name.
	SecretConfigOverrides = "linkerd-config-overrides"
	// SecretProxyInjectorTLS has the injector's serving certificate.
	SecretProxyInjectorTLS = "linkerd-proxy-injector-k8s-tls"
	// SecretSPValidatorTLS has the profile validator's serving certificate.
	SecretSPValidatorTLS = "linkerd-sp-validator-k8s-tls"
	// SecretPolicyValidatorTLS has the policy validator's serving certificate.
	SecretPolicyValidatorTLS = "linkerd-policy-validator-k8s-tls"
)

// Schemes of the issuer's Secret and the keys that each uses.
const (
	IssuerSchemeLinkerd    = "linkerd.io/tls"
	IssuerSchemeKubernetes = "kubernetes.io/tls"

	IssuerLinkerdCert    = "crt.pem"
	IssuerLinkerdKey     = "key.pem"
	IssuerKubernetesCert = "tls.crt"
	IssuerKubernetesKey  = "tls.key"
	// IssuerKubernetesCA is the trust bundle beside a certificate of the second scheme.
	IssuerKubernetesCA = "ca.crt"
)

// Webhook configurations and the webhooks in them.
const (
	WebhookConfigProxyInjector   = "linkerd-proxy-injector-webhook-config"
	WebhookConfigSPValidator     = "linkerd-sp-validator-webhook-config"
	WebhookConfigPolicyValidator = "linkerd-policy-validator-webhook-config"

	WebhookProxyInjector   = "linkerd-proxy-injector.linkerd.io"
	WebhookSPValidator     = "linkerd-sp-validator.linkerd.io"
	WebhookPolicyValidator = "linkerd-policy-validator.linkerd.io"
)

// AnnotationHealthGet on an ExternalWorkload, `PORT/PATH` with a number or a name for the port, has the control plane ask there
// whether the workload is well, and write its Ready condition. Ours alone.
const AnnotationHealthGet = "health.linkerd.io/http-get"

// Leases that guard what writes; the holder is named by EnvHostname.
const (
	LeasePolicyController         = "policy-controller-write"
	LeaseDestinationEndpointWrite = "linkerd-destination-endpoint-write"
)

// Names under which controllers write status.
const (
	ControllerPolicy        = "linkerd.io/policy-controller"
	ControllerServiceMirror = "linkerd.io/service-mirror"
	// FieldManagerPolicy owns the fields that the policy controller applies.
	FieldManagerPolicy = "policy-controller"
)

// Files in the control plane's containers.
const (
	// PathConfigValues is the mounted ConfigMapConfigValues.
	PathConfigValues = "/var/run/linkerd/config/values"
	// PathTrustRoots is the mounted ConfigMapTrustRootsBundle.
	PathTrustRoots = "/var/run/linkerd/identity/trust-roots/ca-bundle.crt"
	// DirIssuer is where the issuer's Secret is mounted.
	DirIssuer = "/var/run/linkerd/identity/issuer"
	// DirWebhookTLS is where a webhook's serving certificate is mounted.
	DirWebhookTLS = "/var/run/linkerd/tls"
	// DirServiceAccount is where Kubernetes mounts a pod's API credentials.
	DirServiceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"
)
