package externalworkload_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/control/externalworkload"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// service is a Service with one named port.
func service() *externalworkload.Service {
	return &externalworkload.Service{
		Namespace: "emo", Name: "legacy", UID: "s1", Labels: map[string]string{"team": "a"},
		Selector: labels.SelectorFromSet(labels.Set{"app": "legacy"}),
		Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
		Families: []corev1.IPFamily{corev1.IPv4Protocol},
	}
}

// vm is a workload that the Service selects.
func vm(name, ip string, port int32) *externalworkload.Workload {
	return &externalworkload.Workload{
		Namespace: "emo", Name: name, UID: "u", Labels: map[string]string{"app": "legacy"},
		IPs: []netip.Addr{netip.MustParseAddr(ip)}, Ports: []externalworkload.WorkloadPort{{Name: "web", Port: port}}, Ready: true,
	}
}

// vms makes n workloads.
func vms(n int) []*externalworkload.Workload {
	var list []*externalworkload.Workload
	for i := range n {
		list = append(list, vm(fmt.Sprintf("vm%03d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), 8080))
	}
	return list
}

// apply does what the API server does with a plan.
func apply(existing []*discoveryv1.EndpointSlice, plan externalworkload.Plan, names *int) []*discoveryv1.EndpointSlice {
	var next []*discoveryv1.EndpointSlice
	for _, slice := range existing {
		if slices.Contains(plan.Delete, slice.Name) {
			continue
		}
		for _, updated := range plan.Update {
			if updated.Name == slice.Name {
				slice = updated
			}
		}
		next = append(next, slice)
	}
	for _, slice := range plan.Create {
		*names++
		slice.Name = fmt.Sprintf("%s%03d", slice.GenerateName, *names)
		next = append(next, slice)
	}
	return next
}

// text prints slices, sorted: `family port [address ...]`.
func text(all []*discoveryv1.EndpointSlice) string {
	var lines []string
	for _, slice := range all {
		line := string(slice.AddressType)
		for _, p := range slice.Ports {
			line += fmt.Sprintf(" %s=%d", *p.Name, *p.Port)
		}
		if len(slice.Endpoints) > 5 {
			lines = append(lines, fmt.Sprintf("%s %d endpoints", line, len(slice.Endpoints)))
			continue
		}
		for _, e := range slice.Endpoints {
			line += " " + strings.Join(e.Addresses, "+")
			if !*e.Conditions.Ready {
				line += "(not ready)"
			}
			if e.Hostname != nil {
				line += "(" + *e.Hostname + ")"
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestPlans makes plans one after the other, each from what the one before left, and says how much they write.
func TestPlans(t *testing.T) {
	dual := vm("vm1", "10.0.0.1", 8080)
	dual.IPs = append(dual.IPs, netip.MustParseAddr("fd00::1"))
	notReady := vm("vm2", "10.0.0.2", 8080)
	notReady.Ready = false
	other := vm("vm3", "10.0.0.3", 8080)
	other.Labels = nil
	unnamed := vm("vm4", "10.0.0.4", 8080)
	unnamed.Ports = nil
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"one, then more, then fewer", []step{
			{"one", service(), vms(1), "1 0 0", "IPv4 http=8080 10.0.0.1"},
			{"nothing changed", service(), vms(1), "0 0 0", "IPv4 http=8080 10.0.0.1"},
			{"more", service(), vms(3), "0 1 0", "IPv4 http=8080 10.0.0.1 10.0.0.2 10.0.0.3"},
			{"one goes", service(), vms(3)[1:], "0 1 0", "IPv4 http=8080 10.0.0.2 10.0.0.3"},
			{"all go", service(), nil, "0 0 1", ""},
		}},
		{"full slices", []step{
			{"many", service(), vms(250), "3 0 0", "IPv4 http=8080 100 endpoints\nIPv4 http=8080 100 endpoints\nIPv4 http=8080 50 endpoints"},
			{"one more goes where there is room", service(), vms(251), "0 1 0", "IPv4 http=8080 100 endpoints\nIPv4 http=8080 100 endpoints\nIPv4 http=8080 51 endpoints"},
			{"one of the first goes", service(), vms(251)[1:], "0 1 0", "IPv4 http=8080 100 endpoints\nIPv4 http=8080 51 endpoints\nIPv4 http=8080 99 endpoints"},
		}},
		{"another port uses the same slice", []step{
			{"first", service(), vms(1), "1 0 0", "IPv4 http=8080 10.0.0.1"},
			{"then", service(), []*externalworkload.Workload{vm("vm000", "10.0.0.1", 9090)}, "0 1 0", "IPv4 http=9090 10.0.0.1"},
			{"two ports", service(), []*externalworkload.Workload{vm("vm000", "10.0.0.1", 9090), vm("vm001", "10.0.0.2", 8080)}, "1 0 0",
				"IPv4 http=8080 10.0.0.2\nIPv4 http=9090 10.0.0.1"},
		}},
		{"families", []step{
			{"IPv4 only", service(), []*externalworkload.Workload{dual}, "1 0 0", "IPv4 http=8080 10.0.0.1"},
			{"both", with(func(s *externalworkload.Service) {
				s.Families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
			}), []*externalworkload.Workload{dual}, "1 0 0", "IPv4 http=8080 10.0.0.1\nIPv6 http=8080 fd00::1"},
			{"not said", with(func(s *externalworkload.Service) { s.Families = nil }), []*externalworkload.Workload{dual}, "0 0 0",
				"IPv4 http=8080 10.0.0.1\nIPv6 http=8080 fd00::1"},
			{"IPv6 only", with(func(s *externalworkload.Service) { s.Families = []corev1.IPFamily{corev1.IPv6Protocol} }),
				[]*externalworkload.Workload{dual}, "0 0 1", "IPv6 http=8080 fd00::1"},
		}},
		{"kinds of workloads and Services", []step{
			{"ready and not", service(), []*externalworkload.Workload{notReady, other, unnamed}, "2 0 0",
				"IPv4 10.0.0.4\nIPv4 http=8080 10.0.0.2(not ready)"},
			{"headless, and not ready ones published", with(func(s *externalworkload.Service) { s.Headless, s.NotReady = true, true }),
				[]*externalworkload.Workload{notReady}, "0 1 1", "IPv4 http=8080 10.0.0.2(vm2)"},
			{"labels of the Service", with(func(s *externalworkload.Service) { s.Headless, s.NotReady, s.Labels = true, true, nil }),
				[]*externalworkload.Workload{notReady}, "0 1 0", "IPv4 http=8080 10.0.0.2(vm2)"},
			{"made anew under the same name", with(func(s *externalworkload.Service) { s.UID = "s2" }),
				[]*externalworkload.Workload{notReady}, "1 0 1", "IPv4 http=8080 10.0.0.2(not ready)"},
			{"no selector any more", with(func(s *externalworkload.Service) { s.Selector = nil }),
				[]*externalworkload.Workload{notReady}, "0 0 1", ""},
			{"gone", nil, vms(1), "0 0 0", ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var existing []*discoveryv1.EndpointSlice
			names := 0
			for _, s := range c.steps {
				plan := externalworkload.MakePlan(s.service, s.workloads, existing)
				if got := fmt.Sprintf("%d %d %d", len(plan.Create), len(plan.Update), len(plan.Delete)); got != s.writes {
					t.Errorf("%s: creates, updates and deletes %s, want %s", s.name, got, s.writes)
				}
				existing = apply(existing, plan, &names)
				if got := text(existing); got != s.want {
					t.Errorf("%s: got\n%s\nwant\n%s", s.name, got, s.want)
				}
				for _, slice := range existing {
					if slice.Labels["kubernetes.io/service-name"] != "legacy" || slice.Labels["team"] != s.service.Labels["team"] {
						t.Errorf("%s: labels %v", s.name, slice.Labels)
					}
				}
			}
		})
	}
}

type step struct {
	name      string
	service   *externalworkload.Service
	workloads []*externalworkload.Workload
	writes    string
	want      string
}

func with(edit func(*externalworkload.Service)) *externalworkload.Service {
	s := service()
	edit(s)
	return s
}

func workloadObject(name, ip, ready string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "workload.linkerd.io/v1beta1", "kind": "ExternalWorkload",
		"metadata": map[string]any{"namespace": "emo", "name": name, "labels": map[string]any{"app": "legacy"}},
		"spec": map[string]any{
			"meshTLS":     map[string]any{"identity": "spiffe://root/" + name, "serverName": name},
			"workloadIPs": []any{map[string]any{"ip": ip}},
			"ports":       []any{map[string]any{"name": "web", "port": int64(8080)}},
		},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}},
	}}
}

// TestController runs two of them on one API server, of which one writes, and lets it stop.
func TestController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		typed := kubefake.NewClientset(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "emo", Name: "legacy", UID: "s1"},
			Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": "legacy"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
			},
		})
		// The fake neither makes names nor counts versions; the controller needs both.
		var mu sync.Mutex
		made, failures := 0, 0
		stamp := func(a clienttesting.Action) (bool, runtime.Object, error) {
			slice := a.(clienttesting.CreateAction).GetObject().(*discoveryv1.EndpointSlice)
			mu.Lock()
			defer mu.Unlock()
			if failures > 0 {
				failures--
				return true, nil, errors.New("try later")
			}
			made++
			if slice.Name == "" {
				slice.Name = fmt.Sprintf("%s%d", slice.GenerateName, made)
			}
			slice.ResourceVersion = fmt.Sprint(made)
			return false, nil, nil
		}
		typed.PrependReactor("create", "endpointslices", stamp)
		typed.PrependReactor("update", "endpointslices", stamp)
		gvr := schema.GroupVersionResource{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"}
		dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
			map[schema.GroupVersionResource]string{gvr: "ExternalWorkloadList"})
		clients := &kube.Clients{Kube: typed, Dynamic: dynamic}

		start := func(name string) (stop func()) {
			controller := externalworkload.New(externalworkload.Options{
				Clients: clients, Namespace: "linkerd", Identity: name,
				Metrics: reconcile.NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
			})
			group := kube.NewGroup(slog.New(slog.DiscardHandler), controller.Watches()...)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { group.Run(ctx) })
			if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				if err := controller.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			return func() { cancel(); running.Wait() }
		}
		holder := func() string {
			lease, err := typed.CoordinationV1().Leases("linkerd").Get(t.Context(), "linkerd-destination-endpoint-write", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return *lease.Spec.HolderIdentity
		}
		expect := func(name, want string) {
			t.Helper()
			synctest.Wait()
			list, err := typed.DiscoveryV1().EndpointSlices("emo").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var all []*discoveryv1.EndpointSlice
			for i := range list.Items {
				all = append(all, &list.Items[i])
			}
			if got := text(all); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		stopFirst := start("first")
		time.Sleep(time.Second)
		stopSecond := start("second")
		defer stopSecond()
		time.Sleep(10 * time.Second)
		if got := holder(); got != "first" {
			t.Fatalf("lease held by %s", got)
		}
		external := dynamic.Resource(gvr).Namespace("emo")
		put := func(object *unstructured.Unstructured, update bool) {
			t.Helper()
			var err error
			if update {
				_, err = external.Update(t.Context(), object, metav1.UpdateOptions{})
			} else {
				_, err = external.Create(t.Context(), object, metav1.CreateOptions{})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		expect("no workloads", "")
		put(workloadObject("vm1", "10.0.0.1", "True"), false)
		expect("one", "IPv4 http=8080 10.0.0.1")
		put(workloadObject("vm2", "10.0.0.2", "False"), false)
		expect("two", "IPv4 http=8080 10.0.0.1 10.0.0.2(not ready)")
		mu.Lock()
		failures = 3
		mu.Unlock()
		put(workloadObject("vm2", "10.0.0.2", "True"), true)
		time.Sleep(time.Second)
		expect("after failures", "IPv4 http=8080 10.0.0.1 10.0.0.2")
		if err := external.Delete(t.Context(), "vm1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		expect("one gone", "IPv4 http=8080 10.0.0.2")

		stopFirst()
		if got := holder(); got != "" {
			t.Errorf("lease held by %q after its holder stopped", got)
		}
		put(workloadObject("vm3", "10.0.0.3", "True"), false)
		time.Sleep(10 * time.Second)
		if got := holder(); got != "second" {
			t.Errorf("lease held by %q", got)
		}
		expect("the second goes on", "IPv4 http=8080 10.0.0.2 10.0.0.3")
	})
}
