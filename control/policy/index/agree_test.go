package index_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/internal/choices"
)

// pieces are objects as choices.Pick takes them. Few names, so that they meet.
var pieces = []string{
	`{kind: Pod, metadata: {name: {p0|p1}, labels: {app: {web|db}, linkerd.io/control-plane-ns: linkerd}, annotations: {{|config.linkerd.io/opaque-ports: "9090"|config.linkerd.io/default-inbound-policy: deny}}},
	  spec: {containers: [{name: c, ports: [{containerPort: {80|8080}, name: http}], {|readinessProbe: {httpGet: {path: /ready, port: http}},} image: x}]}}`,
	`{kind: ExternalWorkload, metadata: {name: e0, labels: {app: {web|db}}}, spec: {meshTLS: {identity: a, serverName: a}, ports: [{port: 8080, name: http}]}}`,
	`{kind: Server, metadata: {name: {s0|s1}, labels: {tier: {a|b}}}, spec: {{podSelector|externalWorkloadSelector}: {matchLabels: {app: {web|db}}}, port: {80|8080|http}, proxyProtocol: {unknown|HTTP/1|gRPC|opaque}, accessPolicy: {deny|audit}}}`,
	`{kind: ServerAuthorization, metadata: {name: {sa0|sa1}}, spec: {server: {{name: s0|name: s1|selector: {matchLabels: {tier: a}}}}, client: {{unauthenticated: true|meshTLS: {serviceAccounts: [{name: x}]}}}}}`,
	`{kind: AuthorizationPolicy, metadata: {name: {ap0|ap1}}, spec: {targetRef: {{group: policy.linkerd.io, kind: Server, name: s0|kind: Namespace, name: emo|group: gateway.networking.k8s.io, kind: HTTPRoute, name: h0}},
	  requiredAuthenticationRefs: [{{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m0}|{group: policy.linkerd.io, kind: NetworkAuthentication, name: n0}|{kind: ServiceAccount, name: x}}]}}`,
	`{kind: MeshTLSAuthentication, metadata: {name: m0}, spec: {identities: ["{*|a.b}"]}}`,
	`{kind: NetworkAuthentication, metadata: {name: n0}, spec: {networks: [{cidr: 10.{1|2}.0.0/16}]}}`,
	`{kind: HTTPLocalRateLimitPolicy, metadata: {name: {l0|l1}}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: {s0|s1}}, total: {requestsPerSecond: {1|2}}}}`,
	`{kind: HTTPRoute, metadata: {name: {h0|h1}, namespace: {emo|ns-a}}, spec: {parentRefs: [{{group: policy.linkerd.io, kind: Server, name: s0}|{group: core, kind: Service, name: web, namespace: emo}|{group: core, kind: Service, name: api, namespace: emo, port: 80}|{group: policy.linkerd.io, kind: EgressNetwork, name: out, namespace: emo, port: 80}}],
	  rules: [{backendRefs: [{name: {web|api|gone}, port: 80{|, namespace: emo}}]}]}}`,
	`{kind: HTTPRoute, apiVersion: policy.linkerd.io/v1beta3, metadata: {name: h0}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: {s0|s1}}], rules: [{matches: [{path: {value: /{a|b}}}]}]}}`,
	`{kind: GRPCRoute, metadata: {name: g0, namespace: {emo|ns-a}}, spec: {parentRefs: [{{group: policy.linkerd.io, kind: Server, name: s0}|{group: core, kind: Service, name: web, namespace: emo}}], rules: [{}]}}`,
	`{kind: TLSRoute, metadata: {name: t0}, spec: {parentRefs: [{group: core, kind: Service, name: {web|api}}], rules: [{backendRefs: [{name: api, port: 80}]}]}}`,
	`{kind: TCPRoute, metadata: {name: {c0|c1}}, spec: {parentRefs: [{group: core, kind: Service, name: api}], rules: [{backendRefs: [{name: web, port: 80}]}]}}`,
	`{kind: Service, metadata: {name: {web|api}, annotations: {{|retry.linkerd.io/http: 5xx|config.linkerd.io/opaque-ports: "80"}}}, spec: {{clusterIP: 10.43.0.1|clusterIP: 10.43.0.2|clusterIP: None|type: ExternalName, externalName: a.b}, ports: [{port: {80|81}{|, appProtocol: http}}]}}`,
	`{kind: EgressNetwork, metadata: {name: out, namespace: {emo|linkerd-egress}}, spec: {trafficPolicy: {Allow|Deny}, {|networks: [{cidr: 1.2.0.0/{16|24}}]}}}`,
	`{kind: ReferenceGrant, metadata: {name: r0}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {ns-a|ns-b}}], to: [{group: "", kind: Service{|, name: web}}]}}`,
}

// question is something that proxies ask.
type question struct {
	name string
	ask  func(x *index.Index) (answers, error)
	// service is the name of the Service that is asked for by its name.
	service string
}

// answers are one stream's.
type answers struct {
	latest func() any
	ended  <-chan struct{}
	close  func()
}

func asAnswers[T any](sub *index.Subscription[T], err error) (answers, error) {
	if err != nil {
		return answers{}, err
	}
	return answers{func() any { return sub.Latest().Value }, sub.Ended(), sub.Close}, nil
}

func questions() []question {
	var list []question
	for _, w := range []index.WorkloadKey{{ID: core.ID{Namespace: "emo", Name: "p0"}}, {ID: core.ID{Namespace: "emo", Name: "p1"}}, {ID: core.ID{Namespace: "emo", Name: "e0"}, External: true}} {
		for _, port := range []uint16{80, 8080, 9090} {
			list = append(list, question{fmt.Sprintf("inbound %s:%d", w.ID, port), func(x *index.Index) (answers, error) {
				return asAnswers(x.Inbound(context.Background(), w, port))
			}, ""})
		}
	}
	for _, client := range []string{"emo", "ns-a"} {
		for _, port := range []uint16{80, 81} {
			for _, ip := range []string{"10.43.0.1", "10.43.0.2", "1.2.0.4", "1.2.3.4", "9.9.9.9"} {
				addr := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
				list = append(list, question{fmt.Sprintf("outbound %s of %s", addr, client), func(x *index.Index) (answers, error) {
					return asAnswers(x.Outbound(context.Background(), addr, client))
				}, ""})
			}
			for _, name := range []string{"web", "api"} {
				list = append(list, question{fmt.Sprintf("outbound %s:%d of %s", name, port, client), func(x *index.Index) (answers, error) {
					return asAnswers(x.OutboundByName(context.Background(), core.ID{Namespace: "emo", Name: name}, "", port, client))
				}, name})
			}
		}
	}
	return list
}

// TestAgrees puts objects into an index and takes them out, at random, while streams follow it, and asks an index that has
// seen only the objects that are left: both must say the same. A policy that stays as it was after something that it is made
// from has changed is what nobody would notice.
func TestAgrees(t *testing.T) {
	const seeds, steps = 12, 60
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { agree(t, seed, steps) })
		})
	}
}

func agree(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 0))
	begin := func() (*index.Index, func()) {
		x := index.New(index.Options{Config: policytest.Config(), Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx) })
		return x, func() { cancel(); running.Wait() }
	}
	x, stop := begin()
	defer stop()
	var objects policytest.Objects
	left := map[string]*unstructured.Unstructured{}
	var history []string
	all := questions()
	following := map[string]answers{}
	for step := range steps {
		// Some events come together.
		for range 1 + r.IntN(3) {
			keys := slices.Sorted(maps.Keys(left))
			if len(keys) > 0 && r.IntN(4) == 0 {
				key := keys[r.IntN(len(keys))]
				history = append(history, "delete "+key)
				if err := x.Delete(t.Context(), left[key]); err != nil {
					t.Fatal(err)
				}
				delete(left, key)
				continue
			}
			text := choices.Pick(r, pieces[r.IntN(len(pieces))])
			u := objects.Read(t, text)[0]
			key := fmt.Sprintf("%s %s %s/%s", u.GroupVersionKind().Group, u.GetKind(), u.GetNamespace(), u.GetName())
			history = append(history, "apply "+text)
			if err := x.Apply(t.Context(), u); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			left[key] = u
		}
		synctest.Wait()
		fresh, stopFresh := begin()
		for _, key := range slices.Sorted(maps.Keys(left)) {
			if err := fresh.Apply(t.Context(), left[key]); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		wantStatuses, err1 := fresh.Outdated(t.Context())
		statuses, err2 := x.Outdated(t.Context())
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for _, key := range slices.Concat(slices.Collect(maps.Keys(statuses)), slices.Collect(maps.Keys(wantStatuses))) {
			if got, want := string(statuses[key]), string(wantStatuses[key]); got != want {
				t.Errorf("step %d: status of %v: %s, want %s\nafter\n%s", step, key, got, want, strings.Join(history, "\n"))
			}
		}
		for _, q := range all {
			wrong := func(what string, got, want any) {
				t.Errorf("step %d: %s, %s: %+v, want %+v\nafter\n%s", step, q.name, what, got, want, strings.Join(history, "\n"))
			}
			want, wantErr := q.ask(fresh)
			now, nowErr := q.ask(x)
			if !errors.Is(nowErr, wantErr) {
				wrong("a new stream", nowErr, wantErr)
			}
			if wantErr == nil && nowErr == nil {
				if got := now.latest(); !reflect.DeepEqual(got, want.latest()) {
					wrong("a new stream", got, want.latest())
				}
			}
			old, follows := following[q.name]
			if follows {
				select {
				case <-old.ended:
					old.close()
					follows = false
				default:
				}
			}
			// Who follows what is gone keeps what there was.
			exists := wantErr == nil && (q.service == "" || left[" Service emo/"+q.service] != nil)
			if follows && exists {
				if got := old.latest(); !reflect.DeepEqual(got, want.latest()) {
					wrong("an old stream", got, want.latest())
				}
			}
			if wantErr == nil {
				want.close()
			}
			switch {
			case nowErr != nil:
			case follows:
				now.close()
			default:
				following[q.name] = now
				continue
			}
			if follows {
				following[q.name] = old
			} else {
				delete(following, q.name)
			}
		}
		stopFresh()
		if t.Failed() {
			return
		}
	}
}
