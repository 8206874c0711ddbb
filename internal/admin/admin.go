// Package admin serves the administrative endpoints of a controller: liveness, readiness, metrics and, when asked for,
// profiles. Source: control plane chapter, section 14.1.
//
//	srv := admin.New(admin.Options{Addr: ":9990", Ready: &gate})
//	lis, err := srv.Listen() // bind first, so that a bad port stops startup
//	...
//	err = srv.Serve(ctx, lis) // until ctx is done
//
// The handler is stateless; everything may be called from any goroutine.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/linkerd-go/linkerd-go/internal/ready"
)

// readHeaderTimeout is how long a client may take to send its request's head.
const readHeaderTimeout = 15 * time.Second

// shutdownTimeout is how long requests in flight (a scrape, a profile) may take once the server stops.
const shutdownTimeout = 5 * time.Second

// Options say what an admin server listens on and shows.
type Options struct {
	// Addr is the address to listen on, `host:port`.
	Addr string
	// Ready decides what `/ready` answers. Nil is always ready.
	Ready *ready.Gate
	// ReadyText is the body of a positive `/ready`, without the newline. Empty is `ok`; the policy controller says
	// `ready`.
	ReadyText string
	// Gatherer is where `/metrics` takes its samples from. Nil is the default registry.
	Gatherer prometheus.Gatherer
	// Pprof adds `/debug/pprof/`.
	Pprof bool
}

// Server is one admin server.
type Server struct {
	options Options
}

// New returns a server with the given options.
func New(options Options) *Server {
	if options.Ready == nil {
		options.Ready = new(ready.Gate)
	}
	if options.ReadyText == "" {
		options.ReadyText = "ok"
	}
	if options.Gatherer == nil {
		options.Gatherer = prometheus.DefaultGatherer
	}
	return &Server{options: options}
}

// Handler returns the endpoints. Paths it does not know are answered with 404, methods other than GET and HEAD with 405.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }
	}
	mux.HandleFunc("GET /ping", text("pong\n"))
	mux.HandleFunc("GET /live", text("alive\n"))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !s.options.Ready.Ready() {
			w.WriteHeader(http.StatusInternalServerError)
			io.WriteString(w, "not ready\n")
			return
		}
		io.WriteString(w, s.options.ReadyText+"\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{}))
	if s.options.Pprof {
		// `go tool pprof` posts to the symbol endpoint, so these accept any method.
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	}
	return mux
}

// Listen binds the address.
func (s *Server) Listen() (net.Listener, error) {
	lis, err := net.Listen("tcp", s.options.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening for admin requests on %s: %w", s.options.Addr, err)
	}
	return lis, nil
}

// Serve answers on lis until ctx is done, then waits for requests in flight, and closes the connections of those that take too
// long. It closes lis, and leaves nothing behind that goes on by itself, also when lis fails.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: readHeaderTimeout}
	stopped := make(chan struct{})
	stop, cancelStop := context.WithCancel(ctx)
	defer cancelStop()
	go func() {
		defer close(stopped)
		<-stop.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(lis)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	srv.Close()
	cancelStop()
	<-stopped
	return fmt.Errorf("serving admin requests: %w", err)
}
