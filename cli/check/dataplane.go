package check

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

const opaquePorts = "config.linkerd.io/opaque-ports"

func (s *state) dataPlane() health.Category {
	namespace := s.options.namespace
	withPods := func(run func([]corev1.Pod) error) func(context.Context) error {
		return func(ctx context.Context) error {
			pods, err := s.pods(ctx, namespace)
			if err != nil {
				return err
			}
			return run(pods)
		}
	}
	return health.Category{ID: "linkerd-data-plane", Checks: []health.Check{
		{
			Description: "data plane namespace exists", Anchor: "l5d-data-plane-exists", Fatal: true,
			Run: func(ctx context.Context) error {
				if namespace == "" {
					return nil
				}
				return s.namespaceExists(ctx, namespace)
			},
		},
		{
			Description: "data plane proxies are ready", Anchor: "l5d-data-plane-ready", Fatal: true, Retry: true,
			Run: withPods(func(pods []corev1.Pod) error { return workload.ProxiesReady(pods, namespace) }),
		},
		{Description: "data plane is up-to-date", Anchor: "l5d-data-plane-version", Warning: true, Run: withPods(s.proxiesCurrent)},
		{Description: "data plane and cli versions match", Anchor: "l5d-data-plane-cli-version", Warning: true, Run: withPods(s.proxiesMatchClient)},
		{
			Description: "data plane pod labels are configured correctly", Anchor: "l5d-data-plane-pod-labels", Warning: true,
			Run: withPods(func(pods []corev1.Pod) error {
				var wrong []string
				for _, p := range pods {
					wrong = append(wrong, misplaced(p.ObjectMeta, p.Labels, isAnnotation)...)
				}
				return bullets("Some labels on data plane pods should be annotations:", wrong)
			}),
		},
		{
			Description: "data plane service labels are configured correctly", Anchor: "l5d-data-plane-services-labels", Warning: true,
			Run: func(ctx context.Context) error {
				return s.misplacedOnServices(ctx, "Some labels on data plane services should be annotations:",
					func(svc corev1.Service) map[string]string { return svc.Labels }, isAnnotation)
			},
		},
		{
			Description: "data plane service annotations are configured correctly", Anchor: "l5d-data-plane-services-annotations", Warning: true,
			Run: func(ctx context.Context) error {
				return s.misplacedOnServices(ctx, "Some annotations on data plane services should be labels:",
					func(svc corev1.Service) map[string]string { return svc.Annotations },
					func(key string) bool { return key == "mirror.linkerd.io/exported" })
			},
		},
		{Description: "opaque ports are properly annotated", Anchor: "linkerd-opaque-ports-definition", Warning: true, Run: s.opaqueAgree},
	}}
}

// isAnnotation says that a key is read from annotations only.
func isAnnotation(key string) bool {
	return strings.HasPrefix(key, "config.linkerd.io") || strings.HasPrefix(key, "config.alpha.linkerd.io") || key == "linkerd.io/inject"
}

// misplaced lists an object with the keys that are in the wrong place.
func misplaced(meta metav1.ObjectMeta, keys map[string]string, wrong func(string) bool) []string {
	var found []string
	for key := range keys {
		if wrong(key) {
			found = append(found, key)
		}
	}
	if len(found) == 0 {
		return nil
	}
	sort.Strings(found)
	return []string{meta.Namespace + "/" + meta.Name + "\n\t\t" + strings.Join(found, "\n\t\t")}
}

func (s *state) misplacedOnServices(ctx context.Context, heading string, keys func(corev1.Service) map[string]string, wrong func(string) bool) error {
	services, err := s.cluster.Kube.CoreV1().Services(s.options.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var found []string
	for _, svc := range services.Items {
		found = append(found, misplaced(svc.ObjectMeta, keys(svc), wrong)...)
	}
	return bullets(heading, found)
}

// ports is a parsed opaque-ports annotation.
type ports struct {
	ranges [][2]int
	names  map[string]bool
}

func parsePorts(text string) (ports, error) {
	p := ports{names: map[string]bool{}}
	for _, item := range strings.Split(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		lower, upper, isRange := strings.Cut(item, "-")
		from, err := strconv.Atoi(lower)
		if err != nil {
			p.names[item] = true
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(upper); err != nil {
				return p, fmt.Errorf("failed to convert %s to port number", item)
			}
		}
		p.ranges = append(p.ranges, [2]int{from, to})
	}
	return p, nil
}

func (p ports) has(port int32, names ...string) bool {
	for _, r := range p.ranges {
		if int(port) >= r[0] && int(port) <= r[1] {
			return true
		}
	}
	for _, n := range names {
		if n != "" && p.names[n] {
			return true
		}
	}
	return false
}

// opaqueAgree compares the annotation on each Service with the one on the pods
// behind it: where they differ, a client that comes through the Service is
// treated differently from one that comes to the pod.
func (s *state) opaqueAgree(ctx context.Context) error {
	services, err := s.cluster.Kube.CoreV1().Services(s.options.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	meshed, err := s.pods(ctx, s.options.namespace)
	if err != nil {
		return err
	}
	byName := map[string]*corev1.Pod{}
	for i := range meshed {
		byName[meshed[i].Namespace+"/"+meshed[i].Name] = &meshed[i]
	}
	var problems []string
	for i := range services.Items {
		svc := &services.Items[i]
		if svc.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		slices, err := s.cluster.Kube.DiscoveryV1().EndpointSlices(svc.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + svc.Name,
		})
		if err != nil {
			return err
		}
		seen := map[string]bool{}
		for _, slice := range slices.Items {
			for _, endpoint := range slice.Endpoints {
				if endpoint.TargetRef == nil || endpoint.TargetRef.Kind != "Pod" || seen[endpoint.TargetRef.Name] {
					continue
				}
				seen[endpoint.TargetRef.Name] = true
				pod := byName[svc.Namespace+"/"+endpoint.TargetRef.Name]
				if pod == nil {
					continue
				}
				found, err := compareOpaque(svc, pod)
				if err != nil {
					return fmt.Errorf("%w for pod %s", err, pod.Name)
				}
				problems = append(problems, found...)
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("\t* " + strings.Join(problems, "\n    \t* "))
}

func compareOpaque(svc *corev1.Service, pod *corev1.Pod) ([]string, error) {
	onService, serviceSays := svc.Annotations[opaquePorts]
	onPod, podSays := pod.Annotations[opaquePorts]
	if !serviceSays && !podSays {
		return nil, nil
	}
	servicePorts, err := parsePorts(onService)
	if err != nil {
		return nil, err
	}
	podPorts, err := parsePorts(onPod)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, p := range svc.Spec.Ports {
		target, name := targetPort(p, pod)
		if target == 0 {
			continue
		}
		service := servicePorts.has(p.Port, p.Name)
		there := podPorts.has(target, name)
		switch {
		case service && !there:
			out = append(out, fmt.Sprintf("service %s expects target port %d to be opaque; add it to pod %s %s annotation", svc.Name, target, pod.Name, opaquePorts))
		case !service && there && target == p.Port:
			out = append(out, fmt.Sprintf("service %s targets the opaque port %d; add it to its %s annotation", svc.Name, target, opaquePorts))
		case !service && there:
			shown := strconv.Itoa(int(target))
			if name != "" && p.TargetPort.StrVal == name {
				shown = name
			}
			out = append(out, fmt.Sprintf("service %s targets the opaque port %s through %d; add %d to its %s annotation", svc.Name, shown, p.Port, p.Port, opaquePorts))
		}
	}
	return out, nil
}

// targetPort is the port of the pod a Service port leads to, and its name;
// zero when the pod has no such port.
func targetPort(p corev1.ServicePort, pod *corev1.Pod) (int32, string) {
	wanted := p.TargetPort
	if wanted.StrVal == "" && wanted.IntVal == 0 {
		wanted.IntVal = p.Port
	}
	for _, c := range pod.Spec.Containers {
		for _, port := range c.Ports {
			if wanted.StrVal != "" && port.Name == wanted.StrVal || wanted.StrVal == "" && port.ContainerPort == wanted.IntVal {
				return port.ContainerPort, port.Name
			}
		}
	}
	if wanted.StrVal != "" {
		return 0, ""
	}
	return wanted.IntVal, ""
}
