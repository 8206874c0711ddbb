package extensioninit_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/linkerd-go/linkerd-go/control/extensioninit"
)

func TestApply(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "linkerd-smi", Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"b": "c"},
	}}
	config := func(values string) *corev1.ConfigMap {
		return &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-config"}, Data: map[string]string{"values": values},
		}
	}
	smi := extensioninit.Options{Extension: "smi", Namespace: "linkerd-smi", Linkerd: "linkerd"}
	viz := smi
	viz.Extension, viz.PrometheusURL = "viz", "http://prometheus:9090"
	elsewhere := smi
	elsewhere.Linkerd = "mesh"
	absent := smi
	absent.Namespace = "gone"
	for _, c := range []struct {
		name, values string
		options      extensioninit.Options
		// labels and annotations are what the namespace has afterwards.
		labels, annotations string
		err                 string
	}{
		{"without CNI", "cniEnabled: false", smi, "map[linkerd.io/extension:smi pod-security.kubernetes.io/enforce:privileged team:a]", "map[b:c]", ""},
		{"with CNI", "cniEnabled: true", smi, "map[linkerd.io/extension:smi pod-security.kubernetes.io/enforce:restricted team:a]", "map[b:c]", ""},
		{"nothing said of CNI", "", smi, "map[linkerd.io/extension:smi pod-security.kubernetes.io/enforce:privileged team:a]", "map[b:c]", ""},
		{"with a Prometheus", "", viz, "map[linkerd.io/extension:viz pod-security.kubernetes.io/enforce:privileged team:a]",
			"map[b:c viz.linkerd.io/external-prometheus:http://prometheus:9090]", ""},
		{"no control plane there", "", elsewhere, "map[team:a]", "map[b:c]", "reading the configuration of the control plane: "},
		{"configuration that is none", "[", smi, "map[team:a]", "map[b:c]", "reading the configuration of the control plane: "},
		{"no such namespace", "", absent, "map[team:a]", "map[b:c]", "labelling namespace gone: "},
		{"nothing said", "", extensioninit.Options{}, "map[team:a]", "map[b:c]", "the name of the extension is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := fake.NewClientset(namespace.DeepCopy(), config(c.values))
			err := extensioninit.Apply(t.Context(), client, c.options)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error is %v, want %q", err, c.err)
			}
			got, err := client.CoreV1().Namespaces().Get(t.Context(), "linkerd-smi", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if labels, annotations := fmt.Sprint(got.Labels), fmt.Sprint(got.Annotations); labels != c.labels || annotations != c.annotations {
				t.Errorf("namespace has\n%s %s\nwant\n%s %s", labels, annotations, c.labels, c.annotations)
			}
		})
	}
}
