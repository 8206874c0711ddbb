package spiffe

import (
	"bytes"
	"context"
	"crypto/x509"
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

	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	spiffepb.RegisterSpiffeWorkloadAPIServer(s, a)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() { s.Stop(); <-done }()

	store := ca.EmptyStore(t, me)
	var results []string
	err = Run(t.Context(), Config{
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

func TestRunStops(t *testing.T) {
	ca := testca.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := Run(ctx, Config{Store: ca.EmptyStore(t, me), Socket: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
