package serve_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
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
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"sigs.k8s.io/yaml"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/control/destination/serve"
	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/portlist"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestTranscripts runs each file of testdata: objects are applied to a fake API server step by step, and what the streams
// that were opened send is compared with the file. `go test ./control/destination/serve -update` writes it down; to add a
// case, add a file without `want` parts and do that. The parts of a file are, in any number and order:
//
//	-- settings --         transport-header, no-h2, no-ipv6, no-slices, zone-weights, http2, dns; one per line
//	-- dns --              with that setting, what DNS says: `name address...`, `name` for one that does not exist, and
//	                       `name !` for one that DNS cannot be asked for; one per line
//	-- pass TIME --        time goes by
//	-- cluster NAME --     what follows is applied to another cluster (to the own one again with `-- cluster --`)
//	-- link NAME --        that cluster is linked
//	-- unlink NAME --      and is not any more
//	-- apply --            objects, as YAML documents
//	-- delete --           `Kind namespace/name`, one per line
//	-- get STREAM --       path, and on the next line a context token: a new stream of endpoints
//	-- profile STREAM --   the same for profiles
//	-- close STREAM --     the client leaves
//	-- want --             what the streams sent since the last `want`
func TestTranscripts(t *testing.T) {
	golden.Archives(t, "testdata", func(t *testing.T, parts []txtar.File) (got []txtar.File) {
		synctest.Test(t, func(t *testing.T) { got = play(t, parts) })
		return got
	})
}

// cluster is a fake API server with the index that watches it.
type cluster struct {
	typed   *kubefake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	meta    *metadatafake.FakeMetadataClient
	index   *index.Index
	dns     *resolver
	stop    func()
}

// resolver is an index.Resolver.
type resolver struct {
	mu    sync.Mutex // guards names
	names map[string][]string
}

// answersAfter is the time that DNS takes: everybody does first what there is to do without an answer, so that whether a
// stream is told something before it does not go by who runs first.
const answersAfter = time.Millisecond

// LookupNetIP implements index.Resolver.
func (r *resolver) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	time.Sleep(answersAfter)
	r.mu.Lock()
	defer r.mu.Unlock()
	var addrs []netip.Addr
	for _, text := range r.names[host] {
		if text == "!" {
			return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
		}
		if addr := netip.MustParseAddr(text); addr.Is4() || network == "ip" {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return addrs, nil
}

var customKinds = map[schema.GroupVersionResource]string{
	{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}:           "ServiceProfileList",
	{Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"}:             "ServerList",
	{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"}: "ExternalWorkloadList",
}

// settings are those of the settings part.
type settings map[string]bool

func newCluster(t *testing.T, s settings, remote bool, trustDomain string) *cluster {
	t.Helper()
	metaScheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(metaScheme); err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		typed:   kubefake.NewClientset(),
		dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), customKinds),
		meta:    metadatafake.NewSimpleMetadataClient(metaScheme),
	}
	opaque, _ := portlist.Parse("25,3306", nil)
	var names index.Resolver
	if s["dns"] && !remote {
		c.dns = &resolver{names: make(map[string][]string)}
		names = c.dns
	}
	c.index = index.New(index.Options{
		Resolver: names,
		Config: core.Config{
			ControllerNamespace: "linkerd", TrustDomain: trustDomain, ClusterDomain: "cluster.local",
			TransportHeader: s["transport-header"], H2Upgrade: !s["no-h2"], IPv6: !s["no-ipv6"],
			ZoneWeights: s["zone-weights"], DefaultOpaque: opaque,
		},
		Capacity: 100,
		Logger:   slog.New(slog.DiscardHandler),
	})
	watches := c.index.Watches(index.Source{
		Clients:        &kube.Clients{Kube: c.typed, Dynamic: c.dynamic, Metadata: c.meta},
		EndpointSlices: !s["no-slices"],
		Remote:         remote,
	})
	group := kube.NewGroup(slog.New(slog.DiscardHandler), watches...)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.index.Run(ctx) })
	running.Go(func() { group.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
	t.Cleanup(c.stop)
	if err := group.WaitSynced(ctx, kube.SyncTimeout); err != nil {
		t.Fatal(err)
	}
	// Each watch begins after its list, and the fake loses what comes in between.
	synctest.Wait()
	return c
}

// put creates or replaces an object given as YAML.
func (c *cluster) put(t *testing.T, document []byte) {
	t.Helper()
	var u unstructured.Unstructured
	if err := yaml.Unmarshal(document, &u.Object); err != nil {
		t.Fatal(err)
	}
	if u.GetNamespace() == "" && u.GetKind() != "Node" {
		u.SetNamespace("emo")
	}
	tracker, gvr, object := c.place(t, &u)
	err := tracker.Create(gvr, object, u.GetNamespace())
	if apierrors.IsAlreadyExists(err) {
		err = tracker.Update(gvr, object, u.GetNamespace())
	}
	if err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

// place returns where an object of a kind is kept, and the object as it is kept there.
func (c *cluster) place(t *testing.T, u *unstructured.Unstructured) (clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object) {
	t.Helper()
	typed := func(gvr schema.GroupVersionResource, object runtime.Object) (clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object) {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, object); err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
		return c.typed.Tracker(), gvr, object
	}
	meta := func(gvr schema.GroupVersionResource, apiVersion string) (clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object) {
		object := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: apiVersion, Kind: u.GetKind()}}
		object.Name, object.Namespace, object.Labels, object.OwnerReferences = u.GetName(), u.GetNamespace(), u.GetLabels(), u.GetOwnerReferences()
		return c.meta.Tracker(), gvr, object
	}
	custom := func(group, version, resource string) (clienttesting.ObjectTracker, schema.GroupVersionResource, runtime.Object) {
		u.SetAPIVersion(group + "/" + version)
		return c.dynamic.Tracker(), schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, u
	}
	switch u.GetKind() {
	case "Service":
		return typed(corev1.SchemeGroupVersion.WithResource("services"), &corev1.Service{})
	case "Pod":
		return typed(corev1.SchemeGroupVersion.WithResource("pods"), &corev1.Pod{})
	case "Endpoints":
		return typed(corev1.SchemeGroupVersion.WithResource("endpoints"), &corev1.Endpoints{}) //nolint:staticcheck // still supported
	case "EndpointSlice":
		return typed(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), &discoveryv1.EndpointSlice{})
	case "Node":
		return meta(corev1.SchemeGroupVersion.WithResource("nodes"), "v1")
	case "ReplicaSet":
		return meta(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}, "apps/v1")
	case "Job":
		return meta(schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, "batch/v1")
	case "ServiceProfile":
		return custom("linkerd.io", "v1alpha2", "serviceprofiles")
	case "Server":
		return custom("policy.linkerd.io", "v1beta3", "servers")
	case "ExternalWorkload":
		return custom("workload.linkerd.io", "v1beta1", "externalworkloads")
	}
	t.Fatalf("unknown kind %q", u.GetKind())
	return nil, schema.GroupVersionResource{}, nil
}

// linked is a serve.Clusters.
type linked struct {
	mu       sync.Mutex // guards the rest
	clusters map[string]*cluster
	changed  chan struct{}
}

func (l *linked) Cluster(name string) (*index.Index, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.clusters[name]
	if !ok {
		return nil, false
	}
	return c.index, true
}

func (l *linked) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// set links a cluster, or removes the link if c is nil.
func (l *linked) set(name string, c *cluster) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c == nil {
		delete(l.clusters, name)
	} else {
		l.clusters[name] = c
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// play runs the steps of a transcript and returns it with what was sent.
func play(t *testing.T, parts []txtar.File) []txtar.File {
	var out []txtar.File
	set := settings{}
	for _, part := range parts {
		if part.Name == "settings" {
			for _, s := range strings.Fields(string(part.Data)) {
				set[s] = true
			}
		}
	}
	own := newCluster(t, set, false, "cluster.local")
	clusters := &linked{clusters: map[string]*cluster{}, changed: make(chan struct{})}
	known := map[string]*cluster{}
	var http2 *destinationpb.Http2ClientParams
	if set["http2"] {
		http2 = new(destinationpb.Http2ClientParams)
		if err := json.Unmarshal([]byte(`{"keep_alive":{"interval":{"seconds":10},"timeout":{"seconds":3},"while_idle":true}}`), http2); err != nil {
			t.Fatal(err)
		}
	}
	server := serve.New(serve.Options{
		Index: own.index, Clusters: clusters, ClusterDomain: "cluster.local", HTTP2: http2, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { server.Stop(); server.Wait() })

	log := &transcript{}
	streams := map[string]context.CancelFunc{}
	var calls sync.WaitGroup
	t.Cleanup(calls.Wait)
	current := own
	for i, part := range parts {
		if part.Name == "want" {
			continue
		}
		out = append(out, part)
		verb, name, _ := strings.Cut(part.Name, " ")
		switch verb {
		case "settings":
			continue
		case "cluster":
			current = own
			if name != "" {
				if known[name] == nil {
					known[name] = newCluster(t, set, true, name+".example")
				}
				current = known[name]
			}
			continue
		case "link":
			clusters.set(name, known[name])
		case "unlink":
			clusters.set(name, nil)
			known[name].stop()
		case "apply":
			for _, document := range strings.Split("\n"+string(part.Data), "\n---\n") {
				current.put(t, []byte(document))
			}
		case "delete":
			for _, line := range strings.Split(strings.TrimSpace(string(part.Data)), "\n") {
				kind, key, _ := strings.Cut(line, " ")
				namespace, name, _ := strings.Cut(key, "/")
				u := &unstructured.Unstructured{Object: map[string]any{"kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}}}
				tracker, gvr, _ := current.place(t, u)
				if err := tracker.Delete(gvr, namespace, name); err != nil {
					t.Fatal(err)
				}
			}
		case "get", "profile":
			path, token, _ := strings.Cut(strings.TrimSpace(string(part.Data)), "\n")
			request := &destinationpb.GetDestination{Path: path, ContextToken: token}
			ctx, cancel := context.WithCancel(t.Context())
			streams[name] = cancel
			t.Cleanup(cancel)
			calls.Go(func() {
				var err error
				if verb == "get" {
					err = server.Get(request, &stream[destinationpb.Update]{ctx: ctx, name: name, log: log})
				} else {
					err = server.GetProfile(request, &stream[destinationpb.DestinationProfile]{ctx: ctx, name: name, log: log})
				}
				if err != nil {
					log.add("%s failed: %s: %s\n", name, status.Code(err), status.Convert(err).Message())
				} else if t.Context().Err() == nil {
					log.add("%s ended\n", name)
				}
			})
		case "close":
			streams[name]()
		case "dns":
			own.dns.mu.Lock()
			for line := range strings.Lines(string(part.Data)) {
				words := strings.Fields(line)
				own.dns.names[words[0]+"."] = words[1:]
			}
			own.dns.mu.Unlock()
		case "pass":
			d, err := time.ParseDuration(name)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(d)
		default:
			t.Fatalf("unknown part %q", part.Name)
		}
		synctest.Wait()
		if own.dns != nil {
			time.Sleep(answersAfter)
			synctest.Wait()
		}
		next := i+1 < len(parts) && parts[i+1].Name == "want"
		if sent := log.take(); sent != "" || next || verb != "apply" || len(streams) > 0 {
			if sent == "" {
				sent = "nothing\n"
			}
			out = append(out, txtar.File{Name: "want", Data: []byte(sent)})
		}
	}
	return out
}

// transcript collects what streams send.
type transcript struct {
	mu   sync.Mutex // guards text
	text map[string]*strings.Builder
}

// add writes under the name of a stream, which the text begins with, so that the order does not depend on the streams'.
func (l *transcript) add(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	name, _, _ := strings.Cut(text, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text == nil {
		l.text = make(map[string]*strings.Builder)
	}
	if l.text[name] == nil {
		l.text[name] = new(strings.Builder)
	}
	l.text[name].WriteString(text)
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

// stream is the server's end of a call, which prints what it is sent.
type stream[M any] struct {
	grpc.ServerStream
	ctx  context.Context
	name string
	log  *transcript
}

func (s *stream[M]) Context() context.Context     { return s.ctx }
func (s *stream[M]) SendHeader(metadata.MD) error { return nil }
func (s *stream[M]) Send(message *M) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	var out strings.Builder
	switch m := any(message).(type) {
	case *destinationpb.Update:
		printUpdate(&out, s.name, m)
	case *destinationpb.DestinationProfile:
		printProfile(&out, s.name, m)
	}
	s.log.add("%s", out.String())
	return nil
}

func printUpdate(out io.Writer, name string, update *destinationpb.Update) {
	switch u := update.GetUpdate().(type) {
	case *destinationpb.Update_Add:
		fmt.Fprintf(out, "%s add %s\n", name, labelText(u.Add.GetMetricLabels()))
		for _, addr := range u.Add.GetAddrs() {
			fmt.Fprintf(out, "  %s\n", endpointText(addr))
		}
	case *destinationpb.Update_Remove:
		fmt.Fprintf(out, "%s remove", name)
		for _, addr := range u.Remove.GetAddrs() {
			fmt.Fprintf(out, " %s", addrText(addr))
		}
		fmt.Fprintln(out)
	case *destinationpb.Update_NoEndpoints:
		fmt.Fprintf(out, "%s no endpoints, exists %v\n", name, u.NoEndpoints.GetExists())
	}
}

func labelText(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return "{" + strings.Join(list, " ") + "}"
}

func addrText(addr *netpb.TcpAddress) string {
	var ip netip.Addr
	switch a := addr.GetIp().GetIp().(type) {
	case *netpb.IPAddress_Ipv4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], a.Ipv4)
		ip = netip.AddrFrom4(b)
	case *netpb.IPAddress_Ipv6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], a.Ipv6.GetFirst())
		binary.BigEndian.PutUint64(b[8:], a.Ipv6.GetLast())
		ip = netip.AddrFrom16(b)
	}
	return netip.AddrPortFrom(ip, uint16(addr.GetPort())).String()
}

// endpointText prints the fields that are set; the usual weight is left out.
func endpointText(addr *destinationpb.WeightedAddr) string {
	parts := []string{addrText(addr.GetAddr())}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if addr.GetWeight() != 10000 {
		add("weight=%d", addr.GetWeight())
	}
	if id := addr.GetTlsIdentity(); id != nil {
		if dns := id.GetDnsLikeIdentity(); dns != nil {
			add("dns=%s", dns.GetName())
		}
		if uri := id.GetUriLikeIdentity(); uri != nil {
			add("uri=%s", uri.GetUri())
		}
		if id.GetServerName() != nil {
			add("sni=%s", id.GetServerName().GetName())
		}
	}
	if hint := addr.GetProtocolHint(); hint != nil {
		if hint.GetH2() != nil {
			add("h2")
		}
		if hint.GetOpaque() != nil {
			add("opaque")
		}
		if hint.GetOpaqueTransport() != nil {
			add("inbound=%d", hint.GetOpaqueTransport().GetInboundPort())
		}
	}
	if addr.GetAuthorityOverride() != nil {
		add("authority=%s", addr.GetAuthorityOverride().GetAuthorityOverride())
	}
	if addr.GetHttp2() != nil {
		add("http2=(%s)", text(addr.GetHttp2()))
	}
	if len(addr.GetMetricLabels()) > 0 {
		add("%s", labelText(addr.GetMetricLabels()))
	}
	return strings.Join(parts, " ")
}

// text prints a message on one line. prototext varies its blanks on purpose; they are made single.
func text(m proto.Message) string {
	return strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(m)), " ")
}

func printProfile(out io.Writer, name string, p *destinationpb.DestinationProfile) {
	if proto.Equal(p, &destinationpb.DestinationProfile{}) {
		fmt.Fprintf(out, "%s profile, empty\n", name)
		return
	}
	fmt.Fprintf(out, "%s profile", name)
	if p.GetFullyQualifiedName() != "" {
		fmt.Fprintf(out, " of %s", p.GetFullyQualifiedName())
	}
	if p.GetOpaqueProtocol() {
		fmt.Fprint(out, " opaque")
	}
	b := p.GetRetryBudget()
	if budget := fmt.Sprintf("%g %d %s", b.GetRetryRatio(), b.GetMinRetriesPerSecond(), b.GetTtl().AsDuration()); budget != "0.2 10 10s" {
		fmt.Fprintf(out, " budget=(%s)", budget)
	}
	fmt.Fprintln(out)
	ref := func(what string, m *metapb.Metadata) {
		if r := m.GetResource(); r != nil && r.GetName() != "" {
			fmt.Fprintf(out, "  %s %s/%s %s/%s", what, r.GetGroup(), r.GetKind(), r.GetNamespace(), r.GetName())
			if r.GetPort() != 0 {
				fmt.Fprintf(out, ":%d", r.GetPort())
			}
			fmt.Fprintln(out)
		}
	}
	ref("parent", p.GetParentRef())
	ref("from", p.GetProfileRef())
	if p.GetEndpoint() != nil {
		fmt.Fprintf(out, "  endpoint %s\n", endpointText(p.GetEndpoint()))
	}
	for _, r := range p.GetRoutes() {
		fmt.Fprintf(out, "  route %s\n", text(r))
	}
	for _, d := range p.GetDstOverrides() {
		fmt.Fprintf(out, "  override %s weight=%d\n", d.GetAuthority(), d.GetWeight())
	}
}
