package smi_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/txtar"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/smi"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var resources = map[string]schema.GroupVersionResource{
	"TrafficSplit":   {Group: "split.smi-spec.io", Version: "v1alpha1", Resource: "trafficsplits"},
	"ServiceProfile": {Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"},
}

// TestTranscripts runs each file of testdata: objects are applied to a fake API server step by step, and what the adaptor
// makes of them is compared with the file. `go test ./control/smi -update` writes it down; to add a case, add a file without
// the content of its `want` parts and do that. The parts of a file are, in any number and order:
//
//	-- start NAME --   an adaptor starts; one named `main` is there from the beginning
//	-- stop NAME --    and stops
//	-- apply --        objects, as YAML documents; without a namespace it is emo
//	-- delete --       `Kind namespace/name`, one per line
//	-- fail N --       the next N writes of profiles fail; with a second word `refused` by admission
//	-- pass TIME --    time goes by
//	-- want --         all profiles, and events and writes of profiles since the last `want`
func TestTranscripts(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) (got []txtar.File) {
		synctest.Test(t, func(t *testing.T) { got = play(t, parts) })
		return got
	})
}

// world is a fake API server and what has been done to it.
type world struct {
	t       *testing.T
	typed   *kubefake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	stops   map[string]func()

	mu       sync.Mutex // guards the rest
	events   []string
	writes   int
	failures int
	failure  error
}

// Event implements smi.Events.
func (w *world) Event(split *smi.Split, kind, reason, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s/%s %s %s: %s", split.Namespace, split.Name, kind, reason, message))
}

func play(t *testing.T, parts []txtar.File) []txtar.File {
	w := &world{
		t:     t,
		typed: kubefake.NewClientset(),
		dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			resources["TrafficSplit"]: "TrafficSplitList", resources["ServiceProfile"]: "ServiceProfileList",
		}),
		stops: make(map[string]func()),
	}
	w.dynamic.PrependReactor("*", "serviceprofiles", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if verb := action.GetVerb(); verb != "create" && verb != "update" {
			return false, nil, nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.failures > 0 {
			w.failures--
			return true, nil, w.failure
		}
		w.writes++
		return false, nil, nil
	})
	w.start("main")
	var out []txtar.File
	for _, part := range parts {
		words := strings.Fields(part.Name)
		switch words[0] {
		case "start":
			w.start(words[1])
		case "stop":
			w.stops[words[1]]()
			delete(w.stops, words[1])
		case "apply":
			for _, document := range strings.Split(string(part.Data), "\n---\n") {
				w.apply(document)
			}
		case "delete":
			for line := range strings.Lines(string(part.Data)) {
				kind, name, _ := strings.Cut(strings.TrimSpace(line), " ")
				namespace, name, _ := strings.Cut(name, "/")
				if err := w.dynamic.Tracker().Delete(resources[kind], namespace, name); err != nil {
					t.Fatal(err)
				}
			}
		case "fail":
			n, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.failures, w.failure = n, errors.New("try later")
			if len(words) > 2 {
				w.failure = apierrors.NewForbidden(schema.GroupResource{Resource: "serviceprofiles"}, "web", errors.New("not here"))
			}
			w.mu.Unlock()
		case "pass":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		case "want":
			synctest.Wait()
			part.Data = []byte(w.state())
		default:
			t.Fatalf("no such part: %s", part.Name)
		}
		synctest.Wait()
		out = append(out, part)
	}
	for _, stop := range w.stops {
		stop()
	}
	return out
}

// start starts an adaptor, and gives it the time to take the lease if that is free.
func (w *world) start(name string) {
	controller := smi.New(smi.Options{
		Clients: &kube.Clients{Kube: w.typed, Dynamic: w.dynamic}, Namespace: "linkerd-smi", Identity: name,
		ClusterDomain: "cluster.local", Workers: 2, Events: w,
		Metrics: reconcile.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
	})
	watch := controller.Watch()
	group := kube.NewGroup(slog.New(slog.DiscardHandler), watch)
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { group.Run(ctx) })
	<-watch.Synced()
	// The watch begins after its list, and the fake loses what comes in between.
	synctest.Wait()
	running.Go(func() {
		if err := controller.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stops[name] = func() { cancel(); running.Wait() }
	time.Sleep(5 * time.Second)
}

// apply creates or replaces an object given as YAML.
func (w *world) apply(document string) {
	var u unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
		w.t.Fatal(err)
	}
	// As they come from an API server: whole numbers are whole.
	if err := u.UnmarshalJSON(mustJSON(w.t, u.Object)); err != nil {
		w.t.Fatal(err)
	}
	gvr, ok := resources[u.GetKind()]
	if !ok {
		w.t.Fatalf("no such kind: %s", u.GetKind())
	}
	u.SetAPIVersion(gvr.GroupVersion().String())
	u.SetNamespace(cmp.Or(u.GetNamespace(), "emo"))
	err := w.dynamic.Tracker().Create(gvr, &u, u.GetNamespace())
	if apierrors.IsAlreadyExists(err) {
		err = w.dynamic.Tracker().Update(gvr, &u, u.GetNamespace())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func mustJSON(t *testing.T, object map[string]any) []byte {
	t.Helper()
	if object["apiVersion"] == nil {
		object["apiVersion"] = "any/v1"
	}
	text, err := yaml.Marshal(object)
	if err == nil {
		text, err = yaml.YAMLToJSON(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// state prints the profiles, and what happened since it was asked for last.
func (w *world) state() string {
	list, err := w.dynamic.Tracker().List(resources["ServiceProfile"], schema.GroupVersionKind{
		Group: "linkerd.io", Version: "v1alpha2", Kind: "ServiceProfile",
	}, "")
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, profile := range list.(*unstructured.UnstructuredList).Items {
		line := "profile " + profile.GetNamespace() + "/" + profile.GetName()
		for _, annotation := range slices.Sorted(func(yield func(string) bool) {
			for key, value := range profile.GetAnnotations() {
				if !yield(key + "=" + value) {
					return
				}
			}
		}) {
			line += " " + annotation
		}
		spec, _ := profile.Object["spec"].(map[string]any)
		text, err := yaml.Marshal(spec)
		if err != nil {
			w.t.Fatal(err)
		}
		lines = append(lines, line+"\n  "+strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n  ")+"\n")
	}
	slices.Sort(lines)
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.events)
	for _, event := range w.events {
		lines = append(lines, "event "+event+"\n")
	}
	lines = append(lines, fmt.Sprintf("writes %d\n", w.writes))
	w.events, w.writes = nil, 0
	return strings.Join(lines, "")
}
