package controlplane

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/test/controlplane/kubeapi"
)

// leased are the leases by the component that writes under them.
var leased = map[string]string{
	"policy":      names.LeasePolicyController,
	"destination": names.LeaseDestinationEndpointWrite,
	"identity":    rotation.Lease,
}

const (
	// leaseDuration is how long a lease lasts whose holder is gone. Source: control plane chapter, section 13.
	leaseDuration = 30 * time.Second
	// retryPeriod is how often candidates look, with a fifth of it for jitter and as much for the call itself.
	retryPeriod = 3 * time.Second
)

// ensemble are the replicas of one name of all leased components.
type ensemble map[string]*controller

// startLeased starts a replica of each leased component; those that are named have the direct way to the API server.
func (w *world) startLeased(s starting, direct ...string) ensemble {
	w.t.Helper()
	e := ensemble{}
	for component := range leased {
		how := s
		if slices.Contains(direct, component) {
			how.link = nil
		}
		e[component] = w.start(component, how)
	}
	for _, c := range e {
		c.ready()
	}
	return e
}

// holder is the replica that has a component's lease.
func (w *world) holder(component string) string {
	w.t.Helper()
	l, err := w.kube.CoordinationV1().Leases(mesh).Get(w.t.Context(), leased[component], metav1.GetOptions{})
	if err != nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// holds waits until a replica has all leases.
func (w *world) holds(limit time.Duration, replica string) {
	w.t.Helper()
	w.eventually(limit, "replica "+replica+" to hold all leases", func() error {
		var errs []error
		for component := range leased {
			if h := w.holder(component); h != component+"-"+replica {
				errs = append(errs, fmt.Errorf("%s is %q", leased[component], h))
			}
		}
		return errors.Join(errs...)
	})
}

// routesEach is how many routes each piece of work makes.
const routesEach = 5

// work makes something to write for each leased component, and waits until it is written.
func (w *world) work(limit time.Duration, n int) {
	w.t.Helper()
	for i := range routesEach {
		w.apply(fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: work-%d-%d}
spec: {parentRefs: [{group: "", kind: Service, name: web, port: 80}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`, n, i))
	}
	ip := fmt.Sprintf("192.0.2.%d", n)
	w.apply(fmt.Sprintf(`
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine, labels: {app: machine}, annotations: {health.linkerd.io/http-get: "4191/ready"}}
spec: {meshTLS: {identity: machine.example, serverName: machine.example}, workloadIPs: [{ip: %s}], ports: [{port: 8080}]}
`, ip))
	old := w.issuer()
	// Requests have whole seconds; one in the second of the last issuer would count as fulfilled.
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	roots, err := w.kube.CoreV1().ConfigMaps(mesh).Get(w.t.Context(), rotation.ConfigMap, metav1.GetOptions{})
	w.check(err)
	if roots.Data == nil {
		roots.Data = map[string]string{}
	}
	roots.Data[rotation.KeyRequestIssuer] = time.Now().UTC().Format(time.RFC3339)
	// The rotation may be writing to it, too.
	for {
		_, err := w.kube.CoreV1().ConfigMaps(mesh).Update(w.t.Context(), roots, metav1.UpdateOptions{})
		if err == nil {
			break
		}
		roots, err = w.kube.CoreV1().ConfigMaps(mesh).Get(w.t.Context(), rotation.ConfigMap, metav1.GetOptions{})
		w.check(err)
		roots.Data[rotation.KeyRequestIssuer] = time.Now().UTC().Format(time.RFC3339)
	}
	w.eventually(limit, "work to be done", func() error {
		var errs []error
		for i := range routesEach {
			errs = append(errs, w.accepted("httproutes", fmt.Sprintf("work-%d-%d", n, i)))
		}
		slices, err := w.kube.DiscoveryV1().EndpointSlices(app).List(w.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=machine"})
		if err != nil {
			return err
		}
		if len(slices.Items) != 1 || len(slices.Items[0].Endpoints) != 1 || slices.Items[0].Endpoints[0].Addresses[0] != ip {
			errs = append(errs, fmt.Errorf("slices of the external workload: %v, want one with %s", slices.Items, ip))
		}
		if w.issuer() == old {
			errs = append(errs, errors.New("the issuer is the old one"))
		}
		return errors.Join(errs...)
	})
}

// issuer is the issuer's certificate.
func (w *world) issuer() string {
	w.t.Helper()
	s, err := w.kube.CoreV1().Secrets(mesh).Get(w.t.Context(), names.SecretIdentityIssuer, metav1.GetOptions{})
	w.check(err)
	return string(s.Data[names.IssuerLinkerdCert])
}

// accepted reports whether a route of the Gateway API is accepted by all its parents.
func (w *world) accepted(resource, name string) error {
	gvr := schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: resource}
	o, err := w.dyn.Resource(gvr).Namespace(app).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	parents, _, _ := unstructured.NestedSlice(o.Object, "status", "parents")
	if len(parents) == 0 || !strings.Contains(fmt.Sprint(parents), "reason:Accepted status:True") {
		return fmt.Errorf("status of %s: %v", name, parents)
	}
	return nil
}

// written counts what replicas have written under their leases since a time: successful writes by user, but for the leases
// themselves, events, and questions in the form of writes.
func (w *world) written(since time.Time) map[string]int {
	w.t.Helper()
	count := map[string]int{}
	for _, e := range w.api.Audit() {
		if e.At.Before(since) || e.Stage != "ResponseComplete" || e.Response.Code >= 300 {
			continue
		}
		switch e.Object.Resource {
		case "leases", "events", "selfsubjectaccessreviews", "tokenreviews":
			continue
		}
		switch e.Verb {
		case "create", "update", "patch", "delete":
			count[e.User.UID]++
		}
	}
	return count
}

// onlyBy checks that all components have written since a time, and only those of one replica.
func (w *world) onlyBy(since time.Time, replica string) {
	w.t.Helper()
	wrote := w.written(since)
	var want []string
	for component := range leased {
		want = append(want, component+"-"+replica)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(wrote)); !slices.Equal(got, want) {
		w.t.Errorf("written by %v, want %v", wrote, want)
	}
	if n := wrote["policy-"+replica]; n != routesEach {
		w.t.Errorf("%d statuses written, want %d: one for each new route", n, routesEach)
	}
}

// leasedWorld is a world with something for each leased component to write about.
func leasedWorld(t *testing.T) *world {
	w := newWorld(t)
	w.apply(workload + `---
apiVersion: v1
kind: Service
metadata: {name: machine}
spec: {selector: {app: machine}, ports: [{port: 80, targetPort: 8080}]}
`)
	return w
}

// TestLeases: of two replicas one writes, the other takes over when it is killed, stopped, cut off from the API server or
// halted, and at no time do both.
func TestLeases(t *testing.T) {
	w := leasedWorld(t)
	all := w // what a subtest starts for it ends with the subtest
	a := w.startLeased(starting{replica: "a"})
	w.holds(soon, "a")
	b := w.startLeased(starting{replica: "b"})
	since := time.Now()
	w.work(soon, 1)
	w.onlyBy(since, "a")

	w.run("killed", func(w *world) {
		killed := time.Now()
		for _, c := range a {
			c.Kill()
		}
		w.holds(leaseDuration+2*retryPeriod+soon, "b")
		took := time.Since(killed)
		w.t.Logf("taken over after %s", took.Round(100*time.Millisecond))
		// The last renewal may have been seen one look after the kill, and the end of the lease is seen at most another later.
		// The rest is for a busy machine; that no time is lost is what package lease tests, in virtual time.
		if took > leaseDuration+2*retryPeriod+leaseDuration/2 {
			w.t.Errorf("taken over after %s, want within the lease's %s and the time between looks", took, leaseDuration)
		}
		since := time.Now()
		w.work(soon, 2)
		w.onlyBy(since, "b")
	})

	link := kubeapi.NewLink(t, w.api.Address())
	w.run("stopped", func(w *world) {
		a = all.startLeased(starting{replica: "a", link: link}, "destination")
		stopped := time.Now()
		for _, c := range b {
			c.Signal(syscall.SIGTERM)
		}
		w.holds(soon, "a")
		took := time.Since(stopped)
		w.t.Logf("taken over after %s", took.Round(100*time.Millisecond))
		// It was renewed at most a look before.
		if took > leaseDuration-2*retryPeriod {
			w.t.Errorf("taken over after %s: the lease was not given back", took)
		}
		for component, c := range b {
			if code := c.Stop(soon); code != 0 {
				w.t.Errorf("%s ended with code %d", component, code)
			}
		}
		since := time.Now()
		w.work(soon, 3)
		w.onlyBy(since, "a")
	})

	w.run("cut off or halted", func(w *world) {
		b = all.startLeased(starting{replica: "b"})
		since := time.Now()
		link.Cut()
		// A process that is halted, as on a machine that swaps, believes afterwards that no time has passed.
		a["destination"].Signal(syscall.SIGSTOP)
		w.holds(leaseDuration+2*retryPeriod+soon, "b")
		w.work(soon, 4)
		w.onlyBy(since, "b")
		link.Restore()
		a["destination"].Signal(syscall.SIGCONT)
		// They live, and are candidates again, once they have seen what happened.
		w.eventually(soon, "the replicas to be back", func() error {
			var errs []error
			for _, c := range a {
				errs = append(errs, c.probe("/ready"))
				if !strings.Contains(c.Log(), "lease over") {
					errs = append(errs, fmt.Errorf("%s has not noticed the loss of its lease", c.component))
				}
			}
			return errors.Join(errs...)
		})
		since = time.Now()
		w.work(soon, 5)
		w.onlyBy(since, "b")
	})
}

// trustAnchor is the Secret that `linkerd install` makes for the rotation.
func trustAnchor(cert, key []byte) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata: {%s: %s, %s: %s}\n",
		rotation.AnchorSecret, mesh, rotation.KeyFirstCert, base64.StdEncoding.EncodeToString(cert), rotation.KeyFirstKey, base64.StdEncoding.EncodeToString(key))
}
