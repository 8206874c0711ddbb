// Package grpcserve runs the gRPC servers of the controllers: cleartext HTTP/2, because the proxy in the same pod does the
// mTLS, without a limit on streams, with metrics, and with a stop that lets calls end.
//
//	srv := grpcserve.New()
//	identitypb.RegisterIdentityServer(srv.Registrar(), service)
//	lis, err := net.Listen("tcp", addr) // bind first, so that a bad port stops startup
//	...
//	err = srv.Serve(ctx, lis)           // until ctx is done
//
// Source: proxy API chapter, sections 1.1 and 1.6. Registration must be complete before Serve.
package grpcserve

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

const (
	// pingInterval and pingTimeout decide when a client that went away without a word is given up. The proxy in the
	// controller's own pod answers at once, so this costs nothing between machines.
	pingInterval = time.Minute
	pingTimeout  = 20 * time.Second
	// minClientPing is how often a client may ping. gRPC's default of five minutes would cut off proxies, which ping
	// every ten seconds.
	minClientPing = 5 * time.Second
	// readBuffer is how much of what a client sends is read at once: requests are short, and the rest are pings. writeBuffer
	// holds what is sent at once: most of it are small changes. With gRPC's 32 KB, which each connection has or borrows for
	// as little as a ping, buffers were the larger part of what a stream costs.
	readBuffer, writeBuffer = 2 << 10, 4 << 10
	// stopTimeout is how long calls may take to end once the server stops. It is shorter than the 30 seconds that
	// Kubernetes leaves a pod.
	stopTimeout = 20 * time.Second
	// stopSpread is the time over which streams end once the server stops, each at a moment of its own: thousands of clients that
	// lose their streams in one moment ask the other replicas in one moment, too.
	stopSpread = 8 * time.Second
)

// metrics are the grpc_server_* family. They are process-wide, as a process serves one set of services.
var metrics = func() *grpcprom.ServerMetrics {
	m := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
		// Streams live for up to an hour; the buckets only tell quick calls, slow calls and the two kinds of stream apart.
		grpcprom.WithHistogramBuckets([]float64{0.1, 1, 300, 3600}),
	))
	prometheus.MustRegister(m)
	return m
}()

// Server is one gRPC server.
type Server struct {
	grpc *grpc.Server
	// stopping is done when the server stops.
	stopping context.Context
	stop     context.CancelFunc
}

// New returns a server without services.
func New(options ...grpc.ServerOption) *Server {
	s := new(Server)
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxConcurrentStreams(0), // no limit
		grpc.ReadBufferSize(readBuffer), grpc.WriteBufferSize(writeBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(metrics.UnaryServerInterceptor()),
		grpc.ChainStreamInterceptor(metrics.StreamServerInterceptor(), s.spread),
	}, options...)...)
	return s
}

// spread ends a stream with OK at some moment after the server began to stop. The handler sees it as a client that went away.
func (s *Server) spread(service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	var ended atomic.Bool
	// Without a goroutine as long as nothing stops.
	forget := context.AfterFunc(s.stopping, func() {
		timer := time.NewTimer(rand.N(stopSpread))
		defer timer.Stop()
		select {
		case <-timer.C:
			ended.Store(true)
			cancel()
		case <-ctx.Done():
		}
	})
	defer forget()
	if err := handle(service, &spreadStream{stream, ctx}); !ended.Load() {
		return err
	}
	return nil
}

// spreadStream is a stream with another context.
type spreadStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s *spreadStream) Context() context.Context { return s.ctx }

// Registrar takes the services.
func (s *Server) Registrar() grpc.ServiceRegistrar { return s.grpc }

// Serve answers calls on lis until ctx is done, then lets calls in flight end, within a limit. Streams are ended, with OK, over some
// seconds; their handlers must watch their contexts. It closes lis.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	metrics.InitializeMetrics(s.grpc)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-stop.Done()
		s.stop()
		force := time.AfterFunc(stopTimeout, s.grpc.Stop)
		defer force.Stop()
		s.grpc.GracefulStop()
	}()
	err := s.grpc.Serve(quiet{lis})
	cancel()
	<-stopped
	if err != nil {
		return fmt.Errorf("serving gRPC: %w", err)
	}
	return nil
}

// quiet is a listener whose connections have no TCP keep-alive. gRPC bounds how long the kernel waits for an answer to what
// was sent (TCP_USER_TIMEOUT, set to pingTimeout), and the kernel takes keep-alive probes for that too: Go's send one every 15
// seconds, so that a single lost probe would end an idle connection after 30. Pings over HTTP/2, which TCP sends again when
// they are lost, find dead clients as well. Thousands of connections that were made in one second also send their probes in
// one, which loses some even within a machine.
type quiet struct{ net.Listener }

// Accept implements net.Listener.
func (l quiet) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAlive(false) // one that is closed already has none
	}
	return conn, err
}
