package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// example is a batch with one of everything.
func example() ([]Attribute, []Span) {
	at := time.Unix(1_700_000_000, 123_456_789)
	resource := []Attribute{
		{Key: "process.pid", Int: 7, IsInt: true}, {Key: "host.name", Value: "pod-1"}, {Key: "service.name", Value: "linkerd-proxy"},
		{Key: "app", Value: "web"},
	}
	server := Span{
		Trace: [16]byte{1, 15: 2}, ID: [8]byte{3, 7: 4}, Parent: [8]byte{5, 7: 6}, Name: "/a", Start: at, End: at.Add(time.Second),
		Attributes: []Attribute{{Key: "http.request.method", Value: "GET"}, {Key: "http.response.status_code", Int: 200, IsInt: true}},
	}
	client := server
	client.Client, client.ID, client.Parent = true, [8]byte{7, 7: 8}, server.ID
	return resource, []Span{server, client}
}

// TestOpenCensusGolden compares with bytes that the types of opencensus-proto
// v0.4.1 read as the example; whoever changes them has to look again.
func TestOpenCensusGolden(t *testing.T) {
	golden.File(t, "testdata/opencensus.hex", hex.EncodeToString(encodeOpenCensus(example()))+"\n")
}

// raw is a codec that leaves messages as they are.
type raw struct{}

func (raw) Marshal(any) ([]byte, error)      { return nil, nil }
func (raw) Unmarshal(b []byte, to any) error { *to.(*[]byte) = bytes.Clone(b); return nil }
func (raw) Name() string                     { return "raw" }

// TestOpenCensusAgent sends a batch to a real gRPC server, as an agent is one.
func TestOpenCensusAgent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	type call struct {
		method string
		body   []byte
	}
	calls := make(chan call, 1)
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		var b []byte
		for s.RecvMsg(&b) == nil {
			calls <- call{method, b}
		}
		return nil
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Stop
	}()
	defer func() {
		server.Stop()
		<-done
	}()
	conn := rpc.New(rpc.Config{
		Name: "collector", Authority: "collector", Backoff: model.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
		Resolve: func(context.Context) (dns.Answer, error) {
			addr := netip.MustParseAddrPort(l.Addr().String())
			return dns.Answer{Addrs: []netip.AddrPort{addr}, TTL: time.Minute}, nil
		},
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr.String())
		},
	})
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resource, spans := example()
	if err := OpenCensus(conn)(ctx, resource, spans); err != nil {
		t.Fatal(err)
	}
	got := <-calls
	if got.method != "/opencensus.proto.agent.trace.v1.TraceService/Export" || !bytes.Equal(got.body, encodeOpenCensus(resource, spans)) {
		t.Errorf("got %s with %x", got.method, got.body)
	}
}
