package tracing

import (
	"context"
	"strings"

	"github.com/linkerd-go/linkerd-go/api/lean"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// exportMethod is the collector's one method.
const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// scopeName says who made the spans.
const scopeName = "linkerd-proxy"

// OTLP exports over a connection to a collector that speaks OTLP.
func OTLP(conn *rpc.Conn) Exporter {
	return func(ctx context.Context, resource []Attribute, spans []Span) error {
		// Nothing is wanted of the response.
		_, err := conn.Call(ctx, exportMethod, encode(resource, spans), rpc.Wait)
		return err
	}
}

// Span kinds (OpenTelemetry protocol 1.3, trace.proto).
const (
	kindServer = 2
	kindClient = 3
)

// encode makes the wire form of a batch, an ExportTraceServiceRequest
// (OpenTelemetry protocol 1.3). It is written by hand, like the other messages
// (see package lean): there are seven kinds of them, and none is read.
func encode(resource []Attribute, spans []Span) []byte {
	b, resourceSpans := lean.Begin(nil, 1)
	b, at := lean.Begin(b, 1) // Resource
	b = appendAttributes(b, 1, resource)
	b = lean.End(b, at)
	b, scopeSpans := lean.Begin(b, 2)
	b, at = lean.Begin(b, 1) // InstrumentationScope
	b = lean.AppendString(b, 1, scopeName)
	b = lean.End(b, at)
	for i := range spans {
		b, at = lean.Begin(b, 2)
		b = appendSpan(b, &spans[i])
		b = lean.End(b, at)
	}
	b = lean.End(b, scopeSpans)
	return lean.End(b, resourceSpans)
}

func appendSpan(b []byte, s *Span) []byte {
	kind := uint64(kindServer)
	if s.Client {
		kind = kindClient
	}
	b = lean.AppendString(b, 1, s.Trace[:])
	b = lean.AppendString(b, 2, s.ID[:])
	b = appendParent(b, 4, s)
	b = lean.AppendString(b, 5, text(s.Name))
	b = lean.AppendVarint(b, 6, kind)
	b = lean.AppendFixed64(b, 7, uint64(s.Start.UnixNano()))
	b = lean.AppendFixed64(b, 8, uint64(s.End.UnixNano()))
	b = appendAttributes(b, 9, s.Attributes)
	if s.Failed {
		var status int
		b, status = lean.Begin(b, 15)
		b = lean.AppendString(b, 2, text(s.Message))
		b = lean.AppendVarint(b, 3, statusError)
		b = lean.End(b, status)
	}
	return b
}

// statusError is the one status of spans that is told: it is not for the proxy
// to say that all was well.
const statusError = 2

// appendParent appends the id of the span above, if there is one.
func appendParent(b []byte, num uint64, s *Span) []byte {
	if s.Parent == [8]byte{} {
		return b
	}
	return lean.AppendString(b, num, s.Parent[:])
}

// text is s as it may stand in a message. Paths and header fields may have any
// bytes, and a collector refuses a whole batch for one that is not UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// appendAttributes appends a list of KeyValue.
func appendAttributes(b []byte, num uint64, list []Attribute) []byte {
	for _, a := range list {
		var pair, value int
		b, pair = lean.Begin(b, num)
		b = lean.AppendString(b, 1, a.Key)
		b, value = lean.Begin(b, 2) // AnyValue
		if a.IsInt {
			b = lean.KeepVarint(b, 3, uint64(a.Int))
		} else {
			b = lean.KeepString(b, 1, text(a.Value))
		}
		b = lean.End(b, value)
		b = lean.End(b, pair)
	}
	return b
}
