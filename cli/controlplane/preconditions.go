package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

// Access returns the client Validate asks, nil for no cluster.
func Access(c *cluster.Cluster) kubernetes.Interface {
	if c == nil {
		return nil
	}
	return c.Kube
}

// ErrDocker is the refusal of nodes on which proxy-init cannot work without
// root (CLI chapter, section 2.4, step 7).
const ErrDocker = "there are nodes using the docker container runtime and proxy-init container must run as root user.\n" +
	"try installing linkerd via --set proxyInit.runAsRoot=true"

// RefuseDocker fails when a node runs containers with Docker.
func RefuseDocker(ctx context.Context, c *cluster.Cluster) error {
	nodes, err := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("failed to list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		if strings.HasPrefix(n.Status.NodeInfo.ContainerRuntimeVersion, "docker:") {
			return command.Failf("%s", ErrDocker)
		}
	}
	return nil
}

// configKinds are what the first of the two stages of older releases holds:
// what needs the rights of a cluster's administrator (CLI chapter, section 9).
var configKinds = map[string]bool{
	"Namespace": true, "ClusterRole": true, "ClusterRoleBinding": true, "Role": true, "RoleBinding": true,
	"ServiceAccount": true, "CustomResourceDefinition": true, "MutatingWebhookConfiguration": true,
	"ValidatingWebhookConfiguration": true, "PodSecurityPolicy": true,
}

// Stage keeps the objects of one stage, "config" or "control-plane". A
// webhook's Secret goes with its configuration, whose bundle has to fit.
func Stage(manifest []byte, stage string) ([]byte, error) {
	objects, err := Objects(manifest)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, o := range objects {
		config := configKinds[o.Kind] || (o.Kind == "Secret" && strings.HasSuffix(o.Name, "-k8s-tls"))
		if config != (stage == "config") {
			continue
		}
		out.WriteString("---\n")
		out.Write(bytes.TrimSpace(o.Raw))
		out.WriteString("\n")
	}
	return out.Bytes(), nil
}
