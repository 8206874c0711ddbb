package externalworkload_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"

	"github.com/linkerd-go/linkerd-go/control/externalworkload"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// machine is a workload with annotations, as `key=value`, and conditions, as `type=status`.
func machine(name string, annotation string, conditions ...string) *unstructured.Unstructured {
	u := workloadObject(name, "192.0.2.1", "")
	if key, value, ok := strings.Cut(annotation, "="); ok {
		u.SetAnnotations(map[string]string{key: value})
	}
	var list []any
	for _, c := range conditions {
		kind, status, _ := strings.Cut(c, "=")
		list = append(list, map[string]any{"type": kind, "status": status})
	}
	u.Object["status"] = map[string]any{"conditions": list}
	return u
}

// TestHealth asks workloads that want it, and looks at their conditions.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gvr := schema.GroupVersionResource{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"}
		dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{gvr: "ExternalWorkloadList"})
		var mu sync.Mutex
		failing := map[string]error{}
		questions := map[string]int{}
		fail := func(url string, err error) {
			mu.Lock()
			defer mu.Unlock()
			failing[url] = err
		}
		controller := externalworkload.New(externalworkload.Options{
			Clients: &kube.Clients{Kube: kubefake.NewClientset(), Dynamic: dynamic}, Namespace: "linkerd", Identity: "one",
			Logger: slog.New(slog.DiscardHandler),
			Ask: func(_ context.Context, url string) error {
				mu.Lock()
				defer mu.Unlock()
				questions[url]++
				return failing[url]
			},
		})
		group := kube.NewGroup(slog.New(slog.DiscardHandler), controller.Watches()...)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { group.Run(ctx) })
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		objects := dynamic.Resource(gvr).Namespace("emo")
		put := func(u *unstructured.Unstructured, update bool) {
			t.Helper()
			var err error
			if update {
				_, err = objects.Update(t.Context(), u, metav1.UpdateOptions{})
			} else {
				_, err = objects.Create(t.Context(), u, metav1.CreateOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		expect := func(when, name, want string) {
			t.Helper()
			synctest.Wait()
			u, err := objects.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			for _, c := range conditions {
				fields := c.(map[string]any)
				line := fmt.Sprint(fields["type"], "=", fields["status"])
				if m, ok := fields["message"]; ok {
					line += fmt.Sprintf("(%v)", m)
				}
				got = append(got, line)
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %s has the conditions %q, want %q", when, name, got, want)
			}
		}
		const asks = "health.linkerd.io/http-get="
		const first, second = "http://192.0.2.1:4191/ready", "http://192.0.2.1:8080/"
		fail(second, errors.New("refused"))
		put(machine("by-number", asks+"4191/ready"), false)
		put(machine("by-name", asks+"web", "Other=True"), false)
		put(machine("ready-before", asks+"web", "Ready=True"), false)
		put(machine("not-asked", "", "Ready=False"), false)
		put(machine("nonsense", asks+"ready/4191", "Ready=True"), false)

		// Nobody has the lease.
		time.Sleep(time.Minute)
		expect("before anybody leads", "by-number", "")

		running.Go(func() {
			if err := controller.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(5 * time.Second)
		expect("one question", "by-number", "Ready=True")
		expect("one question", "by-name", "Other=True Ready=False(refused)")
		expect("one question", "ready-before", "Ready=True")
		time.Sleep(25 * time.Second)
		expect("three questions", "ready-before", "Ready=False(refused)")
		expect("three questions", "not-asked", "Ready=False")
		expect("three questions", "nonsense", "Ready=True")

		fail(first, errors.New("status 503"))
		fail(second, nil)
		time.Sleep(12 * time.Second)
		expect("the first failure", "by-number", "Ready=True")
		expect("well again", "by-name", "Other=True Ready=True")
		time.Sleep(24 * time.Second)
		expect("the third failure", "by-number", "Ready=False(status 503)")

		// Another place to ask, and nobody asks any more at the old one.
		put(machine("by-number", asks+"8080", "Ready=False"), true)
		time.Sleep(time.Second)
		expect("asked elsewhere", "by-number", "Ready=True")
		put(machine("by-name", "", "Ready=True"), true)
		if err := objects.Delete(t.Context(), "ready-before", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		before := fmt.Sprint(questions[first])
		questions[second] = 0
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		if got := fmt.Sprint(questions[first]); got != before {
			t.Errorf("the old place was asked %s times, then %s", before, got)
		}
		if n := questions[second]; n < 5 || n > 6 {
			t.Errorf("%d questions in a minute; only one workload is left that is asked", n)
		}
		mu.Unlock()
		cancel()
		running.Wait()
	})
}

// TestHealthByHTTP asks servers.
func TestHealthByHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/well":
		case "/moved":
			http.Redirect(w, r, "/unwell", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{"/well": "", "/moved": "", "/unwell": "status 503 Service Unavailable"} {
		err := externalworkload.Ask(t.Context(), server.URL+path)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	server.Close()
	if err := externalworkload.Ask(t.Context(), server.URL+"/well"); err == nil {
		t.Error("a server that is gone is well")
	}
}
