package explain

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/names"
	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// Resource types that only explanations know.
const externalWorkload = "externalworkload"

// Canonical returns the canonical name of a type that has inbound policy, or a
// Service's.
func Canonical(kind string) (string, error) {
	switch strings.ToLower(kind) {
	case externalWorkload, "externalworkloads":
		return externalWorkload, nil
	}
	canonical, err := workload.Canonical(kind)
	if err != nil {
		return "", err
	}
	if canonical != workload.Service && !hasPods(canonical) {
		return "", fmt.Errorf("resource type %s has no policy; it must be a Pod, what makes pods, an ExternalWorkload or a Service", kind)
	}
	return canonical, nil
}

func hasPods(canonical string) bool {
	for _, kind := range workload.PodOwners {
		if kind == canonical {
			return true
		}
	}
	return false
}

// Question is what an operator wants to know.
type Question struct {
	Namespace string
	// Kind is canonical.
	Kind, Name string
	// Port is a number, or for workloads a name.
	Port    string
	Client  *explainpb.Client
	Request *explainpb.Request
	// ClientNamespace is where the clients of a Service are; empty takes that of
	// Client, else that of the Service.
	ClientNamespace string
}

// Ask asks the question. Replicas with the same answer share one.
func (a *Asker) Ask(ctx context.Context, c *cluster.Cluster, q Question) ([]Answer, error) {
	if q.Kind == workload.Service {
		port, err := strconv.ParseUint(q.Port, 10, 16)
		if err != nil || port == 0 {
			return nil, fmt.Errorf("port %q of a Service must be a number from 1 to 65535", q.Port)
		}
		if _, plain := q.Client.GetAuthentication().(*explainpb.Client_Unauthenticated); plain {
			// It has no proxy that would follow routes.
			if answers, err := a.behind(ctx, c, q, int32(port)); err != nil || len(answers) > 0 {
				return answers, err
			}
		}
		e, err := a.Outbound(ctx, &explainpb.OutboundRequest{
			Namespace: q.Namespace, Service: q.Name, Port: uint32(port), ClientNamespace: q.clientNamespace(), Request: q.Request,
		})
		if err != nil {
			return nil, err
		}
		answers := []Answer{{Explanation: e}}
		if q.Client == nil {
			return answers, nil
		}
		// Who the client is matters at the pods behind the Service.
		inbound, err := a.behind(ctx, c, q, int32(port))
		return append(answers, inbound...), err
	}
	ask := &explainpb.InboundRequest{Namespace: q.Namespace, Client: q.Client, Request: q.Request}
	if port, err := strconv.ParseUint(q.Port, 10, 32); err == nil {
		ask.Port = &explainpb.InboundRequest_PortNumber{PortNumber: uint32(port)}
	} else {
		ask.Port = &explainpb.InboundRequest_PortName{PortName: q.Port}
	}
	if q.Kind == externalWorkload {
		ask.Workload = &explainpb.InboundRequest_ExternalWorkload{ExternalWorkload: q.Name}
		e, err := a.Inbound(ctx, ask)
		if err != nil {
			return nil, err
		}
		return []Answer{{Explanation: e}}, nil
	}
	pods := []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: q.Namespace, Name: q.Name}}}
	if q.Kind != workload.Pod {
		var err error
		if pods, err = q.pods(ctx, c); err != nil {
			return nil, err
		}
	}
	return a.Pods(ctx, pods, func(pod *corev1.Pod) *explainpb.InboundRequest {
		ask.Workload = &explainpb.InboundRequest_Pod{Pod: pod.Name}
		return ask
	})
}

// clientNamespace is the namespace whose routes the client has.
func (q Question) clientNamespace() string {
	if q.ClientNamespace != "" {
		return q.ClientNamespace
	}
	if account := q.Client.GetServiceAccount(); account != nil {
		return account.GetNamespace()
	}
	if id, ok := names.ParseIdentity(q.Client.GetIdentity()); ok {
		return id.Namespace
	}
	return q.Namespace
}

// behind asks about the pods that a Service selects, at the port of theirs that
// its port stands for.
func (a *Asker) behind(ctx context.Context, c *cluster.Cluster, q Question, port int32) ([]Answer, error) {
	service, err := c.Kube.CoreV1().Services(q.Namespace).Get(ctx, q.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil // the explanation says so
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get Service %s/%s: %w", q.Namespace, q.Name, err)
	}
	pods, err := q.pods(ctx, c)
	if err != nil {
		return nil, err
	}
	for _, p := range service.Spec.Ports {
		if p.Port != port {
			continue
		}
		ask := &explainpb.InboundRequest{Namespace: q.Namespace, Client: q.Client, Request: q.Request}
		ask.Port = &explainpb.InboundRequest_PortNumber{PortNumber: uint32(port)}
		switch {
		case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
			ask.Port = &explainpb.InboundRequest_PortName{PortName: p.TargetPort.StrVal}
		case p.TargetPort.IntVal != 0:
			ask.Port = &explainpb.InboundRequest_PortNumber{PortNumber: uint32(p.TargetPort.IntVal)}
		}
		return a.Pods(ctx, pods, func(pod *corev1.Pod) *explainpb.InboundRequest {
			ask.Workload = &explainpb.InboundRequest_Pod{Pod: pod.Name}
			return ask
		})
	}
	return nil, nil
}

// pods are those that run and have a proxy.
func (q Question) pods(ctx context.Context, c *cluster.Cluster) ([]*corev1.Pod, error) {
	x, err := workload.Read(ctx, c.Kube, q.Namespace)
	if err != nil {
		return nil, err
	}
	objects := x.Objects(workload.Target{Type: q.Kind, Name: q.Name}, nil)
	if len(objects) == 0 {
		return nil, fmt.Errorf("there is no %s %s in namespace %s", q.Kind, q.Name, q.Namespace)
	}
	pods := Meshed(objects[0].Pods)
	if len(pods) == 0 {
		return nil, fmt.Errorf("%s %s/%s has no running pod in the mesh, so that no policy applies to it", q.Kind, q.Namespace, q.Name)
	}
	return pods, nil
}

// Meshed returns the running pods with a proxy, by name.
func Meshed(pods []*corev1.Pod) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range Running(pods) {
		if workload.Proxy(p) != nil {
			out = append(out, p)
		}
	}
	return out
}
