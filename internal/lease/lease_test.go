package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/lease"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// candidate is a replica whose work is to be seen at it.
type candidate struct {
	working atomic.Bool
	terms   atomic.Int64
	// slow is how long the work goes on after it was told to end.
	slow   time.Duration
	cancel context.CancelFunc
	done   chan error
}

func stand(t *testing.T, client *fake.Clientset, name string, c *candidate, prepare func(context.Context) error) *candidate {
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel, c.done = cancel, make(chan error, 1)
	go func() {
		c.done <- lease.Run(ctx, lease.Options{
			Client: client, Namespace: "linkerd", Name: "write", Identity: name, Prepare: prepare, Logger: slog.New(slog.DiscardHandler),
		}, func(ctx context.Context) {
			c.terms.Add(1)
			c.working.Store(true)
			<-ctx.Done()
			time.Sleep(c.slow)
			c.working.Store(false)
		})
	}()
	return c
}

func (c *candidate) stop(t *testing.T) {
	t.Helper()
	c.cancel()
	if err := <-c.done; err != nil {
		t.Error(err)
	}
}

func holder(t *testing.T, client *fake.Clientset) string {
	t.Helper()
	l, err := client.CoordinationV1().Leases("linkerd").Get(t.Context(), "write", metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a := &candidate{slow: 5 * time.Second}
		// The lease must not be free as long as its holder works.
		client.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
			l := action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			if h := l.Spec.HolderIdentity; (h == nil || *h == "") && a.working.Load() {
				t.Error("the lease is given back by somebody who still works")
			}
			return false, nil, nil
		})
		stand(t, client, "a", a, nil)
		time.Sleep(time.Second)
		b := stand(t, client, "b", &candidate{}, nil)
		time.Sleep(time.Minute)
		if !a.working.Load() || b.working.Load() || holder(t, client) != "a" {
			t.Errorf("a works: %v, b works: %v, holder %q", a.working.Load(), b.working.Load(), holder(t, client))
		}
		start := time.Now()
		a.stop(t)
		if took := time.Since(start); took < a.slow || took > a.slow+time.Second {
			t.Errorf("a stopped after %s", took)
		}
		// A candidate looks every two seconds, and a bit.
		time.Sleep(5 * time.Second)
		if !b.working.Load() {
			t.Error("b did not begin at once when the lease was free")
		}
		b.stop(t)
	})
}

func TestLostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var away atomic.Bool
		for _, verb := range []string{"get", "update"} {
			client.PrependReactor(verb, "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
				if away.Load() {
					time.Sleep(5 * time.Second) // a network that swallows what is sent
					return true, nil, errors.New("time-out")
				}
				return false, nil, nil
			})
		}
		a := stand(t, client, "a", &candidate{}, nil)
		time.Sleep(time.Minute)
		away.Store(true)
		// The time to the next renewal, which varies, ten seconds without it, and the two calls of the try that is under way. The
		// lease could be somebody else's after 30 seconds.
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if a.working.Load() {
			t.Error("a still works though it could not renew the lease")
		}
		away.Store(false)
		time.Sleep(50 * time.Second)
		if !a.working.Load() || a.terms.Load() != 2 {
			t.Errorf("a works: %v, in its term %d, want the second", a.working.Load(), a.terms.Load())
		}
		a.stop(t)
	})
}

func TestPrepare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		a := stand(t, fake.NewClientset(), "a", &candidate{}, func(context.Context) error {
			if tries++; tries < 4 {
				return errors.New("no owner yet")
			}
			return nil
		})
		time.Sleep(16 * time.Second)
		if !a.working.Load() || tries != 4 {
			t.Errorf("a works: %v, after %d tries", a.working.Load(), tries)
		}
		a.stop(t)
	})
}
