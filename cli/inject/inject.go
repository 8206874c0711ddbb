// Package inject is the commands linkerd inject and linkerd uninject: they read Kubernetes objects, put the proxy's
// annotations or the proxy itself into them or take it out, and print the objects (CLI chapter, section 3).
//
// An input is a stream of documents (document.go). Each is transformed on its own (transform.go), by one of two
// transformers (inject.go, uninject.go); a document that does not change is printed as it was written. Nothing is printed
// until all inputs have been transformed, so that a pipe into kubectl never applies half of them.
//
// What is decided about an object is in internal/inject, which the webhook shares.
package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/inject"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// Parts are what the command needs of other rooms.
type Parts struct {
	// Values is the chart whose values flags are compared with when there is no cluster to ask.
	Values func() (controlplane.Chart, error)
	// Renderer makes the renderer of the patch chart for a control plane's namespace.
	Renderer func(namespace string) (inject.Renderer, error)
}

// options are the flags of inject (CLI chapter, section 3.2).
type options struct {
	*command.Globals
	proxy         controlplane.Flags
	flags         *pflag.FlagSet
	manual        bool
	ignoreCluster bool
	debug         bool
	ingress       bool
	native        bool
	closeWait     time.Duration
	waitSeconds   int64
	requireID     []string
	opaque        []string
	format        string
	// Flags of older releases.
	noIdentity            bool
	noTap                 bool
	traceCollector        string
	traceCollectorAccount string
}

// New returns the command inject.
func New(w *command.World, g *command.Globals, parts Parts) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "inject [flags] CONFIG-FILE",
		Short: "Add the Linkerd proxy to a Kubernetes config",
		Long: `Add the Linkerd proxy to a Kubernetes config.

You can inject resources contained in a single file, inside a folder and its
sub-folders, or coming from stdin.`,
		Example: `  # Inject all the deployments in the default namespace.
  kubectl get deploy -o yaml | linkerd inject - | kubectl apply -f -

  # Injecting a file from a remote URL
  linkerd inject https://url.to/yml | kubectl apply -f -

  # Inject all the resources inside a folder and its sub-folders.
  linkerd inject <folder> | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 {
				return errNoFile
			}
			passedOver(w, args[1:])
			return o.run(cmd.Context(), w, parts, args[0])
		},
	}
	o.register(cmd.Flags())
	return cmd
}

func (o *options) register(fs *pflag.FlagSet) {
	o.flags = fs
	fs.BoolVar(&o.manual, "manual", false, "Include the proxy sidecar container spec in the YAML output (the auto-injector won't pick it up, so config annotations aren't supported) (default false)")
	fs.BoolVar(&o.ignoreCluster, "ignore-cluster", false, "Ignore the current Kubernetes cluster when checking for existing cluster configuration (default false)")
	fs.BoolVar(&o.debug, "enable-debug-sidecar", false, "Inject a debug sidecar for data plane debugging")
	fs.DurationVar(&o.closeWait, "close-wait-timeout", 0, "Sets nf_conntrack_tcp_timeout_close_wait")
	fs.BoolVar(&o.native, "native-sidecar", false, "Enable native sidecar")
	fs.Int64Var(&o.waitSeconds, "wait-before-exit-seconds", 0, "The period during which the proxy sidecar must stay alive while its pod is terminating. Must be smaller than terminationGracePeriodSeconds for the pod (default 0)")
	fs.StringSliceVar(&o.requireID, "require-identity-on-inbound-ports", nil, "Inbound ports on which the proxy should require identity")
	fs.BoolVar(&o.ingress, "ingress", false, "Enable ingress mode in the linkerd proxy")
	fs.StringSliceVar(&o.opaque, "opaque-ports", nil, "Set opaque ports on the proxy (default: those of the installation)")
	fs.StringVarP(&o.format, "output", "o", "yaml", "Output format, one of: json|yaml")
	o.proxy.RegisterProxy(fs)

	// Accepted for scripts written for older releases (CLI chapter, section 9).
	fs.BoolVar(&o.noIdentity, "disable-identity", false, "no longer supported")
	fs.BoolVar(&o.noTap, "disable-tap", false, "Disables resources from being tapped")
	fs.StringVar(&o.traceCollector, "trace-collector", "", "Collector Service address for the proxies to send Trace Data")
	fs.StringVar(&o.traceCollectorAccount, "trace-collector-svc-account", "", "Service account associated with the Trace collector instance")
	fs.String("init-image", "", "accepted and ignored: the init container runs the proxy image")
	fs.String("init-image-version", "", "accepted and ignored: the init container runs the proxy image")
	for _, name := range []string{"disable-identity", "disable-tap", "trace-collector", "trace-collector-svc-account", "init-image", "init-image-version"} {
		_ = fs.MarkHidden(name)
	}
}

func (o *options) run(ctx context.Context, w *command.World, parts Parts, arg string) error {
	if o.noIdentity {
		return errors.New("--disable-identity is no longer supported; identity is always required")
	}
	if !command.OneOf(o.format, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.format)
	}
	base, err := o.base(ctx, w, parts.Values)
	if err != nil {
		return err
	}
	annotations, err := o.annotations(w, base)
	if err != nil {
		return err
	}
	_, opaque := annotations[names.AnnotationOpaquePorts]
	t := &injecter{
		annotations:  annotations,
		opaque:       opaque,
		guess:        o.ignoreCluster,
		manual:       o.manual,
		values:       base,
		controlPlane: o.Namespace,
		reporter:     reporter{verbose: o.Verbose, terminal: w.Terminal},
	}
	if o.manual {
		if strings.TrimSpace(valuetree.String(base, "identityTrustAnchorsPEM")) == "" {
			return command.Failf("%s", inject.ErrNoTrustAnchors)
		}
		if t.render, err = parts.Renderer(o.Namespace); err != nil {
			return err
		}
	}
	return run(w, arg, o.format, t)
}

// base returns the values that flags are compared with: those of the installation, or of the chart.
func (o *options) base(ctx context.Context, w *command.World, defaults func() (controlplane.Chart, error)) (map[string]any, error) {
	chart, err := defaults()
	if err != nil {
		return nil, err
	}
	own, err := chart.Defaults()
	if err != nil || o.ignoreCluster {
		return own, err
	}
	const hint = "Validate the install with: 'linkerd check'"
	c, err := o.Connect(w)
	if err == nil {
		_, err = c.Version(ctx)
	}
	if err != nil {
		return nil, command.Failf("Cannot connect to Kubernetes: %s\n%s", err, hint)
	}
	config, err := c.Kube.CoreV1().ConfigMaps(o.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return nil, command.Failf("Cannot find Linkerd: %s\n%s", err, hint)
	}
	stored, err := controlplane.Values(config)
	if err != nil {
		return nil, command.Failf("Cannot find Linkerd: %s\n%s", err, hint)
	}
	values := valuetree.WithDefaults(stored, own)
	if o.manual && (valuetree.String(values, "identityTrustAnchorsPEM") == "" || controlplane.Rotates(values)) {
		// With an external CA the anchors are not among the values; where they
		// rotate, the values have those of the installation.
		roots, err := c.Kube.CoreV1().ConfigMaps(o.Namespace).Get(ctx, controlplane.TrustRootsName, metav1.GetOptions{})
		if err != nil {
			return nil, command.Failf("Cannot find the identity trust anchors: %s\n%s", err, hint)
		}
		valuetree.Set(values, "identityTrustAnchorsPEM", roots.Data[controlplane.TrustRootsKey])
	}
	return values, nil
}

// annotations returns what the flags write on pods (CLI chapter, sections 3.2 and 3.3).
func (o *options) annotations(w *command.World, base map[string]any) (map[string]string, error) {
	values, err := valuetree.Copy(base)
	if err != nil {
		return nil, err
	}
	if err := o.proxy.Apply(w, values); err != nil {
		return nil, err
	}
	// One by one the flags are looked at below; together they may make no sense, either. What is wrong in the
	// installation itself is not the business of this command.
	if err := controlplane.ValidateProxy(values); err != nil && controlplane.ValidateProxy(base) == nil {
		return nil, err
	}
	if policy := valuetree.String(values, "imagePullPolicy"); o.flags.Changed("image-pull-policy") && !command.OneOf(policy, "Always", "IfNotPresent", "Never") {
		return nil, errors.New("--image-pull-policy must be one of: Always, IfNotPresent, Never")
	}
	if o.flags.Changed("opaque-ports") {
		valuetree.Set(values, "proxy.opaquePorts", strings.Join(o.opaque, ","))
	}
	if o.flags.Changed("require-identity-on-inbound-ports") {
		valuetree.Set(values, "proxy.requireIdentityOnInboundPorts", strings.Join(o.requireID, ","))
	}
	if o.flags.Changed("native-sidecar") {
		valuetree.Set(values, "proxy.nativeSidecar", o.native)
	}
	if o.flags.Changed("wait-before-exit-seconds") {
		valuetree.Set(values, "proxy.waitBeforeExitSeconds", o.waitSeconds)
	}
	annotations := inject.AnnotationsFor(base, values)
	if o.debug {
		annotations[names.AnnotationEnableDebugSidecar] = strconv.FormatBool(true)
	}
	if o.ingress {
		annotations[names.AnnotationInject] = names.InjectIngress
	}
	if o.noTap {
		annotations["config.linkerd.io/disable-tap"] = "true"
		annotations[names.AnnotationVizDisableTap] = "true"
	}
	if o.traceCollector != "" {
		annotations["config.linkerd.io/trace-collector"] = o.traceCollector
	}
	if o.traceCollectorAccount != "" {
		annotations["config.alpha.linkerd.io/trace-collector-service-account"] = o.traceCollectorAccount
	}
	if o.closeWait != 0 {
		annotations[names.AnnotationCloseWaitTimeout] = o.closeWait.String()
		if o.ignoreCluster {
			// It needs an installation that runs the init container as root; nobody knows whether there is one.
			valuetree.Set(base, "proxyInit.runAsRoot", true)
		}
	}
	// A mistake in a flag is better told here than by an injector that ignores it.
	if bad := inject.Check(base, annotations); len(bad) > 0 {
		return nil, command.Failf("%s", bad[0])
	}
	return annotations, nil
}

// injecter puts the proxy, or what asks for it, into objects (CLI chapter, section 3.4).
type injecter struct {
	// annotations that the flags stand for.
	annotations map[string]string
	// opaque says that the user gave opaque ports, the only flag that is for Services too.
	opaque bool
	manual bool
	values map[string]any
	// guess says that values are not those of an installation.
	guess bool
	// controlPlane is its namespace.
	controlPlane string
	// render is set for manual injection.
	render   inject.Renderer
	reporter reporter
}

func (t *injecter) report(w io.Writer, results []result) { t.reporter.write(w, results) }

func (t *injecter) transform(object map[string]any) (map[string]any, result, error) {
	// Whatever was injected before is made anew.
	object, was, err := uninjecter{}.transform(object)
	if err != nil {
		return nil, was, err
	}
	o, err := parse(object)
	if err != nil {
		return nil, was, err
	}
	r := result{kind: o.Kind, name: o.Name, annotatable: o.Annotatable()}
	if o.IsControlPlane() && o.Pod != nil && !t.manual {
		return nil, r, refusal{errors.New("--manual must be set when injecting control plane components")}
	}
	switch {
	case !o.Annotatable():
		return object, r, nil
	case o.Kind == inject.KindService:
		if !t.opaque {
			return object, r, nil
		}
		r.annotated = true
		key := names.AnnotationOpaquePorts
		object, err = annotate(object, o, map[string]string{key: t.annotations[key]})
		return object, r, err
	case o.Kind == inject.KindNamespace:
		r.annotated = true
		object, err = annotate(object, o, t.enabling())
		return object, r, err
	}
	return t.injectPod(object, o, r)
}

// enabling are the annotations that ask for injection as the flags say.
func (t *injecter) enabling() map[string]string {
	annotations := map[string]string{names.AnnotationInject: names.InjectEnabled}
	for key, value := range t.annotations {
		annotations[key] = value
	}
	return annotations
}

// fatal are the reasons that are errors, in the order in which they are told: what the user named cannot be meshed. An
// object that opts out is merely left out.
var fatal = []inject.Reason{inject.ReasonHostNetwork, inject.ReasonSidecar, inject.ReasonUDP, inject.ReasonNoToken}

func (t *injecter) injectPod(object map[string]any, o *inject.Object, r result) (map[string]any, result, error) {
	r.considered = true
	r.facts = o.Facts(inject.CLI, t.values, nil)
	r.decision = inject.Decide(r.facts)
	if !r.decision.Injectable() {
		var reasons []string
		for _, reason := range fatal {
			if r.decision.Has(reason) {
				reasons = append(reasons, reason.Text())
			}
		}
		if len(reasons) > 0 && !r.decision.Has(inject.ReasonDisabled) {
			return nil, r, refusal{fmt.Errorf("failed to inject %s: %s", r, strings.Join(reasons, ", "))}
		}
		r.annotated = len(t.annotations) > 0
		annotations := map[string]string{}
		for key, value := range t.annotations {
			if key != names.AnnotationInject { // it stays disabled
				annotations[key] = value
			}
		}
		object, err := annotate(object, o, annotations)
		return object, r, err
	}
	r.injected = true
	if !t.manual {
		if !t.guess {
			// The injector will say so too, but to the controller that makes the pods.
			for _, w := range inject.Check(t.values, o.Pod.Annotations) {
				r.warnings = append(r.warnings, w.String())
			}
		}
		object, err := annotate(object, o, t.enabling())
		return object, r, err
	}
	object, err := annotate(object, o, t.annotations)
	if err != nil {
		return nil, r, err
	}
	if o, err = parse(object); err != nil {
		return nil, r, err
	}
	injected, err := inject.Injection{
		Object:                o,
		Origin:                inject.CLI,
		Namespace:             o.Namespace,
		Owner:                 inject.Owner{Kind: o.Kind, Name: o.Name},
		ControlPlaneNamespace: t.controlPlane,
		CreatedBy:             names.CreatedBy(names.CreatorCLI, version.Current()),
		Values:                t.values,
	}.Patch(t.render)
	if err != nil {
		return nil, r, refusal{fmt.Errorf("failed to inject %s: %w", r, err)}
	}
	for _, w := range injected.Warnings {
		r.warnings = append(r.warnings, w.String())
	}
	object, err = apply(object, injected.Patch)
	return object, r, err
}

func annotate(object map[string]any, o *inject.Object, annotations map[string]string) (map[string]any, error) {
	return apply(object, o.Annotate(annotations))
}

// apply applies a patch to an object.
func apply(object map[string]any, p inject.Patch) (map[string]any, error) {
	if len(p) == 0 {
		return object, nil
	}
	data, err := p.JSON()
	if err != nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return nil, err
	}
	before, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	after, err := patch.Apply(before)
	if err != nil {
		return nil, fmt.Errorf("changing the object: %w", err)
	}
	return decode(after)
}
