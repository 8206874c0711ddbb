package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/sample"
	"github.com/linkerd-go/linkerd-go/sample/traffic"
)

// world is a namespace of a test's own and what can be done in it.
type world struct {
	t  *testing.T
	ns string
}

// newWorld makes the namespace, with the given annotations, and skips the test
// where there is no cluster. If the test fails the state of the namespace's
// pods is printed.
func newWorld(t *testing.T, annotations ...string) *world {
	t.Helper()
	if cluster.kubeconfig == "" {
		t.Skip("no cluster: run `make e2e`")
	}
	w := &world{t: t, ns: "e2e-" + strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(strings.TrimPrefix(t.Name(), "Test"), "-"))}
	w.must("kubectl delete namespace --ignore-not-found --wait " + w.ns)
	w.must("kubectl create namespace " + w.ns)
	if len(annotations) > 0 {
		w.must("kubectl annotate namespace " + w.ns + " " + strings.Join(annotations, " "))
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.explain()
		}
		if os.Getenv("LINKERD_E2E_KEEP") == "" {
			w.must("kubectl delete namespace --wait=false " + w.ns)
		}
	})
	return w
}

// run is t.Run with the world for the subtest.
func (w *world) run(name string, fn func(w *world)) {
	w.t.Run(name, func(t *testing.T) {
		sub := *w
		sub.t = t
		fn(&sub)
	})
}

const injected = "linkerd.io/inject=enabled"

// patient has proxies wait longer for connections than they do by default, where
// every request counts and connections are not the subject: one to the application
// in the same pod takes longer than the usual tenth of a second where everybody
// waits for a processor.
const patient = "config.linkerd.io/proxy-inbound-connect-timeout=10s config.linkerd.io/proxy-outbound-connect-timeout=5s"

// shellLimit bounds a command that hangs.
const shellLimit = 10 * time.Minute

// must runs a command line that has to succeed and returns what it printed.
func (w *world) must(line string) string {
	w.t.Helper()
	out, err := shell(shellLimit, line)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// fails runs a command line that has to fail and returns what it printed.
func (w *world) fails(line string) string {
	w.t.Helper()
	out, err := shell(shellLimit, line)
	if err == nil {
		w.t.Fatalf("$ %s succeeded, but must not; it printed\n%s", line, out)
	}
	return out
}

// apply applies a manifest, its namespace being the test's own.
func (w *world) apply(manifest string) {
	w.t.Helper()
	f, err := os.CreateTemp(w.t.TempDir(), "*.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(manifest); err != nil {
		w.t.Fatal(err)
	}
	w.must("kubectl -n " + w.ns + " apply -f " + f.Name())
}

// shop deploys the sample into the test's namespace, with its traffic at the
// given rate, and waits until all of it is up and the Job is done.
func (w *world) shop(rate int) {
	w.t.Helper()
	m := sample.Manifest
	// The first document is the namespace, which the test has already.
	_, m, _ = strings.Cut(m, "\n---\n")
	m = strings.ReplaceAll(m, "namespace: shop", "namespace: "+w.ns)
	m = strings.ReplaceAll(m, "-rate=20", fmt.Sprintf("-rate=%d", rate))
	// Callers that wait for a processor learn later that a pod goes than the sample
	// serves on for.
	m = regexp.MustCompile(`args: \[(front|catalog|checkout|ledger)\]`).ReplaceAllString(m, "args: [$1, -grace=8s]")
	w.apply(m)
	w.available("--all")
	w.must("kubectl -n " + w.ns + " wait --for=condition=Complete --timeout=300s job/stocktake")
}

// available waits for a deployment of the test's.
func (w *world) available(name string) {
	w.t.Helper()
	w.must("kubectl -n " + w.ns + " wait --for=condition=Available --timeout=300s deployment " + name)
}

// settled waits until an app has n pods and no more: old ones are still leaving
// when a roll-out is called done.
func (w *world) settled(app string, n int) {
	w.t.Helper()
	w.eventually(patience, "pods of "+app+" to settle", func() error {
		list, err := cluster.client.CoreV1().Pods(w.ns).List(context.Background(), metav1.ListOptions{LabelSelector: "app=" + app})
		if err != nil {
			return err
		}
		if len(list.Items) != n {
			return fmt.Errorf("%d pods, want %d", len(list.Items), n)
		}
		return nil
	})
}

// pods lists the running pods with a label.
func (w *world) pods(selector string) []corev1.Pod {
	w.t.Helper()
	list, err := cluster.client.CoreV1().Pods(w.ns).List(w.t.Context(), metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out
}

// get asks a port of a pod through the API server, which is a client outside
// of the mesh.
func (w *world) get(pod string, port int, path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	raw, err := cluster.client.CoreV1().Pods(w.ns).ProxyGet("http", pod, strconv.Itoa(port), path, nil).DoRaw(ctx)
	return string(raw), err
}

// stats reads the counts of the load generator; reset starts them anew.
func (w *world) stats(app string) traffic.Stats {
	w.t.Helper()
	pods := w.pods("app=" + app)
	if len(pods) != 1 {
		w.t.Fatalf("%d pods of %s, want one", len(pods), app)
	}
	var s traffic.Stats
	// The API server, too, has to reach the pod; that is not what is tested.
	w.eventually(patience, "stats of "+app, func() error {
		raw, err := w.get(pods[0].Name, 8080, "/stats")
		if err != nil {
			return err
		}
		s = traffic.Stats{}
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			return fmt.Errorf("%w in %q", err, raw)
		}
		return nil
	})
	return s
}

func (w *world) reset(app string) {
	w.t.Helper()
	pods := w.pods("app=" + app)
	if len(pods) != 1 {
		w.t.Fatalf("%d pods of %s, want one", len(pods), app)
	}
	w.eventually(patience, "reset of "+app, func() error {
		return cluster.client.CoreV1().RESTClient().Post().Namespace(w.ns).Resource("pods").
			Name(pods[0].Name + ":8080").SubResource("proxy").Suffix("stats").Do(w.t.Context()).Error()
	})
}

// metrics reads the metrics of a pod's proxy, from outside of the mesh if its
// policy lets us, else through the pod's loopback as the CLI does.
func (w *world) metrics(pod string) samples {
	w.t.Helper()
	raw, err := w.get(pod, 4191, "/metrics")
	if err != nil {
		raw = w.must("linkerd diagnostics proxy-metrics -n " + w.ns + " pod/" + pod)
	}
	return parse(raw)
}

// eventually waits until check returns nil; it fails with its last error.
func (w *world) eventually(limit time.Duration, what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		// A cluster offers nothing to wait on here but asking again.
		time.Sleep(200 * time.Millisecond)
	}
}

// explain prints what a reader of a failure wants to see first.
func (w *world) explain() {
	for _, line := range []string{
		"kubectl -n " + w.ns + " get pods -o wide",
		"kubectl -n " + w.ns + " get events --sort-by=.lastTimestamp | tail -20",
		"kubectl -n linkerd get pods -o wide",
		"for p in $(kubectl -n " + w.ns + " get pods -o name); do echo \"== $p\"; kubectl -n " + w.ns + " logs $p -c linkerd-proxy --tail=5; done",
	} {
		out, err := shell(time.Minute, line)
		w.t.Logf("$ %s\n%s", line, out)
		if err != nil {
			w.t.Log(err)
		}
	}
}

// sampleOf is one line of a metrics page.
type sampleOf struct {
	name   string
	labels map[string]string
	value  float64
}

type samples []sampleOf

var (
	lineForm  = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)`)
	labelForm = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

func parse(text string) samples {
	var out samples
	for _, l := range strings.Split(text, "\n") {
		m := lineForm.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			continue
		}
		s := sampleOf{name: m[1], labels: map[string]string{}, value: v}
		for _, kv := range labelForm.FindAllStringSubmatch(m[2], -1) {
			s.labels[kv[1]] = kv[2]
		}
		out = append(out, s)
	}
	return out
}

// sum adds up the samples of a name whose labels have the given values; a
// value with a leading ~ is a regular expression.
func (ss samples) sum(name string, labels ...string) float64 {
	var total float64
	for _, s := range ss {
		if s.name == name && s.matches(labels) {
			total += s.value
		}
	}
	return total
}

func (s *sampleOf) matches(labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		got, want := s.labels[labels[i]], labels[i+1]
		if re, ok := strings.CutPrefix(want, "~"); ok {
			if !regexp.MustCompile("^(?:" + re + ")$").MatchString(got) {
				return false
			}
		} else if got != want {
			return false
		}
	}
	return true
}

// identity is the name that a service account of the namespace has in the mesh.
func (w *world) identity(sa string) string {
	return fmt.Sprintf("%s.%s.serviceaccount.identity.linkerd.cluster.local", sa, w.ns)
}
