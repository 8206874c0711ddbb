package cnirepair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// mkPod makes a pod with the given change to a broken one.
func mkPod(name string, change func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{
			Name:                 "linkerd-network-validator",
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 95}},
		}}},
	}
	change(pod)
	return pod
}

func TestBroken(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"broken":        {func(*corev1.Pod) {}, true},
		"being deleted": {func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.Now()) }, false},
		"another code":  {func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].LastTerminationState.Terminated.ExitCode = 1 }, false},
		"not restarted yet": {func(p *corev1.Pod) {
			s := &p.Status.InitContainerStatuses[0]
			s.State, s.LastTerminationState = s.LastTerminationState, corev1.ContainerState{}
		}, false},
		"passed in the end": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 0}
		}, false},
		"failed again": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses[0].State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 95}
		}, true},
		"another container": {func(p *corev1.Pod) { p.Status.InitContainerStatuses[0].Name = "linkerd-init" }, false},
		"second of two": {func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = append([]corev1.ContainerStatus{{Name: "first"}}, p.Status.InitContainerStatuses...)
		}, true},
		"no status": {func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }, false},
	} {
		if got := broken(mkPod("p", c.change)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func newRepairer(t *testing.T, client *fake.Clientset) *Repairer {
	t.Helper()
	r, err := New(Options{
		Client: client, Node: "node-1", PodName: "linkerd-cni-abc",
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRepairs follows pods from the watch to the event.
func TestRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client := fake.NewClientset(mkPod("early", func(*corev1.Pod) {}), mkPod("fine", func(p *corev1.Pod) { p.Status = corev1.PodStatus{} }))
		var selectors []string
		client.PrependReactor("list", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
			restrictions := action.(clienttesting.ListAction).GetListRestrictions()
			selectors = append(selectors, restrictions.Labels.String()+" "+restrictions.Fields.String())
			return false, nil, nil
		})
		r := newRepairer(t, client)
		done := make(chan struct{}, 2)
		go func() { kube.NewGroup(r.options.Logger, r.Watch()).Run(ctx); done <- struct{}{} }()
		go func() { r.Run(ctx); done <- struct{}{} }()
		synctest.Wait()

		if want := []string{"linkerd.io/control-plane-ns spec.nodeName=node-1"}; !cmp.Equal(want, selectors) {
			t.Errorf("pods were listed by %q, want %q", selectors, want)
		}
		if got := podNames(t, client); !cmp.Equal(got, []string{"fine"}) {
			t.Errorf("pods left: %v", got)
		}
		// One that fails later.
		if _, err := client.CoreV1().Pods("shop").Create(ctx, mkPod("late", func(*corev1.Pod) {}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := podNames(t, client); !cmp.Equal(got, []string{"fine"}) {
			t.Errorf("pods left: %v", got)
		}

		var regarding []string
		for _, action := range client.Actions() {
			if !action.Matches("create", "events") {
				continue
			}
			e := action.(clienttesting.CreateAction).GetObject().(*eventsv1.Event)
			regarding = append(regarding, fmt.Sprintf("%s/%s %s", e.Regarding.Kind, e.Regarding.Name, e.Regarding.UID))
			if e.Type != "Normal" || e.Reason != "LinkerdCNINotConfigured" || e.Action != "Deleting" || e.Namespace != "shop" ||
				e.ReportingController != "linkerd-cni-repair-controller" || e.ReportingInstance != "linkerd-cni-abc" || e.EventTime.IsZero() || e.Note == "" {
				t.Errorf("event %+v", e)
			}
		}
		if want := []string{"Pod/early uid-early", "Pod/late uid-late"}; !cmp.Equal(want, regarding) {
			t.Errorf("events about %q, want %q", regarding, want)
		}
		if got := testutil.ToFloat64(r.metrics.deleted); got != 2 {
			t.Errorf("%v deletions counted, want 2", got)
		}
		cancel()
		<-done
		<-done
	})
}

func podNames(t *testing.T, client *fake.Clientset) []string {
	t.Helper()
	list, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range list.Items {
		out = append(out, p.Name)
	}
	return out
}

// TestFailures counts what goes wrong, and publishes no event about a pod that is still there.
func TestFailures(t *testing.T) {
	gone := apierrors.NewNotFound(corev1.Resource("pods"), "p")
	other := apierrors.NewConflict(corev1.Resource("pods"), "p", errors.New("uid"))
	for name, c := range map[string]struct {
		deleteErr, eventErr                                               error
		deleted, deleteErrors, deleteTimeouts, eventErrors, eventTimeouts float64
	}{
		"delete fails":       {deleteErr: errors.New("broken"), deleteErrors: 1},
		"delete times out":   {deleteErr: context.DeadlineExceeded, deleteTimeouts: 1},
		"gone already":       {deleteErr: gone},
		"another pod by now": {deleteErr: other},
		"event fails":        {eventErr: errors.New("broken"), deleted: 1, eventErrors: 1},
		"event times out":    {eventErr: context.DeadlineExceeded, deleted: 1, eventTimeouts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset()
			client.PrependReactor("delete", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
				options := action.(clienttesting.DeleteActionImpl).DeleteOptions
				if *options.GracePeriodSeconds != 0 || *options.Preconditions.UID != "uid-p" {
					t.Errorf("delete options %+v", options)
				}
				return true, nil, c.deleteErr
			})
			client.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, c.eventErr
			})
			r := newRepairer(t, client)
			r.repair(t.Context(), job{kube.Key{Namespace: "shop", Name: "p"}, "uid-p"})
			m := r.metrics
			got := []float64{testutil.ToFloat64(m.deleted), testutil.ToFloat64(m.deletes.errors), testutil.ToFloat64(m.deletes.timeouts),
				testutil.ToFloat64(m.events.errors), testutil.ToFloat64(m.events.timeouts)}
			want := []float64{c.deleted, c.deleteErrors, c.deleteTimeouts, c.eventErrors, c.eventTimeouts}
			if !cmp.Equal(want, got) {
				t.Errorf("deleted, its errors and timeouts, the events' errors and timeouts: %v, want %v", got, want)
			}
		})
	}
}

// TestOverflow shows that the watch goes on when nobody takes pods out of the queue.
func TestOverflow(t *testing.T) {
	r := newRepairer(t, fake.NewClientset())
	for i := range queueLength + 3 {
		r.Apply(kube.Key{Namespace: "shop", Name: fmt.Sprint(i)}, Pod{Broken: true})
		r.Apply(kube.Key{Namespace: "shop", Name: "fine"}, Pod{})
	}
	if got := testutil.ToFloat64(r.metrics.overflows); got != 3 {
		t.Errorf("%v overflows, want 3", got)
	}
}
