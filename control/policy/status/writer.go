package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Names and times of the lease and of writing. Source: control plane chapter, sections 8 and 13.
const (
	leaseDuration = 30 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
	// writeInterval is how often what is still outdated is written again: a patch may have been lost.
	writeInterval = 10 * time.Second
	// electionPause keeps a writer that cannot take part in the election from asking all the time.
	electionPause = 5 * time.Second
)

// Source knows which statuses are outdated.
type Source interface {
	// Changed receives after a status has become outdated, or is so no more.
	Changed() <-chan struct{}
	// Outdated returns the merge patches that bring statuses up to date.
	Outdated(ctx context.Context) (map[Key][]byte, error)
}

// Options are the parts of a Writer.
type Options struct {
	// Source knows what to write.
	Source Source
	// Kube is for the lease, Dynamic for the statuses.
	Kube    kubernetes.Interface
	Dynamic dynamic.Interface
	// Namespace is where the control plane, and the lease, is.
	Namespace string
	// Deployment owns the lease, so that it goes when the control plane goes.
	Deployment string
	// Identity is the name of this process among those that want the lease.
	Identity string
	// Timeout is how long writing one status may take.
	Timeout time.Duration
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger takes what could not be written.
	Logger *slog.Logger
}

// Writer writes statuses while it holds the lease.
type Writer struct {
	options Options
	// written is what was written last of each status, and when: the watch tells a moment later that it is there. It
	// belongs to the goroutine that leads.
	written map[Key]attempt
}

type attempt struct {
	patch []byte
	at    time.Time
}

// NewWriter returns a writer.
func NewWriter(options Options) *Writer { return &Writer{options: options} }

// Run takes part in the election, and writes while elected, until ctx is done. Losing the lease, or having trouble with it,
// ends nothing but the writing: the process has other things to do, and takes part again.
func (w *Writer) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.elect(ctx); err != nil && ctx.Err() == nil {
			w.options.Logger.Warn("no part in the election of who writes statuses", "lease", names.LeasePolicyController, "error", err)
		}
		pause := time.NewTimer(electionPause)
		select {
		case <-ctx.Done():
			pause.Stop()
		case <-pause.C:
		}
	}
	return nil
}

// elect takes part in the election until the lease is lost or ctx is done.
func (w *Writer) elect(ctx context.Context) error {
	if err := w.createLease(ctx); err != nil {
		return err
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: w.options.Namespace, Name: names.LeasePolicyController},
		Client:     w.options.Kube.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: w.options.Identity},
	}
	// The elector starts the callback on a goroutine that nobody waits for. So that is done here: over keeps it from
	// beginning once the election has ended.
	var mu sync.Mutex // guards over
	over := false
	var leading sync.WaitGroup
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            lock,
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Name:            names.LeasePolicyController,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				mu.Lock()
				if over {
					mu.Unlock()
					return
				}
				leading.Add(1)
				mu.Unlock()
				defer leading.Done()
				w.lead(ctx)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("preparing the election for lease %s/%s: %w", w.options.Namespace, names.LeasePolicyController, err)
	}
	elector.Run(ctx)
	mu.Lock()
	over = true
	mu.Unlock()
	leading.Wait()
	return nil
}

// createLease creates the lease if it is not there, so that it belongs to the Deployment.
func (w *Writer) createLease(ctx context.Context) error {
	leases := w.options.Kube.CoordinationV1().Leases(w.options.Namespace)
	_, err := leases.Get(ctx, names.LeasePolicyController, metav1.GetOptions{})
	if err == nil {
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading lease %s/%s: %w", w.options.Namespace, names.LeasePolicyController, err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.options.Namespace,
		Name:      names.LeasePolicyController,
		Labels: map[string]string{
			names.LabelControlPlaneComponent: names.ComponentDestination,
			names.LabelControlPlaneNS:        w.options.Namespace,
		},
	}}
	deployment, err := w.options.Kube.AppsV1().Deployments(w.options.Namespace).Get(ctx, w.options.Deployment, metav1.GetOptions{})
	switch {
	case err == nil:
		controller := true
		lease.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "Deployment", Name: deployment.Name, UID: deployment.UID, Controller: &controller,
		}}
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading Deployment %s/%s, the owner of the lease: %w", w.options.Namespace, w.options.Deployment, err)
	}
	_, err = leases.Create(ctx, lease, metav1.CreateOptions{FieldManager: names.FieldManagerPolicy})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating lease %s/%s: %w", w.options.Namespace, names.LeasePolicyController, err)
	}
	return nil
}

// lead writes what is outdated until ctx is done.
func (w *Writer) lead(ctx context.Context) {
	w.options.Logger.Info("writing statuses from now on", "lease", names.LeasePolicyController)
	w.written = make(map[Key]attempt)
	ticker := time.NewTicker(writeInterval)
	defer ticker.Stop()
	for {
		w.write(ctx)
		select {
		case <-ctx.Done():
			w.options.Logger.Info("writing no statuses any more", "lease", names.LeasePolicyController)
			return
		case <-w.options.Source.Changed():
		case <-ticker.C:
		}
	}
}

// write brings all statuses up to date, but for those that have just been.
func (w *Writer) write(ctx context.Context) {
	outdated, err := w.options.Source.Outdated(ctx)
	if err != nil {
		return // stopping
	}
	for key := range w.written {
		if _, still := outdated[key]; !still {
			delete(w.written, key)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(outdated), Compare) {
		patch := outdated[key]
		last, ok := w.written[key]
		if ok && bytes.Equal(last.patch, patch) && time.Since(last.at) < writeInterval {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		w.written[key] = attempt{patch, time.Now()}
		w.patch(ctx, key, patch)
	}
}

// patch writes one status.
func (w *Writer) patch(ctx context.Context, key Key, patch []byte) {
	ctx, cancel := context.WithTimeout(ctx, w.options.Timeout)
	defer cancel()
	start := time.Now()
	_, err := w.options.Dynamic.Resource(key.Resource).Namespace(key.Namespace).
		Patch(ctx, key.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: names.ControllerPolicy}, "status")
	w.options.Metrics.patched(time.Since(start), err)
	switch {
	case err == nil, apierrors.IsNotFound(err): // deleted meanwhile
	case apierrors.IsConflict(err): // changed meanwhile; the watch will tell, and there will be another patch
	case errors.Is(ctx.Err(), context.Canceled):
	default:
		w.options.Logger.Warn("status not written", "resource", key.Resource.Resource, "namespace", key.Namespace, "name", key.Name, "error", err)
	}
}
