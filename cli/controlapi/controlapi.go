// Package controlapi connects a command to an API of the control plane's
// destination pod: discovery, policies, explanations.
//
//	conn, err := controlapi.Dial(ctx, w, g, "", controlapi.Policy)
//	defer conn.Close()
//	answer, err := explainpb.NewExplainClient(conn).Inbound(ctx, question)
//
// A Conn is safe for concurrent use.
package controlapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// Ports of the APIs in the destination pod.
const (
	Destination = 8086
	Policy      = 8090
)

// Conn is the connection to an API.
type Conn struct {
	*grpc.ClientConn
	tunnel io.Closer
}

// Close ends the connection and what it goes through.
func (c *Conn) Close() {
	_ = c.ClientConn.Close()
	if c.tunnel != nil {
		_ = c.tunnel.Close()
	}
}

// Dial connects to a port of the destination pod: to the address given with
// --api-addr, else through a port-forward to the given pod or, if that is
// empty, to the first that runs.
func Dial(ctx context.Context, w *command.World, g *command.Globals, pod string, port int32) (*Conn, error) {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	if g.APIAddr != "" {
		conn, err := grpc.NewClient("passthrough:///"+g.APIAddr, plain)
		if err != nil {
			return nil, err
		}
		return &Conn{ClientConn: conn}, nil
	}
	c, err := g.Connect(w)
	if err != nil {
		return nil, err
	}
	if pod == "" {
		if pod, err = runningPod(ctx, c, g.Namespace, "destination"); err != nil {
			return nil, err
		}
	}
	stream, tunnel, err := w.Dial(ctx, c, g.Namespace, pod, port)
	if err != nil {
		return nil, err
	}
	used := false
	conn, err := grpc.NewClient("passthrough:///"+pod, plain, grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
		if used {
			// One command, one connection: a second attempt means that the first ended.
			return nil, errors.New("the connection to the control plane was lost")
		}
		used = true
		return stream, nil
	}))
	if err != nil {
		_ = tunnel.Close()
		return nil, err
	}
	return &Conn{ClientConn: conn, tunnel: tunnel}, nil
}

// runningPod returns the first running pod of a component.
func runningPod(ctx context.Context, c *cluster.Cluster, namespace, component string) (string, error) {
	pods, err := c.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=" + component})
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", fmt.Errorf("no running pods found for linkerd-%s", component)
}
