// Package serving replaces the certificates that the control plane's webhooks serve with, long before they expire, without
// a restart and without an admission request that fails.
//
// A certificate lies in the webhook's Secret, from which its pods serve, and in the bundle of the webhook's configuration, which
// says what API servers trust. Both take their time to be followed. So the next certificate is made and kept beside the
// present one; the bundle trusts both; later the next one is served; later still the bundle trusts it alone. Decide is
// the heart: a pure function from what the cluster holds to the next step, which is always one write to one object. Controller reads
// the objects, asks Decide, carries the step out, and begins again; all that it remembers is what it has complained of.
//
//	c, err := serving.New(serving.Options{...})
//	err = c.Run(ctx) // works while this replica holds the lease
//
// Run is called once; nothing else may be called meanwhile. The other functions may be called from any goroutine. Why it is done so
// is in docs/decisions/webhook-certificates.md. Source: control plane chapter, sections 1.4, 1.5 and 18.1.
package serving

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"github.com/linkerd-go/linkerd-go/api/rotation"
	"github.com/linkerd-go/linkerd-go/internal/lease"
)

// Options are the parts of a Controller. All must be set but Create.
type Options struct {
	Client kubernetes.Interface
	// Namespace is that of the control plane.
	Namespace string
	// Webhooks are those whose certificates are the control plane's own.
	Webhooks []Webhook
	Policy   Policy
	// Interval is the time between looks at the objects: two small reads for each webhook.
	Interval time.Duration
	// Create says that Secrets that are missing are made.
	Create bool
	// Identity names this replica in the lease.
	Identity string
	// Event tells an operator of a step, Failure of what keeps one from being done. Neither may block.
	Event, Failure func(message string)
	Logger         *slog.Logger
}

// Controller replaces certificates.
type Controller struct {
	o Options
	// said is the last complaint about each webhook, so that none is made once an interval.
	said map[string]string
}

// New returns a controller, or why its lifetimes cannot work.
func New(o Options) (*Controller, error) {
	if err := o.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("webhook certificates: %w", err)
	}
	return &Controller{o: o, said: map[string]string{}}, nil
}

// Run works while this process has the lease, until ctx is done. Its last act is to give the lease back.
func (c *Controller) Run(ctx context.Context) error {
	return lease.Run(ctx, lease.Options{
		Client: c.o.Client, Namespace: c.o.Namespace, Name: rotation.WebhookLease, Identity: c.o.Identity, Logger: c.o.Logger,
	}, c.work)
}

// work looks at the objects once an interval until ctx is done.
func (c *Controller) work(ctx context.Context) {
	c.o.Logger.Info("keeping certificates of webhooks", "webhooks", services(c.o.Webhooks))
	tick := time.NewTicker(c.o.Interval)
	defer tick.Stop()
	for {
		for _, h := range c.o.Webhooks {
			err := c.Settle(ctx, h)
			if ctx.Err() != nil {
				return
			}
			c.complain(h, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// complain tells of an error when it is new.
func (c *Controller) complain(h Webhook, err error) {
	if apierrors.IsConflict(err) {
		// Somebody else wrote; what they wrote is looked at next.
		c.o.Logger.Debug("object changed meanwhile", "webhook", h.Service, "error", err)
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if c.said[h.Service] == text {
		return
	}
	c.said[h.Service] = text
	if err == nil {
		c.o.Logger.Info("certificate of the webhook can be kept again", "webhook", h.Service)
		return
	}
	c.o.Logger.Error("certificate of the webhook cannot be kept", "webhook", h.Service, "error", err)
	c.o.Failure(fmt.Sprintf("Certificate of webhook %s cannot be replaced: %s", h.Service, text))
}

// maxSteps ends a series of steps without a wait, of which there should be four at most.
const maxSteps = 8

// Settle carries out the steps for a webhook until there is one to wait for. An error may be met at any point and leaves a state
// from which the next call goes on.
func (c *Controller) Settle(ctx context.Context, h Webhook) error {
	for range maxSteps {
		o, err := c.read(ctx, h)
		if err != nil {
			return err
		}
		w := o.world(time.Now())
		d := Decide(w, c.o.Policy)
		if d.Step == Wait {
			return nil
		}
		if err := c.do(ctx, h, o, w, d); err != nil {
			return fmt.Errorf("%s: %w", d.Step, err)
		}
		c.o.Logger.Info("step of a webhook's certificate", "webhook", h.Service, "step", string(d.Step), "reason", d.Reason)
		if d.Step != Note {
			c.o.Event(fmt.Sprintf("Certificate of webhook %s: %s, because %s", h.Service, d.Step, d.Reason))
		}
	}
	return fmt.Errorf("it does not come to rest after %d steps", maxSteps)
}

// do carries out one step.
func (c *Controller) do(ctx context.Context, h Webhook, o *objects, w World, d Decision) error {
	switch d.Step {
	case Note:
		return c.write(ctx, o, o.noted(w.Current, w.Earlier, w.Now))
	case Make:
		next, err := NewPair(o.host, c.o.Policy.Lifetime, w.Now)
		if err != nil {
			return err
		}
		return c.write(ctx, o, o.withNext(next, w.Now))
	case Publish:
		return c.publish(ctx, h, o, d.Bundle, w.Next, w.Now)
	case Promote:
		earlier := w.Earlier
		if w.Current != nil && !w.Now.Before(w.Served.Add(c.o.Policy.Margin)) {
			earlier = []*x509.Certificate{w.Current.Cert} // what was before it is not served any more
		}
		return c.write(ctx, o, o.serving(w.Next, earlier, w.Now))
	}
	return fmt.Errorf("unknown step %q", d.Step)
}
