// Package extensioninit gives an extension's namespace the labels and annotations by which the mesh knows it, where the
// namespace was made by somebody else: Helm can not label the namespace that it installs into.
//
//	err := extensioninit.Apply(ctx, clients.Kube, extensioninit.Options{Extension: "smi", Namespace: "linkerd-smi", Linkerd: "linkerd"})
//
// The namespace ends up as the CLI would have made it. Nothing here keeps state. Sources: extensions chapter, section 1; CLI
// chapter, section 10.5.
package extensioninit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// LabelPodSecurity says what pods of a namespace may do.
const LabelPodSecurity = "pod-security.kubernetes.io/enforce"

// Options say what is written where.
type Options struct {
	// Extension is the name of the extension, Namespace where it is.
	Extension, Namespace string
	// Linkerd is the namespace of the control plane.
	Linkerd string
	// PrometheusURL is that of a Prometheus which is not the extension's own; empty for none.
	PrometheusURL string
}

// Validate names what is missing.
func (o Options) Validate() error {
	switch {
	case o.Extension == "":
		return errors.New("the name of the extension is missing")
	case o.Namespace == "":
		return errors.New("the namespace of the extension is missing")
	case o.Linkerd == "":
		return errors.New("the namespace of the control plane is missing")
	}
	return nil
}

// Apply writes the namespace's labels and annotations; others stay. With the CNI plugin the pods of the extension need no
// rights beyond those of ordinary pods; without, their init containers do.
func Apply(ctx context.Context, client kubernetes.Interface, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	cni, err := cniEnabled(ctx, client, o.Linkerd)
	if err != nil {
		return err
	}
	labels := map[string]string{names.LabelExtension: o.Extension, LabelPodSecurity: "privileged"}
	if cni {
		labels[LabelPodSecurity] = "restricted"
	}
	metadata := map[string]any{"labels": labels}
	if o.PrometheusURL != "" {
		metadata["annotations"] = map[string]string{names.AnnotationVizExternalPrometheus: o.PrometheusURL}
	}
	patch, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return fmt.Errorf("encoding the labels of namespace %s: %w", o.Namespace, err)
	}
	if _, err := client.CoreV1().Namespaces().Patch(ctx, o.Namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("labelling namespace %s: %w", o.Namespace, err)
	}
	return nil
}

// cniEnabled asks the control plane's configuration.
func cniEnabled(ctx context.Context, client kubernetes.Interface, namespace string) (bool, error) {
	config, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, names.ConfigMapConfig, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("reading the configuration of the control plane: %w", err)
	}
	var values struct {
		CNIEnabled bool `json:"cniEnabled"`
	}
	if err := yaml.Unmarshal([]byte(config.Data[names.ConfigMapConfigValues]), &values); err != nil {
		return false, fmt.Errorf("reading the configuration of the control plane: %w", err)
	}
	return values.CNIEnabled, nil
}
