// Package install is the command linkerd install: it prints the manifest of
// the CRDs or of the control plane (CLI chapter, section 2.4).
//
// Nothing is changed in the cluster: the manifest goes to standard output, to
// be applied; reports go to standard error. The command either prints a whole
// manifest or nothing.
package install

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/cli/credentials"
	"github.com/linkerd-go/linkerd-go/internal/chartvalues"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/valuetree"
)

type options struct {
	*command.Globals
	flags         controlplane.Flags
	charts        controlplane.Charts
	ignoreCluster bool
	// stage limits the manifest to one of the two stages of older releases:
	// "config" or "control-plane".
	stage string
}

// New returns the command.
func New(w *command.World, g *command.Globals, charts controlplane.Charts) *cobra.Command {
	o := &options{Globals: g, charts: charts}
	cmd := &cobra.Command{
		Use:   "install [flags]",
		Args:  command.AtMostOne("config", "control-plane"),
		Short: "Output Kubernetes configs to install Linkerd",
		Long: `Output Kubernetes configs to install Linkerd.

This command provides all Kubernetes configs necessary to install the Linkerd
control plane.`,
		Example: `  # Install CRDs first.
  linkerd install --crds | kubectl apply -f -

  # Install the core control plane.
  linkerd install | kubectl apply -f -

The installation can be configured by using the --set, --values, --set-string and --set-file flags.
A full list of configurable values is in the chart linkerd-control-plane.`,
		ValidArgs: []string{"config", "control-plane"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.stage = args[0]
			}
			return run(cmd.Context(), w, o)
		},
	}
	o.flags.RegisterInstall(cmd.Flags())
	o.flags.Register(cmd.Flags(), &g.Namespace, charts)
	o.flags.RegisterProxy(cmd.Flags())
	cmd.Flags().BoolVar(&o.ignoreCluster, "ignore-cluster", false, "Ignore the current Kubernetes cluster when checking for existing cluster configuration (default false)")
	return cmd
}

func run(ctx context.Context, w *command.World, o *options) error {
	if !command.OneOf(o.flags.Output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.flags.Output)
	}
	var c *cluster.Cluster
	if !o.ignoreCluster {
		var err error
		if c, err = reach(ctx, w, o.Globals); err != nil {
			return command.Failf("Unable to install the Linkerd control plane. Cannot connect to the Kubernetes cluster:\n\n%s\n\n"+
				"You can use the --ignore-cluster flag if you just want to generate the installation config.", err)
		}
	}
	if o.flags.CRDs {
		return installCRDs(ctx, w, o, c)
	}
	if c != nil {
		err := controlplane.MissingCRDs(ctx, o.charts, c)
		var missing *controlplane.ErrMissingCRDs
		if errors.As(err, &missing) {
			return command.Failf("Linkerd CRDs must be installed first. Run linkerd install with the --crds flag.")
		}
		if err != nil {
			return &command.Failure{Message: err.Error()}
		}
	}
	manifest, err := render(ctx, w, o, c)
	if err != nil {
		return err
	}
	if o.stage != "" {
		if manifest, err = controlplane.Stage(manifest, o.stage); err != nil {
			return err
		}
	}
	return chartvalues.WriteManifest(w.Out, manifest, o.flags.Output)
}

// reach makes the clients and one request, so that a wrong kubeconfig shows
// here and not as the failure of something else.
func reach(ctx context.Context, w *command.World, g *command.Globals) (*cluster.Cluster, error) {
	c, err := g.Connect(w)
	if err != nil {
		return nil, err
	}
	if _, err := c.Version(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func installCRDs(ctx context.Context, w *command.World, o *options, c *cluster.Cluster) error {
	if c != nil {
		if err := refuseExisting(ctx, c, o.Namespace); err != nil {
			return err
		}
	}
	overrides, err := o.flags.Overrides(w)
	if err != nil {
		return err
	}
	values, err := controlplane.CRDValues(ctx, o.charts, c, overrides)
	if err != nil {
		return &command.Failure{Message: err.Error()}
	}
	manifest, err := controlplane.RenderCRDs(o.charts, o.Namespace, values)
	if err != nil {
		return err
	}
	if err := chartvalues.WriteManifest(w.Out, manifest, o.flags.Output); err != nil {
		return err
	}
	fmt.Fprintf(w.Err, "Rendering Linkerd CRDs...\nNext, run `linkerd install | kubectl apply -f -` to install the control plane.\n\n")
	return nil
}

// refuseExisting keeps install from replacing the credentials of an
// installation that runs.
func refuseExisting(ctx context.Context, c *cluster.Cluster, namespace string) error {
	_, err := c.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to get ConfigMap %s/%s: %w", namespace, controlplane.ConfigMapName, err)
	}
	return command.Failf("Can't install the Linkerd control plane in the '%s' namespace. Reason: ConfigMap/%s already exists.\n"+
		"Run the command `linkerd upgrade`, if you are looking to upgrade Linkerd.", namespace, controlplane.ConfigMapName)
}

func render(ctx context.Context, w *command.World, o *options, c *cluster.Cluster) ([]byte, error) {
	chart, err := o.charts.ControlPlane()
	if err != nil {
		return nil, err
	}
	values, err := chart.Defaults()
	if err != nil {
		return nil, err
	}
	if err := o.flags.Apply(w, values); err != nil {
		return nil, err
	}
	if c != nil {
		if err := refuseExisting(ctx, c, o.Namespace); err != nil {
			return nil, err
		}
	}
	overrides, err := o.flags.Overrides(w)
	if err != nil {
		return nil, err
	}
	if err := controlplane.Given(w, o.charts, overrides); err != nil {
		return nil, err
	}
	if c != nil {
		if !valuetree.Bool(overrides, "proxyInit.runAsRoot") {
			if err := controlplane.RefuseDocker(ctx, c); err != nil {
				return nil, err
			}
		}
		if ports := apiServerPorts(ctx, c); ports != "" {
			valuetree.Set(values, "proxyInit.kubeAPIServerPorts", ports)
		}
	}
	values = valuetree.Merge(values, overrides)
	anchorKey, err := provideIssuer(ctx, w, o.Namespace, c, values)
	if err != nil {
		return nil, err
	}
	if anchorKey != "" && valuetree.Get(overrides, rotation.ValueEnabled) == nil {
		// What nobody brought nobody else will replace.
		valuetree.Set(values, rotation.ValueEnabled, true)
	}
	access := controlplane.Access(c)
	if err := controlplane.Validate(ctx, access, o.Namespace, values, w.Now()); err != nil {
		return nil, err
	}
	manifest, err := controlplane.Render(o.charts, o.Namespace, values)
	if err != nil || anchorKey == "" || !controlplane.Rotates(values) {
		return manifest, err
	}
	secret, err := controlplane.AnchorSecret(o.Namespace, valuetree.String(values, "identityTrustAnchorsPEM"), anchorKey)
	if err != nil {
		return nil, err
	}
	return append(append(manifest, "---\n"...), secret...), nil
}

// apiServerPorts returns the ports of the API server as pods see them, before
// and after translation by the Service: the control plane's own pods have to
// reach it past their proxies. Empty when they cannot be told.
func apiServerPorts(ctx context.Context, c *cluster.Cluster) string {
	service, err := c.Kube.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return ""
	}
	var ports []string
	seen := map[string]bool{}
	add := func(port string) {
		if port != "0" && port != "" && !seen[port] {
			seen[port] = true
			ports = append(ports, port)
		}
	}
	for _, p := range service.Spec.Ports {
		add(strconv.Itoa(int(p.Port)))
		add(p.TargetPort.String())
	}
	return strings.Join(ports, ",")
}

// provideIssuer fills in the credentials the values lack: from the Secret of
// an external issuer, or freshly made when the user gave none; if it
// made a trust anchor it returns its key.
func provideIssuer(ctx context.Context, w *command.World, namespace string, c *cluster.Cluster, values map[string]any) (anchorKey string, err error) {
	get := func(p string) string { return valuetree.String(values, p) }
	if get("identity.issuer.scheme") == controlplane.SchemeKubernetes {
		if valuetree.Bool(values, "identity.externalCA") || get("identityTrustAnchorsPEM") != "" {
			return "", nil
		}
		if c == nil {
			return "", errors.New("--ignore-cluster is not supported when --identity-external-issuer=true")
		}
		anchors, err := externalAnchors(ctx, c, namespace)
		if err != nil {
			return "", err
		}
		valuetree.Set(values, "identityTrustAnchorsPEM", anchors)
		return "", nil
	}
	anchors, certificate, key := get("identityTrustAnchorsPEM"), get("identity.issuer.tls.crtPEM"), get("identity.issuer.tls.keyPEM")
	if anchors == "" && certificate == "" && key == "" {
		trustDomain := get("identityTrustDomain")
		if trustDomain == "" {
			trustDomain = get("clusterDomain")
		}
		issuer, key, err := credentials.GenerateWithKey(credentials.IssuerName(namespace, trustDomain), w.Now())
		if err != nil {
			return "", err
		}
		valuetree.Set(values, "identityTrustAnchorsPEM", issuer.TrustAnchors)
		valuetree.Set(values, "identity.issuer.tls.crtPEM", issuer.Certificate)
		valuetree.Set(values, "identity.issuer.tls.keyPEM", issuer.Key)
		return key, nil
	}
	switch {
	case anchors == "" && !valuetree.Bool(values, "identity.externalCA"):
		return "", errors.New("a trust anchors file must be specified if other credentials are provided")
	case certificate == "":
		return "", errors.New("a certificate file must be specified if other credentials are provided")
	case key == "":
		return "", errors.New("a private key file must be specified if other credentials are provided")
	}
	return "", nil
}

func externalAnchors(ctx context.Context, c *cluster.Cluster, namespace string) (string, error) {
	secret, err := c.Kube.CoreV1().Secrets(namespace).Get(ctx, controlplane.IssuerSecret, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("failed to get Secret %s/%s: %w", namespace, controlplane.IssuerSecret, err)
	}
	for _, key := range []string{corev1.ServiceAccountRootCAKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(secret.Data[key]) == 0 {
			return "", fmt.Errorf("key %s needs to exist in secret %s if --identity-external-issuer=true", key, controlplane.IssuerSecret)
		}
	}
	return strings.TrimSpace(string(secret.Data[corev1.ServiceAccountRootCAKey])), nil
}
