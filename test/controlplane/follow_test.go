package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
)

// The tests' workload: one Service with one meshed pod. What is said of it has a number, its generation, that every stream
// about it shows: in the endpoint's address, the profile's route, the network that may connect, and the route's path.
const workload = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web, linkerd.io/control-plane-ns: linkerd}}
spec: {containers: [{name: web, image: web, ports: [{name: http, containerPort: 8080}]}]}
`

// generation is what is said of the workload.
func generation(n int) string {
	return fmt.Sprintf(`
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.%[1]d.%[2]d], conditions: {ready: true, serving: true, terminating: false}}]
---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: web.app.svc.cluster.local}
spec: {routes: [{name: gen-%[3]d, condition: {pathRegex: /gen-%[3]d}}]}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: web}}, port: http, proxyProtocol: HTTP/1, accessPolicy: deny}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata: {name: web}
spec: {networks: [{cidr: 10.9.%[1]d.%[2]d/32}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: NetworkAuthentication, name: web}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules: [{matches: [{path: {type: PathPrefix, value: /gen-%[3]d}}], backendRefs: [{name: web, port: 80}]}]
`, n>>8, n&0xff, n)
}

// none is the generation of a workload of which nothing is said.
const none = -1

// follower takes all that a stream sends.
type follower struct {
	name string

	mu sync.Mutex // guards what follows
	// seen has the generation after each message.
	seen  []int
	last  proto.Message
	at    time.Time
	ended error
}

func (f *follower) message(m proto.Message, generation int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen, f.last, f.at = append(f.seen, generation), proto.Clone(m), time.Now()
}

func (f *follower) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = err
}

// latest returns the newest generation, and when the last message came.
func (f *follower) latest() (int, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.seen) == 0 {
		return none, time.Time{}
	}
	return f.seen[len(f.seen)-1], f.at
}

// messages is how many messages there were.
func (f *follower) messages() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

// is reports whether the stream is open and at a generation.
func (f *follower) is(generation int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ended != nil:
		return fmt.Errorf("%s has ended: %w", f.name, f.ended)
	case len(f.seen) == 0:
		return fmt.Errorf("%s has said nothing", f.name)
	case f.seen[len(f.seen)-1] != generation:
		return fmt.Errorf("%s is at %d, want %d; last message:\n%s", f.name, f.seen[len(f.seen)-1], generation, prototext.Format(f.last))
	}
	return nil
}

// inOrder reports a generation that came after a newer one: something stale.
func (f *follower) inOrder() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := slices.DeleteFunc(slices.Clone(f.seen), func(g int) bool { return g == none })
	if !slices.IsSorted(seen) {
		return fmt.Errorf("%s went back: %v", f.name, f.seen)
	}
	return nil
}

// dial connects to a controller.
func (c *controller) dial() *grpc.ClientConn {
	c.w.t.Helper()
	conn, err := grpc.NewClient(c.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.w.check(err)
	c.w.t.Cleanup(func() { conn.Close() })
	return conn
}

// receive follows a stream until it ends.
func receive[M any](f *follower, stream grpc.ServerStreamingClient[M], generation func(*M) int) {
	for {
		m, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("status OK")
			}
			f.end(err)
			return
		}
		f.message(any(m).(proto.Message), generation(m))
	}
}

var generationText = regexp.MustCompile(`gen-(\d+)`)

// named finds the generation in what a message names.
func named(m proto.Message) int {
	found := generationText.FindStringSubmatch(prototext.Format(m))
	if found == nil {
		return none
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		return none
	}
	return n
}

// endpoints follows the set of addresses that the updates of a Get stream describe; its generation is that of the newest.
func endpoints() func(*destinationpb.Update) int {
	set := map[netip.AddrPort]bool{}
	return func(u *destinationpb.Update) int {
		for _, a := range u.GetAdd().GetAddrs() {
			set[address(a.GetAddr())] = true
		}
		for _, a := range u.GetRemove().GetAddrs() {
			delete(set, address(a))
		}
		if u.GetNoEndpoints() != nil {
			clear(set)
		}
		newest := none
		for a := range set {
			if b := a.Addr().As4(); b[0] == 10 && b[1] == 1 {
				newest = max(newest, int(b[2])<<8|int(b[3]))
			}
		}
		return newest
	}
}

func address(a *netpb.TcpAddress) netip.AddrPort {
	v := a.GetIp().GetIpv4()
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), uint16(a.GetPort()))
}

// permitted finds the generation in the networks that may connect.
func permitted(s *inboundpb.Server) int {
	for _, authz := range s.GetAuthorizations() {
		for _, n := range authz.GetNetworks() {
			if v := n.GetNet().GetIp().GetIpv4(); v>>16 == 10<<8|9 {
				return int(v & 0xffff)
			}
		}
	}
	return none
}

// The questions that a proxy of the workload asks.
const (
	context1  = `{"ns":"app","pod":"web-1"}`
	authority = "web.app.svc.cluster.local:80"
)

// followAll opens one stream of each kind about the workload.
func (w *world) followAll(ctx context.Context, destination, policy *controller) []*follower {
	w.t.Helper()
	var all []*follower
	if destination != nil {
		client := destinationpb.NewDestinationClient(destination.dial())
		request := &destinationpb.GetDestination{Scheme: "k8s", Path: authority, ContextToken: context1}
		get, err := client.Get(ctx, request)
		w.check(err)
		profile, err := client.GetProfile(ctx, request)
		w.check(err)
		all = append(all, &follower{name: "Get"}, &follower{name: "GetProfile"})
		go receive(all[0], get, endpoints())
		go receive(all[1], profile, func(m *destinationpb.DestinationProfile) int { return named(m) })
	}
	if policy != nil {
		conn := policy.dial()
		watch, err := inboundpb.NewInboundServerPoliciesClient(conn).WatchPort(ctx, &inboundpb.PortSpec{Workload: context1, Port: 8080})
		w.check(err)
		out, err := outboundpb.NewOutboundPoliciesClient(conn).Watch(ctx, w.outbound("web"))
		w.check(err)
		inbound, outbound := &follower{name: "WatchPort"}, &follower{name: "Watch"}
		go receive(inbound, watch, permitted)
		go receive(outbound, out, func(m *outboundpb.OutboundPolicy) int { return named(m) })
		all = append(all, inbound, outbound)
	}
	return all
}

// outbound is the question about a Service's port 80.
func (w *world) outbound(service string) *outboundpb.TrafficSpec {
	w.t.Helper()
	s, err := w.kube.CoreV1().Services(app).Get(w.t.Context(), service, metav1.GetOptions{})
	w.check(err)
	ip := netip.MustParseAddr(s.Spec.ClusterIP).As4()
	return &outboundpb.TrafficSpec{
		SourceWorkload: context1,
		Target: &outboundpb.TrafficSpec_Addr{Addr: &netpb.TcpAddress{
			Ip:   &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: uint32(ip[0])<<24 | uint32(ip[1])<<16 | uint32(ip[2])<<8 | uint32(ip[3])}},
			Port: 80,
		}},
	}
}

// awaitAll waits until all streams are at a generation.
func (w *world) awaitAll(limit time.Duration, all []*follower, generation int) {
	w.t.Helper()
	w.eventually(limit, fmt.Sprintf("generation %d in all streams", generation), func() error {
		var errs []error
		for _, f := range all {
			errs = append(errs, f.is(generation))
		}
		return errors.Join(errs...)
	})
}
