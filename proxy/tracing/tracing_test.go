package tracing

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func head(fields ...string) *exchange.RequestHead {
	h := &exchange.RequestHead{Method: []byte("GET"), Path: []byte("/a?b=c"), Authority: []byte("user:pw@web:80"), Version: exchange.HTTP11}
	for i := 0; i < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return h
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	// grpcBin has the same ids, sampled.
	grpcBin = "AAAK92UZFs1D3YRI6yEcgDGcAbeta3FpIDMxAgE="
)

func TestExtract(t *testing.T) {
	for _, c := range []struct {
		name    string
		fields  []string
		format  format
		sampled bool
	}{
		{"nothing", nil, formatNone, false},
		{"w3c", []string{"Traceparent", "00-" + traceID + "-" + spanID + "-01"}, formatW3C, true},
		{"w3c, not sampled", []string{"traceparent", "00-" + traceID + "-" + spanID + "-00"}, formatW3C, false},
		{"w3c of another version", []string{"traceparent", "01-" + traceID + "-" + spanID + "-01"}, formatNone, false},
		{"w3c without trace", []string{"traceparent", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}, formatNone, false},
		{"w3c cut", []string{"traceparent", "00-" + traceID}, formatNone, false},
		{"grpc", []string{"grpc-trace-bin", grpcBin}, formatGRPC, true},
		{"grpc without padding", []string{"grpc-trace-bin", strings.TrimRight(grpcBin, "=")}, formatGRPC, true},
		{"grpc, nonsense", []string{"grpc-trace-bin", "AAAA"}, formatNone, false},
		{"b3", []string{"X-B3-TraceId", traceID, "X-B3-SpanId", spanID, "X-B3-Sampled", "1"}, formatB3, true},
		{"b3, short", []string{"X-B3-TraceId", traceID[16:], "X-B3-SpanId", spanID, "X-B3-Sampled", "1"}, formatB3, true},
		{"b3, not sampled", []string{"X-B3-TraceId", traceID, "X-B3-SpanId", spanID, "X-B3-Sampled", "0"}, formatB3, false},
		{"b3 without span", []string{"X-B3-TraceId", traceID}, formatNone, false},
		{"w3c before b3", []string{"X-B3-TraceId", traceID, "X-B3-SpanId", spanID, "traceparent", "00-" + traceID + "-" + spanID + "-01"}, formatW3C, true},
	} {
		got, ok := extract(&head(c.fields...).Fields)
		if !ok {
			got = traceContext{}
		}
		if got.format != c.format || got.sampled != c.sampled {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct{ name, header, value string }{
		{"w3c", "traceparent", "00-" + traceID + "-" + spanID + "-01"},
		{"grpc", "grpc-trace-bin", grpcBin},
	} {
		tr := New(Options{Log: slog.New(slog.DiscardHandler)})
		h := head(c.header, c.value, "User-Agent", "curl")
		s := tr.Server(h, "inbound", netip.MustParseAddrPort("10.0.0.1:80"))
		s.Client(h)
		s.End(Outcome{Status: 200, Bytes: 5})
		s.End(Outcome{Status: 500})
		if len(tr.spans) != 2 {
			t.Fatalf("%s: %d spans", c.name, len(tr.spans))
		}
		client, server := <-tr.spans, <-tr.spans
		if hex.EncodeToString(server.Trace[:]) != traceID || hex.EncodeToString(server.Parent[:]) != spanID ||
			client.Parent != server.ID || !client.Client || server.Client || server.Name != "/a" {
			t.Errorf("%s: got %+v and %+v", c.name, server, client)
		}
		sent, ok := extract(&h.Fields)
		if !ok || sent.parent != client.ID || sent.trace != client.Trace || !sent.sampled {
			t.Errorf("%s: passed on as %+v", c.name, sent)
		}
		got := map[string]string{}
		for _, a := range server.Attributes {
			got[a.Key] = a.Value
		}
		for k, v := range map[string]string{
			"direction": "inbound", "url.full": "http://REDACTED@web:80/a?b=c", "url.query": "b=c", "server.address": "10.0.0.1",
			"user_agent.original": "curl",
		} {
			if got[k] != v {
				t.Errorf("%s: %s is %q", c.name, k, got[k])
			}
		}
	}
}

func TestNotTraced(t *testing.T) {
	var none *Tracer
	s := none.Server(head(), "inbound", netip.AddrPort{})
	s.Client(nil)
	s.Sent(Outcome{})
	s.End(Outcome{})
	tr := New(Options{})
	h := head()
	if tr.Server(h, "inbound", netip.AddrPort{}) != nil || len(h.List) != 0 {
		t.Error("a trace was begun")
	}
}

// TestSample: of the requests that no one has decided about, the share that was
// asked for starts a trace; the decision is passed on either way.
func TestSample(t *testing.T) {
	draw := 0.0
	tr := New(Options{Sample: 0.25, Draw: func() float64 { return draw }, Log: slog.New(slog.DiscardHandler)})
	var traces [][16]byte
	for _, c := range []struct {
		draw    float64
		field   string
		sampled bool
	}{
		{0, "", true}, {0.24, "", true}, {0.25, "", false}, {0.9, "", false},
		{0, "00-" + traceID + "-" + spanID + "-00", false}, {0.9, "00-" + traceID + "-" + spanID + "-01", true},
		{0, "nonsense", true},
	} {
		h := head()
		if c.field != "" {
			h.Add("traceparent", c.field)
		}
		draw = c.draw
		s := tr.Server(h, "outbound", netip.AddrPort{})
		got, ok := extract(&h.Fields)
		if (s != nil) != c.sampled || !ok || got.sampled != c.sampled || s != nil && got.parent != s.server.ID {
			t.Errorf("%q, drawn %v: spans %v, passed on %v %+v", c.field, c.draw, s != nil, ok, got)
		}
		if s == nil || len(c.field) == 55 {
			continue
		}
		if s.server.Parent != [8]byte{} {
			t.Errorf("the first span has the parent %x", s.server.Parent)
		}
		traces = append(traces, s.server.Trace)
	}
	if len(traces) != 3 || traces[0] == traces[1] || traces[0] == [16]byte{} {
		t.Errorf("got the traces %x", traces)
	}
}

// TestFailures goes through what is a failure of whom.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name           string
		o              Outcome
		server, client bool
	}{
		{"fine", Outcome{Status: 200}, false, false},
		{"redirect", Outcome{Status: 302, Reason: "redirected"}, false, false},
		{"not found", Outcome{Status: 404}, false, true},
		{"refused", Outcome{Status: 403, Reason: "unauthorized request on route"}, false, true},
		{"server error", Outcome{Status: 503}, true, true},
		{"cut off", Outcome{Status: 200, Broken: true, Reason: "reset"}, true, true},
		{"no response", Outcome{}, true, true},
		{"gRPC, fine", Outcome{Status: 200, GRPC: "0"}, false, false},
		{"gRPC, not found", Outcome{Status: 200, GRPC: "5"}, false, true},
		{"gRPC, unavailable", Outcome{Status: 200, GRPC: "14"}, true, true},
	} {
		if server, client := c.o.failed(false), c.o.failed(true); server != c.server || client != c.client {
			t.Errorf("%s: failed for the server %v, for the client %v", c.name, server, client)
		}
	}
}

// TestAttempts: each attempt has a span, which ends with it.
func TestAttempts(t *testing.T) {
	now := time.Unix(100, 0)
	tr := New(Options{Log: slog.New(slog.DiscardHandler), Now: func() time.Time { now = now.Add(time.Second); return now }})
	h := head("traceparent", "00-"+traceID+"-"+spanID+"-01")
	s := tr.Server(h, "outbound", netip.AddrPort{})
	s.Client(h)
	s.Sent(Outcome{Status: 503, Reason: "busy"})
	s.Client(h)
	s.End(Outcome{Status: 200, GRPC: "0", Bytes: 7})
	if len(tr.spans) != 3 {
		t.Fatalf("%d spans", len(tr.spans))
	}
	first, second, server := <-tr.spans, <-tr.spans, <-tr.spans
	if !first.Failed || first.Message != "busy" || second.Failed || server.Failed || first.ID == second.ID ||
		first.Parent != server.ID || second.Parent != server.ID || first.End.After(second.Start) || server.End.Before(second.End) {
		t.Errorf("got %+v, %+v, %+v", first, second, server)
	}
	numbers := map[string]int64{}
	for _, a := range server.Attributes {
		if a.IsInt {
			numbers[a.Key] = a.Int
		}
	}
	if numbers["http.response.status_code"] != 200 || numbers["http.response.body.size"] != 7 {
		t.Errorf("got %v", numbers)
	}
	if _, ok := numbers["rpc.grpc.status_code"]; !ok {
		t.Error("the span has no gRPC status")
	}
}

// What is encoded by hand is what the collector's own types read.
func TestEncode(t *testing.T) {
	text := func(k, v string) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: k, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: v}}}
	}
	number := func(k string, v int64) *commonpb.KeyValue {
		return &commonpb.KeyValue{Key: k, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: v}}}
	}
	long := strings.Repeat("x", 20000)
	server := Span{Name: "/a", Start: time.Unix(1, 2), End: time.Unix(3, 4), Attributes: []Attribute{{Key: "k", Value: long}, {Key: "empty"}, {Key: "n", Int: -5, IsInt: true}, {Key: "0", IsInt: true}}}
	server.Trace[0], server.ID[7], server.Parent[3] = 1, 2, 3
	client := Span{Client: true, Start: time.Unix(5, 0), End: time.Unix(6, 0), Failed: true, Message: "broke off"}
	want := &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.name", "x"), number("pid", 7)}},
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: scopeName}, Spans: []*tracepb.Span{
			{
				TraceId: server.Trace[:], SpanId: server.ID[:], ParentSpanId: server.Parent[:], Name: "/a", Kind: tracepb.Span_SPAN_KIND_SERVER,
				StartTimeUnixNano: 1e9 + 2, EndTimeUnixNano: 3e9 + 4, Attributes: []*commonpb.KeyValue{text("k", long), text("empty", ""), number("n", -5), number("0", 0)},
			},
			{
				TraceId: client.Trace[:], SpanId: client.ID[:], Kind: tracepb.Span_SPAN_KIND_CLIENT,
				StartTimeUnixNano: 5e9, EndTimeUnixNano: 6e9,
				Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "broke off"},
			},
		}}},
	}}}
	var got tracepb.TracesData
	if err := proto.Unmarshal(encode([]Attribute{{Key: "service.name", Value: "x"}, {Key: "pid", Int: 7, IsInt: true}}, []Span{server, client}), &got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, &got) {
		t.Errorf("got %v, want %v", &got, want)
	}
}

func TestRunSendsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var sizes []int
		tr := New(Options{
			Log: slog.New(slog.DiscardHandler), Resource: []Attribute{{Key: "service.name", Value: "x"}},
			Export: func(_ context.Context, r []Attribute, spans []Span) error {
				if len(r) != 1 {
					t.Error("no resource")
				}
				var sent tracepb.TracesData
				if err := proto.Unmarshal(encode(r, spans), &sent); err != nil {
					t.Error(err)
				} else if sent.ResourceSpans[0].ScopeSpans[0].Spans[0].Name != "/" {
					t.Error("name is lost")
				}
				mu.Lock()
				defer mu.Unlock()
				sizes = append(sizes, len(spans))
				return nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			tr.Run(ctx)
			close(done)
		}()
		for range 3 {
			tr.spans <- Span{Name: "/"}
		}
		time.Sleep(interval - time.Second)
		synctest.Wait()
		mu.Lock()
		if len(sizes) != 0 {
			t.Error("sent too early")
		}
		mu.Unlock()
		time.Sleep(2 * time.Second)
		tr.spans <- Span{Name: "/"}
		synctest.Wait()
		cancel()
		<-done
		if !reflect.DeepEqual(sizes, []int{3, 1}) {
			t.Errorf("got %v", sizes)
		}
	})
}

func TestAttributes(t *testing.T) {
	got := Merge(ParseAttributes("a=\"1\"\n b = 2 \nbad\n", "\n"), ParseAttributes("b=3,c=", ","))
	want := []Attribute{{Key: "a", Value: "1"}, {Key: "b", Value: "3"}, {Key: "c"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
