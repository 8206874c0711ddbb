package check

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/names"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/health"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

// ownObjects selects what the control plane installed, not its CNI plugin.
const ownObjects = controlplane.ControlPlaneNS + ",!linkerd.io/cni-resource"

func (s *state) config() health.Category {
	return health.Category{ID: "linkerd-config", Checks: []health.Check{
		{
			Description: "control plane Namespace exists", Anchor: "l5d-existence-ns", Fatal: true,
			Run: func(ctx context.Context) error { return s.namespaceExists(ctx, s.options.Namespace) },
		},
		{Description: "control plane ClusterRoles exist", Anchor: "l5d-existence-cr", Fatal: true, Run: func(ctx context.Context) error {
			return s.clusterObjects(ctx, "ClusterRole", s.roles()...)
		}},
		{Description: "control plane ClusterRoleBindings exist", Anchor: "l5d-existence-crb", Fatal: true, Run: func(ctx context.Context) error {
			return s.clusterObjects(ctx, "ClusterRoleBinding", s.roles()...)
		}},
		{Description: "control plane ServiceAccounts exist", Anchor: "l5d-existence-sa", Fatal: true, Run: func(ctx context.Context) error {
			return s.serviceAccounts(ctx, "linkerd-destination", "linkerd-identity", "linkerd-proxy-injector")
		}},
		{Description: "control plane CustomResourceDefinitions exist", Anchor: "l5d-existence-crd", Fatal: true, Run: func(ctx context.Context) error {
			return controlplane.MissingCRDs(ctx, s.options.charts, s.cluster)
		}},
		{Description: "control plane MutatingWebhookConfigurations exist", Anchor: "l5d-existence-mwc", Fatal: true, Run: func(ctx context.Context) error {
			return s.clusterObjects(ctx, "MutatingWebhookConfiguration", s.webhookConfiguration("linkerd-proxy-injector"))
		}},
		{Description: "control plane ValidatingWebhookConfigurations exist", Anchor: "l5d-existence-vwc", Fatal: true, Run: func(ctx context.Context) error {
			return s.clusterObjects(ctx, "ValidatingWebhookConfiguration", s.webhookConfiguration("linkerd-sp-validator"))
		}},
		{
			Description: "proxy-init container runs as root user if docker container runtime is used",
			Anchor:      "l5d-proxy-init-run-as-root",
			Run: func(ctx context.Context) error {
				if valuetree.Bool(s.values, "proxyInit.runAsRoot") {
					return nil
				}
				err := controlplane.RefuseDocker(ctx, s.cluster)
				var refusal *command.Failure
				if errors.As(err, &refusal) {
					return errors.New(refusal.Message)
				}
				return err
			},
		},
		{
			Description: "proxy injector uses the present configuration", Anchor: "l5d-injector-configuration", Warning: true,
			Run: s.injectorConfiguration,
		},
	}}
}

// injectorConfiguration asks the injectors whether they could use what was last
// written into linkerd-config and the trust bundle. It is our own check;
// upstream's injector denies pods instead. Injectors that cannot be asked, or
// do not say, leave it out.
func (s *state) injectorConfiguration(ctx context.Context) error {
	pods, err := s.cluster.Kube.CoreV1().Pods(s.options.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "linkerd.io/control-plane-component=proxy-injector"})
	if err != nil {
		return err
	}
	var behind []string
	answered := false
	for i := range pods.Items {
		samples, err := s.metrics(ctx, &pods.Items[i], names.PortInjectorAdmin)
		if err != nil {
			continue
		}
		for _, sample := range samples {
			if sample.Name == names.MetricInjectorConfiguration {
				answered = true
				if sample.Value == 0 {
					behind = append(behind, pods.Items[i].Name)
				}
			}
		}
	}
	if !answered {
		return health.Skip
	}
	return bullets(fmt.Sprintf("ConfigMap %s or %s cannot be used as it is, and some injectors go on with what was there before; their log and the events of the ConfigMap say why:",
		controlplane.ConfigMapName, controlplane.TrustRootsName), behind)
}

func (s *state) webhookConfiguration(service string) string {
	return controlplane.WebhookConfiguration(s.values, s.options.Namespace, service)
}

func (s *state) roles() []string {
	return []string{
		fmt.Sprintf("linkerd-%s-identity", s.options.Namespace),
		fmt.Sprintf("linkerd-%s-proxy-injector", s.options.Namespace),
	}
}

// clusterObjects looks for objects of a kind without namespace.
func (s *state) clusterObjects(ctx context.Context, kind string, names ...string) error {
	list, err := s.cluster.Dynamic.Resource(clusterResources[kind]).List(ctx, metav1.ListOptions{LabelSelector: ownObjects})
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, o := range list.Items {
		found[o.GetName()] = true
	}
	var absent []string
	for _, name := range names {
		if !found[name] {
			absent = append(absent, name)
		}
	}
	return missing(kind, absent)
}

func (s *state) cni() health.Category {
	exists := func(description, anchor string, get func(ctx context.Context) error) health.Check {
		return health.Check{Description: description, Anchor: anchor, Fatal: true, Run: func(ctx context.Context) error {
			if !s.cniEnabled() {
				return health.Skip
			}
			return get(ctx)
		}}
	}
	const name, config = "linkerd-cni", "linkerd-cni-config"
	namespace := s.options.CNINamespace
	ready := exists("cni plugin pod is running on all nodes", "cni-plugin-ready", func(ctx context.Context) error {
		set, err := s.cluster.Kube.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if set.Status.DesiredNumberScheduled != set.Status.NumberReady {
			return fmt.Errorf("number ready: %d, number scheduled: %d", set.Status.NumberReady, set.Status.DesiredNumberScheduled)
		}
		return nil
	})
	ready.Retry, ready.Surface = true, true
	return health.Category{ID: "linkerd-cni-plugin", Checks: []health.Check{
		exists("cni plugin ConfigMap exists", "cni-plugin-cm-exists", func(ctx context.Context) error {
			_, err := s.cluster.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, config, metav1.GetOptions{})
			return err
		}),
		exists("cni plugin ClusterRole exists", "cni-plugin-cr-exists", func(ctx context.Context) error {
			_, err := s.cluster.Kube.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{})
			return absent("ClusterRole", name, err)
		}),
		exists("cni plugin ClusterRoleBinding exists", "cni-plugin-crb-exists", func(ctx context.Context) error {
			_, err := s.cluster.Kube.RbacV1().ClusterRoleBindings().Get(ctx, name, metav1.GetOptions{})
			return absent("ClusterRoleBinding", name, err)
		}),
		exists("cni plugin ServiceAccount exists", "cni-plugin-sa-exists", func(ctx context.Context) error {
			_, err := s.cluster.Kube.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
			return absent("ServiceAccount", name, err)
		}),
		exists("cni plugin DaemonSet exists", "cni-plugin-ds-exists", func(ctx context.Context) error {
			_, err := s.cluster.Kube.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
			return absent("DaemonSet", name, err)
		}),
		ready,
	}}
}

func absent(kind, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return missing(kind, []string{name})
	}
	return err
}

func (s *state) cniEnabled() bool {
	return s.options.cniEnabled || valuetree.Bool(s.values, "cniEnabled")
}
