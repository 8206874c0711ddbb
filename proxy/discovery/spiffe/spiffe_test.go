package spiffe

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/rpc"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

const me = "spiffe://root.linkerd.cluster.local/vm"

// agent answers each stream with the next of its scripts, then ends it.
type agent struct {
	spiffepb.UnimplementedSpiffeWorkloadAPIServer
	streams chan []*spiffepb.X509SVIDResponse
}

func (a *agent) FetchX509SVID(_ *spiffepb.X509SVIDRequest, out grpc.ServerStreamingServer[spiffepb.X509SVIDResponse]) error {
	if md, _ := metadata.FromIncomingContext(out.Context()); len(md.Get("workload.spiffe.io")) != 1 {
		return status.Error(codes.PermissionDenied, "no header")
	}
	script, ok := <-a.streams
	if !ok {
		return status.Error(codes.InvalidArgument, "go away")
	}
	for _, r := range script {
		if err := out.Send(r); err != nil {
			return err
		}
	}
	return nil
}

// serve serves until the test ends, and returns the socket's path.
func (a *agent) serve(t *testing.T) string {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	spiffepb.RegisterSpiffeWorkloadAPIServer(s, a)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return socket
}

func TestRun(t *testing.T) {
	ca := testca.New(t)
	svid := func(ca *testca.CA, id string) *spiffepb.X509SVID {
		key := testca.NewKey(t)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return &spiffepb.X509SVID{SpiffeId: id, X509Svid: bytes.Join(ca.Issue(t, key.Public(), id), nil), X509SvidKey: der}
	}
	bad := svid(ca, me)
	bad.X509SvidKey = nil
	answers := func(list ...*spiffepb.X509SVID) *spiffepb.X509SVIDResponse {
		return &spiffepb.X509SVIDResponse{Svids: list}
	}
	a := &agent{streams: make(chan []*spiffepb.X509SVIDResponse, 2)}
	a.streams <- []*spiffepb.X509SVIDResponse{
		answers(svid(ca, "spiffe://other/x")),
		answers(svid(ca, "spiffe://other/x"), bad, svid(ca, me)),
		answers(svid(testca.New(t), me)),
	}
	a.streams <- []*spiffepb.X509SVIDResponse{answers(svid(ca, me))}
	close(a.streams)

	socket := a.serve(t)
	store := ca.EmptyStore(t, me)
	var results []string
	err := Run(t.Context(), Config{
		Store: store, Socket: "unix:" + socket, Log: slog.New(slog.DiscardHandler),
		Backoff: model.Backoff{Min: time.Millisecond, Max: time.Millisecond},
		Refreshed: func(expiry time.Time, err error) {
			switch {
			case err == nil && !expiry.IsZero():
				results = append(results, "ok")
			case errors.Is(err, ErrNoSVID):
				results = append(results, "none")
			default:
				results = append(results, err.Error())
			}
		},
	})
	if rpc.CodeOf(err) != rpc.InvalidArgument {
		t.Error(err)
	}
	if got := strings.Join(results, " "); got != "none ok none ok" || !store.Certified() {
		t.Error(got)
	}
}

// TestBundles: trust anchors and authorities of other domains follow the agent.
func TestBundles(t *testing.T) {
	const partner, stranger = "spiffe://partner.example/web", "spiffe://stranger.example/web"
	configured, next, other := testca.New(t), testca.New(t), testca.New(t)
	der := func(list ...*testca.CA) (out []byte) {
		for _, ca := range list {
			block, _ := pem.Decode(ca.PEM)
			out = append(out, block.Bytes...)
		}
		return out
	}
	answer := func(by *testca.CA, bundle []byte, federated map[string][]byte) *spiffepb.X509SVIDResponse {
		key := testca.NewKey(t)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return &spiffepb.X509SVIDResponse{FederatedBundles: federated, Svids: []*spiffepb.X509SVID{{
			SpiffeId: me, X509Svid: bytes.Join(by.Issue(t, key.Public(), me), nil), X509SvidKey: pkcs8, Bundle: bundle,
		}}}
	}
	federated := func(id string) map[string][]byte { return map[string][]byte{id: der(other)} }
	store := configured.EmptyStore(t, me)
	trusts := func() (list []string) {
		for _, peer := range []struct {
			name string
			ca   *testca.CA
			id   string
		}{
			{"configured", configured, "web.ns.serviceaccount.identity.linkerd.cluster.local"},
			{"next", next, "web.ns.serviceaccount.identity.linkerd.cluster.local"},
			{"partner", other, partner}, {"stranger", other, stranger},
		} {
			chain := parse(t, peer.ca.Issue(t, testca.NewKey(t).Public(), peer.id))
			if store.Verify(chain) == nil {
				list = append(list, peer.name)
			}
		}
		return list
	}
	steps := []struct {
		name   string
		answer *spiffepb.X509SVIDResponse
		want   string
	}{
		{"no bundle", answer(configured, nil, nil), "ok: configured"},
		{"the configured one", answer(configured, der(configured), nil), "ok: configured"},
		{"another one comes", answer(configured, der(configured, next), nil), "ok: configured next"},
		{"and takes over", answer(next, der(next), nil), "ok: configured next"},
		{"what cannot be read changes nothing", answer(next, []byte("bundle"), nil), "ok: configured next"},
		{"a certificate of none of them", answer(other, der(next), nil), "error: configured next"},
		{"it leaves", answer(configured, der(configured), nil), "ok: configured"},
		{"a partner", answer(configured, nil, federated("spiffe://partner.example")), "ok: configured partner"},
		{"nobody who is not to be believed", answer(configured, nil, federated("spiffe://stranger.example")), "ok: configured"},
		{"by the bare name", answer(configured, nil, federated("partner.example")), "ok: configured partner"},
		{"a partner's bundle that cannot be read", answer(configured, nil, map[string][]byte{"spiffe://partner.example": []byte("x")}), "ok: configured"},
	}
	a := &agent{streams: make(chan []*spiffepb.X509SVIDResponse, 1)}
	var script []*spiffepb.X509SVIDResponse
	for _, s := range steps {
		script = append(script, s.answer)
	}
	a.streams <- script
	close(a.streams)
	n := 0
	err := Run(t.Context(), Config{
		Store: store, Socket: a.serve(t), Log: slog.New(slog.DiscardHandler), Anchors: configured.PEM, Federated: []string{"partner.example"},
		Backoff: model.Backoff{Min: time.Millisecond, Max: time.Millisecond},
		Refreshed: func(_ time.Time, err error) {
			got := "ok: "
			if err != nil {
				got = "error: "
			}
			if got += strings.Join(trusts(), " "); got != steps[n].want {
				t.Errorf("%s: got %q, want %q", steps[n].name, got, steps[n].want)
			}
			n++
		},
	})
	if rpc.CodeOf(err) != rpc.InvalidArgument || n != len(steps) {
		t.Errorf("%v after %d answers", err, n)
	}
}

func parse(t *testing.T, chain [][]byte) (certs []*x509.Certificate) {
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

func TestRunStops(t *testing.T) {
	ca := testca.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Run(ctx, Config{Store: ca.EmptyStore(t, me), Socket: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
