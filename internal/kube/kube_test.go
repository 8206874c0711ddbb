package kube_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{NodeName: node}}
}

// node keeps the one field the test is about, and refuses one value of it.
func node(pod *corev1.Pod) (string, error) {
	if pod.Spec.NodeName == "bad" {
		return "", errors.New("no such node")
	}
	return pod.Spec.NodeName, nil
}

// counts is an Observer that counts.
type counts struct{ applied, deleted, restarted, failed int }

func (c *counts) Applied(metav1.Object) { c.applied++ }
func (c *counts) Deleted()              { c.deleted++ }
func (c *counts) Restarted(int)         { c.restarted++ }
func (c *counts) Failed(error)          { c.failed++ }

func TestWatchFollowsObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a", "n1"), pod("b", "bad"))
		var table kube.Table[string]
		var seen counts
		w := kube.NewWatch("pods", kube.Resource(client, client.CoreV1().Pods("")), node, &table)
		w.Observer = &seen
		group := kube.NewGroup(slog.New(slog.DiscardHandler), w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); group.Run(ctx) }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		expect := func(step, want string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for _, key := range table.Keys() {
				node, _ := table.Get(key.Namespace, key.Name)
				got = append(got, key.String()+"="+node)
			}
			if s := strings.Join(got, " "); s != want {
				t.Fatalf("%s: got %q, want %q", step, s, want)
			}
		}
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		expect("start", "ns/a=n1")
		pods := client.CoreV1().Pods("ns")
		must(pods.Create(ctx, pod("c", "n2"), metav1.CreateOptions{}))
		expect("created", "ns/a=n1 ns/c=n2")
		must(pods.Update(ctx, pod("a", "n3"), metav1.UpdateOptions{}))
		expect("changed", "ns/a=n3 ns/c=n2")
		must(pods.Update(ctx, pod("a", "bad"), metav1.UpdateOptions{}))
		expect("a refused change keeps the old one", "ns/a=n3 ns/c=n2")
		must(nil, pods.Delete(ctx, "c", metav1.DeleteOptions{}))
		expect("deleted", "ns/a=n3")
		cancel()
		<-done
		if want := (counts{applied: 3, deleted: 1, restarted: 1, failed: 2}); seen != want {
			t.Errorf("observed %+v, want %+v", seen, want)
		}
	})
}

func TestSyncTimeoutNamesTheWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("forbidden")
		})
		w := kube.NewWatch("pods", kube.Resource(client, client.CoreV1().Pods("")), node, &kube.Table[string]{})
		group := kube.NewGroup(slog.New(slog.DiscardHandler), w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); group.Run(ctx) }()
		start := time.Now()
		err := group.WaitSynced(ctx, kube.SyncTimeout)
		if err == nil || !strings.Contains(err.Error(), "pods") || time.Since(start) != kube.SyncTimeout {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		cancel()
		<-done
	})
}

func TestCheckAccess(t *testing.T) {
	allowed := false
	client := fake.NewClientset()
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = allowed
		return true, review, nil
	})
	attributes := authorizationv1.ResourceAttributes{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"}
	err := kube.CheckAccess(t.Context(), client, attributes)
	if err == nil || err.Error() != "not authorized to create tokenreviews.authentication.k8s.io" {
		t.Fatalf("got %v", err)
	}
	allowed = true
	if err := kube.CheckAccess(t.Context(), client, attributes); err != nil {
		t.Fatal(err)
	}
}

func TestHasResource(t *testing.T) {
	client := fake.NewClientset()
	client.Resources = []*metav1.APIResourceList{{GroupVersion: "linkerd.io/v1alpha2", APIResources: []metav1.APIResource{{Name: "serviceprofiles"}}}}
	for resource, want := range map[string]bool{"serviceprofiles": true, "others": false} {
		if got, err := kube.HasResource(client.Discovery(), "linkerd.io/v1alpha2", resource); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", resource, got, err, want)
		}
	}
	if got, err := kube.HasResource(client.Discovery(), "linkerd.io/v9", "serviceprofiles"); err != nil || got {
		t.Errorf("unknown group version: got %v, %v", got, err)
	}
}

// TestCheckListNamesWhatIsMissing: be it a resource definition or a right.
func TestCheckListNamesWhatIsMissing(t *testing.T) {
	client := fake.NewClientset()
	client.Resources = []*metav1.APIResourceList{{GroupVersion: "linkerd.io/v1alpha2", APIResources: []metav1.APIResource{{Name: "serviceprofiles"}}}}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = review.Spec.ResourceAttributes.Verb == "list" && review.Spec.ResourceAttributes.Resource != "secrets"
		return true, review, nil
	})
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	profiles := schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}
	for _, c := range []struct {
		name string
		last schema.GroupVersionResource
		want string
	}{
		{"all there", profiles, "<nil>"},
		{"no definition", schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "others"}, "the cluster has no resource others.linkerd.io/v1alpha2"},
		{"no right", schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "not authorized to list secrets"},
	} {
		if got := fmt.Sprint(kube.CheckList(t.Context(), client, pods, profiles, c.last)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// TestExpiredWatchNoticesWhatItMissed: the API server ends a watch with 410 Gone, as it does once it has forgotten the version
// that the watch is at. What was deleted in between is in no event; only the new list tells.
func TestExpiredWatchNoticesWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("kept", "n1"), pod("missed", "n1"))
		watches := make(chan *watch.RaceFreeFakeWatcher, 10)
		client.PrependWatchReactor("pods", func(clienttesting.Action) (bool, watch.Interface, error) {
			w := watch.NewRaceFreeFake()
			watches <- w
			return true, w, nil
		})
		var table kube.Table[string]
		var seen counts
		w := kube.NewWatch("pods", kube.Resource(client, client.CoreV1().Pods("")), node, &table)
		w.Observer = &seen
		group := kube.NewGroup(slog.New(slog.DiscardHandler), w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); group.Run(ctx) }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		first := <-watches
		if err := client.CoreV1().Pods("ns").Delete(ctx, "missed", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		expired := apierrors.NewResourceExpired("too old resource version: 1 (2)")
		first.Error(&expired.ErrStatus)
		// Well within the pause that follows an error.
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if keys := table.Keys(); len(keys) != 1 || keys[0].Name != "kept" {
			t.Errorf("the table has %v, want only kept", keys)
		}
		if seen.restarted != 2 {
			t.Errorf("%d lists, want one at the start and one after the expiry", seen.restarted)
		}
		cancel()
		<-done
	})
}

// TestWatchIsBackSoonAfterALongOutage: pauses do not grow with the length of an outage.
func TestWatchIsBackSoonAfterALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(pod("a", "n1"))
		var back atomic.Bool
		var tries atomic.Int64
		client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			tries.Add(1)
			return !back.Load(), nil, errors.New("connection refused")
		})
		var table kube.Table[string]
		group := kube.NewGroup(slog.New(slog.DiscardHandler), kube.NewWatch("pods", kube.Resource(client, client.CoreV1().Pods("")), node, &table))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); group.Run(ctx) }()
		const outage = 10 * time.Minute
		time.Sleep(outage)
		synctest.Wait()
		if limit := int64(outage / time.Second); tries.Load() > limit {
			t.Errorf("%d tries in %s", tries.Load(), outage)
		}
		back.Store(true)
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if len(table.Keys()) != 1 {
			t.Error("nothing listed 8 seconds after the API server was back")
		}
		cancel()
		<-done
	})
}

func TestPersist(t *testing.T) {
	unavailable := apierrors.NewServiceUnavailable("starting")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
	refused := fmt.Errorf("listing: %w", &url.Error{Op: "Get", URL: "https://10.0.0.1", Err: errors.New("connection refused")})
	final := errors.New("not authorized to list pods")
	for _, c := range []struct {
		name    string
		answers []error
		want    error
	}{
		{"at once", []error{nil}, nil},
		{"once it is there", []error{refused, unavailable, refused, nil}, nil},
		{"refusals are final", []error{refused, forbidden}, forbidden},
		{"so is what the controller finds wrong itself", []error{final}, final},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				err := kube.Persist(t.Context(), slog.New(slog.DiscardHandler), func(context.Context) error {
					calls++
					return c.answers[calls-1]
				})
				if !errors.Is(err, c.want) || calls != len(c.answers) {
					t.Errorf("got %v after %d calls, want %v after %d", err, calls, c.want, len(c.answers))
				}
			})
		})
	}
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := kube.Persist(ctx, slog.New(slog.DiscardHandler), func(context.Context) error { return refused })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	})
}
