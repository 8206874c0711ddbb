package controlplane

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/charts"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/test/controlplane/child"
	"github.com/linkerd-go/linkerd-go/test/controlplane/kubeapi"
)

const (
	// mesh is the control plane's namespace, app that of the tests' workloads.
	mesh = "linkerd"
	app  = "app"
	// soon is how long something may take that should be at once: the machine may be busy.
	soon = time.Minute
)

// world is an API server with the charts installed, and the controllers that run on it.
type world struct {
	t    *testing.T
	api  *kubeapi.Server
	kube kubernetes.Interface
	dyn  dynamic.Interface
	// mounts is what controllers find at /run/linkerd.
	mounts string
	// cert is that of all webhooks, PEM.
	cert []byte
}

// replicas are the names that controllers may have.
var replicas = []string{"a", "b"}

// accounts are the service accounts of the control plane.
var accounts = map[string]string{
	"identity": "linkerd-identity", "destination": "linkerd-destination", "policy": "linkerd-destination",
	"proxy-injector": "linkerd-proxy-injector", "heartbeat": "linkerd-heartbeat",
}

// newWorld starts an API server and applies the charts.
func newWorld(t *testing.T) *world {
	t.Helper()
	if programs.devcluster == "" {
		t.Skip("no API server: run `make controlplane`")
	}
	t.Parallel()
	return makeWorld(t)
}

// makeWorld starts an API server, which others than the control plane may talk to as well, and applies the charts.
func makeWorld(t *testing.T, others ...kubeapi.User) *world {
	t.Helper()
	users := others
	for component, account := range accounts {
		for _, replica := range replicas {
			users = append(users, kubeapi.ServiceAccount(mesh, account, component+"-"+replica))
		}
	}
	w := &world{t: t, api: kubeapi.Start(t, programs.devcluster, users...), mounts: t.TempDir()}
	var err error
	if w.kube, err = kubernetes.NewForConfig(w.api.Config()); err != nil {
		t.Fatal(err)
	}
	if w.dyn, err = dynamic.NewForConfig(w.api.Config()); err != nil {
		t.Fatal(err)
	}
	w.install()
	return w
}

// run is t.Run with the world for the subtest.
func (w *world) run(name string, fn func(w *world)) {
	w.t.Helper()
	w.t.Run(name, func(t *testing.T) {
		sub := *w
		sub.t = t
		fn(&sub)
	})
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
		// What is waited for happens in other processes.
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// clusterScoped are the kinds of the charts and tests that have no namespace.
var clusterScoped = map[string]bool{
	"Namespace": true, "Node": true, "CustomResourceDefinition": true, "ClusterRole": true, "ClusterRoleBinding": true,
	"MutatingWebhookConfiguration": true, "ValidatingWebhookConfiguration": true,
}

// clientOf returns the client for an object's kind and namespace.
func (w *world) clientOf(o *unstructured.Unstructured) dynamic.ResourceInterface {
	resource, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	if clusterScoped[o.GetKind()] {
		return w.dyn.Resource(resource)
	}
	return w.dyn.Resource(resource).Namespace(o.GetNamespace())
}

// decode reads the objects of a YAML stream; those without a namespace get that of the tests' workloads.
func (w *world) decode(text string) []*unstructured.Unstructured {
	w.t.Helper()
	var list []*unstructured.Unstructured
	for _, doc := range strings.Split("\n"+text, "\n---") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			w.t.Fatalf("%v in\n%s", err, doc)
		}
		if o.Object == nil {
			continue
		}
		if o.GetNamespace() == "" && !clusterScoped[o.GetKind()] {
			o.SetNamespace(app)
		}
		list = append(list, o)
	}
	return list
}

// apply makes the objects of a YAML stream what it says, whatever they were, as `kubectl apply` does.
func (w *world) apply(text string) {
	w.t.Helper()
	for _, o := range w.decode(text) {
		if err := w.tryApply(o); err != nil {
			w.t.Fatalf("applying %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

func (w *world) tryApply(o *unstructured.Unstructured) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	force := true
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_, err = w.clientOf(o).Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "test", Force: &force, FieldValidation: "Strict"})
	return err
}

// remove deletes the objects of a YAML stream, of which only kind and name count.
func (w *world) remove(text string) {
	w.t.Helper()
	for _, o := range w.decode(text) {
		if err := w.clientOf(o).Delete(w.t.Context(), o.GetName(), metav1.DeleteOptions{}); err != nil {
			w.t.Fatalf("deleting %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// install applies the charts: all but what only a node could bring to life. Deployments are there, without pods.
func (w *world) install() {
	w.t.Helper()
	w.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + mesh + "}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + app + "}\n")
	crds := w.render(charts.CRDs, map[string]any{"installGatewayAPI": true})
	w.apply(crds)
	for _, o := range w.decode(crds) {
		w.eventually(soon, "definition of "+o.GetName(), func() error { return w.served(o) })
	}

	anchor, key, err := kubeapi.SelfSigned("identity.linkerd.cluster.local", "identity.linkerd.cluster.local")
	w.check(err)
	w.apply(w.render(charts.ControlPlane, map[string]any{
		"identityTrustAnchorsPEM": string(anchor),
		"identity": map[string]any{"issuer": map[string]any{"tls": map[string]any{"crtPEM": string(anchor), "keyPEM": string(key)}},
			"rotation": map[string]any{"enabled": true}},
		// Nobody serves them until a test says so.
		"webhookFailurePolicy": "Ignore",
	}))
	w.apply(trustAnchor(anchor, key))
	var webhookKey []byte
	w.cert, webhookKey, err = kubeapi.SelfSigned("webhook", "127.0.0.1")
	w.check(err)
	w.mount("tls/tls.crt", w.cert)
	w.mount("tls/tls.key", webhookKey)
	w.mount("identity/trust-roots/ca-bundle.crt", anchor)
	w.mount("identity/issuer/crt.pem", anchor)
	w.mount("identity/issuer/key.pem", key)
	config, err := w.kube.CoreV1().ConfigMaps(mesh).Get(w.t.Context(), "linkerd-config", metav1.GetOptions{})
	w.check(err)
	w.mount("config/values", []byte(config.Data["values"]))
}

// mount puts a file where a controller finds it below /var/run/linkerd.
func (w *world) mount(path string, data []byte) {
	w.t.Helper()
	file := filepath.Join(w.mounts, path)
	w.check(os.MkdirAll(filepath.Dir(file), 0o755))
	w.check(os.WriteFile(file, data, 0o600))
}

// render renders a chart with some values changed.
func (w *world) render(name string, values map[string]any) string {
	w.t.Helper()
	chart, err := charts.Load(name)
	w.check(err)
	defaults, err := chart.Defaults()
	w.check(err)
	manifests, err := chart.Render(charts.Release{Name: name, Namespace: mesh}, valuetree.Merge(defaults, values))
	w.check(err)
	return string(charts.Join(manifests))
}

// served reports whether the API server serves the kind that a definition defines, in all its versions.
func (w *world) served(crd *unstructured.Unstructured) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	for _, v := range versions {
		gvr := schema.GroupVersionResource{Group: group, Version: v.(map[string]any)["name"].(string), Resource: plural}
		if _, err := w.dyn.Resource(gvr).List(w.t.Context(), metav1.ListOptions{Limit: 1}); err != nil {
			return err
		}
	}
	return nil
}

// controller is one running component.
type controller struct {
	*child.Process
	w *world
	// component is the subcommand, replica its pod.
	component, replica string
	admin, grpc        string
	webhook            string
}

// starting are the ways in which a controller may be started.
type starting struct {
	// replica is the name of the pod; "a" if empty.
	replica string
	// link is the way to the API server; direct if nil.
	link *kubeapi.Link
	// env is added to the environment, args to the arguments.
	env, args []string
	// ends says that the component does its work and ends.
	ends bool
}

// start starts a component as the chart's pod does: its arguments, its files at their places, its service account.
func (w *world) start(component string, s starting) *controller {
	w.t.Helper()
	if s.replica == "" {
		s.replica = replicas[0]
	}
	address := w.api.Address()
	if s.link != nil {
		address = s.link.Address()
	}
	addr := func() string { return "127.0.0.1:" + kubeapi.FreePort(w.t) }
	c := &controller{w: w, component: component, replica: s.replica, admin: addr(), grpc: addr(), webhook: addr()}
	user := kubeapi.ServiceAccount(mesh, accounts[component], component+"-"+s.replica)
	args := map[string][]string{
		"destination": {
			"-addr=" + c.grpc, "-metrics-addr=" + c.admin, "-controller-namespace=linkerd", "-outbound-transport-mode=transport-header",
			"-enable-endpoint-slices=true", "-cluster-domain=cluster.local", "-identity-trust-domain=cluster.local",
			"-default-opaque-ports=25,587,3306,4444,5432,6379,9300,11211", "-enable-ipv6=false",
		},
		"policy": {
			"--admin-addr=" + c.admin, "--grpc-addr=" + c.grpc, "--server-addr=" + c.webhook, "--control-plane-namespace=linkerd",
			"--server-tls-key=/var/run/linkerd/tls/tls.key", "--server-tls-certs=/var/run/linkerd/tls/tls.crt",
			"--cluster-networks=10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16", "--identity-domain=cluster.local",
			"--cluster-domain=cluster.local", "--default-policy=all-unauthenticated", "--global-egress-network-namespace=linkerd-egress",
			"--default-opaque-ports=25,587,3306,4444,5432,6379,9300,11211",
		},
		"identity": {
			"-addr=" + c.grpc, "-admin-addr=" + c.admin, "-controller-namespace=linkerd", "-identity-trust-domain=cluster.local",
			"-identity-issuance-lifetime=24h0m0s", "-identity-clock-skew-allowance=20s", "-identity-scheme=linkerd.io/tls",
			"-identity-rotation", "-identity-rotation-interval=1s",
		},
		"proxy-injector": {"-addr=" + c.webhook, "-metrics-addr=" + c.admin, "-linkerd-namespace=linkerd"},
		"sp-validator":   {"-addr=" + c.webhook, "-metrics-addr=" + c.admin},
		"heartbeat":      {"-controller-namespace=linkerd", "-prometheus-url=http://127.0.0.1:1"},
	}[component]
	args = append(args, "-log-level=info", "-log-format=json", "-enable-pprof=true")
	if component != "sp-validator" {
		args = append(args, "-kubeconfig="+w.api.Kubeconfig(w.t, user, address))
	}
	// A mount namespace of its own, in which the chart's volumes are where the pod has them; it goes with the process.
	const mounts = `mount -t tmpfs tmpfs /run && mkdir /run/linkerd && mount --bind "$0" /run/linkerd && exec "$@"`
	argv := append([]string{"unshare", "--mount", "sh", "-c", mounts, w.mounts, programs.controller, component}, append(args, s.args...)...)
	c.Process = child.Start(w.t, child.Options{
		Name: component + "-" + s.replica, Argv: argv,
		Env: append([]string{"HOSTNAME=" + component + "-" + s.replica}, s.env...),
	})
	if !s.ends {
		w.eventually(soon, component+" to live", func() error { return c.probe("/ping") })
	}
	return c
}

// probe asks the admin server, as the kubelet does.
func (c *controller) probe(path string) error {
	if !c.Running() {
		c.w.t.Fatalf("%s-%s has ended:\n%s", c.component, c.replica, c.Log())
	}
	_, err := c.ask(path)
	return err
}

func (c *controller) ask(path string) (string, error) {
	client := http.Client{Timeout: soon}
	response, err := client.Get("http://" + c.admin + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// ready waits until the component says that it is ready.
func (c *controller) ready() *controller {
	c.w.t.Helper()
	c.w.eventually(soon, c.component+"-"+c.replica+" to be ready", func() error { return c.probe("/ready") })
	return c
}

// metric adds up the samples of a metric whose lines contain all the given texts.
func (c *controller) metric(name string, containing ...string) float64 {
	c.w.t.Helper()
	page, err := c.ask("/metrics")
	c.w.check(err)
	var total float64
	lines := bufio.NewScanner(strings.NewReader(page))
lines:
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, name+" ") && !strings.HasPrefix(line, name+"{") {
			continue
		}
		for _, text := range containing {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		c.w.check(err)
		total += value
	}
	return total
}
