// Package externalworkload writes the EndpointSlices of Services that select workloads outside the cluster, as Kubernetes
// does for pods.
//
//	controller := externalworkload.New(externalworkload.Options{...})
//	group := kube.NewGroup(logger, controller.Watches()...)
//	go group.Run(ctx)
//	err := controller.Run(ctx) // while this process has the lease
//
// MakePlan is the decision: from a Service, the workloads and the slices there are to what must be written. The controller
// watches, queues the Services whose answer may have changed, and carries plans out, one at a time. Any number of
// processes may run it; a lease lets one write. Sources: control plane chapter, sections 9 and 13.
//
// Workloads that ask for it by an annotation are asked every few seconds whether they are well, and the answer becomes their
// condition Ready, on which the slices depend. Of all others that condition is somebody else's to write (section 18.5).
package externalworkload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/linkerd-go/linkerd-go/api/crd/workload/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/internal/kube"
	"github.com/linkerd-go/linkerd-go/internal/lease"
	"github.com/linkerd-go/linkerd-go/internal/reconcile"
)

const (
	// callTimeout is how long one request to the API server may take.
	callTimeout = 10 * time.Second
	// queueName is the name of the queue in its metrics.
	queueName = "endpoints_controller_workqueue"
	// ignoredNamespace has Services that never select workloads of the mesh.
	ignoredNamespace = "kube-system"
)

var workloads = schema.GroupVersionResource{Group: "workload.linkerd.io", Version: "v1beta1", Resource: "externalworkloads"}

// Options are the parts of a Controller.
type Options struct {
	// Clients reach the cluster.
	Clients *kube.Clients
	// Namespace is where the lease is: the control plane's.
	Namespace string
	// Identity is the name of this process in the lease; unique.
	Identity string
	// Ask asks a URL whether a workload is well; nil is the function of that name.
	Ask func(ctx context.Context, url string) error
	// Metrics counts; nil does not.
	Metrics *reconcile.Metrics
	// Logger takes what is written.
	Logger *slog.Logger
}

// Controller writes slices.
type Controller struct {
	options   Options
	services  kube.Table[*Service]
	workloads kube.Table[*Workload]
	slices    sliceTable
	// queue has the Services to look at, while this process leads.
	queue *reconcile.Queue
	// health asks workloads whether they are well, while this process leads.
	health *health
}

// New returns a controller.
func New(options Options) *Controller {
	c := &Controller{options: options, slices: sliceTable{objects: make(map[kube.Key]*discoveryv1.EndpointSlice)}}
	c.queue = reconcile.New(reconcile.Options{Name: queueName, Sync: c.sync, Metrics: options.Metrics, Logger: options.Logger})
	c.health = newHealth(c)
	return c
}

// Watches returns the watches that feed the controller.
func (c *Controller) Watches() []*kube.Watch {
	typed, dyn := c.options.Clients.Kube, c.options.Clients.Dynamic
	own := kube.Select(typed, typed.DiscoveryV1().EndpointSlices(""), func(options *metav1.ListOptions) {
		options.LabelSelector = labels.Set{discoveryv1.LabelManagedBy: ManagedBy}.String()
	})
	return []*kube.Watch{
		kube.NewWatch("services", kube.Resource(typed, typed.CoreV1().Services("")), readService, serviceSink{c}),
		kube.NewWatch("externalworkloads", kube.Resource(dyn, dyn.Resource(workloads)), c.readWorkload, workloadSink{c}),
		kube.NewWatch("endpointslices", own, readSlice, sliceSink{c}),
	}
}

// Run writes slices while this process has the lease, until ctx is done. The watches must have delivered their first lists. Its
// last act is to give the lease back.
func (c *Controller) Run(ctx context.Context) error {
	return lease.Run(ctx, lease.Options{
		Client: c.options.Clients.Kube, Namespace: c.options.Namespace, Name: names.LeaseDestinationEndpointWrite,
		Identity: c.options.Identity, Logger: c.options.Logger,
	}, c.work)
}

// work carries out plans until ctx is done. It begins with all Services: whatever happened while somebody else led is looked
// at now.
func (c *Controller) work(ctx context.Context) {
	var asking sync.WaitGroup
	asking.Go(func() { c.health.run(ctx) })
	c.queue.Run(ctx, func() []kube.Key {
		keys := append(c.services.Keys(), c.slices.services()...)
		return slices.DeleteFunc(keys, func(key kube.Key) bool { return key.Namespace == ignoredNamespace })
	})
	asking.Wait()
}

// notify queues a Service, if this process leads.
func (c *Controller) notify(key kube.Key) {
	if key.Namespace != ignoredNamespace {
		c.queue.Add(key)
	}
}

// sync carries out the plan for one Service.
func (c *Controller) sync(ctx context.Context, key kube.Key) error {
	service, _ := c.services.Get(key.Namespace, key.Name)
	plan := MakePlan(service, c.workloads.List(key.Namespace), c.slices.of(key))
	client := c.options.Clients.Kube.DiscoveryV1().EndpointSlices(key.Namespace)
	call := func(f func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return f(ctx)
	}
	var errs []error
	for _, slice := range plan.Create {
		errs = append(errs, call(func(ctx context.Context) error {
			made, err := client.Create(ctx, slice, metav1.CreateOptions{})
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				return nil // nothing can be made there any more, and nobody needs it
			}
			if err == nil {
				c.slices.wrote(made)
			}
			return err
		}))
	}
	for _, slice := range plan.Update {
		errs = append(errs, call(func(ctx context.Context) error {
			made, err := client.Update(ctx, slice, metav1.UpdateOptions{})
			if err == nil {
				c.slices.wrote(made)
			}
			return err
		}))
	}
	for _, name := range plan.Delete {
		errs = append(errs, call(func(ctx context.Context) error {
			err := client.Delete(ctx, name, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				err = nil
			}
			if err == nil {
				c.slices.gone(kube.Key{Namespace: key.Namespace, Name: name})
			}
			return err
		}))
	}
	if n := len(plan.Create) + len(plan.Update) + len(plan.Delete); n > 0 {
		c.options.Logger.Debug("endpoint slices written", "service", key,
			"created", len(plan.Create), "updated", len(plan.Update), "deleted", len(plan.Delete))
	}
	return errors.Join(errs...)
}

func readService(s *corev1.Service) (*Service, error) {
	service := &Service{
		Namespace: s.Namespace, Name: s.Name, UID: s.UID, Labels: s.Labels,
		Ports: s.Spec.Ports, Families: s.Spec.IPFamilies,
		Headless: s.Spec.ClusterIP == corev1.ClusterIPNone, NotReady: s.Spec.PublishNotReadyAddresses,
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName && s.Spec.Selector != nil {
		service.Selector = labels.SelectorFromSet(s.Spec.Selector)
	}
	return service, nil
}

// readWorkload keeps what slices are made of. The API server refuses a whole slice for one address or port that it does not
// take, which would cost all other workloads of the Service; so these are left out here.
func (c *Controller) readWorkload(u *unstructured.Unstructured) (*Workload, error) {
	var w v1beta1.ExternalWorkload
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &w); err != nil {
		return nil, fmt.Errorf("decoding external workload: %w", err)
	}
	if w.DeletionTimestamp != nil {
		return nil, nil
	}
	ignored := func(field string, err error) {
		c.options.Logger.Warn("part of an external workload ignored", "namespace", w.Namespace, "name", w.Name, "field", field, "error", err)
	}
	workload := &Workload{Namespace: w.Namespace, Name: w.Name, UID: w.UID, Labels: w.Labels}
	for i, ip := range w.Spec.WorkloadIPs {
		addr, err := endpointAddress(ip.IP)
		if err != nil {
			ignored(fmt.Sprintf("spec.workloadIPs[%d].ip", i), err)
		} else if !slices.Contains(workload.IPs, addr) {
			workload.IPs = append(workload.IPs, addr)
		}
	}
	for i, p := range w.Spec.Ports {
		if p.Port < 1 || p.Port > math.MaxUint16 {
			ignored(fmt.Sprintf("spec.ports[%d].port", i), fmt.Errorf("%d is not a number from 1 to 65535", p.Port))
			continue
		}
		workload.Ports = append(workload.Ports, WorkloadPort{Name: p.Name, Port: p.Port, Protocol: corev1.Protocol(p.Protocol)})
	}
	workload.Conditions, workload.Version = w.Status.Conditions, w.ResourceVersion
	if ready := workload.condition(); ready != nil {
		workload.Ready = ready.Status == metav1.ConditionTrue
	}
	if text, ok := w.Annotations[names.AnnotationHealthGet]; ok {
		var err error
		if workload.Health, err = healthURL(workload, text); err != nil {
			ignored("metadata.annotations["+names.AnnotationHealthGet+"]", err)
		}
	}
	return workload, nil
}

// endpointAddress reads an address that an endpoint may have, by the rules of the API server.
func endpointAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("%q is not an IP address", text)
	}
	addr = addr.Unmap()
	switch {
	case addr.Zone() != "":
		err = fmt.Errorf("%q has a zone", text)
	case addr.IsUnspecified(), addr.IsLoopback(), addr.IsLinkLocalUnicast(), addr.IsMulticast():
		err = fmt.Errorf("%q is not the address of a machine that others can reach", text)
	}
	return addr, err
}

func readSlice(slice *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	slice = slice.DeepCopy()
	slice.ManagedFields = nil
	return slice, nil
}

// serviceSink takes Services. Every change of one is looked at.
type serviceSink struct{ c *Controller }

func (s serviceSink) Apply(key kube.Key, service *Service) {
	s.c.services.Apply(key, service)
	s.c.notify(key)
}

func (s serviceSink) Delete(key kube.Key) {
	s.c.services.Delete(key)
	s.c.notify(key)
}

func (s serviceSink) Replace(objects map[kube.Key]*Service) {
	old := s.c.services.Keys()
	keys := make([]kube.Key, 0, len(objects))
	for key := range objects {
		keys = append(keys, key)
	}
	s.c.services.Replace(objects)
	for _, key := range append(old, keys...) {
		s.c.notify(key)
	}
}

// workloadSink takes workloads; nil is one that is being deleted. The Services that select it, or did, are looked at.
type workloadSink struct{ c *Controller }

func (s workloadSink) changed(namespace string, versions ...*Workload) {
	for _, service := range s.c.services.List(namespace) {
		if service.Selector == nil {
			continue
		}
		for _, w := range versions {
			if w != nil && service.Selector.Matches(labels.Set(w.Labels)) {
				s.c.notify(kube.Key{Namespace: service.Namespace, Name: service.Name})
				break
			}
		}
	}
}

func (s workloadSink) Apply(key kube.Key, w *Workload) {
	if w == nil {
		s.Delete(key)
		return
	}
	old, _ := s.c.workloads.Get(key.Namespace, key.Name)
	s.c.workloads.Apply(key, w)
	s.changed(key.Namespace, old, w)
	s.c.health.look(key, w)
}

func (s workloadSink) Delete(key kube.Key) {
	old, _ := s.c.workloads.Get(key.Namespace, key.Name)
	s.c.workloads.Delete(key)
	s.changed(key.Namespace, old)
	s.c.health.look(key, nil)
}

func (s workloadSink) Replace(objects map[kube.Key]*Workload) {
	for _, key := range s.c.workloads.Keys() {
		if objects[key] == nil {
			s.Delete(key)
		}
	}
	for key, w := range objects {
		s.Apply(key, w)
	}
}

// sliceSink takes slices. A change by somebody else is looked at; the controller's own are known already.
type sliceSink struct{ c *Controller }

func serviceOf(slice *discoveryv1.EndpointSlice) kube.Key {
	return kube.Key{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

func (s sliceSink) Apply(_ kube.Key, slice *discoveryv1.EndpointSlice) {
	if s.c.slices.saw(slice) {
		s.c.notify(serviceOf(slice))
	}
}

func (s sliceSink) Delete(key kube.Key) {
	if old := s.c.slices.gone(key); old != nil {
		s.c.notify(serviceOf(old))
	}
}

func (s sliceSink) Replace(objects map[kube.Key]*discoveryv1.EndpointSlice) {
	for _, key := range s.c.slices.keys() {
		if objects[key] == nil {
			s.Delete(key)
		}
	}
	for key, slice := range objects {
		s.Apply(key, slice)
	}
}

// sliceTable has the slices as they are known: from the watch, or from what the API server answered to the controller's
// own writes, whichever is newer. So a plan is never made from slices that are older than the controller's last write.
type sliceTable struct {
	mu      sync.Mutex // guards objects
	objects map[kube.Key]*discoveryv1.EndpointSlice
}

// version orders the states of an object.
func version(slice *discoveryv1.EndpointSlice) uint64 {
	v, _ := strconv.ParseUint(slice.ResourceVersion, 10, 64)
	return v
}

// saw takes a slice from the watch and reports whether it is news.
func (t *sliceTable) saw(slice *discoveryv1.EndpointSlice) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := kube.Key{Namespace: slice.Namespace, Name: slice.Name}
	if old := t.objects[key]; old != nil && version(old) >= version(slice) {
		return false
	}
	t.objects[key] = slice
	return true
}

// wrote takes a slice as the API server answered to a write.
func (t *sliceTable) wrote(slice *discoveryv1.EndpointSlice) {
	slice, _ = readSlice(slice)
	t.saw(slice)
}

// gone takes that a slice does not exist any more and returns what it was, nil if that was known. Names of slices are
// made by the API server and not used twice.
func (t *sliceTable) gone(key kube.Key) *discoveryv1.EndpointSlice {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.objects[key]
	delete(t.objects, key)
	return old
}

func (t *sliceTable) keys() []kube.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []kube.Key
	for key := range t.objects {
		keys = append(keys, key)
	}
	return keys
}

// of returns the slices of a Service.
func (t *sliceTable) of(service kube.Key) []*discoveryv1.EndpointSlice {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*discoveryv1.EndpointSlice
	for _, slice := range t.objects {
		if serviceOf(slice) == service {
			list = append(list, slice)
		}
	}
	return list
}

// services returns the Services that have slices.
func (t *sliceTable) services() []kube.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	var keys []kube.Key
	for _, slice := range t.objects {
		keys = append(keys, serviceOf(slice))
	}
	return keys
}
