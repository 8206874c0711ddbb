package check

import (
	"context"
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/channel"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// state is what the checks of one run know. Only Run's goroutine uses it.
type state struct {
	world   *command.World
	options *options
	// client is the version of this program.
	client string
	// manifest is what would be installed, for --pre.
	manifest []controlplane.Object

	cluster       *cluster.Cluster
	serverVersion string
	// values of the installation; nil until its ConfigMap was read.
	values map[string]any
	// uuid identifies the installation towards the version server.
	uuid   string
	latest channel.Latest
	// credentials as the cluster has them, set by the checks of identity.
	identity identityData
}

// pods lists the pods that belong to the mesh, in one namespace or in all,
// sorted by namespace and name.
func (s *state) pods(ctx context.Context, namespace string) ([]corev1.Pod, error) {
	list, err := s.cluster.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: controlplane.ControlPlaneNS + "=" + s.options.Namespace,
	})
	if err != nil {
		return nil, err
	}
	pods := list.Items
	sort.Slice(pods, func(i, j int) bool {
		if pods[i].Namespace != pods[j].Namespace {
			return pods[i].Namespace < pods[j].Namespace
		}
		return pods[i].Name < pods[j].Name
	})
	return pods, nil
}

// proxiesCurrent compares proxies with the latest versions.
func (s *state) proxiesCurrent(pods []corev1.Pod) error {
	if s.latest == nil {
		return s.unknownLatest()
	}
	var outdated []string
	for i := range pods {
		if workload.Proxy(&pods[i]) == nil {
			continue
		}
		v := workload.ProxyVersion(&pods[i])
		if s.latest.Match(v) != nil {
			outdated = append(outdated, fmt.Sprintf("%s (%s)", pods[i].Name, v))
		}
	}
	return bullets("some proxies are not running the current version:", outdated)
}

// proxiesMatchClient compares proxies with this program.
func (s *state) proxiesMatchClient(pods []corev1.Pod) error {
	for i := range pods {
		if workload.Proxy(&pods[i]) == nil {
			continue
		}
		if v := workload.ProxyVersion(&pods[i]); v != s.client {
			return fmt.Errorf("%s running %s but cli running %s", pods[i].Name, v, s.client)
		}
	}
	return nil
}

// installation reads the ConfigMap of the installation.
func (s *state) installation(ctx context.Context) error {
	cm, err := s.cluster.Kube.CoreV1().ConfigMaps(s.options.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	values, err := controlplane.Values(cm)
	if err != nil {
		return err
	}
	s.values, s.uuid = values, string(cm.UID)
	return nil
}

func (s *state) value(path string) string { return valuetree.String(s.values, path) }

// namespaceExists fails when a namespace does not exist.
func (s *state) namespaceExists(ctx context.Context, name string) error {
	_, err := s.cluster.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("The %q namespace does not exist", name) //nolint:staticcheck // The text is what scripts know.
	}
	return err
}
