// Package testcontrol is a control plane for tests: the destination, policy and
// identity APIs on a real gRPC server, whose answers the test sets and changes
// while streams are open.
//
//	ctl := testcontrol.New(t)
//	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.Endpoint("10.0.0.1:80"))
//	ctl.SetOutbound("10.96.0.1:80", policy)
//	conn := ctl.Dial(t)
//
// What was not set: profiles and policies are NOT_FOUND (the profile lookup
// then stays pending, as with a real controller; use FailProfile for "none"),
// endpoints and ports stay silent. All methods may be called from any
// goroutine.
package testcontrol

import (
	"context"
	"crypto"
	"crypto/x509"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	leannet "github.com/linkerd-go/linkerd-go/api/lean/net"
	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	metapb "github.com/linkerd-go/linkerd-go/api/proto/meta"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// Issuer issues certificates; testca.CA is one.
type Issuer interface {
	Issue(t testing.TB, pub crypto.PublicKey, names ...string) [][]byte
}

// Server is the control plane.
type Server struct {
	t      testing.TB
	server *grpc.Server
	addr   netip.AddrPort

	// Identity issues certificates for Certify; nil answers UNAVAILABLE. Set
	// it before the first request.
	Identity Issuer

	mu sync.Mutex
	// All that follows is guarded by mu.
	endpoints map[string]*topic[[]*destinationpb.WeightedAddr]
	profiles  map[string]*topic[*destinationpb.DestinationProfile]
	outbound  map[string]*topic[*outboundpb.OutboundPolicy]
	inbound   map[uint16]*topic[*inboundpb.Server]
	requests  []proto.Message
	drop      chan struct{}
}

// topic is one thing that is watched.
type topic[T any] struct {
	value T
	set   bool
	err   error
	next  chan struct{}
}

// New starts a server on a loopback address and stops it with the test.
func New(t testing.TB) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return Serve(t, l)
}

// Serve is New on a listener of the caller's, which may be one that does TLS.
func Serve(t testing.TB, l net.Listener) *Server {
	t.Helper()
	s := &Server{
		t:         t,
		server:    grpc.NewServer(),
		endpoints: make(map[string]*topic[[]*destinationpb.WeightedAddr]),
		profiles:  make(map[string]*topic[*destinationpb.DestinationProfile]),
		outbound:  make(map[string]*topic[*outboundpb.OutboundPolicy]),
		inbound:   make(map[uint16]*topic[*inboundpb.Server]),
		drop:      make(chan struct{}),
	}
	s.addr, _ = netip.ParseAddrPort(l.Addr().String())
	destinationpb.RegisterDestinationServer(s.server, destination{s: s})
	outboundpb.RegisterOutboundPoliciesServer(s.server, outbound{s: s})
	inboundpb.RegisterInboundServerPoliciesServer(s.server, inbound{s: s})
	identitypb.RegisterIdentityServer(s.server, identity{s: s})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Stop closes all connections and refuses new ones.
func (s *Server) Stop() { s.server.Stop() }

// Dial returns a plain connection to the server, closed with the test.
func (s *Server) Dial(t testing.TB) *rpc.Conn {
	t.Helper()
	c := rpc.New(rpc.Config{
		Name: "test controller", Authority: s.addr.String(),
		Resolve: func(context.Context) (dns.Answer, error) {
			return dns.Answer{Addrs: []netip.AddrPort{s.addr}, TTL: time.Hour}, nil
		},
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		},
		Backoff: model.Backoff{Min: 100 * time.Millisecond, Max: time.Second},
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// encodeAddr and decodeAddr are those of package decode, for the messages of the
// server.
func encodeAddr(a netip.AddrPort) *netpb.TcpAddress {
	out := new(netpb.TcpAddress)
	if err := proto.Unmarshal(decode.EncodeAddr(a).AppendWire(nil), out); err != nil {
		panic(err)
	}
	return out
}

func decodeAddr(a *netpb.TcpAddress) netip.AddrPort {
	b, err := proto.Marshal(a)
	if err != nil {
		panic(err)
	}
	m := new(leannet.TcpAddress)
	if err := m.ParseWire(b); err != nil {
		panic(err)
	}
	out, _ := decode.AddrPort(m)
	return out
}

// DropStreams ends all streams that are open, properly.
func (s *Server) DropStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.drop)
	s.drop = make(chan struct{})
}

// Requests returns what was asked so far, in order.
func (s *Server) Requests() []proto.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]proto.Message(nil), s.requests...)
}

func (s *Server) record(m proto.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, m)
}

func change[K comparable, T any](s *Server, topics map[K]*topic[T], key K, f func(*topic[T])) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := get(topics, key)
	f(t)
	close(t.next)
	t.next = make(chan struct{})
}

// get returns the topic of a key; the server's mu is held.
func get[K comparable, T any](topics map[K]*topic[T], key K) *topic[T] {
	t := topics[key]
	if t == nil {
		t = &topic[T]{next: make(chan struct{})}
		topics[key] = t
	}
	return t
}

func setTo[T any](v T) func(*topic[T]) {
	return func(t *topic[T]) { t.value, t.set, t.err = v, true, nil }
}

func failWith[T any](code codes.Code) func(*topic[T]) {
	return func(t *topic[T]) { t.err = status.Error(code, "set by test") }
}

// SetEndpoints makes list the endpoints of path. Streams get the difference.
func (s *Server) SetEndpoints(path string, list ...*destinationpb.WeightedAddr) {
	change(s, s.endpoints, path, setTo(list))
}

// FailEndpoints makes Get for path end with code.
func (s *Server) FailEndpoints(path string, code codes.Code) {
	change(s, s.endpoints, path, failWith[[]*destinationpb.WeightedAddr](code))
}

// SetProfile sets the profile of path, "name:port" or "IP:port".
func (s *Server) SetProfile(path string, p *destinationpb.DestinationProfile) {
	change(s, s.profiles, path, setTo(p))
}

// FailProfile makes GetProfile for path end with code; INVALID_ARGUMENT means
// "no profile".
func (s *Server) FailProfile(path string, code codes.Code) {
	change(s, s.profiles, path, failWith[*destinationpb.DestinationProfile](code))
}

// SetOutbound sets the policy of target, "IP:port" or "name:port".
func (s *Server) SetOutbound(target string, p *outboundpb.OutboundPolicy) {
	change(s, s.outbound, target, setTo(p))
}

// FailOutbound makes Watch for target end with code.
func (s *Server) FailOutbound(target string, code codes.Code) {
	change(s, s.outbound, target, failWith[*outboundpb.OutboundPolicy](code))
}

// SetInbound sets the policy of a port.
func (s *Server) SetInbound(port uint16, p *inboundpb.Server) {
	change(s, s.inbound, port, setTo(p))
}

// FailInbound makes WatchPort end with code.
func (s *Server) FailInbound(port uint16, code codes.Code) {
	change(s, s.inbound, port, failWith[*inboundpb.Server](code))
}

// follow sends each value of a topic. silent says what to do while there is
// none: wait, or NOT_FOUND.
func follow[K comparable, T any](ctx context.Context, s *Server, topics map[K]*topic[T], key K, silent bool, send func(T) error) error {
	for {
		s.mu.Lock()
		t := get(topics, key)
		value, set, err, next, drop := t.value, t.set, t.err, t.next, s.drop
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case set:
			if err := send(value); err != nil {
				return err
			}
		case !silent:
			return status.Error(codes.NotFound, "not set by test")
		}
		select {
		case <-next:
		case <-drop:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type destination struct {
	destinationpb.UnimplementedDestinationServer
	s *Server
}

func (d destination) Get(r *destinationpb.GetDestination, out grpc.ServerStreamingServer[destinationpb.Update]) error {
	d.s.record(r)
	sent := map[string]*destinationpb.WeightedAddr{}
	return follow(out.Context(), d.s, d.s.endpoints, r.GetPath(), true, func(list []*destinationpb.WeightedAddr) error {
		now := map[string]*destinationpb.WeightedAddr{}
		var add destinationpb.WeightedAddrSet
		var remove destinationpb.AddrSet
		for _, w := range list {
			k := key(w)
			now[k] = w
			if !proto.Equal(sent[k], w) {
				add.Addrs = append(add.Addrs, w)
			}
		}
		for k, w := range sent {
			if now[k] == nil {
				remove.Addrs = append(remove.Addrs, w.GetAddr())
			}
		}
		if len(now) == 0 && len(sent) == 0 {
			// A stream that begins with nothing says so, as the controller does.
			return out.Send(&destinationpb.Update{Update: &destinationpb.Update_NoEndpoints{NoEndpoints: &destinationpb.NoEndpoints{Exists: true}}})
		}
		sent = maps.Clone(now)
		if len(add.Addrs) > 0 {
			if err := out.Send(&destinationpb.Update{Update: &destinationpb.Update_Add{Add: &add}}); err != nil {
				return err
			}
		}
		if len(remove.Addrs) > 0 {
			return out.Send(&destinationpb.Update{Update: &destinationpb.Update_Remove{Remove: &remove}})
		}
		return nil
	})
}

func key(w *destinationpb.WeightedAddr) string {
	return decodeAddr(w.GetAddr()).String()
}

func (d destination) GetProfile(r *destinationpb.GetDestination, out grpc.ServerStreamingServer[destinationpb.DestinationProfile]) error {
	d.s.record(r)
	return follow(out.Context(), d.s, d.s.profiles, r.GetPath(), false, out.Send)
}

type outbound struct {
	outboundpb.UnimplementedOutboundPoliciesServer
	s *Server
}

func (o outbound) Watch(r *outboundpb.TrafficSpec, out grpc.ServerStreamingServer[outboundpb.OutboundPolicy]) error {
	o.s.record(r)
	target := r.GetAuthority()
	if a := r.GetAddr(); a != nil {
		target = decodeAddr(a).String()
	}
	return follow(out.Context(), o.s, o.s.outbound, target, false, out.Send)
}

type inbound struct {
	inboundpb.UnimplementedInboundServerPoliciesServer
	s *Server
}

func (i inbound) WatchPort(r *inboundpb.PortSpec, out grpc.ServerStreamingServer[inboundpb.Server]) error {
	i.s.record(r)
	return follow(out.Context(), i.s, i.s.inbound, uint16(r.GetPort()), true, out.Send)
}

type identity struct {
	identitypb.UnimplementedIdentityServer
	s *Server
}

func (i identity) Certify(_ context.Context, r *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
	i.s.record(r)
	if i.s.Identity == nil {
		return nil, status.Error(codes.Unavailable, "cert issuer not ready yet")
	}
	csr, err := x509.ParseCertificateRequest(r.GetCertificateSigningRequest())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	chain := i.s.Identity.Issue(i.s.t, csr.PublicKey, r.GetIdentity())
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &identitypb.CertifyResponse{LeafCertificate: chain[0], IntermediateCertificates: chain[1:], ValidUntil: timestamppb.New(leaf.NotAfter)}, nil
}

// Endpoint makes an unmeshed endpoint of "IP:port".
func Endpoint(addr string) *destinationpb.WeightedAddr {
	return &destinationpb.WeightedAddr{Addr: encodeAddr(netip.MustParseAddrPort(addr)), Weight: 10000}
}

// MeshedEndpoint makes an endpoint with an identity, the hint h2, and if
// inboundPort is not 0 a transport port.
func MeshedEndpoint(addr, identity string, inboundPort uint16) *destinationpb.WeightedAddr {
	w := Endpoint(addr)
	w.TlsIdentity = &destinationpb.TlsIdentity{
		Strategy:   &destinationpb.TlsIdentity_DnsLikeIdentity_{DnsLikeIdentity: &destinationpb.TlsIdentity_DnsLikeIdentity{Name: identity}},
		ServerName: &destinationpb.TlsIdentity_DnsLikeIdentity{Name: identity},
	}
	w.ProtocolHint = &destinationpb.ProtocolHint{Protocol: &destinationpb.ProtocolHint_H2_{H2: &destinationpb.ProtocolHint_H2{}}}
	if inboundPort != 0 {
		w.ProtocolHint.OpaqueTransport = &destinationpb.ProtocolHint_OpaqueTransport{InboundPort: uint32(inboundPort)}
	}
	return w
}

// Resource makes the metadata of a core resource.
func Resource(kind, namespace, name string, port uint32) *metapb.Metadata {
	return &metapb.Metadata{Kind: &metapb.Metadata_Resource{Resource: &metapb.Resource{
		Group: "core", Kind: kind, Namespace: namespace, Name: name, Port: port}}}
}

// Default makes the metadata of an implicit configuration.
func Default(name string) *metapb.Metadata {
	return &metapb.Metadata{Kind: &metapb.Metadata_Default{Default: name}}
}

// Balancer makes a backend that balances over the endpoints of path.
func Balancer(meta *metapb.Metadata, path string) *outboundpb.Backend {
	return &outboundpb.Backend{
		Metadata: meta,
		Queue:    &outboundpb.Queue{Capacity: 100, FailfastTimeout: seconds(3)},
		Kind: &outboundpb.Backend_Balancer{Balancer: &outboundpb.Backend_BalanceP2C{
			Discovery: &outboundpb.Backend_EndpointDiscovery{Kind: &outboundpb.Backend_EndpointDiscovery_Dst{
				Dst: &outboundpb.Backend_EndpointDiscovery_DestinationGet{Path: path}}},
			Load: &outboundpb.Backend_BalanceP2C_PeakEwma_{PeakEwma: &outboundpb.Backend_BalanceP2C_PeakEwma{
				DefaultRtt: durationpb.New(30e6), Decay: seconds(10)}},
		}},
	}
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

// ServicePolicy makes the policy of a Service's port as the policy controller
// makes it when there are no routes: protocol detection, one default route, and
// a balancer over name.namespace.svc.cluster.local:port.
func ServicePolicy(namespace, name string, port uint32) *outboundpb.OutboundPolicy {
	meta := Resource("Service", namespace, name, port)
	b := Balancer(meta, name+"."+namespace+".svc.cluster.local:"+strconv.Itoa(int(port)))
	http := []*outboundpb.HttpRoute{{
		Metadata: Default("http"),
		Rules: []*outboundpb.HttpRoute_Rule{{
			Backends: &outboundpb.HttpRoute_Distribution{Kind: &outboundpb.HttpRoute_Distribution_FirstAvailable_{
				FirstAvailable: &outboundpb.HttpRoute_Distribution_FirstAvailable{
					Backends: []*outboundpb.HttpRoute_RouteBackend{{Backend: b}}}}},
		}},
	}}
	opaque := []*outboundpb.OpaqueRoute{{
		Metadata: Default("opaque"),
		Rules: []*outboundpb.OpaqueRoute_Rule{{
			Backends: &outboundpb.OpaqueRoute_Distribution{Kind: &outboundpb.OpaqueRoute_Distribution_FirstAvailable_{
				FirstAvailable: &outboundpb.OpaqueRoute_Distribution_FirstAvailable{
					Backends: []*outboundpb.OpaqueRoute_RouteBackend{{Backend: b}}}}},
		}},
	}}
	return &outboundpb.OutboundPolicy{
		Metadata: meta,
		Protocol: &outboundpb.ProxyProtocol{Kind: &outboundpb.ProxyProtocol_Detect_{Detect: &outboundpb.ProxyProtocol_Detect{
			Timeout: seconds(10),
			Opaque:  &outboundpb.ProxyProtocol_Opaque{Routes: opaque},
			Http1:   &outboundpb.ProxyProtocol_Http1{Routes: http},
			Http2:   &outboundpb.ProxyProtocol_Http2{Routes: http},
		}}},
	}
}

// OpenServer makes the policy of a port that anybody may use, with detection.
func OpenServer() *inboundpb.Server {
	return &inboundpb.Server{
		Labels: map[string]string{"group": "", "kind": "default", "name": "all-unauthenticated"},
		Protocol: &inboundpb.ProxyProtocol{Kind: &inboundpb.ProxyProtocol_Detect_{
			Detect: &inboundpb.ProxyProtocol_Detect{Timeout: seconds(10)}}},
		Authorizations: []*inboundpb.Authz{Permit("all-unauthenticated", nil)},
	}
}

// Permit makes an authorization of the identities, or of everybody if the list
// is nil, from any network.
func Permit(name string, identities []string) *inboundpb.Authz {
	any4, any6 := encodeAddr(netip.MustParseAddrPort("0.0.0.0:0")), encodeAddr(netip.MustParseAddrPort("[::]:0"))
	a := &inboundpb.Authz{
		Metadata: Default(name),
		Labels:   map[string]string{"group": "", "kind": "default", "name": name},
		Networks: []*inboundpb.Network{{Net: &netpb.IPNetwork{Ip: any4.Ip}}, {Net: &netpb.IPNetwork{Ip: any6.Ip}}},
		Authentication: &inboundpb.Authn{Permit: &inboundpb.Authn_Unauthenticated{
			Unauthenticated: &inboundpb.Authn_PermitUnauthenticated{}}},
	}
	if identities != nil {
		var list []*inboundpb.Identity
		for _, i := range identities {
			list = append(list, &inboundpb.Identity{Name: i})
		}
		a.Authentication.Permit = &inboundpb.Authn_MeshTLS{MeshTLS: &inboundpb.Authn_PermitMeshTLS{
			Clients: &inboundpb.Authn_PermitMeshTLS_Identities{
				Identities: &inboundpb.Authn_PermitMeshTLS_PermitClientIdentities{Identities: list}}}}
	}
	return a
}
