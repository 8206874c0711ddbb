package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/golden"
)

// objects are what a test cluster is made of, by "Kind/name".
type objects map[string]runtime.Object

func (o objects) list() []runtime.Object {
	out := make([]runtime.Object, 0, len(o))
	for _, object := range o {
		out = append(out, object)
	}
	return out
}

// get returns an object of the type a test knows it has.
func get[T runtime.Object](t *testing.T, o objects, key string) T {
	t.Helper()
	object, ok := o[key].(T)
	if !ok {
		t.Fatalf("no %s of type %T", key, object)
	}
	return object
}

// installations are what installed made so far: certificates take their time.
// The tests that use it are not parallel.
var installations = map[string]objects{}

// installed is a cluster after `linkerd install --crds` and `linkerd install`:
// the objects of both, with the pods and the states that controllers would add.
// The caller may change them.
func installed(t *testing.T, args ...string) objects {
	t.Helper()
	key := strings.Join(args, " ")
	if _, ok := installations[key]; !ok {
		installations[key] = install(t, args...)
	}
	out := objects{}
	for name, object := range installations[key] {
		out[name] = object.DeepCopyObject()
	}
	return out
}

func install(t *testing.T, args ...string) objects {
	t.Helper()
	out := objects{}
	for _, line := range [][]string{
		{"install", "--crds", "--ignore-cluster", "--set", "installGatewayAPI=true"},
		append([]string{"install", "--ignore-cluster"}, args...),
	} {
		r := commandtest.New(t, nil)
		r.World.Now = time.Now // The webhooks' certificates are made by the clock of the machine.
		if code := cli.Run(t.Context(), r.World, parts(), line); code != 0 {
			t.Fatalf("%v exits with %d: %s", line, code, r.Err)
		}
		for _, object := range commandtest.Objects(t, r.Out.Bytes()) {
			meta, ok := object.(metav1.Object)
			if !ok {
				t.Fatalf("%T has no name", object)
			}
			out[object.GetObjectKind().GroupVersionKind().Kind+"/"+meta.GetName()] = object
			if d, ok := object.(*appsv1.Deployment); ok {
				pod := podOf(d)
				out["Pod/"+pod.Name] = pod
				d.Status.AvailableReplicas = *d.Spec.Replicas
			}
		}
	}
	out["Service/kubernetes"] = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 443}}},
	}
	out["Node/node"] = &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Spec:       corev1.NodeSpec{PodCIDR: "10.42.0.0/24"},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{ContainerRuntimeVersion: "containerd://2.1.0"}},
	}
	return out
}

// podOf is the running pod of a Deployment.
func podOf(d *appsv1.Deployment) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(),
		Spec:       *d.Spec.Template.Spec.DeepCopy(),
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.42.0.7"},
	}
	pod.Name, pod.Namespace = d.Name+"-6d5f-x2x9z", d.Namespace
	for _, c := range pod.Spec.InitContainers {
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: true})
	}
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: true})
	}
	return pod
}

// permitting makes the API server of a fake cluster allow everything.
func permitting(c *cluster.Cluster) *cluster.Cluster {
	c.Kube.(*fake.Clientset).PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authorizationv1.SelfSubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}}, nil
	})
	return c
}

// run runs one command line over a cluster.
func run(t *testing.T, o objects, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	r := commandtest.New(t, permitting(commandtest.Cluster(t, o.list()...)))
	r.World.Now = time.Now
	code = cli.Run(t.Context(), r.World, parts(), args)
	return code, r.Out.String(), r.Err.String()
}

func TestCheckHealthy(t *testing.T) {
	o := installed(t)
	for name, args := range map[string][]string{
		"check.golden":       {"check", "--wait=0s", "--expected-version=dev-undefined"},
		"check-proxy.golden": {"check", "--proxy", "--wait=0s", "--expected-version=dev-undefined"},
		"check-crds.golden":  {"check", "--crds", "--wait=0s", "--expected-version=dev-undefined"},
		"check-short.golden": {"check", "--wait=0s", "-o", "short", "--expected-version=dev-undefined"},
		"check-json.golden":  {"check", "--crds", "--wait=0s", "-o", "json", "--expected-version=dev-undefined"},
	} {
		code, stdout, stderr := run(t, o, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%v exits with %d: %s%s", args, code, stdout, stderr)
		}
		golden.File(t, filepath.Join("testdata", name), stdout)
	}
	// A bare cluster with somebody else's Gateway API.
	bare := objects{"Service/kubernetes": o["Service/kubernetes"], "Node/node": o["Node/node"]}
	for key, object := range o {
		if strings.HasSuffix(key, ".gateway.networking.k8s.io") {
			bare[key] = object
		}
	}
	bare["ConfigMap/auth"] = &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "extension-apiserver-authentication"},
		Data:       map[string]string{"requestheader-client-ca-file": "ca"},
	}
	code, stdout, stderr := run(t, bare, "check", "--pre", "--expected-version=dev-undefined")
	if code != 0 || stderr != "" {
		t.Errorf("check --pre exits with %d: %s%s", code, stdout, stderr)
	}
	golden.File(t, filepath.Join("testdata", "check-pre.golden"), stdout)
	for key := range bare {
		if strings.HasSuffix(key, ".gateway.networking.k8s.io") {
			delete(bare, key)
		}
	}
	if code, stdout, _ = run(t, bare, "check", "--pre", "--expected-version=dev-undefined"); code != 0 || !strings.Contains(stdout, "√ Gateway API CRDs are installed\n    not yet: linkerd install --crds will install them\n") {
		t.Errorf("check --pre without the Gateway API exits with %d: %s", code, stdout)
	}
}

// TestCheckFinds breaks an installation in one place at a time.
func TestCheckFinds(t *testing.T) {
	cases := []struct {
		name string
		args []string
		// alter changes the cluster.
		alter func(t *testing.T, o objects)
		want  string
		// passes says that it is worth a warning only.
		passes bool
	}{
		{
			name:  "not installed",
			alter: func(_ *testing.T, o objects) { delete(o, "ConfigMap/linkerd-config") },
			want:  "× 'linkerd-config' config map exists\n    configmaps \"linkerd-config\" not found",
		},
		{
			name: "no Gateway API",
			alter: func(_ *testing.T, o objects) {
				delete(o, "CustomResourceDefinition/httproutes.gateway.networking.k8s.io")
				delete(o, "CustomResourceDefinition/grpcroutes.gateway.networking.k8s.io")
			},
			want: "× Gateway API CRDs are installed\n    The Gateway API CRDs must be installed prior to installing Linkerd. Run:\n",
		},
		{
			name:  "a CRD is missing",
			alter: func(_ *testing.T, o objects) { delete(o, "CustomResourceDefinition/servers.policy.linkerd.io") },
			want:  "× control plane CustomResourceDefinitions exist\n    missing servers.policy.linkerd.io\n",
		},
		{
			name:  "no ServiceAccount",
			alter: func(_ *testing.T, o objects) { delete(o, "ServiceAccount/linkerd-heartbeat") },
			want:  "× heartbeat ServiceAccount exist\n    missing ServiceAccounts: linkerd-heartbeat\n",
		},
		{
			name:  "no ClusterRole",
			alter: func(_ *testing.T, o objects) { delete(o, "ClusterRole/linkerd-linkerd-identity") },
			want:  "× control plane ClusterRoles exist\n    missing ClusterRoles: linkerd-linkerd-identity\n",
		},
		{
			name:  "no pod",
			alter: func(_ *testing.T, o objects) { delete(o, "Pod/linkerd-identity-6d5f-x2x9z") },
			want:  "× control plane pods are ready\n    No running pods for \"linkerd-identity\"\n",
		},
		{
			name: "container not ready",
			alter: func(t *testing.T, o objects) {
				get[*corev1.Pod](t, o, "Pod/linkerd-destination-6d5f-x2x9z").Status.ContainerStatuses[2].Ready = false
			},
			want: "× control plane pods are ready\n    pod/linkerd-destination-6d5f-x2x9z container policy is not ready\n",
		},
		{
			name: "native sidecar not ready",
			alter: func(t *testing.T, o objects) {
				get[*corev1.Pod](t, o, "Pod/linkerd-destination-6d5f-x2x9z").Status.InitContainerStatuses[1].Ready = false
			},
			want: "× control plane pods are ready\n    pod/linkerd-destination-6d5f-x2x9z container linkerd-proxy is not ready\n",
		},
		{
			name: "unschedulable",
			alter: func(t *testing.T, o objects) {
				pod := get[*corev1.Pod](t, o, "Pod/linkerd-identity-6d5f-x2x9z")
				pod.Status.Conditions = []corev1.PodCondition{{Reason: corev1.PodReasonUnschedulable, Message: "0/1 nodes are available"}}
			},
			want:   "‼ no unschedulable pods\n    linkerd-identity-6d5f-x2x9z: 0/1 nodes are available\n",
			passes: true,
		},
		{
			name: "pods outside of clusterNetworks",
			alter: func(t *testing.T, o objects) {
				get[*corev1.Pod](t, o, "Pod/linkerd-identity-6d5f-x2x9z").Status.PodIP = "198.18.0.1"
			},
			want: "do not include pod linkerd/linkerd-identity-6d5f-x2x9z (198.18.0.1)\n",
		},
		{
			name: "nodes outside of clusterNetworks",
			alter: func(t *testing.T, o objects) {
				get[*corev1.Node](t, o, "Node/node").Spec.PodCIDR = "198.18.0.0/24"
			},
			want: `node has podCIDR(s) [198.18.0.0/24] which are not contained in the Linkerd clusterNetworks.` + "\n\t" +
				`Try installing linkerd via --set clusterNetworks="10.0.0.0/8\,100.64.0.0/10\,172.16.0.0/12\,192.168.0.0/16\,fd00::/8\,198.18.0.0/24"`,
		},
		{
			name: "docker",
			alter: func(t *testing.T, o objects) {
				get[*corev1.Node](t, o, "Node/node").Status.NodeInfo.ContainerRuntimeVersion = "docker://20.10"
			},
			want: "× proxy-init container runs as root user if docker container runtime is used\n    there are nodes using the docker container runtime",
		},
		{
			name: "foreign trust anchors",
			alter: func(t *testing.T, o objects) {
				other := get[*corev1.ConfigMap](t, install(t), "ConfigMap/linkerd-identity-trust-roots")
				o["ConfigMap/linkerd-identity-trust-roots"] = other
			},
			want: "× issuer cert is issued by the trust anchor\n    x509: certificate signed by unknown authority",
		},
		{
			name: "issuer without key",
			alter: func(t *testing.T, o objects) {
				delete(get[*corev1.Secret](t, o, "Secret/linkerd-identity-issuer").Data, "key.pem")
			},
			want: "× certificate config is valid\n    key key.pem containing the issuer key needs to exist in secret linkerd-identity-issuer if --identity-external-issuer=false\n",
		},
		{
			name: "webhook with another certificate",
			alter: func(t *testing.T, o objects) {
				o["Secret/linkerd-proxy-injector-k8s-tls"] = get[*corev1.Secret](t, install(t), "Secret/linkerd-proxy-injector-k8s-tls")
			},
			want: "× proxy-injector webhook has valid cert\n    cert is not issued by the trust anchor: x509: ",
		},
		{
			name: "webhook certificate that is late",
			alter: func(t *testing.T, o objects) {
				age(t, o, "linkerd-proxy-injector", 300*24*time.Hour, 65*24*time.Hour)
			},
			want:   "‼ webhook certificates are replaced in time\n    Webhook certificates that are late:\n\t* proxy-injector: should have been replaced on ",
			passes: true,
		},
		{
			name:   "another version",
			args:   []string{"--cli-version-override=edge-26.3.1"},
			alter:  func(*testing.T, objects) {},
			want:   "‼ control plane and cli versions match\n    control plane running dev-undefined but cli running edge-26.3.1\n",
			passes: true,
		},
		{
			name: "extension in two namespaces",
			alter: func(_ *testing.T, o objects) {
				for _, name := range []string{"a", "b"} {
					o["Namespace/"+name] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"linkerd.io/extension": "own"}}}
				}
			},
			want: "‼ namespace configuration for extensions\n    some extensions have invalid configuration\n" +
				"\t* label \"linkerd.io/extension=own\" is present on more than one namespace:\n\t\t* a\n\t\t* b\n",
			passes: true,
		},
		{
			name: "extension without command",
			alter: func(_ *testing.T, o objects) {
				o["Namespace/linkerd-own"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-own", Labels: map[string]string{"linkerd.io/extension": "own"}}}
			},
			want: "linkerd-own\n-----------\n‼ Linkerd extension command linkerd-own exists\n" +
				"    exec: \"linkerd-own\": executable file not found in $PATH\n    see https://linkerd.io/2/checks/#extensions for hints\n",
			passes: true,
		},
		{
			name: "no data plane in the namespace",
			args: []string{"--proxy", "--namespace=default"},
			alter: func(_ *testing.T, o objects) {
				o["Namespace/default"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
			},
			want: "× data plane proxies are ready\n    no \"linkerd-proxy\" containers found in the \"default\" namespace\n",
		},
		{
			name: "pods with old anchors, labels for annotations",
			args: []string{"--proxy"},
			alter: func(t *testing.T, o objects) {
				pod := get[*corev1.Pod](t, o, "Pod/linkerd-proxy-injector-6d5f-x2x9z").DeepCopy()
				pod.Name, pod.Namespace = "web", "default"
				pod.Labels["config.linkerd.io/skip-inbound-ports"] = "80"
				for i := range pod.Spec.InitContainers {
					env := pod.Spec.InitContainers[i].Env
					for j := range env {
						if env[j].Name == "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS" {
							env[j] = corev1.EnvVar{Name: env[j].Name, Value: "old"}
						}
					}
				}
				o["Pod/web"] = pod
			},
			want: "‼ data plane pod labels are configured correctly\n    Some labels on data plane pods should be annotations:\n" +
				"\t* default/web\n\t\tconfig.linkerd.io/skip-inbound-ports\n",
			passes: true,
		},
		{
			name: "opaque on the Service only",
			args: []string{"--proxy"},
			alter: func(t *testing.T, o objects) {
				pod := get[*corev1.Pod](t, o, "Pod/linkerd-proxy-injector-6d5f-x2x9z")
				delete(pod.Annotations, "config.linkerd.io/opaque-ports")
				o["EndpointSlice/injector"] = commandtest.Slice("linkerd", "linkerd-proxy-injector", pod.Name)
			},
			want:   "\t* service linkerd-proxy-injector expects target port 8443 to be opaque; add it to pod linkerd-proxy-injector-6d5f-x2x9z config.linkerd.io/opaque-ports annotation\n",
			passes: true,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := installed(t)
			c.alter(t, o)
			args := append([]string{"check", "--wait=0s", "--expected-version=dev-undefined"}, c.args...)
			code, stdout, stderr := run(t, o, args...)
			if !strings.Contains(stdout, c.want) {
				t.Errorf("no %q in\n%s%s", c.want, stdout, stderr)
			}
			if passed := code == 0; passed != c.passes {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

func TestInstallRefuses(t *testing.T) {
	o := installed(t)
	code, stdout, stderr := run(t, o, "install")
	want := "Can't install the Linkerd control plane in the 'linkerd' namespace. Reason: ConfigMap/linkerd-config already exists.\n" +
		"Run the command `linkerd upgrade`, if you are looking to upgrade Linkerd.\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("install over an installation: %d %q %q", code, stdout, stderr)
	}
	delete(o, "ConfigMap/linkerd-config")
	delete(o, "CustomResourceDefinition/servers.policy.linkerd.io")
	code, stdout, stderr = run(t, o, "install")
	if code != 1 || stdout != "" || stderr != "Linkerd CRDs must be installed first. Run linkerd install with the --crds flag.\n" {
		t.Errorf("install without CRDs: %d %q %q", code, stdout, stderr)
	}
	if code, stdout, stderr = run(t, objects{}, "install", "--crds"); code != 0 || !strings.Contains(stdout, "name: httproutes.gateway.networking.k8s.io") {
		t.Errorf("install --crds on a bare cluster: %d %q", code, stderr)
	}
	code, stdout, stderr = run(t, objects{}, "install", "--crds", "--set", "installGatewayAPI=false")
	if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "The Gateway API CRDs must be installed prior to installing Linkerd. Run:\n\nkubectl apply --server-side -f ") {
		t.Errorf("install --crds without the Gateway API: %d %q %q", code, stdout, stderr)
	}
	external := objects{}
	for key, object := range installed(t) {
		if strings.HasSuffix(key, ".gateway.networking.k8s.io") {
			object.(metav1.Object).SetAnnotations(nil)
			external[key] = object
		}
	}
	if code, _, stderr = run(t, external, "install", "--crds"); code != 0 {
		t.Errorf("install --crds beside another's Gateway API: %d %q", code, stderr)
	}
	code, stdout, stderr = run(t, external, "install", "--crds", "--set", "installGatewayAPI=true")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "already installed by an external source") {
		t.Errorf("install --crds over another's Gateway API: %d %q", code, stderr)
	}
}

// TestNoRights runs commands as a user who may do nothing: each names what it
// was not allowed to do, and prints no manifest.
func TestNoRights(t *testing.T) {
	for line, want := range map[string]string{
		"install":                              `failed to get CustomResourceDefinition authorizationpolicies.policy.linkerd.io: `,
		"install --crds":                       `failed to get ConfigMap linkerd/linkerd-config: `,
		"upgrade":                              `failed to get CustomResourceDefinition authorizationpolicies.policy.linkerd.io: `,
		"uninstall":                            `failed to list namespaces: `,
		"uninstall --force":                    `failed to list clusterroles: `,
		"prune":                                `failed to get Secret linkerd/linkerd-config-overrides: `,
		"viz stat deploy":                      `StatSummary API error: failed to list deployments: `,
		"viz edges deploy":                     `Edges API error: failed to list deployments: `,
		"identity web":                         `pods is forbidden`,
		"diagnostics endpoints a:80":           `Destination API error: `,
		"diagnostics proxy-metrics deploy/web": `failed to list deployments: `,
		"authz deploy/web":                     `failed to list deployments: `,
		"profile --template web":               `configmaps "linkerd-config" is forbidden`,
	} {
		c := commandtest.Cluster(t)
		forbid := func(action clienttesting.Action) (bool, runtime.Object, error) {
			gr := action.GetResource().GroupResource()
			name := ""
			if get, ok := action.(clienttesting.GetAction); ok {
				name = get.GetName()
			}
			return true, nil, apierrors.NewForbidden(gr, name, errors.New("not allowed"))
		}
		c.Kube.(*fake.Clientset).PrependReactor("*", "*", forbid)
		c.Dynamic.(*dynamicfake.FakeDynamicClient).PrependReactor("*", "*", forbid)
		// The version of the API server is everybody's to know.
		c.Kube.(*fake.Clientset).PrependReactor("get", "version", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, nil })
		r := commandtest.New(t, c)
		code := cli.Run(t.Context(), r.World, parts(), strings.Fields(line))
		if code == 0 || r.Out.Len() > 0 || !strings.Contains(r.Err.String(), want) || !strings.Contains(r.Err.String(), "forbidden") {
			t.Errorf("%s exits with %d, prints %q and says\n%s", line, code, r.Out, r.Err)
		}
	}
}

// TestUpgradeKeeps upgrades an installation with settings of every kind: what
// was set stays, credentials included, and what is given now is laid over.
func TestUpgradeKeeps(t *testing.T) {
	o := installed(t, "--set", "tolerations[0].operator=Exists,commonLabels.team=mesh,proxy.logLevel=debug", "--controller-replicas=3")
	before := get[*corev1.ConfigMap](t, o, "ConfigMap/linkerd-config").Data["values"]
	code, stdout, stderr := run(t, o, "upgrade", "--set", "proxy.logLevel=info")
	if code != 0 || stderr != "" {
		t.Fatalf("upgrade exits with %d: %s", code, stderr)
	}
	var after string
	for _, object := range commandtest.Objects(t, []byte(stdout)) {
		if cm, ok := object.(*corev1.ConfigMap); ok && cm.Name == "linkerd-config" {
			after = cm.Data["values"]
		}
	}
	var old, now map[string]any
	for text, into := range map[string]*map[string]any{before: &old, after: &now} {
		if err := yaml.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	old["proxy"].(map[string]any)["logLevel"] = "info"
	a, _ := yaml.Marshal(old)
	b, _ := yaml.Marshal(now)
	if string(a) != string(b) {
		t.Errorf("values before:\n%s\nand after:\n%s", a, b)
	}
	code, stdout, stderr = run(t, o, "prune")
	if code != 0 || stdout != "" || stderr != "" {
		t.Errorf("prune right after an installation: %d %q %q", code, stdout, stderr)
	}
	o["Service/old"] = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "linkerd-old", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}}}
	code, stdout, _ = run(t, o, "prune")
	if want := "apiVersion: v1\nkind: Service\nmetadata:\n  name: linkerd-old\n  namespace: linkerd\n---\n"; code != 0 || stdout != want {
		t.Errorf("prune: %d %q", code, stdout)
	}
	delete(o, "Secret/linkerd-config-overrides")
	code, stdout, stderr = run(t, o, "upgrade")
	if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "Could not find the linkerd-config-overrides secret.\n") {
		t.Errorf("upgrade of a Helm installation: %d %q %q", code, stdout, stderr)
	}
}

func TestUninstall(t *testing.T) {
	o := installed(t)
	code, stdout, stderr := run(t, o, "uninstall")
	if code != 0 || stderr != "" {
		t.Fatalf("uninstall exits with %d: %s", code, stderr)
	}
	golden.File(t, filepath.Join("testdata", "uninstall.golden"), stdout)

	o["Pod/web"] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}}}
	// A Job that is done does not hold anything up.
	o["Pod/done"] = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "done", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}},
		Status:     corev1.PodStatus{Phase: corev1.PodSucceeded},
	}
	o["Namespace/viz"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-viz", Labels: map[string]string{"linkerd.io/extension": "viz"}}}
	code, stdout, stderr = run(t, o, "uninstall")
	want := "Please uninstall the following extensions before uninstalling the control-plane:\n\t* viz\n" +
		"Please uninject the following pods before uninstalling the control-plane:\n\t* shop/web\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("uninstall with pods left: %d %q %q", code, stdout, stderr)
	}
	if code, stdout, _ = run(t, o, "uninstall", "--force"); code != 0 || stdout == "" {
		t.Errorf("uninstall --force: %d %q", code, stdout)
	}
	code, stdout, stderr = run(t, objects{}, "uninstall")
	if code != 0 || stdout != "" || stderr != "No resources found to uninstall\n" {
		t.Errorf("uninstall of nothing: %d %q %q", code, stdout, stderr)
	}
}

// TestOlder runs commands of releases long gone.
func TestOlder(t *testing.T) {
	o := installed(t, "--controller-replicas=3")
	code, stdout, stderr := run(t, o, "get", "pods", "-n", "linkerd")
	if want := "linkerd/linkerd-destination-6d5f-x2x9z\nlinkerd/linkerd-identity-6d5f-x2x9z\nlinkerd/linkerd-proxy-injector-6d5f-x2x9z\n"; code != 0 || stdout != want {
		t.Errorf("get pods: %d %q %q", code, stdout, stderr)
	}
	if code, stdout, stderr = run(t, o, "get", "po"); code != 0 || stdout != "" || stderr != "No resources found.\n" {
		t.Errorf("get pods of a namespace without: %d %q %q", code, stdout, stderr)
	}
	if code, _, stderr = run(t, o, "get", "svc"); code != 1 || !strings.HasPrefix(stderr, "Error: invalid resource type svc, valid types: pod\n") {
		t.Errorf("get svc: %d %q", code, stderr)
	}
	// What repair prints is as good as what install stored.
	stored := get[*corev1.Secret](t, o, "Secret/linkerd-config-overrides").DeepCopy()
	delete(o, "Secret/linkerd-config-overrides")
	code, stdout, stderr = run(t, o, "repair")
	if code != 0 {
		t.Fatalf("repair: %d %s", code, stderr)
	}
	repaired := commandtest.Objects(t, []byte(stdout))[0].(*corev1.Secret)
	var want, got map[string]any
	if err := yaml.Unmarshal(stored.Data["linkerd-config-overrides"], &want); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(repaired.StringData["linkerd-config-overrides"]), &got); err != nil {
		t.Fatal(err)
	}
	// The configuration spells the trust domain out.
	delete(got, "identityTrustDomain")
	a, _ := yaml.Marshal(want)
	b, _ := yaml.Marshal(got)
	if strings.Join(strings.Fields(string(a)), " ") != strings.Join(strings.Fields(string(b)), " ") {
		t.Errorf("repaired:\n%s\nwant\n%s", b, a)
	}
	if code, _, stderr = run(t, o, "alpha", "stat", "--x"); code != 0 || stderr == "" {
		t.Errorf("alpha: %d %q", code, stderr)
	}
}
