package injector

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/metadata/fake"
)

func meta(apiVersion, kind, namespace, name string, annotations map[string]string, owners ...metav1.OwnerReference) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion, Kind: kind},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations, OwnerReferences: owners},
	}
}

func newWatches(t *testing.T, objects ...runtime.Object) *Watches {
	t.Helper()
	scheme := fake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return NewWatches(fake.NewSimpleMetadataClient(scheme, objects...), slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// TestLookup asks before and after the watches have seen anything: a namespace and its pods are often made by one command,
// so what a watch does not have yet is asked for.
func TestLookup(t *testing.T) {
	deployment := metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}
	w := newWatches(t,
		meta("v1", "Namespace", "", "shop", map[string]string{"linkerd.io/inject": "enabled", "config.linkerd.io/enable-gateway": "true", "team": "a"}),
		meta("apps/v1", "ReplicaSet", "shop", "web-1", nil, deployment),
		meta("batch/v1", "Job", "shop", "once", nil),
	)
	check := func(t *testing.T) {
		t.Helper()
		annotations, err := w.NamespaceAnnotations(t.Context(), "shop")
		if want := map[string]string{"linkerd.io/inject": "enabled"}; err != nil || !maps.Equal(annotations, want) {
			t.Errorf("annotations are %v, %v, want %v", annotations, err, want)
		}
		if _, err := w.NamespaceAnnotations(t.Context(), "elsewhere"); err == nil {
			t.Error("no error for a namespace that does not exist")
		}
		if owners, ok := w.OwnersOf(t.Context(), "shop", "replicaset", "web-1"); !ok || len(owners) != 1 || owners[0].Name != "web" {
			t.Errorf("owners of the ReplicaSet are %v, %v", owners, ok)
		}
		if owners, ok := w.OwnersOf(t.Context(), "shop", "job", "once"); !ok || len(owners) != 0 {
			t.Errorf("owners of the Job are %v, %v", owners, ok)
		}
		if _, ok := w.OwnersOf(t.Context(), "shop", "replicaset", "once"); ok {
			t.Error("found a ReplicaSet that does not exist")
		}
	}
	t.Run("before", check)

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	if err := w.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Run("after", check)
	cancel()
	<-done
}
