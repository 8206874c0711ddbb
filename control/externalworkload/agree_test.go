package externalworkload

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestPlansAgree carries out plans while workloads and the Service change at random: the slices then have each endpoint once,
// with its ports, none has too many, and there is nothing left to do.
func TestPlansAgree(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 0))
		service := &Service{Namespace: "emo", Name: "web", UID: "u", Selector: labels.SelectorFromSet(labels.Set{"app": "web"})}
		workloads := map[string]*Workload{}
		var have []*discoveryv1.EndpointSlice
		made := 0
		for step := range 30 {
			for range r.IntN(120) {
				name := fmt.Sprintf("w%03d", r.IntN(260))
				if r.IntN(3) == 0 {
					delete(workloads, name)
					continue
				}
				w := &Workload{Namespace: "emo", Name: name, Labels: map[string]string{"app": []string{"web", "web", "db"}[r.IntN(3)]}, Ready: r.IntN(2) == 0}
				n := byte(r.IntN(250) + 1)
				if r.IntN(4) > 0 {
					w.IPs = append(w.IPs, netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), n}))
				}
				if r.IntN(2) == 0 {
					w.IPs = append(w.IPs, netip.AddrFrom16([16]byte{0xfd, 15: n}))
				}
				for _, p := range []int32{80, 8080} {
					if r.IntN(3) > 0 {
						w.Ports = append(w.Ports, WorkloadPort{Name: "http", Port: p})
						break
					}
				}
				workloads[name] = w
			}
			service.Families = [][]corev1.IPFamily{nil, {corev1.IPv4Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}[r.IntN(3)]
			service.Ports = []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: []intstr.IntOrString{intstr.FromString("http"), intstr.FromInt32(80)}[r.IntN(2)]}}
			service.Headless = r.IntN(2) == 0
			all := make([]*Workload, 0, len(workloads))
			for _, w := range workloads {
				all = append(all, w)
			}
			have = carryOut(t, MakePlan(service, all, have), have, &made)
			if again := MakePlan(service, all, have); len(again.Create)+len(again.Update)+len(again.Delete) > 0 {
				t.Fatalf("seed %d step %d: there is something left to do: %+v", seed, step, again)
			}
			p := &planner{service: service}
			want := map[string]int{}
			for _, w := range all {
				if !service.Selector.Matches(labels.Set(w.Labels)) {
					continue
				}
				for _, family := range p.families() {
					for _, ip := range w.IPs {
						if ip.Is4() == (family == discoveryv1.AddressTypeIPv4) {
							want[fmt.Sprintf("%s %s %s %v", family, ip, portsKey(p.ports(w)), w.Ready)]++
						}
					}
				}
			}
			got := map[string]int{}
			for _, slice := range have {
				if n := len(slice.Endpoints); n == 0 || n > maxEndpoints {
					t.Fatalf("seed %d step %d: a slice has %d endpoints", seed, step, n)
				}
				for _, e := range slice.Endpoints {
					got[fmt.Sprintf("%s %s %s %v", slice.AddressType, e.Addresses[0], portsKey(slice.Ports), *e.Conditions.Ready)]++
				}
			}
			for key := range got {
				if got[key] != want[key] {
					t.Fatalf("seed %d step %d: %s is there %d times, want %d", seed, step, key, got[key], want[key])
				}
			}
			for key := range want {
				if got[key] != want[key] {
					t.Fatalf("seed %d step %d: %s is there %d times, want %d", seed, step, key, got[key], want[key])
				}
			}
		}
	}
}

// carryOut does what a plan says, as the API server would.
func carryOut(t *testing.T, plan Plan, have []*discoveryv1.EndpointSlice, made *int) []*discoveryv1.EndpointSlice {
	t.Helper()
	have = slices.Clone(have)
	at := func(name string) int {
		i := slices.IndexFunc(have, func(s *discoveryv1.EndpointSlice) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("there is no slice %s", name)
		}
		return i
	}
	for _, name := range plan.Delete {
		have = slices.Delete(have, at(name), at(name)+1)
	}
	for _, slice := range plan.Update {
		have[at(slice.Name)] = slice
	}
	for _, slice := range plan.Create {
		slice = slice.DeepCopy()
		*made++
		slice.Name = fmt.Sprintf("%s%d", slice.GenerateName, *made)
		have = append(have, slice)
	}
	return have
}
