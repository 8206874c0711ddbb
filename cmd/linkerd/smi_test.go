package main

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// smi returns a cluster with the mesh and the adaptor for traffic splits.
func smi(t *testing.T) objects {
	t.Helper()
	o := installed(t)
	o["Namespace/linkerd-smi"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-smi", Labels: map[string]string{"linkerd.io/extension": "smi"}}}
	meta := metav1.ObjectMeta{Namespace: "linkerd-smi", Name: "smi-adaptor"}
	o["ServiceAccount/smi-adaptor"] = &corev1.ServiceAccount{ObjectMeta: meta}
	adaptor := &appsv1.Deployment{ObjectMeta: meta}
	adaptor.Spec.Template.Spec.Containers = []corev1.Container{{Name: "smi-adaptor", Image: "example.org:5000/controller:edge-26.3.1"}}
	o["Deployment/smi-adaptor"] = adaptor
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "linkerd-smi", Name: "smi-adaptor-x", Labels: map[string]string{"component": "smi-adaptor"},
	}}
	pod.Spec.Containers = []corev1.Container{{Name: "linkerd-proxy"}, {Name: "smi-adaptor"}}
	pod.Status.Phase = corev1.PodRunning
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: true})
	}
	o["Pod/smi-adaptor-x"] = pod
	return o
}

func TestSMICheck(t *testing.T) {
	healthy := `linkerd-smi
-----------
√ linkerd-smi extension Namespace exists
√ SMI extension service account exists
√ SMI extension pods are injected
√ SMI extension pods are running
√ SMI extension proxies are healthy

Status check results are √
`
	for _, c := range []struct {
		name   string
		alter  func(o objects)
		want   string
		passes bool
	}{
		{"healthy", func(objects) {}, healthy, true},
		{"not there", func(o objects) { delete(o, "Namespace/linkerd-smi") },
			"× linkerd-smi extension Namespace exists\n    no namespace has the label linkerd.io/extension=smi\n" +
				"    see https://linkerd.io/2/checks/#l5d-smi-ns-exists for hints\n", false},
		{"without account", func(o objects) { delete(o, "ServiceAccount/smi-adaptor") },
			"‼ SMI extension service account exists\n    missing ServiceAccounts: smi-adaptor\n", true},
		{"not injected", func(o objects) {
			pod := o["Pod/smi-adaptor-x"].(*corev1.Pod)
			pod.Spec.Containers, pod.Status.ContainerStatuses = pod.Spec.Containers[1:], pod.Status.ContainerStatuses[1:]
		}, "‼ SMI extension pods are injected\n    could not find proxy container for smi-adaptor-x pod\n", false},
		{"no pods", func(o objects) { delete(o, "Pod/smi-adaptor-x") },
			"× SMI extension pods are running\n    Could not find pods for deployment smi-adaptor\n", false},
		{"not running", func(o objects) { o["Pod/smi-adaptor-x"].(*corev1.Pod).Status.Phase = corev1.PodPending },
			"× SMI extension pods are running\n    smi-adaptor-x status is Pending\n", false},
		{"not ready", func(o objects) { o["Pod/smi-adaptor-x"].(*corev1.Pod).Status.ContainerStatuses[1].Ready = false },
			"× SMI extension pods are running\n    container smi-adaptor in pod smi-adaptor-x is not ready\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := smi(t)
			c.alter(o)
			code, out, errs := run(t, o, "smi", "check", "--wait=0s")
			if (code == 0) != c.passes || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, printed\n%s%s\nwant\n%s", code, out, errs, c.want)
			}
		})
	}
}

// TestSMIInstall looks at what the installation of the mesh decides about the extension's.
func TestSMIInstall(t *testing.T) {
	code, out, errs := run(t, installed(t, "--cluster-domain=example.org"), "smi", "install", "--set=adaptor.replicas=2")
	for _, want := range []string{
		"kind: Namespace", "name: linkerd-smi", "pod-security.kubernetes.io/enforce: privileged", "name: trafficsplits.split.smi-spec.io",
		"-cluster-domain=example.org", "replicas: 2", "linkerd.io/created-by: linkerd/cli ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the manifest (exit code %d, %s)", want, code, errs)
		}
	}
	if !strings.HasPrefix(out, "---\nkind: Namespace\n") || strings.Contains(out, "kind: Job") {
		t.Errorf("the manifest begins with %.60q, or has a Job", out)
	}

	code, out, errs = run(t, objects{}, "smi", "install", "--wait=0s")
	if code != 1 || out != "" || !strings.Contains(errs, "Cannot find Linkerd: ") || !strings.Contains(errs, "Validate the install with: 'linkerd check'") {
		t.Errorf("without Linkerd: exit code %d, printed %q and %q", code, out, errs)
	}
	if code, out, errs = run(t, objects{}, "smi", "install", "--skip-checks"); code != 0 || !strings.Contains(out, "name: smi-adaptor") {
		t.Errorf("without checks: exit code %d, %s", code, errs)
	}
	if code, _, errs = run(t, objects{}, "smi", "install", "--skip-checks", "-o=xml"); code != 1 || !strings.Contains(errs, "unsupported format xml") {
		t.Errorf("-o xml: exit code %d, %s", code, errs)
	}
}

func TestSMIVersion(t *testing.T) {
	if _, out, _ := run(t, smi(t), "smi", "version"); out != "Client version: dev-undefined\nServer version: edge-26.3.1\n" {
		t.Errorf("printed %q", out)
	}
	if _, out, _ := run(t, installed(t), "smi", "version"); out != "Client version: dev-undefined\nServer version: unavailable\n" {
		t.Errorf("without the extension: printed %q", out)
	}
}

func TestSMIUninstall(t *testing.T) {
	code, out, errs := run(t, smi(t), "smi", "uninstall")
	if code != 0 || out != "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: linkerd-smi\n---\n" {
		t.Errorf("exit code %d, printed\n%s%s", code, out, errs)
	}
	if code, _, errs := run(t, installed(t), "smi", "uninstall"); code != 1 || errs != "No resources found to uninstall\n" {
		t.Errorf("without the extension: exit code %d, %q", code, errs)
	}
}
