package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/table"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// shortest is the smallest window the metrics API accepts.
const shortest = 15 * time.Second

type statOptions struct {
	*command.Globals
	namespace, window, to, toNamespace, from, fromNamespace, output, selector string
	allNamespaces, unmeshed                                                   bool
	namespaceSet                                                              bool
}

// policyResources are the resources of policies a user can ask about.
var policyResources = map[string]schema.GroupVersionResource{
	"server":              {Group: "policy.linkerd.io", Version: "v1beta3", Resource: "servers"},
	"serverauthorization": {Group: "policy.linkerd.io", Version: "v1beta1", Resource: "serverauthorizations"},
	"authorizationpolicy": {Group: "policy.linkerd.io", Version: "v1alpha1", Resource: "authorizationpolicies"},
	"httproute":           {Group: "policy.linkerd.io", Version: "v1beta3", Resource: "httproutes"},
}

// NewStat returns the command stat.
func NewStat(w *command.World, g *command.Globals) *cobra.Command {
	o := &statOptions{Globals: g}
	cmd := &cobra.Command{
		Use:   "stat [flags] (RESOURCES)",
		Short: "Display traffic stats about one or many resources",
		Long: `Display traffic stats about one or many resources.

  The RESOURCES argument specifies the target resource(s) to aggregate stats over:
  (TYPE [NAME] | TYPE/NAME)
  or (TYPE [NAME1] [NAME2]...)
  or (TYPE1/NAME1 TYPE2/NAME2...)

  Valid resource types include: authorizationpolicies, cronjobs, daemonsets,
  deployments, httproutes, jobs, namespaces, pods, replicasets,
  replicationcontrollers, servers, serverauthorizations, services, statefulsets,
  and all.

  The proxies of the workloads are asked directly. Rates are those since a proxy
  started, when that is within the time window, and else those between two looks
  a few seconds apart.`,
		Example: `  # Get all deployments in the test namespace.
  linkerd viz stat deployments -n test

  # Get all pods in all namespaces that call the hello1 deployment in the test namespace.
  linkerd viz stat pods --to deploy/hello1 --to-namespace test --all-namespaces

  # Get all services in all namespaces that receive calls from hello1 deployment in the test namespace.
  linkerd viz stat services --from deploy/hello1 --from-namespace test --all-namespaces`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.namespaceSet = cmd.Flags().Changed("namespace")
			return runStat(cmd.Context(), w, o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of the specified resource")
	f.StringVarP(&o.window, "time-window", "t", "1m", "Stat window (for example: \"15s\", \"1m\", \"10m\", \"1h\")")
	f.StringVar(&o.window, "window", "1m", "the same as --time-window")
	_ = f.MarkHidden("window")
	f.StringVar(&o.to, "to", "", "If present, restricts outbound stats to the specified resource name")
	f.StringVar(&o.toNamespace, "to-namespace", "", "Sets the namespace used to lookup the \"--to\" resource; by default the current \"--namespace\" is used")
	f.StringVar(&o.from, "from", "", "If present, restricts outbound stats from the specified resource name")
	f.StringVar(&o.fromNamespace, "from-namespace", "", "Sets the namespace used from lookup the \"--from\" resource; by default the current \"--namespace\" is used")
	f.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "If present, returns stats across all namespaces, ignoring the \"--namespace\" flag")
	f.StringVarP(&o.output, "output", "o", "table", "Output format; one of: \"table\" or \"json\" or \"wide\"")
	f.StringVarP(&o.selector, "selector", "l", "", "Selector (label query) to filter on, supports '=', '==', and '!='")
	f.BoolVar(&o.unmeshed, "unmeshed", false, "If present, include unmeshed resources in the output")
	return cmd
}

// isTrafficSplit says whether a resource is the one kind that releases up to
// 2.12 had a table for (CLI chapter, section 6.4).
func isTrafficSplit(resource string) bool {
	kind, _, _ := strings.Cut(resource, "/")
	return command.OneOf(kind, "trafficsplit", "trafficsplits", "ts")
}

// request is a stat command understood.
type request struct {
	targets   []workload.Target
	window    time.Duration
	selector  labels.Selector
	namespace string
	to, from  *end
}

func (o *statOptions) understand(args []string, contextNamespace string) (*request, error) {
	switch {
	case o.to != "" && o.from != "":
		return nil, errors.New("--to and --from flags are mutually exclusive")
	case o.toNamespace != "" && o.fromNamespace != "":
		return nil, errors.New("--to-namespace and --from-namespace flags are mutually exclusive")
	case o.allNamespaces && o.namespaceSet:
		return nil, errors.New("--all-namespaces and --namespace flags are mutually exclusive")
	}
	r := &request{namespace: contextNamespace}
	if o.allNamespaces {
		r.namespace = ""
	}
	var err error
	if r.window, err = time.ParseDuration(o.window); err != nil {
		return nil, err
	}
	if r.window < shortest {
		return nil, errors.New("metrics time window needs to be at least 15s")
	}
	if r.targets, err = workload.Parse(args); err != nil {
		return nil, err
	}
	if o.selector != "" {
		if r.selector, err = labels.Parse(o.selector); err != nil {
			return nil, fmt.Errorf("invalid label selector %q: %w", o.selector, err)
		}
	}
	for _, t := range r.targets {
		if t.Type == workload.Namespace {
			for flag, set := range map[string]bool{"--to-namespace": o.toNamespace != "", "--from-namespace": o.fromNamespace != "", "--namespace": o.namespaceSet} {
				if set {
					return nil, fmt.Errorf("%s flag is incompatible with namespace resource type", flag)
				}
			}
		}
		if o.allNamespaces && t.Name != "" {
			return nil, errors.New("stats for a resource cannot be retrieved by name across all namespaces")
		}
		_, policy := policyResources[t.Type]
		if policy && o.from != "" {
			return nil, errors.New("'from' queries are not supported with policy resources, as they have inbound metrics only")
		}
		if policy && o.to != "" {
			return nil, errors.New("'to' queries are not supported with policy resources, as they have inbound metrics only")
		}
	}
	side := func(text, namespace string) (*end, error) {
		if text == "" && namespace == "" {
			return nil, nil
		}
		if namespace == "" {
			namespace = r.namespace
		}
		if text == "" {
			return &end{kind: workload.Namespace, name: namespace}, nil
		}
		t, err := workload.Parse(strings.Fields(text))
		if err != nil {
			// A bare name is of the type asked for.
			if _, known := workload.Canonical(strings.SplitN(text, "/", 2)[0]); known != nil && !strings.Contains(text, "/") {
				return &end{r.targets[0].Type, text, namespace}, nil
			}
			return nil, err
		}
		if t[0].Type == workload.All {
			return nil, errors.New("resource type 'all' is not supported as a filter")
		}
		if t[0].Type == workload.Namespace {
			return &end{kind: workload.Namespace, name: t[0].Name}, nil
		}
		return &end{t[0].Type, t[0].Name, namespace}, nil
	}
	if r.to, err = side(o.to, o.toNamespace); err != nil {
		return nil, err
	}
	if r.from, err = side(o.from, o.fromNamespace); err != nil {
		return nil, err
	}
	if r.from != nil && r.from.kind == workload.Service {
		return nil, errors.New("service is not supported as a target on 'from' queries, or as a target with 'to' queries")
	}
	return r, nil
}

// row is one line of output.
type row struct {
	kind, namespace, name string
	status, server        string
	meshed, running       int
	pods                  bool
	stats                 *stats
}

func runStat(ctx context.Context, w *command.World, o *statOptions, args []string) error {
	if len(args) > 0 && isTrafficSplit(args[0]) {
		return command.Failf("linkerd viz stat trafficsplit is not available: use linkerd viz stat for the workloads behind the split, and linkerd diagnostics profile for its shares")
	}
	if !command.OneOf(o.output, "table", "json", "wide", "") {
		return errors.New("--output currently only supports table, json and wide")
	}
	c, err := o.Connect(w)
	if err != nil {
		return command.Failf("Cannot connect to Kubernetes: %s", err)
	}
	r, err := o.understand(args, command.ContextNamespace(o.namespace, c))
	if err != nil {
		return fmt.Errorf("error creating metrics request while making stats request: %w", err)
	}
	rows, err := collectRows(ctx, w, c, o, r)
	if err != nil {
		return command.Failf("StatSummary API error: %s", err)
	}
	var shown []row
	for _, r := range rows {
		if r.pods && r.kind != workload.Service && r.meshed == 0 && !o.unmeshed && o.from == "" {
			continue
		}
		shown = append(shown, r)
	}
	if o.output == "json" {
		return writeStatJSON(w, shown)
	}
	if len(shown) == 0 {
		fmt.Fprintln(w.Err, "No traffic found.")
		return nil
	}
	return writeStatTables(w, o, shown)
}

// statAll are the types "all" stands for.
var statAll = append(append([]string{}, workload.PodOwners...), workload.Service)

func collectRows(ctx context.Context, w *command.World, c *cluster.Cluster, o *statOptions, r *request) ([]row, error) {
	targets := r.targets
	if targets[0].Type == workload.All {
		targets = nil
		for _, kind := range statAll {
			targets = append(targets, workload.Target{Type: kind})
		}
	}
	// Who calls a Service or is called from elsewhere is known to the callers,
	// which may be in any namespace.
	everywhere := r.namespace == "" || r.to != nil || r.from != nil
	for _, t := range targets {
		everywhere = everywhere || t.Type == workload.Service || t.Type == workload.Namespace
	}
	scope := r.namespace
	if everywhere {
		scope = ""
	}
	x, err := workload.Read(ctx, c.Kube, scope)
	if err != nil {
		return nil, err
	}
	pods := meshed(asked(x, r, targets))
	observations, err := (&collector{world: w, cluster: c, window: r.window}).rates(ctx, pods)
	if err != nil {
		return nil, err
	}
	domain := clusterDomain(ctx, c, o.Namespace)
	var out []row
	for _, t := range targets {
		rows, err := rowsOf(ctx, c, x, o, r, t, observations, domain)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// asked returns the pods whose proxies can answer a request.
func asked(x *workload.Index, r *request, targets []workload.Target) []*corev1.Pod {
	var out []*corev1.Pod
	seen := map[*corev1.Pod]bool{}
	add := func(pods []*corev1.Pod) {
		for _, p := range pods {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	if r.from != nil {
		for _, o := range x.Objects(workload.Target{Type: r.from.kind, Name: r.from.name}, nil) {
			if r.from.kind == workload.Namespace || r.from.namespace == "" || o.Namespace == r.from.namespace {
				add(o.Pods)
			}
		}
		return out
	}
	for _, t := range targets {
		_, policy := policyResources[t.Type]
		switch {
		case t.Type == workload.Service:
			add(x.Pods())
		case policy:
			for _, p := range x.Pods() {
				if r.namespace == "" || p.Namespace == r.namespace {
					add([]*corev1.Pod{p})
				}
			}
		default:
			for _, o := range x.Objects(t, r.selector) {
				if t.Type == workload.Namespace || r.namespace == "" || o.Namespace == r.namespace {
					add(o.Pods)
				}
			}
		}
	}
	return out
}

func rowsOf(ctx context.Context, c *cluster.Cluster, x *workload.Index, o *statOptions, r *request, t workload.Target, observations []observation, domain string) ([]row, error) {
	if resource, ok := policyResources[t.Type]; ok {
		return policyRows(ctx, c, r, t, resource, observations)
	}
	var q query
	switch {
	case t.Type == workload.Service:
		q = ofService(x, domain, r.from)
	case r.to != nil:
		q = toDestination(x, t.Type, *r.to)
	case r.from != nil:
		q = fromSource(x, t.Type, *r.from)
	default:
		q = ofWorkload(x, t.Type)
	}
	by := q.apply(observations)
	var out []row
	for _, object := range x.Objects(t, r.selector) {
		if t.Type != workload.Namespace && r.namespace != "" && object.Namespace != r.namespace {
			continue
		}
		s := by[rowKey(t.Type, object.Namespace, object.Name)]
		if (r.to != nil || r.from != nil || t.Type == workload.Service) && !s.requests() && !(t.Type == workload.Service && t.Name != "") {
			continue
		}
		line := row{kind: t.Type, namespace: object.Namespace, name: object.Name, stats: s, pods: true}
		if t.Type == workload.Namespace {
			line.namespace = object.Name
		}
		for _, p := range object.Pods {
			if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending || p.DeletionTimestamp != nil {
				continue
			}
			line.running++
			if p.Labels["linkerd.io/control-plane-ns"] == o.Namespace {
				line.meshed++
			}
		}
		if t.Type == workload.Pod {
			line.status = podStatus(object.Pods[0])
		}
		out = append(out, line)
	}
	return out, nil
}

func policyRows(ctx context.Context, c *cluster.Cluster, r *request, t workload.Target, resource schema.GroupVersionResource, observations []observation) ([]row, error) {
	list, err := c.Dynamic.Resource(resource).Namespace(r.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	by := ofPolicy(t.Type).apply(observations)
	var out []row
	for _, item := range list.Items {
		if t.Name != "" && item.GetName() != t.Name || r.selector != nil && !r.selector.Matches(labels.Set(item.GetLabels())) {
			continue
		}
		line := row{kind: t.Type, namespace: item.GetNamespace(), name: item.GetName(), stats: by[rowKey(t.Type, item.GetNamespace(), item.GetName())]}
		if t.Type == "httproute" {
			line.server = serverOf(observations, item.GetNamespace(), item.GetName())
		}
		out = append(out, line)
	}
	return out, nil
}

// serverOf names the server a route was used on.
func serverOf(observations []observation, namespace, route string) string {
	for _, o := range observations {
		for _, s := range o.gauges {
			if s.Name == "response_total" && o.pod.Namespace == namespace && s.Labels["route_name"] == route && s.Labels["srv_name"] != "" {
				return s.Labels["srv_name"]
			}
		}
	}
	return ""
}

// clusterDomain is the one the installation was made with.
func clusterDomain(ctx context.Context, c *cluster.Cluster, namespace string) string {
	const usual = "cluster.local"
	cm, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, "linkerd-config", metav1.GetOptions{})
	if err != nil {
		return usual
	}
	var values struct {
		ClusterDomain string `json:"clusterDomain"`
	}
	if err := yaml.Unmarshal([]byte(cm.Data["values"]), &values); err != nil || values.ClusterDomain == "" {
		return usual
	}
	return values.ClusterDomain
}

// podStatus follows what kubectl shows (extensions chapter, section 3.4).
func podStatus(p *corev1.Pod) string {
	reason := string(p.Status.Phase)
	if p.Status.Reason != "" {
		reason = p.Status.Reason
	}
	restartable := map[string]bool{}
	for _, c := range p.Spec.InitContainers {
		restartable[c.Name] = c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	}
	for i, c := range p.Status.InitContainerStatuses {
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			continue
		case restartable[c.Name] && c.Started != nil && *c.Started && c.Ready:
			continue
		case c.State.Terminated != nil && c.State.Terminated.Reason != "":
			return "Init:" + c.State.Terminated.Reason
		case c.State.Terminated != nil && c.State.Terminated.Signal != 0:
			return fmt.Sprintf("Init:Signal:%d", c.State.Terminated.Signal)
		case c.State.Terminated != nil:
			return fmt.Sprintf("Init:ExitCode:%d", c.State.Terminated.ExitCode)
		case c.State.Waiting != nil && c.State.Waiting.Reason != "" && c.State.Waiting.Reason != "PodInitializing":
			return "Init:" + c.State.Waiting.Reason
		default:
			return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
		}
	}
	running := false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := p.Status.ContainerStatuses[i]
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "":
			reason = c.State.Waiting.Reason
		case c.State.Terminated != nil && c.State.Terminated.Reason != "":
			reason = c.State.Terminated.Reason
		case c.State.Terminated != nil && c.State.Terminated.Signal != 0:
			reason = fmt.Sprintf("Signal:%d", c.State.Terminated.Signal)
		case c.State.Terminated != nil:
			reason = fmt.Sprintf("ExitCode:%d", c.State.Terminated.ExitCode)
		case c.Ready && c.State.Running != nil:
			running = true
		}
	}
	if reason == "Completed" && running {
		return "Running"
	}
	return reason
}

func writeStatTables(w *command.World, o *statOptions, rows []row) error {
	byKind := map[string][]row{}
	for _, r := range rows {
		byKind[r.kind] = append(byKind[r.kind], r)
	}
	var kinds []string
	for kind := range byKind {
		kinds = append(kinds, kind)
	}
	sort.Strings(kinds)
	for i, kind := range kinds {
		if i > 0 {
			fmt.Fprintln(w.Out)
		}
		if err := writeStatTable(w, o, kind, byKind[kind], len(kinds) > 1); err != nil {
			return err
		}
	}
	return nil
}

func writeStatTable(w *command.World, o *statOptions, kind string, rows []row, prefix bool) error {
	_, policy := policyResources[kind]
	route := kind == "httproute"
	denials := kind == "server" || route
	tcp := !policy || kind == "server"
	wide := tcp && o.output == "wide"
	t := table.New(
		table.Column{Header: "NAMESPACE", Left: true, Hide: !o.allNamespaces},
		table.Column{Header: "NAME", Left: true},
		table.Column{Header: "STATUS", Hide: kind != workload.Pod},
		table.Column{Header: "SERVER", Hide: !route},
		table.Column{Header: "MESHED", Hide: policy},
		table.Column{Header: "UNAUTHORIZED", Hide: !denials},
		table.Column{Header: "SUCCESS"},
		table.Column{Header: "RPS"},
		table.Column{Header: "LATENCY_P50"},
		table.Column{Header: "LATENCY_P95"},
		table.Column{Header: "LATENCY_P99"},
		table.Column{Header: "TCP_CONN", Hide: !tcp},
		table.Column{Header: "READ_BYTES/SEC", Hide: !wide},
		table.Column{Header: "WRITE_BYTES/SEC", Hide: !wide},
	)
	t.SortBy = []int{0, 1}
	for _, r := range rows {
		name := r.name
		if prefix {
			name = workload.Short(kind) + "/" + name
		}
		meshed := fmt.Sprintf("%d/%d", r.meshed, r.running)
		if kind == workload.Service {
			meshed = "-"
		}
		cells := []string{r.namespace, name, r.status, r.server, meshed}
		s := r.stats
		if s.requests() {
			unauthorized := 0.0
			if s.allowed+s.denied > 0 {
				unauthorized = s.denied / (s.allowed + s.denied)
			}
			cells = append(cells,
				fmt.Sprintf("%.1frps", unauthorized),
				fmt.Sprintf("%.2f%%", s.successRate()*100),
				fmt.Sprintf("%.1frps", s.rate()),
				fmt.Sprintf("%dms", s.latency(0.5)),
				fmt.Sprintf("%dms", s.latency(0.95)),
				fmt.Sprintf("%dms", s.latency(0.99)),
			)
		} else {
			cells = append(cells, "-", "-", "-", "-", "-", "-")
		}
		// A workload that speaks no HTTP still has connections to show.
		if s.requests() || s != nil && s.open+s.read+s.write > 0 {
			cells = append(cells, fmt.Sprintf("%.0f", s.open), fmt.Sprintf("%.1fB/s", s.read), fmt.Sprintf("%.1fB/s", s.write))
		} else {
			cells = append(cells, "-", "-", "-")
		}
		t.Add(cells...)
	}
	return t.WriteAligned(w.Out)
}

// jsonRow is the shape of the metrics API's answer.
type jsonRow struct {
	Namespace    string   `json:"namespace"`
	Kind         string   `json:"kind"`
	Name         string   `json:"name"`
	Meshed       string   `json:"meshed,omitempty"`
	Success      *float64 `json:"success"`
	RPS          *float64 `json:"rps"`
	P50          *uint64  `json:"latency_ms_p50"`
	P95          *uint64  `json:"latency_ms_p95"`
	P99          *uint64  `json:"latency_ms_p99"`
	Open         *uint64  `json:"tcp_open_connections,omitempty"`
	Read         *float64 `json:"tcp_read_bytes_rate,omitempty"`
	Write        *float64 `json:"tcp_write_bytes_rate,omitempty"`
	Unauthorized *float64 `json:"unauthorized,omitempty"`
}

func writeStatJSON(w *command.World, rows []row) error {
	out := make([]jsonRow, 0, len(rows))
	sort.SliceStable(rows, func(i, j int) bool {
		if rows[i].kind != rows[j].kind {
			return rows[i].kind < rows[j].kind
		}
		return rows[i].namespace+"/"+rows[i].name < rows[j].namespace+"/"+rows[j].name
	})
	for _, r := range rows {
		j := jsonRow{Namespace: r.namespace, Kind: r.kind, Name: r.name}
		if r.pods && r.kind != workload.Service {
			j.Meshed = fmt.Sprintf("%d/%d", r.meshed, r.running)
		}
		if s := r.stats; s.requests() {
			success, rate, read, write := s.successRate(), s.rate(), s.read, s.write
			p50, p95, p99, open := s.latency(0.5), s.latency(0.95), s.latency(0.99), uint64(s.open)
			j.Success, j.RPS, j.P50, j.P95, j.P99 = &success, &rate, &p50, &p95, &p99
			j.Open, j.Read, j.Write = &open, &read, &write
			if s.allowed+s.denied > 0 {
				u := s.denied / (s.allowed + s.denied)
				j.Unauthorized = &u
			}
		}
		out = append(out, j)
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintln(w.Out, string(data))
	return nil
}
