package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// components of the control plane that have pods to wait for.
var components = []string{"destination", "identity", "proxy-injector"}

func (s *state) crds() health.Category {
	return health.Category{ID: "linkerd-crd", Checks: []health.Check{{
		Description: "control plane CustomResourceDefinitions exist",
		Anchor:      "l5d-existence-crd",
		Fatal:       true,
		Retry:       true,
		Run: func(ctx context.Context) error {
			return controlplane.MissingCRDs(ctx, s.options.charts, s.cluster)
		},
	}}}
}

func (s *state) existence() health.Category {
	return health.Category{ID: "linkerd-existence", Checks: []health.Check{
		{Description: "'linkerd-config' config map exists", Anchor: "l5d-existence-linkerd-config", Fatal: true, Run: s.installation},
		{
			Description: "heartbeat ServiceAccount exist",
			Anchor:      "l5d-existence-sa",
			Fatal:       true,
			Run: func(ctx context.Context) error {
				if valuetree.Bool(s.values, "disableHeartBeat") || s.value("versionCheckURL") == nobody {
					return nil
				}
				return s.serviceAccounts(ctx, "linkerd-heartbeat")
			},
		},
		{Description: "control plane replica sets are ready", Anchor: "l5d-existence-replicasets", Fatal: true, Retry: true, Run: s.replicaSets},
		{Description: "no unschedulable pods", Anchor: "l5d-existence-unschedulable-pods", Warning: true, Retry: true, Surface: true, Run: s.unschedulable},
		{Description: "control plane pods are ready", Anchor: "l5d-api-control-ready", Fatal: true, Retry: true, Surface: true, Run: s.controlPlanePods},
		{Description: "cluster networks contains all node podCIDRs", Anchor: "l5d-cluster-networks-cidr", Run: s.nodeNetworks},
		{Description: "cluster networks contains all pods", Anchor: "l5d-cluster-networks-pods", Run: s.podNetworks},
		{Description: "cluster networks contains all services", Anchor: "l5d-cluster-networks-pods", Run: s.serviceNetworks},
	}}
}

func (s *state) serviceAccounts(ctx context.Context, names ...string) error {
	var absent []string
	for _, name := range names {
		_, err := s.cluster.Kube.CoreV1().ServiceAccounts(s.options.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			absent = append(absent, name)
		case err != nil:
			return err
		}
	}
	return missing("ServiceAccount", absent)
}

func (s *state) replicaSets(ctx context.Context) error {
	sets, err := s.cluster.Kube.AppsV1().ReplicaSets(s.options.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var failures []string
	for _, set := range sets.Items {
		for _, c := range set.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue {
				failures = append(failures, fmt.Sprintf("%s: %s", c.Reason, c.Message))
			}
		}
	}
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n   "))
	}
	return nil
}

func (s *state) unschedulable(ctx context.Context) error {
	pods, err := s.pods(ctx, s.options.Namespace)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Reason == corev1.PodReasonUnschedulable {
				return fmt.Errorf("%s: %s", pod.Name, c.Message)
			}
		}
	}
	return nil
}

func (s *state) controlPlanePods(ctx context.Context) error {
	pods, err := s.pods(ctx, s.options.Namespace)
	if err != nil {
		return err
	}
	for _, component := range components {
		running, ready := false, false
		var reason error
		for i := range pods {
			pod := &pods[i]
			if pod.Labels["linkerd.io/control-plane-component"] != component || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil {
				continue
			}
			running = true
			container := workload.NotReady(pod)
			if container == "" {
				ready = true
				break
			}
			reason = fmt.Errorf("pod/%s container %s is not ready", pod.Name, container)
		}
		switch {
		case !running:
			return fmt.Errorf("No running pods for %q", "linkerd-"+component) //nolint:staticcheck // The text is what scripts know.
		case !ready:
			return reason
		}
	}
	return nil
}

// clusterNetworks are the networks the installation takes for the cluster's.
func (s *state) clusterNetworks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range strings.Split(s.value("clusterNetworks"), ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("clusterNetworks: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func inside(networks []netip.Prefix, text string) bool {
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	for _, n := range networks {
		if n.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

func (s *state) nodeNetworks(ctx context.Context) error {
	networks, err := s.clusterNetworks()
	if err != nil {
		return err
	}
	nodes, err := s.cluster.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	exposed := false
	outside := map[string]bool{}
	for _, n := range nodes.Items {
		if n.Spec.PodCIDR == "" {
			continue
		}
		exposed = true
		p, err := netip.ParsePrefix(n.Spec.PodCIDR)
		if err != nil {
			return fmt.Errorf("node %s: podCIDR %q: %w", n.Name, n.Spec.PodCIDR, err)
		}
		contained := false
		for _, network := range networks {
			contained = contained || network.Contains(p.Addr()) && network.Bits() <= p.Bits()
		}
		if !contained {
			outside[n.Spec.PodCIDR] = true
		}
	}
	if !exposed {
		return health.Skip
	}
	if len(outside) == 0 {
		return nil
	}
	var list []string
	for cidr := range outside {
		list = append(list, cidr)
	}
	sort.Strings(list)
	suggestion := strings.ReplaceAll(s.value("clusterNetworks")+","+strings.Join(list, ","), ",", `\,`)
	return fmt.Errorf("node has podCIDR(s) [%s] which are not contained in the Linkerd clusterNetworks.\n\tTry installing linkerd via --set clusterNetworks=\"%s\"",
		strings.Join(list, ", "), suggestion)
}

func (s *state) podNetworks(ctx context.Context) error {
	networks, err := s.clusterNetworks()
	if err != nil {
		return err
	}
	pods, err := s.cluster.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		if !p.Spec.HostNetwork && p.Status.PodIP != "" && !inside(networks, p.Status.PodIP) {
			return fmt.Errorf("the Linkerd clusterNetworks [%q] do not include pod %s/%s (%s)", s.value("clusterNetworks"), p.Namespace, p.Name, p.Status.PodIP)
		}
	}
	return nil
}

func (s *state) serviceNetworks(ctx context.Context) error {
	networks, err := s.clusterNetworks()
	if err != nil {
		return err
	}
	services, err := s.cluster.Kube.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, svc := range services.Items {
		ip := svc.Spec.ClusterIP
		if ip != "" && ip != corev1.ClusterIPNone && !inside(networks, ip) {
			return fmt.Errorf("the Linkerd clusterNetworks [%q] do not include svc %s/%s (%s)", s.value("clusterNetworks"), svc.Namespace, svc.Name, ip)
		}
	}
	return nil
}
