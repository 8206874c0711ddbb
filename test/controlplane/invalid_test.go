package controlplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/charts"
)

// invalid is one file of testdata/invalid: a resource that must be refused. Its head has
//
//	# field: a text that the refusal must contain, so that its reader finds the place
//	# refused: the whole refusal, written by -update
//	# let in: what controllers log if it comes in all the same, written by -update; "nothing" where it does no harm
type invalid struct {
	path, name string
	field      string
	refused    string
	letIn      string
	object     *unstructured.Unstructured
	comments   []string
	body       string
}

func (w *world) invalids() []*invalid {
	w.t.Helper()
	paths, err := filepath.Glob("testdata/invalid/*.yaml")
	w.check(err)
	if len(paths) == 0 {
		w.t.Fatal("no files in testdata/invalid")
	}
	var all []*invalid
	for _, path := range paths {
		text, err := os.ReadFile(path)
		w.check(err)
		i := &invalid{path: path, name: strings.TrimSuffix(filepath.Base(path), ".yaml")}
		head, body, ok := strings.Cut(string(text), "---\n")
		if !ok {
			w.t.Fatalf("%s has no line of three hyphens", path)
		}
		i.body = body
		for line := range strings.Lines(head) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "# ")
			switch key, value, _ := strings.Cut(line, ": "); key {
			case "field":
				i.field = value
			case "refused":
				i.refused = value
			case "let in":
				i.letIn = value
			default:
				i.comments = append(i.comments, line)
			}
		}
		if i.field == "" {
			w.t.Fatalf("%s does not say which field its refusal names", path)
		}
		i.object = w.decode(body)[0]
		all = append(all, i)
	}
	return all
}

// save writes the file anew.
func (i *invalid) save() error {
	var head strings.Builder
	for _, c := range i.comments {
		fmt.Fprintf(&head, "# %s\n", c)
	}
	fmt.Fprintf(&head, "# field: %s\n# refused: %s\n# let in: %s\n---\n", i.field, i.refused, i.letIn)
	return os.WriteFile(i.path, []byte(head.String()+i.body), 0o644)
}

// create makes an object as `kubectl create` does.
func (w *world) create(o *unstructured.Unstructured) error {
	_, err := w.clientOf(o).Create(w.t.Context(), o.DeepCopy(), metav1.CreateOptions{FieldManager: "test", FieldValidation: "Strict"})
	return err
}

// oneLine is a text without line breaks.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// webhooks are the configurations of the validators.
var webhooks = []string{"linkerd-policy-validator-webhook-config", "linkerd-sp-validator-webhook-config"}

// TestInvalidResources: every resource of testdata/invalid is refused with a message that names the field. With the webhooks
// gone and the schemas open, all of them come in, as objects do that were stored before either was there: the controllers
// stay up, say what is wrong with which, and all that is said of another workload in the namespace stays as it was.
func TestInvalidResources(t *testing.T) {
	w := newWorld(t)
	all := w.invalids()
	w.apply(workload + "---" + generation(1))
	destination, policy := w.start("destination", starting{}).ready(), w.start("policy", starting{}).ready()
	validator := w.start("sp-validator", starting{}).ready()
	streams := w.followAll(t.Context(), destination, policy)
	w.awaitAll(soon, streams, 1)

	w.run("refused", func(w *world) {
		w.serveWebhook("validatingwebhookconfigurations", webhooks[0], policy)
		w.serveWebhook("validatingwebhookconfigurations", webhooks[1], validator)
		// The API server takes a moment to learn of each.
		for _, probe := range []string{
			"apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: probe}\nspec: {podSelector: {}, port: 80, accessPolicy: probe}",
			"apiVersion: linkerd.io/v1alpha2\nkind: ServiceProfile\nmetadata: {name: probe}\nspec: {routes: [{name: '', condition: {method: GET}}]}",
		} {
			w.eventually(soon, "the webhook to be asked", func() error {
				err := w.create(w.decode(probe)[0])
				if err == nil {
					w.remove(probe)
				}
				if err == nil || !strings.Contains(err.Error(), "denied the request") {
					return fmt.Errorf("got %w", err)
				}
				return nil
			})
		}
		for _, i := range all {
			err := w.create(i.object)
			if err == nil {
				w.t.Errorf("%s: accepted", i.path)
				continue
			}
			refused := oneLine(err.Error())
			if !strings.Contains(refused, i.field) {
				w.t.Errorf("%s: the refusal does not name %s: %s", i.path, i.field, refused)
			}
			if *update {
				i.refused = refused
			} else if refused != i.refused {
				w.t.Errorf("%s: refused with\n\t%s\nwant\n\t%s", i.path, refused, i.refused)
			}
		}
	})

	w.run("let in", func(w *world) {
		for _, name := range webhooks {
			gvr := schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}
			w.check(w.dyn.Resource(gvr).Delete(w.t.Context(), name, metav1.DeleteOptions{}))
		}
		w.openSchemas(all)
		before := 0
		for _, f := range streams {
			before += f.messages()
		}
		w.apply(machines + "---" + target)
		in, out := w.followTarget(policy)
		stored := map[string]bool{}
		for _, i := range all {
			err := w.create(i.object)
			if err == nil {
				stored[i.name] = true
			} else if !strings.Contains(err.Error(), i.field) {
				w.t.Errorf("%s: not stored: %v", i.path, err)
			}
		}
		w.eventually(soon, "the controllers to have seen all", func() error { return w.seen(all, destination, policy) })
		for _, f := range []*follower{in, out} {
			w.eventually(soon, "an answer about what the bad resources are about", func() error { return f.is(none) })
		}
		after := 0
		for _, f := range streams {
			after += f.messages()
		}
		if after != before {
			w.t.Errorf("%d messages about a workload that no resource is about", after-before)
		}
		w.apply(generation(2))
		w.awaitAll(soon, streams, 2)
		// One Service selects the bad workloads and a good one: the good one is in a slice, and its changes are.
		for _, ip := range []string{"192.0.2.1", "192.0.2.2"} {
			w.apply(fmt.Sprintf(goodMachine, ip))
			w.eventually(soon, "the good external workload to be an endpoint", func() error { return w.endpointAt(ip) })
		}

		for _, i := range all {
			said := "nothing"
			if !stored[i.name] {
				said = "never, by the API server itself"
			} else if lines := append(saysOf(policy, i.name), saysOf(destination, i.name)...); len(lines) > 0 {
				said = strings.Join(lines, "; ")
			}
			if *update {
				i.letIn = said
			} else if said != i.letIn {
				w.t.Errorf("%s: the controllers log\n\t%s\nwant\n\t%s", i.path, said, i.letIn)
			}
		}
		for _, c := range []*controller{destination, policy} {
			w.check(c.probe("/ready"))
			if strings.Contains(c.Log(), "panic") || strings.Contains(c.Log(), "goroutine ") {
				w.t.Errorf("%s has panicked", c.component)
			}
		}
		// The next to start meets all of them in its first lists.
		anew := w.followAll(w.t.Context(), w.start("destination", starting{replica: "b"}).ready(), w.start("policy", starting{replica: "b"}).ready())
		w.awaitAll(soon, anew, 2)
	})
	if *update {
		for _, i := range all {
			w.check(i.save())
		}
	}
}

// target is what the bad resources are about: a Service, a pod, and a Server in front of it.
const target = `
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {selector: {app: bad}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bad-1, labels: {app: bad, linkerd.io/control-plane-ns: linkerd}}
spec: {containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: bad}
spec: {podSelector: {matchLabels: {app: bad}}, port: 8080, proxyProtocol: HTTP/1, accessPolicy: deny}
`

// followTarget asks what proxies of the target and of its clients ask, so that all of it is compiled and encoded.
func (w *world) followTarget(policy *controller) (in, out *follower) {
	w.t.Helper()
	conn := policy.dial()
	inbound, port := inboundpb.NewInboundServerPoliciesClient(conn), &inboundpb.PortSpec{Workload: "app:bad-1", Port: 8080}
	// The pod was made a moment ago, and the controller may not have heard of it.
	w.eventually(soon, "the target to be known", func() error {
		_, err := inbound.GetPort(w.t.Context(), port)
		return err
	})
	watch, err := inbound.WatchPort(w.t.Context(), port)
	w.check(err)
	policies, err := outboundpb.NewOutboundPoliciesClient(conn).Watch(w.t.Context(), w.outbound("bad"))
	w.check(err)
	in, out = &follower{name: "WatchPort of the target"}, &follower{name: "Watch of the target"}
	go receive(in, watch, permitted)
	go receive(out, policies, func(m *outboundpb.OutboundPolicy) int { return named(m) })
	return in, out
}

// machines are external workloads that the schema does not mind and that no slice can take, of a Service that others belong to.
const machines = `
apiVersion: v1
kind: Service
metadata: {name: machine}
spec: {clusterIP: None, selector: {app: machine}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-loopback, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 127.0.0.1}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-unspecified, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 0.0.0.0}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-link-local, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 169.254.1.1}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-multicast, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 224.0.0.1}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-garbage, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: somewhere}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-twice, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 192.0.2.9}, {ip: 192.0.2.9}], ports: [{name: http, port: 8080}]}
---
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine.with.dots, labels: {app: machine}}
spec: {meshTLS: {identity: bad.example, serverName: bad.example}, workloadIPs: [{ip: 192.0.2.10}], ports: [{name: http, port: 8080}]}
`

// goodMachine is one that there is nothing wrong with, at an address.
const goodMachine = `
apiVersion: workload.linkerd.io/v1beta1
kind: ExternalWorkload
metadata: {name: machine-good, labels: {app: machine}}
spec: {meshTLS: {identity: good.example, serverName: good.example}, workloadIPs: [{ip: %s}], ports: [{name: http, port: 8080}]}
`

// endpointAt reports whether a slice of the machines has the good one at an address.
func (w *world) endpointAt(ip string) error {
	list, err := w.kube.DiscoveryV1().EndpointSlices(app).List(w.t.Context(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=machine"})
	if err != nil {
		return err
	}
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.TargetRef.Name == "machine-good" && slices.Equal(e.Addresses, []string{ip}) {
				return nil
			}
		}
	}
	return fmt.Errorf("slices: %v", list.Items)
}

// openSchemas lets the definitions of custom resources accept anything.
func (w *world) openSchemas(all []*invalid) {
	w.t.Helper()
	gvr := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	for _, crd := range w.decode(w.render(charts.CRDs, map[string]any{"installGatewayAPI": true})) {
		now, err := w.dyn.Resource(gvr).Get(w.t.Context(), crd.GetName(), metav1.GetOptions{})
		w.check(err)
		versions, _, err := unstructured.NestedSlice(now.Object, "spec", "versions")
		w.check(err)
		for _, v := range versions {
			v.(map[string]any)["schema"] = map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
		}
		body, err := json.Marshal(map[string]any{"spec": map[string]any{"versions": versions}})
		w.check(err)
		_, err = w.dyn.Resource(gvr).Patch(w.t.Context(), crd.GetName(), types.MergePatchType, body, metav1.PatchOptions{})
		w.check(err)
	}
	// The API server takes a moment for each.
	for _, i := range all {
		w.eventually(soon, "the schema of "+i.object.GetKind()+" to be open", func() error {
			_, err := w.clientOf(i.object).Create(w.t.Context(), i.object.DeepCopy(), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil && strings.Contains(err.Error(), "metadata.name") {
				return nil // refused whatever the schema
			}
			return err
		})
	}
}

// seen reports an object of which the controllers should say something and have not.
func (w *world) seen(all []*invalid, controllers ...*controller) error {
	var errs []error
	for _, i := range all {
		if i.letIn == "" || i.letIn == "nothing" || strings.HasPrefix(i.letIn, "never") {
			continue
		}
		if !slices.ContainsFunc(controllers, func(c *controller) bool { return len(saysOf(c, i.name)) > 0 }) {
			errs = append(errs, fmt.Errorf("nothing about %s", i.name))
		}
	}
	if *update {
		time.Sleep(5 * time.Second) // it is not known yet what they have to say
		return nil
	}
	return errors.Join(errs...)
}

// saysOf returns what a controller has logged about an object: level, message and error, one for each line.
func saysOf(c *controller, name string) []string {
	named := regexp.MustCompile(`(^|[^-a-z0-9])` + regexp.QuoteMeta(name) + `($|[^-a-z0-9])`)
	var said []string
	for line := range strings.Lines(c.Log()) {
		if !named.MatchString(line) {
			continue
		}
		var entry struct{ Level, Msg, Error, Detail, Resource, Kind string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		text := c.component + ": " + strings.ToLower(entry.Level) + ": " + entry.Msg
		for _, more := range []string{entry.Error, entry.Detail} {
			if more != "" {
				text += ": " + oneLine(more)
			}
		}
		said = append(said, text)
	}
	return said
}
