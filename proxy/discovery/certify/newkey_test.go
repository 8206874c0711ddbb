package certify

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	identitypb "github.com/linkerd-go/linkerd-go/api/lean/identity"
	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

// TestEachRenewalHasItsOwnKey: the first certificate is for the key of the files,
// each one after it for a key that was not there before. Without a new key what
// there is stays in use.
func TestEachRenewalHasItsOwnKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testca.New(t)
		store := ca.EmptyStore(t, me)
		first, csr, err := identityboot.NewKey(me)
		if err != nil {
			t.Fatal(err)
		}
		errNoKey := errors.New("no randomness")
		ctx, cancel := context.WithCancel(t.Context())
		var keys []*ecdsa.PublicKey
		var outcomes []error
		keyFails := false
		err = Run(ctx, Config{
			Store: store, Key: first, CSR: csr, TokenFile: token(t, "token"), Log: slog.New(slog.DiscardHandler),
			NewKey: func() (crypto.Signer, []byte, error) {
				if keyFails {
					return nil, nil, errNoKey
				}
				return identityboot.NewKey(me)
			},
			Request: func(_ context.Context, r *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
				request, err := x509.ParseCertificateRequest(r.GetCertificateSigningRequest())
				if err != nil || request.CheckSignature() != nil || len(request.DNSNames) != 1 || request.DNSNames[0] != me {
					t.Errorf("request %d: %v", len(keys), err)
				}
				keys = append(keys, request.PublicKey.(*ecdsa.PublicKey))
				ca.NotBefore, ca.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
				chain := ca.Issue(t, request.PublicKey, me)
				return &identitypb.CertifyResponse{
					LeafCertificate: chain[0], IntermediateCertificates: chain[1:], ValidUntil: lean.NewTimestamp(ca.NotAfter),
				}, nil
			},
			Refreshed: func(_ time.Time, err error) {
				outcomes = append(outcomes, err)
				used := store.Leaf().Get().Certificate.PrivateKey.(crypto.Signer).Public()
				if last := keys[len(keys)-1]; !last.Equal(used) {
					t.Errorf("after attempt %d another key is in use than was certified last", len(outcomes))
				}
				switch len(outcomes) {
				case 3:
					keyFails = true
				case 4:
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if len(keys) != 3 || !keys[0].Equal(first.Public()) {
			t.Fatalf("%d certificates, the first for the key of the files: %v", len(keys), keys[0].Equal(first.Public()))
		}
		if keys[1].Equal(keys[0]) || keys[2].Equal(keys[1]) || keys[2].Equal(keys[0]) {
			t.Error("a key was certified twice")
		}
		if !errors.Is(outcomes[3], errNoKey) {
			t.Errorf("without a key: %v", outcomes[3])
		}
	})
}
