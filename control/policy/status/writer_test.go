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

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/status"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// source is a status.Source that a test sets.
type source struct {
	mu       sync.Mutex // guards outdated
	outdated map[status.Key][]byte
	changed  chan struct{}
}

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Outdated(context.Context) (map[status.Key][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outdated, nil
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
}

func newCluster() *cluster {
	c := &cluster{
		kube: kubefake.NewClientset(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-destination", UID: "u1"}}),
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
		Identity: identity, Timeout: time.Second, Logger: slog.New(slog.DiscardHandler),
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
