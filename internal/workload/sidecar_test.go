package workload

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// proxy is the sidecar as the injector makes it.
func proxy() corev1.Container {
	return corev1.Container{
		Name:  ProxyContainer,
		Image: "registry:5000/linkerd/proxy:v1",
		Ports: []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: 4143}, {Name: "linkerd-admin", ContainerPort: 4191}},
		Env: []corev1.EnvVar{
			{Name: "LINKERD2_PROXY_CONTROL_LISTEN_ADDR", Value: "0.0.0.0:4190"},
			{Name: "LINKERD2_PROXY_IDENTITY_LOCAL_NAME", Value: "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"},
		},
	}
}

// A pod without a sidecar has nothing of one; with one, it does not matter among which containers it is.
func TestSidecar(t *testing.T) {
	app := corev1.Container{Name: "app", Image: "app:v9", Ports: []corev1.ContainerPort{{Name: "linkerd-admin", ContainerPort: 80}}}
	for name, c := range map[string]struct {
		spec        corev1.PodSpec
		annotations map[string]string
		port        int32
		identity    string
		version     string
	}{
		"none": {spec: corev1.PodSpec{Containers: []corev1.Container{app}}},
		"first container": {
			spec: corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{proxy(), app}},
			port: 4191, identity: "web.emo.serviceaccount.identity.linkerd.cluster.local", version: "v1",
		},
		"native": {
			spec: corev1.PodSpec{InitContainers: []corev1.Container{proxy()}, Containers: []corev1.Container{app}},
			port: 4191, identity: "default.emo.serviceaccount.identity.linkerd.cluster.local", version: "v1",
		},
		"noted version": {
			spec:        corev1.PodSpec{Containers: []corev1.Container{proxy()}},
			annotations: map[string]string{"linkerd.io/proxy-version": "v2"},
			port:        4191, identity: "default.emo.serviceaccount.identity.linkerd.cluster.local", version: "v2",
		},
		"image without a tag, from a registry with a port": {
			spec: corev1.PodSpec{Containers: []corev1.Container{{Name: ProxyContainer, Image: "registry:5000/linkerd/proxy"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "emo", Annotations: c.annotations}, Spec: c.spec}
			if got := AdminPort(pod); got != c.port {
				t.Errorf("admin port %d, want %d", got, c.port)
			}
			if got := Identity(pod); got != c.identity {
				t.Errorf("identity %q, want %q", got, c.identity)
			}
			if got := ProxyVersion(pod); got != c.version {
				t.Errorf("version %q, want %q", got, c.version)
			}
		})
	}
}

// Of the init containers only a sidecar has to be ready, and one is a sidecar only if it is restarted always: any other
// has ended when the pod runs, and is then not ready for good.
func TestNotReady(t *testing.T) {
	always, onFailure := corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicy("OnFailure")
	status := func(name string, ready bool) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, Ready: ready}
	}
	for name, c := range map[string]struct {
		policy           *corev1.ContainerRestartPolicy
		inits, container corev1.ContainerStatus
		want             string
	}{
		"all ready":                        {&always, status(ProxyContainer, true), status("app", true), ""},
		"native sidecar is not":            {&always, status(ProxyContainer, false), status("app", true), ProxyContainer},
		"application is not":               {&always, status(ProxyContainer, true), status("app", false), "app"},
		"init container that ended":        {nil, status(ProxyContainer, false), status("app", true), ""},
		"init container that may be again": {&onFailure, status(ProxyContainer, false), status("app", true), ""},
		"another init container":           {&always, status("linkerd-init", false), status("app", true), ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: ProxyContainer, RestartPolicy: c.policy}}},
				Status: corev1.PodStatus{
					InitContainerStatuses: []corev1.ContainerStatus{c.inits},
					ContainerStatuses:     []corev1.ContainerStatus{c.container},
				},
			}
			if got := NotReady(pod); got != c.want {
				t.Errorf("not ready: %q, want %q", got, c.want)
			}
		})
	}
}
