package controlplane

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/linkerd-go/linkerd-go/api/names"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/test/controlplane/kubeapi"
)

// right is one thing that a role allows: the smallest part of a rule.
type right struct {
	// role is `Role/name` or `ClusterRole/name`.
	role                  string
	verb, group, resource string
	// name is the only object it is about, or empty.
	name string
	// namespace is the only one it is about, or empty.
	namespace string
}

func (r right) String() string {
	s := r.role + " " + r.verb + " " + r.resource
	if r.group != "" {
		s += "." + r.group
	}
	if r.name != "" {
		s += "/" + r.name
	}
	return s
}

func rightsOf(role, namespace string, rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, rule := range rules {
		objects := rule.ResourceNames
		if len(objects) == 0 {
			objects = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range objects {
						all = append(all, right{role, verb, group, resource, name, namespace})
					}
				}
			}
		}
	}
	return all
}

// rights returns what the chart's roles allow, by the name of the user.
func (w *world) rights() map[string][]right {
	w.t.Helper()
	byUser := map[string][]right{}
	add := func(subjects []rbacv1.Subject, rights []right) {
		for _, s := range subjects {
			if s.Kind == "ServiceAccount" && s.Namespace == mesh {
				user := kubeapi.ServiceAccount(mesh, s.Name, "").Name
				byUser[user] = append(byUser[user], rights...)
			}
		}
	}
	rbac := w.kube.RbacV1()
	everywhere, err := rbac.ClusterRoleBindings().List(w.t.Context(), metav1.ListOptions{})
	w.check(err)
	for _, b := range everywhere.Items {
		role, err := rbac.ClusterRoles().Get(w.t.Context(), b.RoleRef.Name, metav1.GetOptions{})
		if err != nil {
			continue // of the API server's own, for something that is not here
		}
		add(b.Subjects, rightsOf("ClusterRole/"+role.Name, "", role.Rules))
	}
	here, err := rbac.RoleBindings(mesh).List(w.t.Context(), metav1.ListOptions{})
	w.check(err)
	for _, b := range here.Items {
		role, err := rbac.Roles(mesh).Get(w.t.Context(), b.RoleRef.Name, metav1.GetOptions{})
		w.check(err)
		add(b.Subjects, rightsOf("Role/"+role.Name, mesh, role.Rules))
	}
	return byUser
}

// allows reports whether a right covers a request.
func (r right) allows(e *kubeapi.Event) bool {
	resource := e.Object.Resource
	if e.Object.Subresource != "" {
		resource += "/" + e.Object.Subresource
	}
	return r.verb == e.Verb && r.group == e.Object.Group && r.resource == resource &&
		(r.name == "" || r.name == e.Object.Name) && (r.namespace == "" || r.namespace == e.Object.Namespace)
}

// TestRights: with the chart's roles, the controllers can do all that they do, and nothing else.
func TestRights(t *testing.T) {
	w := leasedWorld(t)
	w.doEverything()
	granted := w.rights()
	used := map[right]bool{}
	for _, e := range w.api.Audit() {
		if e.Forbidden() {
			t.Errorf("%s may not %s %s", e.User.Name, e.Verb, e.URI)
		}
		for _, r := range granted[e.User.Name] {
			if r.allows(&e) {
				used[r] = true
			}
		}
	}
	excused := excuses(t)
	for _, user := range slices.Sorted(maps.Keys(granted)) {
		for _, r := range granted[user] {
			// The reading verbs are given together: of one that is watched, API servers that know no streaming lists are
			// asked for a list, and a get shows no more than either.
			watch := r
			watch.verb = "watch"
			if used[r] || (r.verb == "get" || r.verb == "list") && used[watch] {
				if excused[r.String()] {
					t.Errorf("testdata/rights.txt excuses %q, which is used: remove the line", r)
				}
				delete(excused, r.String())
				continue
			}
			if !excused[r.String()] {
				t.Errorf("%s has a right that it does not use: %q. Take it away in the chart, or give a reason in testdata/rights.txt", user, r)
			}
			delete(excused, r.String())
		}
	}
	for line := range excused {
		t.Errorf("testdata/rights.txt excuses %q, which nobody has", line)
	}
}

// excuses reads the rights that may go unused, of which each has a reason.
func excuses(t *testing.T) map[string]bool {
	file, err := os.Open("testdata/rights.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, reason, ok := strings.Cut(line, ": ")
		if !ok || reason == "" {
			t.Errorf("testdata/rights.txt: %q has no reason", line)
		}
		all[r] = true
	}
	return all
}

// statuses are objects of every kind that has a status which the policy controller writes.
const statuses = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/1, accessPolicy: deny}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: web}
spec: {server: {name: web}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: []}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: web}
spec: {identities: ["*"]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: web}
spec: {networks: [{cidr: 10.0.0.0/8}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: web}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, total: {requestsPerSecond: 100}}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {name: web}
spec: {trafficPolicy: Allow}
---
apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{matches: [{path: {value: /}}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{group: "", kind: Service, name: web, port: 81}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: web}
spec: {parentRefs: [{group: "", kind: Service, name: web, port: 82}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TLSRoute
metadata: {name: web}
spec: {hostnames: [web.example], parentRefs: [{group: "", kind: Service, name: web, port: 83}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: web}
spec: {parentRefs: [{group: "", kind: Service, name: web, port: 84}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`

// doEverything has every controller do all that it ever does with the API server.
func (w *world) doEverything() {
	w.t.Helper()
	// A linked cluster, which is this one.
	kubeconfig, err := os.ReadFile(w.api.Kubeconfig(w.t, kubeapi.ServiceAccount(mesh, "linkerd-destination", "destination-b"), w.api.Address()))
	w.check(err)
	e := w.startLeased(starting{})
	w.apply(fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata:
  name: cluster-credentials-west
  namespace: linkerd
  labels: {multicluster.linkerd.io/cluster-name: west}
  annotations: {multicluster.linkerd.io/trust-domain: cluster.local, multicluster.linkerd.io/cluster-domain: cluster.local}
type: mirror.linkerd.io/remote-kubeconfig
data: {kubeconfig: %s}
`, base64.StdEncoding.EncodeToString(kubeconfig)))
	w.eventually(soon, "the linked cluster to be known", func() error {
		if n := e["destination"].metric("cluster_store_size"); n != 1 {
			return fmt.Errorf("%v clusters", n)
		}
		return nil
	})
	w.holds(soon, "a")
	w.work(soon, 1)
	// A slice that changes, and one that goes.
	w.work(soon, 2)
	w.remove("apiVersion: workload.linkerd.io/v1beta1\nkind: ExternalWorkload\nmetadata: {name: machine}")
	w.eventually(soon, "the slice of the external workload to go or to be empty", func() error {
		slices, err := w.kube.DiscoveryV1().EndpointSlices(app).List(w.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=machine"})
		if err == nil && len(slices.Items) > 0 && len(slices.Items[0].Endpoints) > 0 {
			err = fmt.Errorf("%v", slices.Items[0].Endpoints)
		}
		return err
	})
	w.apply(statuses)
	for _, o := range w.decode(statuses) {
		w.eventually(soon, "a status of "+o.GetKind(), func() error {
			now, err := w.clientOf(o).Get(w.t.Context(), o.GetName(), metav1.GetOptions{})
			if err == nil && !strings.Contains(fmt.Sprint(now.Object["status"]), "Accepted") {
				err = fmt.Errorf("status %v", now.Object["status"])
			}
			return err
		})
	}
	w.complain()
	w.certify(e["identity"])
	w.rotateAnchor()
	w.inject()
	w.keepWebhooks()
	w.beat()
	for _, c := range e {
		c.Stop(soon) // gives the leases back
	}
}

// beat sends a heartbeat to a server of the test, which is its Prometheus, too: every expression has the value 12.
func (w *world) beat() {
	w.t.Helper()
	sent := make(chan url.Values, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/query", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprint(rw, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"12"]}]}}`)
	})
	mux.HandleFunc("/version.json", func(_ http.ResponseWriter, r *http.Request) { sent <- r.URL.Query() })
	server := httptest.NewServer(mux)
	defer server.Close()
	h := w.start("heartbeat", starting{ends: true, args: []string{"-url=" + server.URL + "/version.json", "-prometheus-url=" + server.URL}})
	select {
	case <-h.Done():
	case <-time.After(soon):
		w.t.Fatal("the heartbeat does not end")
	}
	var values url.Values
	select {
	case values = <-sent:
	default:
		w.t.Fatalf("the heartbeat has sent nothing:\n%s", h.Log())
	}
	config, err := w.kube.CoreV1().ConfigMaps(mesh).Get(w.t.Context(), names.ConfigMapConfig, metav1.GetOptions{})
	w.check(err)
	profiles, err := w.dyn.Resource(schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}).
		List(w.t.Context(), metav1.ListOptions{})
	w.check(err)
	want := url.Values{
		"source": {"heartbeat"}, "arch": {runtime.GOARCH}, "version": values["version"], "k8s-version": values["k8s-version"],
		"uuid": {string(config.UID)}, "install-time": {fmt.Sprint(config.CreationTimestamp.Unix())}, "service-profile-count": {fmt.Sprint(len(profiles.Items))},
		"total-rps": {"12"}, "meshed-pods": {"12"}, "p99-handle-us": {"12"}, "proxy-injector-injections": {"12"},
		"max-mem-linkerd-proxy": {"12"}, "max-mem-destination": {"12"}, "max-mem-prometheus": {"12"},
		"p95-cpu-linkerd-proxy": {"12.000"}, "p95-cpu-destination": {"12.000"}, "p95-cpu-prometheus": {"12.000"},
	}
	if got := values.Encode(); got != want.Encode() {
		w.t.Errorf("the heartbeat says\n\t%s\nwant\n\t%s", got, want.Encode())
	}
}

// complain has the policy controller tell of a bad annotation, that comes and goes, until it was told twice.
func (w *world) complain() {
	w.t.Helper()
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: complained, annotations: {timeout.linkerd.io/request: %q}}\nspec: {ports: [{port: 80}]}\n"
	for times := range int32(2) {
		w.apply(fmt.Sprintf(service, "soon"))
		good := false
		w.eventually(soon, "an event about a bad annotation", func() error {
			list, err := w.kube.CoreV1().Events(app).List(w.t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			for _, e := range list.Items {
				if e.Reason == "InvalidConfiguration" && e.InvolvedObject.Name == "complained" && e.Count > times {
					return nil
				}
			}
			// Nobody sees when the controller knows that it was put right, so that it is put right again and again.
			if times > 0 {
				good = !good
				w.apply(fmt.Sprintf(service, map[bool]string{true: "1s", false: "soon"}[good]))
			}
			return fmt.Errorf("not among %d events", len(list.Items))
		})
	}
}

// rotateAnchor has the identity controller make a new trust anchor and publish it.
func (w *world) rotateAnchor() {
	w.t.Helper()
	body := fmt.Sprintf(`{"data":{%q:%q}}`, rotation.KeyRequestAnchor, time.Now().UTC().Format(time.RFC3339))
	_, err := w.kube.CoreV1().ConfigMaps(mesh).Patch(w.t.Context(), rotation.ConfigMap, types.MergePatchType, []byte(body), metav1.PatchOptions{})
	w.check(err)
	w.eventually(soon, "the new anchor in the trust roots", func() error {
		roots, err := w.kube.CoreV1().ConfigMaps(mesh).Get(w.t.Context(), names.ConfigMapTrustRoots, metav1.GetOptions{})
		if err == nil && strings.Count(roots.Data[names.ConfigMapTrustRootsBundle], "BEGIN CERTIFICATE") < 2 {
			err = errors.New("there is one")
		}
		return err
	})
}

// keepWebhooks has the identity controller replace the certificates of all webhooks.
func (w *world) keepWebhooks() {
	w.t.Helper()
	all := []string{"linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"}
	for _, service := range all {
		w.ageWebhook(service)
	}
	keeper := w.start("identity", starting{replica: "b", args: webhookLives}).ready()
	for _, service := range all {
		resource := "validatingwebhookconfigurations"
		if service == "linkerd-proxy-injector" {
			resource = "mutatingwebhookconfigurations"
		}
		gvr := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: resource}
		w.eventually(soon, "a new certificate of "+service+" to be trusted", func() error {
			config, err := w.dyn.Resource(gvr).Get(w.t.Context(), service+"-webhook-config", metav1.GetOptions{})
			if err != nil {
				return err
			}
			hooks, _, _ := unstructured.NestedSlice(config.Object, "webhooks")
			encoded, _, _ := unstructured.NestedString(hooks[0].(map[string]any), "clientConfig", "caBundle")
			bundle, err := base64.StdEncoding.DecodeString(encoded)
			if err == nil && strings.Count(string(bundle), "BEGIN CERTIFICATE") < 2 {
				err = errors.New("one certificate is trusted")
			}
			return err
		})
	}
	w.event("WebhookCertificate", 1)
	keeper.Stop(soon) // gives the lease back
}

// certify has the identity controller issue certificates, of which the first is told, and refuse an issuer twice, which is told in
// one event.
func (w *world) certify(identity *controller) {
	w.t.Helper()
	w.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: web}")
	audience := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"identity.l5d.io"}}}
	token, err := w.kube.CoreV1().ServiceAccounts(app).CreateToken(w.t.Context(), "web", audience, metav1.CreateOptions{})
	w.check(err)
	name := "web.app.serviceaccount.identity.linkerd.cluster.local"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.check(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	w.check(err)
	client := identitypb.NewIdentityClient(identity.dial())
	for range 15 {
		_, err := client.Certify(w.t.Context(), &identitypb.CertifyRequest{Identity: name, Token: []byte(token.Status.Token), CertificateSigningRequest: csr})
		w.check(err)
	}
	w.event("IssuedLeafCertificate", 1)
	const file = "identity/issuer/crt.pem"
	good, err := os.ReadFile(filepath.Join(w.mounts, file))
	w.check(err)
	for times := range int32(2) {
		w.mount(file, []byte("no certificate"))
		w.event("IssuerUpdateSkipped", times+1)
	}
	w.mount(file, good)
}

// event waits for an event that was seen a number of times.
func (w *world) event(reason string, times int32) {
	w.t.Helper()
	w.eventually(soon, "event "+reason, func() error {
		list, err := w.kube.CoreV1().Events("").List(w.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Reason == reason && e.Count >= times {
				return nil
			}
		}
		return fmt.Errorf("not among %d events", len(list.Items))
	})
}

// serveWebhook has the API server ask a webhook at a controller's address, which may not fail.
func (w *world) serveWebhook(kind, name string, c *controller) {
	w.t.Helper()
	gvr := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: kind}
	configuration, err := w.dyn.Resource(gvr).Get(w.t.Context(), name, metav1.GetOptions{})
	w.check(err)
	hooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	w.check(err)
	for _, h := range hooks {
		h := h.(map[string]any)
		h["clientConfig"] = map[string]any{"url": "https://" + c.webhook + "/", "caBundle": base64.StdEncoding.EncodeToString(w.cert)}
		h["failurePolicy"] = "Fail"
	}
	body, err := json.Marshal(map[string]any{"webhooks": hooks})
	w.check(err)
	_, err = w.dyn.Resource(gvr).Patch(w.t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{})
	w.check(err)
}

// inject has pods of all owners injected.
func (w *world) inject() {
	w.t.Helper()
	injector := w.start("proxy-injector", starting{}).ready()
	w.serveWebhook("mutatingwebhookconfigurations", "linkerd-proxy-injector-webhook-config", injector)
	w.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: injected, annotations: {linkerd.io/inject: enabled}}")
	const template = "{selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: x, image: x}]}}}"
	w.apply(`
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: owner, namespace: injected, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: above, uid: above}]}
spec: ` + template)
	w.apply(`
apiVersion: batch/v1
kind: Job
metadata: {name: owner, namespace: injected}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: x, image: x}]}}}`)
	owners := map[string]string{"ReplicaSet": "apps/v1", "Job": "batch/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1"}
	n := 0
	pod := func(owner string) error {
		n++
		for _, o := range w.decode(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: pod-%d
  namespace: injected
  ownerReferences: [{apiVersion: %s, kind: %s, name: owner, uid: owner}]
spec: {serviceAccountName: default, containers: [{name: x, image: x}]}
`, n, owners[owner], owner)) {
			if err := w.tryApply(o); err != nil {
				return err
			}
			now, err := w.clientOf(o).Get(w.t.Context(), o.GetName(), metav1.GetOptions{})
			if err == nil && !strings.Contains(fmt.Sprint(now.Object["spec"]), "linkerd-proxy") {
				err = errors.New("has no proxy")
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	// The API server takes a moment to learn of a webhook.
	w.eventually(soon, "a pod to be injected", func() error { return pod("ReplicaSet") })
	for owner := range owners {
		w.check(pod(owner))
		w.check(pod(owner))
	}
	w.event("Injected", 2)
}
