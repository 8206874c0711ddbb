package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// deployment returns a Deployment with its ReplicaSet and one pod, meshed or
// not, as the emojivoto example has them.
func deployment(namespace, name string, meshed bool) []runtime.Object {
	controller := true
	owner := func(kind, name string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{Kind: kind, Name: name, UID: types.UID(namespace + kind + name), Controller: &controller}}
	}
	meta := func(kind, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + kind + name), Labels: map[string]string{"app": name}}
	}
	pod := &corev1.Pod{
		ObjectMeta: meta("Pod", name+"-0"),
		Spec:       corev1.PodSpec{ServiceAccountName: name},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}},
	}
	pod.OwnerReferences = owner("ReplicaSet", name+"-rs")
	pod.Labels["app"] = name
	if meshed {
		pod.Labels["linkerd.io/control-plane-ns"] = "linkerd"
		pod.Spec.InitContainers = []corev1.Container{{
			Name:  "linkerd-proxy",
			Ports: []corev1.ContainerPort{{Name: "linkerd-admin", ContainerPort: 4191}},
			Env:   []corev1.EnvVar{{Name: "LINKERD2_PROXY_IDENTITY_LOCAL_NAME", Value: "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"}},
		}}
	}
	set := &appsv1.ReplicaSet{ObjectMeta: meta("ReplicaSet", name+"-rs")}
	set.OwnerReferences = owner("Deployment", name)
	service := &corev1.Service{ObjectMeta: meta("Service", name+"-svc"), Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}}}
	return []runtime.Object{&appsv1.Deployment{ObjectMeta: meta("Deployment", name)}, set, pod, service}
}

// TestCommands runs testdata/*.txtar. The cluster has the Deployments web,
// emoji, voting and bot in namespace emojivoto, other in namespace default, and
// plain, which is not meshed. A case has the files
//
//	command               one command line
//	<deployment>          the metrics its pod's proxy shows
//	<deployment>.later    the metrics at the second look, where there is one
//	stdout, stderr        what is expected; stderr may be left out for none
func TestCommands(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) []txtar.File {
		objects := []runtime.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "emojivoto"}},
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
			&unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
				"metadata": map[string]any{"name": "web-http", "namespace": "emojivoto"},
			}},
		}
		for _, name := range []string{"web", "emoji", "voting", "bot"} {
			objects = append(objects, deployment("emojivoto", name, true)...)
		}
		objects = append(objects, deployment("default", "other", true)...)
		objects = append(objects, deployment("emojivoto", "plain", false)...)
		r := commandtest.New(t, commandtest.Cluster(t, objects...))
		for _, name := range []string{"web", "emoji", "voting", "bot", "other"} {
			namespace := "emojivoto"
			if name == "other" {
				namespace = "default"
			}
			texts := []string{golden.Part(parts, name)}
			if later := golden.Part(parts, name+".later"); later != "" {
				texts = append(texts, later)
			}
			r.Ports[commandtest.Address(namespace, name+"-0", 4191)] = commandtest.Metrics(texts...)
		}
		g := &command.Globals{}
		root := &cobra.Command{Use: "linkerd", SilenceErrors: true, SilenceUsage: true}
		g.Register(root)
		root.AddCommand(New(r.World, g))
		root.SetArgs(strings.Fields(golden.Part(parts, "command"))[1:])
		if err := root.ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(r.Err, err)
		}
		parts = golden.With(parts, "stdout", r.Out.String())
		return golden.With(parts, "stderr", r.Err.String())
	})
}
