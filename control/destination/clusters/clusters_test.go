package clusters_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/control/destination/clusters"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func secret(kubeconfig string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "linkerd", Name: "cluster-credentials-west",
			Labels: map[string]string{"multicluster.linkerd.io/cluster-name": "west"},
			Annotations: map[string]string{
				"multicluster.linkerd.io/trust-domain":   "west.example",
				"multicluster.linkerd.io/cluster-domain": "cluster.west",
			},
		},
		Type: "mirror.linkerd.io/remote-kubeconfig",
		Data: map[string][]byte{"kubeconfig": []byte(kubeconfig)},
	}
}

// remote makes the clients of a cluster that has the Service emo/web, or cannot be reached.
func remote(reachable bool) *kube.Clients {
	typed := kubefake.NewClientset(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "emo", Name: "web"}})
	if !reachable {
		typed.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("no route to host")
		})
	}
	metaScheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(metaScheme); err != nil {
		panic(err)
	}
	return &kube.Clients{
		Kube: typed,
		Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
			{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}: "ServerList",
		}),
		Metadata: metadatafake.NewSimpleMetadataClient(metaScheme),
	}
}

// TestLinks follows a link from its Secret's first to its last state.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := kubefake.NewClientset()
		store := clusters.New(clusters.Options{
			Namespace: "linkerd", Config: core.Config{TrustDomain: "cluster.local"}, Capacity: 100, EndpointSlices: true,
			Connect: func(kubeconfig []byte) (*kube.Clients, error) {
				switch string(kubeconfig) {
				case "nonsense":
					return nil, errors.New("not a kubeconfig")
				case "away":
					return remote(false), nil
				}
				return remote(true), nil
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		group := kube.NewGroup(slog.New(slog.DiscardHandler), store.Watch(&kube.Clients{Kube: own}))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { store.Run(ctx) })
		running.Go(func() { group.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()

		secrets := own.CoreV1().Secrets("linkerd")
		// step does something to the Secret and says whether the set of clusters should change by it.
		step := func(name string, changes bool, do func() error) *index.Index {
			t.Helper()
			changed := store.Changed()
			if err := do(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			synctest.Wait()
			select {
			case <-changed:
				if !changes {
					t.Errorf("%s: clusters changed", name)
				}
			default:
				if changes {
					t.Errorf("%s: clusters did not change", name)
				}
			}
			x, _ := store.Cluster("west")
			return x
		}
		create := func(s *corev1.Secret) func() error {
			return func() error { _, err := secrets.Create(ctx, s, metav1.CreateOptions{}); return err }
		}
		update := func(s *corev1.Secret) func() error {
			return func() error { _, err := secrets.Update(ctx, s, metav1.UpdateOptions{}); return err }
		}
		remove := func() error { return secrets.Delete(ctx, "cluster-credentials-west", metav1.DeleteOptions{}) }

		if x := step("a kubeconfig that is none", false, create(secret("nonsense"))); x != nil {
			t.Error("a cluster without a connection")
		}
		first := step("repaired", true, update(secret("one")))
		if first == nil {
			t.Fatal("no cluster")
		}
		if service, err := first.Service(ctx, core.ID{Namespace: "emo", Name: "web"}); err != nil || service == nil {
			t.Errorf("got %v, %v", service, err)
		}
		labelled := secret("one")
		labelled.Labels["other"] = "label"
		if x := step("nothing that matters changed", false, update(labelled)); x != first {
			t.Error("connected anew")
		}
		second := step("a new token", true, update(secret("two")))
		if second == nil || second == first {
			t.Error("not connected anew")
		}
		select {
		case <-first.Stopped():
		default:
			t.Error("the old connection is still there")
		}
		if x := step("a cluster that is away", false, update(secret("away"))); x != second {
			t.Error("the old connection was given up before there was a new one")
		}
		incomplete := secret("three")
		delete(incomplete.Annotations, "multicluster.linkerd.io/trust-domain")
		if x := step("an annotation is missing", false, update(incomplete)); x != second {
			t.Error("the old connection was given up")
		}
		if x := step("unlinked", true, remove); x != nil {
			t.Error("still linked")
		}
		select {
		case <-second.Stopped():
		default:
			t.Error("the connection is still there")
		}
		other := secret("one")
		other.Type = "Opaque"
		if x := step("a Secret of another type", false, create(other)); x != nil {
			t.Error("linked")
		}
	})
}

// TestMetricsOfLinks counts the streams of a cluster that is linked anew once, and forgets those of one that is not linked.
func TestMetricsOfLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := kubefake.NewClientset()
		registry := prometheus.NewRegistry()
		store := clusters.New(clusters.Options{
			Namespace: "linkerd", Config: core.Config{TrustDomain: "cluster.local"}, Capacity: 100, EndpointSlices: true,
			Connect:    func([]byte) (*kube.Clients, error) { return remote(true), nil },
			Registerer: registry, Logger: slog.New(slog.DiscardHandler),
		})
		group := kube.NewGroup(slog.New(slog.DiscardHandler), store.Watch(&kube.Clients{Kube: own}))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { store.Run(ctx) })
		running.Go(func() { group.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// values are those of the series about the cluster, by the metric's name.
		values := func() map[string]float64 {
			t.Helper()
			synctest.Wait()
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			values := map[string]float64{}
			for _, family := range families {
				for _, m := range family.GetMetric() {
					if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "cluster" && l.GetValue() == "west" }) {
						values[family.GetName()] += m.GetGauge().GetValue()
					}
				}
			}
			return values
		}
		follow := func() {
			t.Helper()
			x, ok := store.Cluster("west")
			if !ok {
				t.Fatal("no cluster")
			}
			if _, err := x.Endpoints(ctx, index.EndpointsQuery{Service: core.ID{Namespace: "emo", Name: "web"}, Port: 80}); err != nil {
				t.Fatal(err)
			}
		}
		secrets := own.CoreV1().Secrets("linkerd")
		if _, err := secrets.Create(ctx, secret("one"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		follow()
		if got := values(); got["services_cache_size"] != 1 || got["endpoints_subscribers"] != 1 {
			t.Errorf("linked: %v", got)
		}
		if _, err := secrets.Update(ctx, secret("two"), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		follow()
		if got := values(); got["services_cache_size"] != 1 || got["endpoints_subscribers"] != 1 {
			t.Errorf("linked anew: %v", got)
		}
		if err := secrets.Delete(ctx, "cluster-credentials-west", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := values(); len(got) != 0 {
			t.Errorf("not linked: %v", got)
		}
	})
}

// TestIncompleteLinkInANewList has the watch of links begin anew when one has lost an annotation: the cluster stays, as it does when
// the watch tells of that.
func TestIncompleteLinkInANewList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := kubefake.NewClientset(secret("one"))
		events := make(chan *watch.RaceFreeFakeWatcher, 10)
		own.PrependWatchReactor("secrets", func(clienttesting.Action) (bool, watch.Interface, error) {
			w := watch.NewRaceFreeFake()
			events <- w
			return true, w, nil
		})
		store := clusters.New(clusters.Options{
			Namespace: "linkerd", Config: core.Config{TrustDomain: "cluster.local"}, Capacity: 100, EndpointSlices: true,
			Connect: func([]byte) (*kube.Clients, error) { return remote(true), nil }, Logger: slog.New(slog.DiscardHandler),
		})
		group := kube.NewGroup(slog.New(slog.DiscardHandler), store.Watch(&kube.Clients{Kube: own}))
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { store.Run(ctx) })
		running.Go(func() { group.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		linked, ok := store.Cluster("west")
		if !ok {
			t.Fatal("no cluster")
		}
		incomplete := secret("one")
		delete(incomplete.Annotations, "multicluster.linkerd.io/trust-domain")
		if err := own.Tracker().Update(corev1.SchemeGroupVersion.WithResource("secrets"), incomplete, "linkerd"); err != nil {
			t.Fatal(err)
		}
		expired := apierrors.NewResourceExpired("too old").Status()
		(<-events).Error(&expired)
		<-events // the next watch comes after the new list
		synctest.Wait()
		if now, _ := store.Cluster("west"); now != linked {
			t.Error("the cluster is not linked any more")
		}
	})
}
