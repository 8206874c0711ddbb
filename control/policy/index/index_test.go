package index_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func run(t testing.TB) *index.Index {
	x := index.New(index.Options{
		Config: core.Config{DefaultPolicy: core.AllUnauthenticated, ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return x
}

func apply(t testing.TB, x *index.Index, document string) {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
		t.Fatal(err)
	}
	text, err := u.MarshalJSON()
	if err == nil {
		err = u.UnmarshalJSON(text)
	}
	if err == nil {
		err = x.Apply(t.Context(), u)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pod(name, labels string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: %s, labels: {%s}}}", name, labels)
}

func server(protocol string) string {
	return fmt.Sprintf(`{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {namespace: shop, name: web},
		spec: {podSelector: {matchLabels: {app: web}}, port: 8080, proxyProtocol: %s}}`, protocol)
}

func web(name string) index.WorkloadKey {
	return index.WorkloadKey{ID: core.ID{Namespace: "shop", Name: name}}
}

// TestReplicasShare checks that an answer is made, and will be encoded, once for pods that are alike, and that others have
// their own.
func TestReplicasShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := run(t)
		apply(t, x, pod("web-1", "app: web"))
		apply(t, x, pod("web-2", "app: web"))
		apply(t, x, pod("db-1", "app: db"))
		apply(t, x, server("opaque"))
		subs := make(map[string]*index.Subscription[core.InboundServer])
		for _, name := range []string{"web-1", "web-2", "db-1"} {
			sub, err := x.Inbound(t.Context(), web(name), 8080)
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			subs[name] = sub
		}
		check := func(want core.Protocol) {
			t.Helper()
			synctest.Wait()
			one, two, other := subs["web-1"].Latest(), subs["web-2"].Latest(), subs["db-1"].Latest()
			if one != two || one == other || one.Value.Protocol != want || other.Value.Protocol != core.ProtocolDetect {
				t.Errorf("got %p %v, %p, %p %v", one, one.Value.Protocol, two, other, other.Value.Protocol)
			}
		}
		check(core.ProtocolOpaque)
		apply(t, x, server("TLS"))
		check(core.ProtocolTLS)
		apply(t, x, pod("web-1", "app: db"))
		synctest.Wait()
		if got := subs["web-1"].Latest().Value.Protocol; got != core.ProtocolDetect {
			t.Errorf("a pod whose labels change goes another way: got %v", got)
		}
	})
}

// TestTheSameAgainIsNoAnswer puts objects in that are there already, as a watch does that begins anew, and changes one in
// what no proxy is told.
func TestTheSameAgainIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := run(t)
		apply(t, x, pod("web-1", "app: web"))
		apply(t, x, server("TLS"))
		sub, err := x.Inbound(t.Context(), web("web-1"), 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		<-sub.Changed()
		for _, again := range []string{pod("web-1", "app: web"), server("TLS"), pod("web-1", "app: web, version: two")} {
			apply(t, x, again)
		}
		synctest.Wait()
		select {
		case <-sub.Changed():
			t.Error("told of nothing new")
		default:
		}
	})
}

// TestShrink removes most of a large cluster: what stays is still followed.
func TestShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := run(t)
		apply(t, x, pod("web-1", "app: web"))
		apply(t, x, server("TLS"))
		sub, err := x.Inbound(t.Context(), web("web-1"), 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		<-sub.Changed()
		other := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Pod"}}
		other.SetNamespace("shop")
		for _, put := range []func(context.Context, *unstructured.Unstructured) error{x.Apply, x.Delete} {
			for i := range 2000 {
				other.SetName(fmt.Sprintf("other-%d", i))
				if err := put(t.Context(), other); err != nil {
					t.Fatal(err)
				}
			}
		}
		apply(t, x, server("opaque"))
		<-sub.Changed()
		if got := sub.Latest().Value.Protocol; got != core.ProtocolOpaque {
			t.Errorf("got %v", got)
		}
	})
}

// TestSlowStream checks that who does not take answers gets the latest when it does, and that nobody waits for it.
func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := run(t)
		apply(t, x, pod("web-1", "app: web"))
		slow, err := x.Inbound(t.Context(), web("web-1"), 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		fast, err := x.Inbound(t.Context(), web("web-1"), 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer fast.Close()
		for _, protocol := range []string{"opaque", "TLS", "gRPC", "opaque", "TLS"} {
			<-fast.Changed()
			apply(t, x, server(protocol))
			synctest.Wait()
		}
		<-fast.Changed()
		<-slow.Changed()
		if slow.Latest() != fast.Latest() || slow.Latest().Value.Protocol != core.ProtocolTLS {
			t.Errorf("got %v and %v", slow.Latest().Value.Protocol, fast.Latest().Value.Protocol)
		}
		select {
		case <-slow.Changed():
			t.Error("there is another sign of the same answer")
		default:
		}
	})
}

// TestStopped checks that callers are not left waiting for an index that has stopped.
func TestStopped(t *testing.T) {
	x := index.New(index.Options{Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x.Run(ctx)
	if _, err := x.Inbound(t.Context(), web("web-1"), 8080); err != index.ErrStopped {
		t.Errorf("got %v", err)
	}
}

// TestStatusChanged checks that there is a sign when a status becomes outdated and another when it is so no more: a writer
// that heard of the first alone would take an object that was made anew at once for the one that it wrote.
func TestStatusChanged(t *testing.T) {
	x := run(t)
	network := `
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {namespace: shop, name: all, generation: 1}
spec: {trafficPolicy: Allow}
`
	sign := func(why string, outdated int) {
		t.Helper()
		select {
		case <-x.Changed():
		case <-t.Context().Done():
			t.Fatalf("no sign %s", why)
		}
		if got, err := x.Outdated(t.Context()); err != nil || len(got) != outdated {
			t.Errorf("%s: %d are outdated, %v", why, len(got), err)
		}
	}
	apply(t, x, network)
	sign("of a new object", 1)
	apply(t, x, network+`
status: {conditions: [{type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 1}]}`)
	sign("that the status is written", 0)
}

// TestInstalledLater checks that routes count once their kind has been installed, in the version that is there.
func TestInstalledLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gvr := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "tlsroutes"}
		route := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(`
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {namespace: shop, name: r}
spec: {parentRefs: [{group: core, kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 443}]}]}
status:
  parents:
  - controllerName: linkerd.io/policy-controller
    parentRef: {group: core, kind: Service, name: web}
    conditions: [{type: Accepted, status: "True"}]`), &route.Object); err != nil {
			t.Fatal(err)
		}
		clients := &kube.Clients{
			Kube:    kubefake.NewClientset(),
			Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{gvr: "TLSRouteList"}, route),
		}
		x := index.New(index.Options{Config: core.Config{DefaultPolicy: core.Deny}, Logger: slog.New(slog.DiscardHandler)})
		_, missing, err := x.Watches(clients)
		if err != nil || len(missing) != 6 {
			t.Fatalf("got %d missing kinds, %v", len(missing), err)
		}
		// Installed now, and seen the next time that somebody looks.
		clients.Kube.(*kubefake.Clientset).Resources = []*metav1.APIResourceList{{
			GroupVersion: "gateway.networking.k8s.io/v1", APIResources: []metav1.APIResource{{Name: "tlsroutes"}},
		}}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx) })
		running.Go(func() { x.WatchLater(ctx, clients, missing) })
		defer func() { cancel(); running.Wait() }()
		sub, err := x.OutboundByName(ctx, core.ID{Namespace: "shop", Name: "web"}, "", 443, "shop")
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		if p := sub.Latest().Value.Protocol; p != core.ProtocolDetect {
			t.Errorf("got %v before", p)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if p := sub.Latest().Value.Protocol; p != core.ProtocolTLS {
			t.Errorf("got %v after", p)
		}
	})
}

// TestWatches feeds the index by its watches. When a watch has to begin anew, what has gone meanwhile goes, and what cannot be
// read any more stays as it was.
func TestWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		servers := schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}
		server := func(name string, port int64, protocol string) *unstructured.Unstructured {
			return &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": map[string]any{"namespace": "shop", "name": name},
				"spec": map[string]any{"podSelector": map[string]any{}, "port": port, "proxyProtocol": protocol},
			}}
		}
		lists := map[schema.GroupVersionResource]string{servers: "ServerList"}
		for resource, groupVersion := range map[string]schema.GroupVersion{
			"serverauthorizations": {Group: "policy.linkerd.io", Version: "v1beta1"},
			"externalworkloads":    {Group: "workload.linkerd.io", Version: "v1beta1"},
		} {
			lists[groupVersion.WithResource(resource)] = "List"
		}
		for _, resource := range []string{"authorizationpolicies", "meshtlsauthentications", "networkauthentications", "httplocalratelimitpolicies", "egressnetworks"} {
			lists[schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: resource}] = "List"
		}
		meshed := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}}}
		plain := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "plain"}}
		clients := &kube.Clients{
			Kube: kubefake.NewClientset(meshed, plain),
			Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists,
				server("edited", 8080, "opaque"), server("deleted", 8081, "opaque")),
		}
		broken := watch.NewFake()
		clients.Dynamic.(*dynamicfake.FakeDynamicClient).PrependWatchReactor("servers", func() clienttesting.WatchReactionFunc {
			calls := 0
			return func(clienttesting.Action) (bool, watch.Interface, error) {
				calls++
				return calls == 1, broken, nil
			}
		}())
		x := index.New(index.Options{Config: core.Config{DefaultPolicy: core.Deny}, Logger: slog.New(slog.DiscardHandler)})
		watches, _, err := x.Watches(clients)
		if err != nil {
			t.Fatal(err)
		}
		group := kube.NewGroup(slog.New(slog.DiscardHandler), watches...)
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx) })
		running.Go(func() { group.Run(ctx) })
		defer func() { cancel(); running.Wait() }()
		if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
			t.Fatal(err)
		}
		protocols := func(step string, want ...core.Protocol) {
			t.Helper()
			synctest.Wait()
			for i, protocol := range want {
				sub, err := x.Inbound(ctx, web("web-1"), uint16(8080+i))
				if err != nil {
					t.Fatalf("%s: %v", step, err)
				}
				if got := sub.Latest().Value.Protocol; got != protocol {
					t.Errorf("%s: port %d has %v, want %v", step, 8080+i, got, protocol)
				}
				sub.Close()
			}
		}
		protocols("at the start", core.ProtocolOpaque, core.ProtocolOpaque, core.ProtocolDetect)
		if _, err := x.Inbound(ctx, web("plain"), 8080); err != index.ErrUnknownWorkload {
			t.Errorf("a pod without a proxy: got %v", err)
		}

		objects := clients.Dynamic.Resource(servers).Namespace("shop")
		must := func(_ any, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(objects.Update(ctx, server("edited", 8080, "QUIC"), metav1.UpdateOptions{}))
		must(nil, objects.Delete(ctx, "deleted", metav1.DeleteOptions{}))
		must(objects.Create(ctx, server("new", 8082, "TLS"), metav1.CreateOptions{}))
		broken.Stop()
		time.Sleep(time.Minute)
		protocols("after a new list", core.ProtocolOpaque, core.ProtocolDetect, core.ProtocolTLS)
		must(objects.Update(ctx, server("edited", 8080, "TLS"), metav1.UpdateOptions{}))
		must(nil, objects.Delete(ctx, "new", metav1.DeleteOptions{}))
		protocols("by the new watch", core.ProtocolTLS, core.ProtocolDetect, core.ProtocolDetect)

		sub, err := x.Inbound(ctx, web("web-1"), 8080)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		must(nil, clients.Kube.CoreV1().Pods("shop").Delete(ctx, "web-1", metav1.DeleteOptions{}))
		<-sub.Ended()
	})
}

// BenchmarkServerChange is a Server that changes for 1000 replicas, each of which watches 5 ports.
func BenchmarkServerChange(b *testing.B) {
	x := run(b)
	var subs []*index.Subscription[core.InboundServer]
	for i := range 1000 {
		name := fmt.Sprintf("web-%d", i)
		apply(b, x, pod(name, "app: web"))
		for port := range 5 {
			sub, err := x.Inbound(b.Context(), web(name), uint16(8080+port))
			if err != nil {
				b.Fatal(err)
			}
			subs = append(subs, sub)
		}
	}
	protocols := []string{"opaque", "TLS"}
	b.ReportAllocs()
	for i := range b.N {
		apply(b, x, server(protocols[i%2]))
		// The answer to a new question comes after all others have been brought up to date.
		if err := x.Apply(b.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"namespace": "other", "name": "x"},
		}}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	for _, sub := range subs {
		sub.Close()
	}
}
