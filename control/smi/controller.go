// Package smi is the adaptor for the Service Mesh Interface's traffic splits: it writes the shares of each TrafficSplit into the
// ServiceProfile of the service that is split, which is what proxies are told.
//
//	controller := smi.New(smi.Options{...})
//	group := kube.NewGroup(logger, controller.Watch())
//	go group.Run(ctx)
//	err := controller.Run(ctx) // while this process has the lease
//
// MakePlan is the decision: from the splits of a service and its profile to the profile as it should be. The controller
// watches splits, queues the services whose answer may have changed, reads their profiles and carries plans out. Profiles
// are not watched; every ten minutes all are looked at, and written only if they are not as they should be.
//
// A profile that has the shares of a split is marked with its name (names.AnnotationSMISplit). So the shares of a split that
// went, or turned to another service, while nobody looked are found, and those that users write themselves are not touched.
//
// Any number of processes may run it; a lease lets one write. Everything may be called from any goroutine, Run once.
// Sources: control plane chapter, section 16; extensions chapter, sections 13 and 17.
package smi

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/lease"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

const (
	// Resync is the time between looks at all splits.
	Resync = 10 * time.Minute
	// callTimeout is how long one request to the API server may take.
	callTimeout = 10 * time.Second
	// pageSize is how many profiles are asked for at a time.
	pageSize = 500
	// queueName is the name of the queue in its metrics.
	queueName = "trafficsplits"
)

// Reasons of events.
const (
	reasonCreated  = "Created"
	reasonUpdated  = "Updated"
	reasonInvalid  = "Invalid"
	reasonConflict = "Conflict"
	reasonFailed   = "Failed"
)

var (
	splits   = schema.GroupVersionResource{Group: "split.smi-spec.io", Version: "v1alpha1", Resource: "trafficsplits"}
	profiles = schema.GroupVersionResource{Group: "linkerd.io", Version: "v1alpha2", Resource: "serviceprofiles"}
)

// Events are told to the authors of splits. Recorder implements it.
type Events interface {
	// Event tells of a split. It does not block.
	Event(split *Split, kind, reason, message string)
}

// Recorder is the Events that writes Kubernetes Events.
type Recorder struct {
	// Recorder takes the events; it does not block.
	Recorder record.EventRecorder
}

var _ Events = Recorder{}

// Event implements Events.
func (r Recorder) Event(split *Split, kind, reason, message string) {
	r.Recorder.Event(&corev1.ObjectReference{
		APIVersion: splits.GroupVersion().String(), Kind: "TrafficSplit",
		Namespace: split.Namespace, Name: split.Name, UID: split.UID,
	}, kind, reason, message)
}

// Options are the parts of a Controller.
type Options struct {
	// Clients reach the cluster.
	Clients *kube.Clients
	// Namespace is where the lease is: the extension's.
	Namespace string
	// Identity is the name of this process in the lease; unique.
	Identity string
	// ClusterDomain is the end of the names of Services.
	ClusterDomain string
	// Workers is how many services are worked on at a time.
	Workers int
	// Events takes what the authors of splits are told.
	Events Events
	// Metrics counts; nil does not.
	Metrics *reconcile.Metrics
	// Logger takes what is written.
	Logger *slog.Logger
}

// Controller writes profiles.
type Controller struct {
	options Options
	splits  kube.Table[*Split]
	// queue has the services to look at.
	queue *reconcile.Queue

	mu sync.Mutex // guards told
	// told has what the author of each split was told last about its having no effect, so that it is said once.
	told map[kube.Key]string
}

// New returns a controller.
func New(options Options) *Controller {
	c := &Controller{options: options, told: make(map[kube.Key]string)}
	c.queue = reconcile.New(reconcile.Options{
		Name: queueName, Workers: options.Workers, Sync: c.sync, Metrics: options.Metrics, Logger: options.Logger,
	})
	return c
}

// Watch returns the watch that feeds the controller.
func (c *Controller) Watch() *kube.Watch {
	dynamic := c.options.Clients.Dynamic
	read := func(u *unstructured.Unstructured) (*Split, error) { return ReadSplit(u), nil }
	return kube.NewWatch("trafficsplits", kube.Resource(dynamic, dynamic.Resource(splits)), read, sink{c})
}

// Run writes profiles while this process has the lease, until ctx is done. The watch must have delivered its first list:
// what it does not know of is taken for gone. Its last act is to give the lease back.
func (c *Controller) Run(ctx context.Context) error {
	return lease.Run(ctx, lease.Options{
		Client: c.options.Clients.Kube, Namespace: c.options.Namespace, Name: names.LeaseSMIAdaptor,
		Identity: c.options.Identity, Logger: c.options.Logger,
	}, c.work)
}

// work carries out plans until ctx is done.
func (c *Controller) work(ctx context.Context) {
	var looking sync.WaitGroup
	c.queue.Run(ctx, func() []kube.Key {
		looking.Go(func() { c.look(ctx) })
		return c.services()
	})
	looking.Wait()
}

// look queues the services of all splits every now and then, and those whose profiles have the shares of a split: it may be
// gone, or have turned to another service, while nobody looked.
func (c *Controller) look(ctx context.Context) {
	ticker := time.NewTicker(Resync)
	defer ticker.Stop()
	for {
		var marks []kube.Key
		err := kube.Persist(ctx, c.options.Logger, func(ctx context.Context) (err error) {
			marks, err = c.marked(ctx)
			return err
		})
		if err != nil && ctx.Err() == nil {
			c.options.Logger.Warn("service profiles not listed; shares of splits that are gone may be left", "error", err)
		}
		c.queue.Add(marks...)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		c.queue.Add(c.services()...)
	}
}

// services returns the services that have splits.
func (c *Controller) services() []kube.Key {
	var services []kube.Key
	for _, key := range c.splits.Keys() {
		if split, ok := c.splits.Get(key.Namespace, key.Name); ok {
			services = append(services, serviceOf(split))
		}
	}
	return services
}

// marked returns the services whose profiles have the shares of a split.
func (c *Controller) marked(ctx context.Context) ([]kube.Key, error) {
	var services []kube.Key
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := call(ctx, func(ctx context.Context) (*unstructured.UnstructuredList, error) {
			return c.options.Clients.Dynamic.Resource(profiles).List(ctx, options)
		})
		if err != nil {
			return nil, fmt.Errorf("listing service profiles: %w", err)
		}
		for i := range page.Items {
			profile := &page.Items[i]
			name, ok := strings.CutSuffix(profile.GetName(), "."+profile.GetNamespace()+".svc."+c.options.ClusterDomain)
			if ok && marked(profile) != "" {
				services = append(services, kube.Key{Namespace: profile.GetNamespace(), Name: name})
			}
		}
		if options.Continue = page.GetContinue(); options.Continue == "" {
			return services, nil
		}
	}
}

// sync carries out the plan for one service. The one without a name is that of the splits that name none: their authors are
// told.
func (c *Controller) sync(ctx context.Context, key kube.Key) error {
	var own []*Split
	for _, split := range c.splits.List(key.Namespace) {
		if split.Service == key.Name {
			own = append(own, split)
		}
	}
	if key.Name == "" {
		for _, split := range own {
			c.tell(split, reasonInvalid, split.Invalid+noEffect)
		}
		return nil
	}
	service := Service{Namespace: key.Namespace, Name: key.Name, ClusterDomain: c.options.ClusterDomain}
	client := c.options.Clients.Dynamic.Resource(profiles).Namespace(key.Namespace)
	profile, err := call(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return client.Get(ctx, service.Profile(), metav1.GetOptions{})
	})
	if apierrors.IsNotFound(err) {
		profile, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("reading service profile %s: %w", service.Profile(), err)
	}
	plan := MakePlan(service, own, profile)
	for _, ignored := range plan.Ignored {
		c.tell(ignored.Split, ignored.Reason, ignored.Message)
	}
	logger := c.options.Logger.With("profile", service.Profile())
	if plan.Skipped {
		logger.Info("service profile left alone, as its annotation says", "annotation", names.AnnotationSMISkip)
	}
	if plan.Write == nil {
		c.works(plan.Split)
		return nil
	}
	_, err = call(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		if plan.Create {
			return client.Create(ctx, plan.Write, metav1.CreateOptions{})
		}
		return client.Update(ctx, plan.Write, metav1.UpdateOptions{})
	})
	switch {
	case err == nil:
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // nothing can be made there any more, and nobody needs it
	default:
		if refused(err) && plan.Split != nil {
			c.tell(plan.Split, reasonFailed, fmt.Sprintf("Service Profile %s not written: %v", service.Profile(), err))
		}
		return fmt.Errorf("writing service profile %s: %w", service.Profile(), err)
	}
	c.works(plan.Split)
	switch {
	case plan.Split == nil:
		logger.Info("service profile has no shares of a traffic split any more")
	case plan.Create:
		logger.Info("service profile made", "split", plan.Split.Name)
		c.options.Events.Event(plan.Split, corev1.EventTypeNormal, reasonCreated, "Created Service Profile "+service.Profile())
	default:
		logger.Info("service profile changed", "split", plan.Split.Name)
		c.options.Events.Event(plan.Split, corev1.EventTypeNormal, reasonUpdated, "Updated Service Profile "+service.Profile())
	}
	return nil
}

// refused reports whether an error is an answer that the author of the split, or of the profile, may do something about.
func refused(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsBadRequest(err)
}

// call makes one request.
func call[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx)
}

// tell tells the author of a split that it has no effect, once.
func (c *Controller) tell(split *Split, reason, message string) {
	key, what := kube.Key{Namespace: split.Namespace, Name: split.Name}, string(split.UID)+reason+message
	c.mu.Lock()
	news := c.told[key] != what
	c.told[key] = what
	c.mu.Unlock()
	if news {
		c.options.Logger.Warn("traffic split has no effect", "namespace", split.Namespace, "name", split.Name, "reason", reason, "message", message)
		c.options.Events.Event(split, corev1.EventTypeWarning, reason, message)
	}
}

// works notes that a split has its effect, or that its profile wants none; if it loses it, it is told again.
func (c *Controller) works(split *Split) {
	if split != nil {
		c.forget(kube.Key{Namespace: split.Namespace, Name: split.Name})
	}
}

func (c *Controller) forget(split kube.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.told, split)
}

func serviceOf(split *Split) kube.Key {
	return kube.Key{Namespace: split.Namespace, Name: split.Service}
}

// sink takes splits. The service that a split names, and the one that it named before, are looked at.
type sink struct{ c *Controller }

func (s sink) changed(versions ...*Split) {
	for _, split := range versions {
		if split != nil {
			s.c.queue.Add(serviceOf(split))
		}
	}
}

func (s sink) Apply(key kube.Key, split *Split) {
	old, _ := s.c.splits.Get(key.Namespace, key.Name)
	s.c.splits.Apply(key, split)
	s.changed(old, split)
}

func (s sink) Delete(key kube.Key) {
	old, _ := s.c.splits.Get(key.Namespace, key.Name)
	s.c.splits.Delete(key)
	s.c.forget(key)
	s.changed(old)
}

// Replace is where deletions are found that the watch missed.
func (s sink) Replace(objects map[kube.Key]*Split) {
	for _, key := range s.c.splits.Keys() {
		if objects[key] == nil {
			s.Delete(key)
		}
	}
	for key, split := range objects {
		s.Apply(key, split)
	}
}
