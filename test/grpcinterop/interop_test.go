// Package grpcinterop runs the interoperability suite of gRPC, with the client
// and the server of grpc-go, through an outbound and an inbound proxy. It has
// tests only; `make grpc-interop` runs them.
//
// Left out are the cases that are about credentials of Google's cloud, which
// need it, and pick_first_unary, whose subject is a client that resolves
// several servers.
package grpcinterop

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"

	// The client of the cases orca_*, which a balancer of its own reports to.
	_ "google.golang.org/grpc/balancer/pickfirst"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/test/pair"
)

// cases are those of the interop client's -test_case, in its order. A case ends
// the process when it fails, so each runs in one of its own.
var cases = []struct {
	name string
	run  func(context.Context, *grpc.ClientConn)
}{
	{"empty_unary", service(interop.DoEmptyUnaryCall)},
	{"large_unary", service(interop.DoLargeUnaryCall)},
	{"client_streaming", service(interop.DoClientStreaming)},
	{"server_streaming", service(interop.DoServerStreaming)},
	{"ping_pong", service(interop.DoPingPong)},
	{"empty_stream", service(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", service(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", service(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", service(interop.DoCancelAfterFirstResponse)},
	{"status_code_and_message", service(interop.DoStatusCodeAndMessage)},
	{"special_status_message", service(interop.DoSpecialStatusMessage)},
	{"custom_metadata", service(interop.DoCustomMetadata)},
	{"unimplemented_method", func(ctx context.Context, c *grpc.ClientConn) { interop.DoUnimplementedMethod(ctx, c) }},
	{"unimplemented_service", func(ctx context.Context, c *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(c))
	}},
	{"orca_per_rpc", func(ctx context.Context, c *grpc.ClientConn) {
		interop.DoORCAPerRPCTest(ctx, testgrpc.NewTestServiceClient(c))
	}},
	{"orca_oob", func(ctx context.Context, c *grpc.ClientConn) {
		interop.DoORCAOOBTest(ctx, testgrpc.NewTestServiceClient(c))
	}},
	{"rpc_soak", soak(false)},
	{"channel_soak", soak(true)},
}

// racy is a case whose client races with itself: it cancels a call, ends it,
// and wants to be told that it was cancelled, but takes the answer if that is
// there before it looks. Without any proxy, one run in 40 fails on a busy
// machine; with a fault in a proxy, all would.
const racy = "cancel_after_begin"

func service(f func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, c *grpc.ClientConn) { f(ctx, testgrpc.NewTestServiceClient(c)) }
}

// soak makes the case of many calls, each on a new connection or all on one.
func soak(channels bool) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, c *grpc.ClientConn) {
		o := interop.SoakTestConfig{
			RequestSize: 271828, ResponseSize: 314159, PerIterationMaxAcceptableLatency: 30 * time.Second,
			OverallTimeout: 3 * time.Minute, ServerAddr: c.Target(), NumWorkers: 2, Iterations: 20,
			ChannelForTest: func() (*grpc.ClientConn, func()) {
				if !channels {
					return c, func() {}
				}
				own, err := dial(strings.TrimPrefix(c.Target(), "passthrough:///"))
				if err != nil {
					panic(err) // the case fails
				}
				return own, func() { own.Close() }
			},
		}
		interop.DoSoakTest(metadata.NewOutgoingContext(ctx, metadata.MD{}), o)
	}
}

// dial connects to a proxy; it has the address, the authority is the service's.
func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithAuthority(pair.Web.Authority()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`))
}

func TestMain(m *testing.M) {
	name := os.Getenv("INTEROP_CASE")
	if name == "" {
		leaks.VerifyTestMain(m)
	}
	for _, c := range cases {
		if c.name != name {
			continue
		}
		conn, err := dial(os.Getenv("INTEROP_ADDR"))
		if err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		c.run(ctx, conn)
		cancel()
		conn.Close()
		os.Exit(0)
	}
	panic("no case " + name)
}

func TestInterop(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	recorder := orca.NewServerMetricsRecorder()
	s := grpc.NewServer(orca.CallMetricsServerOption(recorder))
	o := orca.ServiceOptions{ServerMetricsProvider: recorder, MinReportingInterval: time.Second}
	if err := orca.Register(s, o); err != nil {
		t.Fatal(err)
	}
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: recorder}))
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	// Proxies give up what takes long, which on a busy machine may be anything.
	p := pair.New(t, pair.Env{
		"OUTBOUND_CONNECT_TIMEOUT": "1m", "INBOUND_CONNECT_TIMEOUT": "1m", "OUTBOUND_TCP_FAILFAST_TIMEOUT": "1m",
		"OUTBOUND_HTTP_FAILFAST_TIMEOUT": "1m", "INBOUND_HTTP_FAILFAST_TIMEOUT": "1m",
	})
	p.Serve(pair.Web, l)
	for _, path := range []struct{ name, addr string }{{"pair", p.Outbound(pair.Web)}, {"inbound only", p.Inbound(pair.Web)}} {
		t.Run(path.name, func(t *testing.T) {
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					tries := 1
					if c.name == racy {
						tries = 4
					}
					for {
						cmd := exec.CommandContext(t.Context(), os.Args[0])
						cmd.Env = append(os.Environ(), "INTEROP_CASE="+c.name, "INTEROP_ADDR="+path.addr,
							// Otherwise the race detector lets every process sleep for a second.
							"GORACE=atexit_sleep_ms=0")
						out, err := cmd.CombinedOutput()
						if err == nil {
							break
						}
						if tries--; tries == 0 {
							t.Fatalf("%v\n%s", err, out)
						}
					}
				})
			}
		})
	}
}
