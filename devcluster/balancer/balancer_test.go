package balancer

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// service is a load balancer that was made at the given second and has the given address.
func service(name string, second int, address string, edit ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name,
			CreationTimestamp: metav1.NewTime(time.Unix(int64(second), 0)),
		},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	if address != "" {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	}
	for _, e := range edit {
		e(s)
	}
	return s
}

func TestPlan(t *testing.T) {
	cluster := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }
	class := func(s *corev1.Service) { c := "other"; s.Spec.LoadBalancerClass = &c }
	ask := func(ip string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerIP = ip }
	}
	for _, test := range []struct {
		name     string
		services []*corev1.Service
		want     map[string]string // name to new address, "" takes it away
	}{
		{"first address", []*corev1.Service{service("a", 1, "")}, map[string]string{"a": "10.0.0.1"}},
		{"two get two", []*corev1.Service{service("b", 2, ""), service("a", 1, "")},
			map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}},
		{"settled", []*corev1.Service{service("a", 1, "10.0.0.2")}, map[string]string{}},
		{"newcomer takes nobody's", []*corev1.Service{service("a", 1, ""), service("b", 2, "10.0.0.1")},
			map[string]string{"a": "10.0.0.2"}},
		{"outside the range", []*corev1.Service{service("a", 1, "192.0.2.1")}, map[string]string{"a": "10.0.0.1"}},
		{"same address twice", []*corev1.Service{service("a", 1, "10.0.0.1"), service("b", 2, "10.0.0.1")},
			map[string]string{"b": "10.0.0.2"}},
		{"asked and free", []*corev1.Service{service("a", 1, "10.0.0.1", ask("10.0.0.3"))}, map[string]string{"a": "10.0.0.3"}},
		{"asked and taken", []*corev1.Service{service("a", 2, "", ask("10.0.0.1")), service("b", 1, "10.0.0.1")}, map[string]string{}},
		{"no longer a balancer", []*corev1.Service{service("a", 1, "10.0.0.1", cluster)}, map[string]string{"a": ""}},
		{"other class", []*corev1.Service{service("a", 1, "", class), service("b", 1, "192.0.2.9", class)}, map[string]string{}},
		{"range used up", []*corev1.Service{service("a", 1, ""), service("b", 2, ""), service("c", 3, ""), service("d", 4, "")},
			map[string]string{"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := map[string]string{}
			for _, change := range Plan(test.services, netip.MustParsePrefix("10.0.0.0/30")) {
				got[change.Name] = ""
				if len(change.Ingress) > 0 {
					got[change.Name] = change.Ingress[0].IP
				}
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			for name, ip := range test.want {
				if address, ok := got[name]; !ok || address != ip {
					t.Errorf("got %v, want %v", got, test.want)
				}
			}
		})
	}
}
