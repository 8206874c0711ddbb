package kube

import (
	"log/slog"
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// TestListsAreTrimmedWhileTheyArrive takes the way of a list that is streamed: the reflector keeps what the transformer
// leaves in a store of its own, and hands that over at the end.
func TestListsAreTrimmedWhileTheyArrive(t *testing.T) {
	trims := 0
	node := func(pod *corev1.Pod) (string, error) {
		trims++
		if pod.Spec.NodeName == "bad" {
			return "", errTest
		}
		return pod.Spec.NodeName, nil
	}
	var table Table[string]
	w := NewWatch("pods", Source{}, node, &table)
	to := w.store(w, slog.New(slog.DiscardHandler)).(cache.TransformingStore)
	arriving := cache.NewStore(cache.DeletionHandlingMetaNamespaceKeyFunc, cache.WithTransformer(to.Transformer()))
	for _, p := range [][2]string{{"a", "old"}, {"a", "n1"}, {"b", "bad"}, {"c", "n2"}, {"d", "n3"}} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: p[0]}, Spec: corev1.PodSpec{NodeName: p[1]}}
		if err := arriving.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	if err := arriving.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "d"}}); err != nil {
		t.Fatal(err)
	}
	for _, o := range arriving.List() {
		if _, whole := o.(*corev1.Pod); whole {
			t.Errorf("a whole object is kept: %v", o)
		}
	}
	if err := to.Replace(arriving.List(), ""); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, key := range table.Keys() {
		got[key.Name], _ = table.Get(key.Namespace, key.Name)
	}
	if want := map[string]string{"a": "n1", "c": "n2"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if trims != 5 {
		t.Errorf("objects were trimmed %d times, not once each", trims)
	}
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("no such node")
