package serving

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/linkerd-go/linkerd-go/api/rotation"
)

// Policy says how long certificates live and how long changes take to arrive.
type Policy struct {
	// Lifetime is that of new certificates.
	Lifetime time.Duration
	// RenewAt is the part of its life, between 0 and 1, after which a certificate is replaced.
	RenewAt float64
	// Margin is how long mounted files take to follow their Secret, and API servers a webhook's configuration.
	Margin time.Duration
}

// Validate refuses lifetimes in which a replacement cannot end before the certificate does.
func (p Policy) Validate() error {
	switch {
	case p.Lifetime <= 0:
		return fmt.Errorf("the lifetime of certificates must be positive: %s", p.Lifetime)
	case p.RenewAt <= 0 || p.RenewAt >= 1:
		return fmt.Errorf("certificates must be renewed at a part of their life between 0 and 1, not %g", p.RenewAt)
	case p.Margin < 0:
		return fmt.Errorf("the margin must not be negative: %s", p.Margin)
	case p.Lifetime-time.Duration(p.RenewAt*float64(p.Lifetime)) < 3*p.Margin:
		return fmt.Errorf("a certificate of %s that is renewed at %g of its life does not leave time for the change (%s)", p.Lifetime, p.RenewAt, 3*p.Margin)
	}
	return nil
}

// due is when a certificate is to be replaced.
func (p Policy) due(c *x509.Certificate) time.Time {
	// Ours begin a little before they are made.
	made := c.NotBefore.Add(rotation.Backdate)
	return made.Add(time.Duration(p.RenewAt * float64(c.NotAfter.Sub(made)))).Truncate(time.Second)
}

// World is what decisions are made from: a Secret, the configuration of the webhook that serves it, and the time. It is not
// changed.
type World struct {
	Now time.Time
	// Current is what is served, nil if there is nothing that could be. Next takes its place, nil if there is none.
	Current, Next *Pair
	// Served is when Current came into the Secret, zero if that was not noted: somebody else wrote it.
	Served time.Time
	// Earlier are certificates that may still be served where a file is late.
	Earlier []*x509.Certificate
	// Bundle is what the API server trusts; Published is when Next came into it, zero if that was not noted.
	Bundle    []*x509.Certificate
	Published time.Time
}

// Step is what is to be done, one write to one object.
type Step string

// The steps.
const (
	// Wait does nothing until Decision.Until.
	Wait Step = "wait"
	// Make makes Next.
	Make Step = "make the next certificate"
	// Note keeps when Current was first seen, and what was before it.
	Note Step = "note the certificate"
	// Publish makes the bundle that of Decision.Bundle.
	Publish Step = "publish the bundle"
	// Promote makes Next Current.
	Promote Step = "serve the next certificate"
)

// Decision is the next step.
type Decision struct {
	Step Step
	// Reason says why, for people.
	Reason string
	// Bundle is what to publish.
	Bundle []*x509.Certificate
	// Until is the end of a wait.
	Until time.Time
}

// Decide says what to do now. It is a pure function. The order of its cases is what makes each moment safe: what is served, or may
// be, is trusted before anything else is done, and ceases to be trusted last.
func Decide(w World, p Policy) Decision {
	good := w.Current != nil && w.Now.Before(w.Current.Cert.NotAfter)
	if w.Current != nil && w.Served.IsZero() {
		return Decision{Step: Note, Reason: "it is not known since when it is served"}
	}
	if w.Next == nil {
		switch {
		case w.Current == nil:
			return Decision{Step: Make, Reason: "there is none that could be served"}
		case !good:
			return Decision{Step: Make, Reason: "the certificate has expired"}
		case !w.Now.Before(p.due(w.Current.Cert)):
			return Decision{Step: Make, Reason: "the certificate is due"}
		}
	}
	settled := w.Served.Add(p.Margin)
	var wanted []*x509.Certificate
	if w.Next != nil {
		wanted = append(wanted, w.Next.Cert)
	}
	if w.Current != nil {
		wanted = append(wanted, w.Current.Cert)
	}
	if w.Now.Before(settled) {
		wanted = with(wanted, w.Earlier)
	}
	if slices.ContainsFunc(wanted, func(c *x509.Certificate) bool { return !contains(w.Bundle, c) }) || w.Next != nil && w.Published.IsZero() {
		reason := "what is served is not trusted"
		if w.Next != nil {
			reason = "the next certificate is to be trusted"
		}
		return Decision{Step: Publish, Reason: reason, Bundle: with(wanted, w.Bundle)}
	}
	if w.Next != nil {
		if until := w.Published.Add(p.Margin); good && w.Now.Before(until) {
			return Decision{Step: Wait, Reason: "API servers learn to trust the next certificate", Until: until}
		}
		return Decision{Step: Promote, Reason: "it is trusted"}
	}
	if len(w.Bundle) > len(wanted) || len(wanted) > 1 {
		if w.Now.Before(settled) {
			return Decision{Step: Wait, Reason: "webhooks begin to serve the certificate", Until: settled}
		}
		return Decision{Step: Publish, Reason: "no earlier certificate is served any more", Bundle: wanted}
	}
	return Decision{Step: Wait, Reason: "the certificate is renewed", Until: p.due(w.Current.Cert)}
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, c.Equal)
}

// maxBundle limits what is trusted: more certificates than this in the time that a file needs to follow are a fault elsewhere.
const maxBundle = 8

// with adds what is missing in a list, at its end, and leaves out what is there twice.
func with(list, more []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range slices.Concat(list, more) {
		if len(out) < maxBundle && !contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
