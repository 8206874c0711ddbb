package ctrltrace_test

import (
	"context"
	"net"
	"testing"

	"go.opentelemetry.io/otel"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/linkerd-go/linkerd-go/internal/ctrltrace"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// collector is an OpenTelemetry collector that passes on what it is sent.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	got chan *collectorpb.ExportTraceServiceRequest
}

func (c collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.got <- r
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func TestSpansReachTheCollector(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	c := collector{got: make(chan *collectorpb.ExportTraceServiceRequest, 1)}
	collectorpb.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	defer func() { server.Stop(); <-served }()

	stop, err := ctrltrace.Start("destination", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(t.Context(), "Get")
	span.End()
	stop()
	spans := (<-c.got).GetResourceSpans()
	if len(spans) != 1 || spans[0].GetScopeSpans()[0].GetSpans()[0].GetName() != "Get" {
		t.Fatalf("got %v", spans)
	}
	if name := spans[0].GetResource().GetAttributes()[0]; name.GetKey() != "service.name" || name.GetValue().GetStringValue() != "destination" {
		t.Errorf("got %v", name)
	}
}

func TestWithoutCollector(t *testing.T) {
	stop, err := ctrltrace.Start("destination", "")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if got := ctrltrace.ServerOptions(""); len(got) != 0 {
		t.Errorf("got %d options", len(got))
	}
}
