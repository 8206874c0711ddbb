package controlplane

import (
	"fmt"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/test/controlplane/kubeapi"
)

// visitor is who another cluster's control plane is here, with the rights that linking a cluster gives it. Source: control
// plane chapter, section 14.2.
var visitor = kubeapi.ServiceAccount("linkerd-multicluster", "linkerd-service-mirror-remote-access-default", "east")

const visitorRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: visitor}
rules:
- {apiGroups: [apps], resources: [replicasets], verbs: [get, list, watch]}
- {apiGroups: [batch], resources: [jobs], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [pods, endpoints, services], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [policy.linkerd.io], resources: [servers], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: visitor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: visitor}
subjects: [{kind: ServiceAccount, name: linkerd-service-mirror-remote-access-default, namespace: linkerd-multicluster}]
`

// far are Services whose endpoints are in the cluster west: all of one, and a member of a federation.
const far = `
apiVersion: v1
kind: Service
metadata: {name: far, labels: {multicluster.linkerd.io/remote-discovery: west, multicluster.linkerd.io/remote-service: web}}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: federated, annotations: {multicluster.linkerd.io/remote-discovery: web@west}}
spec: {ports: [{name: http, port: 80}]}
`

// TestLinkedClusters: with the rights that a link gives, and no more, a controller follows Services of another cluster
// through that cluster's crash and new credentials. Nothing of it is noticed at the own cluster's Services, and what
// follows the other is told when the link goes.
func TestLinkedClusters(t *testing.T) {
	w := newWorld(t)
	west := makeWorld(t, visitor)
	west.apply(visitorRights + "---" + workload + "---" + generation(1))
	w.apply(workload + "---" + generation(1) + "---" + far)
	destination := w.start("destination", starting{}).ready()
	own := w.followAll(t.Context(), destination, nil)
	w.awaitAll(soon, own, 1)

	link := func(address string) *corev1.Secret {
		kubeconfig, err := os.ReadFile(west.api.Kubeconfig(t, visitor, address))
		w.check(err)
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Name: "cluster-credentials-west", Namespace: mesh,
				Labels:      map[string]string{"multicluster.linkerd.io/cluster-name": "west"},
				Annotations: map[string]string{"multicluster.linkerd.io/trust-domain": "west.example", "multicluster.linkerd.io/cluster-domain": "cluster.local"},
			},
			Type: names.SecretTypeRemoteKubeconfig,
			Data: map[string][]byte{names.SecretRemoteKubeconfig: kubeconfig},
		}
	}
	secrets := w.kube.CoreV1().Secrets(mesh)
	_, err := secrets.Create(t.Context(), link(west.api.Address()), metav1.CreateOptions{})
	w.check(err)

	ended := func(f *follower) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ended == nil {
			return fmt.Errorf("%s is open", f.name)
		}
		return nil
	}

	// follow opens a stream until one says something about that generation: others find the link not there yet, or end with it.
	client := destinationpb.NewDestinationClient(destination.dial())
	follow := func(service string, generation int) *follower {
		t.Helper()
		var f *follower
		open := func() {
			stream, err := client.Get(t.Context(), &destinationpb.GetDestination{Scheme: "k8s", Path: service + ".app.svc.cluster.local:80"})
			w.check(err)
			f = &follower{name: "Get of " + service}
			go receive(f, stream, endpoints())
		}
		open()
		w.eventually(soon, fmt.Sprintf("generation %d of %s", generation, service), func() error {
			err := f.is(generation)
			if err != nil && ended(f) == nil {
				open()
			}
			return err
		})
		return f
	}
	both := []*follower{follow("far", 1), follow("federated", 1)}
	// counted reports whether the metrics tell of one linked cluster and what is known of it, or of neither.
	counted := func(linked float64) error {
		stores, services := destination.metric("cluster_store_size"), destination.metric("services_cache_size", `cluster="west"`)
		if stores != linked || (services > 0) != (linked > 0) {
			return fmt.Errorf("cluster_store_size is %v, want %v; services_cache_size of west is %v", stores, linked, services)
		}
		return nil
	}
	w.check(counted(1))
	west.apply(generation(2))
	w.awaitAll(soon, both, 2)
	// An API server that has just started forbids what it has not read the roles of: only now does this tell of rights.
	for _, e := range west.api.Audit() {
		if e.Forbidden() {
			t.Errorf("%s may not %s %s", e.User.Name, e.Verb, e.URI)
		}
	}

	w.run("the other cluster crashes", func(w *world) {
		west.api.Kill()
		w.apply(generation(3))
		w.awaitAll(soon, own, 3)
		w.awaitAll(soon, both, 2)
		w.check(destination.probe("/ready"))
		west.api.Revive()
		west.apply(generation(4))
		w.awaitAll(soon, both, 4)
	})

	w.run("its credentials change", func(w *world) {
		way := kubeapi.NewLink(w.t, west.api.Address())
		_, err := secrets.Update(w.t.Context(), link(way.Address()), metav1.UpdateOptions{})
		w.check(err)
		w.eventually(soon, "the stream that came by the old ones to end", func() error { return ended(both[0]) })
		west.apply(generation(5))
		both = []*follower{follow("far", 5), follow("federated", 5)}
		// Nothing uses what was there before.
		way.Cut()
		west.apply(generation(6))
		way.Restore()
		w.awaitAll(soon, both, 6)
	})

	w.run("it is unlinked", func(w *world) {
		w.check(secrets.Delete(w.t.Context(), "cluster-credentials-west", metav1.DeleteOptions{}))
		w.eventually(soon, "the stream of what is nowhere else to end", func() error { return ended(both[0]) })
		w.eventually(soon, "the federation to be without it", func() error { return both[1].is(none) })
		w.eventually(soon, "the metrics to be without it", func() error { return counted(0) })
		w.check(destination.probe("/ready"))
		w.awaitAll(soon, own, 3)
	})

	for _, f := range own {
		w.check(f.inOrder())
	}
}
