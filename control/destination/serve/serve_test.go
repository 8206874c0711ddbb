package serve_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/control/destination/serve"
	"github.com/linkerd-go/linkerd-go/internal/grpcserve"
)

const webService = `
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
`

// webSlice has n addresses made by hand.
func webSlice(n int) []byte {
	text := `
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
`
	for i := range n {
		text += fmt.Sprintf("- {addresses: [10.0.%d.%d]}\n", i/250, i%250+1)
	}
	return []byte(text)
}

// blockedStream is a client that does not read: Send waits, as gRPC's does, until the call has ended.
type blockedStream struct {
	stream[destinationpb.Update]
	ended chan struct{}
}

func (s *blockedStream) Send(*destinationpb.Update) error {
	<-s.ended
	return context.Canceled
}

// TestSlowStream has one client that does not read and one that does. The slow one is ended and counted; the other does not
// notice.
func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil, false, "cluster.local")
		registry := prometheus.NewRegistry()
		server := serve.New(serve.Options{
			Index: c.index, ClusterDomain: "cluster.local", Metrics: serve.NewMetrics(registry), Logger: slog.New(slog.DiscardHandler),
		})
		c.put(t, []byte(webService))
		c.put(t, webSlice(1))
		synctest.Wait() // a Service that is not known yet is not found
		request := &destinationpb.GetDestination{Path: "web.emo.svc.cluster.local:80"}
		slow := &blockedStream{stream[destinationpb.Update]{ctx: t.Context()}, make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- server.Get(request, slow); close(slow.ended) }()
		log := &transcript{}
		fast := &stream[destinationpb.Update]{ctx: t.Context(), name: "fast", log: log}
		go server.Get(request, fast)
		synctest.Wait()
		log.take()
		for i := range 102 {
			c.put(t, webSlice(i+2))
			synctest.Wait()
			if log.take() == "" {
				t.Fatalf("change %d held back by the slow stream", i)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("slow stream ended with %v, want OK", err)
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP endpoint_updates_queue_overflow Streams of endpoints closed because the client did not keep up.
# TYPE endpoint_updates_queue_overflow counter
endpoint_updates_queue_overflow{service="emo/web"} 1
`), "endpoint_updates_queue_overflow"); err != nil {
			t.Error(err)
		}
		server.Stop()
		server.Wait()
	})
}

// TestOverGRPC goes through a real gRPC connection: a client that reads nothing for a while, and a stop.
func TestOverGRPC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, nil, false, "cluster.local")
		c.put(t, []byte(webService))
		c.put(t, webSlice(900)) // more than a stream's first window
		synctest.Wait()
		service := serve.New(serve.Options{Index: c.index, ClusterDomain: "cluster.local", Logger: slog.New(slog.DiscardHandler)})
		server := grpcserve.New()
		destinationpb.RegisterDestinationServer(server.Registrar(), service)
		lis := bufconn.Listen(1 << 16)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() {
			defer context.AfterFunc(ctx, service.Stop)()
			err := server.Serve(ctx, lis)
			service.Wait()
			stopped <- err
		}()
		conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return lis.Dial() }))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := destinationpb.NewDestinationClient(conn)
		stream, err := client.Get(t.Context(), &destinationpb.GetDestination{Path: "web.emo.svc.cluster.local:80"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 10 { // while it does not read
			c.put(t, webSlice(901+i))
			synctest.Wait()
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		endpoints := len(first.GetAdd().GetAddrs())
		if endpoints < 900 {
			t.Errorf("first message has %d endpoints", endpoints)
		}
		profile, err := client.GetProfile(t.Context(), &destinationpb.GetDestination{Path: "10.0.0.1:80"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := profile.Recv(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		cancel()
		if _, err := profile.Recv(); err == nil || err.Error() != "EOF" {
			t.Errorf("stream ended with %v, want OK", err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("stopping took %v", took)
		}
	})
}
