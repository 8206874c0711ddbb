package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	admissionv1 "k8s.io/api/admission/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	explainpb "github.com/linkerd-go/linkerd-go/api/proto/explain"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

func TestPolicyFlags(t *testing.T) {
	var o policyOptions
	if err := o.flags().Parse([]string{
		"--admin-addr=[::]:9990", "--control-plane-namespace=mesh", "--grpc-addr=[::]:8090", "--server-addr=[::]:9443",
		"--server-tls-key=/var/run/linkerd/tls/tls.key", "--server-tls-certs=/var/run/linkerd/tls/tls.crt",
		"--cluster-networks=10.0.0.0/8,fd00::/8", "--identity-domain=id.example", "--cluster-domain=cluster.example",
		"--default-policy=cluster-authenticated", "--log-level=info", "--log-format=plain", "--default-opaque-ports=25,3306",
		"--global-egress-network-namespace=egress", "--probe-networks=0.0.0.0/0,::/0",
	}); err != nil {
		t.Fatal(err)
	}
	o.validate(slog.New(slog.DiscardHandler))
	c := o.config
	if c.ControllerNamespace != "mesh" || c.TrustDomain != "id.example" || c.ClusterDomain != "cluster.example" ||
		c.DefaultPolicy != core.ClusterAuthenticated || len(c.ClusterNetworks) != 2 || len(c.ProbeNetworks) != 2 ||
		!c.DefaultOpaquePorts.Has(3306) || c.GlobalEgressNamespace != "egress" || c.AllowRequestHeaders {
		t.Errorf("got %+v", c)
	}
	for _, bad := range []string{"--default-policy=everybody", "--cluster-networks=10.0.0.0/99"} {
		flags := new(policyOptions).flags()
		flags.SetOutput(new(bytes.Buffer))
		if err := flags.Parse([]string{bad}); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// policyKinds are the custom resources of a cluster without the Gateway API.
var policyKinds = map[string][]string{
	"policy.linkerd.io/v1beta3": {"servers"},
	"policy.linkerd.io/v1beta1": {"serverauthorizations"},
	"policy.linkerd.io/v1alpha1": {
		"authorizationpolicies", "meshtlsauthentications", "networkauthentications", "httplocalratelimitpolicies", "egressnetworks",
	},
	"workload.linkerd.io/v1beta1": {"externalworkloads"},
}

// policyCluster returns the clients of a fake cluster with one meshed pod and one Service.
func policyCluster(t *testing.T, without string) *kube.Clients {
	t.Helper()
	typed := kubefake.NewClientset(
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}}},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.9", Ports: []corev1.ServicePort{{Port: 80}}},
		},
	)
	typed.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = true
		return true, review, nil
	})
	lists := make(map[schema.GroupVersionResource]string)
	for groupVersion, resources := range policyKinds {
		gv, err := schema.ParseGroupVersion(groupVersion)
		if err != nil {
			t.Fatal(err)
		}
		served := &metav1.APIResourceList{GroupVersion: groupVersion}
		for _, resource := range resources {
			lists[gv.WithResource(resource)] = "List"
			if resource != without {
				served.APIResources = append(served.APIResources, metav1.APIResource{Name: resource})
			}
		}
		typed.Resources = append(typed.Resources, served)
	}
	server := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server",
		"metadata": map[string]any{"namespace": "shop", "name": "web"},
		"spec":     map[string]any{"podSelector": map[string]any{}, "port": int64(8080), "proxyProtocol": "opaque"},
	}}
	return &kube.Clients{Kube: typed, Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists, server)}
}

// addresses is a log handler that tells the addresses of messages.
type addresses struct {
	slog.Handler
	of map[string]chan string
}

func (a addresses) Enabled(context.Context, slog.Level) bool { return true }
func (a addresses) Handle(_ context.Context, r slog.Record) error {
	if addr, ok := a.of[r.Message]; ok {
		r.Attrs(func(attr slog.Attr) bool { addr <- attr.Value.String(); return false })
	}
	return nil
}

// TestPolicyServes runs the command against a fake cluster without the Gateway API.
func TestPolicyServes(t *testing.T) {
	dir := t.TempDir()
	roots := writeCertificate(t, dir)
	var o policyOptions
	if err := o.flags().Parse([]string{
		"--admin-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--server-addr=127.0.0.1:0",
		"--server-tls-certs=" + filepath.Join(dir, "tls.crt"), "--server-tls-key=" + filepath.Join(dir, "tls.key"),
	}); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	o.registry = registry
	ctx, stop := context.WithCancel(t.Context())
	told := addresses{slog.DiscardHandler, map[string]chan string{"serving": make(chan string, 1), "serving admission reviews": make(chan string, 1)}}
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx, policyCluster(t, ""), slog.New(told)) }()
	await := func(message string) string {
		t.Helper()
		select {
		case addr := <-told.of[message]:
			return addr
		case err := <-ended:
			t.Fatal(err)
			return ""
		}
	}

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Group: "policy.linkerd.io", Version: "v1beta3", Kind: "Server"},
			Object: runtime.RawExtension{Raw: []byte(`{"spec":{"podSelector":{},"port":0}}`)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Post("https://"+await("serving admission reviews"), "application/json", bytes.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	client.CloseIdleConnections()
	if answer.Response == nil || answer.Response.Allowed || !strings.Contains(answer.Response.Result.Message, "spec.port") {
		t.Errorf("got %+v", answer.Response)
	}

	conn, err := grpc.NewClient("passthrough:///"+await("serving"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	server, err := inboundpb.NewInboundServerPoliciesClient(conn).GetPort(ctx, &inboundpb.PortSpec{Workload: "shop:web-1", Port: 8080})
	if err != nil || server.GetLabels()["name"] != "web" || server.GetProtocol().GetOpaque() == nil {
		t.Errorf("got %v, %v", server, err)
	}
	why, err := explainpb.NewExplainClient(conn).Inbound(ctx, &explainpb.InboundRequest{
		Namespace: "shop", Workload: &explainpb.InboundRequest_Pod{Pod: "web-1"}, Port: &explainpb.InboundRequest_PortNumber{PortNumber: 8080},
		Client: &explainpb.Client{Authentication: &explainpb.Client_Unauthenticated{}},
	})
	if err != nil || why.GetVerdict() != explainpb.Verdict_DENIED || why.GetDecidedBy().GetName() != "web" {
		t.Errorf("got %v, %v", why, err)
	}
	stream, err := outboundpb.NewOutboundPoliciesClient(conn).Watch(ctx, &outboundpb.TrafficSpec{
		SourceWorkload: "shop:web-1", Target: &outboundpb.TrafficSpec_Authority{Authority: "web.shop.svc.cluster.local:80"},
	})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := stream.Recv()
	if err != nil || policy.GetMetadata().GetResource().GetName() != "web" || policy.GetProtocol().GetDetect() == nil {
		t.Errorf("got %v, %v", policy, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"inbound_index_server_index_size", "outbound_index_service_index_size", "kube_watch_applies_total", "resource_status_patches_total"} {
		if !slices.Contains(names, want) {
			t.Errorf("no metric %s among %v", want, names)
		}
	}
	stop()
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	conn.Close()
	if err := <-ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}

// TestPolicyNeeds checks that a missing resource definition is named.
func TestPolicyNeeds(t *testing.T) {
	var o policyOptions
	if err := o.flags().Parse([]string{"--admin-addr=127.0.0.1:0", "--grpc-addr=127.0.0.1:0", "--admission-controller-disabled"}); err != nil {
		t.Fatal(err)
	}
	o.registry = prometheus.NewRegistry()
	err := o.run(t.Context(), policyCluster(t, "egressnetworks"), slog.New(slog.DiscardHandler))
	if err == nil || err.Error() != "the cluster has no resource egressnetworks.policy.linkerd.io/v1alpha1" {
		t.Errorf("got %v", err)
	}
}
