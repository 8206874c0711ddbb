package identity

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/linkerd-go/linkerd-go/api/names"
)

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
