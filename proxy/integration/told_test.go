package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/linkerd-go/linkerd-go/proxy/accesslog"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
	"github.com/linkerd-go/linkerd-go/proxy/tracing"
)

// logged makes a mesh whose proxies write access logs, and gives the lines of
// each; the path of a request tells which is which.
func logged(t *testing.T) (m *mesh, line func(outbound bool, path string) map[string]any) {
	t.Helper()
	var logs [2]apptest.Log
	m = newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		ic.AccessLog = accesslog.New(accesslog.JSON, &logs[0])
		oc.AccessLog = accesslog.Outbound(accesslog.JSON, &logs[1])
	})
	find := func(outbound bool, path string) (found map[string]any) {
		log := &logs[0]
		if outbound {
			log = &logs[1]
		}
		for text := range strings.Lines(log.String()) {
			var l map[string]any
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if strings.HasSuffix(fmt.Sprint(l["uri"]), path) {
				found = l
			}
		}
		return found
	}
	return m, find
}

// nanoseconds reads a duration of a line.
func nanoseconds(t *testing.T, l map[string]any, key string) time.Duration {
	t.Helper()
	var n int64
	if _, err := fmt.Sscan(fmt.Sprint(l[key]), &n); err != nil {
		t.Errorf("%s is %v", key, l[key])
	}
	return time.Duration(n)
}

// TestAccessLogsAreWrittenAtTheEnd: a line has the sizes that went by, the time
// until all was over, and why something went wrong; both directions have one.
func TestAccessLogsAreWrittenAtTheEnd(t *testing.T) {
	m, line := logged(t)
	proceed, cut := make(chan struct{}), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/stream":
			_, _ = io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
			<-proceed
			_, _ = io.WriteString(w, "end")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "some")
			w.(http.Flusher).Flush()
			<-cut
			panic(http.ErrAbortHandler)
		case "/grpc":
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "14")
		default:
			_, _ = io.WriteString(w, "whole")
		}
	}))
	const base = "http://web.ns.svc.cluster.local"
	c := m.client(false)

	if resp, _ := m.get(c, base+"/whole"); resp.StatusCode != 200 {
		t.Fatal(resp.StatusCode)
	}
	for _, out := range []bool{false, true} {
		eventually(t, "a line", func() bool { return line(out, "/whole") != nil })
		l := line(out, "/whole")
		if l["response_bytes"] != "5" || l["request_bytes"] != "" || l["status"] != 200.0 || l["error"] != "" || l["method"] != "GET" ||
			l["version"] != "HTTP/1.1" || l["host"] != "web.ns.svc.cluster.local" {
			t.Errorf("outbound %v: %v", out, l)
		}
		if out && (l["direction"] != "outbound" || l["server.addr"] != serverAddr.String() || l["server.id"] != serverID || l["client.id"] != "-") ||
			!out && (l["direction"] != "inbound" || l["server.addr"] != nil || l["client.id"] != clientID) {
			t.Errorf("outbound %v: %v", out, l)
		}
	}

	// A body without a length in both directions, and a response that lasts.
	resp, err := c.Post(base+"/stream", "text/plain", io.MultiReader(strings.NewReader("eleven "), strings.NewReader("byte")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for _, out := range []bool{false, true} {
		if l := line(out, "/stream"); l != nil {
			t.Errorf("written before the end: %v", l)
		}
	}
	close(proceed)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "end" {
		t.Fatalf("%q, %v", rest, err)
	}
	resp.Body.Close()
	for _, out := range []bool{false, true} {
		eventually(t, "a line of a stream", func() bool { return line(out, "/stream") != nil })
		l := line(out, "/stream")
		if l["request_bytes"] != "11" || l["response_bytes"] != "8" || nanoseconds(t, l, "duration_ns") <= nanoseconds(t, l, "total_ns") ||
			nanoseconds(t, l, "processing_ns") <= 0 || nanoseconds(t, l, "processing_ns") > nanoseconds(t, l, "total_ns") {
			t.Errorf("outbound %v: %v", out, l)
		}
	}

	// What goes wrong has a reason.
	resp, err = c.Get(base + "/cut")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	close(cut)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a response that was cut looks whole")
	}
	resp.Body.Close()
	for _, out := range []bool{false, true} {
		eventually(t, "a line of what was cut", func() bool { return line(out, "/cut") != nil })
		if l := line(out, "/cut"); l["error"] == "" || l["status"] != 200.0 || l["response_bytes"] != "4" {
			t.Errorf("outbound %v: %v", out, l)
		}
	}
	req, err := http.NewRequest("POST", base+"/grpc", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	if resp, err := m.client(true).Do(req); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	for _, out := range []bool{false, true} {
		eventually(t, "a line of a call", func() bool { return line(out, "/grpc") != nil })
		if l := line(out, "/grpc"); l["grpc_status"] != "14" || l["version"] != "HTTP/2.0" {
			t.Errorf("outbound %v: %v", out, l)
		}
	}
	port(func(p *model.ServerPolicy) { p.Authorizations = nil })(m)
	eventually(t, "denied", func() bool {
		resp, _ := m.get(c, base+"/denied")
		return resp.StatusCode == 403
	})
	eventually(t, "a line of what was denied", func() bool {
		l := line(false, "/denied")
		return l != nil && l["error"] == "unauthorized request on route" && l["status"] == 403.0
	})
	m.target.Set(&model.Target{Policy: model.InvalidClientPolicy("broken")})
	eventually(t, "invalid", func() bool {
		resp, _ := m.get(c, base+"/invalid")
		return resp.StatusCode == 500
	})
	eventually(t, "a line of what the policy broke", func() bool {
		l := line(true, "/invalid")
		return l != nil && strings.Contains(fmt.Sprint(l["error"]), "broken") && l["server.addr"] == nil
	})
}

// traced makes a mesh whose proxies trace, and gives what ends the tracers and
// returns the spans of the client's and of the server's proxy.
func traced(t *testing.T, sample float64) (m *mesh, spans func() (out, in []tracing.Span)) {
	t.Helper()
	tracer := func() (*tracing.Tracer, func() []tracing.Span) {
		var all []tracing.Span
		tr := tracing.New(tracing.Options{
			Sample: sample, Log: slog.New(slog.DiscardHandler),
			Export: func(_ context.Context, _ []tracing.Attribute, spans []tracing.Span) error {
				all = append(all, spans...)
				return nil
			},
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tr.Run(ctx)
		}()
		end := func() []tracing.Span {
			cancel()
			<-done
			return all
		}
		t.Cleanup(func() { end() })
		return tr, end
	}
	ot, outEnd := tracer()
	it, inEnd := tracer()
	m = newMesh(t, func(oc *outbound.Config, ic *inbound.Config) {
		viaProxy(oc, ic)
		oc.Tracer, ic.Tracer = ot, it
	})
	return m, func() (out, in []tracing.Span) {
		// The client may have seen the end a moment before the proxies.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.out.drain.Drain(ctx); err != nil {
			t.Error(err)
		}
		if err := m.in.drain.Drain(ctx); err != nil {
			t.Error(err)
		}
		return outEnd(), inEnd()
	}
}

const parentSpan = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// TestSpansEndWithTheBody: spans last until the last byte, each attempt has one,
// and what failed says so.
func TestSpansEndWithTheBody(t *testing.T) {
	m, spans := traced(t, 0)
	proceed := make(chan struct{})
	var tries atomic.Int64
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			w.(http.Flusher).Flush()
			<-proceed
			_, _ = io.WriteString(w, "end")
		case "/retry":
			if tries.Add(1) == 1 {
				w.WriteHeader(503)
			}
		case "/missing":
			w.WriteHeader(404)
		}
	}))
	rule(func(r *model.Rule) {
		r.Retry = &model.Retry{Max: 1, Statuses: []model.StatusRange{{Min: 503, Max: 503}}}
	})(m)
	c := m.client(false)
	get := func(path string) *http.Response {
		req, err := http.NewRequest("GET", "http://web.ns.svc.cluster.local"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", parentSpan)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for path, want := range map[string]int{"/retry": 200, "/missing": 404} {
		resp := get(path)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	resp := get("/stream")
	head := time.Now()
	close(proceed)
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c.CloseIdleConnections()
	out, in := spans()
	type shape struct{ server, client, failed int }
	shapes := func(list []tracing.Span, path string) (s shape) {
		for _, span := range list {
			if span.Name != path {
				continue
			}
			if span.Client {
				s.client++
			} else {
				s.server++
			}
			if span.Failed {
				s.failed++
			}
			if path == "/stream" && span.End.Before(head) {
				t.Errorf("a span of a stream ended with the head: %+v", span)
			}
		}
		return s
	}
	for _, c := range []struct {
		path    string
		out, in shape
	}{
		{"/stream", shape{1, 1, 0}, shape{1, 1, 0}},
		// The first attempt failed, for all but the client.
		{"/retry", shape{1, 2, 1}, shape{2, 2, 2}},
		// Whoever asks for what is not there is the one who errs.
		{"/missing", shape{1, 1, 1}, shape{1, 1, 1}},
	} {
		if got := shapes(out, c.path); got != c.out {
			t.Errorf("%s, outbound: %+v", c.path, got)
		}
		if got := shapes(in, c.path); got != c.in {
			t.Errorf("%s, inbound: %+v", c.path, got)
		}
	}
}

// TestTracesAreSampled: without a context of the application's the first proxy
// decides, and the second follows.
func TestTracesAreSampled(t *testing.T) {
	for _, c := range []struct {
		sample float64
		flags  string
		spans  int
	}{{0, "", 0}, {1, "01", 2}, {1e-300, "00", 0}} {
		t.Run(fmt.Sprint(c.sample), func(t *testing.T) {
			m, spans := traced(t, c.sample)
			var seen atomic.Value
			m.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen.Store(r.Header.Get("Traceparent")) }))
			client := m.client(false)
			m.get(client, "http://web.ns.svc.cluster.local/")
			client.CloseIdleConnections()
			got := seen.Load().(string)
			if c.flags == "" && got != "" || c.flags != "" && !strings.HasSuffix(got, "-"+c.flags) {
				t.Errorf("the application got %q", got)
			}
			out, in := spans()
			if len(out) != c.spans || len(in) != c.spans {
				t.Fatalf("%d and %d spans", len(out), len(in))
			}
			for _, s := range append(out, in...) {
				if s.Trace != out[0].Trace {
					t.Errorf("spans of several traces: %x, %x", s.Trace, out[0].Trace)
				}
			}
		})
	}
}

// serveHTTP starts an HTTP/1 server and gives its address.
func serveHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // ends with Close
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return ln.Addr().String()
}

// TestTracesOverHTTP has a whole proxy export to a collector that takes OTLP over
// HTTP alone.
func TestTracesOverHTTP(t *testing.T) {
	sent := make(chan []byte, 10)
	addr := serveHTTP(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Error(r.URL, err)
		}
		sent <- b
	}))
	_, _, m, _, server := meshed(t, map[string]string{
		"TRACE_COLLECTOR_SVC_ADDR": addr, "TRACE_PROTOCOL": "http/protobuf", "TRACE_SAMPLE_RATIO": "1",
	})
	m.get(m.client(false), "http://web.ns.svc.cluster.local/over-http")
	if err := server.stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-sent:
		var traces tracepb.TracesData
		if err := proto.Unmarshal(b, &traces); err != nil {
			t.Fatal(err)
		}
		if list := traces.ResourceSpans[0].ScopeSpans[0].Spans; len(list) != 2 || list[0].Name != "/over-http" {
			t.Errorf("got %v", list)
		}
	default:
		t.Fatal("no spans were sent before the proxy ended")
	}
}
