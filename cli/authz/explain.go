package authz

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/cli/controlapi"
	"github.com/linkerd-go/linkerd-go/cli/explain"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// explanations prints, for each port of the resources, whether the client gets
// in and by what; with --explain all reasons.
func explanations(ctx context.Context, w *command.World, o *options, c *cluster.Cluster, namespace string, objects []*workload.Object) error {
	request, err := o.explain.Request()
	if err != nil {
		return err
	}
	client, err := o.explain.Client(ctx, c, namespace)
	if err != nil {
		return err
	}
	var servers []v1beta3.Server
	if err := list(ctx, c, namespace, "v1beta3", "servers", &servers); err != nil {
		return command.Failf("Failed to get server resources: %s", err)
	}
	conn, err := controlapi.Dial(ctx, w, o.Globals, "", controlapi.Policy)
	if err != nil {
		return command.Failf("Policy API error: %s", err)
	}
	defer conn.Close()
	asker := explain.NewAsker(conn)
	var answers []explain.Answer
	asked := 0
	for _, object := range objects {
		pods := explain.Meshed(object.Pods)
		if len(pods) == 0 {
			if len(object.Pods) > 0 {
				what := "has no running pod in the mesh"
				if object.Type == workload.Pod {
					what = "is not running in the mesh"
				}
				fmt.Fprintf(w.Err, "%s %s/%s %s, so that no policy applies to it\n", object.Type, object.Namespace, object.Name, what)
			}
			continue
		}
		ports := []string{o.port}
		if o.port == "" {
			ports = portsOf(pods, servers)
		}
		for _, port := range ports {
			asked++
			found, err := asker.Pods(ctx, pods, func(pod *corev1.Pod) *explainpb.InboundRequest {
				q := &explainpb.InboundRequest{
					Namespace: pod.Namespace, Workload: &explainpb.InboundRequest_Pod{Pod: pod.Name}, Client: client, Request: request,
					Port: &explainpb.InboundRequest_PortName{PortName: port},
				}
				if number, err := strconv.ParseUint(port, 10, 32); err == nil {
					q.Port = &explainpb.InboundRequest_PortNumber{PortNumber: uint32(number)}
				}
				return q
			})
			if err != nil {
				return err
			}
			answers = append(answers, found...)
		}
	}
	if asked == 0 {
		return command.Failf("no port of a meshed pod was found; give one with --port")
	}
	return explain.Write(w.Out, o.output, answers, o.explain.Explain)
}

// portsOf returns the ports that pods declare or that Servers name for them, but
// for the proxy's own, in order.
func portsOf(pods []*corev1.Pod, servers []v1beta3.Server) []string {
	set := map[int32]bool{}
	for _, pod := range pods {
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for _, container := range containers {
				if container.Name == workload.ProxyContainer {
					continue
				}
				for _, p := range container.Ports {
					if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
						set[p.ContainerPort] = true
					}
				}
			}
		}
		for _, s := range servers {
			selector, err := metav1.LabelSelectorAsSelector(s.Spec.PodSelector)
			if err == nil && s.Spec.Port.Type == intstr.Int && selector.Matches(labels.Set(pod.Labels)) {
				set[s.Spec.Port.IntVal] = true
			}
		}
	}
	var numbers []int32
	for port := range set {
		numbers = append(numbers, port)
	}
	slices.Sort(numbers)
	ports := make([]string, len(numbers))
	for i, n := range numbers {
		ports[i] = strconv.Itoa(int(n))
	}
	return ports
}
