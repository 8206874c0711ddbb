package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// raw passes messages through as they are, so that the server of another
// implementation can be told by the first byte what to do.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return *v.(*[]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = bytes.Clone(b); return nil }
func (raw) Name() string                    { return "proto" }

// server is grpc-go's, with methods of our own.
type server struct {
	*grpc.Server
	addr    netip.AddrPort
	streams atomic.Int64
	done    chan struct{}
}

func serve(t *testing.T, addr string) *server {
	t.Helper()
	s := &server{done: make(chan struct{})}
	s.Server = grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		s.streams.Add(1)
		method, _ := grpc.MethodFromServerStream(stream)
		var req []byte
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		send := func(b []byte) { _ = stream.SendMsg(&b) }
		switch method {
		case "/t/Echo":
			send(req)
		case "/t/Nothing":
		case "/t/Twice":
			send(req)
			send(req)
		case "/t/Many":
			for i := range 1000 {
				send(bytes.Repeat([]byte{byte(i)}, i))
			}
		case "/t/Refuse":
			return grpcstatus.Error(codes.FailedPrecondition, "100 % wröng\n")
		case "/t/Late":
			send(req)
			return grpcstatus.Error(codes.NotFound, "gone")
		case "/t/Field":
			md, _ := metadata.FromIncomingContext(stream.Context())
			send([]byte(strings.Join(append(md.Get("x"), md.Get("user-agent")...), " ")))
		case "/t/Hang":
			_ = stream.SendHeader(nil)
			<-stream.Context().Done()
			return grpcstatus.FromContextError(stream.Context().Err()).Err()
		case "/t/Silent":
			<-stream.Context().Done()
			// The server knows the deadline, too, and may be the first to see it pass.
			return grpcstatus.FromContextError(stream.Context().Err()).Err()
		default:
			return grpcstatus.Error(codes.Unimplemented, "unknown method")
		}
		return nil
	}))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.addr, _ = netip.ParseAddrPort(l.Addr().String())
	go func() {
		defer close(s.done)
		_ = s.Serve(l)
	}()
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	s.Stop()
	<-s.done
}

// connect makes a connection to addresses that may change.
func connect(t *testing.T, change func(*Config), addrs ...netip.AddrPort) *Conn {
	t.Helper()
	cfg := Config{
		Name: "test", Authority: "test:1", UserAgent: "agent/1",
		Resolve: func(context.Context) (dns.Answer, error) { return dns.Answer{Addrs: addrs, TTL: time.Hour}, nil },
		Dial: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", a.String())
		},
		Backoff: model.Backoff{Min: 10 * time.Millisecond, Max: 20 * time.Millisecond},
		Log:     slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	c := New(cfg)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestCall(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	var log []string
	c := connect(t, func(cfg *Config) {
		cfg.Hooks.Response = func(code Code, _ time.Duration) { log = append(log, code.String()) }
	}, s.addr)
	long := strings.Repeat("x", 300_000)
	for _, x := range []struct {
		method, request, want string
		code                  Code
		message               string
	}{
		{"/t/Echo", "a", "a", OK, ""},
		{"/t/Echo", "", "", OK, ""},
		{"/t/Echo", long, long, OK, ""},
		{"/t/Refuse", "a", "", FailedPrecondition, "100 % wröng\n"},
		{"/t/Late", "a", "", NotFound, "gone"},
		{"/t/Nothing", "a", "", Internal, "without a message"},
		{"/t/Twice", "a", "", Internal, "several messages"},
		{"/t/Unknown", "a", "", Unimplemented, "unknown method"},
		{"/t/Field", "a", "y agent/1", OK, ""},
	} {
		log = nil
		b, err := c.Call(t.Context(), x.method, []byte(x.request), Header("x", "y"))
		if string(b) != x.want || CodeOf(err) != x.code || err != nil && !strings.Contains(err.Error(), x.message) {
			t.Errorf("%s: %d bytes, %v; want %v %q", x.method, len(b), err, x.code, x.message)
		}
		if len(log) != 1 {
			t.Errorf("%s: told %v", x.method, log)
		}
	}
}

func TestStream(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	c := connect(t, nil, s.addr)
	st, err := c.Stream(t.Context(), "/t/Many", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		b, err := st.Recv()
		if err != nil || len(b) != i || i > 0 && b[i-1] != byte(i) {
			t.Fatalf("message %d: %d bytes, %v", i, len(b), err)
		}
	}
	for range 2 {
		if _, err := st.Recv(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	}
	st.Close() // has no effect
}

func TestMessagesHaveALimit(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	c := connect(t, func(cfg *Config) { cfg.MaxMessage = 10 }, s.addr)
	if _, err := c.Call(t.Context(), "/t/Echo", make([]byte, 11)); CodeOf(err) != ResourceExhausted {
		t.Error(err)
	}
}

// A call ends when its context does, whatever it is waiting for.
func TestCallsEndWithTheirContext(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	c := connect(t, nil, s.addr)
	for _, method := range []string{"/t/Hang", "/t/Silent"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := c.Call(ctx, method, nil); CodeOf(err) != DeadlineExceeded {
			t.Errorf("%s: %v", method, err)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	st, err := c.Stream(ctx, "/t/Hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := st.Recv(); CodeOf(err) != Canceled || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Closing is enough, too.
	if st, err = c.Stream(t.Context(), "/t/Hang", nil); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if _, err := st.Recv(); CodeOf(err) != Canceled {
		t.Error(err)
	}
}

// Without a server calls fail at once, or wait until there is one.
func TestServerComesAndGoes(t *testing.T) {
	// An address that no other test listens on, so that nobody takes the port meanwhile.
	s := serve(t, "127.66.0.4:0")
	addr := s.addr
	s.stop()
	var up atomic.Int64
	c := connect(t, func(cfg *Config) { cfg.Hooks.Connected = func(d int) { up.Add(int64(d)) } }, addr)
	if _, err := c.Call(t.Context(), "/t/Echo", nil); CodeOf(err) != Unavailable || !strings.Contains(err.Error(), "refused") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	if _, err := c.Call(ctx, "/t/Echo", nil, Wait); CodeOf(err) != DeadlineExceeded || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
	cancel()
	result := make(chan error)
	go func() {
		_, err := c.Call(t.Context(), "/t/Echo", nil, Wait)
		result <- err
	}()
	s = serve(t, addr.String())
	if err := <-result; err != nil {
		t.Error(err)
	}
	st, err := c.Stream(t.Context(), "/t/Hang", nil)
	if err != nil {
		t.Fatal(err)
	}
	// One that goes politely lets streams end, and is connected to again.
	go s.GracefulStop()
	for {
		// The next one's address is the same, so it has to be let go.
		if l, err := net.Listen("tcp", addr.String()); err == nil {
			l.Close()
			break
		}
		time.Sleep(time.Millisecond)
	}
	next := serve(t, addr.String())
	if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); err != nil {
		t.Error(err)
	}
	if n := next.streams.Load(); n != 1 {
		t.Errorf("%d calls at the second server", n)
	}
	s.Stop()
	if _, err := st.Recv(); CodeOf(err) != Unavailable {
		t.Errorf("stream of a killed server: %v", err)
	}
	c.Close()
	if n := up.Load(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Streams that last are shared out by how many each server has.
func TestCallsGoToTheLessBusy(t *testing.T) {
	a, b := serve(t, "127.0.0.1:0"), serve(t, "127.0.0.1:0")
	ready := make(chan struct{}, 2)
	c := connect(t, func(cfg *Config) {
		cfg.Hooks.Connected = func(d int) {
			if d > 0 {
				ready <- struct{}{}
			}
		}
	}, a.addr, b.addr)
	if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); err != nil {
		t.Fatal(err)
	}
	<-ready
	<-ready
	first := a.streams.Load() + b.streams.Load()
	for range 20 {
		if _, err := c.Stream(t.Context(), "/t/Hang", nil); err != nil {
			t.Fatal(err)
		}
	}
	// The servers hear of streams a moment after the client has opened them.
	n, m := a.streams.Load(), b.streams.Load()
	for deadline := time.Now().Add(time.Minute); n+m < 20+first && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n, m = a.streams.Load(), b.streams.Load()
	}
	if n+m != 20+first || n < 8 || m < 8 {
		t.Errorf("%d and %d", n, m)
	}
}

// A name that is not found fails calls, and is asked for again.
func TestResolving(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	var mu sync.Mutex
	answer, problem := dns.Answer{TTL: time.Millisecond}, error(dns.ErrNotFound)
	c := connect(t, func(cfg *Config) {
		cfg.Resolve = func(context.Context) (dns.Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			return answer, problem
		}
	})
	if _, err := c.Call(t.Context(), "/t/Echo", nil); CodeOf(err) != Unavailable || !errors.Is(err, dns.ErrNotFound) {
		t.Error(err)
	}
	mu.Lock()
	answer, problem = dns.Answer{Addrs: []netip.AddrPort{s.addr}, TTL: time.Millisecond}, nil
	mu.Unlock()
	st, err := c.Stream(t.Context(), "/t/Hang", nil, Wait)
	if err != nil {
		t.Fatal(err)
	}
	// An address that is gone from DNS is left when its calls have ended.
	other := serve(t, "127.0.0.1:0")
	mu.Lock()
	answer.Addrs = []netip.AddrPort{other.addr}
	mu.Unlock()
	for other.streams.Load() == 0 {
		if _, err := c.Call(t.Context(), "/t/Echo", nil, Wait); err != nil {
			t.Fatal(err)
		}
	}
	if st.err != nil {
		t.Error(st.err)
	}
	st.Close()
}

func TestTimeout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "1m", -time.Second: "1m", 1500 * time.Microsecond: "2m", time.Second: "1000m", 30 * time.Hour: "108000S", 1 << 62: "76861434M",
	} {
		if got := timeout(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a%20b%": "a b%", "%zz%C3%A4": "%zzä", "%ff": "\uFFFD"} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What is not gRPC gets the code that its status means.
func TestHTTPCodes(t *testing.T) {
	for status, want := range map[int]Code{400: Internal, 401: Unauthenticated, 403: PermissionDenied, 404: Unimplemented, 503: Unavailable, 200: Unknown, 302: Unknown} {
		if got := httpCode(status); got != want {
			t.Errorf("%d: %v, want %v", status, got, want)
		}
	}
}
