package tracing

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// openCensusMethod is the agent's method; its response is a stream of nothing.
const openCensusMethod = "/opencensus.proto.agent.trace.v1.TraceService/Export"

// OpenCensus exports over a connection to an agent that speaks OpenCensus, as
// collectors did before there was OTLP. Each batch is a stream of its own, so that
// every agent of several hears who the spans are from.
func OpenCensus(conn *rpc.Conn) Exporter {
	return func(ctx context.Context, resource []Attribute, spans []Span) error {
		s, err := conn.Stream(ctx, openCensusMethod, encodeOpenCensus(resource, spans), rpc.Wait)
		for err == nil {
			// Nothing is wanted of the responses but their end.
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// Span kinds (opencensus-proto 0.3, trace.proto).
const (
	openCensusServer = 1
	openCensusClient = 2
)

// encodeOpenCensus makes the wire form of a batch, an ExportTraceServiceRequest
// (opencensus-proto 0.3). What OTLP calls the resource describes the node here.
func encodeOpenCensus(resource []Attribute, spans []Span) []byte {
	b, at := lean.Begin(nil, 1)
	b = appendNode(b, resource)
	b = lean.End(b, at)
	for i := range spans {
		b, at = lean.Begin(b, 2)
		b = appendOpenCensusSpan(b, &spans[i])
		b = lean.End(b, at)
	}
	return b
}

// appendNode appends a Node: what has a field of its own, and attributes.
func appendNode(b []byte, resource []Attribute) []byte {
	get := func(key string) (a Attribute) {
		for _, a := range resource {
			if a.Key == key {
				return a
			}
		}
		return a
	}
	b, identifier := lean.Begin(b, 1)
	b = lean.AppendString(b, 1, get("host.name").Value)
	b = lean.AppendVarint(b, 2, uint64(get("process.pid").Int))
	b = lean.End(b, identifier)
	b, library := lean.Begin(b, 2)
	b = lean.AppendString(b, 3, scopeName)
	b = lean.End(b, library)
	b, service := lean.Begin(b, 3)
	b = lean.AppendString(b, 1, get("service.name").Value)
	b = lean.End(b, service)
	for _, a := range resource {
		if !a.IsInt {
			b = lean.AppendEntry(b, 4, a.Key, a.Value)
		}
	}
	return b
}

func appendOpenCensusSpan(b []byte, s *Span) []byte {
	kind := uint64(openCensusServer)
	if s.Client {
		kind = openCensusClient
	}
	b = lean.AppendString(b, 1, s.Trace[:])
	b = lean.AppendString(b, 2, s.ID[:])
	b = appendParent(b, 3, s)
	b = appendTruncatable(b, 4, s.Name)
	b = appendTimestamp(b, 5, s.Start)
	b = appendTimestamp(b, 6, s.End)
	b, attributes := lean.Begin(b, 7)
	for _, a := range s.Attributes {
		var entry, value int
		b, entry = lean.Begin(b, 1)
		b = lean.AppendString(b, 1, a.Key)
		b, value = lean.Begin(b, 2) // AttributeValue
		if a.IsInt {
			b = lean.KeepVarint(b, 2, uint64(a.Int))
		} else {
			b = appendTruncatable(b, 1, a.Value)
		}
		b = lean.End(b, value)
		b = lean.End(b, entry)
	}
	b = lean.End(b, attributes)
	if s.Failed {
		var status int
		b, status = lean.Begin(b, 11)
		b = lean.AppendVarint(b, 1, openCensusUnknown)
		b = lean.AppendString(b, 2, text(s.Message))
		b = lean.End(b, status)
	}
	return lean.AppendVarint(b, 14, kind)
}

// openCensusUnknown is the status of all failures: OpenCensus has gRPC's codes,
// of which this is the one that says no more.
const openCensusUnknown = 2

// appendTruncatable appends a TruncatableString that was not truncated.
func appendTruncatable(b []byte, num uint64, s string) []byte {
	b, at := lean.Begin(b, num)
	b = lean.AppendString(b, 1, text(s))
	return lean.End(b, at)
}

func appendTimestamp(b []byte, num uint64, t time.Time) []byte {
	b, at := lean.Begin(b, num)
	b = lean.AppendVarint(b, 1, uint64(t.Unix()))
	b = lean.AppendVarint(b, 2, uint64(t.Nanosecond()))
	return lean.End(b, at)
}
