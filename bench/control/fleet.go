package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
)

// Fleet are simulated proxies. Each has a connection to the destination
// controller with a stream of endpoints, which it keeps a view of, and a
// connection to the policy controller with one stream: proxies of even number
// follow what goes out to the service whose endpoints they follow, the others
// what comes in at a pod.
//
// In a cluster these connections end at the proxy of the controllers' own pod,
// which carries the streams of all on few connections: so many connections are
// the harder case for the controllers' memory.
type Fleet struct {
	lab     *Lab
	proxies []*proxy
	// inbound is what all streams of incoming policy are told together.
	inbound topic
	// messages is how many there were on all streams.
	messages atomic.Int64

	// stop ends the streams that running counts.
	stop    context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex // guards failed
	// failed is why the first stream ended that should not have.
	failed error
}

type proxy struct {
	number              int
	destination, policy *grpc.ClientConn
	service             *service

	mu sync.Mutex // guards view
	// view are the endpoints that it was told of.
	view map[netip.AddrPort]struct{}
}

func newFleet(l *Lab) *Fleet { return &Fleet{lab: l, stop: func() {}} }

// Messages is how many messages all streams have got so far.
func (f *Fleet) Messages() int64 { return f.messages.Load() }

// Close ends the streams and the connections.
func (f *Fleet) Close() {
	f.end()
	for _, p := range f.proxies {
		p.destination.Close()
		p.policy.Close()
	}
	f.proxies = nil
}

// end ends the streams.
func (f *Fleet) end() {
	f.stop()
	f.running.Wait()
}

// Err is why a stream ended that should not have.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The first says why; others follow from it.
	if f.failed == nil {
		f.failed = err
	}
}

// dial connects, again and again while nobody listens.
func dial(addr string) (*grpc.ClientConn, error) {
	// Small buffers: there are thousands of connections. A window of a fixed size, HTTP/2's own, as proxies have it: with
	// gRPC's, which grows, a client would answer most messages with a ping to measure the way, and the controllers'
	// part in that would be measured.
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(2<<10), grpc.WithWriteBufferSize(2<<10), grpc.WithDisableServiceConfig(),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond},
			MinConnectTimeout: 30 * time.Second,
		}))
}

// Open opens the streams of n proxies, of which number i follows the service
// that of returns for it, and waits until each has been told of its endpoints
// and its policy. Streams that are open are ended first.
func (f *Fleet) Open(ctx context.Context, n int, of func(i int) int) error {
	f.end()
	for i := len(f.proxies); i < n; i++ {
		p := &proxy{number: i}
		var err error
		if p.destination, err = dial(f.lab.Destination.Addr); err != nil {
			return err
		}
		if p.policy, err = dial(f.lab.Policy.Addr); err != nil {
			return err
		}
		f.proxies = append(f.proxies, p)
	}
	var streams context.Context
	streams, f.stop = context.WithCancel(context.Background())
	var first sync.WaitGroup
	for _, p := range f.proxies {
		p.service = f.lab.services[of(p.number)]
		p.view = make(map[netip.AddrPort]struct{})
		first.Add(2)
		f.running.Go(func() { f.end1(streams, f.endpoints(streams, p, sync.OnceFunc(first.Done))) })
		f.running.Go(func() { f.end1(streams, f.policy(streams, p, sync.OnceFunc(first.Done))) })
	}
	told := make(chan struct{})
	go func() { first.Wait(); close(told) }()
	for {
		select {
		case <-told:
			return f.Check()
		case <-ctx.Done():
			return fmt.Errorf("streams were told nothing: %w", ctx.Err())
		case <-time.After(50 * time.Millisecond):
			if err := f.Err(); err != nil {
				return err
			}
		}
	}
}

// end1 notes how a stream ended, unless it should have.
func (f *Fleet) end1(streams context.Context, err error) {
	if streams.Err() == nil {
		f.fail(err)
	}
}

// token is what a proxy says of itself.
func (p *proxy) token() string {
	s := p.service
	i := p.number % EndpointsPerService
	return fmt.Sprintf(`{"ns":%q,"nodeName":%q,"pod":%q}`, s.namespace, nodeName(nodeOf(s.number, i)), s.pods[i])
}

// endpoints follows the endpoints of the proxy's service. first is called when
// there are as many as there should be.
func (f *Fleet) endpoints(ctx context.Context, p *proxy, first func()) error {
	stream, err := destinationpb.NewDestinationClient(p.destination).Get(ctx,
		&destinationpb.GetDestination{Scheme: "k8s", Path: p.service.authority(), ContextToken: p.token()}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("proxy %d: endpoints: %w", p.number, err)
	}
	for {
		update, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("proxy %d: endpoints: %w", p.number, err)
		}
		f.messages.Add(1)
		p.apply(update)
		first()
		p.service.endpoints.saw(update)
	}
}

// apply brings the proxy's view up to date.
func (p *proxy) apply(update *destinationpb.Update) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch u := update.GetUpdate().(type) {
	case *destinationpb.Update_Add:
		for _, a := range u.Add.GetAddrs() {
			p.view[address(a.GetAddr())] = struct{}{}
		}
	case *destinationpb.Update_Remove:
		for _, a := range u.Remove.GetAddrs() {
			delete(p.view, address(a))
		}
	case *destinationpb.Update_NoEndpoints:
		clear(p.view)
	}
}

func address(a *netpb.TcpAddress) netip.AddrPort {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], a.GetIp().GetIpv4())
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(a.GetPort()))
}

// traffic is what the proxy asks about: its service.
func (p *proxy) traffic() *outboundpb.TrafficSpec {
	ip := p.service.clusterIP.As4()
	return &outboundpb.TrafficSpec{
		SourceWorkload: p.token(),
		Target: &outboundpb.TrafficSpec_Addr{Addr: &netpb.TcpAddress{
			Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: binary.BigEndian.Uint32(ip[:])}}, Port: servicePort,
		}},
	}
}

// policy follows the proxy's policy.
func (f *Fleet) policy(ctx context.Context, p *proxy, first func()) error {
	failed := func(err error) error { return fmt.Errorf("proxy %d: policy: %w", p.number, err) }
	if p.number%2 == 0 {
		stream, err := outboundpb.NewOutboundPoliciesClient(p.policy).Watch(ctx, p.traffic(), grpc.WaitForReady(true))
		if err != nil {
			return failed(err)
		}
		return receive(f, stream, first, &p.service.policy, failed)
	}
	stream, err := inboundpb.NewInboundServerPoliciesClient(p.policy).WatchPort(ctx,
		&inboundpb.PortSpec{Workload: p.token(), Port: podPort}, grpc.WaitForReady(true))
	if err != nil {
		return failed(err)
	}
	return receive(f, stream, first, &f.inbound, failed)
}

func receive[M any](f *Fleet, stream grpc.ServerStreamingClient[M], first func(), t *topic, failed func(error) error) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return failed(err)
		}
		f.messages.Add(1)
		first()
		t.saw(message)
	}
}

// Check compares what each proxy was told with what the API server has, and
// returns a difference.
func (f *Fleet) Check() error {
	if err := f.Err(); err != nil {
		return err
	}
	wanted := make(map[*service][]netip.AddrPort)
	for _, p := range f.proxies {
		want, ok := wanted[p.service]
		if !ok {
			want = p.service.ready()
			wanted[p.service] = want
		}
		p.mu.Lock()
		got := slices.SortedFunc(maps.Keys(p.view), netip.AddrPort.Compare)
		p.mu.Unlock()
		if !slices.Equal(got, want) {
			return fmt.Errorf("proxy %d has %d endpoints of %s/%s, and not the %d that there are", p.number, len(got), p.service.namespace, p.service.name, len(want))
		}
	}
	return nil
}

// Quiet waits until no stream was told anything for some time.
func (f *Fleet) Quiet(ctx context.Context, d time.Duration) error {
	for {
		before := f.Messages()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
		if f.Messages() == before {
			return f.Err()
		}
	}
}

// watchers is how many proxies follow the endpoints of each service.
func (f *Fleet) watchers() map[*service]int {
	n := make(map[*service]int)
	for _, p := range f.proxies {
		n[p.service]++
	}
	return n
}

// ChangeEndpoint makes an endpoint of a service ready or not and returns the
// time from the API server's answer until the last proxy that follows the
// service was told; 0 if that was before the answer.
func (f *Fleet) ChangeEndpoint(ctx context.Context, number, endpoint int, ready bool) (time.Duration, error) {
	s := f.lab.services[number]
	addr := netip.AddrPortFrom(podAddr(number, endpoint), podPort)
	e := s.endpoints.expect(f.watchers()[s], func(m any) bool {
		if ready {
			return slices.ContainsFunc(m.(*destinationpb.Update).GetAdd().GetAddrs(), func(a *destinationpb.WeightedAddr) bool { return address(a.GetAddr()) == addr })
		}
		return slices.ContainsFunc(m.(*destinationpb.Update).GetRemove().GetAddrs(), func(a *netpb.TcpAddress) bool { return address(a) == addr })
	})
	at, err := f.lab.SetReady(ctx, number, endpoint, ready)
	if err != nil {
		return 0, err
	}
	return f.since(ctx, at, e, func(ctx context.Context) (bool, error) {
		p := &proxy{service: s, view: make(map[netip.AddrPort]struct{})}
		conn, err := dial(f.lab.Destination.Addr)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		stream, err := destinationpb.NewDestinationClient(conn).Get(ctx, &destinationpb.GetDestination{Path: s.authority(), ContextToken: p.token()}, grpc.WaitForReady(true))
		if err != nil {
			return false, err
		}
		update, err := stream.Recv()
		if err != nil {
			return false, err
		}
		p.apply(update)
		_, has := p.view[addr]
		return has == ready, nil
	})
}

// since returns how long after at the last stream was told what it was to be. anew
// reports whether a new stream is told of the change.
func (f *Fleet) since(ctx context.Context, at time.Time, e *expectation, anew func(context.Context) (bool, error)) (time.Duration, error) {
	last, err := e.wait(ctx, anew)
	if err != nil {
		return 0, errors.Join(err, f.Err())
	}
	return max(last.Sub(at), 0), nil
}

// ChangeOutbound gives the requests to a service another limit and returns the
// time until the last proxy that follows what goes out to it was told.
func (f *Fleet) ChangeOutbound(ctx context.Context, number int, limit time.Duration) (time.Duration, error) {
	s := f.lab.services[number]
	n := 0
	for _, p := range f.proxies {
		if p.service == s && p.number%2 == 0 {
			n++
		}
	}
	limited := func(m any) bool {
		for _, route := range m.(*outboundpb.OutboundPolicy).GetProtocol().GetDetect().GetHttp1().GetRoutes() {
			for _, rule := range route.GetRules() {
				if rule.GetTimeouts().GetRequest().AsDuration() == limit {
					return true
				}
			}
		}
		return false
	}
	e := s.policy.expect(n, limited)
	at, err := f.lab.SetTimeout(ctx, number, limit)
	if err != nil {
		return 0, err
	}
	return f.since(ctx, at, e, func(ctx context.Context) (bool, error) {
		conn, err := dial(f.lab.Policy.Addr)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		policy, err := outboundpb.NewOutboundPoliciesClient(conn).Get(ctx, (&proxy{service: s}).traffic(), grpc.WaitForReady(true))
		return limited(policy), err
	})
}

// ChangeInbound lets another account in everywhere and returns the time until
// the last proxy that follows what comes in was told.
func (f *Fleet) ChangeInbound(ctx context.Context, account string) (time.Duration, error) {
	name := account + ".shop.serviceaccount.identity.linkerd." + clusterDomain
	admitted := func(m any) bool {
		for _, a := range m.(*inboundpb.Server).GetAuthorizations() {
			for _, id := range a.GetAuthentication().GetMeshTLS().GetIdentities().GetIdentities() {
				if id.GetName() == name {
					return true
				}
			}
		}
		return false
	}
	e := f.inbound.expect(len(f.proxies)/2, admitted)
	if err := f.lab.Identity(ctx, account); err != nil {
		return 0, err
	}
	return f.since(ctx, time.Now(), e, func(ctx context.Context) (bool, error) {
		conn, err := dial(f.lab.Policy.Addr)
		if err != nil {
			return false, err
		}
		defer conn.Close()
		server, err := inboundpb.NewInboundServerPoliciesClient(conn).GetPort(ctx, &inboundpb.PortSpec{Workload: f.proxies[0].token(), Port: podPort}, grpc.WaitForReady(true))
		return admitted(server), err
	})
}

// FirstAnswer returns when a destination controller that has just been started
// tells a proxy of the endpoints of a service, all of them.
func (f *Fleet) FirstAnswer(ctx context.Context, c *Controller, number int) (time.Time, error) {
	s := f.lab.services[number]
	p := &proxy{service: s, view: make(map[netip.AddrPort]struct{})}
	conn, err := dial(c.Addr)
	if err != nil {
		return time.Time{}, err
	}
	defer conn.Close()
	if c.Name == f.lab.Policy.Name {
		server, err := inboundpb.NewInboundServerPoliciesClient(conn).GetPort(ctx, &inboundpb.PortSpec{Workload: p.token(), Port: podPort}, grpc.WaitForReady(true))
		if err == nil && len(server.GetAuthorizations()) == 0 {
			err = errors.New("the first answer lets nobody in")
		}
		return time.Now(), err
	}
	stream, err := destinationpb.NewDestinationClient(conn).Get(ctx, &destinationpb.GetDestination{Path: s.authority(), ContextToken: p.token()}, grpc.WaitForReady(true))
	if err != nil {
		return time.Time{}, err
	}
	update, err := stream.Recv()
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	p.apply(update)
	if want := s.ready(); len(p.view) != len(want) {
		return at, fmt.Errorf("the first answer has %d endpoints of %d", len(p.view), len(want))
	}
	return at, nil
}
