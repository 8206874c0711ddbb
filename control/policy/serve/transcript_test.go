package serve_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/serve"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestTranscripts runs each file of testdata: objects are applied step by step, questions are asked, and the answers are
// compared with the file. `go test ./control/policy/serve -update` writes them down; to add a case, add a file without
// `want` parts and do that. The parts of a file are, in any number and order:
//
//	-- settings --         one per line; of the controller: allow-headers, no-probes, default=POLICY; raw: see below
//	-- apply --            objects, as YAML documents
//	-- delete --           `Kind namespace/name`, one per line
//	-- inbound --          questions, one per line: `ns/pod port`; `external:ns/name port` for external workloads
//	-- outbound --         questions, one per line: `address:port` or `name:port`, then the client's namespace
//	-- watch STREAM --     `inbound` or `outbound` and a question: a stream
//	-- close STREAM --     the client leaves
//	-- status --           what the statuses should be that are not
//	-- settle --           writes them, until all are
//	-- complaints --       what events tell of objects without a status
//	-- want --             the answers, and what the streams sent since the last `want`
//
// After a question, `| path` shows only the part of the answer below the path, for example `| protocol.detect.http1`. What
// is left out of objects is filled in: apiVersion by kind, the namespace emo, a creationTimestamp in the order of
// appearance, and, without the setting raw, a status that accepts routes and rate limits everywhere.
func TestTranscripts(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) (got []txtar.File) {
		synctest.Test(t, func(t *testing.T) { got = play(t, parts) })
		return got
	})
}

func prefixes(list ...string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range list {
		prefixes = append(prefixes, netip.MustParsePrefix(text))
	}
	return prefixes
}

// config is that of the charts' defaults, with the settings of a transcript. Source: proxy API chapter, section 12.
func config(t *testing.T, settings []string) core.Config {
	opaque, errs := portlist.Parse("25,587,3306,4444,5432,6379,9300,11211", nil)
	if errs != nil {
		t.Fatal(errs)
	}
	c := core.Config{
		ControllerNamespace:   "linkerd",
		TrustDomain:           "cluster.local",
		ClusterDomain:         "cluster.local",
		ClusterNetworks:       prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"),
		ProbeNetworks:         prefixes("0.0.0.0/0", "::/0"),
		DefaultPolicy:         core.AllUnauthenticated,
		DefaultOpaquePorts:    opaque,
		GlobalEgressNamespace: "linkerd-egress",
	}
	for _, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		switch key {
		case "allow-headers":
			c.AllowRequestHeaders = true
		case "no-probes":
			c.ProbeNetworks = nil
		case "raw":
		case "default":
			if err := c.DefaultPolicy.Set(value); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("unknown setting %q", setting)
		}
	}
	return c
}

// services catches the implementations that a Server registers.
type services struct {
	inbound  inboundpb.InboundServerPoliciesServer
	outbound outboundpb.OutboundPoliciesServer
}

func (s *services) RegisterService(_ *grpc.ServiceDesc, impl any) {
	switch impl := impl.(type) {
	case inboundpb.InboundServerPoliciesServer:
		s.inbound = impl
	case outboundpb.OutboundPoliciesServer:
		s.outbound = impl
	}
}

// play runs the steps of a transcript and returns it with the answers.
func play(t *testing.T, parts []txtar.File) []txtar.File {
	var settings []string
	for _, part := range parts {
		if part.Name == "settings" {
			settings = append(settings, strings.Fields(string(part.Data))...)
		}
	}
	log := &transcript{}
	c := config(t, settings)
	x := index.New(index.Options{Config: c, Logger: slog.New(log)})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.Run(ctx) })
	server := serve.New(serve.Options{Index: x, ClusterDomain: c.ClusterDomain, Logger: slog.New(slog.DiscardHandler)})
	var registered services
	server.Register(&registered)
	// Streams end first, as in the program.
	defer func() { server.Stop(); running.Wait() }()
	defer func() { server.Stop(); synctest.Wait(); server.Wait(); cancel() }()

	var out []txtar.File
	streams := map[string]context.CancelFunc{}
	objects := &fixtures{raw: slices.Contains(settings, "raw"), created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i, part := range parts {
		if part.Name == "want" {
			continue
		}
		out = append(out, part)
		lines := strings.Split(strings.TrimSpace(string(part.Data)), "\n")
		verb, name, _ := strings.Cut(part.Name, " ")
		switch verb {
		case "settings":
			continue
		case "apply":
			for _, document := range strings.Split("\n"+string(part.Data), "\n---\n") {
				object := objects.read(t, document)
				if err := x.Apply(ctx, object); err != nil {
					log.add("refused", "%s %s/%s: %v\n", object.GetKind(), object.GetNamespace(), object.GetName(), err)
				}
			}
		case "delete":
			for _, line := range lines {
				kind, key, _ := strings.Cut(line, " ")
				namespace, name, _ := strings.Cut(key, "/")
				if err := x.Delete(ctx, objects.read(t, fmt.Sprintf("{kind: %s, metadata: {namespace: %s, name: %s}}", kind, namespace, name))); err != nil {
					t.Fatal(err)
				}
			}
		case "inbound", "outbound":
			for _, line := range lines {
				question, path, _ := strings.Cut(line, " | ")
				answer, err := ask(t, registered, verb, question)
				log.answer(fmt.Sprintf("%03d", i), line, answer, err, path)
			}
		case "status":
			for key, patch := range outdated(t, x) {
				log.add("status "+key, "%s\n%s", key, printStatus(patch))
			}
		case "complaints":
			complaints, err := x.Complaints(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for k, c := range complaints {
				for _, text := range c.Texts {
					log.add("complaints "+c.Kind+k.String(), "%s %s: %s\n", c.Kind, k.ID, text)
				}
			}
			log.add("complaints", "%d complaints\n", len(complaints))
		case "settle":
			for rounds := 0; ; rounds++ {
				patches := outdated(t, x)
				if len(patches) == 0 {
					log.add("settle", "settled after %d rounds\n", rounds)
					break
				}
				if rounds == 5 {
					t.Fatalf("not settled: %v", patches)
				}
				for key, patch := range patches {
					object := objects.all[key]
					object.Object["status"] = patch["status"]
					if err := x.Apply(ctx, object); err != nil {
						t.Logf("%s: %v", key, err)
					}
				}
				synctest.Wait()
			}
		case "watch":
			direction, question, _ := strings.Cut(lines[0], " ")
			question, path, _ := strings.Cut(question, " | ")
			streamCtx, leave := context.WithCancel(ctx)
			streams[name] = leave
			defer leave()
			running.Go(func() {
				var err error
				if direction == "inbound" {
					err = registered.inbound.WatchPort(portSpec(t, question), &stream[inboundpb.Server]{ctx: streamCtx, name: name, path: path, log: log})
				} else {
					err = registered.outbound.Watch(trafficSpec(t, question), &stream[outboundpb.OutboundPolicy]{ctx: streamCtx, name: name, path: path, log: log})
				}
				if err != nil {
					log.answer(name, name, nil, err, "")
				} else {
					log.add(name, "%s ended\n", name)
				}
			})
		case "close":
			streams[name]()
		default:
			t.Fatalf("unknown part %q", part.Name)
		}
		synctest.Wait()
		next := i+1 < len(parts) && parts[i+1].Name == "want"
		if sent := log.take(); sent != "" || next || len(streams) > 0 {
			if sent == "" {
				sent = "nothing\n"
			}
			out = append(out, txtar.File{Name: "want", Data: []byte(sent)})
		}
	}
	return out
}

// outdated returns the patches of the statuses that are not what they should be.
func outdated(t *testing.T, x *index.Index) map[string]map[string]any {
	t.Helper()
	list, err := x.Outdated(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	patches := make(map[string]map[string]any)
	for k, text := range list {
		var patch map[string]any
		if err := json.Unmarshal(text, &patch); err != nil {
			t.Fatal(err)
		}
		patches[key(k.Resource.Group, patch["kind"].(string), k.Namespace, k.Name)] = patch
	}
	return patches
}

// printStatus writes a status as one line per condition.
func printStatus(patch map[string]any) string {
	status := patch["status"].(map[string]any)
	conditions := func(of string, holder map[string]any) string {
		var out strings.Builder
		list, _ := holder["conditions"].([]any)
		for _, c := range list {
			c := c.(map[string]any)
			fmt.Fprintf(&out, "  %s%v %v %v", of, c["type"], c["status"], c["reason"])
			if message := c["message"]; message != "" {
				fmt.Fprintf(&out, ": %v", message)
			}
			out.WriteString("\n")
		}
		return out.String()
	}
	parents, isRoute := status["parents"].([]any)
	if !isRoute {
		return conditions("", status)
	}
	var out strings.Builder
	for _, p := range parents {
		p := p.(map[string]any)
		ref := p["parentRef"].(map[string]any)
		parent := fmt.Sprintf("%v %v/%v %v/%v", p["controllerName"], ref["group"], ref["kind"], ref["namespace"], ref["name"])
		if port, ok := ref["port"]; ok {
			parent += fmt.Sprintf(":%v", port)
		}
		out.WriteString(conditions(parent+": ", p))
	}
	if len(parents) == 0 {
		return "  no parents\n"
	}
	return out.String()
}

func ask(t *testing.T, s services, direction, question string) (proto.Message, error) {
	if direction == "inbound" {
		return s.inbound.GetPort(t.Context(), portSpec(t, question))
	}
	return s.outbound.Get(t.Context(), trafficSpec(t, question))
}

func portSpec(t *testing.T, question string) *inboundpb.PortSpec {
	var workload string
	var port uint32
	if _, err := fmt.Sscan(question, &workload, &port); err != nil {
		t.Fatalf("%q: %v", question, err)
	}
	kind := "pod"
	if name, external := strings.CutPrefix(workload, "external:"); external {
		kind, workload = "external_workload", name
	}
	namespace, name, ok := strings.Cut(workload, "/")
	if !ok {
		return &inboundpb.PortSpec{Workload: workload, Port: port}
	}
	return &inboundpb.PortSpec{Workload: fmt.Sprintf("{%q:%q,%q:%q}\n", "ns", namespace, kind, name), Port: port}
}

func trafficSpec(t *testing.T, question string) *outboundpb.TrafficSpec {
	var target, namespace string
	if _, err := fmt.Sscan(question, &target, &namespace); err != nil {
		t.Fatalf("%q: %v", question, err)
	}
	spec := &outboundpb.TrafficSpec{SourceWorkload: fmt.Sprintf("{%q:%q,%q:%q}", "ns", namespace, "pod", "client-1")}
	addrPort, err := netip.ParseAddrPort(target)
	if err != nil {
		spec.Target = &outboundpb.TrafficSpec_Authority{Authority: target}
		return spec
	}
	addr := &netpb.TcpAddress{Ip: &netpb.IPAddress{}, Port: uint32(addrPort.Port())}
	octets := addrPort.Addr().AsSlice()
	number := func(b []byte) (n uint64) {
		for _, octet := range b {
			n = n<<8 | uint64(octet)
		}
		return n
	}
	if len(octets) == 4 {
		addr.Ip.Ip = &netpb.IPAddress_Ipv4{Ipv4: uint32(number(octets))}
	} else {
		addr.Ip.Ip = &netpb.IPAddress_Ipv6{Ipv6: &netpb.IPv6{First: number(octets[:8]), Last: number(octets[8:])}}
	}
	spec.Target = &outboundpb.TrafficSpec_Addr{Addr: addr}
	return spec
}

// fixtures completes the objects of transcripts.
type fixtures struct {
	// raw adds no statuses.
	raw     bool
	created time.Time
	seen    map[string]string
	// all has the objects that were read last.
	all map[string]*unstructured.Unstructured
}

// key names an object whatever its version.
func key(group, kind, namespace, name string) string {
	return kind + "." + group + " " + namespace + "/" + name
}

var apiVersions = map[string]string{
	"Pod": "v1", "Service": "v1",
	"ExternalWorkload": "workload.linkerd.io/v1beta1",
	"Server":           "policy.linkerd.io/v1beta3", "ServerAuthorization": "policy.linkerd.io/v1beta1",
	"AuthorizationPolicy": "policy.linkerd.io/v1alpha1", "MeshTLSAuthentication": "policy.linkerd.io/v1alpha1",
	"NetworkAuthentication": "policy.linkerd.io/v1alpha1", "EgressNetwork": "policy.linkerd.io/v1alpha1",
	"HTTPLocalRateLimitPolicy": "policy.linkerd.io/v1alpha1",
	"HTTPRoute":                "gateway.networking.k8s.io/v1", "GRPCRoute": "gateway.networking.k8s.io/v1",
	"ReferenceGrant": "gateway.networking.k8s.io/v1beta1",
	"TLSRoute":       "gateway.networking.k8s.io/v1alpha2", "TCPRoute": "gateway.networking.k8s.io/v1alpha2",
}

func (f *fixtures) read(t *testing.T, document string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
		t.Fatalf("%s\n%v", document, err)
	}
	if u.GetAPIVersion() == "" {
		u.SetAPIVersion(apiVersions[u.GetKind()])
	}
	// Through JSON and back, so that numbers are of the types that a client makes of them.
	text, err := u.MarshalJSON()
	if err == nil {
		err = u.UnmarshalJSON(text)
	}
	if err != nil {
		t.Fatalf("%s\n%v", document, err)
	}
	if u.GetNamespace() == "" {
		u.SetNamespace("emo")
	}
	key := key(u.GroupVersionKind().Group, u.GetKind(), u.GetNamespace(), u.GetName())
	if f.seen == nil {
		f.seen, f.all = make(map[string]string), make(map[string]*unstructured.Unstructured)
	}
	f.all[key] = u
	if _, set, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", "creationTimestamp"); !set {
		if f.seen[key] == "" {
			f.created = f.created.Add(time.Minute)
			f.seen[key] = f.created.Format(time.RFC3339)
		}
		unstructured.SetNestedField(u.Object, f.seen[key], "metadata", "creationTimestamp")
	}
	if _, set := u.Object["status"]; !set && !f.raw {
		condition := []any{map[string]any{"type": "Accepted", "status": "True"}}
		if refs, ok, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs"); ok {
			var parents []any
			for _, ref := range refs {
				parents = append(parents, map[string]any{"controllerName": "linkerd.io/policy-controller", "parentRef": ref, "conditions": condition})
			}
			u.Object["status"] = map[string]any{"parents": parents}
		} else if u.GetKind() == "HTTPLocalRateLimitPolicy" {
			u.Object["status"] = map[string]any{"conditions": condition}
		}
	}
	return u
}

// transcript collects what the controller says.
type transcript struct {
	mu   sync.Mutex // guards text
	text map[string]*strings.Builder
}

// add writes under a name, in whose order the text is taken, so that it does not depend on the goroutines'.
func (l *transcript) add(name, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == nil {
		l.text = make(map[string]*strings.Builder)
	}
	if l.text[name] == nil {
		l.text[name] = new(strings.Builder)
	}
	fmt.Fprintf(l.text[name], format, args...)
}

func (l *transcript) answer(name, title string, m proto.Message, err error, path string) {
	if err != nil {
		l.add(name, "%s: %s: %s\n", title, status.Code(err), status.Convert(err).Message())
		return
	}
	l.add(name, "%s\n%s", title, print(m, path))
}

func (l *transcript) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(l.text)) {
		all.WriteString(l.text[name].String())
	}
	l.text = nil
	return all.String()
}

// Enabled, Handle, WithAttrs and WithGroup make it a slog.Handler: warnings are part of the transcript.
func (l *transcript) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}
func (l *transcript) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *transcript) WithGroup(string) slog.Handler      { return l }
func (l *transcript) Handle(_ context.Context, r slog.Record) error {
	text := "warning: " + r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.add("warning", "%s\n", text)
	return nil
}

// stream is the server's end of a call, which prints what it is sent.
type stream[M any] struct {
	grpc.ServerStream
	ctx        context.Context
	name, path string
	log        *transcript
}

func (s *stream[M]) Context() context.Context     { return s.ctx }
func (s *stream[M]) SendHeader(metadata.MD) error { return nil }
func (s *stream[M]) Send(message *M) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	s.log.answer(s.name, s.name, any(message).(proto.Message), nil, s.path)
	return nil
}
