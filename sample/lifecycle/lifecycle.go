// Package lifecycle gives the shop's servers one way to stop: on SIGTERM they
// go on serving for a grace time, because callers learn of the stop later than
// they do, then finish what is in flight and leave.
//
// Serve may be called once per server, from any goroutine.
package lifecycle

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
)

// drainLimit bounds how long requests in flight may take once the grace time
// is over.
const drainLimit = 10 * time.Second

// HTTP serves handler on l until ctx ends, then for grace longer, then until
// the requests in flight are done. It returns nil after a clean stop.
func HTTP(ctx context.Context, l net.Listener, handler http.Handler, grace time.Duration) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		pause(grace)
		c, cancel := context.WithTimeout(context.Background(), drainLimit)
		defer cancel()
		stopped <- srv.Shutdown(c)
	})
	err := srv.Serve(l)
	if stop() {
		return err // never asked to stop: Serve failed by itself
	}
	if e := <-stopped; e != nil {
		return e
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// GRPC serves srv on l with the same stop as HTTP.
func GRPC(ctx context.Context, l net.Listener, srv *grpc.Server, grace time.Duration) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		pause(grace)
		t := time.AfterFunc(drainLimit, srv.Stop)
		defer t.Stop()
		srv.GracefulStop()
	})
	err := srv.Serve(l)
	if stop() {
		return err
	}
	<-stopped
	return err
}

func pause(d time.Duration) {
	if d <= 0 {
		return
	}
	slog.Info("stopping: serving on while callers learn of it", "for", d)
	<-time.After(d)
}
