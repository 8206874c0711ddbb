package identity_test

import (
	"crypto/sha256"
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

	// Another anchor beside the old one, then one that does not fit the issuer.
	other := newAuthority(t, "other", nil, 20*365*24*time.Hour, true)
	f.writeRoots(t, f.root, other)
	f.creds.Reload()
	if got := ask(sum[:]); string(got.GetBundle()) != string(certPEM(f.root, other)) {
		t.Errorf("got %q", got.GetBundle())
	}
	if ttl := time.Duration(f.creds.AnchorTTL()) * time.Second; ttl < 19*365*24*time.Hour {
		t.Errorf("the last anchor ends in %s", ttl)
	}
	f.writeRoots(t, other)
	f.creds.Reload()
	if got := ask(sum[:]); string(got.GetBundle()) != string(certPEM(f.root, other)) {
		t.Error("proxies were told of anchors under which no certificate of this issuer is good")
	}

	trust.Lifetimes.Issuance = 30 * time.Second
	if got := ask(nil).GetAskAgain().AsDuration(); got != 3*time.Second {
		t.Errorf("ask again after %s", got)
	}
}
