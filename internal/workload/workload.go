// Package workload knows the resources a user can name on the command line,
// and which pods belong to them (CLI chapter, section 1.10).
//
// Reading needs a Kubernetes client and happens in one go; the resulting Index
// is a snapshot that may be read from any goroutine.
package workload

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Canonical names of resource types.
const (
	All                   = "all"
	CronJob               = "cronjob"
	DaemonSet             = "daemonset"
	Deployment            = "deployment"
	Job                   = "job"
	Namespace             = "namespace"
	Pod                   = "pod"
	ReplicaSet            = "replicaset"
	ReplicationController = "replicationcontroller"
	Service               = "service"
	StatefulSet           = "statefulset"
)

// names maps what users write to canonical names.
var names = map[string]string{}

// short are the forms used in tables with several types.
var short = map[string]string{
	"authorizationpolicy": "ap", CronJob: "cj", DaemonSet: "ds", Deployment: "deploy", "httproute": "httproute", Job: "job", "link": "link",
	"meshtlsauthentication": "meshtlsauthn", Namespace: "ns", "networkauthentication": "netauthn", Pod: "po", ReplicaSet: "rs",
	ReplicationController: "rc", "server": "srv", "serverauthorization": "saz", Service: "svc", "serviceprofile": "sp", StatefulSet: "sts",
}

func init() {
	for canonical, others := range map[string]string{
		"authorizationpolicy":   "authorizationpolicies ap authzpolicy",
		CronJob:                 "cronjobs cj",
		DaemonSet:               "daemonsets ds",
		Deployment:              "deployments deploy",
		"httproute":             "httproutes route",
		Job:                     "jobs",
		"link":                  "links ln",
		"meshtlsauthentication": "meshtlsauthentications meshtlsauthn",
		Namespace:               "namespaces ns",
		"networkauthentication": "networkauthentications netauthn networkauthn",
		Pod:                     "pods po",
		ReplicaSet:              "replicasets rs",
		ReplicationController:   "replicationcontrollers rc",
		"server":                "servers srv",
		"serverauthorization":   "serverauthorizations saz serverauthz srvauthz",
		Service:                 "services svc",
		"serviceprofile":        "serviceprofiles sp",
		StatefulSet:             "statefulsets sts",
		All:                     "",
	} {
		names[canonical] = canonical
		for _, other := range strings.Fields(others) {
			names[other] = canonical
		}
	}
}

// Canonical returns the canonical name of a type.
func Canonical(friendly string) (string, error) {
	if c, ok := names[friendly]; ok {
		return c, nil
	}
	return "", fmt.Errorf("cannot find Kubernetes canonical name from friendly name [%s]", friendly)
}

// Short returns the short name of a canonical type.
func Short(canonical string) string {
	if s, ok := short[canonical]; ok {
		return s
	}
	return canonical
}

// Target is a resource named by a user; an empty Name means all of the type.
type Target struct {
	Type, Name string
}

func (t Target) String() string {
	if t.Name == "" {
		return t.Type
	}
	return t.Type + "/" + t.Name
}

// Mistakes in the arguments.
var (
	ErrNone      = errors.New("No resource arguments provided") //nolint:staticcheck // The text is what scripts know.
	ErrDuplicate = errors.New("cannot supply duplicate resources")
	ErrAllMixed  = errors.New("'all' can't be supplied alongside other resources")
)

// Parse reads TYPE, TYPE NAME..., TYPE/NAME and lists of TYPE/NAME.
func Parse(args []string) ([]Target, error) {
	if len(args) == 0 {
		return nil, ErrNone
	}
	var out []Target
	if !strings.Contains(args[0], "/") {
		kind, err := Canonical(args[0])
		if err != nil {
			return nil, err
		}
		if len(args) == 1 {
			return []Target{{Type: kind}}, nil
		}
		if _, err := Canonical(args[1]); err == nil && kind == All {
			return nil, ErrAllMixed
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, fmt.Errorf("Invalid resource string: %s", name) //nolint:staticcheck // The text is what scripts know.
			}
			out = append(out, Target{kind, name})
		}
	} else {
		for _, arg := range args {
			kind, name, found := strings.Cut(arg, "/")
			if found && (strings.Contains(name, "/") || name == "") {
				return nil, fmt.Errorf("Invalid resource string: %s", arg) //nolint:staticcheck // Likewise.
			}
			canonical, err := Canonical(kind)
			if err != nil {
				return nil, err
			}
			if canonical == All {
				return nil, ErrAllMixed
			}
			out = append(out, Target{canonical, name})
		}
	}
	seen := map[Target]bool{}
	for _, t := range out {
		if seen[t] {
			return nil, ErrDuplicate
		}
		seen[t] = true
	}
	return out, nil
}

// PodOwners are the types pods belong to, in the order `stat all` has them.
var PodOwners = []string{CronJob, DaemonSet, Deployment, Job, Pod, ReplicaSet, ReplicationController, StatefulSet}

// Object is a resource and its pods.
type Object struct {
	Type      string
	Namespace string
	Name      string
	Labels    map[string]string
	Pods      []*corev1.Pod
}

// Owner is the place of a pod in a tree of owners.
type Owner struct {
	Type, Name string
}

// Index is what a cluster has, in one namespace or in all.
type Index struct {
	namespace string
	pods      []*corev1.Pod
	objects   map[string][]*Object
	byUID     map[types.UID]*Object
	owners    map[*corev1.Pod][]Owner
}

// Read lists pods and everything that can own them, and Services. namespace
// is empty for all.
func Read(ctx context.Context, kube kubernetes.Interface, namespace string) (*Index, error) {
	x := &Index{namespace: namespace, objects: map[string][]*Object{}, byUID: map[types.UID]*Object{}, owners: map[*corev1.Pod][]Owner{}}
	parents := map[types.UID]metav1.OwnerReference{}
	add := func(kind string, m metav1.Object) {
		o := &Object{Type: kind, Namespace: m.GetNamespace(), Name: m.GetName(), Labels: m.GetLabels()}
		x.objects[kind] = append(x.objects[kind], o)
		x.byUID[m.GetUID()] = o
		if c := metav1.GetControllerOf(m); c != nil {
			parents[m.GetUID()] = *c
		}
	}
	all := metav1.ListOptions{}
	for _, owners := range []struct {
		kind string
		list func() (runtime.Object, error)
	}{
		{Deployment, func() (runtime.Object, error) { return kube.AppsV1().Deployments(namespace).List(ctx, all) }},
		{ReplicaSet, func() (runtime.Object, error) { return kube.AppsV1().ReplicaSets(namespace).List(ctx, all) }},
		{DaemonSet, func() (runtime.Object, error) { return kube.AppsV1().DaemonSets(namespace).List(ctx, all) }},
		{StatefulSet, func() (runtime.Object, error) { return kube.AppsV1().StatefulSets(namespace).List(ctx, all) }},
		{Job, func() (runtime.Object, error) { return kube.BatchV1().Jobs(namespace).List(ctx, all) }},
		{CronJob, func() (runtime.Object, error) { return kube.BatchV1().CronJobs(namespace).List(ctx, all) }},
		{ReplicationController, func() (runtime.Object, error) {
			return kube.CoreV1().ReplicationControllers(namespace).List(ctx, all)
		}},
	} {
		list, err := owners.list()
		if err == nil {
			err = meta.EachListItem(list, func(o runtime.Object) error {
				add(owners.kind, o.(metav1.Object))
				return nil
			})
		}
		if err != nil {
			return nil, fmt.Errorf("failed to list %ss: %w", owners.kind, err)
		}
	}
	pods, err := kube.CoreV1().Pods(namespace).List(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("failed to list pods: %w", err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		x.pods = append(x.pods, p)
		o := &Object{Type: Pod, Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, Pods: []*corev1.Pod{p}}
		x.objects[Pod] = append(x.objects[Pod], o)
		x.owners[p] = append(x.owners[p], Owner{Pod, p.Name})
		ref := metav1.GetControllerOf(p)
		for ref != nil {
			owner := x.byUID[ref.UID]
			if owner == nil {
				break
			}
			owner.Pods = append(owner.Pods, p)
			x.owners[p] = append(x.owners[p], Owner{owner.Type, owner.Name})
			next, ok := parents[ref.UID]
			if !ok {
				break
			}
			ref = &next
		}
	}
	if err := x.readServices(ctx, kube); err != nil {
		return nil, err
	}
	if err := x.readNamespaces(ctx, kube); err != nil {
		return nil, err
	}
	for _, list := range x.objects {
		sort.Slice(list, func(i, j int) bool { return list[i].Namespace+"/"+list[i].Name < list[j].Namespace+"/"+list[j].Name })
	}
	return x, nil
}

// readServices comes after the pods.
func (x *Index) readServices(ctx context.Context, kube kubernetes.Interface) error {
	services, err := kube.CoreV1().Services(x.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("failed to list services: %w", err)
	}
	for i := range services.Items {
		s := &services.Items[i]
		o := &Object{Type: Service, Namespace: s.Namespace, Name: s.Name, Labels: s.Labels}
		if len(s.Spec.Selector) > 0 {
			selector := labels.SelectorFromSet(s.Spec.Selector)
			for _, p := range x.pods {
				if p.Namespace == s.Namespace && selector.Matches(labels.Set(p.Labels)) {
					o.Pods = append(o.Pods, p)
				}
			}
		}
		x.objects[Service] = append(x.objects[Service], o)
	}
	return nil
}

func (x *Index) readNamespaces(ctx context.Context, kube kubernetes.Interface) error {
	var namespaces []corev1.Namespace
	if x.namespace == "" {
		list, err := kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("failed to list namespaces: %w", err)
		}
		namespaces = list.Items
	} else {
		ns, err := kube.CoreV1().Namespaces().Get(ctx, x.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			// Commands about pods of one namespace do without the namespace itself.
			return nil
		}
		if err != nil {
			return fmt.Errorf("failed to get namespace %s: %w", x.namespace, err)
		}
		namespaces = []corev1.Namespace{*ns}
	}
	for i := range namespaces {
		ns := &namespaces[i]
		o := &Object{Type: Namespace, Name: ns.Name, Labels: ns.Labels}
		for _, p := range x.pods {
			if p.Namespace == ns.Name {
				o.Pods = append(o.Pods, p)
			}
		}
		x.objects[Namespace] = append(x.objects[Namespace], o)
	}
	return nil
}

// Objects returns the objects a target names, sorted by namespace and name,
// restricted by a label selector if it is not nil.
func (x *Index) Objects(t Target, selector labels.Selector) []*Object {
	var out []*Object
	for _, o := range x.objects[t.Type] {
		if t.Name != "" && o.Name != t.Name || selector != nil && !selector.Matches(labels.Set(o.Labels)) {
			continue
		}
		out = append(out, o)
	}
	return out
}

// Pods returns all pods.
func (x *Index) Pods() []*corev1.Pod { return x.pods }

// Owned returns the name of the object of a type that a pod belongs to; empty
// when it belongs to none.
func (x *Index) Owned(p *corev1.Pod, kind string) string {
	if kind == Namespace {
		return p.Namespace
	}
	for _, o := range x.owners[p] {
		if o.Type == kind {
			return o.Name
		}
	}
	return ""
}
