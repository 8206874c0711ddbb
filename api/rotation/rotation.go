// Package rotation is the contract about the rotation of issuer and trust anchor between the identity controller, which
// rotates, and the CLI, which asks and shows: the names of the objects and the content of the ConfigMap through which they
// talk. See docs/decisions/identity-rotation.md.
//
// Everything is plain data.
package rotation

import (
	"encoding/json"
	"fmt"
	"time"
)

// Names of the objects in the control plane's namespace.
const (
	// AnchorSecret has the trust anchor with its key, and during a rotation the next one.
	AnchorSecret = "linkerd-identity-trust-anchor"
	// ConfigMap has requests and status.
	ConfigMap = "linkerd-identity-rotation"
	// Lease says which replica rotates.
	Lease = "linkerd-identity-rotation"
	// WebhookLease says which replica replaces the certificates of webhooks.
	WebhookLease = "linkerd-webhook-certificates"
)

// Keys of AnchorSecret.
const (
	// KeyFirstCert and KeyFirstKey are the anchor of the installation. Nobody writes them later: whoever applies the manifest of
	// the installation again writes what is there.
	KeyFirstCert = "tls.crt"
	KeyFirstKey  = "tls.key"
	// KeyCurrentCert and KeyCurrentKey are the anchor that took its place, if one did.
	KeyCurrentCert = "current.crt"
	KeyCurrentKey  = "current.key"
	KeyCross       = "cross.crt"
	KeyNextCert    = "next.crt"
	KeyNextKey     = "next.key"
	KeyNextCross   = "next-cross.crt"
	// KeyRetired has fingerprints, one a line.
	KeyRetired = "retired"
)

// Keys of ConfigMap.
const (
	// KeyRequestIssuer and KeyRequestAnchor are when an operator asked for a new one, RFC 3339.
	KeyRequestIssuer = "request-issuer"
	KeyRequestAnchor = "request-anchor"
	// KeyRequestCancel is when an operator wanted no new anchor any more.
	KeyRequestCancel = "request-cancel"
	// KeyStatus is a Status.
	KeyStatus = "status"
	// KeyLeafLifetime is the lifetime that certificates are issued with, KeyOlderLeaves until when ones may live that were
	// issued with a longer one.
	KeyLeafLifetime = "leaf-lifetime"
	KeyOlderLeaves  = "older-leaves-until"
)

// AnnotationPublished of the trust roots says when the next anchor came into the bundle: its fingerprint, "@", RFC 3339.
const AnnotationPublished = "linkerd.io/identity-anchor-published"

// Backdate is how much earlier than they were made the certificates of anchors and issuers begin: they are valid at peers whose
// clocks are behind. Who makes one for the controller keeps to it, since a request is met by what was made after it.
const Backdate = time.Minute

// ValueEnabled is the chart's value that gives the credentials into the controller's hands.
const ValueEnabled = "identity.rotation.enabled"

// Values of the chart about the certificates of webhooks.
const (
	// ValueWebhooks gives them into the controller's hands, unless they are the user's.
	ValueWebhooks = "webhookCertificates.rotation.enabled"
	// ValueWebhooksRenewAt is the part of its life after which one is replaced.
	ValueWebhooksRenewAt = "webhookCertificates.rotation.renewAt"
	// ValueWebhooksRendered says that the chart makes the first ones.
	ValueWebhooksRendered = "webhookCertificates.rendered"
)

// Certificate tells of one certificate.
type Certificate struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"notAfter"`
	// Due is when it will be replaced.
	Due time.Time `json:"due"`
}

// Status is what goes on.
type Status struct {
	// Phase is steady, distributing or renewing.
	Phase string `json:"phase"`
	// Next says what comes next, Until when.
	Next  string    `json:"next"`
	Until time.Time `json:"until"`
	// Reported is when this was written: at each change, and once in ReportInterval.
	Reported time.Time    `json:"reported"`
	Issuer   *Certificate `json:"issuer,omitempty"`
	Anchor   *Certificate `json:"anchor,omitempty"`
	// NextAnchor is the anchor to come.
	NextAnchor *Certificate `json:"nextAnchor,omitempty"`
	// Error is why nothing can be done at present.
	Error string `json:"error,omitempty"`
}

// ReportInterval is how often an unchanged status is written again, so that a reader can tell that somebody is at work.
const ReportInterval = time.Hour

// ParseStatus reads a status from the data of ConfigMap; nil if there is none yet.
func ParseStatus(data map[string]string) (*Status, error) {
	text := data[KeyStatus]
	if text == "" {
		return nil, nil
	}
	var s Status
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("ConfigMap %s: %s: %w", ConfigMap, KeyStatus, err)
	}
	return &s, nil
}

// Neglected says why somebody should look: an error, or that nobody did what was due, or reported, for long. Empty is well.
func (s *Status) Neglected(now time.Time) string {
	switch {
	case s.Error != "":
		return s.Error
	case now.Sub(s.Reported) > 3*ReportInterval:
		return fmt.Sprintf("no report since %s", s.Reported.Format(time.RFC3339))
	case now.Sub(s.Until) > ReportInterval:
		return fmt.Sprintf("%s should have happened on %s", s.Next, s.Until.Format(time.RFC3339))
	}
	return ""
}
