// Package authz is the command linkerd authz: it lists the policies that apply
// to a workload (CLI chapter, section 5.4), and says who gets in by them.
//
// What is listed is decided by a pure function over what the cluster holds; who
// gets in is asked of the policy controller.
package authz

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1alpha1"
	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta1"
	"github.com/linkerd-go/linkerd-go/api/crd/policy/v1beta3"
	"github.com/linkerd-go/linkerd-go/cli/explain"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/table"
	"github.com/linkerd-go/linkerd-go/internal/workload"
)

// policyGroup is the API group of policies.
const policyGroup = "policy.linkerd.io"

// New returns the command.
func New(w *command.World, g *command.Globals) *cobra.Command {
	o := &options{Globals: g}
	cmd := &cobra.Command{
		Use:   "authz [flags] resource",
		Short: "List authorizations for a resource",
		Long: `List authorizations for a resource.

With a client (--from) or a request (--path, ...), it says instead, for each port
of the resource, whether that client gets in and by what; with --explain why.`,
		Example: `  # List the policies that apply to the pods of a deployment.
  linkerd authz -n emojivoto deploy/web

  # Do the pods of vote-bot reach those of web?
  linkerd authz -n emojivoto deploy/web --from deploy/vote-bot

  # Why is a client outside of the mesh refused at port 8080?
  linkerd authz -n emojivoto deploy/web --port 8080 --from unauthenticated --explain`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), w, o, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "Namespace of resource")
	f.StringVar(&o.port, "port", "", "Only this port, by number or name (with --from, --explain or a request)")
	f.StringVarP(&o.output, "output", "o", "", "Output format of explanations. One of: json, yaml (default text)")
	o.explain.Register(f)
	return cmd
}

type options struct {
	*command.Globals
	namespace, port, output string
	explain                 explain.Flags
}

// policies are the policies of one namespace.
type policies struct {
	servers        []v1beta3.Server
	authorizations []v1beta1.ServerAuthorization
	policies       []v1alpha1.AuthorizationPolicy
	routes         []v1beta3.HTTPRoute
}

func run(ctx context.Context, w *command.World, o *options, args []string) error {
	targets, err := workload.Parse(args)
	if err != nil {
		return err
	}
	if !command.OneOf(o.output, "", "json", "yaml") {
		return errors.New("output must be one of: yaml, json")
	}
	if !o.explain.Wanted() && (o.port != "" || o.output != "") {
		return errors.New("--port and --output are for explanations: give --from, --explain or a request too")
	}
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	namespace := command.ContextNamespace(o.namespace, c)
	if targets[0].Type == workload.Namespace && targets[0].Name != "" {
		namespace = targets[0].Name
	}
	index, err := workload.Read(ctx, c.Kube, namespace)
	if err != nil {
		return err
	}
	objects := index.Objects(targets[0], nil)
	if len(objects) == 0 && (targets[0].Name != "" || o.explain.Wanted()) {
		// An empty table would say that it has no policies.
		return fmt.Errorf("there is no %s in namespace %s", targets[0], namespace)
	}
	if o.explain.Wanted() {
		return explanations(ctx, w, o, c, namespace, objects)
	}
	var pods []*corev1.Pod
	for _, object := range objects {
		pods = append(pods, object.Pods...)
	}
	var found policies
	if err := list(ctx, c, namespace, "v1beta3", "servers", &found.servers); err != nil {
		return command.Failf("Failed to get server resources: %s", err)
	}
	if err := list(ctx, c, namespace, "v1beta1", "serverauthorizations", &found.authorizations); err != nil {
		return command.Failf("Failed to get serverauthorization resources: %s", err)
	}
	if err := list(ctx, c, namespace, "v1alpha1", "authorizationpolicies", &found.policies); err != nil {
		return command.Failf("Failed to get authorizationpolicy resources: %s", err)
	}
	if err := list(ctx, c, namespace, "v1beta3", "httproutes", &found.routes); err != nil {
		return command.Failf("Failed to get httproute resources: %s", err)
	}
	rows, broken := applying(pods, found)
	for _, text := range broken {
		fmt.Fprintln(w.Err, text)
	}
	left := func(header string) table.Column { return table.Column{Header: header, Left: true} }
	t := table.New(left("ROUTE"), left("SERVER"), left("AUTHORIZATION_POLICY"), left("SERVER_AUTHORIZATION"))
	t.SortBy = []int{0, 1, 2, 3}
	for _, r := range rows {
		t.Add(r.route, r.server, r.policy, r.authorization)
	}
	return t.WritePadded(w.Out)
}

// list reads the objects of a kind of policies; a kind the cluster does not
// have has no objects.
func list[T any](ctx context.Context, c *cluster.Cluster, namespace, version, resource string, into *[]T) error {
	gvr := schema.GroupVersionResource{Group: policyGroup, Version: version, Resource: resource}
	found, err := c.Dynamic.Resource(gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, item := range found.Items {
		var object T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &object); err != nil {
			return fmt.Errorf("%s: %w", item.GetName(), err)
		}
		*into = append(*into, object)
	}
	return nil
}

// row is one policy in force.
type row struct {
	route, server, policy, authorization string
}

// applying returns the policies for any of the pods, each once, and a
// description of each policy that could not be read.
func applying(pods []*corev1.Pod, p policies) (rows []row, broken []string) {
	seen := map[row]bool{}
	add := func(r row) {
		if !seen[r] {
			seen[r] = true
			rows = append(rows, r)
		}
	}
	for _, s := range p.servers {
		selector, err := metav1.LabelSelectorAsSelector(s.Spec.PodSelector)
		if err != nil {
			broken = append(broken, fmt.Sprintf("Failed to read the podSelector of server %s: %s", s.Name, err))
			continue
		}
		if !selects(selector, s.Spec.Port, pods) {
			continue
		}
		for _, a := range p.authorizations {
			matches := a.Spec.Server.Name == s.Name
			if a.Spec.Server.Selector != nil {
				selector, err := metav1.LabelSelectorAsSelector(a.Spec.Server.Selector)
				if err != nil {
					broken = append(broken, fmt.Sprintf("Failed to read the selector of serverauthorization %s: %s", a.Name, err))
					continue
				}
				matches = selector.Matches(labels.Set(s.Labels))
			}
			if matches {
				add(row{"*", s.Name, "", a.Name})
			}
		}
		for _, a := range p.policies {
			target := a.Spec.TargetRef
			switch {
			case target.Group == policyGroup && target.Kind == "Server" && target.Name == s.Name,
				(target.Group == "" || target.Group == "core") && target.Kind == "Namespace" && target.Name == s.Namespace:
				add(row{"*", s.Name, a.Name, ""})
			case target.Group == policyGroup && target.Kind == "HTTPRoute":
				for _, r := range p.routes {
					if r.Name == target.Name && attached(r, s.Name) {
						add(row{r.Name, s.Name, a.Name, ""})
					}
				}
			}
		}
	}
	sort.Strings(broken)
	return rows, broken
}

// selects reports whether a Server is for a port of any of the pods.
func selects(selector labels.Selector, port intstr.IntOrString, pods []*corev1.Pod) bool {
	for _, pod := range pods {
		if !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for _, c := range containers {
				for _, p := range c.Ports {
					if port.Type == intstr.Int && p.ContainerPort == port.IntVal || port.Type == intstr.String && p.Name == port.StrVal {
						return true
					}
				}
			}
		}
	}
	return false
}

// attached reports whether a route is for a Server.
func attached(r v1beta3.HTTPRoute, server string) bool {
	for _, parent := range r.Spec.ParentRefs {
		if parent.Kind != nil && *parent.Kind == "Server" && string(parent.Name) == server {
			return true
		}
	}
	return false
}
