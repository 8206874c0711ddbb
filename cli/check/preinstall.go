package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// clusterResources are the kinds without namespace the manifests have.
var clusterResources = map[string]schema.GroupVersionResource{
	"Namespace":                      {Version: "v1", Resource: "namespaces"},
	"ClusterRole":                    {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	"ClusterRoleBinding":             {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	"MutatingWebhookConfiguration":   {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	"ValidatingWebhookConfiguration": {Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
}

// skewLimit is how old a Ready node's heartbeat may be: nodes report every
// five minutes when nothing changes.
const skewLimit = 5*time.Minute + 10*time.Second

// preManifest renders what install would, with credentials made for the
// occasion.
func preManifest(w *command.World, o *options) ([]controlplane.Object, error) {
	chart, err := o.charts.ControlPlane()
	if err != nil {
		return nil, err
	}
	values, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	issuer, err := credentials.Generate(credentials.IssuerName(o.Namespace, valuetree.String(values, "clusterDomain")), w.Now())
	if err != nil {
		return nil, err
	}
	valuetree.Set(values, "identityTrustAnchorsPEM", issuer.TrustAnchors)
	valuetree.Set(values, "identity.issuer.tls.crtPEM", issuer.Certificate)
	valuetree.Set(values, "identity.issuer.tls.keyPEM", issuer.Key)
	if o.cniEnabled {
		valuetree.Set(values, "cniEnabled", true)
	}
	manifest, err := controlplane.Render(o.charts, o.Namespace, values)
	if err != nil {
		return nil, err
	}
	return controlplane.Objects(manifest)
}

func (s *state) preInstall() health.Category {
	checks := []health.Check{
		{
			Description: "control plane namespace does not already exist",
			Anchor:      "pre-ns",
			Run: func(ctx context.Context) error {
				_, err := s.cluster.Kube.CoreV1().Namespaces().Get(ctx, s.options.Namespace, metav1.GetOptions{})
				if apierrors.IsNotFound(err) {
					return nil
				}
				if err != nil {
					return err
				}
				return fmt.Errorf("The %q namespace already exists", s.options.Namespace) //nolint:staticcheck // The text is what scripts know.
			},
		},
		{Description: "can create non-namespaced resources", Anchor: "pre-k8s-cluster-k8s", Run: s.createClusterResources},
	}
	for _, r := range []struct{ kind, group, resource string }{
		{"ServiceAccounts", "", "serviceaccounts"},
		{"Services", "", "services"},
		{"Deployments", "apps", "deployments"},
		{"CronJobs", "batch", "cronjobs"},
		{"ConfigMaps", "", "configmaps"},
		{"Secrets", "", "secrets"},
	} {
		checks = append(checks, s.may("can create "+r.kind, "create", r.group, r.resource))
	}
	checks = append(checks,
		s.may("can read Secrets", "get", "", "secrets"),
		health.Check{
			Description: "can read extension-apiserver-authentication configmap",
			Anchor:      "pre-k8s",
			Run: func(ctx context.Context) error {
				cm, err := s.cluster.Kube.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
				if err != nil {
					return err
				}
				if cm.Data["requestheader-client-ca-file"] == "" {
					return errors.New("--requestheader-client-ca-file is not configured")
				}
				return nil
			},
		},
		health.Check{Description: "no clock skew detected", Anchor: "pre-k8s-clock-skew", Warning: true, Run: s.clockSkew},
	)
	return health.Category{ID: "pre-kubernetes-setup", Checks: checks}
}

func (s *state) may(description, verb, group, resource string) health.Check {
	return health.Check{
		Description: description,
		Anchor:      "pre-k8s",
		Run: func(ctx context.Context) error {
			return controlplane.Authorized(ctx, s.cluster.Kube, authorizationv1.ResourceAttributes{
				Namespace: s.options.Namespace, Verb: verb, Group: group, Version: "v1", Resource: resource,
			})
		},
	}
}

// createClusterResources asks the API server to create each object without a
// namespace, without doing it. Objects left over from another installation are
// no obstacle: applying the manifest replaces them.
func (s *state) createClusterResources(ctx context.Context) error {
	var failed []string
	for _, o := range s.manifest {
		resource, ok := clusterResources[o.Kind]
		if !ok {
			continue
		}
		var object map[string]any
		if err := yaml.Unmarshal(o.Raw, &object); err != nil {
			return err
		}
		_, err := s.cluster.Dynamic.Resource(resource).Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			failed = append(failed, fmt.Sprintf("cannot create %s/%s: %s", o.Kind, o.Name, err))
		}
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "\n    "))
	}
	return nil
}

func (s *state) clockSkew(ctx context.Context) error {
	nodes, err := s.cluster.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var skewed []string
	for _, n := range nodes.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && s.world.Now().Sub(c.LastHeartbeatTime.Time) > skewLimit {
				skewed = append(skewed, n.Name)
			}
		}
	}
	if len(skewed) > 0 {
		return fmt.Errorf("clock skew detected for node(s): %s", strings.Join(skewed, ", "))
	}
	return nil
}
