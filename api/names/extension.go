package names

// Labels and annotations of extensions, by control plane chapter, section 3.4.
const (
	// LabelExtension names the extension that a namespace or an object belongs to.
	LabelExtension = "linkerd.io/extension"

	// AnnotationVizDisableTap on a namespace or a pod keeps the tap injector away.
	AnnotationVizDisableTap = "viz.linkerd.io/disable-tap"
	// AnnotationVizTapEnabled is "true" on pods whose proxy can be tapped.
	AnnotationVizTapEnabled = "viz.linkerd.io/tap-enabled"
	// AnnotationVizExternalPrometheus on the viz namespace is the URL of a Prometheus that is
	// not the extension's own.
	AnnotationVizExternalPrometheus = "viz.linkerd.io/external-prometheus"

	// AnnotationTracingEnabled marks pods that a tracing extension has configured.
	AnnotationTracingEnabled = "jaeger.linkerd.io/tracing-enabled"

	// AnnotationSMISkip on a ServiceProfile, with any value, keeps the SMI adaptor away.
	AnnotationSMISkip = "smi.linkerd.io/skip"
	// AnnotationSMISplit on a ServiceProfile is the TrafficSplit whose shares the SMI adaptor wrote into it. Ours alone.
	AnnotationSMISplit = "smi.linkerd.io/split"

	// LabelFailoverControlledBy marks TrafficSplits that the failover extension manages.
	LabelFailoverControlledBy = "failover.linkerd.io/controlled-by"
	// FailoverController is the value of LabelFailoverControlledBy.
	FailoverController = "linkerd-failover"
	// AnnotationFailoverPrimaryService is the TrafficSplit backend to prefer.
	AnnotationFailoverPrimaryService = "failover.linkerd.io/primary-service"
)

// Names of the extensions, the values of LabelExtension.
const (
	ExtensionViz          = "viz"
	ExtensionMulticluster = "multicluster"
	ExtensionJaeger       = "jaeger"
	ExtensionSMI          = "smi"
	ExtensionFailover     = "failover"
)

// SMIAdaptor is the component of the SMI extension: its Deployment, ServiceAccount and ClusterRole have this name.
const SMIAdaptor = "smi-adaptor"

// SMIEventSource is the source of the adaptor's events.
const SMIEventSource = "smi-controller"

// LeaseSMIAdaptor is the Lease of the adaptor, in the extension's namespace.
const LeaseSMIAdaptor = "smi-adaptor-write"

// Components of the viz extension; Deployments, Services and ServiceAccounts have these names.
const (
	VizMetricsAPI  = "metrics-api"
	VizTap         = "tap"
	VizTapInjector = "tap-injector"
	VizWeb         = "web"
	VizPrometheus  = "prometheus"
)

// Names of the viz extension's webhook.
const (
	WebhookConfigTapInjector = "linkerd-tap-injector-webhook-config"
	WebhookTapInjector       = "tap-injector.linkerd.io"
)

// The aggregated API of viz tap.
const (
	TapAPIGroup   = "tap.linkerd.io"
	TapAPIVersion = "v1alpha1"
)
