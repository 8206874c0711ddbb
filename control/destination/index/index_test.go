package index

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/shrink"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

var web = core.ID{Namespace: "emo", Name: "web"}

func startIndex(t *testing.T, metrics *Metrics) (*Index, func()) {
	t.Helper()
	x := New(Options{
		Config: core.Config{ClusterDomain: "cluster.local"}, Capacity: 3, Metrics: metrics, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	return x, func() { cancel(); running.Wait() }
}

func (x *Index) serviceSink() kube.Sink[*core.Service] {
	return sink[*core.Service]{x, x.tables.setService, func() []core.ID { return keysOf(x.tables.services) }}
}

func (x *Index) sliceSink() kube.Sink[[]*core.Slice] {
	return sink[[]*core.Slice]{x, x.tables.setSlices, func() []core.ID { return keysOf(x.tables.slices) }}
}

// slice has one address made by hand.
func slice(addr string) []*core.Slice {
	return []*core.Slice{{
		ID: core.ID{Namespace: "emo", Name: "web-1"}, Service: web, Ports: []core.SlicePort{{Port: 8080}},
		Endpoints: []core.SliceEndpoint{{Addrs: []netip.Addr{netip.MustParseAddr(addr)}}},
	}}
}

// TestReplace restarts a watch: objects missing from its new list are gone, and unchanged ones are not told of.
func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, stop := startIndex(t, nil)
		defer stop()
		services := x.serviceSink()
		service := func() *core.Service { return &core.Service{ID: web, Ports: []core.ServicePort{{Port: 80}}} }
		services.Apply(kube.Key(web), service())
		x.sliceSink().Apply(kube.Key{Namespace: "emo", Name: "web-1"}, slice("192.0.2.1"))
		sub, err := x.Endpoints(t.Context(), EndpointsQuery{Service: web, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		<-sub.Changed()
		if got := len(sub.Latest().Entries); got != 1 {
			t.Fatalf("got %d entries", got)
		}
		services.Replace(map[kube.Key]*core.Service{kube.Key(web): service()})
		x.sliceSink().Replace(map[kube.Key][]*core.Slice{{Namespace: "emo", Name: "web-1"}: slice("192.0.2.1")})
		synctest.Wait()
		select {
		case <-sub.Changed():
			t.Fatal("told of a list without a change")
		default:
		}
		services.Replace(map[kube.Key]*core.Service{})
		<-sub.Changed()
		if snapshot := sub.Latest(); snapshot.Exists || len(snapshot.Entries) != 0 {
			t.Fatalf("got %+v", snapshot)
		}
	})
}

// TestBurstIsOneAnswer lets changes come while the index is busy: a stream is given what there is after all of them.
func TestBurstIsOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, stop := startIndex(t, nil)
		defer stop()
		x.serviceSink().Apply(kube.Key(web), &core.Service{ID: web, Ports: []core.ServicePort{{Port: 80}}})
		sub, err := x.Endpoints(t.Context(), EndpointsQuery{Service: web, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		<-sub.Changed()
		sub.Latest()
		busy := make(chan struct{})
		x.post(func() { <-busy })
		for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"} {
			x.sliceSink().Apply(kube.Key{Namespace: "emo", Name: "web-1"}, slice(addr))
		}
		close(busy)
		synctest.Wait()
		if n := sub.pending.Load(); n != 1 {
			t.Errorf("the stream was given %d answers", n)
		}
		<-sub.Changed()
		if got := sub.Latest().Entries; len(got) != 1 || got[0].Addr.Addr().String() != "192.0.2.5" {
			t.Errorf("got %v", got)
		}
	})
}

// TestShrink removes most of a large cluster: what stays is still followed.
func TestShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, stop := startIndex(t, nil)
		services := x.serviceSink()
		many := map[kube.Key]*core.Service{kube.Key(web): {ID: web, Ports: []core.ServicePort{{Port: 80}}}}
		for i := range 2 * shrink.From {
			id := core.ID{Namespace: "emo", Name: "other-" + strconv.Itoa(i)}
			many[kube.Key(id)] = &core.Service{ID: id}
		}
		services.Replace(many)
		sub, err := x.Endpoints(t.Context(), EndpointsQuery{Service: web, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		<-sub.Changed()
		services.Replace(map[kube.Key]*core.Service{kube.Key(web): many[kube.Key(web)]})
		x.sliceSink().Apply(kube.Key{Namespace: "emo", Name: "web-1"}, slice("192.0.2.1"))
		<-sub.Changed()
		if got := len(sub.Latest().Entries); got != 1 {
			t.Errorf("got %d entries", got)
		}
		synctest.Wait()
		stop()
		if x.peak.Size() >= shrink.From {
			t.Errorf("the maps are still those of %d objects", x.peak.Size())
		}
	})
}

// TestNothingIsLeft closes all subscriptions and looks for what remembers them.
func TestNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		metrics := NewMetrics(registry, LocalCluster)
		x, stop := startIndex(t, metrics)
		defer stop()
		x.serviceSink().Apply(kube.Key(web), &core.Service{
			ID: web, Ports: []core.ServicePort{{Port: 80}}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.9")},
		})
		x.sliceSink().Apply(kube.Key{Namespace: "emo", Name: "web-1"}, slice("192.0.2.1"))
		var closers []func()
		for range 3 {
			endpoints, err := x.Endpoints(t.Context(), EndpointsQuery{Service: web, Port: 80})
			if err != nil {
				t.Fatal(err)
			}
			profile, err := x.Profile(t.Context(), ProfileQuery{Addr: netip.MustParseAddr("10.43.0.9"), Port: 80})
			if err != nil {
				t.Fatal(err)
			}
			bare, err := x.Profile(t.Context(), ProfileQuery{Addr: netip.MustParseAddr("10.43.0.10"), Port: 80})
			if err != nil {
				t.Fatal(err)
			}
			service, err := x.WatchService(t.Context(), web)
			if err != nil {
				t.Fatal(err)
			}
			closers = append(closers, endpoints.Close, endpoints.Close, profile.Close, bare.Close, service.Close)
		}
		if got := testutil.ToFloat64(metrics.endpointsSubscribers); got != 3 {
			t.Errorf("endpoints_subscribers %v, want 3", got)
		}
		var notFound *NotFoundError
		if _, err := x.Profile(t.Context(), ProfileQuery{Name: core.Name{Service: core.ID{Name: "none"}}}); !errors.As(err, &notFound) {
			t.Errorf("got %v", err)
		}
		for _, c := range closers {
			c()
		}
		x.serviceSink().Delete(kube.Key(web))
		synctest.Wait()
		if n := x.answers.Len() + len(x.endpoints) + len(x.profiles) + len(x.services); n != 0 {
			t.Errorf("left: %v %v %v %v", x.answers, x.endpoints, x.profiles, x.services)
		}
		for name, series := range map[string]prometheus.Collector{
			"endpoints_subscribers": metrics.endpointsSubscribers, "endpoints_updates": metrics.endpointsUpdates,
			"profile_subscribers": metrics.profileSubs, "profile_updates": metrics.profileUpdates,
		} {
			if n := testutil.CollectAndCount(series); n != 0 {
				t.Errorf("%d series of %s left", n, name)
			}
		}
		if n := len(x.tables.servicesAt); n != 0 {
			t.Errorf("%d cluster IPs left", n)
		}
	})
}

// TestOverflow publishes more than a stream takes.
func TestOverflow(t *testing.T) {
	sub := newSubscription[int](3)
	for i := range 3 {
		sub.publish(&i)
	}
	if got := *sub.Latest(); got != 2 {
		t.Fatalf("got %d, want the latest", got)
	}
	for i := range 4 {
		select {
		case <-sub.Overflow():
			t.Fatalf("overflow after %d", i)
		default:
		}
		sub.publish(&i)
	}
	select {
	case <-sub.Overflow():
	default:
		t.Fatal("no overflow")
	}
}

// TestStopped asks an index that has stopped.
func TestStopped(t *testing.T) {
	x, stop := startIndex(t, nil)
	sub, err := x.Endpoints(t.Context(), EndpointsQuery{Service: web, Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	sub.Close()
	for range queueLength + 1 {
		x.serviceSink().Delete(kube.Key(web)) // must not block
	}
	if _, err := x.Endpoints(t.Context(), EndpointsQuery{}); !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v", err)
	}
}
