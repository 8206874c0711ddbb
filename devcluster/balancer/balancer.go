// Package balancer decides which address each Service of type LoadBalancer gets. It is pure; the component
// "load-balancer" carries its decisions out.
package balancer

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Change is a Service whose status has to say something else.
type Change struct {
	Namespace, Name string
	// Ingress is the new status; nil takes the address away.
	Ingress []corev1.LoadBalancerIngress
}

// Plan compares what services have with what they should have. A Service keeps the address it has if that
// is in pool and no older Service has it too; spec.loadBalancerIP is honoured when it is free. Services with
// a loadBalancerClass belong to someone else. When the pool is used up, the rest stay without.
func Plan(services []*corev1.Service, pool netip.Prefix) []Change {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})

	// First everyone who has an address keeps it, so that a new Service takes nobody's.
	owner := map[netip.Addr]*corev1.Service{}
	has := map[*corev1.Service]netip.Addr{}
	for _, service := range services {
		if !wants(service) {
			continue
		}
		address := current(service)
		if asked, ok := asked(service); ok && asked != address {
			continue
		}
		if address.IsValid() && pool.Contains(address) && owner[address] == nil {
			owner[address], has[service] = service, address
		}
	}

	var changes []Change
	for _, service := range services {
		ingress := service.Status.LoadBalancer.Ingress
		if !wants(service) {
			// A Service that is no longer a load balancer gives its address back; one of another class is
			// not ours to touch.
			if service.Spec.Type != corev1.ServiceTypeLoadBalancer && len(ingress) > 0 {
				changes = append(changes, Change{Namespace: service.Namespace, Name: service.Name})
			}
			continue
		}
		if has[service].IsValid() && len(ingress) == 1 {
			continue
		}
		address := has[service]
		if !address.IsValid() {
			address = free(service, pool, owner)
		}
		if !address.IsValid() {
			continue
		}
		owner[address] = service
		mode := corev1.LoadBalancerIPModeVIP
		changes = append(changes, Change{
			Namespace: service.Namespace,
			Name:      service.Name,
			Ingress:   []corev1.LoadBalancerIngress{{IP: address.String(), IPMode: &mode}},
		})
	}
	return changes
}

// wants reports whether service is a load balancer of ours that is not going away.
func wants(service *corev1.Service) bool {
	return service.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		service.Spec.LoadBalancerClass == nil && service.DeletionTimestamp == nil
}

// current is the address in the status, invalid if there is none.
func current(service *corev1.Service) netip.Addr {
	if len(service.Status.LoadBalancer.Ingress) == 0 {
		return netip.Addr{}
	}
	address, _ := netip.ParseAddr(service.Status.LoadBalancer.Ingress[0].IP)
	return address
}

// asked is the address that the Service's author asked for.
func asked(service *corev1.Service) (netip.Addr, bool) {
	address, err := netip.ParseAddr(service.Spec.LoadBalancerIP)
	return address, err == nil
}

// free is the address that service gets now, invalid if there is none for it.
func free(service *corev1.Service, pool netip.Prefix, owner map[netip.Addr]*corev1.Service) netip.Addr {
	if address, ok := asked(service); ok {
		if pool.Contains(address) && owner[address] == nil {
			return address
		}
		return netip.Addr{}
	}
	// The first address of the range is left out, so that nobody mistakes the range for an address.
	for address := pool.Masked().Addr().Next(); pool.Contains(address); address = address.Next() {
		if owner[address] == nil {
			return address
		}
	}
	return netip.Addr{}
}
