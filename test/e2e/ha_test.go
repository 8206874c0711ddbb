package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// haSettings make the values for high availability fit a single small node: replicas must share it, and ask for less. What the
// values are is in charts/testdata/high-availability.txtar.
const haSettings = "--set enablePodAntiAffinity=false,proxy.resources.cpu.request=10m,destinationResources.cpu.request=10m," +
	"identityResources.cpu.request=10m,proxyInjectorResources.cpu.request=10m,spValidatorResources.cpu.request=10m"

// components are the values of the label that tells the pods of the control plane apart, and the budgets for them.
var components = map[string]string{"identity": "linkerd-identity", "destination": "linkerd-dst", "proxy-injector": "linkerd-proxy-injector"}

// TestHighAvailability: with --ha there are three replicas of everything, of which one may go by somebody's leave; one that
// goes without costs no request, and pods are made and get their proxy meanwhile. Without any injector no pod is made rather
// than one without a proxy.
func TestHighAvailability(t *testing.T) {
	w := newWorld(t, injected, patient)
	// The settings of before are in the Secret that upgrades begin with.
	before := t.TempDir() + "/overrides.yaml"
	w.must("kubectl -n linkerd get secret linkerd-config-overrides -o json | " +
		`sed -E '/"(resourceVersion|uid|creationTimestamp)":/d' > ` + before)
	t.Cleanup(func() {
		w.must("kubectl replace -f " + before)
		w.must("linkerd upgrade | kubectl apply -f -")
		w.must("kubectl -n linkerd delete poddisruptionbudgets --all")
		w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
		w.must("linkerd check")
	})
	w.must("linkerd upgrade --ha " + haSettings + " | kubectl apply -f -")
	w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	w.must("linkerd check")
	for component := range components {
		w.controlPlanePods(component, 3)
	}
	w.shop(100)
	w.steady(100)

	w.run("one replica goes by leave", func(w *world) {
		for component, budget := range components {
			w.eventually(patience, "the budget of "+component+" to allow one", func() error {
				b, err := cluster.client.PolicyV1().PodDisruptionBudgets("linkerd").Get(w.t.Context(), budget, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if s := b.Status; s.ExpectedPods != 3 || s.DesiredHealthy != 2 || s.DisruptionsAllowed != 1 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			pods := w.controlPlanePods(component, 3)
			if err := evict(pods[0]); err != nil {
				w.t.Errorf("%s: the first may not be evicted: %v", component, err)
			}
			if err := evict(pods[1]); !apierrors.IsTooManyRequests(err) {
				w.t.Errorf("%s: a second one beside it: %v, want it refused", component, err)
			}
			w.controlPlanePods(component, 3)
		}
	})

	w.run("one replica dies", func(w *world) {
		w.reset("traffic")
		for component := range components {
			victim := w.controlPlanePods(component, 3)[0]
			w.must("kubectl -n linkerd delete pod " + victim + " --grace-period=0 --force")
		}
		// New pods need the injector, identities, and destinations at once.
		w.must("kubectl -n " + w.ns + " rollout restart deployment front")
		w.must("kubectl -n " + w.ns + " rollout status deployment front --timeout=300s")
		for _, p := range w.pods("app=front") {
			if !strings.Contains(fmt.Sprint(p.Spec.InitContainers, p.Spec.Containers), "linkerd-proxy") {
				w.t.Errorf("%s has no proxy", p.Name)
			}
		}
		for component := range components {
			w.controlPlanePods(component, 3)
		}
		w.sent(500)
		s := w.stats("traffic")
		w.t.Logf("%d of %d requests failed", s.Failed, s.Sent)
		if s.Failed > 0 {
			w.t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
		}
	})

	w.run("no injector at all", func(w *world) {
		w.must("kubectl -n linkerd scale deployment linkerd-proxy-injector --replicas=0")
		w.controlPlanePods("proxy-injector", 0)
		out := w.fails("kubectl -n " + w.ns + " run lonely --image=none --restart=Never")
		if !strings.Contains(out, "linkerd-proxy-injector.linkerd.io") {
			w.t.Errorf("a pod was refused, but not for want of an injector:\n%s", out)
		}
		w.must("kubectl -n linkerd scale deployment linkerd-proxy-injector --replicas=3")
		w.controlPlanePods("proxy-injector", 3)
	})
}

// controlPlanePods waits until a component has n pods, all of them ready, and returns their names.
func (w *world) controlPlanePods(component string, n int) []string {
	w.t.Helper()
	var names []string
	w.eventually(patience, fmt.Sprintf("%d pods of %s", n, component), func() error {
		list, err := cluster.client.CoreV1().Pods("linkerd").List(context.Background(), metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=" + component})
		if err != nil {
			return err
		}
		names = nil
		ready := 0
		for _, p := range list.Items {
			names = append(names, p.Name)
			for _, c := range p.Status.Conditions {
				if c.Type == "Ready" && c.Status == "True" && p.DeletionTimestamp == nil {
					ready++
				}
			}
		}
		if len(names) != n || ready != n {
			return fmt.Errorf("%d pods, %d of them ready", len(names), ready)
		}
		return nil
	})
	return names
}

// evict asks for leave to remove a pod of the control plane, as draining a node does.
func evict(pod string) error {
	return cluster.client.PolicyV1().Evictions("linkerd").Evict(context.Background(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: pod},
	})
}
