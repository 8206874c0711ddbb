package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// Unreachable reports whether err means that the API server could not be asked, or could not answer, as opposed to an answer
// that somebody will have to do something about.
func Unreachable(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err) ||
			apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err)
	}
	// All errors of connections come in this wrapping.
	var transport *url.Error
	return errors.As(err, &transport)
}

// Persist calls ask until it succeeds, or fails for another reason than that the API server cannot be reached, or ctx is done.
// It is for what a controller must know before it begins: while the API server is away the process lives and is not ready,
// instead of ending and being started again after longer and longer pauses.
func Persist(ctx context.Context, logger *slog.Logger, ask func(context.Context) error) error {
	backoff := wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: 5 * time.Second}
	for {
		err := ask(ctx)
		if err == nil || !Unreachable(err) {
			return err
		}
		logger.Warn("API server not reached yet; still trying", "error", err)
		pause := time.NewTimer(backoff.Step())
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("%w, after %w", ctx.Err(), err)
		}
	}
}
