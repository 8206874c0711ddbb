// Package cnirepair deletes pods that were made before the CNI plugin was ready on their node.
//
// Such a pod has no redirection rules. Its network validator notices and fails with an exit code of its own, again and
// again, because rules are made only together with a pod. So the pod is deleted, and what owns it makes a new one. One
// controller runs per node, beside the plugin's installer, and looks at that node's pods alone. Source: proxy chapter,
// section 26.4.
//
//	r, err := cnirepair.New(options)
//	group := kube.NewGroup(logger, r.Watch())
//	go group.Run(ctx)   // finds pods
//	r.Run(ctx)          // deletes them, one after the other
package cnirepair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// Name is what the controller is called, in events too.
const Name = "linkerd-cni-repair-controller"

// exitUnredirected is the exit code of a network validator that was not redirected.
const exitUnredirected = 95

const (
	// queueLength is how many pods may wait to be deleted. Those beyond are dropped: the kubelet restarts the
	// validator, which fails again, which is the next chance.
	queueLength = 32
	// requestTimeout is how long one request to the API server may take.
	requestTimeout = time.Second
)

// What the events say.
const (
	eventReason = "LinkerdCNINotConfigured"
	eventAction = "Deleting"
	eventNote   = "Deleting pod to create a new one with proper CNI config"
)

// Options of a controller.
type Options struct {
	// Client reaches the API server.
	Client kubernetes.Interface
	// Node is the name of the node whose pods are looked after.
	Node string
	// PodName is the name of the controller's own pod, which events carry.
	PodName string
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
	// Logger is told what is done.
	Logger *slog.Logger
}

// Pod is what is kept of a pod.
type Pod struct {
	// UID tells the pod from a later one of the same name.
	UID types.UID
	// Broken says that it must be replaced.
	Broken bool
}

// read keeps of a pod what matters.
func read(pod *corev1.Pod) (Pod, error) {
	return Pod{UID: pod.UID, Broken: broken(pod)}, nil
}

// broken reports whether a pod's validator has failed for want of redirection, and has not passed since: its last failure stays
// in the status of a pod that has long been running, which must not be deleted when this controller starts anew.
func broken(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, status := range pod.Status.InitContainerStatuses {
		if last := status.LastTerminationState.Terminated; status.Name == names.ContainerNetworkValidator &&
			last != nil && last.ExitCode == exitUnredirected {
			passed := status.State.Terminated
			return passed == nil || passed.ExitCode != 0
		}
	}
	return false
}

// job is a pod to delete.
type job struct {
	key kube.Key
	uid types.UID
}

// Repairer deletes broken pods. It is the sink of its own watch.
type Repairer struct {
	options Options
	metrics *metrics
	queue   chan job
}

// New returns a controller.
func New(options Options) (*Repairer, error) {
	m := newMetrics()
	if err := m.register(options.Registerer); err != nil {
		return nil, err
	}
	return &Repairer{options: options, metrics: m, queue: make(chan job, queueLength)}, nil
}

// Watch returns the watch by which the controller learns of pods: those of its node that have a proxy.
func (r *Repairer) Watch() *kube.Watch {
	source := kube.Select(r.options.Client, r.options.Client.CoreV1().Pods(""), func(o *metav1.ListOptions) {
		o.LabelSelector = names.LabelControlPlaneNS
		o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", r.options.Node).String()
	})
	return kube.NewWatch("pods", source, read, r)
}

// Apply queues a pod that is broken. It never blocks, so that a slow API server does not hold up the watch.
func (r *Repairer) Apply(key kube.Key, pod Pod) {
	if !pod.Broken {
		return
	}
	select {
	case r.queue <- job{key, pod.UID}:
	default:
		r.metrics.overflows.Inc()
		r.options.Logger.Warn("too many pods are waiting to be deleted; leaving one for later", "namespace", key.Namespace, "name", key.Name)
	}
}

// Delete has nothing to do.
func (r *Repairer) Delete(kube.Key) {}

// Replace queues those pods that are broken.
func (r *Repairer) Replace(pods map[kube.Key]Pod) {
	for key, pod := range pods {
		r.Apply(key, pod)
	}
}

// Run deletes queued pods until ctx is done.
func (r *Repairer) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-r.queue:
			r.repair(ctx, j)
		}
	}
}

// repair deletes one pod and says why in an event.
func (r *Repairer) repair(ctx context.Context, j job) {
	logger := r.options.Logger.With("namespace", j.key.Namespace, "name", j.key.Name)
	err := r.request(ctx, r.metrics.deletes, func(ctx context.Context) error {
		return r.options.Client.CoreV1().Pods(j.key.Namespace).Delete(ctx, j.key.Name, metav1.DeleteOptions{
			// Its containers have not even started.
			GracePeriodSeconds: new(int64(0)),
			// A pod of a StatefulSet has a successor of the same name, which may be fine.
			Preconditions: metav1.NewUIDPreconditions(string(j.uid)),
		})
	})
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		logger.Debug("the pod is gone already")
		return
	case err != nil:
		logger.Error("cannot delete a pod without redirection; it will be tried again when its validator fails again", "error", err)
		return
	}
	r.metrics.deleted.Inc()
	logger.Info("deleted a pod whose traffic was not redirected")

	err = r.request(ctx, r.metrics.events, func(ctx context.Context) error {
		_, err := r.options.Client.EventsV1().Events(j.key.Namespace).Create(ctx, r.event(j), metav1.CreateOptions{})
		return err
	})
	if err != nil {
		logger.Warn("cannot publish the event about a deleted pod", "error", err)
	}
}

// request makes one request with a time limit and counts how it went.
func (r *Repairer) request(ctx context.Context, m requestMetrics, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	begin := time.Now()
	err := do(limited)
	switch {
	case err == nil:
		m.latency.Observe(time.Since(begin).Seconds())
	case errors.Is(err, context.DeadlineExceeded) || limited.Err() != nil:
		m.timeouts.Inc()
		err = fmt.Errorf("no answer within %v: %w", requestTimeout, err)
	case !apierrors.IsNotFound(err) && !apierrors.IsConflict(err):
		m.errors.Inc()
	}
	return err
}

func (r *Repairer) event(j job) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: Name + "-",
			Namespace:    j.key.Namespace,
		},
		EventTime:           metav1.NowMicro(),
		Type:                corev1.EventTypeNormal,
		Reason:              eventReason,
		Action:              eventAction,
		Note:                eventNote,
		ReportingController: Name,
		ReportingInstance:   r.options.PodName,
		Regarding: corev1.ObjectReference{
			APIVersion: "v1",
			Kind:       "Pod",
			Namespace:  j.key.Namespace,
			Name:       j.key.Name,
			UID:        j.uid,
		},
	}
}
