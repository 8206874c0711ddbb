// Package controlplane turns flags and values into the manifest of the control
// plane; install, upgrade, prune and check build on it.
//
// Everything here works on Helm values as nested maps, so that a value the CLI
// does not know reaches the chart, the stored configuration and the next
// upgrade like any other.
//
// The package asks the cluster questions but changes nothing in it. Its
// functions may be called from any goroutine; a values map belongs to one
// caller at a time.
package controlplane

import (
	"bytes"
	"encoding/base64"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/valueschema"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/version"
)

// Names of objects other programs look for.
const (
	ConfigMapName    = "linkerd-config"
	ConfigMapKey     = "values"
	OverridesName    = "linkerd-config-overrides"
	IssuerSecret     = "linkerd-identity-issuer"
	TrustRootsName   = "linkerd-identity-trust-roots"
	TrustRootsKey    = "ca-bundle.crt"
	ControlPlaneNS   = "linkerd.io/control-plane-ns"
	CreatedBy        = "linkerd.io/created-by"
	SchemeLinkerd    = "linkerd.io/tls"
	SchemeKubernetes = "kubernetes.io/tls"
)

// Chart is a Helm chart, as the CLI needs it. cmd/linkerd joins it with the
// charts of the repository.
type Chart interface {
	// Defaults returns a fresh copy of the chart's values.
	Defaults() (map[string]any, error)
	// HighAvailability returns a fresh copy of the values laid over for --ha.
	HighAvailability() (map[string]any, error)
	// Misfits returns the values that the chart's schema refuses.
	Misfits(values map[string]any) ([]valueschema.Misfit, error)
	// Render renders for a namespace, as the CLI, and refuses misfits. Templates
	// named in first come first.
	Render(namespace string, values map[string]any, first ...string) ([]byte, error)
	// Mentions reports whether a template reads a value with the path's last key,
	// at the top if it is the only one, else wherever below.
	Mentions(path string) bool
}

// Charts are the two charts of the core.
type Charts struct {
	ControlPlane func() (Chart, error)
	CRDs         func() (Chart, error)
}

// order of the templates in a manifest: the namespace first, RBAC before what
// runs with it, the workloads last (CLI chapter, section 2.4).
var order = []string{
	"namespace", "identity-rbac", "destination-rbac", "heartbeat-rbac", "podmonitor", "proxy-injector-rbac", "psp",
	"config", "config-rbac", "identity", "destination", "heartbeat", "proxy-injector",
}

var orderCRDs = []string{"policy", "serviceprofile", "gateway", "workload"}

// ClientVersion is the value of created-by for objects the CLI renders.
func ClientVersion() string { return "linkerd/cli " + version.Current() }

// Render renders the control plane with its final values, followed by the
// Secret that keeps what was changed for the next upgrade.
func Render(charts Charts, namespace string, values map[string]any) ([]byte, error) {
	chart, err := charts.ControlPlane()
	if err != nil {
		return nil, err
	}
	rendered, err := valuetree.Copy(values)
	if err != nil {
		return nil, err
	}
	rendered["cliVersion"] = ClientVersion()
	manifest, err := chart.Render(namespace, rendered, order...)
	if err != nil {
		return nil, err
	}
	defaults, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	secret, err := overrides(namespace, defaults, values)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Write(manifest)
	out.WriteString("---\n")
	out.Write(secret)
	return out.Bytes(), nil
}

// overrides is the Secret with the difference between the chart's defaults and
// the values in effect (CLI chapter, section 2.5). linkerdVersion stays out:
// an upgrade brings its own.
func overrides(namespace string, defaults, values map[string]any) ([]byte, error) {
	difference := valuetree.Difference(defaults, values)
	delete(difference, "linkerdVersion")
	delete(difference, "cliVersion")
	delete(difference, generatedCertificates)
	text, err := yaml.Marshal(difference)
	if err != nil {
		return nil, err
	}
	// Written by hand rather than from the typed Secret, which would add
	// empty fields.
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "Secret",
		"metadata": map[string]any{
			"name":      OverridesName,
			"namespace": namespace,
			"labels":    map[string]any{ControlPlaneNS: namespace},
		},
		"data": map[string]any{OverridesName: base64.StdEncoding.EncodeToString(text)},
	})
}

// StoredOverrides reads the difference back. A map global at the top, as
// installations before 2.10 have it, is flattened.
func StoredOverrides(secret *corev1.Secret) (map[string]any, error) {
	data, ok := secret.Data[OverridesName]
	if !ok {
		return nil, fmt.Errorf("secret/%s is missing %s data", OverridesName, OverridesName)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("secret/%s: %w", OverridesName, err)
	}
	if global, ok := values["global"].(map[string]any); ok {
		delete(values, "global")
		values = valuetree.Merge(global, values)
	}
	return values, nil
}

// RenderCRDs renders the CRD chart.
func RenderCRDs(charts Charts, namespace string, values map[string]any) ([]byte, error) {
	chart, err := charts.CRDs()
	if err != nil {
		return nil, err
	}
	rendered, err := valuetree.Copy(values)
	if err != nil {
		return nil, err
	}
	rendered["cliVersion"] = ClientVersion()
	return chart.Render(namespace, rendered, orderCRDs...)
}

// Values returns the values in the ConfigMap of an installation.
func Values(configMap *corev1.ConfigMap) (map[string]any, error) {
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(configMap.Data[ConfigMapKey]), &values); err != nil {
		return nil, fmt.Errorf("configmap/%s: %w", ConfigMapName, err)
	}
	return values, nil
}

// Object is the part of a rendered object the CLI reads.
type Object struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// Raw is the whole document.
	Raw []byte `json:"-"`
}

// Objects splits a manifest.
func Objects(manifest []byte) ([]Object, error) {
	var out []Object
	for _, document := range bytes.Split(manifest, []byte("\n---\n")) {
		document = bytes.TrimPrefix(bytes.TrimSpace(document), []byte("---"))
		if len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		var o Object
		if err := yaml.Unmarshal(document, &o); err != nil {
			return nil, err
		}
		if o.Kind == "" {
			continue
		}
		o.Raw = document
		out = append(out, o)
	}
	return out, nil
}

// StoredFrom is Stored for a Secret from elsewhere.
func StoredFrom(charts Charts, secret *corev1.Secret) (map[string]any, error) {
	difference, err := StoredOverrides(secret)
	if err != nil {
		return nil, err
	}
	chart, err := charts.ControlPlane()
	if err != nil {
		return nil, err
	}
	values, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	return valuetree.Merge(values, difference), nil
}
