package actor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestEveryProtocol has one actor call another, with no mesh between, each way
// it can.
func TestEveryProtocol(t *testing.T) {
	_, server := start(t, "web")
	stage, _ := start(t, "alice")
	for _, tt := range []struct {
		name string
		call Call
		want string
	}{
		{"HTTP/1", Call{Protocol: HTTP, Target: server.HTTP, Path: "/"}, "200"},
		{"HTTP/2", Call{Protocol: HTTP2, Target: server.HTTP, Path: "/"}, "200"},
		{"a status as asked for", Call{Protocol: HTTP, Target: server.HTTP, Path: "/", Fail: "503"}, "503"},
		{"gRPC", Call{Protocol: GRPC, Target: server.GRPC}, "OK"},
		{"a gRPC code as asked for", Call{Protocol: GRPC, Target: server.GRPC, Fail: "Unavailable"}, "Unavailable"},
		{"gRPC, the other service", Call{Protocol: GRPC, Target: server.GRPC, Path: "/shop.v1.Checkout/Place"}, "OK"},
		{"gRPC stream", Call{Protocol: Stream, Target: server.GRPC}, "OK"},
		{"TCP", Call{Protocol: TCP, Target: server.TCP}, Open},
		{"TLS", Call{Protocol: TLS, Target: server.TLS, ServerName: "example.org"}, Open},
		{"WebSocket", Call{Protocol: WebSocket, Target: server.HTTP, Path: "/websocket"}, Open},
		{"nobody there", Call{Protocol: TCP, Target: "127.0.0.1:1"}, Closed},
		{"too late", Call{Protocol: HTTP, Target: server.HTTP, Path: "/", Delay: time.Minute, Limit: 20 * time.Millisecond}, Timeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.call.Times = 2
			got, err := stage.Call(t.Context(), "alice", tt.call)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 {
				t.Fatalf("%d results, want 2", len(got))
			}
			for _, r := range got {
				if r.Outcome != tt.want {
					t.Errorf("got %+v, want %s", r, tt.want)
				}
				if ok := tt.want == "200" || tt.want == "OK" || tt.want == Open; ok && r.By != "web" {
					t.Errorf("answered by %q, want web", r.By)
				}
			}
		})
	}
}

// TestHeld goes on with conversations, until the server is gone.
func TestHeld(t *testing.T) {
	_, server := start(t, "web")
	stage, _ := start(t, "alice")
	calls := map[string]Call{
		"http": {Protocol: HTTP, Target: server.HTTP, Path: "/"}, "h2": {Protocol: HTTP2, Target: server.HTTP, Path: "/"},
		"stream": {Protocol: Stream, Target: server.GRPC}, "tcp": {Protocol: TCP, Target: server.TCP},
		"tls": {Protocol: TLS, Target: server.TLS}, "websocket": {Protocol: WebSocket, Target: server.HTTP, Path: "/websocket"},
	}
	first := map[string]Result{}
	for name, c := range calls {
		r, err := stage.Hold(t.Context(), "alice", name, c)
		if err != nil || r.By != "web" {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		first[name] = r
	}
	for name := range calls {
		r, err := stage.Say(t.Context(), "alice", name)
		if err != nil || r.Outcome != first[name].Outcome {
			t.Errorf("%s: %+v, %v after %+v", name, r, err, first[name])
		}
	}
	if err := stage.Release(t.Context(), "alice", "t"); err != nil {
		t.Fatal(err)
	}
	if r, err := stage.Say(t.Context(), "alice", "tcp"); err != nil || r.Outcome != Closed {
		t.Errorf("after its release tcp says %+v, %v", r, err)
	}
}

// TestFlow: what goes on by itself is told in full.
func TestFlow(t *testing.T) {
	stage, server := start(t, "web")
	for _, c := range []Call{{Protocol: HTTP, Target: server.HTTP, Path: "/"}, {Protocol: TCP, Target: server.TCP}, {Protocol: Stream, Target: server.GRPC}} {
		if _, err := stage.Flow(t.Context(), "web", "f", c); err != nil {
			t.Fatal(err)
		}
		// At least the first word is waited for.
		got, err := stage.Flowed(t.Context(), "web", "f")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range got {
			if r.Outcome != "200" && r.Outcome != "OK" && r.Outcome != Open || r.By != "web" {
				t.Errorf("%s: %+v", c.Protocol, r)
			}
		}
	}
}

// TestArrived: a server tells of a request that it has not answered.
func TestArrived(t *testing.T) {
	stage, server := start(t, "web")
	key, err := stage.Flow(t.Context(), "web", "f", Call{Protocol: HTTP, Target: server.HTTP, Path: "/", Delay: time.Hour, Limit: time.Minute, Times: 1})
	if err != nil {
		t.Fatal(err)
	}
	for {
		n, err := stage.Arrived(t.Context(), "web", key)
		if err != nil || n > 1 {
			t.Fatalf("%d have arrived, %v", n, err)
		}
		if n == 1 {
			break
		}
	}
	if n, err := stage.Arrived(t.Context(), "web", "another"); err != nil || n != 0 {
		t.Errorf("of another flow %d have arrived, %v", n, err)
	}
}

// TestMoodAndFate: a server misbehaves as told, for all or for the first
// attempts of one call.
func TestMoodAndFate(t *testing.T) {
	s, server := start(t, "web")
	if err := s.Be(t.Context(), "web", Mood{HTTP: 503, GRPC: "Unavailable", RetryAfter: "7"}); err != nil {
		t.Fatal(err)
	}
	call := func(c Call) Result {
		t.Helper()
		got, err := s.Call(t.Context(), "web", c)
		if err != nil {
			t.Fatal(err)
		}
		return got[0]
	}
	if r := call(Call{Protocol: HTTP, Target: server.HTTP, Path: "/"}); r.Outcome != "503" || r.Header["retry-after"] != "7" {
		t.Errorf("in a bad mood: %+v", r)
	}
	if r := call(Call{Protocol: GRPC, Target: server.GRPC}); r.Outcome != "Unavailable" {
		t.Errorf("in a bad mood: %+v", r)
	}
	if err := s.Be(t.Context(), "web", Mood{}); err != nil {
		t.Fatal(err)
	}
	again := Call{Protocol: HTTP, Target: server.HTTP, Path: "/", Header: map[string]string{headerKey: "k", headerFail: "500", headerFailTimes: "1"}}
	if a, b := call(again), call(again); a.Outcome != "500" || b.Outcome != "200" {
		t.Errorf("attempts of one call: %s, %s; want 500, 200", a.Outcome, b.Outcome)
	}
}

// TestAgent: the certificate that is handed out is the issuer's for the ID.
func TestAgent(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"crt.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const id = "spiffe://root.linkerd.cluster.local/vm"
	socket := filepath.Join(dir, "agent.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ServeAgent(ctx, socket, id, dir) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := spiffepb.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(t.Context(), &spiffepb.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := x509.ParseCertificates(got.GetSvids()[0].GetX509Svid())
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || chain[0].URIs[0].String() != id || chain[0].CheckSignatureFrom(chain[1]) != nil {
		t.Errorf("got %d certificates, the first for %v", len(chain), chain[0].URIs)
	}
}

// start runs an actor on loopback until the test ends.
func start(t *testing.T, name string) (*Stage, Addresses) {
	t.Helper()
	const any = "127.0.0.1:0"
	a, err := Listen(name, Addresses{HTTP: any, GRPC: any, TCP: any, TLS: any, Control: any})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return &Stage{Post: func(ctx context.Context, _, path string, query url.Values, body io.Reader) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+a.Bound.Control+path+"?"+query.Encode(), body)
		if err != nil {
			return nil, err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}}, a.Bound
}

// TestProxyHeader: what a load balancer would say.
func TestProxyHeader(t *testing.T) {
	to := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
	for proxied, want := range map[string]string{
		"203.0.113.7":    "PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n",
		"2001:db8::7":    "PROXY TCP6 2001:db8::7 :: 40000 443\r\n",
		"v2:203.0.113.7": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc0\x00\x02\x01\x9c\x40\x01\xbb",
		"v2:::1":         "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + strings.Repeat("\x00", 15) + "\x01" + strings.Repeat("\x00", 16) + "\x9c\x40\x01\xbb",
	} {
		if got, err := proxyHeader(proxied, to); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", proxied, got, err, want)
		}
	}
	if _, err := proxyHeader("nobody", to); err == nil {
		t.Error("nobody has an address")
	}
}
