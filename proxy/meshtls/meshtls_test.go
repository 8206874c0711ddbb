package meshtls_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// peer is the first name of a peer.
func peer(cs *tls.ConnectionState) string {
	first, _ := meshtls.PeerIdentities(cs)
	return first.String()
}

const (
	web = "web.ns.serviceaccount.identity.linkerd.cluster.local"
	api = "api.ns.serviceaccount.identity.linkerd.cluster.local"
)

// shake lets both sides shake hands and say one byte, so that an alert which
// follows the handshake is seen.
func shake(client, server *tls.Config) (c, s tls.ConnectionState, cerr, serr error) {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		t := tls.Server(b, server)
		if serr = t.Handshake(); serr == nil {
			s = t.ConnectionState()
			_, serr = t.Write([]byte{1})
		}
	}()
	t := tls.Client(a, client)
	if cerr = t.Handshake(); cerr == nil {
		c = t.ConnectionState()
		_, cerr = io.ReadFull(t, make([]byte, 1))
	}
	a.Close()
	<-done
	return c, s, cerr, serr
}

func TestMutualTLS(t *testing.T) {
	ca := testca.New(t)
	webStore, apiStore := ca.Store(t, web), ca.Store(t, api)
	c, s, cerr, serr := shake(webStore.ClientConfig(model.DNSTLS(model.MustIdentity(api)), false), apiStore.ServerConfig())
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if got := peer(&s); got != web {
		t.Errorf("server sees %q", got)
	}
	if got := peer(&c); got != api {
		t.Errorf("client sees %q", got)
	}
	// The tests are run as a FIPS build, too: build/runtests.
	exchange := tls.X25519MLKEM768
	if fips140.Enabled() {
		exchange = tls.CurveP256
	}
	if s.ServerName != api || s.Version != tls.VersionTLS13 || s.NegotiatedProtocol != "" || s.CurveID != exchange {
		t.Errorf("%+v", s)
	}
	if fips140.Enabled() && s.CipherSuite == tls.TLS_CHACHA20_POLY1305_SHA256 {
		t.Errorf("a FIPS build agreed on %s", tls.CipherSuiteName(s.CipherSuite))
	}
}

// TestIssuersOfAllKinds: users bring issuers and trust anchors whose keys are RSA or
// Ed25519. Both sides have to believe what they signed, and whom they have not.
func TestIssuersOfAllKinds(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]crypto.Signer{"P-256": testca.NewKey(t), "P-384": p384, "RSA": rsaKey, "Ed25519": edKey}
	stranger := testca.New(t).Store(t, web)
	id := model.DNSTLS(model.MustIdentity(api))
	for root, rootKey := range kinds {
		for issuer, issuerKey := range kinds {
			ca := testca.NewWith(t, rootKey, issuerKey)
			server := ca.Store(t, api).ServerConfig()
			_, s, cerr, serr := shake(ca.Store(t, web).ClientConfig(id, false), server)
			if cerr != nil || serr != nil || peer(&s) != web {
				t.Errorf("anchor %s, issuer %s: server sees %q; %v, %v", root, issuer, peer(&s), cerr, serr)
			}
			if _, _, cerr, _ := shake(stranger.ClientConfig(id, false), server); cerr == nil {
				t.Errorf("anchor %s, issuer %s: a client of other anchors takes the server for %s", root, issuer, api)
			}
		}
	}
}

func TestHandshakes(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	const spiffe = "spiffe://root.linkerd.cluster.local/vm"
	id := model.DNSTLS(model.MustIdentity(api))
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		peer           string // who the server takes the client for
		cerr, serr     string
		proto          string
	}{
		{"client without certificate", ca.EmptyStore(t, web).ClientConfig(id, false), ca.Store(t, api).ServerConfig(), "", "", "", ""},
		{"server without certificate", ca.Store(t, web).ClientConfig(id, false), ca.EmptyStore(t, api).ServerConfig(), "", "internal error", "no certificate yet", ""},
		{"other server", ca.Store(t, web).ClientConfig(id, false), ca.Store(t, web).ServerConfig(), "", "certificate does not match TLS identity", "bad certificate", ""},
		{"other anchors of the client", other.Store(t, web).ClientConfig(id, false), ca.Store(t, api).ServerConfig(), "", "unknown authority", "bad certificate", ""},
		{"uri identity", ca.Store(t, web).ClientConfig(model.TLSIdentity{ID: model.MustIdentity(spiffe), ServerName: "vm.test"}, false), ca.Store(t, spiffe).ServerConfig(), web, "", "", ""},
		{"uri client", ca.Store(t, spiffe).ClientConfig(id, false), ca.Store(t, api).ServerConfig(), spiffe, "", "", ""},
		{"transport header", ca.Store(t, web).ClientConfig(id, true), ca.Store(t, api).DirectConfig(), web, "", "", meshtls.ALPNTransport},
		{"transport header not offered", ca.Store(t, web).ClientConfig(id, false), ca.Store(t, api).DirectConfig(), web, "", "", ""},
		{"transport header not wanted", ca.Store(t, web).ClientConfig(id, true), ca.Store(t, api).ServerConfig(), web, "", "", ""},
		{"tls 1.2", &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, ServerName: api}, ca.Store(t, api).ServerConfig(), "", "protocol version", "unsupported versions", ""},
	} {
		_, s, cerr, serr := shake(c.client, c.server)
		if !says(cerr, c.cerr) {
			t.Errorf("%s: client: %v, want %q", c.name, cerr, c.cerr)
		}
		if !says(serr, c.serr) {
			t.Errorf("%s: server: %v, want %q", c.name, serr, c.serr)
		}
		if got := peer(&s); serr == nil && got != c.peer {
			t.Errorf("%s: server sees %q, want %q", c.name, got, c.peer)
		}
		if s.NegotiatedProtocol != c.proto {
			t.Errorf("%s: protocol %q", c.name, s.NegotiatedProtocol)
		}
	}
}

// TestClientOfOtherAnchors has a client that skips verification, so that it is
// the server that refuses.
func TestClientOfOtherAnchors(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	cfg := other.Store(t, web).ClientConfig(model.DNSTLS(model.MustIdentity(api)), false).Clone()
	cfg.VerifyConnection = nil
	_, _, _, serr := shake(cfg, ca.Store(t, api).ServerConfig())
	if !says(serr, "verify client certificate") {
		t.Error(serr)
	}
}

func says(err error, text string) bool {
	return text == "" && err == nil || text != "" && err != nil && strings.Contains(err.Error(), text)
}

func TestAnchorsRotateLive(t *testing.T) {
	old, next := testca.New(t), testca.New(t)
	client, server := old.Store(t, web), next.Store(t, api)
	cfg := client.ClientConfig(model.DNSTLS(model.MustIdentity(api)), false)
	if _, _, cerr, _ := shake(cfg, server.ServerConfig()); cerr == nil {
		t.Fatal("trusted a stranger")
	}
	both := append(append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), old.PEM...), next.PEM...)
	for _, s := range []*meshtls.Store{client, server} {
		if err := s.SetAnchors(both); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, cerr, serr := shake(cfg, server.ServerConfig()); cerr != nil || serr != nil {
		t.Error(cerr, serr)
	}
	if err := client.SetAnchors([]byte("no pem")); !errors.Is(err, meshtls.ErrNoAnchors) {
		t.Error(err)
	}
	if _, _, cerr, serr := shake(cfg, server.ServerConfig()); cerr != nil || serr != nil {
		t.Error("bad update was not ignored:", cerr, serr)
	}
}

func TestSetCertificateVerifiesFirst(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	late := testca.New(t)
	late.NotBefore, late.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	key := testca.NewKey(t)
	for _, c := range []struct {
		name  string
		store *meshtls.Store
		chain [][]byte
		want  string
	}{
		{"stranger", ca.EmptyStore(t, web), other.Issue(t, key.Public(), web), "unknown authority"},
		{"other name", ca.EmptyStore(t, web), ca.Issue(t, key.Public(), api), "does not match TLS identity"},
		{"other key", ca.EmptyStore(t, web), ca.Issue(t, testca.NewKey(t).Public(), web), "not for the own key"},
		{"expired", late.EmptyStore(t, web), late.Issue(t, key.Public(), web), "expired"},
		{"empty", ca.EmptyStore(t, web), nil, "empty"},
		{"garbage", ca.EmptyStore(t, web), [][]byte{{1, 2}}, "parse certificate"},
	} {
		if err := c.store.SetCertificate(c.chain, key); !says(err, c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if c.store.Certified() {
			t.Errorf("%s: was published", c.name)
		}
	}
	s := ca.EmptyStore(t, web)
	_, changed := s.Leaf().Watch()
	if err := s.SetCertificate(ca.Issue(t, key.Public(), web), key); err != nil {
		t.Fatal(err)
	}
	<-changed
	if l := s.Leaf().Get(); !l.NotAfter.Equal(ca.NotAfter.Truncate(time.Second)) {
		t.Error(l.NotAfter)
	}
}

// TestExpiredCredentialsAreNotValid: they are kept all the same, for there are
// no better ones.
func TestExpiredCredentialsAreNotValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testca.New(t)
		if s := ca.EmptyStore(t, web); s.Valid() {
			t.Error("no credentials are valid")
		}
		s := ca.Store(t, web)
		time.Sleep(time.Until(ca.NotAfter) - time.Second)
		if !s.Valid() {
			t.Error("not valid a second before the end")
		}
		time.Sleep(2 * time.Second)
		if s.Valid() || !s.Certified() {
			t.Errorf("after the end: valid %v, kept %v", s.Valid(), s.Certified())
		}
	})
}

func TestBadAnchorsAreLogged(t *testing.T) {
	var log bytes.Buffer
	ca := testca.New(t)
	_, err := meshtls.New(meshtls.Config{
		ID: model.MustIdentity(web), ServerName: web,
		Anchors: append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ca.PEM...),
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil || !strings.Contains(log.String(), "Skipping invalid trust anchor") {
		t.Error(err, log.String())
	}
	if _, err := meshtls.New(meshtls.Config{}); !errors.Is(err, meshtls.ErrNoAnchors) {
		t.Error(err)
	}
}

func TestFirstNameOfMixedCertificate(t *testing.T) {
	ca := testca.New(t)
	key := testca.NewKey(t)
	s := ca.EmptyStore(t, web)
	// The library writes DNS names before URIs.
	if err := s.SetCertificate(ca.Issue(t, key.Public(), "spiffe://td/x", web), key); err != nil {
		t.Fatal(err)
	}
	_, state, cerr, serr := shake(s.ClientConfig(model.DNSTLS(model.MustIdentity(api)), false), ca.Store(t, api).ServerConfig())
	if cerr != nil || serr != nil {
		t.Fatal(cerr, serr)
	}
	if got := peer(&state); got != web {
		t.Error(got)
	}
	first, others := meshtls.PeerIdentities(&state)
	if first.String() != web || len(others) != 1 || others[0].String() != "spiffe://td/x" {
		t.Error(first, others)
	}
}
