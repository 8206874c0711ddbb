package identity

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
)

// Sparing is Events that tells of the certificates of a ServiceAccount once in a while, with how many there were meanwhile:
// an object for each certificate of each pod fills the store of a large cluster, where nobody reads it. All else is told as it is.
// It may be used from any goroutine. Source: control plane chapter, section 18.4.
type Sparing struct {
	Events
	every time.Duration

	mu    sync.Mutex // guards what follows
	told  map[account]*issuance
	swept time.Time
}

var _ Events = (*Sparing)(nil)

// account names a ServiceAccount.
type account struct{ namespace, name string }

// issuance is what was told of an account.
type issuance struct {
	at time.Time
	// since counts the certificates that were not told of.
	since int
}

// NewSparing passes on to events, of certificates one for each ServiceAccount in the time given.
func NewSparing(events Events, every time.Duration) *Sparing {
	return &Sparing{Events: events, every: every, told: map[account]*issuance{}, swept: time.Now()}
}

// IssuedLeafCertificate implements Events.
func (s *Sparing) IssuedLeafCertificate(namespace, serviceAccount, message string) {
	if more, ok := s.worth(account{namespace, serviceAccount}, time.Now()); ok {
		if more > 0 {
			message += fmt.Sprintf(" (and %d others since the last event)", more)
		}
		s.Events.IssuedLeafCertificate(namespace, serviceAccount, message)
	}
}

// worth says whether to tell of a certificate, and of how many nothing was told.
func (s *Sparing) worth(a account, now time.Time) (more int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.told[a]
	if known != nil && now.Sub(known.at) < s.every {
		known.since++
		return 0, false
	}
	if known != nil {
		more = known.since
	}
	s.told[a] = &issuance{at: now}
	if now.Sub(s.swept) >= s.every {
		// Accounts that are gone, or whose pods are.
		s.swept = now
		for name, i := range s.told {
			if now.Sub(i.at) >= 2*s.every {
				delete(s.told, name)
			}
		}
	}
	return more, true
}

// Recorder is the Events that writes Kubernetes Events. Source: control plane chapter, section 11.
type Recorder struct {
	// Recorder takes the events; it does not block.
	Recorder record.EventRecorder
	// ControllerNamespace is where the Deployment of the issuer is.
	ControllerNamespace string
}

var _ Events = Recorder{}

func (r Recorder) issuer(kind, reason, message string) {
	r.Recorder.Event(&corev1.ObjectReference{
		APIVersion: "apps/v1", Kind: "Deployment", Namespace: r.ControllerNamespace, Name: names.DeploymentIdentity,
	}, kind, reason, message)
}

// IssuerUpdated implements Events.
func (r Recorder) IssuerUpdated(message string) {
	r.issuer(corev1.EventTypeNormal, "IssuerUpdated", message)
}

// IssuerUpdateSkipped implements Events.
func (r Recorder) IssuerUpdateSkipped(message string) {
	r.issuer(corev1.EventTypeWarning, "IssuerUpdateSkipped", message)
}

// IssuerValidationFailed implements Events.
func (r Recorder) IssuerValidationFailed(message string) {
	r.issuer(corev1.EventTypeWarning, "IssuerValidationFailed", message)
}

// IssuedLeafCertificate implements Events.
func (r Recorder) IssuedLeafCertificate(namespace, serviceAccount, message string) {
	r.Recorder.Event(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "ServiceAccount", Namespace: namespace, Name: serviceAccount,
	}, corev1.EventTypeNormal, "IssuedLeafCertificate", message)
}

// Rotated tells of a step of the rotation of issuer or trust anchor.
func (r Recorder) Rotated(message string) {
	r.issuer(corev1.EventTypeNormal, "IdentityRotation", message)
}

// WebhookCertificate tells of a step of the replacement of a webhook's certificate.
func (r Recorder) WebhookCertificate(message string) {
	r.issuer(corev1.EventTypeNormal, "WebhookCertificate", message)
}

// WebhookCertificateFailed tells what keeps a webhook's certificate from being replaced.
func (r Recorder) WebhookCertificateFailed(message string) {
	r.issuer(corev1.EventTypeWarning, "WebhookCertificateFailed", message)
}
