package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/rotation"
)

// TestTrustAnchorRotatesUnderTraffic replaces the trust anchor of the mesh, with
// certificates that live for half a minute, while every request counts, and
// kills the replica that does it in each of the phases.
func TestTrustAnchorRotatesUnderTraffic(t *testing.T) {
	w := newWorld(t, injected, patient)
	if out := w.must("kubectl -n linkerd get configmap linkerd-config -o jsonpath={.data.values}"); !strings.Contains(out, "renewAt") {
		t.Skip("the control plane was installed before it could rotate")
	}
	restored := false
	restore := func() {
		restored = true
		w.must("linkerd upgrade --identity-issuance-lifetime=24h0m0s --identity-clock-skew-allowance=20s" +
			" --set identity.rotation.margin=5m --set identity.rotation.interval=30s | kubectl apply -f -")
	}
	t.Cleanup(func() {
		if !restored {
			restore()
		}
		w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	})
	// The margin is for the kubelet, which brings changed files to a pod within
	// a minute and a half, or sooner on the embedded cluster.
	w.must("linkerd upgrade --identity-issuance-lifetime=20s --identity-clock-skew-allowance=5s" +
		" --set identity.rotation.margin=60s --set identity.rotation.interval=1s | kubectl apply -f -")
	// Two: one is killed while proxies ask for certificates.
	w.must("kubectl -n linkerd scale deployment/linkerd-identity --replicas=2")
	w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	w.eventually(patience, "the new lifetime to be noticed", func() error {
		if got := w.rotationData()[rotation.KeyLeafLifetime]; got != "30s" {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
	// A rotation waits until the certificates of a day have ended that were
	// issued before. This one is spared that, so there must be none: not with a
	// pod that the upgrade left as it was, nor with one that was started by it
	// and certified by a replica of before, which had not ended yet. Whoever has
	// such a certificate is not trusted by pods that know the new anchor only.
	w.controlPlanePods("identity", 2)
	w.must("kubectl -n linkerd rollout restart deployment")
	w.must("kubectl -n linkerd rollout status deployment --timeout=300s")
	for component, n := range map[string]int{"identity": 2, "destination": 1, "proxy-injector": 1} {
		for _, pod := range w.controlPlanePods(component, n) {
			left := w.certificateLeft(pod)
			if left > time.Minute {
				t.Fatalf("the certificate of %s lives for another %s", pod, left)
			}
		}
	}
	w.must(`kubectl -n linkerd patch configmap ` + rotation.ConfigMap + ` --type=merge -p '{"data":{"` + rotation.KeyOlderLeaves + `":null}}'`)

	w.shop(20)
	w.steady(100)
	before := w.bundle()
	if len(before) != 1 {
		t.Fatalf("%d trust anchors before the rotation", len(before))
	}
	issuer := w.must("kubectl -n linkerd get secret linkerd-identity-issuer -o jsonpath='{.data.crt\\.pem}'")
	w.reset("traffic")
	w.must("linkerd identity rotate --anchor")
	seen := map[string]bool{}
	var wrong time.Time // since when it has been failing
	w.eventually(12*time.Minute, "the rotation to end", func() error {
		bundle := w.bundle()
		var s *rotation.Status
		if s = w.rotationStatus(); s == nil {
			return fmt.Errorf("no status")
		}
		if !seen[s.Phase] {
			seen[s.Phase] = true
			t.Logf("%s: %s, until %s", s.Phase, s.Next, s.Until.Format(time.TimeOnly))
			if s.Phase != "steady" {
				leader := w.must("kubectl -n linkerd get lease " + rotation.Lease + " -o jsonpath={.spec.holderIdentity}")
				t.Logf("killing %s", w.must("kubectl -n linkerd delete pod --force --grace-period=0 "+leader+" 2>&1"))
			}
		}
		switch {
		case s.Error == "":
			wrong = time.Time{}
		case wrong.IsZero():
			// What the API server did not take is tried again.
			wrong = time.Now()
			t.Logf("%s: %s", s.Phase, s.Error)
		case time.Since(wrong) > time.Minute:
			t.Fatalf("rotation fails: %s", s.Error)
		}
		if failed := w.stats("traffic"); failed.Failed > 0 {
			t.Fatalf("%s: %d of %d requests failed: %v", s.Phase, failed.Failed, failed.Sent, failed.Errors)
		}
		if len(bundle) != 1 || bundle[0] == before[0] || s.Phase != "steady" {
			return fmt.Errorf("%s, with %d anchors", s.Phase, len(bundle))
		}
		return nil
	})
	if !seen["distributing"] || !seen["renewing"] {
		t.Errorf("phases seen: %v", seen)
	}
	if issuer == w.must("kubectl -n linkerd get secret linkerd-identity-issuer -o jsonpath='{.data.crt\\.pem}'") {
		t.Error("the issuer is still the old one")
	}
	// Some more lives of certificates, with new connections and pods that know
	// the new anchor only.
	after := w.bundle()
	w.must("kubectl -n " + w.ns + " rollout restart deployment/front")
	w.must("kubectl -n " + w.ns + " rollout status deployment/front --timeout=300s")
	w.settled("front", 2)
	time.Sleep(20 * time.Second)
	s := w.stats("traffic")
	t.Logf("%d requests over the whole rotation, p99 %.1f ms", s.Sent, s.P99Millis)
	if s.Failed > 0 {
		t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
	}
	for _, p := range w.pods("app=traffic") {
		// These proxies were started with the old anchor alone. That one of them had
		// to ask twice, because who was asked was killed, is no fault.
		const renewals = "control_identity_cert_refreshes_total"
		m := w.metrics(p.Name)
		t.Logf("%s has renewed its certificate %v times, and failed to %v times", p.Name, m.sum(renewals, "result", "ok"), m.sum(renewals, "result", "error"))
		w.eventually(patience, p.Name+" to renew its certificate under the new anchor", func() error {
			now := w.metrics(p.Name)
			if now.sum(renewals, "result", "ok") > m.sum(renewals, "result", "ok") {
				return nil
			}
			return fmt.Errorf("%v failures more", now.sum(renewals, "result", "error")-m.sum(renewals, "result", "error"))
		})
	}
	w.must("linkerd check --proxy")
	// An upgrade must not bring the first anchor back.
	restore()
	if got := w.bundle(); len(got) != 1 || got[0] != after[0] {
		t.Errorf("after an upgrade the trust anchors are others: %d", len(got))
	}
}

// certificateLeft is how long the certificate of a pod of the control plane lives
// on.
func (w *world) certificateLeft(pod string) time.Duration {
	w.t.Helper()
	m := parse(w.must("linkerd diagnostics proxy-metrics -n linkerd pod/" + pod))
	return time.Until(time.Unix(int64(m.sum("control_identity_cert_expiration_timestamp_seconds")), 0)).Round(time.Second)
}

// bundle is the trust anchors of the mesh, PEM each.
func (w *world) bundle() []string {
	w.t.Helper()
	cm, err := cluster.client.CoreV1().ConfigMaps("linkerd").Get(w.t.Context(), "linkerd-identity-trust-roots", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	const end = "-----END CERTIFICATE-----"
	var out []string
	for _, c := range strings.Split(cm.Data["ca-bundle.crt"], end) {
		if c = strings.TrimSpace(c); c != "" {
			out = append(out, c)
		}
	}
	return out
}

func (w *world) rotationData() map[string]string {
	w.t.Helper()
	cm, err := cluster.client.CoreV1().ConfigMaps("linkerd").Get(w.t.Context(), rotation.ConfigMap, metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return cm.Data
}

// rotationStatus is what the control plane says of the rotation.
func (w *world) rotationStatus() *rotation.Status {
	w.t.Helper()
	s, err := rotation.ParseStatus(w.rotationData())
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}
