package tracing

import (
	"context"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// exportMethod is the collector's one method.
const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// scopeName says who made the spans.
const scopeName = "linkerd-proxy"

// Over exports over a connection to an OTLP collector.
func Over(conn grpc.ClientConnInterface) Exporter {
	return func(ctx context.Context, resource []Attribute, spans []Span) error {
		// TracesData is on the wire what ExportTraceServiceRequest is, and does
		// not bring the collector's HTTP gateway into the binary; likewise
		// nothing is wanted of the response.
		return conn.Invoke(ctx, exportMethod, encode(resource, spans), &emptypb.Empty{}, grpc.WaitForReady(true))
	}
}

// encode makes the wire form of a batch.
func encode(resource []Attribute, spans []Span) *tracepb.TracesData {
	scope := &tracepb.ScopeSpans{Scope: &commonpb.InstrumentationScope{Name: scopeName}}
	for i := range spans {
		s := &spans[i]
		kind := tracepb.Span_SPAN_KIND_SERVER
		if s.Client {
			kind = tracepb.Span_SPAN_KIND_CLIENT
		}
		scope.Spans = append(scope.Spans, &tracepb.Span{
			TraceId: s.Trace[:], SpanId: s.ID[:], ParentSpanId: s.Parent[:], Name: s.Name, Kind: kind,
			StartTimeUnixNano: uint64(s.Start.UnixNano()), EndTimeUnixNano: uint64(s.End.UnixNano()),
			Attributes: keyValues(s.Attributes),
		})
	}
	return &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: keyValues(resource)}, ScopeSpans: []*tracepb.ScopeSpans{scope},
	}}}
}

func keyValues(list []Attribute) []*commonpb.KeyValue {
	out := make([]*commonpb.KeyValue, 0, len(list))
	for _, a := range list {
		v := &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: a.Value}}
		if a.IsInt {
			v.Value = &commonpb.AnyValue_IntValue{IntValue: a.Int}
		}
		out = append(out, &commonpb.KeyValue{Key: a.Key, Value: v})
	}
	return out
}
