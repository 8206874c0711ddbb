package identity_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	trustpb "github.com/linkerd-go/linkerd-go/api/proto/trust"
	"github.com/linkerd-go/linkerd-go/control/identity"
)

// TestBundleFollowsTheAnchors asks as a proxy does, while the anchors change.
func TestBundleFollowsTheAnchors(t *testing.T) {
	f := newFixture(t, time.Hour, nil)
	trust := &identity.Trust{Credentials: f.creds, Lifetimes: identity.Lifetimes{Issuance: 24 * time.Hour}}
	if _, err := trust.GetBundle(t.Context(), &trustpb.GetBundleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("before the issuer is loaded: %v", err)
	}
	f.load(t)
	ask := func(have []byte) *trustpb.GetBundleResponse {
		t.Helper()
		answer, err := trust.GetBundle(t.Context(), &trustpb.GetBundleRequest{Have: have})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	first := ask(nil)
	if string(first.GetBundle()) != string(certPEM(f.root)) || first.GetAskAgain().AsDuration() != 5*time.Minute {
		t.Errorf("got %v", first)
	}
	sum := sha256.Sum256(first.GetBundle())
	if again := ask(sum[:]); len(again.GetBundle()) > 0 {
		t.Error("the same bundle was sent twice")
	}

	// Another anchor beside the old one.
	other := newAuthority(t, "other", nil, 20*365*24*time.Hour, true)
	f.writeRoots(t, f.root, other)
	f.creds.Reload()
	if got := ask(sum[:]); string(got.GetBundle()) != string(certPEM(f.root, other)) {
		t.Errorf("got %q", got.GetBundle())
	}
	if ttl := time.Duration(f.creds.AnchorTTL()) * time.Second; ttl < 19*365*24*time.Hour {
		t.Errorf("the last anchor ends in %s", ttl)
	}
	// Bytes that are no bundle leave the old one in use.
	if err := os.WriteFile(f.files.Roots, []byte("soon"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.creds.Reload()
	if got := ask(nil); string(got.GetBundle()) != string(certPEM(f.root, other)) {
		t.Errorf("got %q", got.GetBundle())
	}

	trust.Lifetimes.Issuance = 30 * time.Second
	if got := ask(nil).GetAskAgain().AsDuration(); got != 3*time.Second {
		t.Errorf("ask again after %s", got)
	}
}

// TestAnchorIsReplacedUnprepared takes the old anchor out of the bundle as the new one comes in, as happens when cert-manager
// renews the only source of a Bundle: the issuer follows a day later, and the leaves another day.
func TestAnchorIsReplacedUnprepared(t *testing.T) {
	f := newFixture(t, time.Hour, authenticated("system:serviceaccount:emo:web")).load(t)
	lifetimes := identity.Lifetimes{Issuance: 24 * time.Hour, ClockSkew: time.Minute}
	bundle := func(after time.Duration) []string {
		t.Helper()
		var out []string
		for rest := f.creds.Bundle(lifetimes, time.Now().Add(after)); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				return out
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c.Subject.CommonName)
		}
	}
	check := func(when string, after time.Duration, want ...string) {
		t.Helper()
		if got := bundle(after); !slices.Equal(got, want) {
			t.Errorf("%s: bundle %v, want %v", when, got, want)
		}
	}
	certify := func(when string) {
		t.Helper()
		if _, err := f.service.Certify(t.Context(), request(t)); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	check("at first", 0, "root")
	f.events.take()

	other := newAuthority(t, "other root", nil, time.Hour, true)
	f.writeRoots(t, other)
	f.creds.Reload()
	check("the new anchor alone in the file", 0, "other root", "root")
	certify("before the issuer follows")
	f.creds.Reload()
	if got := strings.Join(f.events.take(), ","); strings.Count(got, "IssuerUpdateSkipped") != 1 || !strings.Contains(got, "stays trusted") {
		t.Errorf("events %q", got)
	}

	f.write(t, newAuthority(t, "second", other, time.Hour, true), other)
	f.creds.Reload()
	certify("after the issuer followed")
	check("leaves of the old issuer live", 24*time.Hour, "other root", "root")
	check("they have ended", 24*time.Hour+3*time.Minute, "other root")

	// A stranger's issuer does not bring its anchor with it.
	stranger := newAuthority(t, "stranger", nil, time.Hour, true)
	f.write(t, newAuthority(t, "third", stranger, time.Hour, true), other)
	f.creds.Reload()
	check("an issuer of somebody else", 24*time.Hour+3*time.Minute, "other root")
}
