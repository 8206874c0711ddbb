// Package lease lets one of several replicas do what only one may do: write.
//
//	err := lease.Run(ctx, lease.Options{Client: client, Namespace: ns, Name: "policy-controller-write", Identity: pod, Logger: logger},
//		func(ctx context.Context) { ... until ctx is done ... })
//
// Work ends when its context does: because the process stops, and then it has ended before the lease is given back, so that
// the next holder, which begins at once, meets no write of this one; or because the lease was not renewed in time, and then
// there are 20 seconds until somebody else may take it. Losing the lease is no failure: the process has other things to do,
// and takes part in the election again.
//
// Run is called from one goroutine, and work from one at a time. Source: control plane chapter, section 13.
package lease

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

const (
	// duration is how long a lease lasts that is not renewed, renewDeadline how long its holder works without having
	// renewed it, and retryPeriod the time between tries to renew or to take it.
	duration      = 30 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// pause is the time between tries to prepare.
	pause = 5 * time.Second
	// releaseTimeout is how long giving back may take: a process that stops should not wait for an API server that is away.
	releaseTimeout = 5 * time.Second
)

// Options describe a lease and a candidate.
type Options struct {
	Client kubernetes.Interface
	// Namespace and Name are the lease's.
	Namespace, Name string
	// Identity is the candidate's name, unique among the replicas: the pod's.
	Identity string
	// Prepare, if set, is called before each candidacy; candidates whose Prepare fails wait and try again. It may create the
	// lease, which otherwise is made when it is taken first.
	Prepare func(ctx context.Context) error
	// Logger is told when work begins and ends.
	Logger *slog.Logger
}

// Run takes part in the election until ctx is done, and calls work whenever it is won. The error is about the options.
func Run(ctx context.Context, o Options, work func(ctx context.Context)) error {
	for ctx.Err() == nil {
		if o.Prepare != nil {
			if err := o.Prepare(ctx); err != nil {
				if ctx.Err() == nil {
					o.Logger.Warn("not a candidate for the lease; trying again", "lease", o.Name, "error", err)
				}
				timer := time.NewTimer(pause)
				select {
				case <-ctx.Done():
				case <-timer.C:
				}
				timer.Stop()
				continue
			}
		}
		if err := o.term(ctx, work); err != nil {
			return err
		}
	}
	return nil
}

// term is one time as a candidate and, perhaps, holder: client-go's elector ends with the lease.
func (o *Options) term(ctx context.Context, work func(ctx context.Context)) error {
	won := make(chan struct{})
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name},
		Client:     o.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: duration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		// The elector would give back a lease that it could not renew, too, and tell of the loss only after that: up to
		// another ten seconds in which the work went on.
		ReleaseOnCancel: false,
		Name:            o.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			// The elector calls this on a goroutine that nobody waits for; so the work is not done there.
			OnStartedLeading: func(context.Context) { close(won) },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election for lease %s/%s: %w", o.Namespace, o.Name, err)
	}
	// The election outlives ctx by as long as the work takes to end.
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	working, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer stop()
		elector.Run(electing)
	}()
	select {
	case <-working.Done():
	case <-won:
		o.Logger.Info("lease taken; writing from now on", "lease", o.Name)
		work(working)
		o.Logger.Info("lease over; not writing any more", "lease", o.Name)
	}
	resign()
	<-ended
	if ctx.Err() != nil {
		if err := o.release(context.WithoutCancel(ctx), lock); err != nil {
			o.Logger.Warn("lease not given back; it runs out by itself", "lease", o.Name, "error", err)
		}
	}
	return nil
}

// release gives the lease back, if it is this candidate's, as client-go's elector would.
func (o *Options) release(ctx context.Context, lock *resourcelock.LeaseLock) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	record, _, err := lock.Get(ctx)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if record.HolderIdentity != o.Identity {
		return nil
	}
	now := metav1.Now()
	return lock.Update(ctx, resourcelock.LeaderElectionRecord{
		LeaderTransitions: record.LeaderTransitions, LeaseDurationSeconds: 1, RenewTime: now, AcquireTime: now,
	})
}
