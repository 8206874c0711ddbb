package serve

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
)

// Clusters gives the indexes of linked clusters. Its methods may be called from any goroutine and must not block.
type Clusters interface {
	// Cluster returns the index of a linked cluster, and false if there is no such link or nothing is known of it yet.
	Cluster(name string) (*index.Index, bool)
	// Changed returns a channel that is closed when Cluster may answer differently.
	Changed() <-chan struct{}
}

// NoClusters is the Clusters without any.
type NoClusters struct{}

// Cluster implements Clusters.
func (NoClusters) Cluster(string) (*index.Index, bool) { return nil, false }

// Changed implements Clusters.
func (NoClusters) Changed() <-chan struct{} { return nil }

// Options are the parts of a Server.
type Options struct {
	// Index is that of the server's own cluster.
	Index *index.Index
	// Clusters are the linked ones.
	Clusters Clusters
	// ClusterDomain is the end of the names of Services.
	ClusterDomain string
	// HTTP2 are the parameters for connections to meshed endpoints, or nil.
	HTTP2 *destinationpb.Http2ClientParams
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger takes what is odd about requests.
	Logger *slog.Logger
}

// Server implements the Destination service. Its methods may be called from any goroutine.
type Server struct {
	destinationpb.UnimplementedDestinationServer
	*grpcserve.Streams
	options Options
	encoder encoder
}

var _ destinationpb.DestinationServer = (*Server)(nil)

// New returns a server.
func New(options Options) *Server {
	if options.Clusters == nil {
		options.Clusters = NoClusters{}
	}
	return &Server{options: options, encoder: encoder{options.HTTP2}, Streams: grpcserve.NewStreams()}
}

func (s *Server) token(text string) core.Token {
	token, err := core.ParseToken(text)
	switch {
	case errors.Is(err, core.ErrLegacyToken):
		s.options.Logger.Warn("legacy context token", "token", text)
	case err != nil:
		s.options.Logger.Error("context token ignored", "error", err)
	}
	return token
}

// Get follows the endpoints of a name. Source: proxy API chapter, section 3.
func (s *Server) Get(request *destinationpb.GetDestination, stream grpc.ServerStreamingServer[destinationpb.Update]) error {
	path := request.GetPath()
	token := s.token(request.GetContextToken())
	s.options.Logger.Debug("get", "path", path, "ns", token.Namespace, "node", token.Node, "pod", token.Pod)
	invalid := status.Errorf(codes.InvalidArgument, "Invalid authority: %s", path)
	host, port, err := core.SplitPath(path)
	if err != nil {
		return invalid
	}
	if _, isIP := core.ParseAddr(host); isIP {
		return status.Errorf(codes.InvalidArgument, "IP queries not supported by Get API: host=%s", host)
	}
	name, err := core.ParseName(host, s.options.ClusterDomain)
	if err != nil {
		return invalid
	}
	ctx := stream.Context()
	service, err := s.options.Index.Service(ctx, name.Service)
	switch {
	case err != nil:
		return s.failed(ctx, err, codes.Internal, "Failed to get service "+path)
	case service == nil:
		return status.Errorf(codes.NotFound, "Service %s.%s not found", name.Service.Name, name.Service.Namespace)
	case service.ExternalName && !s.options.Index.ResolvesNames():
		return invalid
	}
	query := index.EndpointsQuery{Service: name.Service, Port: port, Instance: name.Instance, Node: token.Node}
	switch {
	case service.Federated:
		return s.federated(stream, query)
	case service.RemoteCluster != "":
		return s.remote(stream, service, query, path)
	}
	ctx, moved := context.WithCancel(ctx)
	defer moved()
	query.Moved = moved
	return s.endpoints(ctx, stream, s.options.Index, query)
}

// endpoints follows the endpoints that one index knows. The stream ends, with OK, when ctx does, which is made from its own.
func (s *Server) endpoints(ctx context.Context, stream grpc.ServerStreamingServer[destinationpb.Update], from *index.Index, query index.EndpointsQuery) error {
	sub, err := from.Endpoints(ctx, query)
	if err != nil {
		return s.failed(ctx, err, codes.Internal, err.Error())
	}
	defer sub.Close()
	overflow := func() {
		s.options.Logger.Warn("stream closed: client does not keep up", "service", query.Service, "port", query.Port)
		s.options.Metrics.endpointsOverflow(query.Service)
	}
	return follow(ctx, s, stream, from, sub, s.encoder.updates, overflow)
}

// remote follows the endpoints of a Service in a linked cluster. Source: proxy API chapter, section 3.8.
func (s *Server) remote(stream grpc.ServerStreamingServer[destinationpb.Update], service *core.Service, query index.EndpointsQuery, path string) error {
	if service.RemoteService == "" {
		return status.Errorf(codes.FailedPrecondition, "Remote discovery service missing remote service name %s", path)
	}
	cluster, ok := s.options.Clusters.Cluster(service.RemoteCluster)
	if !ok {
		return status.Errorf(codes.NotFound, "Remote cluster not found: %s", service.RemoteCluster)
	}
	ctx, moved := context.WithCancel(stream.Context())
	defer moved()
	services, err := s.options.Index.WatchService(ctx, query.Service)
	if err != nil {
		return s.failed(ctx, err, codes.Internal, err.Error())
	}
	s.Go(func() {
		defer services.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-services.Changed():
				// One that is deleted may be on its way back.
				now := services.Latest()
				if now != nil && (now.Federated || now.RemoteCluster != service.RemoteCluster || now.RemoteService != service.RemoteService) {
					moved()
				}
			}
		}
	})
	return s.endpoints(ctx, stream, cluster, remoteQuery(query, service.RemoteService))
}

// remoteQuery turns a query into that for a Service of another cluster, where the client's node means nothing.
func remoteQuery(query index.EndpointsQuery, service string) index.EndpointsQuery {
	query.Service.Name = service
	query.Unfiltered = true
	query.Node = ""
	return query
}

// GetProfile follows the profile of a destination. Source: proxy API chapter, section 4.
func (s *Server) GetProfile(request *destinationpb.GetDestination, stream grpc.ServerStreamingServer[destinationpb.DestinationProfile]) error {
	path := request.GetPath()
	token := s.token(request.GetContextToken())
	s.options.Logger.Debug("get profile", "path", path, "ns", token.Namespace, "pod", token.Pod)
	host, port, err := core.SplitPath(path)
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "invalid authority: %q: %q", path, err)
	}
	query := index.ProfileQuery{Port: port, Namespace: token.Namespace}
	if addr, isIP := core.ParseAddr(host); isIP {
		query.Addr = addr
	} else if query.Name, err = core.ParseName(host, s.options.ClusterDomain); err != nil {
		return status.Errorf(codes.InvalidArgument, "invalid service %q: %q", host, err)
	}
	sub, err := s.options.Index.Profile(stream.Context(), query)
	if err != nil {
		return s.profileFailed(stream.Context(), err, path)
	}
	defer sub.Close()
	messages := func(_, next *core.Profile) []*grpcserve.Message[destinationpb.DestinationProfile] {
		return []*grpcserve.Message[destinationpb.DestinationProfile]{s.encoder.profile(next)}
	}
	overflow := func() {
		s.options.Logger.Warn("stream closed: client does not keep up", "path", path)
		s.options.Metrics.profileOverflow(query, s.options.ClusterDomain)
	}
	return follow(stream.Context(), s, stream, s.options.Index, sub, messages, overflow)
}

// profileFailed turns an error of the index into that of the call. Source: proxy API chapter, section 4.1.
func (s *Server) profileFailed(ctx context.Context, err error, path string) error {
	var notFound *index.NotFoundError
	var conflict *index.ConflictError
	switch {
	case errors.As(err, &notFound) && notFound.Service:
		return status.Error(codes.Unknown, err.Error())
	case errors.As(err, &notFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.As(err, &conflict):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, core.ErrExternalName):
		return status.Errorf(codes.InvalidArgument, "Invalid authority: %s", path)
	}
	return s.failed(ctx, err, codes.Internal, err.Error())
}

// failed returns the status of a call that could not be begun. A client that left and a server that stops are no failures.
func (s *Server) failed(ctx context.Context, err error, code codes.Code, text string) error {
	if ctx.Err() != nil || errors.Is(err, index.ErrStopped) {
		return nil
	}
	return status.Error(code, text)
}

// follow sends what a subscription brings until the client leaves, ctx ends, the server or the index stops (a cluster is not linked
// any more, or in another way), or the client does not keep up; all of these end the stream with OK. messages returns what
// takes the client from one answer to the next.
func follow[T, M any](ctx context.Context, s *Server, stream grpc.ServerStreamingServer[M], from *index.Index, sub *index.Subscription[T], messages func(last, next *T) []*grpcserve.Message[M], overflow func()) error {
	err := grpcserve.Follow(ctx, s.Streams, grpcserve.Feed[T]{
		Changed: sub.Changed(), Latest: sub.Latest, Ended: from.Stopped(), Overflow: sub.Overflow(),
		Send: func(last, next *T) error { return send(stream, messages(last, next)) },
	})
	if errors.Is(err, grpcserve.ErrOverflow) {
		overflow()
		return nil
	}
	return err
}

func send[M any](stream grpc.ServerStreamingServer[M], messages []*grpcserve.Message[M]) error {
	for _, m := range messages {
		if err := m.Send(stream); err != nil {
			return err
		}
	}
	return nil
}
