package admin_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/test/bufconn"

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

// TestStopsInTime stops a server while a scrape is under way whose client is slow to read its answer. A connection that takes
// 16 bytes at a time stands for one whose buffers are full.
func TestStopsInTime(t *testing.T) {
	for _, c := range []struct {
		name string
		// reads is when the client begins to read, counted from the stop.
		reads time.Duration
		// whole says that the client gets its answer.
		whole bool
	}{
		{name: "a request that ends in time is answered", reads: 4 * time.Second, whole: true},
		{name: "a client that takes longer is cut off", reads: time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lis := bufconn.Listen(16)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				begin := time.Now()
				var ended time.Duration
				go func() {
					err := admin.New(admin.Options{Gatherer: prometheus.NewRegistry()}).Serve(ctx, lis)
					ended = time.Since(begin)
					done <- err
				}()
				conn := dial(t, lis)
				defer conn.Close()
				if _, err := io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				cancel()
				time.Sleep(c.reads)
				answer, _ := io.ReadAll(conn)
				if whole := strings.HasSuffix(string(answer), "\r\n\r\npong\n"); whole != c.whole {
					t.Errorf("got %q", answer)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				// In virtual time the limit is met to the nanosecond.
				if ended > 5*time.Second || !c.whole && ended != 5*time.Second {
					t.Errorf("the server ended after %v", ended)
				}
			})
		})
	}
}

// TestFailingListener lets the listener fail under a server that nobody stops: nothing may be left of it. What is left would hold
// the bubble up for ever.
func TestFailingListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(16)
		done := make(chan error, 1)
		go func() { done <- admin.New(admin.Options{}).Serve(context.Background(), lis) }()
		// A client that has said nothing yet is no request, but a connection that has to be closed.
		conn := dial(t, lis)
		synctest.Wait()
		begin := time.Now()
		lis.Close()
		if err := <-done; err == nil {
			t.Error("a listener that is closed is no error")
		}
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("the failure was told after %v", waited)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is open")
		}
	})
}

func dial(t *testing.T, lis *bufconn.Listener) net.Conn {
	t.Helper()
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
