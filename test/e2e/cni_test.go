package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestCNI runs the mesh without init containers that may change the network: the
// CNI plugin redirects pods' traffic, and the validator of each pod proves it
// (proxy chapter, sections 25 and 26). Pods that were made while there was no
// plugin are replaced by the repair controller, and what the plugin's DaemonSet
// put onto the node goes with it.
func TestCNI(t *testing.T) {
	if os.Getenv("LINKERD_CNI") == "" {
		t.Skip("the plugin needs a cluster of its own: run `make cni`")
	}
	w := newWorld(t, injected, "config.linkerd.io/proxy-inbound-connect-timeout=10s", "config.linkerd.io/proxy-outbound-connect-timeout=10s")
	node := newNodeCNI(t)
	before := node.plugins(t)
	if slices.Contains(before, "linkerd-cni") {
		t.Fatalf("the plugin is there already: %v", before)
	}
	install := fmt.Sprintf("linkerd install-cni --dest-cni-net-dir %s --dest-cni-bin-dir %s --set repairController.enabled=true", node.confDir, node.binDir)
	installed := func() {
		w.t.Helper()
		w.must(install + " | kubectl apply -f -")
		w.must("kubectl -n linkerd-cni rollout status --timeout=120s daemonset/linkerd-cni")
	}
	t.Cleanup(func() { w.must(install + " | kubectl delete --ignore-not-found --wait -f -") })
	installed()
	if got := node.plugins(t); !slices.Equal(got, append(slices.Clone(before), "linkerd-cni")) {
		t.Fatalf("with the plugin the network configuration has %v", got)
	}

	w.must("linkerd install --crds | kubectl apply -f -")
	w.must("linkerd check --pre --linkerd-cni-enabled")
	w.must("linkerd install --linkerd-cni-enabled | kubectl apply -f -")
	if out := w.must("linkerd check"); !find(out, `√ cni plugin pod is running on all nodes`) {
		t.Errorf("check says nothing of the plugin:\n%s", out)
	}

	w.run("the shop is meshed", func(w *world) {
		w.shop(30)
		w.steady(100)
		for _, p := range w.pods("app=front") {
			var names []string
			for _, c := range p.Spec.InitContainers {
				names = append(names, c.Name)
			}
			if !slices.Contains(names, "linkerd-network-validator") || slices.Contains(names, "linkerd-init") {
				w.t.Errorf("init containers of %s: %v", p.Name, names)
			}
			if got := w.metrics(p.Name).sum("request_total", "direction", "inbound", "tls", "true", "client_id", w.identity("traffic")); got == 0 {
				w.t.Errorf("%s got no requests by mTLS", p.Name)
			}
		}
	})

	w.run("uninstalling leaves the node as it was", func(w *world) {
		w.must("kubectl -n linkerd-cni delete --wait --timeout=60s daemonset/linkerd-cni")
		w.eventually(60*time.Second, "the plugin to leave the node", func() error {
			if got := node.plugins(w.t); !slices.Equal(got, before) {
				return fmt.Errorf("the network configuration has %v", got)
			}
			return node.traces()
		})
		// Pods that have their rules go on.
		w.steady(100)
	})

	w.run("pods made without the plugin are repaired", func(w *world) {
		w.apply(client("late", "http://front:8080/", 20, injected2))
		w.eventually(90*time.Second, "the validator to say that nothing is redirected", func() error {
			for _, p := range w.all("app=late") {
				for _, s := range p.Status.InitContainerStatuses {
					if end := s.LastTerminationState.Terminated; s.Name == "linkerd-network-validator" && end != nil {
						if end.ExitCode != 95 {
							return fmt.Errorf("it ended with %d", end.ExitCode)
						}
						return nil
					}
				}
			}
			return errors.New("it has not ended")
		})
		old := w.all("app=late")[0]
		installed()
		w.eventually(90*time.Second, "the pod to be replaced", func() error {
			for _, p := range w.pods("app=late") {
				if p.UID != old.UID {
					return nil
				}
			}
			return errors.New("it is not")
		})
		w.available("late")
		w.eventually(60*time.Second, "its traffic", func() error {
			if s := w.stats("late"); s.OK < 20 {
				return fmt.Errorf("%d answers, %d failed: %v", s.OK, s.Failed, s.Errors)
			}
			return nil
		})
		events, err := cluster.client.EventsV1().Events(w.ns).List(w.t.Context(), metav1.ListOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		told := false
		for _, e := range events.Items {
			told = told || e.Reason == "LinkerdCNINotConfigured" && e.Regarding.Name == old.Name && e.Action == "Deleting"
		}
		if !told {
			w.t.Errorf("no event tells why %s was deleted", old.Name)
		}
	})
	w.must("linkerd uninstall --force | kubectl delete --wait -f -")
}

// injected2 is the annotation as client takes it.
const injected2 = "linkerd.io/inject: enabled"

// all lists the pods with a label, whether or not they run.
func (w *world) all(selector string) []corev1.Pod {
	w.t.Helper()
	list, err := cluster.client.CoreV1().Pods(w.ns).List(context.Background(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// nodeCNI is where the container runtime of the embedded cluster's node has its
// CNI plugins and their configuration.
type nodeCNI struct{ confDir, binDir string }

func newNodeCNI(t *testing.T) nodeCNI {
	t.Helper()
	n := nodeCNI{confDir: filepath.Join(filepath.Dir(cluster.kubeconfig), "config/cni")}
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			n.binDir = dir
			return n
		}
	}
	t.Fatal("the node's CNI plugins are nowhere")
	return n
}

// plugins are the types of the configured plugins, in order.
func (n nodeCNI) plugins(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(n.confDir, "*.conflist"))
	if err != nil || len(files) != 1 {
		t.Fatalf("network configurations: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var conf struct{ Plugins []struct{ Type string } }
	if err := json.Unmarshal(text, &conf); err != nil {
		t.Fatalf("%s: %v", files[0], err)
	}
	var types []string
	for _, p := range conf.Plugins {
		types = append(types, p.Type)
	}
	return types
}

// traces is an error if something of the plugin is still on the node.
func (n nodeCNI) traces() error {
	for _, path := range []string{filepath.Join(n.binDir, "linkerd-cni"), filepath.Join(n.confDir, "ZZZ-linkerd-cni-kubeconfig")} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still there: %v", path, err)
		}
	}
	return nil
}
