package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestShop deploys the sample once and looks at it from all sides.
func TestShop(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.shop(30)

	w.run("every pod has a proxy as a native sidecar", func(w *world) {
		t := w.t
		for _, p := range w.pods("") {
			var names []string
			for _, c := range p.Spec.InitContainers {
				names = append(names, c.Name)
			}
			if strings.Join(names, " ") != "linkerd-init linkerd-proxy" {
				t.Errorf("%s has init containers %v", p.Name, names)
			}
		}
	})

	w.run("nothing fails", func(w *world) {
		t := w.t
		w.reset("traffic")
		w.eventually(patience, "200 answers", func() error {
			if s := w.stats("traffic"); s.Sent < 200 {
				return fmt.Errorf("%d so far", s.Sent)
			}
			return nil
		})
		if s := w.stats("traffic"); s.Failed > 0 {
			t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
		}
	})

	w.run("the Job completed though meshed", func(w *world) {
		t := w.t
		out := w.must("kubectl -n " + w.ns + " get job stocktake -o jsonpath='{.status.succeeded}'")
		if strings.TrimSpace(out) != "1" {
			t.Errorf("succeeded: %q", out)
		}
		logs := w.must("kubectl -n " + w.ns + " logs job/stocktake -c stocktake")
		if !strings.Contains(logs, "stocktake done") {
			t.Errorf("its log: %s", logs)
		}
	})

	w.run("the server that speaks first is reached through mutual TLS", func(w *world) {
		t := w.t
		m := w.metrics(w.pods("app=ledger")[0].Name)
		if n := m.sum("tcp_open_total", "direction", "inbound", "peer", "src", "target_port", "7070", "tls", "true", "client_id", w.identity("checkout")); n == 0 {
			t.Error("the ledger's proxy counts no connection of the checkout's with TLS")
		}
	})

	w.run("both sides' metrics carry the peer's identity", func(w *world) {
		t := w.t
		for _, edge := range []struct{ client, server string }{
			{"traffic", "front"}, {"front", "catalog"}, {"front", "checkout"}, {"checkout", "catalog"},
		} {
			var out, in float64
			for _, p := range w.pods("app=" + edge.client) {
				out += w.metrics(p.Name).sum("response_total", "direction", "outbound", "tls", "true",
					"server_id", w.identity(edge.server), "classification", "success", "dst_deployment", edge.server)
			}
			for _, p := range w.pods("app=" + edge.server) {
				in += w.metrics(p.Name).sum("response_total", "direction", "inbound", "tls", "true",
					"client_id", w.identity(edge.client), "classification", "success")
			}
			if out == 0 || in == 0 {
				t.Errorf("%s → %s: the client's proxy counts %v answers from that identity, the server's %v to it", edge.client, edge.server, out, in)
			}
		}
	})

	w.run("edges shows who talks to whom", func(w *world) {
		t := w.t
		table := w.must("linkerd viz edges deploy -n " + w.ns)
		for _, want := range []string{`traffic +front .*√`, `front +catalog .*√`, `checkout +ledger .*√`} {
			if !find(table, want) {
				t.Errorf("no line like %q in\n%s", want, table)
			}
		}
	})

	w.run("stat shows the golden metrics", func(w *world) {
		t := w.t
		// Probes that came before the server was up are no failures.
		table := w.must("linkerd viz stat deploy --time-window 15s -n " + w.ns)
		for _, want := range []string{`(?m)^NAME +MESHED +SUCCESS +RPS +LATENCY_P50 +LATENCY_P95 +LATENCY_P99 +TCP_CONN`, `(?m)^front +2/2 +100\.00% +[1-9]`, `(?m)^ledger +1/1 +- .* [1-9][0-9]*$`} {
			if !find(table, want) {
				t.Errorf("no line like %q in\n%s", want, table)
			}
		}
		// The older spelling of the command is in its users' documents.
		if old := w.must("linkerd stat deploy -n " + w.ns); !find(old, `(?m)^front +2/2`) {
			t.Errorf("linkerd stat printed\n%s", old)
		}
	})

	w.run("identity shows a certificate for the workload", func(w *world) {
		t := w.t
		out := w.must("linkerd identity -n " + w.ns + " -l app=front")
		if !strings.Contains(out, w.identity("front")) {
			t.Errorf("linkerd identity printed\n%s", out)
		}
	})

	w.run("diagnostics show endpoints and metrics", func(w *world) {
		t := w.t
		out := w.must("linkerd diagnostics endpoints catalog." + w.ns + ".svc.cluster.local:8080")
		for _, p := range w.pods("app=catalog") {
			if !strings.Contains(out, p.Status.PodIP) || !strings.Contains(out, p.Name) {
				t.Errorf("endpoint %s of %s is missing in\n%s", p.Status.PodIP, p.Name, out)
			}
		}
		if out := w.must("linkerd diagnostics proxy-metrics -n " + w.ns + " deploy/front"); !strings.Contains(out, "request_total{") {
			t.Errorf("proxy-metrics printed\n%.500s", out)
		}
	})

	w.run("check finds the data plane healthy", func(w *world) {
		w.must("linkerd check --proxy -n " + w.ns)
	})
}

// TestUnmeshedClient: who is outside of the mesh is served as the policy of the
// port says, and seen for what it is.
func TestUnmeshedClient(t *testing.T) {
	w := newWorld(t, injected, patient)
	w.shop(10)
	w.apply(client("outsider", "http://front:8080", 20, "linkerd.io/inject: disabled"))
	w.available("outsider")

	w.run("works under the default policy and counts as not secured", func(w *world) {
		t := w.t
		w.eventually(patience, "answers to the outsider", func() error {
			if s := w.stats("outsider"); s.OK < 50 {
				return fmt.Errorf("%d so far, failures %v", s.OK, s.Errors)
			}
			return nil
		})
		if s := w.stats("outsider"); s.Failed > 0 {
			t.Errorf("%d of %d failed: %v", s.Failed, s.Sent, s.Errors)
		}
		var plain float64
		for _, p := range w.pods("app=front") {
			plain += w.metrics(p.Name).sum("response_total", "direction", "inbound", "target_port", "8080",
				"tls", "no_identity", "no_tls_reason", "no_tls_from_remote", "classification", "success")
		}
		if plain == 0 {
			t.Error("the front's proxies count no answer without TLS")
		}
		if edges := w.must("linkerd viz edges deploy -n " + w.ns); !find(edges, `(?m)^- +front .*No TLS From Remote`) {
			t.Errorf("edges do not show that the front has a client without TLS:\n%s", edges)
		}
		stat := w.must("linkerd viz stat deploy --unmeshed -n " + w.ns)
		if !find(stat, `(?m)^outsider +0/1`) {
			t.Errorf("stat does not show the outsider as unmeshed:\n%s", stat)
		}
	})

	w.run("is refused by a port for the cluster's authenticated", func(w *world) {
		t := w.t
		w.must("kubectl -n " + w.ns + ` patch deployment front --type=merge -p '{"spec":{"template":{"metadata":{"annotations":{"config.linkerd.io/default-inbound-policy":"cluster-authenticated"}}}}}'`)
		w.must("kubectl -n " + w.ns + " rollout status deployment/front --timeout=300s")
		w.settled("front", 2)
		w.reset("outsider")
		w.reset("traffic")
		w.eventually(patience, "refusals of the outsider, answers to the meshed", func() error {
			out, in := w.stats("outsider"), w.stats("traffic")
			if out.Sent < 20 || in.OK < 20 {
				return fmt.Errorf("outsider %+v, traffic %+v", out, in)
			}
			return nil
		})
		if s := w.stats("outsider"); s.OK > 0 || s.Errors["403 Forbidden"] == 0 {
			t.Errorf("the outsider got %d answers, failures %v", s.OK, s.Errors)
		}
		if s := w.stats("traffic"); s.Failed > 0 {
			t.Errorf("the meshed client failed too: %v", s.Errors)
		}
		var denied float64
		for _, p := range w.pods("app=front") {
			denied += w.metrics(p.Name).sum("inbound_http_authz_deny_total", "target_port", "8080", "tls", "no_identity")
		}
		if denied == 0 {
			t.Error("no refusal in the metrics of the front")
		}
	})
}

// client is the manifest of a deployment that sends traffic to a target.
func client(name, target string, rate int, annotation string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata:
      labels: {app: %[1]s}
      annotations: {"%[4]s": "%[5]s"}
    spec:
      containers:
      - name: client
        image: ghcr.io/linkerd-go/sample:latest
        imagePullPolicy: IfNotPresent
        args: [traffic, -target=%[2]s, -rate=%[3]d]
        ports: [{containerPort: 8080}]
`, name, target, rate, before(annotation), after(annotation))
}

func before(kv string) string { k, _, _ := strings.Cut(kv, ": "); return k }
func after(kv string) string  { _, v, _ := strings.Cut(kv, ": "); return v }
