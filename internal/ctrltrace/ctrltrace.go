// Package ctrltrace sends the traces of a controller to an OpenTelemetry collector.
//
//	stop, err := ctrltrace.Start("destination", common.TraceCollector)
//	defer stop(ctx)
//	server := grpcserve.New(ctrltrace.ServerOptions(common.TraceCollector)...)
//
// Without a collector nothing is started and nothing is measured. Start changes the process's global tracer provider; it is
// called once, at startup. Sending is done in the background by OpenTelemetry and never holds up a call.
package ctrltrace

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// stopTimeout is how long the last spans may take to be sent.
const stopTimeout = 5 * time.Second

// Start sends spans to a collector at host:port, under the name of a service. The collector need not be there yet. stop
// sends what is left.
func Start(service, collector string) (stop func(), err error) {
	if collector == "" {
		return func() {}, nil
	}
	// The proxy in the pod does the mTLS, as for all that controllers say.
	exporter, err := otlptracegrpc.New(context.Background(), otlptracegrpc.WithEndpoint(collector), otlptracegrpc.WithInsecure())
	if err != nil {
		return nil, fmt.Errorf("connecting to the trace collector %s: %w", collector, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))),
	)
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		// What cannot be sent now is lost; there is nobody left to tell.
		_ = provider.Shutdown(ctx)
	}, nil
}

// ServerOptions makes a gRPC server trace its calls, if there is a collector.
func ServerOptions(collector string) []grpc.ServerOption {
	if collector == "" {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler())}
}
