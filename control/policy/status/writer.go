package status

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/lease"
)

// writeInterval is how often what is still outdated is written again: a patch may have been lost. Source: control plane
// chapter, section 8.
const writeInterval = 10 * time.Second

// Source knows which statuses are outdated.
type Source interface {
	// Changed receives after a status has become outdated, or is so no more.
	Changed() <-chan struct{}
	// Outdated returns the merge patches that bring statuses up to date.
	Outdated(ctx context.Context) (map[Key][]byte, error)
	// Complaints returns what is wrong with objects whose authors are to be told by an event.
	Complaints(ctx context.Context) (map[Key]Complaint, error)
}

// Complaint is what is wrong with an object that has no status to say it in.
type Complaint struct {
	Kind  string
	UID   types.UID
	Texts []string
}

// reasonInvalid is the reason of the events about complaints.
const reasonInvalid = "InvalidConfiguration"

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
	// Events takes complaints; nil does not. It must not block.
	Events record.EventRecorder
	// Metrics counts; nil does not.
	Metrics *Metrics
	// Logger takes what could not be written.
	Logger *slog.Logger
}

// Writer writes statuses while it holds the lease.
type Writer struct {
	options Options
	// written is what was written last of each status, and when: the watch tells a moment later that it is there. told are
	// the complaints that were passed on. Both belong to the goroutine that leads.
	written map[Key]attempt
	told    map[told]bool
}

// told is a complaint that was passed on.
type told struct {
	key  Key
	uid  types.UID
	text string
}

type attempt struct {
	patch []byte
	at    time.Time
}

// NewWriter returns a writer.
func NewWriter(options Options) *Writer { return &Writer{options: options} }

// Run takes part in the election, and writes while elected, until ctx is done. Losing the lease, or having trouble with it,
// ends nothing but the writing.
func (w *Writer) Run(ctx context.Context) error {
	return lease.Run(ctx, lease.Options{
		Client: w.options.Kube, Namespace: w.options.Namespace, Name: names.LeasePolicyController, Identity: w.options.Identity,
		Prepare: w.createLease, Logger: w.options.Logger,
	}, w.lead)
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
	made := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
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
		made.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "Deployment", Name: deployment.Name, UID: deployment.UID, Controller: &controller,
		}}
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading Deployment %s/%s, the owner of the lease: %w", w.options.Namespace, w.options.Deployment, err)
	}
	_, err = leases.Create(ctx, made, metav1.CreateOptions{FieldManager: names.FieldManagerPolicy})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating lease %s/%s: %w", w.options.Namespace, names.LeasePolicyController, err)
	}
	return nil
}

// lead writes what is outdated until ctx is done.
func (w *Writer) lead(ctx context.Context) {
	w.written, w.told = make(map[Key]attempt), make(map[told]bool)
	ticker := time.NewTicker(writeInterval)
	defer ticker.Stop()
	for {
		w.write(ctx)
		w.complain(ctx)
		select {
		case <-ctx.Done():
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

// complain makes an event of each complaint that there was none of yet. One that goes and comes back is told again.
func (w *Writer) complain(ctx context.Context) {
	if w.options.Events == nil {
		return
	}
	complaints, err := w.options.Source.Complaints(ctx)
	if err != nil {
		return // stopping
	}
	now := make(map[told]bool)
	for _, key := range slices.SortedFunc(maps.Keys(complaints), Compare) {
		c := complaints[key]
		for _, text := range c.Texts {
			this := told{key, c.UID, text}
			if now[this] {
				continue
			}
			now[this] = true
			if w.told[this] {
				continue
			}
			w.options.Events.Event(&corev1.ObjectReference{
				APIVersion: key.Resource.GroupVersion().String(), Kind: c.Kind, Namespace: key.Namespace, Name: key.Name, UID: c.UID,
			}, corev1.EventTypeWarning, reasonInvalid, text)
		}
	}
	w.told = now
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
