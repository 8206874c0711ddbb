package injector

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/inject"
)

// EventSource is the component that events come from.
const EventSource = "linkerd-proxy-injector"

// Reasons of events. The last two are ours: upstream leaves a value that it cannot read in the injector's log, where the
// workload's owner does not look, and denies pods when it cannot read its configuration.
const (
	eventInjected      = "Injected"
	eventSkipped       = "InjectionSkipped"
	eventIgnored       = "AnnotationIgnored"
	eventConfiguration = "ConfigurationIgnored"
)

// Options describe an injector. All fields must be set, unless they say otherwise.
type Options struct {
	// Namespace of the control plane.
	Namespace string
	// Version of this build.
	Version string
	// Files of the configuration.
	Files Files
	// Defaults are values for what the configuration lacks, which may be of another release than the chart that Render
	// renders. Nil is none. They must not change any more.
	Defaults map[string]any
	// Lookup finds namespaces and owners.
	Lookup Lookup
	// Render renders the patch chart.
	Render inject.Renderer
	// Events takes what happens to workloads.
	Events record.EventRecorder
	// Metrics is where the counters are registered.
	Metrics prometheus.Registerer
	// Logger takes what is wrong with annotations, and a line for each pod.
	Logger *slog.Logger
}

// Handler decides about admission reviews.
type Handler struct {
	options Options
	config  config
	metrics *metrics
}

// New returns a handler. The error is about the metrics, which can be registered only once.
func New(options Options) (*Handler, error) {
	m, err := newMetrics(options.Metrics)
	if err != nil {
		return nil, fmt.Errorf("registering the injector's metrics: %w", err)
	}
	h := &Handler{options: options, metrics: m}
	h.config = config{files: options.Files, defaults: options.Defaults, try: h.try, changed: h.configurationChanged}
	if err := options.Metrics.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: names.MetricInjectorConfiguration,
		Help: "Whether the configuration is in use as it was read last (1), or an earlier one instead of it (0).",
	}, func() float64 {
		if h.config.usable() {
			return 1
		}
		return 0
	})); err != nil {
		return nil, fmt.Errorf("registering the injector's metrics: %w", err)
	}
	return h, nil
}

// configurationChanged tells of a file that is not in use, and of one that is again.
func (h *Handler) configurationChanged(n notice) {
	if n.refused == nil {
		h.options.Logger.Info("configuration is in use again", "file", n.file)
		return
	}
	h.options.Logger.Error("configuration cannot be used", "file", n.file, "earlier_one_in_use", n.kept, "error", n.refused)
	message := "The proxy injector does not use this, but what was here before: "
	if !n.kept {
		message = "The proxy injector cannot inject with this, and has nothing else: "
	}
	name := names.ConfigMapConfig
	if n.file == h.options.Files.TrustRoots {
		name = names.ConfigMapTrustRoots
	}
	h.options.Events.Event(&corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: h.options.Namespace, Name: name},
		corev1.EventTypeWarning, eventConfiguration, message+n.refused.Error())
}

// Admit is a webhook.Admit. It changes pods and Services, and leaves everything else alone; it denies nothing except a pod
// that asks for a proxy which it cannot have.
func (h *Handler) Admit(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	values, err := h.config.load()
	if err != nil {
		return nil, err
	}
	namespace, err := h.options.Lookup.NamespaceAnnotations(ctx, request.Namespace)
	if err != nil {
		return nil, err
	}
	object, err := inject.Parse(request.Object.Raw)
	if err != nil {
		return nil, err
	}
	r := &review{
		Handler: h, ctx: ctx, request: request, object: object, values: values, namespace: namespace,
		decision: inject.Decide(object.Facts(inject.Webhook, values, namespace)),
		owner:    owner{Owner: inject.Owner{Kind: object.Kind, Name: object.Name}},
	}
	if object.Kind == inject.KindPod {
		r.owner = findOwner(ctx, h.options.Lookup, request.Namespace, object)
	}
	r.labels = h.metrics.request(r.owner.Kind, request.Namespace, r.decision.AnnotationAt, r.annotations())
	return r.answer()
}

// review is one review on its way to an answer.
type review struct {
	*Handler
	ctx       context.Context
	request   *admissionv1.AdmissionRequest
	object    *inject.Object
	values    map[string]any
	namespace map[string]string
	decision  inject.Decision
	owner     owner
	labels    []string
}

// annotations are the object's own, before it inherits any.
func (r *review) annotations() map[string]string {
	if r.object.Pod != nil {
		return r.object.Pod.Annotations
	}
	return r.object.Annotations
}

func (r *review) answer() (*admissionv1.AdmissionResponse, error) {
	if r.decision.Injectable() {
		return r.inject()
	}
	isPod := r.object.Kind == inject.KindPod
	if isPod {
		r.event(corev1.EventTypeNormal, eventSkipped, "Linkerd sidecar proxy injection skipped: "+r.decision.Text())
	}
	if ports, ok := r.object.OpaquePorts(r.values, r.namespace); ok && r.object.Annotatable() {
		r.metrics.response(r.labels, false, "")
		r.log("annotated", "annotation", names.AnnotationOpaquePorts, "ports", ports)
		return allowed(r.object.Annotate(map[string]string{names.AnnotationOpaquePorts: ports}))
	}
	if isPod {
		r.metrics.response(r.labels, true, r.decision.Identifiers())
		r.log("skipped", "reason", r.decision.Identifiers())
	}
	return &admissionv1.AdmissionResponse{Allowed: true}, nil
}

func (r *review) inject() (*admissionv1.AdmissionResponse, error) {
	result, err := inject.Injection{
		Object:                r.object,
		Origin:                inject.Webhook,
		Namespace:             r.request.Namespace,
		NamespaceAnnotations:  r.namespace,
		Owner:                 r.owner.Owner,
		ControlPlaneNamespace: r.options.Namespace,
		CreatedBy:             names.CreatedBy(names.CreatorProxyInjector, r.options.Version),
		Values:                r.values,
	}.Patch(r.options.Render)
	if err != nil {
		return nil, fmt.Errorf("cannot inject a proxy into %s/%s: %w", r.owner.Kind, r.owner.Name, err)
	}
	for _, w := range result.Warnings {
		r.options.Logger.Warn("annotation ignored", "namespace", r.request.Namespace, "owner", r.owner.Kind+"/"+r.owner.Name,
			"annotation", w.Annotation, "value", w.Value, "error", w.Err)
	}
	r.event(corev1.EventTypeNormal, eventInjected, "Linkerd sidecar proxy injected")
	for _, w := range result.Warnings {
		r.event(corev1.EventTypeWarning, eventIgnored, w.String())
	}
	r.metrics.response(r.labels, false, "")
	r.log("injected")
	response, err := allowed(result.Patch)
	if err != nil {
		return nil, err
	}
	// The API server hands warnings to whoever made the pod; those of a controller would end in its log,
	// which is why they are events of the owner as well.
	for _, w := range result.Warnings {
		response.Warnings = append(response.Warnings, "linkerd: "+w.String())
	}
	return response, nil
}

func (r *review) log(what string, args ...any) {
	args = append([]any{"result", what, "kind", r.object.Kind, "namespace", r.request.Namespace, "name", r.object.Name,
		"owner", r.owner.Kind + "/" + r.owner.Name}, args...)
	r.options.Logger.Debug("admission review", args...)
}

// event tells of a pod at its owner: the pod itself does not exist yet.
func (r *review) event(kind, reason, message string) {
	reference := r.owner.reference
	if reference == nil || r.request.DryRun != nil && *r.request.DryRun {
		return
	}
	r.options.Events.Event(&corev1.ObjectReference{
		APIVersion: reference.APIVersion,
		Kind:       reference.Kind,
		Namespace:  r.request.Namespace,
		Name:       reference.Name,
		UID:        reference.UID,
	}, kind, reason, message)
}

// allowed answers with a patch.
func allowed(patch inject.Patch) (*admissionv1.AdmissionResponse, error) {
	data, err := patch.JSON()
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	patchType := admissionv1.PatchTypeJSONPatch
	return &admissionv1.AdmissionResponse{Allowed: true, Patch: data, PatchType: &patchType}, nil
}
