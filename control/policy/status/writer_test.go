package status_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// source is a status.Source that a test sets.
type source struct {
	mu         sync.Mutex // guards outdated, complaints
	outdated   map[status.Key][]byte
	complaints map[status.Key]status.Complaint
	changed    chan struct{}
}

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Outdated(context.Context) (map[status.Key][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outdated, nil
}

func (s *source) Complaints(context.Context) (map[status.Key]status.Complaint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complaints, nil
}

func (s *source) complain(c map[status.Key]status.Complaint) {
	s.mu.Lock()
	s.complaints = c
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *source) set(outdated map[status.Key][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outdated = outdated
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func key(name string) status.Key {
	return status.Key{Resource: status.EgressNetworks, ID: core.ID{Namespace: "emo", Name: name}}
}

// cluster is a fake API server that notes what is patched and by whom it would be refused.
type cluster struct {
	kube    *kubefake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	mu      sync.Mutex // guards patched, refuse
	patched []string
	refuse  bool
	events  *record.FakeRecorder
}

func newCluster() *cluster {
	c := &cluster{
		events: record.NewFakeRecorder(100),
		kube:   kubefake.NewClientset(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-destination", UID: "u1"}}),
		dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			status.EgressNetworks: "EgressNetworkList",
		}),
	}
	c.dynamic.PrependReactor("patch", "egressnetworks", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch := action.(clienttesting.PatchAction)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.patched = append(c.patched, patch.GetSubresource()+" "+patch.GetName()+" "+string(patch.GetPatch()))
		if c.refuse {
			return true, nil, apierrors.NewInternalError(context.DeadlineExceeded)
		}
		return true, &unstructured.Unstructured{Object: map[string]any{}}, nil
	})
	return c
}

func (c *cluster) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.patched
	c.patched = nil
	return list
}

func (c *cluster) run(s *source, identity string) (stop func()) {
	w := status.NewWriter(status.Options{
		Source: s, Kube: c.kube, Dynamic: c.dynamic, Namespace: "linkerd", Deployment: "linkerd-destination",
		Identity: identity, Timeout: time.Second, Events: c.events, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	return func() { cancel(); <-done }
}

func (c *cluster) holder(t *testing.T) string {
	t.Helper()
	lease, err := c.kube.CoordinationV1().Leases("linkerd").Get(t.Context(), names.LeasePolicyController, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(lease.OwnerReferences) != 1 || lease.OwnerReferences[0].UID != "u1" || lease.Labels[names.LabelControlPlaneComponent] != "destination" {
		t.Errorf("lease belongs to %v, labels %v", lease.OwnerReferences, lease.Labels)
	}
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		a, b := &source{changed: make(chan struct{}, 1)}, &source{changed: make(chan struct{}, 1)}
		expect := func(step string, want ...string) {
			t.Helper()
			synctest.Wait()
			if got := c.take(); !slices.Equal(got, want) {
				t.Errorf("%s: wrote %q, want %q", step, got, want)
			}
		}
		both := func(outdated map[status.Key][]byte) { a.set(outdated); b.set(outdated) }

		both(map[status.Key][]byte{key("x"): []byte("1")})
		stopA := c.run(a, "a")
		synctest.Wait()
		stopB := c.run(b, "b")
		expect("what is outdated before there is a leader is written by it", "status x 1")
		if h := c.holder(t); h != "a" {
			t.Fatalf("lease is held by %q", h)
		}
		both(map[status.Key][]byte{key("x"): []byte("1"), key("y"): []byte("2")})
		expect("what was just written is not written again", "status y 2")
		both(map[status.Key][]byte{key("x"): []byte("3"), key("y"): []byte("2")})
		expect("unless it is something else", "status x 3")
		c.mu.Lock()
		c.refuse = true
		c.mu.Unlock()
		both(map[status.Key][]byte{key("z"): []byte("4")})
		expect("refused", "status z 4")
		time.Sleep(11 * time.Second)
		expect("it is tried again", "status z 4")
		both(nil)
		stopA()
		if h := c.holder(t); h != "" {
			t.Errorf("lease is held by %q after its holder stopped", h)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if h := c.holder(t); h != "b" {
			t.Errorf("lease is held by %q, want the next", h)
		}
		both(map[status.Key][]byte{key("x"): []byte("5")})
		expect("the next leader writes", "status x 5")
		stopB()
		expect("nobody writes")
	})
}

// The leader tells by events what is wrong with objects, each thing once until it was put right.
func TestComplaints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		c.events.Events = make(chan string, 100) // of this bubble
		a, b := &source{changed: make(chan struct{}, 1)}, &source{changed: make(chan struct{}, 1)}
		expect := func(step string, want ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(c.events.Events) > 0 {
				got = append(got, <-c.events.Events)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: told %q, want %q", step, got, want)
			}
		}
		both := func(texts ...string) {
			complaints := map[status.Key]status.Complaint{}
			if len(texts) > 0 {
				complaints[key("x")] = status.Complaint{Kind: "EgressNetwork", UID: "u2", Texts: texts}
			}
			a.complain(complaints)
			b.complain(complaints)
		}
		both("bad")
		stopA := c.run(a, "a")
		synctest.Wait()
		stopB := c.run(b, "b")
		expect("what is wrong before there is a leader is told by it", "Warning InvalidConfiguration bad")
		both("bad", "worse", "worse")
		expect("what was told is not told again", "Warning InvalidConfiguration worse")
		both("worse")
		expect("less")
		both("bad", "worse")
		expect("what comes back is", "Warning InvalidConfiguration bad")
		both()
		stopA()
		time.Sleep(5 * time.Second)
		expect("nothing is wrong")
		both("bad")
		expect("the next leader tells", "Warning InvalidConfiguration bad")
		stopB()
	})
}
