package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/unsteady"
)

// TestRollingRestartLosesNothing restarts a service twice under 200 requests a
// second.
func TestRollingRestartLosesNothing(t *testing.T) {
	unsteady.Mark(t, "200 requests a second while pods start on the same processors: one that waits for a processor longer than its limit has failed")
	w := newWorld(t, injected, patient)
	w.shop(200)
	w.steady(200)
	w.reset("traffic")
	for _, d := range []string{"catalog", "front"} {
		w.must("kubectl -n " + w.ns + " rollout restart deployment/" + d)
		w.must("kubectl -n " + w.ns + " rollout status deployment/" + d + " --timeout=300s")
	}
	w.settled("catalog", 2)
	w.settled("front", 2)
	s := w.stats("traffic")
	t.Logf("%d requests, p99 %.1f ms, longest %.1f ms", s.Sent, s.P99Millis, s.MaxMillis)
	if s.Failed > 0 {
		t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	}
	if s.Sent < 1000 {
		t.Errorf("only %d requests were sent meanwhile: nothing was shown", s.Sent)
	}
}

// sent waits until the load generator has sent n requests since its reset.
func (w *world) sent(n uint64) {
	w.t.Helper()
	w.eventually(patience, fmt.Sprint(n, " requests"), func() error {
		if s := w.stats("traffic"); s.Sent < n {
			return fmt.Errorf("%d so far", s.Sent)
		}
		return nil
	})
}

// steady waits until the load generator gets n answers without a failure.
func (w *world) steady(n uint64) {
	w.t.Helper()
	w.eventually(patience, "steady traffic", func() error {
		w.reset("traffic")
		deadline := time.Now().Add(time.Minute)
		for {
			s := w.stats("traffic")
			if s.Failed > 0 {
				return fmt.Errorf("failures: %v", s.Errors)
			}
			if s.OK >= n {
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%d answers so far", s.OK)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// acquainted has each pod of the front take an order and read the catalog, so
// that its proxy knows where both are. The load alone does not bring that about:
// an endpoint whose first answer was slow gets hardly any requests for a minute,
// and a proxy that was never asked for a service cannot find it once the control
// plane is gone.
func (w *world) acquainted() {
	w.t.Helper()
	for _, p := range w.pods("app=front") {
		w.eventually(patience, p.Name+" serves", func() error {
			at := cluster.client.CoreV1().RESTClient()
			err := at.Post().Namespace(w.ns).Resource("pods").Name(p.Name+":8080").SubResource("proxy").Suffix("orders").
				SetHeader("Content-Type", "application/json").Body([]byte(`{"product":"rope","quantity":1}`)).Do(context.Background()).Error()
			if err != nil {
				return fmt.Errorf("order: %w", err)
			}
			err = at.Get().Namespace(w.ns).Resource("pods").Name(p.Name + ":8080").SubResource("proxy").Suffix("products").Do(context.Background()).Error()
			if err != nil {
				return fmt.Errorf("products: %w", err)
			}
			return nil
		})
	}
}

// TestScalingSpreadsLoad scales the front to ten and back to two: clients use
// new endpoints within a second of their being ready, and none that is gone.
func TestScalingSpreadsLoad(t *testing.T) {
	unsteady.Mark(t, "new endpoints have to be in use within a second, while eight pods start on the same processors")
	w := newWorld(t, injected, patient)
	w.shop(100)
	w.steady(100)
	client := w.pods("app=traffic")[0].Name

	w.reset("traffic")
	w.must("kubectl -n " + w.ns + " scale deployment/front --replicas=10")
	lag := w.pickUp(client, 10)
	t.Logf("ten endpoints were in use %s after the last was ready", lag.Round(time.Millisecond))
	if lag > time.Second {
		t.Errorf("it took %s, want at most 1s", lag)
	}
	w.reset("traffic")
	// The balancer goes by latency, and a pod that was slow while it started
	// comes into its own as that is forgotten (over ten seconds or so).
	w.eventually(patience, "answers of all ten pods", func() error {
		if s := w.stats("traffic"); s.OK < 1000 || len(s.Servers) < 10 {
			return fmt.Errorf("%d answers: %v", s.OK, s.Servers)
		}
		return nil
	})
	s := w.stats("traffic")
	for pod, n := range s.Servers {
		if n > s.OK/3 {
			t.Errorf("%s answered %d of %d: that is not spread over ten", pod, n, s.OK)
		}
	}

	w.must("kubectl -n " + w.ns + " scale deployment/front --replicas=2")
	w.pickUp(client, 2)
	w.settled("front", 2)
	if s = w.stats("traffic"); s.Failed > 0 {
		t.Errorf("%d of %d failed while scaling: %v", s.Failed, s.Sent, s.Errors)
	}
}

// pickUp waits until that many pods of the front are ready and the client's
// balancer holds that many endpoints, and returns the time between the two.
func (w *world) pickUp(client string, n int) time.Duration {
	w.t.Helper()
	var ready time.Time
	deadline := time.Now().Add(2 * patience)
	for time.Now().Before(deadline) {
		if ready.IsZero() {
			d, err := cluster.client.AppsV1().Deployments(w.ns).Get(context.Background(), "front", metav1.GetOptions{})
			if err == nil && int(d.Status.ReadyReplicas) == n && int(d.Status.Replicas) == n {
				ready = time.Now()
			}
		}
		held := w.metrics(client).sum("outbound_http_balancer_p2c_endpoints", "backend_name", "front")
		if !ready.IsZero() && int(held) == n {
			return time.Since(ready)
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("the balancer of %s does not hold %d endpoints", client, n)
	return 0
}

// TestKilledPodCostsOnlyWhatWasInFlight kills a pod of the front without
// warning.
func TestKilledPodCostsOnlyWhatWasInFlight(t *testing.T) {
	unsteady.Mark(t, "how many requests are in flight when a pod is killed goes by how fast the machine answers them")
	w := newWorld(t, injected, patient)
	w.shop(200)
	w.steady(200)
	w.reset("traffic")
	victim := w.pods("app=front")[0].Name
	w.must("kubectl -n " + w.ns + " delete pod " + victim + " --grace-period=0 --force")
	w.sent(2000)
	s := w.stats("traffic")
	t.Logf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	// At 200 a second and answers of a few ms, a handful is in flight to one
	// of two pods. More than this and requests went on being sent to it.
	if s.Failed > 10 {
		t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	}
}

// TestTrafficOutlivesTheControlPlane takes the whole control plane away.
func TestTrafficOutlivesTheControlPlane(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.shop(50)
	w.steady(100)
	w.acquainted()
	t.Cleanup(func() {
		w.must("kubectl -n linkerd scale deployment --all --replicas=1")
		w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
		w.must("linkerd check")
	})
	w.must("kubectl -n linkerd scale deployment --all --replicas=0")
	w.eventually(patience, "no control plane", func() error {
		list, err := cluster.client.CoreV1().Pods("linkerd").List(context.Background(), metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component"})
		if err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%d pods are left", len(list.Items))
		}
		return nil
	})
	w.reset("traffic")
	// Longer than any idle time-out of a cache, so that what is used must be
	// what is kept.
	time.Sleep(30 * time.Second)
	w.sent(1000)
	s := w.stats("traffic")
	t.Logf("%d requests without a control plane", s.Sent)
	if s.Failed > 0 {
		t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	}
}

// TestCertificatesRenewUnderTraffic gives certificates a life of half a minute
// and watches several renewals pass.
func TestCertificatesRenewUnderTraffic(t *testing.T) {
	w := newWorld(t, injected, patient)
	t.Cleanup(func() {
		w.must("linkerd upgrade --identity-issuance-lifetime=24h0m0s | kubectl apply -f -")
		w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	})
	w.must("linkerd upgrade --identity-issuance-lifetime=20s --identity-clock-skew-allowance=5s | kubectl apply -f -")
	w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	w.shop(50)
	w.steady(100)
	w.reset("traffic")
	front := w.pods("app=front")[0].Name
	start := w.metrics(front).sum("control_identity_cert_refreshes_total", "result", "ok")
	w.eventually(patience, "three renewals", func() error {
		if n := w.metrics(front).sum("control_identity_cert_refreshes_total", "result", "ok") - start; n < 3 {
			return fmt.Errorf("%v so far", n)
		}
		return nil
	})
	s := w.stats("traffic")
	t.Logf("%d requests over three renewals", s.Sent)
	if s.Failed > 0 {
		t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	}
}
