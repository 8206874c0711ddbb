package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/logfilter"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// Warning is an annotation whose value was not, or not wholly, understood. What was not understood has no effect.
type Warning struct {
	Annotation string
	Value      string
	Err        error
}

func (w Warning) String() string {
	return fmt.Sprintf("annotation %s: value %q: %v", w.Annotation, w.Value, w.Err)
}

// RefusedError is an annotation that a pod cannot be injected with.
type RefusedError struct {
	Annotation string
	Value      string
	Err        error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("annotation %s: value %q: %v", e.Annotation, e.Value, e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

// overriding are the values of one pod while its annotations change them.
type overriding struct {
	values map[string]any
	pod    *Pod
	// refused says that the error of a setting refuses the pod, where other errors are warnings.
	refused bool
}

// setting is what one annotation does to the values. Its error says what was not understood of the annotation's value.
type setting struct {
	annotation string
	apply      func(o *overriding, value string) error
}

// settings are all annotations of control plane chapter, section 3.1, except names.AnnotationProxyAdditionalEnv, which is
// merged over levels, and the trace attributes, whose keys are open. Where several change the same value, the last wins.
var settings = []setting{
	{names.AnnotationInject, func(o *overriding, value string) error {
		valuetree.Set(o.values, "proxy.isIngress", value == names.InjectIngress)
		return nil
	}},
	{names.AnnotationProxyImage, word("proxy.image.name")},
	{names.AnnotationProxyVersionOverride, word("proxy.image.version")},
	{names.AnnotationImagePullPolicy, word("proxy.image.pullPolicy")},
	{names.AnnotationDebugImage, word("debugContainer.image.name")},
	{names.AnnotationDebugImageVersion, word("debugContainer.image.version")},
	{names.AnnotationDebugImagePullPolicy, word("debugContainer.image.pullPolicy")},
	{names.AnnotationEnableDebugSidecar, boolean("patch.debug")},
	{names.AnnotationControlPort, port("proxy.ports.control")},
	{names.AnnotationAdminPort, port("proxy.ports.admin")},
	{names.AnnotationInboundPort, port("proxy.ports.inbound")},
	{names.AnnotationOutboundPort, port("proxy.ports.outbound")},
	{names.AnnotationPodInboundPorts, ports("proxy.podInboundPorts", false)},
	{names.AnnotationSkipInboundPorts, ports("proxyInit.ignoreInboundPorts", false)},
	{names.AnnotationSkipOutboundPorts, ports("proxyInit.ignoreOutboundPorts", false)},
	{names.AnnotationSkipSubnets, subnets("proxyInit.skipSubnets")},
	{names.AnnotationSkipOutboundSubnets, subnets("proxyInit.skipOutboundSubnets")},
	{names.AnnotationOpaquePorts, ports("proxy.opaquePorts", true)},
	{names.AnnotationProxyRequireIdentityInboundPorts, ports("proxy.requireIdentityOnInboundPorts", false)},
	{names.AnnotationProxyCPURequest, cpu("proxy.resources.cpu.request", "proxy.runtime.workers.minimum")},
	{names.AnnotationProxyCPULimit, cpu("proxy.resources.cpu.limit", "proxy.runtime.workers.maximum")},
	{names.AnnotationProxyCPURatioLimit, ratio("proxy.runtime.workers.maximumCPURatio")},
	{names.AnnotationProxyMemoryRequest, quantity("proxy.resources.memory.request")},
	{names.AnnotationProxyMemoryLimit, quantity("proxy.resources.memory.limit")},
	{names.AnnotationProxyEphemeralStorageRequest, quantity("proxy.resources.ephemeral-storage.request")},
	{names.AnnotationProxyEphemeralStorageLimit, quantity("proxy.resources.ephemeral-storage.limit")},
	{names.AnnotationProxyUID, integer("proxy.uid", 64)},
	{names.AnnotationProxyGID, integer("proxy.gid", 64)},
	{names.AnnotationProxyLogLevel, logLevel},
	{names.AnnotationProxyLogFormat, oneOf("proxy.logFormat", map[string]any{"plain": "plain", "json": "json"})},
	{names.AnnotationProxyLogHTTPHeaders, logHeaders},
	{names.AnnotationAccessLog, text("proxy.accessLog")},
	{names.AnnotationOutboundAccessLog, oneOf("proxy.outboundAccessLog", map[string]any{
		"apache": "apache", "apache-extended": "apache-extended", "json": "json",
	})},
	{names.AnnotationInboundForwardedFor, oneOf("proxy.inboundForwardedFor", map[string]any{"append": "append", "replace": "replace"})},
	{names.AnnotationInboundProxyProtocolPorts, ports("proxy.inboundProxyProtocolPorts", true)},
	{names.AnnotationProxyMetricsHostnameLabels, boolean("proxy.metrics.hostnameLabels")},
	{names.AnnotationEnableExternalProfiles, boolean("proxy.enableExternalProfiles")},
	{names.AnnotationDefaultInboundPolicy, policy("proxy.defaultInboundPolicy")},
	{names.AnnotationEnableGateway, boolean("proxy.isGateway")},
	{names.AnnotationProxyOutboundConnectTimeout, duration("proxy.outboundConnectTimeout", time.Millisecond)},
	{names.AnnotationProxyInboundConnectTimeout, duration("proxy.inboundConnectTimeout", time.Millisecond)},
	{names.AnnotationProxyOutboundDiscoveryCacheUnusedTimeout, duration("proxy.outboundDiscoveryCacheUnusedTimeout", time.Second)},
	{names.AnnotationProxyInboundDiscoveryCacheUnusedTimeout, duration("proxy.inboundDiscoveryCacheUnusedTimeout", time.Second)},
	{names.AnnotationProxyDisableOutboundProtocolDetectTimeout, boolean("proxy.disableOutboundProtocolDetectTimeout")},
	{names.AnnotationProxyDisableInboundProtocolDetectTimeout, boolean("proxy.disableInboundProtocolDetectTimeout")},
	{names.AnnotationShutdownGracePeriod, duration("proxy.shutdownGracePeriod", time.Millisecond)},
	{names.AnnotationShutdownTCPGracePeriod, duration("proxy.shutdownTCPGracePeriod", time.Millisecond)},
	{names.AnnotationProxyAwait, oneOf("proxy.await", onOff)},
	{names.AnnotationProxyAdminShutdown, oneOf("proxy.enableShutdownEndpoint", onOff)},
	{names.AnnotationCloseWaitTimeout, closeWait},
	{names.AnnotationProxyWaitBeforeExitSeconds, unsigned("proxy.waitBeforeExitSeconds")},
	// Oldest first, because the newest spelling wins.
	{names.AnnotationProxyEnableNativeSidecarAlpha, boolean("proxy.nativeSidecar")},
	{names.AnnotationProxyEnableNativeSidecarBeta, boolean("proxy.nativeSidecar")},
	{names.AnnotationProxyEnableNativeSidecar, boolean("proxy.nativeSidecar")},
}

var onOff = map[string]any{names.ValueEnabled: true, names.ValueDisabled: false}

// override returns a copy of values as annotations, those of the pod with what it inherits, change them. namespace are
// those of the namespace alone. The error, a *RefusedError, says that the pod cannot be injected.
func override(values map[string]any, pod *Pod, annotations, namespace map[string]string) (map[string]any, []Warning, error) {
	o := &overriding{values: valuetree.Clone(values).(map[string]any), pod: pod}
	var warnings []Warning
	// Before the annotations, one of which changes the list of inbound ports.
	pod.describe(o.values)
	for _, s := range settings {
		value, ok := annotations[s.annotation]
		if !ok {
			continue
		}
		err := s.apply(o, value)
		if o.refused {
			return nil, nil, &RefusedError{Annotation: s.annotation, Value: value, Err: err}
		}
		if err != nil {
			warnings = append(warnings, Warning{Annotation: s.annotation, Value: value, Err: err})
		}
	}
	warnings = append(warnings, o.additionalEnv(namespace, annotations)...)
	warnings = append(warnings, o.traceAttributes()...)
	return o.values, warnings, nil
}

func text(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		valuetree.Set(o.values, path, value)
		return nil
	}
}

// word is text that becomes a part of an image's name or the like: it cannot be empty or contain blanks.
func word(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		if value == "" || strings.ContainsAny(value, " \t\r\n\"'{}#&*!|>%`") {
			return errors.New("must be a name, without blanks or quotes")
		}
		valuetree.Set(o.values, path, value)
		return nil
	}
}

func boolean(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("must be true or false")
		}
		valuetree.Set(o.values, path, b)
		return nil
	}
}

func oneOf(path string, allowed map[string]any) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		v, ok := allowed[value]
		if !ok {
			return fmt.Errorf("must be one of: %s", strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
		}
		valuetree.Set(o.values, path, v)
		return nil
	}
}

func integer(path string, bits int) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		n, err := strconv.ParseInt(value, 10, bits)
		if err != nil {
			return errors.New("must be an integer")
		}
		valuetree.Set(o.values, path, n)
		return nil
	}
}

func unsigned(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return errors.New("must be a number that is not negative")
		}
		valuetree.Set(o.values, path, int64(n))
		return nil
	}
}

func port(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return errors.New("must be a port, 1 to 65535")
		}
		valuetree.Set(o.values, path, int64(n))
		return nil
	}
}

// ports takes a list of ports over. Elements that are wrong are left out, but a list that is wrong as a whole is not an
// empty one.
func ports(path string, named bool) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		var byName func(string) []uint16
		if named {
			byName = o.pod.namedPorts
		}
		list, errs := portlist.Parse(value, byName)
		if len(errs) == 0 || len(list) > 0 {
			valuetree.Set(o.values, path, list.String())
		}
		return errors.Join(errs...)
	}
}

// elements splits a comma-separated list, trims blanks and tolerates one comma at the end.
func elements(list string) []string {
	list = strings.TrimSuffix(strings.TrimSpace(list), ",")
	if list == "" {
		return nil
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func subnets(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		var good []string
		var errs []error
		for _, element := range elements(value) {
			if _, err := netip.ParsePrefix(element); err != nil {
				errs = append(errs, fmt.Errorf("%q is not a network in CIDR notation", element))
				continue
			}
			good = append(good, element)
		}
		if len(errs) == 0 || len(good) > 0 {
			valuetree.Set(o.values, path, strings.Join(good, ","))
		}
		return errors.Join(errs...)
	}
}

func quantity(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		q, err := resource.ParseQuantity(value)
		if err != nil || q.Sign() < 0 {
			return errors.New("must be a quantity such as 100m or 64Mi")
		}
		valuetree.Set(o.values, path, value)
		return nil
	}
}

// cpu also sets a number of workers: a proxy that may use two and a half cores gets three.
func cpu(path, workers string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		if err := quantity(path)(o, value); err != nil {
			return err
		}
		q := resource.MustParse(value)
		valuetree.Set(o.values, workers, (q.MilliValue()+999)/1000)
		return nil
	}
}

func ratio(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		r, err := strconv.ParseFloat(value, 64)
		if err != nil || !(r > 0 && r < 1) {
			return errors.New("must be a number between 0 and 1")
		}
		valuetree.Set(o.values, path, r)
		return nil
	}
}

// duration writes a Go duration in whole units, the form that the proxy reads.
func duration(path string, unit time.Duration) func(*overriding, string) error {
	suffix := map[time.Duration]string{time.Millisecond: "ms", time.Second: "s"}[unit]
	return func(o *overriding, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return errors.New("must be a duration such as 500ms or 1m30s")
		}
		valuetree.Set(o.values, path, strconv.FormatInt(int64(d/unit), 10)+suffix)
		return nil
	}
}

func policy(path string) func(*overriding, string) error {
	return func(o *overriding, value string) error {
		if !names.IsDefaultPolicy(value) {
			return fmt.Errorf("must be one of: %s", strings.Join(names.DefaultPolicies(), ", "))
		}
		valuetree.Set(o.values, path, value)
		return nil
	}
}

// logLevel leaves out a filter that the proxy would not start with.
func logLevel(o *overriding, value string) error {
	if _, err := logfilter.Parse(value); err != nil {
		return err
	}
	valuetree.Set(o.values, "proxy.logLevel", value)
	return nil
}

// logHeaders refuses what it does not know: headers hold secrets, and a value that was meant to keep them out of the logs
// must not be without effect.
func logHeaders(o *overriding, value string) error {
	switch value {
	case "", "off", "insecure":
		valuetree.Set(o.values, "proxy.logHTTPHeaders", value)
		return nil
	}
	o.refused = true
	return errors.New(`must be "off", "insecure" or empty`)
}

// closeWait refuses a pod whose init container could not do what is asked for.
func closeWait(o *overriding, value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return errors.New("must be a duration such as 500ms or 1m30s")
	}
	seconds := int64(d / time.Second)
	if seconds > 0 && !valuetree.Bool(o.values, "proxyInit.runAsRoot") {
		o.refused = true
		return errors.New("needs the control plane to be installed with proxyInit.runAsRoot=true")
	}
	valuetree.Set(o.values, "proxyInit.closeWaitTimeoutSecs", seconds)
	return nil
}

// additionalEnv merges variables by name: values, then the namespace's, then the pod's.
func (o *overriding) additionalEnv(namespace, annotations map[string]string) []Warning {
	const path = "proxy.additionalEnv"
	merged, _ := valuetree.Get(o.values, path).([]any)
	var warnings []Warning
	levels := []map[string]string{namespace, annotations}
	for i, level := range levels {
		value, ok := level[names.AnnotationProxyAdditionalEnv]
		if !ok || i == 1 && value == namespace[names.AnnotationProxyAdditionalEnv] {
			continue // absent, or inherited and already there
		}
		variables, err := parseEnv(value)
		if err != nil {
			warnings = append(warnings, Warning{Annotation: names.AnnotationProxyAdditionalEnv, Value: value, Err: err})
			continue
		}
		for _, v := range variables {
			at := slices.IndexFunc(merged, func(m any) bool {
				variable, _ := m.(map[string]any)
				return variable["name"] == v["name"]
			})
			if at < 0 {
				merged = append(merged, v)
			} else {
				merged[at] = v
			}
		}
	}
	if len(merged) > 0 {
		valuetree.Set(o.values, path, merged)
	}
	return warnings
}

// parseEnv reads a JSON array of Kubernetes EnvVars.
func parseEnv(value string) ([]map[string]any, error) {
	var typed []corev1.EnvVar
	if err := json.Unmarshal([]byte(value), &typed); err != nil {
		return nil, fmt.Errorf("must be a JSON array of environment variables: %w", err)
	}
	for _, v := range typed {
		if v.Name == "" {
			return nil, errors.New("has a variable without name")
		}
	}
	var variables []map[string]any
	if err := json.Unmarshal([]byte(value), &variables); err != nil {
		return nil, err
	}
	return variables, nil
}

// traceAttributes adds what the pod says about itself to its traces. Annotations of the namespace do not count.
func (o *overriding) traceAttributes() []Warning {
	if !valuetree.Bool(o.values, "proxy.tracing.enabled") {
		return nil
	}
	attributes, _ := valuetree.Get(o.values, "proxy.tracing.labels").(map[string]any)
	if attributes == nil {
		attributes = map[string]any{}
	}
	for _, key := range []string{names.LabelAppName, names.LabelAppInstance} {
		if value := o.pod.Labels[key]; value != "" {
			attributes["service.name"] = value
		}
	}
	var warnings []Warning
	for key, value := range o.pod.Annotations {
		attribute, ok := strings.CutPrefix(key, names.AnnotationTraceAttributePrefix)
		if !ok {
			continue
		}
		// The proxy reads one attribute per line.
		if strings.ContainsAny(value, "\r\n") {
			warnings = append(warnings, Warning{Annotation: key, Value: value, Err: errors.New("must be one line")})
			continue
		}
		attributes[attribute] = value
	}
	slices.SortFunc(warnings, func(a, b Warning) int { return strings.Compare(a.Annotation, b.Annotation) })
	valuetree.Set(o.values, "proxy.tracing.labels", attributes)
	return warnings
}

// Check returns what is wrong with annotations, before there is a pod to put them on. Opaque
// ports are not looked at: any word may be the name of a port.
func Check(values map[string]any, annotations map[string]string) []Warning {
	_, warnings, err := override(values, &Pod{Spec: &corev1.PodSpec{}}, annotations, nil)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return []Warning{{Annotation: refused.Annotation, Value: refused.Value, Err: refused.Err}}
	}
	return slices.DeleteFunc(warnings, func(w Warning) bool { return w.Annotation == names.AnnotationOpaquePorts })
}

// fromValues are the annotations that stand for values which the CLI's flags change (CLI chapter, section 3.3).
var fromValues = []struct {
	annotation, path string
	// write gives the annotation's value, false to leave it out; nil writes the value as it is.
	write func(value any) (string, bool)
}{
	{names.AnnotationProxyVersionOverride, "proxy.image.version", nil},
	{names.AnnotationSkipInboundPorts, "proxyInit.ignoreInboundPorts", nil},
	{names.AnnotationSkipOutboundPorts, "proxyInit.ignoreOutboundPorts", nil},
	{names.AnnotationAdminPort, "proxy.ports.admin", nil},
	{names.AnnotationControlPort, "proxy.ports.control", nil},
	{names.AnnotationInboundPort, "proxy.ports.inbound", nil},
	{names.AnnotationOutboundPort, "proxy.ports.outbound", nil},
	{names.AnnotationOpaquePorts, "proxy.opaquePorts", nil},
	{names.AnnotationProxyImage, "proxy.image.name", nil},
	{names.AnnotationDebugImage, "debugContainer.image.name", nil},
	{names.AnnotationDebugImageVersion, "debugContainer.image.version", nil},
	{names.AnnotationImagePullPolicy, "proxy.image.pullPolicy", nil},
	{names.AnnotationProxyUID, "proxy.uid", nil},
	{names.AnnotationProxyGID, "proxy.gid", func(v any) (string, bool) {
		s := scalar(v)
		return s, !strings.HasPrefix(s, "-")
	}},
	{names.AnnotationProxyLogLevel, "proxy.logLevel", nil},
	{names.AnnotationProxyLogFormat, "proxy.logFormat", nil},
	{names.AnnotationProxyRequireIdentityInboundPorts, "proxy.requireIdentityOnInboundPorts", nil},
	{names.AnnotationEnableExternalProfiles, "proxy.enableExternalProfiles", nil},
	{names.AnnotationProxyMetricsHostnameLabels, "proxy.metrics.hostnameLabels", nil},
	{names.AnnotationProxyCPURequest, "proxy.resources.cpu.request", nil},
	{names.AnnotationProxyCPULimit, "proxy.resources.cpu.limit", nil},
	{names.AnnotationProxyMemoryRequest, "proxy.resources.memory.request", nil},
	{names.AnnotationProxyMemoryLimit, "proxy.resources.memory.limit", nil},
	{names.AnnotationProxyAwait, "proxy.await", func(v any) (string, bool) {
		if b, _ := v.(bool); b {
			return names.ValueEnabled, true
		}
		return names.ValueDisabled, true
	}},
	{names.AnnotationDefaultInboundPolicy, "proxy.defaultInboundPolicy", nil},
	{names.AnnotationAccessLog, "proxy.accessLog", nil},
	{names.AnnotationShutdownGracePeriod, "proxy.shutdownGracePeriod", nil},
	{names.AnnotationProxyEnableNativeSidecar, "proxy.nativeSidecar", nil},
	{names.AnnotationProxyWaitBeforeExitSeconds, "proxy.waitBeforeExitSeconds", nil},
}

// AnnotationsFor returns the annotations that make values of base: what the CLI writes on a workload for its flags.
func AnnotationsFor(base, values map[string]any) map[string]string {
	out := map[string]string{}
	for _, f := range fromValues {
		value := valuetree.Get(values, f.path)
		if value == nil || scalar(value) == scalar(valuetree.Get(base, f.path)) {
			continue
		}
		if f.write == nil {
			out[f.annotation] = scalar(value)
		} else if s, ok := f.write(value); ok {
			out[f.annotation] = s
		}
	}
	return out
}

// scalar writes a value as an annotation has it: a number from YAML is a float, but annotations have no exponents.
func scalar(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}
