package certify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	identitypb "github.com/linkerd-go/linkerd-go/api/lean/identity"
	trustpb "github.com/linkerd-go/linkerd-go/api/lean/trust"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

// controller plays the identity controller in virtual time.
type controller struct {
	// mu guards everything, the authorities included.
	mu     sync.Mutex
	issuer *testca.CA
	bundle []byte
	err    error

	asked, certified int
}

func (c *controller) ask(_ context.Context, r *trustpb.GetBundleRequest) (*trustpb.GetBundleResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.err != nil {
		return nil, c.err
	}
	resp := &trustpb.GetBundleResponse{AskAgain: lean.NewDuration(time.Minute)}
	if sum := sha256.Sum256(c.bundle); !bytes.Equal(sum[:], r.GetHave()) {
		resp.Bundle = c.bundle
	}
	return resp, nil
}

// TestTrustAnchorsFollow takes a proxy through a rotation: the anchors that it
// was started with leave, without a restart, and without a moment in which it
// trusts nobody.
func TestTrustAnchorsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := testca.New(t), testca.New(t)
		both := append(append([]byte(nil), next.PEM...), old.PEM...)
		store := old.EmptyStore(t, me)
		key := testca.NewKey(t)
		c := &controller{issuer: old, bundle: old.PEM}
		var kept []byte
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Config{
				Store: store, Key: key, CSR: []byte("csr"), TokenFile: token(t, "token"), Log: slog.New(slog.DiscardHandler),
				Request: func(context.Context, *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
					c.mu.Lock()
					defer c.mu.Unlock()
					c.certified++
					ca := c.issuer
					ca.NotBefore, ca.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
					chain := ca.Issue(t, key.Public(), me)
					return &identitypb.CertifyResponse{
						LeafCertificate: chain[0], IntermediateCertificates: chain[1:], ValidUntil: lean.NewTimestamp(ca.NotAfter),
					}, nil
				},
				Ask:  c.ask,
				Keep: func(bundle []byte) error { kept = bundle; return nil },
			})
		}()
		// pass lets a time pass, with mu held before and after.
		c.mu.Lock()
		defer c.mu.Unlock()
		pass := func(d time.Duration) {
			c.mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			c.mu.Lock()
		}
		// trusts asks the store in the way a handshake does.
		trusts := func(ca *testca.CA) bool {
			ca.NotBefore, ca.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
			probe := testca.NewKey(t)
			var chain []*x509.Certificate
			for _, der := range ca.Issue(t, probe.Public(), "peer") {
				cert, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				chain = append(chain, cert)
			}
			return store.Verify(chain) == nil
		}
		expect := func(what string, wantOld, wantNext bool, bundle []byte, certified int) {
			t.Helper()
			if got := trusts(old); got != wantOld {
				t.Errorf("%s: trusts the old anchor: %v", what, got)
			}
			if got := trusts(next); got != wantNext {
				t.Errorf("%s: trusts the next anchor: %v", what, got)
			}
			if !bytes.Equal(kept, bundle) {
				t.Errorf("%s: kept %d bytes, want %d", what, len(kept), len(bundle))
			}
			if c.certified != certified {
				t.Errorf("%s: certified %d times, want %d", what, c.certified, certified)
			}
		}
		pass(time.Second)
		expect("at the start", true, false, old.PEM, 1)
		c.bundle = both
		pass(70 * time.Second)
		expect("the next anchor came", true, true, both, 1)
		if c.asked > 3 {
			t.Errorf("asked %d times in a minute", c.asked)
		}
		c.err = errors.New("away")
		pass(10 * time.Minute)
		expect("nobody answers", true, true, both, 1)
		c.err = nil

		// The old anchor leaves while the proxy has a certificate of it: it
		// gets another one first, and never is without.
		c.issuer, c.bundle = next, next.PEM
		pass(2 * time.Minute)
		expect("the old anchor left", false, true, next.PEM, 2)

		// A bundle under which no certificate can be had is not used.
		stranger := testca.New(t)
		c.bundle = stranger.PEM
		pass(70 * time.Second)
		// Each question is an attempt, and there is about one a minute.
		tried := c.certified
		if tried < 3 || tried > 4 {
			t.Errorf("wrong anchors: certified %d times", tried)
		}
		expect("wrong anchors", false, true, next.PEM, tried)
		c.bundle = []byte("nonsense")
		pass(70 * time.Second)
		expect("no anchors", false, true, next.PEM, tried)
		c.bundle = next.PEM

		// Upstream's controller is asked again with each certificate only.
		c.err = rpc.Errorf(rpc.Unimplemented, "unknown service")
		pass(5 * time.Minute)
		asked := c.asked
		pass(10 * time.Hour)
		if c.asked != asked {
			t.Errorf("asked %d times a controller that does not know the question", c.asked-asked)
		}
		pass(10 * time.Hour)
		if c.asked != asked+1 {
			t.Errorf("asked %d times with a renewal, want once", c.asked-asked)
		}
		c.mu.Unlock()
		cancel()
		err := <-done
		c.mu.Lock()
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestRenewIsAllOrNothing gives a store anchors and a certificate that do not
// belong together.
func TestRenewIsAllOrNothing(t *testing.T) {
	old, next := testca.New(t), testca.New(t)
	store := old.Store(t, me)
	key := testca.NewKey(t)
	before := store.Leaf().Get()
	if err := store.Trust(next.PEM); !errors.Is(err, meshtls.ErrCutOff) {
		t.Errorf("anchors that cut off the own certificate: %v", err)
	}
	if err := store.Renew(next.PEM, old.Issue(t, key.Public(), me), key); err == nil || store.Leaf().Get() != before {
		t.Errorf("a certificate of another anchor's: %v", err)
	}
	if err := store.Renew(next.PEM, next.Issue(t, key.Public(), me), key); err != nil || store.Leaf().Get() == before {
		t.Error(err)
	}
	if err := store.SetCertificate(old.Issue(t, key.Public(), me), key); err == nil {
		t.Error("the old anchor is still trusted")
	}
}
