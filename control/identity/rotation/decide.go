package rotation

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Policy says how long things live and how long changes take to arrive.
type Policy struct {
	// IssuerLifetime and AnchorLifetime are those of new certificates.
	IssuerLifetime, AnchorLifetime time.Duration
	// RenewAt is the part of its life, between 0 and 1, after which a certificate is replaced.
	RenewAt float64
	// Leaf is the life of workloads' certificates, Skew what is added to it at each end.
	Leaf, Skew time.Duration
	// Margin is how long mounted files take to follow their objects, and proxies to hear of it.
	Margin time.Duration
}

// Validate refuses lifetimes in which a rotation cannot end before the next begins.
func (p Policy) Validate() error {
	switch {
	case p.Leaf <= 0 || p.Skew < 0 || p.Margin < 0:
		return fmt.Errorf("lifetimes must be positive: leaf %s, skew %s, margin %s", p.Leaf, p.Skew, p.Margin)
	case p.RenewAt <= 0 || p.RenewAt >= 1:
		return fmt.Errorf("certificates must be renewed at a part of their life between 0 and 1, not %g", p.RenewAt)
	case p.left(p.IssuerLifetime) < p.settle():
		return fmt.Errorf("an issuer of %s that is renewed at %g of its life cannot outlive the certificates it signs (%s)", p.IssuerLifetime, p.RenewAt, p.settle())
	case p.AnchorLifetime < p.IssuerLifetime || p.left(p.AnchorLifetime) < 2*p.settle():
		return fmt.Errorf("a trust anchor of %s that is renewed at %g of its life does not leave time for a rotation (%s)", p.AnchorLifetime, p.RenewAt, 2*p.settle())
	}
	return nil
}

// left is what remains of a life when it is time to renew.
func (p Policy) left(lifetime time.Duration) time.Duration {
	return lifetime - time.Duration(p.RenewAt*float64(lifetime))
}

// settle is the time after which a change has reached every proxy that lives, and certificates from before it have ended.
func (p Policy) settle() time.Duration { return p.Leaf + 2*p.Skew + p.Margin }

// due is when a certificate is to be replaced.
func (p Policy) due(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(time.Duration(p.RenewAt * float64(life))).Truncate(time.Second)
}

// World is what decisions are made from: the objects, and the time. It is not changed.
type World struct {
	Now time.Time
	// Keys are the anchors, which the rest follows from.
	Keys Keys
	// Bundle is what is trusted; PublishedAt is when Keys.Next came into it, zero if that is not known.
	Bundle      []*x509.Certificate
	PublishedAt time.Time
	// Issuer is the issuer in use, nil if there is none that could be used.
	Issuer *x509.Certificate
	// IssuerRequested and AnchorRequested are when an operator asked for a new one, zero for never.
	IssuerRequested, AnchorRequested time.Time
	// CancelRequested is when an operator wanted no new anchor any more. It is of no effect on what was asked for later, on
	// what is due, or once an issuer is the next anchor's.
	CancelRequested time.Time
	// OlderLeaves is until when leaves may live that were issued with a longer lifetime than the present one.
	OlderLeaves time.Time
}

// Keys are the anchors whose keys we have.
type Keys struct {
	// Current signs issuers. Cross are certificates of its key by the anchors before it, the latest first.
	Current *Authority
	Cross   []*x509.Certificate
	// Next is the anchor to come, nil if there is none; NextCross is its key, signed by Current.
	Next      *Authority
	NextCross *x509.Certificate
	// Retired are fingerprints of anchors that have left, so that they leave again if somebody brings them back.
	Retired []string
}

// Step is what is to be done, one write to one object.
type Step string

// The steps.
const (
	// Wait does nothing until Decision.Until.
	Wait Step = "wait"
	// Publish makes the bundle that of Decision.Bundle.
	Publish Step = "publish"
	// IssueCurrent and IssueNext make an issuer under Keys.Current or Keys.Next.
	IssueCurrent Step = "issue under the current anchor"
	IssueNext    Step = "issue under the next anchor"
	// MakeAnchor makes Keys.Next.
	MakeAnchor Step = "make the next anchor"
	// Abandon takes Keys.Next back, by which nothing was signed yet.
	Abandon Step = "abandon the next anchor"
	// Promote makes Keys.Next the current anchor.
	Promote Step = "make the next anchor the current one"
)

// Phase is where a rotation is.
type Phase string

// The phases.
const (
	Steady       Phase = "steady"
	Distributing Phase = "distributing"
	Renewing     Phase = "renewing"
)

// Decision is the next step.
type Decision struct {
	Step  Step
	Phase Phase
	// Reason says why, for people.
	Reason string
	// Bundle is what to publish.
	Bundle []*x509.Certificate
	// Until is the end of a wait.
	Until time.Time
}

// Decide says what to do now. It is a pure function; the order of its cases is that of docs/decisions/identity-rotation.md:
// first what is needed for leaves to be trusted at all, then what is due, then what is left over.
func Decide(w World, p Policy) Decision {
	if w.Keys.Next != nil {
		return rotating(w, p)
	}
	return steady(w, p)
}

// steady decides while there is one anchor.
func steady(w World, p Policy) Decision {
	current := w.Keys.Current.Cert
	act := func(s Step, reason string) Decision { return Decision{Step: s, Phase: Steady, Reason: reason} }
	if !contains(w.Bundle, current) {
		return Decision{Step: Publish, Phase: Steady, Reason: "the current anchor is not in the bundle", Bundle: with(w.Bundle, current)}
	}
	if !signedBy(w.Issuer, current, w.Now) {
		if !w.Now.Before(current.NotAfter) {
			return act(MakeAnchor, "the anchor has expired")
		}
		return act(IssueCurrent, "the issuer is not one of the current anchor's")
	}
	// An anchor that left comes back with an older manifest. Its leaves have to end before it leaves again.
	settled := w.settled(issued(w.Issuer), p)
	if left := without(w.Bundle, w.Keys.Retired); len(left) < len(w.Bundle) && !w.Now.Before(settled) {
		return Decision{Step: Publish, Phase: Steady, Reason: "an earlier anchor is not needed any more", Bundle: left}
	}
	if asked(w.AnchorRequested, issued(current), w.Now) && w.AnchorRequested.After(w.CancelRequested) {
		return act(MakeAnchor, "a new anchor was asked for")
	}
	if !w.Now.Before(p.due(current)) {
		return act(MakeAnchor, "the anchor is due")
	}
	if asked(w.IssuerRequested, issued(w.Issuer), w.Now) {
		return act(IssueCurrent, "a new issuer was asked for")
	}
	// An issuer whose life was cut by that of its anchor is not due earlier for a successor with the same end.
	if !w.Now.Before(p.due(w.Issuer)) && w.Issuer.NotAfter.Before(current.NotAfter) {
		return act(IssueCurrent, "the issuer is due")
	}
	until, reason := p.due(current), "the anchor is renewed"
	if due := p.due(w.Issuer); due.Before(until) && w.Issuer.NotAfter.Before(current.NotAfter) {
		until, reason = due, "the issuer is renewed"
	}
	if len(without(w.Bundle, w.Keys.Retired)) < len(w.Bundle) && settled.Before(until) {
		until, reason = settled, "an earlier anchor leaves the bundle"
	}
	return Decision{Step: Wait, Phase: Steady, Reason: reason, Until: until}
}

// rotating decides while there are two anchors.
func rotating(w World, p Policy) Decision {
	current, next := w.Keys.Current.Cert, w.Keys.Next.Cert
	cancelled := !w.CancelRequested.Before(issued(next)) && !w.Now.Before(w.CancelRequested)
	if cancelled && w.Now.Before(p.due(current)) && !signedBy(w.Issuer, next, w.Now) {
		return Decision{Step: Abandon, Phase: Distributing, Reason: "it is not wanted any more"}
	}
	if !contains(w.Bundle, current) || !contains(w.Bundle, next) || w.PublishedAt.IsZero() {
		return Decision{Step: Publish, Phase: Distributing, Reason: "the next anchor is to be trusted", Bundle: with(w.Bundle, current, next)}
	}
	if signedBy(w.Issuer, next, w.Now) {
		until := w.settled(issued(w.Issuer), p)
		if w.Now.Before(until) {
			return Decision{Step: Wait, Phase: Renewing, Reason: "certificates of the earlier issuer end", Until: until}
		}
		return Decision{Step: Promote, Phase: Renewing, Reason: "certificates of the earlier issuer have ended"}
	}
	if !signedBy(w.Issuer, current, w.Now) {
		if w.Now.Before(current.NotAfter) {
			return Decision{Step: IssueCurrent, Phase: Distributing, Reason: "the issuer is not one of the current anchor's"}
		}
		// Nobody has a valid certificate; there is nothing to wait for.
		return Decision{Step: IssueNext, Phase: Distributing, Reason: "the anchor has expired"}
	}
	until := w.settled(w.PublishedAt, p)
	if w.Now.Before(until) {
		// Whatever the wait, there has to be an issuer that outlives it.
		if !w.Now.Before(p.due(w.Issuer)) && w.Issuer.NotAfter.Before(until) && w.Issuer.NotAfter.Before(current.NotAfter) {
			return Decision{Step: IssueCurrent, Phase: Distributing, Reason: "the issuer is due"}
		}
		return Decision{Step: Wait, Phase: Distributing, Reason: "the next anchor reaches every proxy", Until: until}
	}
	return Decision{Step: IssueNext, Phase: Distributing, Reason: "the next anchor has reached every proxy"}
}

// settled is when what was begun at start has taken effect everywhere.
func (w World) settled(start time.Time, p Policy) time.Time {
	end := start.Add(p.settle())
	if w.OlderLeaves.After(end) {
		return w.OlderLeaves
	}
	return end
}

// asked reports whether a request is not yet met by what was made at made.
func asked(request, made, now time.Time) bool {
	return !request.IsZero() && made.Before(request) && !now.Before(request)
}

func contains(bundle []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(bundle, c.Equal)
}

// with adds what is missing in a bundle, in front: the newest first.
func with(bundle []*x509.Certificate, certs ...*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(bundle)
	for _, c := range certs {
		if !contains(out, c) {
			out = append([]*x509.Certificate{c}, out...)
		}
	}
	return out
}

// without leaves out the certificates with the given fingerprints.
func without(bundle []*x509.Certificate, fingerprints []string) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(bundle), func(c *x509.Certificate) bool {
		return slices.Contains(fingerprints, fingerprint(c))
	})
}
