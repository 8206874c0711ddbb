package cli

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

var update = flag.Bool("update", false, "write what the commands print into the cases")

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
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files := map[string]string{}
			for _, f := range archive.Files {
				files[f.Name] = string(f.Data)
			}
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
				texts := []string{files[name]}
				if later, ok := files[name+".later"]; ok {
					texts = append(texts, later)
				}
				r.Ports[commandtest.Address(namespace, name+"-0", 4191)] = commandtest.Metrics(texts...)
			}
			g := &command.Globals{}
			root := &cobra.Command{Use: "linkerd", SilenceErrors: true, SilenceUsage: true}
			g.Register(root)
			root.AddCommand(New(r.World, g))
			root.SetArgs(strings.Fields(files["command"])[1:])
			if err := root.ExecuteContext(context.Background()); err != nil {
				fmt.Fprintln(r.Err, err)
			}
			if *update {
				archive.Files = set(archive.Files, "stdout", r.Out.Bytes())
				if r.Err.Len() > 0 {
					archive.Files = set(archive.Files, "stderr", r.Err.Bytes())
				}
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := r.Out.String(); got != files["stdout"] {
				t.Errorf("stdout is\n%s\nwant\n%s", got, files["stdout"])
			}
			if got := r.Err.String(); got != files["stderr"] {
				t.Errorf("stderr is\n%s\nwant\n%s", got, files["stderr"])
			}
		})
	}
}

func set(files []txtar.File, name string, data []byte) []txtar.File {
	for i := range files {
		if files[i].Name == name {
			files[i].Data = data
			return files
		}
	}
	return append(files, txtar.File{Name: name, Data: data})
}
