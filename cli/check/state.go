package check

import (
	"context"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/cli/channel"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
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

// proxyContainer is the name of the sidecar in every meshed pod.
const proxyContainer = "linkerd-proxy"

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

// proxy returns the sidecar of a pod, which may be a container or a native
// sidecar; nil when it has none.
func proxy(pod *corev1.Pod) *corev1.Container {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == proxyContainer {
				return &containers[i]
			}
		}
	}
	return nil
}

// proxyVersion is the tag of the proxy's image, else what the injector noted.
func proxyVersion(pod *corev1.Pod) string {
	if v := pod.Annotations["linkerd.io/proxy-version"]; v != "" {
		return v
	}
	if c := proxy(pod); c != nil {
		if i := strings.LastIndex(c.Image, ":"); i > strings.LastIndex(c.Image, "/") {
			return c.Image[i+1:]
		}
	}
	return ""
}

// notReady returns the name of the first container that is not ready, native
// sidecars included; empty when all are.
func notReady(pod *corev1.Pod) string {
	for _, c := range pod.Status.InitContainerStatuses {
		if c.Name == proxyContainer && !c.Ready && nativeSidecar(pod) {
			return c.Name
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if !c.Ready {
			return c.Name
		}
	}
	return ""
}

func nativeSidecar(pod *corev1.Pod) bool {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == proxyContainer {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

// podStatus is what kubectl shows as a pod's status.
func podStatus(pod *corev1.Pod) string {
	reason := string(pod.Status.Phase)
	if pod.Status.Reason != "" {
		reason = pod.Status.Reason
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			reason = c.State.Waiting.Reason
		case c.State.Terminated != nil && c.State.Terminated.Reason != "":
			reason = c.State.Terminated.Reason
		}
	}
	if pod.DeletionTimestamp != nil {
		reason = "Terminating"
	}
	return reason
}

// proxiesReady applies the rules of "data plane proxies are ready" (CLI
// chapter, section 4.5) to pods of a namespace, or of all when it is empty.
func proxiesReady(pods []corev1.Pod, namespace string) error {
	found := false
	for i := range pods {
		pod := &pods[i]
		if proxy(pod) == nil {
			continue
		}
		switch status := podStatus(pod); status {
		case "Completed", "NodeShutdown", "Shutdown", "Terminated", string(corev1.PodSucceeded):
			continue
		case "Evicted":
			found = true
			continue
		case string(corev1.PodRunning), "Terminating":
		default:
			return fmt.Errorf("pod %q status is %s", pod.Name, status)
		}
		found = true
		if pod.DeletionTimestamp != nil {
			continue
		}
		ready := false
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, c := range statuses {
				ready = ready || c.Name == proxyContainer && c.Ready
			}
		}
		if !ready {
			return fmt.Errorf("container %q in pod %q is not ready", proxyContainer, pod.Name)
		}
	}
	if !found {
		if namespace != "" {
			return fmt.Errorf("no %q containers found in the %q namespace", proxyContainer, namespace)
		}
		return fmt.Errorf("no %q containers found", proxyContainer)
	}
	return nil
}

// proxiesCurrent compares proxies with the latest versions.
func (s *state) proxiesCurrent(pods []corev1.Pod) error {
	if s.latest == nil {
		return errLatestUnknown
	}
	var outdated []string
	for i := range pods {
		if proxy(&pods[i]) == nil {
			continue
		}
		v := proxyVersion(&pods[i])
		if s.latest.Match(v) != nil {
			outdated = append(outdated, fmt.Sprintf("%s (%s)", pods[i].Name, v))
		}
	}
	return bullets("some proxies are not running the current version:", outdated)
}

// proxiesMatchClient compares proxies with this program.
func (s *state) proxiesMatchClient(pods []corev1.Pod) error {
	for i := range pods {
		if proxy(&pods[i]) == nil {
			continue
		}
		if v := proxyVersion(&pods[i]); v != s.client {
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
