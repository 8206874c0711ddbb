package certify

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/api/lean"
	identitypb "github.com/linkerd-go/linkerd-go/api/lean/identity"
	fullidentitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/discovery"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/identityboot"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const me = "web.ns.serviceaccount.identity.linkerd.cluster.local"

func TestDelay(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		remains, want time.Duration
	}{
		{24 * time.Hour, 24 * time.Hour * 7 / 10}, {100 * 24 * time.Hour, 24 * time.Hour}, {10 * time.Second, 10 * time.Second},
		{100 * time.Second, 70 * time.Second}, {0, 10 * time.Second}, {-time.Hour, 10 * time.Second},
	} {
		if got := Delay(now, now.Add(c.remains), 10*time.Second, 24*time.Hour); got != c.want {
			t.Errorf("%v: %v, want %v", c.remains, got, c.want)
		}
	}
	if got := Delay(now, time.Time{}, time.Second, time.Hour); got != time.Second {
		t.Error(got)
	}
}

func token(t *testing.T, content string) string {
	f := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLifeCycle follows a day in virtual time: failures at first, then a
// certificate, its renewal, and answers that are refused.
func TestLifeCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testca.New(t)
		store := ca.EmptyStore(t, me)
		key := testca.NewKey(t)
		file := token(t, "token-1")
		start := time.Now()
		type answer struct {
			what   string // error, good, expired, stranger, no expiry
			token  string
			result string
			at     time.Duration
		}
		script := []answer{
			{"error", "token-1", "unavailable", 0},
			{"no expiry", "token-1", "without a valid expiry", 10 * time.Second},
			{"stranger", "token-1", "unknown authority", 20 * time.Second},
			{"good", "token-2", "", 30 * time.Second},
			// 70% of 24h later, then of what remains.
			{"expired", "token-2", "expired at", 30*time.Second + 24*time.Hour*7/10},
			{"good", "token-2", "", 30*time.Second + 24*time.Hour*91/100},
			{"error", "token-2", "unavailable", 30*time.Second + 24*time.Hour*161/100},
		}
		n := 0
		ctx, cancel := context.WithCancel(t.Context())
		var results []string
		err := Run(ctx, Config{
			Store: store, Key: key, CSR: []byte("csr"), TokenFile: file, Log: slog.New(slog.DiscardHandler),
			Request: func(_ context.Context, r *identitypb.CertifyRequest) (*identitypb.CertifyResponse, error) {
				a := script[n]
				n++
				if d := time.Since(start); d != a.at {
					t.Errorf("request %d after %v, want %v", n, d, a.at)
				}
				if string(r.GetToken()) != a.token || r.GetIdentity() != me || string(r.GetCertificateSigningRequest()) != "csr" {
					t.Errorf("request %d: %v", n, r)
				}
				if n == 3 {
					os.WriteFile(file, []byte("token-2"), 0o600)
				}
				ca.NotBefore, ca.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
				issuer := ca
				until := lean.NewTimestamp(ca.NotAfter)
				switch a.what {
				case "error":
					return nil, errors.New("unavailable")
				case "no expiry":
					until = nil
				case "expired":
					until = lean.NewTimestamp(time.Now().Add(-time.Second))
				case "stranger":
					issuer = testca.New(t)
				}
				chain := issuer.Issue(t, key.Public(), me)
				return &identitypb.CertifyResponse{LeafCertificate: chain[0], IntermediateCertificates: chain[1:], ValidUntil: until}, nil
			},
			Refreshed: func(expiry time.Time, err error) {
				want := script[n-1].result
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("attempt %d: %v, want %q", n, err, want)
				}
				if (err == nil) == expiry.IsZero() {
					t.Errorf("attempt %d: expiry %v", n, expiry)
				}
				if n == 3 && store.Certified() || n > 3 && !store.Certified() {
					t.Errorf("attempt %d: certified %v", n, store.Certified())
				}
				if n == len(script) {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Error(err, results)
		}
	})
}

// TestOverMutualTLS certifies as a proxy does that starts: its own files, a
// controller behind mesh TLS that does not ask for a client certificate yet.
func TestOverMutualTLS(t *testing.T) {
	ca := testca.New(t)
	const controller = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctl := testcontrol.Serve(t, tls.NewListener(l, ca.Store(t, controller).ServerConfig()))
	ctl.Identity = ca
	dir := t.TempDir()
	if err := identityboot.Write(dir, ca.PEM, me); err != nil {
		t.Fatal(err)
	}
	key, csr, err := identityboot.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := ca.EmptyStore(t, me)
	ctx, cancel := context.WithCancel(t.Context())
	err = Run(ctx, Config{
		Store: store, Key: key, CSR: csr, TokenFile: token(t, "secret"),
		Request: Over(discovery.ControlConfig{
			Addr:        discovery.ControlAddr{Host: "10.0.0.1", Port: 8080, TLS: model.DNSTLS(model.MustIdentity(controller))},
			Credentials: store,
			Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			},
		}),
		Refreshed: func(_ time.Time, err error) {
			if err != nil {
				t.Error(err)
			}
			cancel()
		},
	})
	if !errors.Is(err, context.Canceled) || !store.Certified() {
		t.Error(err)
	}
	r := ctl.Requests()[0].(*fullidentitypb.CertifyRequest)
	if string(r.GetToken()) != "secret" || r.GetIdentity() != me {
		t.Error(r)
	}
}

func TestTokenIsMissing(t *testing.T) {
	ca := testca.New(t)
	for _, f := range []string{"/nonexistent/token", token(t, "")} {
		ctx, cancel := context.WithCancel(t.Context())
		Run(ctx, Config{Store: ca.EmptyStore(t, me), TokenFile: f, Log: slog.New(slog.DiscardHandler), Refreshed: func(_ time.Time, err error) {
			if err == nil || !strings.Contains(err.Error(), "read token") {
				t.Error(err)
			}
			cancel()
		}})
	}
}
