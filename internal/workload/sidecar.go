package workload

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ProxyContainer is the name of the sidecar.
const ProxyContainer = "linkerd-proxy"

// Proxy returns the sidecar of a pod, nil when it has none.
func Proxy(p *corev1.Pod) *corev1.Container {
	for _, containers := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == ProxyContainer {
				return &containers[i]
			}
		}
	}
	return nil
}

// AdminPort returns the admin port of a pod's sidecar, zero when it has none.
func AdminPort(p *corev1.Pod) int32 {
	c := Proxy(p)
	if c == nil {
		return 0
	}
	for _, port := range c.Ports {
		if port.Name == "linkerd-admin" {
			return port.ContainerPort
		}
	}
	return 0
}

// Identity returns the name in the certificate of a pod's sidecar, put
// together the way the kubelet expands its environment.
func Identity(p *corev1.Pod) string {
	c := Proxy(p)
	if c == nil {
		return ""
	}
	for _, e := range c.Env {
		if e.Name == "LINKERD2_PROXY_IDENTITY_LOCAL_NAME" {
			account := p.Spec.ServiceAccountName
			if account == "" {
				account = "default"
			}
			return strings.NewReplacer("$(_pod_sa)", account, "$(_pod_ns)", p.Namespace).Replace(e.Value)
		}
	}
	return ""
}

// ProxyVersion is the version of a pod's sidecar: what the injector noted, else
// the tag of the image; empty when the pod has none.
func ProxyVersion(pod *corev1.Pod) string {
	c := Proxy(pod)
	if c == nil {
		return ""
	}
	if v := pod.Annotations["linkerd.io/proxy-version"]; v != "" {
		return v
	}
	if i := strings.LastIndex(c.Image, ":"); i > strings.LastIndex(c.Image, "/") {
		return c.Image[i+1:]
	}
	return ""
}

// NotReady returns the name of the first container that is not ready, native
// sidecars included; empty when all are.
func NotReady(pod *corev1.Pod) string {
	for _, c := range pod.Status.InitContainerStatuses {
		if c.Name == ProxyContainer && !c.Ready && nativeSidecar(pod) {
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
		if c.Name == ProxyContainer {
			return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
		}
	}
	return false
}

// Status is what kubectl shows as a pod's status.
func Status(pod *corev1.Pod) string {
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

// ProxiesReady applies the rules of "data plane proxies are ready" (CLI
// chapter, section 4.5) to pods of a namespace, or of all when it is empty.
func ProxiesReady(pods []corev1.Pod, namespace string) error {
	found := false
	for i := range pods {
		pod := &pods[i]
		if Proxy(pod) == nil {
			continue
		}
		switch status := Status(pod); status {
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
				ready = ready || c.Name == ProxyContainer && c.Ready
			}
		}
		if !ready {
			return fmt.Errorf("container %q in pod %q is not ready", ProxyContainer, pod.Name)
		}
	}
	if !found {
		if namespace != "" {
			return fmt.Errorf("no %q containers found in the %q namespace", ProxyContainer, namespace)
		}
		return fmt.Errorf("no %q containers found", ProxyContainer)
	}
	return nil
}
