package tracing

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestOTLPHTTP sends batches to a real HTTP server, as a collector is one, which
// takes some and refuses others.
func TestOTLPHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	type request struct {
		line, host, kind string
		body             []byte
	}
	got := make(chan request, 2)
	status := make(chan int, 2)
	status <- 200
	status <- 503
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- request{r.Method + " " + r.URL.Path, r.Host, r.Header.Get("Content-Type"), b}
		w.WriteHeader(<-status)
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	defer func() {
		s.Close()
		<-done
	}()
	export := OTLPHTTP(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}, "collector:4318")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resource, spans := example()
	if err := export(ctx, resource, spans); err != nil {
		t.Fatal(err)
	}
	r := <-got
	var sent tracepb.TracesData
	if err := proto.Unmarshal(r.body, &sent); err != nil {
		t.Fatal(err)
	}
	if r.line != "POST /v1/traces" || r.host != "collector:4318" || r.kind != "application/x-protobuf" ||
		len(sent.ResourceSpans[0].ScopeSpans[0].Spans) != len(spans) {
		t.Errorf("got %s to %s of %s: %v", r.line, r.host, r.kind, &sent)
	}
	if err := export(ctx, resource, spans); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a collector that refuses: %v", err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := export(gone, resource, spans); err == nil {
		t.Error("exported after the end")
	}
}
