// Package webhook serves admission webhooks over TLS, with a certificate that is reloaded while it runs.
//
// It is shared by the proxy injector, the ServiceProfile validator, the policy validator and the tap injector. Each gives
// it one function that decides about one request:
//
//	certs, err := webhook.LoadCertificate(webhook.DefaultCertDir)   // failure: leave
//	srv := webhook.New(webhook.Options{Addr: ":8443", Certificate: certs, Admit: validate, Logger: logger})
//	lis, err := srv.Listen()                                         // bind before anything is served
//	go certs.Watch(ctx, logger)                                      // live reload
//	release()                                                        // ready: see internal/ready
//	err = srv.Serve(ctx, lis)                                        // until ctx is done
//
// Source: control plane chapter, section 4.1. Everything may be called from any goroutine; Admit is called from one
// goroutine per request.
package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// DefaultAddr is where the webhooks of the mesh listen.
	DefaultAddr = ":8443"
	// readHeaderTimeout is how long a client may take to send its request's head.
	readHeaderTimeout = 15 * time.Second
	// shutdownTimeout is how long requests in flight may take once the server stops.
	shutdownTimeout = 5 * time.Second
	// maxBody is the largest review that is read.
	maxBody = 10 << 20
)

// Admit decides about one request. The UID of the response is filled in by the caller. An error denies the request, with
// the error's text as the message; it is not logged by Admit. Neither the request nor the response may be kept.
type Admit func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

// Options describe a webhook server.
type Options struct {
	// Addr is the address to listen on.
	Addr string
	// Certificate is what the server shows to its clients.
	Certificate *Certificate
	// Admit decides about each request.
	Admit Admit
	// Linger is for how long reviews are still taken when the process has been told to stop; see Linger.
	Linger time.Duration
	// Logger takes the refusals and the errors of connections.
	Logger *slog.Logger
}

// Linger is for how long a webhook goes on in a cluster. The API server hears that a replica goes only after the replica itself:
// what it sends until then would find nobody, and, with the failure policy Ignore, pods would be made without a proxy, and policies
// with mistakes in them.
const Linger = 3 * time.Second

// Server is a webhook server.
type Server struct {
	options Options
}

// New returns a server with the given options, all of which must be set.
func New(options Options) *Server { return &Server{options: options} }

// Listen binds the address and returns a TLS listener.
func (s *Server) Listen() (net.Listener, error) {
	lis, err := net.Listen("tcp", s.options.Addr)
	if err != nil {
		return nil, fmt.Errorf("listening for admission reviews on %s: %w", s.options.Addr, err)
	}
	return tls.NewListener(lis, &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: s.options.Certificate.get,
	}), nil
}

// Serve answers on lis until ctx is done and the time to linger has passed, then waits for requests in flight. It closes lis.
func (s *Server) Serve(ctx context.Context, lis net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: readHeaderTimeout,
		ErrorLog:          slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	stopped, failed := make(chan struct{}), make(chan struct{})
	stop, cancelStop := context.WithCancel(ctx)
	defer cancelStop()
	go func() {
		defer close(stopped)
		<-stop.Done()
		if s.options.Linger > 0 {
			linger := time.NewTimer(s.options.Linger)
			select {
			case <-linger.C:
			case <-failed:
			}
			linger.Stop()
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	}()
	err := srv.Serve(lis)
	close(failed)
	cancelStop()
	<-stopped
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving admission reviews: %w", err)
	}
	return nil
}

// ServeHTTP answers one review, whatever its path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(body) == 0 {
		// Load balancers and people probe with an empty request; it is not a review, and not worth an error.
		return
	}
	// v1 and v1beta1 reviews have the same fields, and the answer keeps the version that was asked in.
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		http.Error(w, fmt.Sprintf("decoding admission review: %v", err), http.StatusBadRequest)
		return
	}
	if review.Request == nil || review.Request.UID == "" {
		http.Error(w, "admission review without request or request.uid", http.StatusBadRequest)
		return
	}
	review.Response = s.decide(r.Context(), review.Request)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(&review); err != nil {
		s.options.Logger.Debug("admission response not sent", "error", err)
	}
}

// decide asks Admit and turns its error into a denial.
func (s *Server) decide(ctx context.Context, request *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	response, err := s.options.Admit(ctx, request)
	if err != nil {
		s.options.Logger.Error("admission request failed", "kind", request.Kind.Kind, "namespace", request.Namespace,
			"name", request.Name, "error", err)
		response = &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
	}
	response.UID = request.UID
	return response
}
