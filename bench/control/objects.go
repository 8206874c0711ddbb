package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/charts"
)

const (
	meshNamespace = "linkerd"
	clusterDomain = "cluster.local"
	opaquePorts   = "25,587,3306,4444,5432,6379,9300,11211"
	// EndpointsPerService is how many each has.
	EndpointsPerService = 20
	// namespaceCount and nodeCount are what services and pods are spread over.
	namespaceCount, nodeCount = 20, 100
	// writers is how many objects are made at once.
	writers = 16

	servicePort, podPort = 80, 8080
)

// partOf is on every pod, so that policy can select all.
const partOf = "app.kubernetes.io/part-of"

// service is a Service with its pods. What a simulated proxy is told of it is
// waited for through the topics.
type service struct {
	number          int
	namespace, name string
	clusterIP       netip.Addr
	pods            []string

	endpoints, policy topic

	mu sync.Mutex // guards what follows
	// slice and service are as the API server has them.
	slice *discoveryv1.EndpointSlice
	api   *corev1.Service
}

// authority is the name that proxies ask for.
func (s *service) authority() string {
	return fmt.Sprintf("%s.%s.svc.%s:%d", s.name, s.namespace, clusterDomain, servicePort)
}

// ready are the addresses that a client shall see.
func (s *service) ready() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for _, e := range s.slice.Endpoints {
		if *e.Conditions.Ready {
			addrs = append(addrs, netip.AddrPortFrom(netip.MustParseAddr(e.Addresses[0]), podPort))
		}
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	return addrs
}

// namespaceOf is where the service of a number is.
func namespaceOf(number int) string { return fmt.Sprintf("shop-%02d", number%namespaceCount) }

// podAddr is the address of a pod of a service: one of 10.32.0.0/11, where
// devcluster has nothing.
func podAddr(service, pod int) netip.Addr {
	n := service*EndpointsPerService + pod + 1
	return netip.AddrFrom4([4]byte{10, byte(32 + n>>16), byte(n >> 8), byte(n)})
}

// nodeOf and zoneOf are where a pod runs.
func nodeOf(service, pod int) int { return (service*7 + pod*13) % nodeCount }
func nodeName(n int) string       { return fmt.Sprintf("node-%03d", n) }
func zoneOf(node int) string      { return "zone-" + string(rune('a'+node%3)) }

// each calls f with the numbers from (included) to to (excluded), several at a
// time, until one fails.
func each(from, to int, f func(int) error) error {
	var next atomic.Int64
	next.Store(int64(from))
	var failed atomic.Bool
	errs := make([]error, writers)
	var running sync.WaitGroup
	for w := range writers {
		running.Go(func() {
			for !failed.Load() {
				n := int(next.Add(1) - 1)
				if n >= to {
					return
				}
				if err := f(n); err != nil {
					failed.Store(true)
					errs[w] = err
				}
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

var (
	customResources = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	servers         = schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}
	policies        = schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "authorizationpolicies"}
	authentications = schema.GroupVersionResource{Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "meshtlsauthentications"}
)

// ground makes what does not grow: the mesh's resource definitions, namespaces,
// nodes, and in each namespace a Server for all pods, with an
// AuthorizationPolicy that refers to one MeshTLSAuthentication for all
// namespaces.
func (l *Lab) ground(ctx context.Context) error {
	if err := l.definitions(ctx); err != nil {
		return err
	}
	typed, dyn := l.clients.Kube, l.clients.Dynamic
	namespaces := []string{meshNamespace}
	for i := range namespaceCount {
		namespaces = append(namespaces, namespaceOf(i))
	}
	for _, ns := range namespaces {
		_, err := typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("namespace %s: %w", ns, err)
		}
		// The controller manager would make it.
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		if _, err := typed.CoreV1().ServiceAccounts(ns).Create(ctx, account, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("ServiceAccount of %s: %w", ns, err)
		}
	}
	// The policy controller's lease belongs to it.
	labels := map[string]string{"linkerd.io/control-plane-component": "destination"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: names.DeploymentDestination, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "destination", Image: "destination"}}}},
		},
	}
	if _, err := typed.AppsV1().Deployments(meshNamespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("Deployment of the controllers: %w", err)
	}
	err := each(0, nodeCount, func(n int) error {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(n), Labels: map[string]string{
			corev1.LabelHostname: nodeName(n), corev1.LabelTopologyZone: zoneOf(n), corev1.LabelTopologyRegion: "region",
		}}}
		_, err := typed.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	if err := l.Identity(ctx, "client-0"); err != nil {
		return err
	}
	for _, ns := range namespaces[1:] {
		server := object("policy.linkerd.io/v1beta3", "Server", ns, "all", map[string]any{
			"podSelector": map[string]any{"matchLabels": map[string]any{partOf: "shop"}}, "port": "http", "proxyProtocol": "HTTP/1",
		})
		if _, err := dyn.Resource(servers).Namespace(ns).Create(ctx, server, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("Server of %s: %w", ns, err)
		}
		policy := object("policy.linkerd.io/v1alpha1", "AuthorizationPolicy", ns, "clients", map[string]any{
			"targetRef": map[string]any{"group": "policy.linkerd.io", "kind": "Server", "name": "all"},
			"requiredAuthenticationRefs": []any{map[string]any{
				"group": "policy.linkerd.io", "kind": "MeshTLSAuthentication", "name": authentication, "namespace": meshNamespace,
			}},
		})
		if _, err := dyn.Resource(policies).Namespace(ns).Create(ctx, policy, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("AuthorizationPolicy of %s: %w", ns, err)
		}
	}
	return nil
}

// definitions installs the custom resources, those of the Gateway API too, and
// waits until the API server serves them.
func (l *Lab) definitions(ctx context.Context) error {
	chart, err := charts.Load(charts.CRDs)
	if err != nil {
		return err
	}
	manifests, err := chart.Render(charts.Release{Name: charts.CRDs, Namespace: meshNamespace}, map[string]any{"installGatewayAPI": true})
	if err != nil {
		return err
	}
	client := l.clients.Dynamic.Resource(customResources)
	var made []string
	for _, m := range manifests {
		for _, text := range documents(m.Content) {
			var o unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
				return fmt.Errorf("%s: %w", m.Path, err)
			}
			if len(o.Object) == 0 {
				continue
			}
			if _, err := client.Create(ctx, &o, metav1.CreateOptions{}); err != nil {
				return fmt.Errorf("%s: %w", m.Path, err)
			}
			made = append(made, o.GetName())
		}
	}
	for _, name := range made {
		for {
			o, err := client.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if established(o) {
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func established(o *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	return slices.ContainsFunc(conditions, func(c any) bool {
		m, _ := c.(map[string]any)
		return m["type"] == "Established" && m["status"] == "True"
	})
}

// authentication is the name of the MeshTLSAuthentication for all namespaces.
const authentication = "clients"

func object(version, kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"namespace": namespace, "name": name}, "spec": spec,
	}}
}

// Identity makes an account the only one that may call all servers.
func (l *Lab) Identity(ctx context.Context, account string) error {
	o := object("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication", meshNamespace, authentication, map[string]any{
		"identities": []any{account + ".shop.serviceaccount.identity.linkerd." + clusterDomain},
	})
	_, err := l.clients.Dynamic.Resource(authentications).Namespace(meshNamespace).Apply(ctx, authentication, o, metav1.ApplyOptions{FieldManager: "bench", Force: true})
	if err != nil {
		return fmt.Errorf("MeshTLSAuthentication: %w", err)
	}
	return nil
}

// Grow makes services until there are n. It may be called again.
func (l *Lab) Grow(ctx context.Context, n int) error {
	from := len(l.services)
	for i := from; i < n; i++ {
		l.services = append(l.services, &service{number: i, namespace: namespaceOf(i), name: fmt.Sprintf("web-%03d", i)})
	}
	return each(from, n, func(i int) error {
		if err := l.create(ctx, l.services[i]); err != nil {
			return fmt.Errorf("service %s/%s: %w", l.services[i].namespace, l.services[i].name, err)
		}
		return nil
	})
}

// create makes a Service as its controllers would: a ReplicaSet, its pods, which
// run, and a slice with their addresses.
func (l *Lab) create(ctx context.Context, s *service) error {
	typed := l.clients.Kube
	labels := map[string]string{"app": s.name, partOf: "shop"}
	var err error
	s.api, err = typed.CoreV1().Services(s.namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.name, Labels: labels},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": s.name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: servicePort, TargetPort: intstr.FromString("http")}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	s.clusterIP = netip.MustParseAddr(s.api.Spec.ClusterIP)
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: s.name + "-6d4cf56db6", Labels: labels, OwnerReferences: []metav1.OwnerReference{owner("Deployment", s.name, "d")}},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}},
		},
	}
	if _, err := typed.AppsV1().ReplicaSets(s.namespace).Create(ctx, set, metav1.CreateOptions{}); err != nil {
		return err
	}
	ready, port, protocol, portName := true, int32(podPort), corev1.ProtocolTCP, "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: s.name + "-x7k2p", Labels: map[string]string{
			discoveryv1.LabelServiceName: s.name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io", "app": s.name, partOf: "shop",
		}, OwnerReferences: []metav1.OwnerReference{owner("Service", s.name, string(s.api.UID))}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &protocol}},
	}
	for i := range EndpointsPerService {
		pod, err := typed.CoreV1().Pods(s.namespace).Create(ctx, podOf(s, i), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		s.pods = append(s.pods, pod.Name)
		pod.Status = statusOf(s, i)
		if _, err := typed.CoreV1().Pods(s.namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return err
		}
		node, zone := pod.Spec.NodeName, zoneOf(nodeOf(s.number, i))
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{podAddr(s.number, i).String()}, NodeName: &node, Zone: &zone,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: new(bool)},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: s.namespace, Name: pod.Name, UID: pod.UID},
		})
	}
	s.slice, err = typed.DiscoveryV1().EndpointSlices(s.namespace).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

func owner(kind, name, uid string) metav1.OwnerReference {
	yes := true
	version := "apps/v1"
	if kind == "Service" {
		version = "v1"
	}
	return metav1.OwnerReference{APIVersion: version, Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes, BlockOwnerDeletion: &yes}
}

// podOf is a pod as the injector leaves it: about as large, with the parts that
// the controllers read.
func podOf(s *service, i int) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	requests := corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
	}}
	probe := func(path string, port intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: port}}, InitialDelaySeconds: 2}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-6d4cf56db6-%c%04x", s.name, 'b'+rune(i), s.number*31+i),
			Labels: map[string]string{
				"app": s.name, partOf: "shop", "pod-template-hash": "6d4cf56db6",
				names.LabelControlPlaneNS: meshNamespace, "linkerd.io/proxy-deployment": s.name, "linkerd.io/workload-ns": s.namespace,
			},
			Annotations: map[string]string{
				"linkerd.io/created-by": "linkerd/proxy-injector dev", "linkerd.io/inject": "enabled", "linkerd.io/proxy-version": "dev",
				"linkerd.io/trust-root-sha256": "3f0e1c1dfe0d3a6b5b6ee63ed8e2fb5f2c2fb1f2b7ba6a3c1f0b2b2a4dd5e6a7",
				"viz.linkerd.io/tap-enabled":   "true", "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z",
			},
			OwnerReferences: []metav1.OwnerReference{owner("ReplicaSet", s.name+"-6d4cf56db6", "r")},
		},
		Spec: corev1.PodSpec{
			NodeName: nodeName(nodeOf(s.number, i)),
			InitContainers: []corev1.Container{
				{Name: "linkerd-init", Image: "registry.example/linkerd-go/proxy:dev", Args: []string{
					"--firewall-bin-path", "iptables-nft", "--ipv6=false", "--incoming-proxy-port", "4143", "--outgoing-proxy-port", "4140",
					"--proxy-uid", "2102", "--inbound-ports-to-ignore", "4190,4191,4567,4568", "--outbound-ports-to-ignore", "4567,4568",
				}, Resources: requests},
				{
					Name: names.ContainerProxy, Image: "registry.example/linkerd-go/proxy:dev", RestartPolicy: &always, Env: proxyEnv(s),
					Ports:         []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: 4143}, {Name: "linkerd-admin", ContainerPort: 4191}},
					LivenessProbe: probe("/live", intstr.FromInt32(4191)), ReadinessProbe: probe("/ready", intstr.FromInt32(4191)), Resources: requests,
				},
			},
			Containers: []corev1.Container{{
				Name: "app", Image: "registry.example/shop/" + s.name + ":1.2.3", Resources: requests,
				Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: podPort}},
				Env:            []corev1.EnvVar{{Name: "ADDR", Value: ":8080"}, {Name: "DATABASE", Value: "postgres://db.shop/web"}, {Name: "LOG", Value: "info"}},
				ReadinessProbe: probe("/healthz", intstr.FromString("http")),
			}},
		},
	}
}

// proxyEnv is the environment of an injected proxy. The controllers read three
// of its addresses.
func proxyEnv(s *service) []corev1.EnvVar {
	variables := [][2]string{
		{"INBOUND_LISTEN_ADDR", "0.0.0.0:4143"}, {"ADMIN_LISTEN_ADDR", "0.0.0.0:4191"}, {"CONTROL_LISTEN_ADDR", "0.0.0.0:4190"},
		{"OUTBOUND_LISTEN_ADDRS", "127.0.0.1:4140"}, {"LOG", "warn,linkerd=info"}, {"LOG_FORMAT", "plain"}, {"CORES", "1"},
		{"DESTINATION_SVC_ADDR", "linkerd-dst-headless.linkerd.svc.cluster.local.:8086"}, {"POLICY_SVC_ADDR", "linkerd-policy.linkerd.svc.cluster.local.:8090"},
		{"DESTINATION_PROFILE_NETWORKS", "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"},
		{"POLICY_CLUSTER_NETWORKS", "10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"},
		{"POLICY_WORKLOAD", `{"ns":"$(_pod_ns)", "pod":"$(_pod_name)"}`}, {"INBOUND_DEFAULT_POLICY", "all-unauthenticated"},
		{"INBOUND_PORTS", "8080"}, {"INBOUND_IPS", "$(_pod_ips)"}, {"DESTINATION_PROFILE_SUFFIXES", "svc.cluster.local."},
		{"INBOUND_CONNECT_TIMEOUT", "100ms"}, {"OUTBOUND_CONNECT_TIMEOUT", "1000ms"}, {"OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "5s"},
		{"INBOUND_DISCOVERY_IDLE_TIMEOUT", "90s"}, {"INBOUND_ACCEPT_KEEPALIVE", "10000ms"}, {"OUTBOUND_CONNECT_KEEPALIVE", "10000ms"},
		{"INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION", opaquePorts}, {"IDENTITY_DIR", "/var/run/linkerd/identity/end-entity"},
		{"DESTINATION_CONTEXT", `{"ns":"$(_pod_ns)", "nodeName":"$(_pod_nodeName)", "pod":"$(_pod_name)"}`},
		{"IDENTITY_SVC_ADDR", "linkerd-identity-headless.linkerd.svc.cluster.local.:8080"},
		{"IDENTITY_LOCAL_NAME", "default." + s.namespace + ".serviceaccount.identity.linkerd.cluster.local"},
		{"IDENTITY_SVC_NAME", "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"},
		{"DESTINATION_SVC_NAME", "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"},
		{"POLICY_SVC_NAME", "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local"},
	}
	var env []corev1.EnvVar
	for _, v := range variables {
		env = append(env, corev1.EnvVar{Name: "LINKERD2_PROXY_" + v[0], Value: v[1]})
	}
	return env
}

func statusOf(s *service, i int) corev1.PodStatus {
	now := metav1.Now()
	addr, host := podAddr(s.number, i).String(), fmt.Sprintf("172.31.0.%d", nodeOf(s.number, i)+1)
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: addr, PodIPs: []corev1.PodIP{{IP: addr}}, HostIP: host, HostIPs: []corev1.HostIP{{IP: host}}, StartTime: &now,
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	running := func(name string) corev1.ContainerStatus {
		yes := true
		return corev1.ContainerStatus{
			Name: name, Ready: true, Started: &yes, Image: "registry.example/" + name + ":1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
			ImageID:     "registry.example/" + name + "@sha256:7173b809ca12ec5dee4506cd86be934c4596dd234ee82c0662eac04a8c2c71dc",
			ContainerID: "containerd://0f5a7d7c6b1f4a3c8e9d0b2a1c3e5f7a9b8d6c4e2f0a1b3c5d7e9f1a3b5c7d9e",
		}
	}
	status.InitContainerStatuses = []corev1.ContainerStatus{running("linkerd-init"), running(names.ContainerProxy)}
	status.ContainerStatuses = []corev1.ContainerStatus{running("app")}
	return status
}

// SetReady makes an endpoint of a service ready or not, and returns when the API
// server had taken it.
func (l *Lab) SetReady(ctx context.Context, number, endpoint int, ready bool) (time.Time, error) {
	s := l.services[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	slice := s.slice.DeepCopy()
	slice.Endpoints[endpoint].Conditions.Ready = &ready
	slice.Endpoints[endpoint].Conditions.Serving = &ready
	updated, err := l.clients.Kube.DiscoveryV1().EndpointSlices(s.namespace).Update(ctx, slice, metav1.UpdateOptions{})
	at := time.Now()
	if err != nil {
		return at, fmt.Errorf("EndpointSlice of %s/%s: %w", s.namespace, s.name, err)
	}
	s.slice = updated
	return at, nil
}

// SetTimeout gives a service's requests a limit, and returns when the API server
// had taken it.
func (l *Lab) SetTimeout(ctx context.Context, number int, limit time.Duration) (time.Time, error) {
	s := l.services[number]
	s.mu.Lock()
	defer s.mu.Unlock()
	api := s.api.DeepCopy()
	// One number and one unit, unlike what Duration.String makes of a minute.
	api.Annotations = map[string]string{names.AnnotationTimeoutRequest: fmt.Sprintf("%dms", limit.Milliseconds())}
	updated, err := l.clients.Kube.CoreV1().Services(s.namespace).Update(ctx, api, metav1.UpdateOptions{})
	at := time.Now()
	if err != nil {
		return at, fmt.Errorf("Service %s/%s: %w", s.namespace, s.name, err)
	}
	s.api = updated
	return at, nil
}

// Touch changes something of every slice that no proxy is told.
func (l *Lab) Touch(ctx context.Context, value string) error {
	return each(0, len(l.services), func(i int) error {
		s := l.services[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		slice := s.slice.DeepCopy()
		slice.Annotations = map[string]string{"bench/touched": value}
		updated, err := l.clients.Kube.DiscoveryV1().EndpointSlices(s.namespace).Update(ctx, slice, metav1.UpdateOptions{})
		if err == nil {
			s.slice = updated
		}
		return err
	})
}

// Shrink removes all services, with their pods.
func (l *Lab) Shrink(ctx context.Context) error {
	typed := l.clients.Kube
	now := metav1.NewDeleteOptions(0)
	errs := make([]error, namespaceCount)
	var running sync.WaitGroup
	for i := range namespaceCount {
		running.Go(func() {
			ns, all := namespaceOf(i), metav1.ListOptions{LabelSelector: partOf + "=shop"}
			errs[i] = errors.Join(
				typed.DiscoveryV1().EndpointSlices(ns).DeleteCollection(ctx, *now, all),
				typed.CoreV1().Pods(ns).DeleteCollection(ctx, *now, all),
				typed.AppsV1().ReplicaSets(ns).DeleteCollection(ctx, *now, all),
			)
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("deleting what services consist of: %w", err)
	}
	err := each(0, len(l.services), func(i int) error {
		err := typed.CoreV1().Services(l.services[i].namespace).Delete(ctx, l.services[i].name, *now)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting services: %w", err)
	}
	l.services = nil
	return nil
}
