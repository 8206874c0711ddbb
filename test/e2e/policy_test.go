package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/test/e2e/actor"
)

// stageCount is how many scenes are performed at a time.
const stageCount = 2

// patience bounds a step that waits for what will not come. A policy is in force
// some 100 ms after it was applied, so no step that succeeds waits so long, be the
// machine ever so busy; what shall not happen is not waited for.
const patience = 3 * time.Minute

// TestPolicies performs the scenes of testdata/policy: each kind of policy and
// of route, with who is let through, who is refused, and what a change does to
// what is under way.
func TestPolicies(t *testing.T) {
	all := scenes(t)
	if cluster.kubeconfig == "" {
		t.Skip("no cluster: run `make e2e`")
	}
	if err := loadActor(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	h, err := newHouse()
	if err != nil {
		t.Fatal(err)
	}
	free := make(chan *stage, stageCount)
	var building sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i := range stageCount {
		s := h.stage(i + 1)
		t.Cleanup(func() {
			if os.Getenv("LINKERD_E2E_KEEP") == "" {
				s.tearDown(t)
			}
		})
		building.Go(func() {
			err := s.build(t.Context())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			}
		})
		free <- s
	}
	building.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	for _, sc := range all {
		t.Run(sc.name, func(t *testing.T) {
			if !sc.alone {
				t.Parallel() // after all that are not
			}
			s := <-free
			defer func() { free <- s }()
			s.perform(t, sc.path)
		})
	}
}

// actorImage is what the pods of testdata/policy/stage.yaml run.
const actorImage = "ghcr.io/linkerd-go/test-actor:e2e"

// loadActor builds the actors' image and loads it into the cluster.
func loadActor(ctx context.Context, dir string) error {
	program := filepath.Join(dir, "actor")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./test/e2e/actor/cmd")
	cmd.Dir = cluster.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the actor: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := fileLayer("actor", content)
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", runtime.GOARCH
	conf.Config = v1.Config{Entrypoint: []string{"/actor"}, User: "65534"}
	if img, err = mutate.ConfigFile(img, conf); err != nil {
		return err
	}
	tag, err := name.NewTag(actorImage)
	if err != nil {
		return err
	}
	archive := filepath.Join(dir, "actor.tar")
	if err := tarball.WriteToFile(archive, tag, img); err != nil {
		return err
	}
	_, err = shell(5*time.Minute, "devcluster load --cluster "+clusterName()+" "+archive)
	return err
}

// house is what all stages share.
type house struct {
	objects dynamic.Interface
	mapper  meta.ResettableRESTMapper
	// mesh are names of the installed mesh in scenes, each followed by what it
	// stands for.
	mesh []string
}

func newHouse() (*house, error) {
	d, err := discovery.NewDiscoveryClientForConfig(cluster.config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	// What is deprecated is used on purpose.
	quiet := rest.CopyConfig(cluster.config)
	quiet.WarningHandler = rest.NoWarnings{}
	objects, err := dynamic.NewForConfig(quiet)
	if err != nil {
		return nil, err
	}
	mesh, err := meshNames()
	if err != nil {
		return nil, err
	}
	return &house{objects, mapper, mesh}, nil
}

// meshNames finds what a proxy outside of the cluster has to know.
func meshNames() ([]string, error) {
	core, ctx := cluster.client.CoreV1(), context.Background()
	issuer, err := core.Secrets("linkerd").Get(ctx, "linkerd-identity-issuer", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	roots, err := core.ConfigMaps("linkerd").Get(ctx, "linkerd-identity-trust-roots", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := core.Pods("linkerd").List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=destination"})
	if err != nil {
		return nil, err
	}
	out := []string{
		"${ISSUER_CRT}", base64.StdEncoding.EncodeToString(issuer.Data["crt.pem"]),
		"${ISSUER_KEY}", base64.StdEncoding.EncodeToString(issuer.Data["key.pem"]),
		"${ANCHORS}", base64.StdEncoding.EncodeToString([]byte(roots.Data["ca-bundle.crt"])),
	}
	for _, p := range pods.Items {
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			if c.Name == "linkerd-proxy" {
				return append(out, "${PROXY_IMAGE}", c.Image), nil
			}
		}
	}
	return nil, errors.New("the destination controller has no proxy")
}

// stage is two namespaces with actors in them: ns, with the servers and most
// clients, and far. One scene at a time is performed on it.
type stage struct {
	*house
	ns, far string
	// outside is an address that is none of the cluster's. It leads to the
	// actor called internet.
	outside string
	orders  actor.Stage
}

func (h *house) stage(n int) *stage {
	s := &stage{house: h, ns: fmt.Sprintf("e2e-policies-%d", n), outside: fmt.Sprintf("198.51.100.%d", n)}
	s.far = s.ns + "-far"
	s.orders.Post = func(ctx context.Context, who, path string, query url.Values, body io.Reader) ([]byte, error) {
		r := cluster.client.CoreV1().RESTClient().Post().Namespace(s.home(who)).Resource("pods").
			Name(fmt.Sprintf("%s:%d", who, actor.ControlPort)).SubResource("proxy").Suffix(path)
		for k := range query {
			r = r.Param(k, query.Get(k))
		}
		return r.Body(body).DoRaw(ctx)
	}
	return s
}

// home is the namespace of an actor: carol lives far away.
func (s *stage) home(who string) string {
	if who == "carol" {
		return s.far
	}
	return s.ns
}

// names replaces what differs from stage to stage.
func (s *stage) names() *strings.Replacer {
	return strings.NewReplacer(append([]string{"${NS}", s.ns, "${FAR}", s.far, "${OUTSIDE}", s.outside}, s.mesh...)...)
}

// address is where a call goes: services' short names get their namespace,
// pod/NAME becomes its address.
func (s *stage) address(target string) (string, error) {
	host, port, _ := strings.Cut(target, ":")
	if pod, ok := strings.CutPrefix(host, "pod/"); ok {
		p, err := cluster.client.CoreV1().Pods(s.home(pod)).Get(context.Background(), pod, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return p.Status.PodIP + ":" + port, nil
	}
	if !strings.Contains(host, ".") {
		host += "." + s.ns
	}
	return host + ":" + port, nil
}

// build makes the namespaces and waits for the actors.
func (s *stage) build(ctx context.Context) error {
	if err := s.remove(ctx, true); err != nil {
		return err
	}
	raw, err := os.ReadFile("testdata/policy/stage.yaml")
	if err != nil {
		return err
	}
	list, err := objects(s.names().Replace(string(raw)))
	if err != nil {
		return err
	}
	for _, o := range list {
		if err := s.apply(ctx, o); err != nil {
			return err
		}
	}
	for _, ns := range []string{s.ns, s.far} {
		if err := eventually(6*time.Minute, func() error { return podsReady(ctx, ns, "") }); err != nil {
			return fmt.Errorf("actors of %s: %w", ns, err)
		}
	}
	return s.atRest(ctx)
}

func (s *stage) remove(ctx context.Context, wait bool) error {
	for _, ns := range []string{s.ns, s.far} {
		if err := cluster.client.CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if !wait {
		return nil
	}
	for _, ns := range []string{s.ns, s.far} {
		if err := eventually(5*time.Minute, func() error {
			_, err := cluster.client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("namespace %s is there still (%v)", ns, err)
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) tearDown(t *testing.T) {
	if err := s.remove(context.Background(), false); err != nil {
		t.Error(err)
	}
}

func podsReady(ctx context.Context, ns, pod string) error {
	list, err := cluster.client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	n := 0
	for _, p := range list.Items {
		if pod != "" && p.Name != pod {
			continue
		}
		n++
		ready := false
		for _, c := range p.Status.Conditions {
			ready = ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}
		if !ready {
			return fmt.Errorf("pod %s is not ready (%s)", p.Name, p.Status.Phase)
		}
	}
	if n == 0 {
		return fmt.Errorf("no pod %s", pod)
	}
	return nil
}

// atRest waits until nothing of a scene is left in the proxies: calls pass by
// the default policy and the default route.
func (s *stage) atRest(ctx context.Context) error {
	want := func(client string, c actor.Call, outcome string) error {
		to, err := s.address(c.Target)
		if err != nil {
			return err
		}
		c.Target = to
		got, err := s.orders.Call(ctx, client, c)
		if err != nil {
			return err
		}
		if got[0].Outcome != outcome || got[0].By != "web" {
			return fmt.Errorf("%s gets %+v", client, got[0])
		}
		return nil
	}
	w := &world{ns: s.ns}
	return eventually(patience, func() error {
		before, err := w.page("web")
		if err != nil {
			return err
		}
		for client, c := range map[string]actor.Call{
			"alice":    {Protocol: actor.HTTP, Target: "web:80", Path: "/"},
			"outsider": {Protocol: actor.HTTP, Target: "web:80", Path: "/"},
		} {
			if err := want(client, c, "200"); err != nil {
				return err
			}
		}
		if err := want("outsider", actor.Call{Protocol: actor.TCP, Target: "web:7070"}, actor.Open); err != nil {
			return err
		}
		after, err := w.page("web")
		if err != nil {
			return err
		}
		labels := []string{"srv_kind", "default", "route_kind", "default", "authz_name", "all-unauthenticated", "target_port", "8080"}
		if n := after.sum("inbound_http_authz_allow_total", labels...) - before.sum("inbound_http_authz_allow_total", labels...); n < 2 {
			return errors.New("requests are not allowed by the default policy")
		}
		return nil
	})
}

// page reads the metrics of a pod's proxy, as world.metrics does.
func (w *world) page(pod string) (samples, error) {
	raw, err := w.get(pod, 4191, "/metrics")
	if err != nil {
		raw, err = shell(time.Minute, "linkerd diagnostics proxy-metrics -n "+w.ns+" pod/"+pod)
	}
	return parse(raw), err
}

// eventually repeats check until it succeeds, and returns its last error
// otherwise.
func eventually(limit time.Duration, check func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		// There is nothing to wait on but asking again.
		time.Sleep(50 * time.Millisecond)
	}
}

// objects are the documents of a manifest.
func objects(manifest string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, doc := range regexp.MustCompile(`(?m)^---$`).Split(manifest, -1) {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(doc), &o.Object); err != nil {
			return nil, err
		}
		if o.GetKind() == "" {
			continue // nothing but comments
		}
		out = append(out, o)
	}
	return out, nil
}

// client is where objects like o are.
func (s *stage) client(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	m, err := s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		// A scene may have installed it.
		s.mapper.Reset()
		m, err = s.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return s.objects.Resource(m.Resource), nil
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(s.ns)
	}
	return s.objects.Resource(m.Resource).Namespace(o.GetNamespace()), nil
}

func (s *stage) apply(ctx context.Context, o *unstructured.Unstructured) error {
	c, err := s.client(o)
	if err != nil {
		return err
	}
	if _, err := c.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
		return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

func (s *stage) delete(ctx context.Context, o *unstructured.Unstructured) error {
	c, err := s.client(o)
	if err != nil {
		return err
	}
	var now int64
	if err := c.Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// named finds an object by KIND/NAME or NAMESPACE/KIND/NAME; kinds of a group
// are written as kubectl takes them.
func (s *stage) named(ref string) (dynamic.ResourceInterface, string, error) {
	parts := strings.Split(ref, "/")
	ns := s.ns
	if len(parts) == 3 {
		ns, parts = parts[0], parts[1:]
	}
	if len(parts) != 2 {
		return nil, "", fmt.Errorf("%q is not KIND/NAME", ref)
	}
	r, err := s.mapper.ResourceFor(schema.ParseGroupResource(parts[0]).WithVersion(""))
	if err != nil {
		return nil, "", err
	}
	return s.objects.Resource(r).Namespace(ns), parts[1], nil
}

// performance is a scene on a stage.
type performance struct {
	*world
	ctx   context.Context
	scene *scene
	stage *stage

	start  time.Time
	before map[string]samples // metrics of a proxy when the scene began
	held   map[string]string  // clients by the name of the conversation
	first  map[string]string  // who answered first, by the name of the conversation
	keys   map[string]string  // by the name of the flow: what its requests carry
	// atLeast is how much a flow has to show.
	atLeast map[string]int
	again   func() // makes the last call that was expected since a change
	undo    []func(context.Context) error
}

// perform performs a scene and clears the stage.
func (s *stage) perform(t *testing.T, path string) {
	sc, err := readScene(path, s.names())
	if err != nil {
		t.Fatal(err)
	}
	p := &performance{world: &world{t: t, ns: s.ns}, ctx: t.Context(), scene: sc, stage: s,
		start: time.Now(), before: map[string]samples{}, held: map[string]string{}, first: map[string]string{}, keys: map[string]string{}, atLeast: map[string]int{}}
	defer func() {
		// The test's context may be over.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if t.Failed() {
			p.explain()
		}
		for i := len(p.undo) - 1; i >= 0; i-- {
			if err := p.undo[i](ctx); err != nil {
				t.Error("clearing the stage: ", err)
			}
		}
		if err := s.atRest(ctx); err != nil {
			t.Error("the stage is not at rest afterwards: ", err)
		}
	}()
	for _, st := range sc.steps {
		words, _ := splitWords(st.text)
		if words[0] == "metric" && p.before[words[1]] == nil {
			// A pod that the scene makes has no metrics yet.
			p.before[words[1]], _ = p.at(words[1]).page(words[1])
		}
	}
	for _, st := range sc.steps {
		switch verb, _, _ := strings.Cut(st.text, " "); verb {
		case "apply", "delete", "annotate", "label", "mood":
			p.again = nil
		}
		if err := p.step(st); err != nil {
			t.Fatalf("%s:%d: %s\n\t%v", sc.path, st.line, st.text, err)
		}
	}
}

// at is the world where an actor is.
func (p *performance) at(who string) *world { return &world{t: p.t, ns: p.stage.home(who)} }

// step performs one.
func (p *performance) step(st step) error {
	text, err := p.addresses(st.text)
	if err != nil {
		return err
	}
	if text == st.text {
		return st.do(p)
	}
	words, err := splitWords(text)
	if err != nil {
		return err
	}
	do, err := p.scene.parse(words)
	if err != nil {
		return err
	}
	return do(p)
}

// addressForm is a pod's address in a step or a resource, which is known only
// once the pod is there.
var addressForm = regexp.MustCompile(`\$\{IP:([a-z-]+)\}`)

// addresses puts in the addresses of pods.
func (p *performance) addresses(text string) (string, error) {
	var missing error
	text = addressForm.ReplaceAllStringFunc(text, func(m string) string {
		to, err := p.stage.address("pod/" + addressForm.FindStringSubmatch(m)[1] + ":0")
		if err != nil {
			missing = err
		}
		return strings.TrimSuffix(to, ":0")
	})
	return text, missing
}

func (p *performance) applyFiles(files []string) error {
	for _, f := range files {
		text, err := p.addresses(p.scene.files[f])
		if err != nil {
			return err
		}
		list, err := objects(text)
		if err != nil {
			return err
		}
		for _, o := range list {
			if err := p.stage.apply(p.ctx, o); err != nil {
				return err
			}
			p.undo = append(p.undo, func(ctx context.Context) error { return p.stage.delete(ctx, o) })
		}
	}
	return nil
}

func (p *performance) deleteFiles(files []string) error {
	for _, f := range files {
		list, err := objects(p.scene.files[f])
		if err != nil {
			return err
		}
		for _, o := range list {
			if err := p.stage.delete(p.ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// refused has the API server refuse each object of a file.
func (p *performance) refused(file, text string) error {
	list, err := objects(p.scene.files[file])
	if err != nil {
		return err
	}
	for _, o := range list {
		err := p.stage.apply(p.ctx, o)
		if err == nil {
			p.undo = append(p.undo, func(ctx context.Context) error { return p.stage.delete(ctx, o) })
			return fmt.Errorf("%s %s was taken", o.GetKind(), o.GetName())
		}
		if !strings.Contains(err.Error(), text) {
			return err
		}
	}
	return nil
}

// mark sets annotations or labels, and takes them away at the end.
func (p *performance) mark(field, ref string, pairs []string) error {
	c, object, err := p.stage.named(ref)
	if err != nil {
		return err
	}
	set, back := map[string]any{}, map[string]any{}
	for _, kv := range pairs {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			key = strings.TrimSuffix(key, "-")
			set[key] = nil
		} else {
			set[key] = value
		}
		back[key] = nil // the stage's objects have none
	}
	patch := func(ctx context.Context, marks map[string]any) error {
		raw, err := json.Marshal(map[string]any{"metadata": map[string]any{field: marks}})
		if err != nil {
			return err
		}
		_, err = c.Patch(ctx, object, types.MergePatchType, raw, metav1.PatchOptions{})
		return err
	}
	p.undo = append(p.undo, func(ctx context.Context) error {
		if err := patch(ctx, back); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	})
	return patch(p.ctx, set)
}

// condition writes a condition into an object's status, as an operator's
// automation does.
func (p *performance) condition(ref, kind, status string) error {
	c, object, err := p.stage.named(ref)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Format(time.RFC3339)
	raw, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{map[string]any{
		"type": kind, "status": status, "lastTransitionTime": now, "lastProbeTime": now, "reason": "Scene", "message": "",
	}}}})
	if err != nil {
		return err
	}
	_, err = c.Patch(p.ctx, object, types.MergePatchType, raw, metav1.PatchOptions{}, "status")
	return err
}

func (p *performance) ready(pods []string) error {
	for _, pod := range pods {
		if err := eventually(patience, func() error { return podsReady(p.ctx, p.stage.home(pod), pod) }); err != nil {
			return err
		}
	}
	return nil
}

func (p *performance) be(server string, m actor.Mood) error {
	p.undo = append(p.undo, func(ctx context.Context) error { return p.stage.orders.Be(ctx, server, actor.Mood{}) })
	return p.stage.orders.Be(p.ctx, server, m)
}

// once makes a call and wants what is wanted of it.
func (p *performance) once(client string, c actor.Call, want *wanted) error {
	got, err := p.stage.orders.Call(p.ctx, client, c)
	if err != nil {
		return err
	}
	return p.compare(want, got)
}

// compare is want's, with what the performance knows.
func (p *performance) compare(want *wanted, got []actor.Result) error {
	if err := want.compare(got); err != nil || want.as == "" {
		return err
	}
	by, ok := p.first[want.as]
	if !ok {
		return fmt.Errorf("nothing is held under the name %s", want.as)
	}
	for _, r := range got {
		if r.By != by {
			return fmt.Errorf("%s was answered by %s: %+v", want.as, by, r)
		}
	}
	return nil
}

// expect makes a call until it is as wanted.
func (p *performance) expect(client string, c actor.Call, want *wanted) error {
	p.again = func() { p.stage.orders.Call(p.ctx, client, c) }
	return eventually(patience, func() error { return p.once(client, c, want) })
}

func (p *performance) hold(held, client string, c actor.Call, want *wanted) error {
	if p.held[held] == "" {
		p.undo = append(p.undo, func(ctx context.Context) error { return p.stage.orders.Release(ctx, client, held) })
	}
	p.held[held] = client
	return eventually(patience, func() error {
		got, err := p.stage.orders.Hold(p.ctx, client, held, c)
		if err != nil {
			return err
		}
		p.first[held] = got.By
		return p.compare(want, []actor.Result{got})
	})
}

// still wants conversations to go on as they began, at once.
func (p *performance) still(names []string) error {
	for _, held := range names {
		if p.held[held] == "" {
			return fmt.Errorf("nothing is held under the name %s", held)
		}
		got, err := p.stage.orders.Say(p.ctx, p.held[held], held)
		if err != nil {
			return err
		}
		switch got.Outcome {
		case "200", "OK", actor.Open:
		default:
			return fmt.Errorf("%s: got %+v", held, got)
		}
	}
	return nil
}

// says goes on with a conversation until the answer is as wanted.
func (p *performance) says(held string, want *wanted) error {
	if p.held[held] == "" {
		return fmt.Errorf("nothing is held under the name %s", held)
	}
	return eventually(patience, func() error {
		got, err := p.stage.orders.Say(p.ctx, p.held[held], held)
		if err != nil {
			return err
		}
		return p.compare(want, []actor.Result{got})
	})
}

func (p *performance) flow(name, client string, c actor.Call) error {
	p.held[name] = client
	if p.atLeast[name] = c.Times; c.Times == 0 {
		p.atLeast[name] = 10
	}
	p.undo = append(p.undo, func(ctx context.Context) error {
		_, err := p.stage.orders.Flowed(ctx, client, name)
		return err
	})
	var err error
	p.keys[name], err = p.stage.orders.Flow(p.ctx, client, name, c)
	return err
}

// arrived waits until a server has got a request of each of the flows.
func (p *performance) arrived(server string, flows []string) error {
	for _, name := range flows {
		if p.keys[name] == "" {
			return fmt.Errorf("no flow is called %s", name)
		}
		if err := eventually(patience, func() error {
			n, err := p.stage.orders.Arrived(p.ctx, server, p.keys[name])
			if err == nil && n == 0 {
				err = fmt.Errorf("%s has got nothing of %s", server, name)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// flowed ends a flow and wants what is wanted of all that flowed.
func (p *performance) flowed(name string, want *wanted) error {
	if p.held[name] == "" {
		return fmt.Errorf("no flow is called %s", name)
	}
	got, err := p.stage.orders.Flowed(p.ctx, p.held[name], name)
	if err != nil {
		return err
	}
	if len(got) < p.atLeast[name] {
		return fmt.Errorf("only %d were sent: nothing was shown", len(got))
	}
	p.t.Logf("%s: %d", name, len(got))
	return p.compare(want, got)
}

// status waits for conditions of an object, or of one of its parents if the
// parent's name is given.
func (p *performance) status(ref, parent string, conditions []string) error {
	c, object, err := p.stage.named(ref)
	if err != nil {
		return err
	}
	return eventually(patience, func() error {
		o, err := c.Get(p.ctx, object, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		if parents, ok, _ := unstructured.NestedSlice(o.Object, "status", "parents"); ok {
			found = nil
			for _, e := range parents {
				of, _ := e.(map[string]any)
				called, _, _ := unstructured.NestedString(of, "parentRef", "name")
				if parent != "" && called != parent {
					continue
				}
				list, _, _ := unstructured.NestedSlice(of, "conditions")
				found = append(found, list...)
			}
		}
		var have []string
		for _, e := range found {
			of, _ := e.(map[string]any)
			have = append(have, fmt.Sprintf("%v=%v/%v", of["type"], of["status"], of["reason"]))
		}
		for _, want := range conditions {
			ok := false
			for _, h := range have {
				ok = ok || h == want || strings.HasPrefix(h, want+"/")
			}
			if !ok {
				return fmt.Errorf("no %s among %v", want, have)
			}
		}
		return nil
	})
}

// metric waits for a sum of a proxy's counters. Meanwhile it repeats the call
// that was expected before: that one may have passed before the change was in
// force, with the same outcome.
func (p *performance) metric(who, metricName string, labels []string, growth bool, want span) error {
	return eventually(patience, func() error {
		now, err := p.at(who).page(who)
		if err != nil {
			return err
		}
		n := now.sum(metricName, labels...)
		if growth {
			n -= p.before[who].sum(metricName, labels...)
		}
		if want.holds(n) {
			return nil
		}
		if p.again != nil {
			p.again()
		}
		var near []string
		for _, s := range now {
			if s.name == metricName {
				near = append(near, fmt.Sprintf("%v %v", s.labels, s.value))
			}
		}
		return fmt.Errorf("it is %v, want %s; the proxy has\n\t%s", n, want, strings.Join(near, "\n\t"))
	})
}

// logged waits for a line in a proxy's log since the scene began.
func (p *performance) logged(who, text string) error {
	re, err := regexp.Compile(text)
	if err != nil {
		return err
	}
	since := metav1.NewTime(p.start)
	return eventually(patience, func() error {
		raw, err := cluster.client.CoreV1().Pods(p.stage.home(who)).
			GetLogs(who, &corev1.PodLogOptions{Container: "linkerd-proxy", SinceTime: &since}).DoRaw(p.ctx)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(raw)) {
			if re.MatchString(line) {
				return nil
			}
		}
		return fmt.Errorf("no such line in\n%s", raw)
	})
}

// cli runs the CLI until it prints what is wanted; its exit code does not matter.
func (p *performance) cli(args string, want *regexp.Regexp) error {
	return eventually(patience, func() error {
		out, _ := shell(time.Minute, "linkerd "+args)
		if !want.MatchString(out) {
			return fmt.Errorf("it printed\n%s", out)
		}
		return nil
	})
}

// explain prints the scene's resources and what the proxies said.
func (p *performance) explain() {
	for _, line := range []string{
		"kubectl -n " + p.ns + " get servers,serverauthorizations,authorizationpolicies,httplocalratelimitpolicies,egressnetworks.policy,httproutes.policy,httproutes.gateway.networking.k8s.io,grpcroutes,tlsroutes,tcproutes -o yaml | grep -v -e managedFields -e 'f:' | tail -150",
		"for p in web other alice; do echo == $p; kubectl -n " + p.ns + " logs $p -c linkerd-proxy --since-time=" + p.start.UTC().Format(time.RFC3339) + " --tail=6; done",
	} {
		out, _ := shell(time.Minute, line)
		p.t.Logf("$ %s\n%s", line, out)
	}
}

// fileLayer is an image layer with one executable file.
func fileLayer(path string, content []byte) (v1.Layer, error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o755, Size: int64(len(content))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
}
