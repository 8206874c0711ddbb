package policy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/scrape"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// Numbers of a collection.
const (
	// atOnce bounds the pods asked at the same time.
	atOnce = 16
	// podTimeout bounds the question to one pod.
	podTimeout = 30 * time.Second
	// littleTime is how long proxies should have counted at least, so that what
	// they saw says something.
	littleTime = time.Hour
)

type options struct {
	*command.Globals
	namespace, output string
	enforce, routes   bool
	networks          []string
}

func newGenerate(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "generate [flags] [(TYPE/NAME)...]",
		Short: "Propose the policy that lets in the clients seen so far, and nobody else",
		Long: `Propose the policy that lets in the clients seen so far, and nobody else.

It reads what the proxies of a namespace (or of the given workloads) have counted
since they started, and writes for each port that was used a Server, and policies
for the identities that used it. Nothing is applied. The Servers have the access
policy audit: who is not among the clients still gets in, and is logged and
counted. When that has stayed quiet for long enough, --enforce makes it deny.

What was seen, and for how long, is said on standard error. What happens less
often than that (a monthly job, a failover) is not in the proposal.`,
		Example: `  # Propose policies for a namespace, in audit, and look at them before they are applied.
  linkerd policy generate -n emojivoto > policy.yaml
  kubectl apply -f policy.yaml

  # Who would be refused?
  linkerd authz -n emojivoto deploy/web --from unauthenticated

  # The same for two workloads, enforced.
  linkerd policy generate -n emojivoto deploy/web sts/db --enforce | kubectl apply -f -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return generate(cmd.Context(), w, o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of the workloads")
	f.StringVarP(&o.output, "output", "o", "yaml", "Output format. One of: yaml, json")
	f.BoolVar(&o.enforce, "enforce", false, "Refuse clients that were not seen (access policy deny) instead of auditing them")
	f.BoolVar(&o.routes, "routes", false, "Where HTTPRoutes or GRPCRoutes are attached, propose policies for each route instead of for the port")
	f.StringSliceVar(&o.networks, "unmeshed-networks", nil, "Networks of the clients without identity (default the cluster's networks)")
	return cmd
}

// ErrNothing says that there is nothing to propose.
var ErrNothing = errors.New("no proxy has seen a client at a port that policies could be proposed for")

func generate(ctx context.Context, w *command.World, o *options, args []string) error {
	var targets []workload.Target
	if len(args) > 0 {
		var err error
		if targets, err = workload.Parse(args); err != nil {
			return err
		}
	}
	if !command.OneOf(o.output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.output)
	}
	for _, n := range o.networks {
		if _, err := netip.ParsePrefix(n); err != nil {
			return fmt.Errorf("--unmeshed-networks: %q is not a network in CIDR notation", n)
		}
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	namespace := command.ContextNamespace(o.namespace, c)
	x, err := workload.Read(ctx, c.Kube, namespace)
	if err != nil {
		return err
	}
	servers, err := find(ctx, w, c, x, namespace, targets)
	if err != nil {
		return err
	}
	existing, err := list(ctx, c, namespace)
	if err != nil {
		return command.Failf("Failed to get server resources: %s", err)
	}
	set, err := read(ctx, c, o, servers)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.Err, "Asking the proxies of %d workloads in namespace %s...\n", len(servers), namespace)
	var documents []document
	for _, s := range servers {
		report, err := s.observe(ctx, w, c)
		if err != nil {
			return command.Failf("%s %s: %s", s.kind, s.name, err)
		}
		made, findings := propose(s, existing, set)
		fmt.Fprintf(w.Err, "\n%s %s: %s\n", s.kind, s.name, report)
		for _, f := range findings {
			mark, name := "√", ""
			if f.warning {
				mark = "‼"
			}
			if f.name != "" {
				name = " (" + f.name + ")"
			}
			fmt.Fprintf(w.Err, "  %s port %d%s: %s\n", mark, f.port, name, f.text)
		}
		for _, other := range alsoSelected(x, s) {
			fmt.Fprintf(w.Err, "  ‼ its selector is also that of pod %s: the proposal is for that pod too\n", other)
		}
		documents = append(documents, made...)
	}
	fmt.Fprintln(w.Err)
	if len(documents) == 0 {
		return command.Failf("%s", ErrNothing)
	}
	return write(w, o.output, documents)
}

// find returns the workloads to look at: those that are named, else all that
// have meshed pods.
func find(ctx context.Context, w *command.World, c *cluster.Cluster, x *workload.Index, namespace string, targets []workload.Target) ([]*server, error) {
	// Of the types that a pod belongs to, the one that its maker wrote.
	top := []string{workload.Deployment, workload.StatefulSet, workload.DaemonSet, workload.CronJob, workload.Job, workload.ReplicaSet, workload.ReplicationController, workload.Pod}
	var pods []*corev1.Pod
	if targets == nil {
		pods = x.Pods()
	}
	for _, t := range targets {
		objects := x.Objects(t, nil)
		if len(objects) == 0 {
			return nil, fmt.Errorf("there is no %s in namespace %s", t, namespace)
		}
		for _, o := range objects {
			pods = append(pods, o.Pods...)
		}
	}
	controllers := 0
	type key struct{ kind, name string }
	byOwner := map[key]*server{}
	seen := map[*corev1.Pod]bool{}
	for _, p := range pods {
		if seen[p] || p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil || workload.AdminPort(p) == 0 {
			continue
		}
		seen[p] = true
		if p.Labels[names.LabelControlPlaneComponent] != "" {
			controllers++
			continue
		}
		for _, kind := range top {
			name := x.Owned(p, kind)
			if name == "" {
				continue
			}
			s := byOwner[key{kind, name}]
			if s == nil {
				s = &server{kind: kind, namespace: namespace, name: name, label: name}
				byOwner[key{kind, name}] = s
			}
			s.pods = append(s.pods, p)
			break
		}
	}
	var servers []*server
	for _, s := range byOwner {
		slices.SortFunc(s.pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
		for other := range byOwner {
			if other.name == s.name && other.kind != s.kind {
				s.label = s.name + "-" + s.kind
			}
		}
		servers = append(servers, s)
	}
	slices.SortFunc(servers, func(a, b *server) int { return strings.Compare(a.label, b.label) })
	kept := servers[:0]
	for _, s := range servers {
		var err error
		if s.selector, err = selectorOf(ctx, c, s); err != nil {
			return nil, err
		}
		if len(s.selector.MatchLabels) == 0 && len(s.selector.MatchExpressions) == 0 {
			fmt.Fprintf(w.Err, "%s %s has no labels by which a Server could select its pods; it is left out\n", s.kind, s.name)
			continue
		}
		kept = append(kept, s)
	}
	if controllers > 0 {
		// Whoever is meshed tomorrow has to be served too.
		fmt.Fprintln(w.Err, "The control plane has to serve workloads that are not there yet, so that what it has seen is no policy for it; it is left out.")
	}
	if len(kept) == 0 {
		return nil, command.Failf("No meshed pods were found in namespace %s.", namespace)
	}
	return kept, nil
}

// passing are labels that controllers put on pods, and which do not outlive them.
var passing = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index",
}

// selectorOf returns the selector of a workload's pods.
func selectorOf(ctx context.Context, c *cluster.Cluster, s *server) (*metav1.LabelSelector, error) {
	var selector *metav1.LabelSelector
	var err error
	get := metav1.GetOptions{}
	switch s.kind {
	case workload.Deployment:
		o, e := c.Kube.AppsV1().Deployments(s.namespace).Get(ctx, s.name, get)
		if err = e; e == nil {
			selector = o.Spec.Selector
		}
	case workload.StatefulSet:
		o, e := c.Kube.AppsV1().StatefulSets(s.namespace).Get(ctx, s.name, get)
		if err = e; e == nil {
			selector = o.Spec.Selector
		}
	case workload.DaemonSet:
		o, e := c.Kube.AppsV1().DaemonSets(s.namespace).Get(ctx, s.name, get)
		if err = e; e == nil {
			selector = o.Spec.Selector
		}
	case workload.ReplicaSet:
		o, e := c.Kube.AppsV1().ReplicaSets(s.namespace).Get(ctx, s.name, get)
		if err = e; e == nil {
			selector = o.Spec.Selector
		}
	case workload.ReplicationController:
		o, e := c.Kube.CoreV1().ReplicationControllers(s.namespace).Get(ctx, s.name, get)
		if err = e; e == nil {
			selector = &metav1.LabelSelector{MatchLabels: o.Spec.Selector}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to get %s %s/%s: %w", s.kind, s.namespace, s.name, err)
	}
	if selector != nil {
		return selector, nil
	}
	// Jobs select by what is new with each of them; single pods have no selector.
	own := map[string]string{}
	for k, v := range s.pods[0].Labels {
		if !slices.Contains(passing, k) && !strings.HasPrefix(k, "linkerd.io/") {
			own[k] = v
		}
	}
	return &metav1.LabelSelector{MatchLabels: own}, nil
}

// alsoSelected names the pods of others that the selector of a workload matches.
func alsoSelected(x *workload.Index, s *server) []string {
	selector, err := metav1.LabelSelectorAsSelector(s.selector)
	if err != nil {
		return nil
	}
	var others []string
	for _, p := range x.Pods() {
		if selector.Matches(labels.Set(p.Labels)) && x.Owned(p, s.kind) != s.name && p.Status.Phase == corev1.PodRunning {
			others = append(others, p.Name)
		}
	}
	slices.Sort(others)
	return others
}

// list reads the Servers of the namespace.
func list(ctx context.Context, c *cluster.Cluster, namespace string) ([]v1beta3.Server, error) {
	gvr := schema.GroupVersionResource{Group: policyGroup, Version: "v1beta3", Resource: "servers"}
	found, err := c.Dynamic.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	servers := make([]v1beta3.Server, 0, len(found.Items))
	for _, item := range found.Items {
		var s v1beta3.Server
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", item.GetName(), err)
		}
		servers = append(servers, s)
	}
	return servers, nil
}

// read finds out what the mesh calls its own.
func read(ctx context.Context, c *cluster.Cluster, o *options, servers []*server) (settings, error) {
	set := settings{accessPolicy: names.DefaultPolicyAudit, routes: o.routes, networks: o.networks, controlPlane: o.Namespace}
	if o.enforce {
		set.accessPolicy = names.DefaultPolicyDeny
	}
	for _, s := range servers {
		for _, p := range s.pods {
			if id, ok := names.ParseIdentity(workload.Identity(p)); ok {
				set.controlPlane, set.trustDomain = id.ControlPlaneNamespace, id.TrustDomain
			}
		}
	}
	if len(set.networks) > 0 {
		return set, nil
	}
	configMap, err := c.Kube.CoreV1().ConfigMaps(o.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return set, command.Failf("Failed to read the cluster's networks from ConfigMap %s/%s: %s\nGive those of the clients without identity with --unmeshed-networks.", o.Namespace, controlplane.ConfigMapName, err)
	}
	values, err := controlplane.Values(configMap)
	if err != nil {
		return set, command.Failf("Failed to read the cluster's networks: %s", err)
	}
	for n := range strings.SplitSeq(valuetree.String(values, "clusterNetworks"), ",") {
		if n = strings.TrimSpace(n); n != "" {
			set.networks = append(set.networks, n)
		}
	}
	return set, nil
}

// observe asks the workload's proxies what they counted, and says for how long.
func (s *server) observe(ctx context.Context, w *command.World, c *cluster.Cluster) (report string, err error) {
	type look struct {
		samples []scrape.Sample
		age     time.Duration
		err     error
	}
	looks := make([]look, len(s.pods))
	slots := make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, pod := range s.pods {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			l := &looks[i]
			if l.samples, l.err = samplesOf(ctx, w, c, pod); l.err == nil {
				l.age = w.Now().Sub(started(l.samples))
			}
		})
	}
	wait.Wait()
	s.ports = map[uint16]*traffic{}
	oldest, youngest, answered := time.Duration(0), time.Duration(math.MaxInt64), 0
	for i, l := range looks {
		if l.err != nil {
			// A proposal without what this pod saw could refuse its clients.
			return "", fmt.Errorf("no metrics from pod %s: %w", s.pods[i].Name, l.err)
		}
		if err := count(s.ports, l.samples); err != nil {
			return "", fmt.Errorf("metrics of pod %s: %w", s.pods[i].Name, err)
		}
		answered++
		oldest, youngest = max(oldest, l.age), min(youngest, l.age)
	}
	report = fmt.Sprintf("%d proxies have counted for %s to %s", answered, youngest.Round(time.Second), oldest.Round(time.Second))
	if answered == 1 {
		report = fmt.Sprintf("its proxy has counted for %s", oldest.Round(time.Second))
	}
	if oldest < littleTime {
		report += ", which is not long"
	}
	return report, nil
}

func samplesOf(ctx context.Context, w *command.World, c *cluster.Cluster, pod *corev1.Pod) ([]scrape.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, podTimeout)
	defer cancel()
	conn, tunnel, err := w.Dial(ctx, c, pod.Namespace, pod.Name, workload.AdminPort(pod))
	if err != nil {
		return nil, err
	}
	defer tunnel.Close()
	text, err := scrape.Text(ctx, func(context.Context) (net.Conn, error) { return conn, nil })
	if err != nil {
		return nil, err
	}
	return scrape.Parse(text)
}

// started is when the proxy began to count.
func started(samples []scrape.Sample) time.Time {
	for _, s := range samples {
		if s.Name == "process_start_time_seconds" && s.Value > 0 {
			whole, part := math.Modf(s.Value)
			return time.Unix(int64(whole), int64(part*1e9))
		}
	}
	return time.Time{}
}

// write writes the resources in the format.
func write(w *command.World, format string, documents []document) error {
	var out bytes.Buffer
	out.WriteString("# Proposed by `linkerd policy generate` from the clients that proxies have seen.\n" +
		"# All of it has the label " + labelManagedBy + "=" + managedBy + ".\n")
	for _, d := range documents {
		out.WriteString("---\n")
		for _, line := range d.comment {
			out.WriteString("# " + line + "\n")
		}
		text, err := yaml.Marshal(d.object)
		if err != nil {
			return err
		}
		out.Write(text)
	}
	return chartvalues.WriteManifest(w.Out, out.Bytes(), format)
}
