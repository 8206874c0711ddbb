// Package upgrade is the command linkerd upgrade: it prints the manifest of
// this version with the settings of the installation (CLI chapter, section
// 2.8).
package upgrade

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

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
	flags     controlplane.Flags
	charts    controlplane.Charts
	manifests string
	force     bool
	stage     string
}

const trouble = "For troubleshooting help, visit: https://linkerd.io/upgrade/#troubleshooting"

// New returns the command.
func New(w *command.World, g *command.Globals, charts controlplane.Charts) *cobra.Command {
	o := &options{Globals: g, charts: charts}
	cmd := &cobra.Command{
		Use:   "upgrade [flags]",
		Args:  command.AtMostOne("config", "control-plane"),
		Short: "Output Kubernetes configs to upgrade an existing Linkerd control plane",
		Long: `Output Kubernetes configs to upgrade an existing Linkerd control plane.

The upgrade takes the settings of the installation from the cluster, and those
given as flags on top.`,
		Example: `  # Upgrade CRDs first
  linkerd upgrade --crds | kubectl apply -f -

  # Then upgrade the control-plane
  linkerd upgrade | kubectl apply -f -`,
		ValidArgs: []string{"config", "control-plane"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.stage = args[0]
			}
			return run(cmd.Context(), w, o)
		},
	}
	o.flags.Register(cmd.Flags(), &g.Namespace, charts)
	o.flags.RegisterProxy(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&o.manifests, "from-manifests", "", "Read config from a Linkerd install YAML rather than from Kubernetes")
	f.BoolVar(&o.force, "force", false, "Force upgrade operation even when issuer certificate does not work with the trust anchors of all proxies")
	for _, name := range []string{"addon-config", "addon-overwrite"} {
		f.String(name, "", "accepted and ignored: add-ons are extensions now")
		_ = f.MarkHidden(name)
	}
	return cmd
}

func run(ctx context.Context, w *command.World, o *options) error {
	if !command.OneOf(o.flags.Output, "yaml", "json") {
		return fmt.Errorf("unsupported format %s", o.flags.Output)
	}
	var c *cluster.Cluster
	if o.manifests == "" {
		var err error
		if c, err = o.Connect(w); err != nil {
			return err
		}
	}
	if o.flags.CRDs {
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
		return chartvalues.WriteManifest(w.Out, manifest, o.flags.Output)
	}
	if c != nil {
		err := controlplane.MissingCRDs(ctx, o.charts, c)
		var missing *controlplane.ErrMissingCRDs
		if errors.As(err, &missing) {
			return command.Failf("Linkerd CRDs must be installed first. Run linkerd upgrade with the --crds flag:\n%s", strings.Join(missing.Missing, "\n"))
		}
		if err != nil {
			return &command.Failure{Message: err.Error()}
		}
	}
	manifest, err := render(ctx, w, o, c)
	var failure *command.Failure
	if err != nil && !errors.As(err, &failure) {
		return command.Failf("%s Could not render upgrade configuration: %s\n%s", "×", err, trouble)
	}
	if err != nil {
		return err
	}
	if o.stage != "" {
		if manifest, err = controlplane.Stage(manifest, o.stage); err != nil {
			return err
		}
	}
	if o.flags.Changed("identity-trust-anchors-file") {
		fmt.Fprintf(w.Err, "\n%s Warning: the trust anchors change. All control-plane and data-plane pods must be restarted to use them\n\n", "‼")
	}
	return chartvalues.WriteManifest(w.Out, manifest, o.flags.Output)
}

func render(ctx context.Context, w *command.World, o *options, c *cluster.Cluster) ([]byte, error) {
	values, err := stored(ctx, w, o, c)
	if err != nil {
		return nil, err
	}
	before, err := valuetree.Copy(values)
	if err != nil {
		return nil, err
	}
	if valuetree.String(values, "identity.issuer.scheme") == controlplane.SchemeKubernetes &&
		(o.flags.Changed("identity-issuer-certificate-file") || o.flags.Changed("identity-issuer-key-file")) {
		return nil, errors.New("cannot update issuer certificates if you are using external cert management solution")
	}
	if err := o.flags.Apply(w, values); err != nil {
		return nil, err
	}
	overrides, err := o.flags.Overrides(w)
	if err != nil {
		return nil, err
	}
	if err := controlplane.Given(w, o.charts, overrides); err != nil {
		return nil, err
	}
	values = valuetree.Merge(values, overrides)
	same := controlplane.SameCredentials(before, values)
	if !same && valuetree.Get(overrides, rotation.ValueEnabled) == nil {
		// From now on they are the user's, who alone replaces them.
		valuetree.Set(values, rotation.ValueEnabled, false)
	}
	if err := controlplane.Validate(ctx, controlplane.Access(c), o.Namespace, values, w.Now()); err != nil {
		return nil, err
	}
	if c != nil {
		// What rotates reaches proxies by itself.
		if !o.force && !(same && controlplane.Rotates(values)) && valuetree.String(values, "identity.issuer.scheme") == controlplane.SchemeLinkerd {
			if err := issuerFitsProxies(ctx, w, o, c, values); err != nil {
				return nil, err
			}
		}
		if !valuetree.Bool(values, "proxyInit.runAsRoot") {
			if err := controlplane.RefuseDocker(ctx, c); err != nil {
				return nil, err
			}
		}
		if err := controlplane.WebhooksNow(ctx, c, o.Namespace, values, w.Now()); err != nil {
			return nil, err
		}
	}
	return controlplane.Render(o.charts, o.Namespace, values)
}

// stored reads the settings of the installation, from the cluster or from its
// manifest.
func stored(ctx context.Context, w *command.World, o *options, c *cluster.Cluster) (map[string]any, error) {
	const helm = "Could not find the linkerd-config-overrides secret.\nNote this command is only for CLI installations. If you installed with Helm, upgrade with Helm."
	if c != nil {
		values, err := controlplane.Stored(ctx, o.charts, c, o.Namespace)
		if errors.Is(err, controlplane.ErrNoOverrides) {
			return nil, command.Failf("%s", helm)
		}
		return values, err
	}
	manifest, err := readManifests(w, o.manifests)
	if err != nil {
		return nil, fmt.Errorf("failed to parse manifests from %s: %w", o.manifests, err)
	}
	objects, err := controlplane.Objects(manifest)
	if err != nil {
		return nil, fmt.Errorf("failed to parse Kubernetes objects from manifest %s: %w", o.manifests, err)
	}
	for _, object := range objects {
		if object.Kind != "Secret" || object.Name != controlplane.OverridesName {
			continue
		}
		var secret corev1.Secret
		if err := yaml.Unmarshal(object.Raw, &secret); err != nil {
			return nil, fmt.Errorf("failed to parse Kubernetes objects from manifest %s: %w", o.manifests, err)
		}
		return controlplane.StoredFrom(o.charts, &secret)
	}
	return nil, command.Failf("%s", helm)
}

// readManifests reads a file, a URL, standard input, or every file of a
// directory.
func readManifests(w *command.World, name string) ([]byte, error) {
	entries, err := filepath.Glob(filepath.Join(name, "*"))
	if err != nil || len(entries) == 0 || name == "-" {
		return w.Read(name)
	}
	sort.Strings(entries)
	var out bytes.Buffer
	for _, entry := range entries {
		data, err := w.ReadFile(entry)
		var path *fs.PathError
		if errors.As(err, &path) && strings.Contains(err.Error(), "is a directory") {
			continue
		}
		if err != nil {
			return nil, err
		}
		out.WriteString("\n---\n")
		out.Write(data)
	}
	return out.Bytes(), nil
}

// issuerFitsProxies keeps an upgrade from cutting pods off: their proxies
// trust the anchors they were started with.
func issuerFitsProxies(ctx context.Context, w *command.World, o *options, c *cluster.Cluster, values map[string]any) error {
	pods, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: controlplane.ControlPlaneNS + "=" + o.Namespace})
	if err != nil {
		return fmt.Errorf("failed to list pods: %w", err)
	}
	chain, err := credentials.ParseCertificates(valuetree.String(values, "identity.issuer.tls.crtPEM"))
	if err != nil {
		return err
	}
	var bad []string
	for _, pod := range pods.Items {
		if pod.Namespace == o.Namespace {
			continue
		}
		bundle := trustAnchors(&pod)
		if bundle == "" {
			continue
		}
		anchors, err := credentials.ParseCertificates(bundle)
		if err == nil {
			err = credentials.Chain(chain, anchors, "", w.Now())
		}
		if err != nil {
			bad = append(bad, pod.Namespace+"/"+pod.Name)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return errors.New("You are attempting to use an issuer certificate which does not validate against the trust anchors of the following pods:" + //nolint:staticcheck // Known text.
		command.Lines(bad) + "\nThese pods do not have the current trust bundle and must be restarted. Use the --force flag to proceed anyway (this will likely prevent those pods from sending or receiving traffic).")
}

func trustAnchors(pod *corev1.Pod) string {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for _, container := range containers {
			if container.Name != "linkerd-proxy" {
				continue
			}
			for _, e := range container.Env {
				if e.Name == "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS" {
					return e.Value
				}
			}
		}
	}
	return ""
}
