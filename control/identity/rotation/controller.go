// Package rotation replaces the issuer and the trust anchor of the mesh, long before they expire, without anything being
// restarted. What it does and why it is safe at every point is in docs/decisions/identity-rotation.md.
//
// Decide is the heart: a pure function from what the cluster holds to the next step, which is always one write to one object.
// Controller reads the objects, asks Decide, carries the step out, and begins again; it remembers nothing between.
//
//	c := rotation.New(rotation.Options{...})
//	err := c.Run(ctx) // while this replica holds the lease
//
// Run is called once; nothing else may be called meanwhile. The other functions may be called from any goroutine.
package rotation

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	api "github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/lease"
)

// Options are the parts of a Controller. All must be set.
type Options struct {
	Client kubernetes.Interface
	// Namespace is that of the control plane, TrustDomain the name below which identities are.
	Namespace, TrustDomain string
	Policy                 Policy
	// Interval is the time between looks at the objects. Four small reads each; an operator waits for it.
	Interval time.Duration
	// Identity names this replica in the lease.
	Identity string
	// Event tells an operator of a step. It must not block.
	Event  func(message string)
	Logger *slog.Logger
}

// Controller rotates.
type Controller struct{ o Options }

// New returns a controller, or why its lifetimes cannot work.
func New(o Options) (*Controller, error) {
	if err := o.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("identity rotation: %w", err)
	}
	return &Controller{o}, nil
}

// Run rotates while this process has the lease, until ctx is done. Its last act is to give the lease back.
func (c *Controller) Run(ctx context.Context) error {
	return lease.Run(ctx, lease.Options{
		Client: c.o.Client, Namespace: c.o.Namespace, Name: api.Lease, Identity: c.o.Identity, Logger: c.o.Logger,
	}, c.work)
}

// work looks at the objects once an interval until ctx is done.
func (c *Controller) work(ctx context.Context) {
	tick := time.NewTicker(c.o.Interval)
	defer tick.Stop()
	for {
		err := c.Settle(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case apierrors.IsConflict(err):
			// Somebody else wrote; what they wrote is looked at next.
			c.o.Logger.Debug("object changed meanwhile", "error", err)
		case err != nil:
			c.o.Logger.Error("rotation cannot go on", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// maxSteps ends a series of steps without a wait, of which there should be four at most.
const maxSteps = 8

// Settle carries out steps until there is one to wait for, and reports it. An error may be met at any point and leaves a state
// from which the next call goes on.
func (c *Controller) Settle(ctx context.Context) error {
	for range maxSteps {
		o, err := read(ctx, c.o.Client, c.o.Namespace)
		if err != nil {
			return err
		}
		now := time.Now()
		if state := rememberLifetime(o.state, c.o.Policy, now); state != nil {
			if err := c.updateConfigMap(ctx, state); err != nil {
				return err
			}
			continue
		}
		w, err := o.world(now)
		if err != nil {
			return c.report(ctx, o.state, api.Status{Error: err.Error(), Reported: now.UTC().Truncate(time.Second), Until: now.UTC().Truncate(time.Hour)})
		}
		d := Decide(w, c.o.Policy)
		if d.Step == Wait {
			return c.report(ctx, o.state, status(w, d, c.o.Policy))
		}
		if err := c.do(ctx, o, w, d); err != nil {
			return fmt.Errorf("%s: %w", d.Step, err)
		}
		c.o.Logger.Info("rotation step", "step", string(d.Step), "reason", d.Reason)
		c.o.Event(fmt.Sprintf("Identity rotation: %s, because %s", d.Step, d.Reason))
	}
	return fmt.Errorf("rotation does not come to rest after %d steps", maxSteps)
}

// do carries out one step.
func (c *Controller) do(ctx context.Context, o *objects, w World, d Decision) error {
	k := w.Keys
	switch d.Step {
	case Publish:
		return c.updateConfigMap(ctx, writeBundle(o.roots, w, d.Bundle))
	case IssueCurrent:
		return c.issue(ctx, o.issuer, k.Current, k.Cross, w.Now)
	case IssueNext:
		return c.issue(ctx, o.issuer, k.Next, crossOfNext(k), w.Now)
	case MakeAnchor:
		next, err := newAnchor("root."+c.o.Namespace+"."+c.o.TrustDomain, c.o.Policy.AnchorLifetime, w.Now)
		if err != nil {
			return err
		}
		k.Next, k.NextCross = next, nil
		if w.Now.Before(k.Current.Cert.NotAfter) {
			if k.NextCross, err = crossSign(next.Cert, k.Current, w.Now); err != nil {
				return err
			}
		}
	case Abandon:
		// It leaves the bundle as an earlier one does.
		k = Keys{Current: k.Current, Cross: k.Cross, Retired: retire(k.Retired, k.Next)}
	case Promote:
		k = Keys{Current: k.Next, Cross: crossOfNext(k), Retired: retire(k.Retired, k.Current)}
	default:
		return fmt.Errorf("unknown step %q", d.Step)
	}
	secret, err := writeKeys(o.anchor, k)
	if err != nil {
		return err
	}
	return c.updateSecret(ctx, secret)
}

// maxRetired limits the fingerprints that are kept: the manifests that could bring an anchor back are not that old.
const maxRetired = 8

// retire adds an anchor to those that have left.
func retire(retired []string, anchor *Authority) []string {
	out := append([]string{fingerprint(anchor.Cert)}, retired...)
	return out[:min(len(out), maxRetired)]
}

// crossOfNext are the cross certificates for issuers of the next anchor.
func crossOfNext(k Keys) []*x509.Certificate {
	if k.NextCross == nil {
		return nil
	}
	cross := append([]*x509.Certificate{k.NextCross}, k.Cross...)
	return cross[:min(len(cross), maxCross)]
}

func (c *Controller) issue(ctx context.Context, secret *corev1.Secret, anchor *Authority, cross []*x509.Certificate, now time.Time) error {
	// Below some settling times a new issuer would be needed again before this one has come into use everywhere.
	until := lifeWith(cross, now.Add(c.o.Policy.IssuerLifetime), now.Add(4*c.o.Policy.settle()))
	issuer, err := newIssuer("identity."+c.o.Namespace+"."+c.o.TrustDomain, until, anchor, now)
	if err != nil {
		return err
	}
	out, err := writeIssuer(secret, issuer, cross)
	if err != nil {
		return err
	}
	return c.updateSecret(ctx, out)
}

// report writes the status if it changed.
func (c *Controller) report(ctx context.Context, state *corev1.ConfigMap, s api.Status) error {
	out, err := writeStatus(state, s)
	if err != nil || out == nil {
		return err
	}
	return c.updateConfigMap(ctx, out)
}

func (c *Controller) updateSecret(ctx context.Context, s *corev1.Secret) error {
	_, err := c.o.Client.CoreV1().Secrets(c.o.Namespace).Update(ctx, s, metav1.UpdateOptions{})
	return err
}

func (c *Controller) updateConfigMap(ctx context.Context, m *corev1.ConfigMap) error {
	_, err := c.o.Client.CoreV1().ConfigMaps(c.o.Namespace).Update(ctx, m, metav1.UpdateOptions{})
	return err
}
