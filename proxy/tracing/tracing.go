// Package tracing tells a collector of the requests that are part of a sampled
// trace (proxy chapter, section 22.3). The proxy starts traces only if it is told
// a share of the requests to do it for: otherwise a request without a sampled
// context costs a look at its headers.
//
//	t := tracing.New(tracing.Options{Resource: ..., Export: tracing.OTLP(conn), ...})
//	go t.Run(ctx)
//	...
//	s := t.Server(head, ...)        // nil if it is not traced
//	s.Client(head)                  // before the request is sent on
//	s.Sent(outcome)                 // if it is sent again
//	s.End(outcome)                  // when the last byte of the response has gone
//
// A nil *Tracer traces nothing, a nil *Spans does nothing. A Tracer may be used
// from any goroutine; Spans belong to their exchange. Spans that the collector
// is too slow for are dropped, counted and told of in the log.
package tracing

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Attribute describes a span or the process that sends spans.
type Attribute struct {
	Key   string
	Value string
	// Int is used instead of Value if IsInt is set.
	Int   int64
	IsInt bool
}

// Span is a finished span.
type Span struct {
	Trace      [16]byte
	ID, Parent [8]byte
	// Client tells the request's sending from its receiving.
	Client     bool
	Name       string
	Start, End time.Time
	Attributes []Attribute
	// Failed says that the span is of a failure, and Message of which, if that
	// is not plain from the attributes.
	Failed  bool
	Message string
}

// Outcome is how a request, or an attempt at it, ended.
type Outcome struct {
	// Status is that of the response, 0 if there was none.
	Status int
	// GRPC is the grpc-status, empty for none.
	GRPC string
	// Broken says that the response did not come to its end.
	Broken bool
	// Reason is why a proxy answered in the server's place, or why the response
	// broke off.
	Reason string
	// Bytes is the length of the response's body.
	Bytes uint64
}

// serverFailures are the gRPC codes that are the server's fault (OpenTelemetry
// semantic conventions for gRPC): UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
// INTERNAL, UNAVAILABLE, DATA_LOSS.
var serverFailures = []string{"2", "4", "12", "13", "14", "15"}

// failed decides whether a span is of a failure. What the client did wrong is
// none of the server's (OpenTelemetry semantic conventions for HTTP).
func (o *Outcome) failed(client bool) bool {
	switch {
	case o.Broken || o.Status == 0 || o.Status >= 500:
		return true
	case o.GRPC != "" && o.GRPC != "0":
		return client || slices.Contains(serverFailures, o.GRPC)
	}
	return client && o.Status >= 400
}

// Exporter sends spans to a collector.
type Exporter func(ctx context.Context, resource []Attribute, spans []Span) error

// Options are what a tracer is made from.
type Options struct {
	Resource []Attribute
	Export   Exporter
	Now      func() time.Time
	Log      *slog.Logger
	// Sample is the share of the requests without a context, from 0 to 1, that
	// a trace is started for. With 0 their headers are left alone; else all of
	// them get a context, so that whoever comes next does not decide again.
	Sample float64
	// Draw gives a number from 0 up to 1; nil draws at random.
	Draw func() float64
}

// Bounds of what is kept for the collector.
const (
	queue = 100
	batch = 1000
	// interval is how long a span waits for others to go with.
	interval = 10 * time.Second
	// exportLimit is how long one export may take.
	exportLimit = 10 * time.Second
)

// Tracer collects spans.
type Tracer struct {
	o     Options
	spans chan Span

	streams, requests, exported, dropped atomic.Uint64
}

// Stats tells what became of the spans.
type Stats struct {
	// Streams are the exports under way, Requests all that were begun.
	Streams, Requests uint64
	// Exported and Dropped count spans; those of exports that failed are in
	// neither.
	Exported, Dropped uint64
}

// Stats tells what became of the spans so far.
func (t *Tracer) Stats() Stats {
	return Stats{Streams: t.streams.Load(), Requests: t.requests.Load(), Exported: t.exported.Load(), Dropped: t.dropped.Load()}
}

// New makes a tracer; Run has to run.
func New(o Options) *Tracer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Draw == nil {
		o.Draw = rand.Float64
	}
	return &Tracer{o: o, spans: make(chan Span, queue)}
}

// Run sends spans to the collector until ctx is done, then what is left.
func (t *Tracer) Run(ctx context.Context) {
	var pending []Span
	timer := time.NewTimer(interval)
	defer timer.Stop()
	send := func(ctx context.Context) {
		if len(pending) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, exportLimit)
		defer cancel()
		t.requests.Add(1)
		t.streams.Store(1)
		if err := t.o.Export(ctx, t.o.Resource, pending); err != nil {
			t.o.Log.Warn("Failed to export spans", "spans", len(pending), "error", err)
		} else {
			t.exported.Add(uint64(len(pending)))
		}
		t.streams.Store(0)
		pending = pending[:0]
	}
	for {
		select {
		case s := <-t.spans:
			if pending = append(pending, s); len(pending) < batch {
				continue
			}
			send(ctx)
		case <-timer.C:
			send(ctx)
		case <-ctx.Done():
			// The last spans are of the requests that the drain waited for.
			for {
				select {
				case s := <-t.spans:
					pending = append(pending, s)
					continue
				default:
				}
				break
			}
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			send(last)
			cancel()
			return
		}
		timer.Reset(interval)
	}
}

// Spans are the spans of one exchange.
type Spans struct {
	t              *Tracer
	c              traceContext
	server, client Span
}

// Server begins the span of a request's receiving and makes it the parent of
// what comes after; nil if the request is not part of a sampled trace.
// direction is "inbound" or "outbound", server where the request is for.
func (t *Tracer) Server(h *exchange.RequestHead, direction string, server netip.AddrPort) *Spans {
	if t == nil {
		return nil
	}
	c, ok := extract(&h.Fields)
	switch {
	case ok && c.sampled:
	case !ok && t.o.Sample > 0:
		if c = start(t.o.Draw() < t.o.Sample); !c.sampled {
			c.inject(&h.Fields, newID())
			return nil
		}
	default:
		return nil
	}
	s := &Spans{t: t, c: c}
	s.server = s.begin(h, c.parent)
	s.server.Attributes = attributes(h, direction, server)
	s.c.inject(&h.Fields, s.server.ID)
	s.c.parent = s.server.ID
	return s
}

// newID is an id at random. An id of zero is none.
func newID() (id [8]byte) {
	binary.LittleEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

func (s *Spans) begin(h *exchange.RequestHead, parent [8]byte) Span {
	return Span{Trace: s.c.trace, ID: newID(), Parent: parent, Name: string(path(h)), Start: s.t.o.Now()}
}

// Client begins the span of the request's sending, again for each attempt.
func (s *Spans) Client(h *exchange.RequestHead) {
	if s == nil {
		return
	}
	s.client = s.begin(h, s.server.ID)
	s.client.Client = true
	s.client.Attributes = s.server.Attributes
	s.c.inject(&h.Fields, s.client.ID)
}

// Sent ends the span that Client began, if it has not ended.
func (s *Spans) Sent(o Outcome) {
	if s != nil {
		s.end(&s.client, &o, s.t.o.Now())
	}
}

// End ends all spans that have not ended. It has to be called once the exchange
// is over.
func (s *Spans) End(o Outcome) {
	if s == nil {
		return
	}
	now := s.t.o.Now()
	s.end(&s.client, &o, now)
	s.end(&s.server, &o, now)
}

func (s *Spans) end(span *Span, o *Outcome, now time.Time) {
	if span.Start.IsZero() || !span.End.IsZero() {
		return
	}
	span.End = now
	if span.Failed = o.failed(span.Client); span.Failed {
		span.Message = o.Reason
	}
	out := *span
	out.Attributes = append([]Attribute(nil), span.Attributes...)
	if o.Status != 0 {
		out.Attributes = append(out.Attributes, Attribute{Key: "http.response.status_code", Int: int64(o.Status), IsInt: true},
			Attribute{Key: "http.response.body.size", Int: int64(o.Bytes), IsInt: true})
	}
	if code, err := strconv.ParseInt(o.GRPC, 10, 32); err == nil {
		out.Attributes = append(out.Attributes, Attribute{Key: "rpc.grpc.status_code", Int: code, IsInt: true})
	}
	select {
	case s.t.spans <- out:
	default:
		s.t.dropped.Add(1)
		s.t.o.Log.Debug("Span dropped")
	}
}

// path is the request's path without its query.
func path(h *exchange.RequestHead) []byte {
	for i, c := range h.Path {
		if c == '?' {
			return h.Path[:i]
		}
	}
	return h.Path
}

// attributes describe a request.
func attributes(h *exchange.RequestHead, direction string, server netip.AddrPort) []Attribute {
	scheme := string(h.Scheme)
	if scheme == "" {
		scheme = "http"
	}
	authority := string(h.Authority)
	if authority == "" {
		authority = string(h.Get("host"))
	}
	p, query, hasQuery := strings.Cut(string(h.Path), "?")
	out := []Attribute{
		{Key: "direction", Value: direction},
		{Key: "http.request.method", Value: string(h.Method)},
		{Key: "url.scheme", Value: scheme},
		{Key: "url.path", Value: p},
	}
	if hasQuery {
		out = append(out, Attribute{Key: "url.query", Value: query})
	}
	// Credentials have no place in traces.
	full := authority
	if i := strings.LastIndexByte(full, '@'); i >= 0 {
		full = "REDACTED@" + full[i+1:]
	}
	out = append(out, Attribute{Key: "url.full", Value: scheme + "://" + full + string(h.Path)},
		Attribute{Key: "network.transport", Value: "tcp"})
	if server.IsValid() {
		out = append(out, Attribute{Key: "server.address", Value: server.Addr().String()},
			Attribute{Key: "server.port", Int: int64(server.Port()), IsInt: true})
	}
	for _, f := range []struct{ header, key string }{
		{"user-agent", "user_agent.original"},
		{"content-length", "http.request.header.content-length"},
		{"content-type", "http.request.header.content-type"},
		{"l5d-orig-proto", "http.request.header.l5d-orig-proto"},
	} {
		if v := h.Get(f.header); v != nil {
			out = append(out, Attribute{Key: f.key, Value: string(v)})
		}
	}
	return out
}

// ParseAttributes reads key=value lines as the downward API and operators write
// them: values may be quoted.
func ParseAttributes(text, separator string) []Attribute {
	var out []Attribute
	for line := range strings.SplitSeq(text, separator) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			continue
		}
		value = strings.TrimSpace(value)
		if v, err := strconv.Unquote(value); err == nil {
			value = v
		}
		out = append(out, Attribute{Key: key, Value: value})
	}
	return out
}

// Merge puts lists together, later values of a key replacing earlier ones.
func Merge(lists ...[]Attribute) []Attribute {
	var out []Attribute
	at := map[string]int{}
	for _, list := range lists {
		for _, a := range list {
			if i, ok := at[a.Key]; ok {
				out[i] = a
				continue
			}
			at[a.Key] = len(out)
			out = append(out, a)
		}
	}
	return out
}
