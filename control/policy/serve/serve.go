package serve

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/control/policy/core"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
)

// Options are the parts of a Server.
type Options struct {
	// Index is what is known of the cluster.
	Index *index.Index
	// ClusterDomain is the end of the names of Services.
	ClusterDomain string
	// Logger takes what is odd about requests.
	Logger *slog.Logger
}

// Server implements both services. Its methods may be called from any goroutine.
type Server struct {
	*grpcserve.Streams
	options Options
}

// New returns a server.
func New(options Options) *Server {
	return &Server{Streams: grpcserve.NewStreams(), options: options}
}

// Register adds the services to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	inboundpb.RegisterInboundServerPoliciesServer(registrar, inboundServer{server: s})
	outboundpb.RegisterOutboundPoliciesServer(registrar, outboundServer{server: s})
}

// inboundServer implements the InboundServerPolicies service.
type inboundServer struct {
	inboundpb.UnimplementedInboundServerPoliciesServer
	server *Server
}

var _ inboundpb.InboundServerPoliciesServer = inboundServer{}

func encodeInbound(server *core.InboundServer) any { return grpcserve.NewMessage(Inbound(server)) }

// GetPort answers once.
func (s inboundServer) GetPort(ctx context.Context, request *inboundpb.PortSpec) (*inboundpb.Server, error) {
	sub, err := s.lookup(ctx, request)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	return Inbound(&sub.Latest().Value), nil
}

// WatchPort answers whenever the answer changes.
func (s inboundServer) WatchPort(request *inboundpb.PortSpec, stream grpc.ServerStreamingServer[inboundpb.Server]) error {
	sub, err := s.lookup(stream.Context(), request)
	if err != nil {
		return err
	}
	defer sub.Close()
	return follow(s.server, stream, sub, encodeInbound)
}

// lookup finds who is asked about. Source: proxy API chapter, section 5.2.
func (s inboundServer) lookup(ctx context.Context, request *inboundpb.PortSpec) (*index.Subscription[core.InboundServer], error) {
	workload, err := parseWorkload(request.GetWorkload())
	if err != nil {
		return nil, err
	}
	port := request.GetPort()
	if port == 0 || port > math.MaxUint16 {
		return nil, status.Errorf(codes.InvalidArgument, "Invalid port: %d", port)
	}
	sub, err := s.server.options.Index.Inbound(ctx, workload, uint16(port))
	if errors.Is(err, index.ErrUnknownWorkload) {
		return nil, status.Error(codes.NotFound, "unknown server")
	}
	return sub, s.server.failed(ctx, err)
}

// parseWorkload reads who asks. Source: proxy API chapter, section 1.3.
func parseWorkload(text string) (index.WorkloadKey, error) {
	invalid := status.Errorf(codes.InvalidArgument, "Invalid workload: %s", text)
	var key index.WorkloadKey
	if !strings.HasPrefix(text, "{") {
		key.Namespace, key.Name, _ = strings.Cut(text, ":")
		if key.Namespace == "" || key.Name == "" {
			return key, invalid
		}
		return key, nil
	}
	var token struct {
		Namespace string `json:"ns"`
		Pod       string `json:"pod"`
		External  string `json:"external_workload"`
	}
	if err := json.Unmarshal([]byte(text), &token); err != nil || token.Namespace == "" || (token.Pod == "") == (token.External == "") {
		return key, invalid
	}
	key.Namespace, key.Name, key.External = token.Namespace, token.Pod+token.External, token.External != ""
	return key, nil
}

// outboundServer implements the OutboundPolicies service.
type outboundServer struct {
	outboundpb.UnimplementedOutboundPoliciesServer
	server *Server
}

var _ outboundpb.OutboundPoliciesServer = outboundServer{}

func encodeOutbound(policy *core.OutboundPolicy) any { return grpcserve.NewMessage(Outbound(policy)) }

// Get answers once.
func (s outboundServer) Get(ctx context.Context, request *outboundpb.TrafficSpec) (*outboundpb.OutboundPolicy, error) {
	sub, err := s.lookup(ctx, request)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	return Outbound(&sub.Latest().Value), nil
}

// Watch answers whenever the answer changes.
func (s outboundServer) Watch(request *outboundpb.TrafficSpec, stream grpc.ServerStreamingServer[outboundpb.OutboundPolicy]) error {
	sub, err := s.lookup(stream.Context(), request)
	if err != nil {
		return err
	}
	defer sub.Close()
	return follow(s.server, stream, sub, encodeOutbound)
}

// lookup finds what is asked about. Source: proxy API chapter, section 6.1.
func (s outboundServer) lookup(ctx context.Context, request *outboundpb.TrafficSpec) (*index.Subscription[core.OutboundPolicy], error) {
	if request.GetTarget() == nil {
		return nil, status.Error(codes.InvalidArgument, "target is required")
	}
	client, err := parseWorkload(request.GetSourceWorkload())
	if err != nil {
		return nil, err
	}
	if _, named := request.GetTarget().(*outboundpb.TrafficSpec_Authority); named {
		service, instance, port, err := s.parseAuthority(request.GetAuthority())
		if err != nil {
			return nil, err
		}
		sub, err := s.server.options.Index.OutboundByName(ctx, service, instance, port, client.Namespace)
		return sub, s.server.failed(ctx, err)
	}
	addr, err := parseAddr(request.GetAddr())
	if err != nil {
		return nil, err
	}
	sub, err := s.server.options.Index.Outbound(ctx, addr, client.Namespace)
	if errors.Is(err, index.ErrUnknownAddress) {
		return nil, status.Error(codes.NotFound, "No such service")
	}
	return sub, s.server.failed(ctx, err)
}

func parseAddr(target *netpb.TcpAddress) (netip.AddrPort, error) {
	if target.GetIp() == nil {
		return netip.AddrPort{}, status.Error(codes.InvalidArgument, "traffic target must have an IP")
	}
	var addr netip.Addr
	switch ip := target.GetIp().GetIp().(type) {
	case *netpb.IPAddress_Ipv4:
		addr = netip.AddrFrom4([4]byte{byte(ip.Ipv4 >> 24), byte(ip.Ipv4 >> 16), byte(ip.Ipv4 >> 8), byte(ip.Ipv4)})
	case *netpb.IPAddress_Ipv6:
		var b [16]byte
		for i := range 8 {
			b[i] = byte(ip.Ipv6.GetFirst() >> (56 - 8*i))
			b[8+i] = byte(ip.Ipv6.GetLast() >> (56 - 8*i))
		}
		addr = netip.AddrFrom16(b).Unmap()
	default:
		return netip.AddrPort{}, status.Error(codes.InvalidArgument, "failed to parse target addr: no IP is set")
	}
	switch port := target.GetPort(); {
	case port > math.MaxUint16:
		return netip.AddrPort{}, status.Error(codes.InvalidArgument, "port outside valid range")
	case port == 0:
		return netip.AddrPort{}, status.Error(codes.InvalidArgument, "port cannot be zero")
	default:
		return netip.AddrPortFrom(addr, uint16(port)), nil
	}
}

// parseAuthority reads the name of a Service, `<name>.<namespace>.svc.<domain>`, or of an instance of it, with its hostname in
// front, which upstream does not know.
func (s outboundServer) parseAuthority(authority string) (service core.ID, instance string, port uint16, err error) {
	invalid := status.Error(codes.InvalidArgument, "invalid authority")
	u, err := url.Parse("//" + authority)
	if err != nil || u.Host != authority {
		return core.ID{}, "", 0, invalid
	}
	if u.Hostname() == "" {
		return core.ID{}, "", 0, status.Error(codes.InvalidArgument, "authority must have a host")
	}
	number := uint64(80)
	if text := u.Port(); text != "" {
		if number, err = strconv.ParseUint(text, 10, 16); err != nil {
			return core.ID{}, "", 0, invalid
		}
	}
	if number == 0 {
		return core.ID{}, "", 0, status.Error(codes.InvalidArgument, "port cannot be zero")
	}
	name := strings.TrimRight(u.Hostname(), ".")
	name = strings.TrimSuffix(name, "."+s.server.options.ClusterDomain)
	parts := strings.Split(name, ".")
	if len(parts) > 3 && parts[2] != "svc" && parts[3] == "svc" && parts[0] != "" {
		instance, parts = parts[0], parts[1:]
	}
	if len(parts) < 3 || parts[0] == "" || parts[1] == "" || parts[2] != "svc" {
		return core.ID{}, "", 0, status.Error(codes.NotFound, "authority must be of the form <name>.<namespace>.svc.<domain>")
	}
	return core.ID{Namespace: parts[1], Name: parts[0]}, instance, uint16(number), nil
}

// failed returns the status of a call that could not be begun, or nil if it could.
func (s *Server) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, index.ErrStopped):
		return status.Error(codes.Unavailable, "shutting down")
	}
	return status.Errorf(codes.Internal, "lookup failed: %v", err)
}

// follow sends what a subscription brings until the client leaves, the server stops, or the subscription ends; all of these
// end the stream with OK.
func follow[T, M any](s *Server, stream grpc.ServerStreamingServer[M], sub *index.Subscription[T], encode func(*T) any) error {
	return grpcserve.Follow(stream.Context(), s.Streams, grpcserve.Feed[index.Answer[T]]{
		Changed: sub.Changed(), Latest: sub.Latest, Ended: sub.Ended(),
		Send: func(_, next *index.Answer[T]) error {
			return next.Encoded(encode).(*grpcserve.Message[M]).Send(stream)
		},
	})
}
