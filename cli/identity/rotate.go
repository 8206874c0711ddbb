package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/cli/controlplane"
	"github.com/linkerd-go/linkerd-go/internal/cluster"
	"github.com/linkerd-go/linkerd-go/internal/command"
)

type rotateOptions struct {
	*command.Globals
	anchor, issuer, cancel, status, force bool
}

// newRotate returns the command linkerd identity rotate, an addition of ours.
func newRotate(w *command.World, g *command.Globals) *cobra.Command {
	o := &rotateOptions{Globals: g}
	cmd := &cobra.Command{
		Use:   "rotate [--issuer | --anchor | --cancel | --status]",
		Args:  cobra.NoArgs,
		Short: "Replace the issuer or the trust anchor of the mesh",
		Long: `Replace the issuer or the trust anchor of the mesh.

The control plane does so by itself before they expire; this asks for it now.
Nothing has to be restarted: a new trust anchor is first distributed to every
proxy, then the issuer changes, and when all certificates have been renewed the
old anchor leaves. That takes about two lifetimes of certificates, two days
unless configured otherwise. Until the issuer changes a new anchor can be taken
back.

Credentials that the control plane did not make, such as those of cert-manager,
are replaced by who made them.`,
		Example: `  # A new issuer, under the present trust anchor.
  linkerd identity rotate

  # A new trust anchor, and with it a new issuer.
  linkerd identity rotate --anchor

  # No new trust anchor after all.
  linkerd identity rotate --cancel

  # How far it is.
  linkerd identity rotate --status`,
		RunE: func(cmd *cobra.Command, _ []string) error { return rotate(cmd.Context(), w, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.issuer, "issuer", false, "Replace the issuer (default)")
	f.BoolVar(&o.anchor, "anchor", false, "Replace the trust anchor, and with it the issuer")
	f.BoolVar(&o.cancel, "cancel", false, "Take a new trust anchor back that is being distributed")
	f.BoolVar(&o.status, "status", false, "Replace nothing, show what goes on")
	f.BoolVar(&o.force, "force", false, "Replace the trust anchor although other clusters are linked")
	for _, what := range []string{"anchor", "issuer"} {
		cmd.MarkFlagsMutuallyExclusive("status", "cancel", what)
	}
	return cmd
}

func rotate(ctx context.Context, w *command.World, o *rotateOptions) error {
	c, err := o.Connect(w)
	if err != nil {
		return err
	}
	config, err := c.Kube.CoreV1().ConfigMaps(o.Namespace).Get(ctx, controlplane.ConfigMapName, metav1.GetOptions{})
	if err != nil {
		return command.Failf("Cannot find Linkerd: %s", err)
	}
	values, err := controlplane.Values(config)
	if err != nil {
		return err
	}
	if !controlplane.Rotates(values) {
		return command.Failf("The issuer and the trust anchor of this installation were not made by the control plane (%s is not set),\n"+
			"which therefore does not replace them. Use the tool that made them, or linkerd upgrade with new files.", rotation.ValueEnabled)
	}
	maps := c.Kube.CoreV1().ConfigMaps(o.Namespace)
	if !o.status {
		key, what := rotation.KeyRequestIssuer, "a new issuer"
		switch {
		case o.cancel:
			cm, err := maps.Get(ctx, rotation.ConfigMap, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if err := refuseCancel(cm, w.Now()); err != nil {
				return err
			}
			key, what = rotation.KeyRequestCancel, "no new trust anchor"
		case o.anchor:
			if err := refuseLinked(ctx, c, o.force); err != nil {
				return err
			}
			key, what = rotation.KeyRequestAnchor, "a new trust anchor"
		}
		at := w.Now().UTC().Format(time.RFC3339)
		patch, err := json.Marshal(map[string]any{"data": map[string]string{key: at}})
		if err != nil {
			return err
		}
		if _, err := maps.Patch(ctx, rotation.ConfigMap, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("failed to ask for a rotation: %w", err)
		}
		fmt.Fprintf(w.Out, "Asked for %s. The control plane begins within a minute; `linkerd identity rotate --status` shows how far it is.\n", what)
		return nil
	}
	cm, err := maps.Get(ctx, rotation.ConfigMap, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return show(w.Out, cm, w.Now())
}

// refuseCancel says why a rotation cannot be taken back.
func refuseCancel(cm *corev1.ConfigMap, now time.Time) error {
	s, err := rotation.ParseStatus(cm.Data)
	if err != nil || s == nil {
		return err // who asks at once cancels what was not looked at yet
	}
	switch {
	case s.Phase == "renewing":
		return command.Failf("The issuer is of the new trust anchor already, and workloads have its certificates. The rotation ends by itself on %s;\n"+
			"after that --anchor makes another one.", s.Until.Format(time.RFC3339))
	case s.Anchor != nil && !now.Before(s.Anchor.Due):
		return command.Failf("The trust anchor is due: it was to be replaced from %s on, and would be again.", s.Anchor.Due.Format(time.RFC3339))
	}
	return nil
}

// refuseLinked refuses a new anchor while other clusters are linked: they have
// to trust it first, and nobody tells them.
func refuseLinked(ctx context.Context, c *cluster.Cluster, force bool) error {
	if force {
		return nil
	}
	links := schema.GroupVersionResource{Group: "multicluster.linkerd.io", Version: "v1alpha3", Resource: "links"}
	list, err := c.Dynamic.Resource(links).List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return nil
	case err != nil:
		return fmt.Errorf("failed to list links: %w", err)
	case len(list.Items) == 0:
		return nil
	}
	var names []string
	for _, l := range list.Items {
		names = append(names, l.GetNamespace()+"/"+l.GetName())
	}
	return command.Failf("Clusters are linked that share the trust anchor with this one. They have to trust the new anchor before this one\n"+
		"uses it, and nobody tells them. Use --force if they do not share it, or after you have read docs/identity.md.%s", command.Lines(names))
}

// show prints the status.
func show(out io.Writer, cm *corev1.ConfigMap, now time.Time) error {
	s, err := rotation.ParseStatus(cm.Data)
	if err != nil {
		return err
	}
	if s == nil {
		return errors.New("the control plane has not reported yet; is Deployment linkerd-identity running?")
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-14s"+format+"\n", append([]any{name}, args...)...)
	}
	certificate := func(name string, c *rotation.Certificate, due bool) {
		if c == nil {
			return
		}
		text := ""
		if due {
			text = ", replaced on " + c.Due.Format(time.RFC3339)
		}
		line(name, "%s (sha256 %s…), valid until %s%s", c.Name, c.Fingerprint, c.NotAfter.Format(time.RFC3339), text)
	}
	line("phase", "%s", s.Phase)
	if s.Error == "" {
		line("next", "%s, on %s", s.Next, s.Until.Format(time.RFC3339))
	}
	certificate("issuer", s.Issuer, s.NextAnchor == nil)
	certificate("trust anchor", s.Anchor, s.NextAnchor == nil)
	certificate("next anchor", s.NextAnchor, false)
	if why := s.Neglected(now); why != "" {
		line("problem", "%s", why)
		return command.Silent()
	}
	return nil
}
