package names

// ConfigMapFormerAnchors has the trust anchors of issuers that are not in use any more, as long as certificates under them live;
// the identity controller's replicas tell each other of them there. ConfigMapFormerAnchorsKey is a list in JSON. An addition of
// ours.
const (
	ConfigMapFormerAnchors    = "linkerd-identity-former-anchors"
	ConfigMapFormerAnchorsKey = "anchors"
)
