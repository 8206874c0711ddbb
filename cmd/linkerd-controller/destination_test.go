package main

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// destinationCluster is a cluster with a Service shop/web that has one endpoint.
func destinationCluster(t *testing.T) *kube.Clients {
	t.Helper()
	typed := kubefake.NewClientset(
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.43.0.9", Ports: []corev1.ServicePort{{Port: 80}}},
		},
		webSlice("10.42.0.1"),
	)
	typed.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = true
		return true, review, nil
	})
	lists := make(map[schema.GroupVersionResource]string)
	for groupVersion, resource := range map[string]string{
		"v1": "pods", "discovery.k8s.io/v1": "endpointslices",
		"linkerd.io/v1alpha2": "serviceprofiles", "policy.linkerd.io/v1beta3": "servers", "workload.linkerd.io/v1beta1": "externalworkloads",
	} {
		gv, err := schema.ParseGroupVersion(groupVersion)
		if err != nil {
			t.Fatal(err)
		}
		lists[gv.WithResource(resource)] = "List"
		typed.Resources = append(typed.Resources, &metav1.APIResourceList{
			GroupVersion: groupVersion, APIResources: []metav1.APIResource{{Name: resource}},
		})
	}
	metaScheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(metaScheme); err != nil {
		t.Fatal(err)
	}
	return &kube.Clients{
		Kube: typed, Dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), lists),
		Metadata: metadatafake.NewSimpleMetadataClient(metaScheme),
	}
}

func webSlice(addresses ...string) *discoveryv1.EndpointSlice {
	number, name := int32(8080), ""
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &number}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: addresses}},
	}
}

// TestDestinationTellsWhileItStops stops the command and changes an endpoint then: the streams that have not ended yet, which they
// do over some seconds, have to bring it.
func TestDestinationTellsWhileItStops(t *testing.T) {
	t.Parallel()
	var o destinationOptions
	if err := o.flags().Parse([]string{
		"-addr=127.0.0.1:0", "-metrics-addr=127.0.0.1:0", "-cluster-domain=cluster.local", "-identity-trust-domain=cluster.local",
	}); err != nil {
		t.Fatal(err)
	}
	o.registry, o.hostname = prometheus.NewRegistry(), "destination-1"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := addresses{slog.DiscardHandler, map[string]chan string{"serving": make(chan string, 1)}}
	clients := destinationCluster(t)
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx, clients, slog.New(told)) }()
	var addr string
	select {
	case addr = <-told.of["serving"]:
	case err := <-ended:
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const streams = 30
	var begun, following sync.WaitGroup
	var heard atomic.Int64
	begun.Add(streams)
	for range streams {
		following.Go(func() {
			stream, err := destinationpb.NewDestinationClient(conn).Get(t.Context(), &destinationpb.GetDestination{Path: "web.shop.svc.cluster.local:80"})
			if err == nil {
				_, err = stream.Recv()
			}
			begun.Done()
			if err != nil {
				t.Error(err)
				return
			}
			if update, err := stream.Recv(); err == nil && len(update.GetAdd().GetAddrs()) == 1 {
				heard.Add(1)
			}
		})
	}
	begun.Wait()
	stop()
	if _, err := clients.Kube.DiscoveryV1().EndpointSlices("shop").Update(t.Context(), webSlice("10.42.0.1", "10.42.0.2"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	following.Wait()
	if heard.Load() == 0 {
		t.Error("no stream was told of what changed after the process was told to stop")
	}
	if err := <-ended; err != nil {
		t.Errorf("stopped with %v", err)
	}
}
