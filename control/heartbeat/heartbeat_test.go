package heartbeat_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/linkerd-go/linkerd-go/control/heartbeat"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// prometheus answers by what an expression contains.
type prometheus map[string]float64

func (p prometheus) Query(_ context.Context, query string, _ time.Time, _ ...promv1.Option) (model.Value, promv1.Warnings, error) {
	for part, value := range p {
		if strings.Contains(query, part) {
			return model.Vector{{Value: model.SampleValue(value)}}, nil, nil
		}
	}
	if strings.Contains(query, "working_set") {
		return model.Vector{}, nil, nil
	}
	return nil, nil, errors.New("no such series")
}

func TestCollect(t *testing.T) {
	typed := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
			Namespace: "linkerd", Name: "linkerd-config", UID: "u-1", CreationTimestamp: metav1.Unix(1700000000, 0),
		}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "linkerd-viz", Labels: map[string]string{"linkerd.io/extension": "viz"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "emo"}},
	)
	typed.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, kruntime.Object, error) {
		review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		review.Status.Allowed = true
		return true, review, nil
	})
	profile := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile"}}
	profile.SetName("web.emo.svc.cluster.local")
	profile.SetNamespace("emo")
	dynamic := dynamicfake.NewSimpleDynamicClientWithCustomListKinds(kruntime.NewScheme(), map[schema.GroupVersionResource]string{
		{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}: "ServiceProfileList",
	}, profile)
	got := heartbeat.Collect(t.Context(), heartbeat.Sources{
		Clients:   &kube.Clients{Kube: typed, Dynamic: dynamic},
		Namespace: "linkerd",
		Prometheus: prometheus{
			"request_total{direction": 12.6, "count by (pod)": 3, "request_handle_us": math.NaN(),
			`cpu_usage_seconds_total{job="kubernetes-nodes-cadvisor", container="linkerd-proxy"}`: 0.0123,
		},
	}, slog.New(slog.DiscardHandler))
	want := url.Values{
		"arch": {runtime.GOARCH}, "version": {"dev-undefined"}, "source": {"heartbeat"},
		"uuid": {"u-1"}, "install-time": {"1700000000"}, "k8s-version": got["k8s-version"],
		"ext-viz": {"1"}, "service-profile-count": {"1"},
		"total-rps": {"13"}, "meshed-pods": {"3"}, "p95-cpu-linkerd-proxy": {"0.012"},
	}
	if got.Encode() != want.Encode() {
		t.Errorf("got  %s\nwant %s", got.Encode(), want.Encode())
	}
}

func TestSend(t *testing.T) {
	status := http.StatusOK
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		w.WriteHeader(status)
	}))
	defer server.Close()
	if err := heartbeat.Send(t.Context(), server.Client(), server.URL+"/version.json", url.Values{"uuid": {"a b"}}); err != nil {
		t.Fatal(err)
	}
	if asked != "/version.json?uuid=a+b" {
		t.Errorf("asked for %s", asked)
	}
	status = http.StatusTeapot
	if err := heartbeat.Send(t.Context(), server.Client(), server.URL, nil); err == nil {
		t.Error("want an error")
	}
	server.CloseClientConnections()
}
