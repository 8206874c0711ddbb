package serve_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/internal/choices"
)

// pieces are objects as choices.Pick takes them. Few names, so that they meet.
var pieces = []string{
	`{kind: Service, metadata: {name: {web|api}, annotations: {{|config.linkerd.io/opaque-ports: "80"|multicluster.linkerd.io/local-discovery: api}}, labels: {{|mirror.linkerd.io/cluster-name: west|multicluster.linkerd.io/remote-discovery: west}}},
	  spec: {{|clusterIP: 10.43.0.1,|clusterIP: 10.43.0.2,|type: ExternalName, externalName: {web|api}.emo.svc.cluster.local,} {|internalTrafficPolicy: Local,} ports: [{name: http, port: {80|81}}]}}`,
	`{kind: EndpointSlice, metadata: {name: {s0|s1|s2}, labels: {kubernetes.io/service-name: {web|api}}}, addressType: IPv4, ports: [{name: http, port: {8080|8081}}], endpoints: [
	  {addresses: [10.42.0.{1|2}], {|zone: z1,|hints: {forZones: [{name: z1}]},} {|hostname: h0,} {|conditions: {ready: false},} {|targetRef: {kind: Pod, namespace: emo, name: {p0|p1}}}},
	  {addresses: [10.42.0.{1|3}], {|hints: {forZones: [{name: z2}]},} {|targetRef: {kind: ExternalWorkload, namespace: emo, name: e0}}}]}`,
	`{kind: EndpointSlice, metadata: {name: s6, labels: {kubernetes.io/service-name: {web|api}}}, addressType: IPv6, ports: [{name: http, port: 8080}], endpoints: [{addresses: ["fd00::1"], targetRef: {kind: Pod, namespace: emo, name: {p0|p1}}}]}`,
	`{kind: Pod, metadata: {name: {p0|p1}, {|ownerReferences: [{kind: ReplicaSet, name: r0}],} labels: {app: {web|db}{|, linkerd.io/control-plane-ns: linkerd}}, annotations: {{|config.linkerd.io/opaque-ports: "8080"|config.linkerd.io/skip-inbound-ports: "8080"}}},
	  spec: {nodeName: {n1|n2}, {|hostNetwork: true,} containers: [{name: c, image: x, ports: [{name: http, containerPort: 8080{|, hostPort: 9000}}]}]},
	  status: {phase: {Running|Succeeded}, podIP: 10.42.0.{1|2}, hostIP: 192.168.0.1}}`,
	`{kind: ReplicaSet, metadata: {name: r0, ownerReferences: [{kind: Deployment, name: {d0|d1}}]}}`,
	`{kind: Server, metadata: {name: {o0|o1}}, spec: {{podSelector|externalWorkloadSelector}: {matchLabels: {app: {web|db}}}, port: {8080|http}, proxyProtocol: {opaque|HTTP/1}}}`,
	`{kind: ServiceProfile, metadata: {name: {web|api}.emo.svc.cluster.local, namespace: {emo|ns-a}}, spec: {{|opaquePorts: ["80"],} routes: [{name: {a|b}, condition: {method: GET}}]}}`,
	`{kind: ExternalWorkload, metadata: {name: e0, labels: {app: {web|db}}}, spec: {meshTLS: {identity: {a|b}, serverName: a}, ports: [{port: 8080, name: http}], workloadIPs: [{ip: 10.42.0.{3|4}}]}}`,
}

// nodes are there from the start: where a client is is looked up once.
const nodes = `{kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}
---
{kind: Node, metadata: {name: n2, labels: {topology.kubernetes.io/zone: z2}}}`

// view prints what a stream of endpoints sees.
func view(s *core.Snapshot) string {
	var out strings.Builder
	fmt.Fprintf(&out, "exists %v %s", s.Exists, labelText(s.SetLabels))
	for _, e := range s.Entries {
		fmt.Fprintf(&out, "\n  %+v %v", *e.Endpoint, e.Locality)
	}
	return out.String()
}

// profileView prints a profile.
func profileView(p *core.Profile) string {
	endpoint := "none"
	if p.Endpoint != nil {
		endpoint = fmt.Sprintf("%+v", *p.Endpoint)
	}
	return fmt.Sprintf("%s %v:%d from %v, routes %+v, opaque %v, undefined %v, endpoint %s",
		p.Name, p.Service, p.Port, p.ServiceProfile, p.Routes, p.Opaque, p.Undefined, endpoint)
}

// question is something that proxies ask.
type question struct {
	name string
	// ask returns what a new stream is told, as long as it is not closed, or an error.
	ask func(x *index.Index) (latest func() string, stop func(), err error)
	// keeps says that an old stream may stay with what it had, when a new one is told that nothing is known of an address.
	keeps bool
}

// unknown begins the labels of an endpoint that nothing is known of.
const unknown = "Labels:map[]"

func questions() []question {
	var list []question
	for _, name := range []string{"web", "api"} {
		for _, port := range []uint16{80, 81} {
			for _, node := range []string{"", "n1", "n2"} {
				for _, instance := range []string{"", "h0"} {
					query := index.EndpointsQuery{Service: core.ID{Namespace: "emo", Name: name}, Port: port, Node: node, Instance: instance}
					list = append(list, question{name: fmt.Sprintf("endpoints %+v", query), ask: func(x *index.Index) (func() string, func(), error) {
						sub, err := x.Endpoints(context.Background(), query)
						if err != nil {
							return nil, nil, err
						}
						return func() string { return view(sub.Latest()) }, sub.Close, nil
					}})
				}
			}
		}
	}
	profile := func(query index.ProfileQuery) {
		list = append(list, question{name: fmt.Sprintf("profile %+v", query), keeps: true, ask: func(x *index.Index) (func() string, func(), error) {
			sub, err := x.Profile(context.Background(), query)
			if err != nil {
				return nil, nil, err
			}
			return func() string { return profileView(sub.Latest()) }, sub.Close, nil
		}})
	}
	for _, ip := range []string{"10.43.0.1", "10.43.0.2", "10.42.0.1", "10.42.0.2", "10.42.0.3", "192.168.0.1"} {
		for _, port := range []uint16{80, 8080, 9000} {
			profile(index.ProfileQuery{Addr: netip.MustParseAddr(ip), Port: port, Namespace: "ns-a"})
		}
	}
	for _, name := range []string{"web", "api"} {
		for _, client := range []string{"", "ns-a"} {
			profile(index.ProfileQuery{Name: core.Name{Service: core.ID{Namespace: "emo", Name: name}}, Port: 80, Namespace: client})
		}
		profile(index.ProfileQuery{Name: core.Name{Service: core.ID{Namespace: "emo", Name: name}, Instance: "h0"}, Port: 80})
	}
	return list
}

// TestAgrees puts objects into a cluster and takes them out, at random, while streams follow, and asks an index of a cluster that
// has had only the objects that are left: both must say the same. Endpoints that stay as they were after something that they
// are made from has changed are what nobody would notice.
func TestAgrees(t *testing.T) {
	const seeds, steps = 5, 40
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { agree(t, seed, steps) })
		})
	}
}

func agree(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 0))
	set := settings{"transport-header": true, "no-ipv6": r.IntN(2) == 0}
	begin := func() *cluster {
		c := newCluster(t, set, false, "cluster.local")
		for document := range strings.SplitSeq(nodes, "\n---\n") {
			c.put(t, []byte(document))
		}
		synctest.Wait()
		return c
	}
	own := begin()
	defer own.stop()
	left := map[string]string{}
	var history []string
	type stream struct {
		latest func() string
		stop   func()
	}
	following := map[string]stream{}
	for step := range steps {
		for range 1 + r.IntN(3) {
			keys := slices.Sorted(maps.Keys(left))
			if len(keys) > 0 && r.IntN(4) == 0 {
				key := keys[r.IntN(len(keys))]
				history = append(history, "delete "+key)
				var u unstructured.Unstructured
				if err := yaml.Unmarshal([]byte(left[key]), &u.Object); err != nil {
					t.Fatal(err)
				}
				if u.GetNamespace() == "" {
					u.SetNamespace("emo")
				}
				tracker, gvr, _ := own.place(t, &u)
				if err := tracker.Delete(gvr, u.GetNamespace(), u.GetName()); err != nil {
					t.Fatal(err)
				}
				delete(left, key)
				continue
			}
			text := choices.Pick(r, pieces[r.IntN(len(pieces))])
			var u unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			history = append(history, "apply "+text)
			own.put(t, []byte(text))
			left[u.GetKind()+" "+u.GetNamespace()+"/"+u.GetName()] = text
		}
		synctest.Wait()
		fresh := begin()
		for _, key := range slices.Sorted(maps.Keys(left)) {
			fresh.put(t, []byte(left[key]))
		}
		synctest.Wait()
		for _, q := range questions() {
			wrong := func(what string, got, want any) {
				t.Errorf("step %d: %s, %s:\n%v\nwant\n%v\nafter\n%s", step, q.name, what, got, want, strings.Join(history, "\n"))
			}
			want, stopWant, wantErr := q.ask(fresh.index)
			now, stopNow, nowErr := q.ask(own.index)
			if fmt.Sprint(nowErr) != fmt.Sprint(wantErr) {
				wrong("a new stream", nowErr, wantErr)
			}
			if wantErr == nil && nowErr == nil {
				if got, want := now(), want(); got != want {
					wrong("a new stream", got, want)
				}
			}
			if old, follows := following[q.name]; follows && wantErr == nil {
				if got, want := old.latest(), want(); got != want && !(q.keeps && strings.Contains(want, unknown)) {
					wrong("an old stream", got, want)
				}
			}
			if wantErr == nil {
				stopWant()
			}
			if nowErr != nil {
				continue
			}
			if _, follows := following[q.name]; follows {
				stopNow()
			} else {
				following[q.name] = stream{now, stopNow}
			}
		}
		fresh.stop()
		if t.Failed() {
			return
		}
	}
}
