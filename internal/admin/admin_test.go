package admin_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/linkerd-go/linkerd-go/internal/admin"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/ready"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func TestEndpoints(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "things_total", Help: "Things."})
	registry.MustRegister(counter)
	var shut ready.Gate
	shut.Hold("caches")

	plain := admin.Options{Gatherer: registry}
	for _, c := range []struct {
		name, method, path string
		options            admin.Options
		status             int
		body               string
	}{
		{"alive", "GET", "/ping", plain, 200, "pong\n"},
		{"alive, as the policy controller says it", "GET", "/live", plain, 200, "alive\n"},
		{"head", "HEAD", "/live", plain, 200, ""},
		{"other methods", "POST", "/live", plain, 405, "Method Not Allowed\n"},
		{"ready", "GET", "/ready", plain, 200, "ok\n"},
		{"ready, in other words", "GET", "/ready", admin.Options{ReadyText: "ready"}, 200, "ready\n"},
		{"not ready", "GET", "/ready", admin.Options{Ready: &shut}, 500, "not ready\n"},
		{"metrics", "GET", "/metrics", plain, 200, "# HELP things_total Things."},
		{"unknown path", "GET", "/other", plain, 404, "404 page not found\n"},
		{"no profiles unless asked for", "GET", "/debug/pprof/cmdline", plain, 404, "404 page not found\n"},
		{"profiles", "GET", "/debug/pprof/cmdline", admin.Options{Pprof: true}, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			admin.New(c.options).Handler().ServeHTTP(rec, httptest.NewRequest(c.method, c.path, nil))
			if rec.Code != c.status || !strings.HasPrefix(rec.Body.String(), c.body) {
				t.Fatalf("%s %s: got %d %q, want %d %q", c.method, c.path, rec.Code, rec.Body, c.status, c.body)
			}
		})
	}
}

func TestServeUntilCancelled(t *testing.T) {
	srv := admin.New(admin.Options{Addr: "127.0.0.1:0"})
	lis, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, lis) }()
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get("http://" + lis.Addr().String() + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "pong\n" {
		t.Fatalf("got %q", body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
