package names

import (
	"crypto/sha256"
	"encoding/binary"
)

// MetricTrustAnchorsHash is the gauge of a proxy that says which trust anchors it uses: TrustBundleHash of the bundle that the
// identity controller gave it, or 0 before it gave any. An addition of ours: proxies of others do not have it.
const MetricTrustAnchorsHash = "control_identity_trust_anchors_hash"

// TrustBundleHash makes a number of a bundle of trust anchors in PEM, as the ConfigMap has it: the first six bytes of its SHA-256,
// so that it is exact as a float.
func TrustBundleHash(bundle []byte) float64 {
	sum := sha256.Sum256(bundle)
	return float64(binary.BigEndian.Uint64(sum[:8]) >> 16)
}
