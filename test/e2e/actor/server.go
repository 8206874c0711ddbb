package actor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/linkerd-go/linkerd-go/sample/shoppb"
)

// Addresses are where an actor listens, host and port each.
type Addresses struct{ HTTP, GRPC, TCP, TLS, Control string }

// Everywhere are the addresses in a pod.
var Everywhere = Addresses{
	HTTP:    fmt.Sprintf(":%d", HTTPPort),
	GRPC:    fmt.Sprintf(":%d", GRPCPort),
	TCP:     fmt.Sprintf(":%d", TCPPort),
	TLS:     fmt.Sprintf(":%d", TLSPort),
	Control: fmt.Sprintf(":%d", ControlPort),
}

// Actor is one, listening. Create it with Listen.
type Actor struct {
	// Bound are the addresses that were given, with the ports chosen.
	Bound Addresses

	name string
	grpc *grpc.Server
	http, control,
	lines, tls net.Listener
	grpcListener net.Listener
	client       *client

	mu    sync.Mutex
	mood  Mood                   // guarded by mu
	tries map[string]int         // attempts seen by key; guarded by mu
	conns map[io.Closer]struct{} // echoed lines on; guarded by mu
}

// Listen binds all ports of the actor called name.
func Listen(name string, at Addresses) (*Actor, error) {
	a := &Actor{name: name, tries: map[string]int{}, conns: map[io.Closer]struct{}{}, client: newClient()}
	cert, err := selfSigned(name)
	if err != nil {
		return nil, err
	}
	var bound []net.Listener
	for _, l := range []struct {
		to   *net.Listener
		addr string
		real *string
	}{
		{&a.http, at.HTTP, &a.Bound.HTTP}, {&a.grpcListener, at.GRPC, &a.Bound.GRPC},
		{&a.lines, at.TCP, &a.Bound.TCP}, {&a.tls, at.TLS, &a.Bound.TLS}, {&a.control, at.Control, &a.Bound.Control},
	} {
		if *l.to, err = net.Listen("tcp", l.addr); err != nil {
			for _, b := range bound {
				b.Close()
			}
			return nil, err
		}
		bound = append(bound, *l.to)
		*l.real = (*l.to).Addr().String()
	}
	a.tls = tls.NewListener(a.tls, &tls.Config{Certificates: []tls.Certificate{cert}})
	a.grpc = grpc.NewServer()
	shoppb.RegisterCatalogServer(a.grpc, catalog{a: a})
	shoppb.RegisterCheckoutServer(a.grpc, checkout{a: a})
	return a, nil
}

// Serve plays until ctx ends and returns nil then. It may be called once.
func (a *Actor) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	app := &http.Server{Handler: a.handler(), Protocols: protocols, ReadHeaderTimeout: time.Minute}
	control := &http.Server{Handler: a.orders(), ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	run := func(serve func() error) {
		running.Go(func() {
			if err := serve(); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	run(func() error { return app.Serve(a.http) })
	run(func() error { return app.Serve(a.grpcListener) })
	run(func() error { return control.Serve(a.control) })
	run(func() error { return a.echo(&running, a.lines) })
	run(func() error { return a.echo(&running, a.tls) })
	<-ctx.Done()
	app.Close()
	control.Close()
	a.lines.Close()
	a.tls.Close()
	a.grpc.Stop()
	a.client.close()
	a.mu.Lock()
	for c := range a.conns {
		c.Close()
	}
	a.mu.Unlock()
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Header fields by which a client asks a server for an attempt's fate.
const (
	headerKey        = "actor-key" // the same for all attempts of a call
	headerFail       = "actor-fail"
	headerFailTimes  = "actor-fail-times"
	headerDelay      = "actor-delay"
	headerDelayTimes = "actor-delay-times"
)

// fate is how an attempt is to be answered.
type fate struct {
	fail       string // status or code; empty for well
	retryAfter string
	delay      time.Duration
}

// decide counts the attempt and returns its fate, of HTTP or of gRPC.
func (a *Actor) decide(get func(string) string, isGRPC bool) fate {
	a.mu.Lock()
	defer a.mu.Unlock()
	var f fate
	switch {
	case isGRPC:
		f.fail = a.mood.GRPC
	case a.mood.HTTP != 0:
		f.fail, f.retryAfter = strconv.Itoa(a.mood.HTTP), a.mood.RetryAfter
	}
	key := get(headerKey)
	if key == "" {
		return f
	}
	n := a.tries[key]
	a.tries[key]++
	within := func(limit string) bool {
		v, _ := strconv.Atoi(limit)
		return v == 0 || n < v
	}
	if s := get(headerFail); s != "" && within(get(headerFailTimes)) {
		f.fail = s
	}
	if s := get(headerDelay); s != "" && within(get(headerDelayTimes)) {
		f.delay, _ = time.ParseDuration(s)
	}
	return f
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// answer is the body of every HTTP response.
type answer struct {
	By   string
	Seen map[string]string
}

func (a *Actor) handler() http.Handler {
	mux := http.NewServeMux()
	// The handshake is the library's, but not its check of the origin.
	mux.Handle("/websocket", websocket.Server{Handler: func(c *websocket.Conn) { a.repeat(c) }})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		f := a.decide(r.Header.Get, false)
		sleep(r.Context(), f.delay)
		read, _ := io.Copy(io.Discard, r.Body)
		seen := map[string]string{":path": r.URL.RequestURI(), ":method": r.Method, ":authority": r.Host, ":version": r.Proto, ":body": strconv.FormatInt(read, 10)}
		for k, v := range r.Header {
			seen[strings.ToLower(k)] = strings.Join(v, ", ")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Actor", a.name)
		if f.retryAfter != "" {
			w.Header().Set("Retry-After", f.retryAfter)
		}
		if code, err := strconv.Atoi(f.fail); err == nil {
			w.WriteHeader(code)
		}
		json.NewEncoder(w).Encode(answer{By: a.name, Seen: seen})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			a.grpc.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// meet lets the fate of a gRPC call happen.
func (a *Actor) meet(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	f := a.decide(func(k string) string { return strings.Join(md.Get(k), ",") }, true)
	sleep(ctx, f.delay)
	if f.fail == "" {
		return nil
	}
	return status.Error(code(f.fail), "as asked for")
}

// code is the gRPC code of a name, Unknown if there is none of it.
func code(name string) codes.Code {
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if c.String() == name {
			return c
		}
	}
	return codes.Unknown
}

type catalog struct {
	shoppb.UnimplementedCatalogServer
	a *Actor
}

func (s catalog) List(ctx context.Context, _ *shoppb.ListRequest) (*shoppb.ListReply, error) {
	if err := s.a.meet(ctx); err != nil {
		return nil, err
	}
	seen := map[string]string{}
	md, _ := metadata.FromIncomingContext(ctx)
	for k, v := range md {
		seen[k] = strings.Join(v, ", ")
	}
	raw, _ := json.Marshal(seen)
	return &shoppb.ListReply{Products: []*shoppb.Product{{ServedBy: s.a.name, Name: string(raw)}}}, nil
}

type checkout struct {
	shoppb.UnimplementedCheckoutServer
	a *Actor
}

func (s checkout) Place(ctx context.Context, _ *shoppb.PlaceRequest) (*shoppb.Receipt, error) {
	if err := s.a.meet(ctx); err != nil {
		return nil, err
	}
	return &shoppb.Receipt{ServedBy: s.a.name}, nil
}

func (s checkout) Converse(stream shoppb.Checkout_ConverseServer) error {
	if err := s.a.meet(stream.Context()); err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.Send(&shoppb.Receipt{Number: n, ServedBy: s.a.name}); err != nil {
			return err
		}
	}
}

// echo serves lines until the listener is closed.
func (a *Actor) echo(running *sync.WaitGroup, l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		running.Go(func() { a.repeat(c) })
	}
}

// repeat answers each line with the actor's name and the line.
func (a *Actor) repeat(c io.ReadWriteCloser) {
	a.mu.Lock()
	a.conns[c] = struct{}{}
	a.mu.Unlock()
	defer func() {
		c.Close()
		a.mu.Lock()
		delete(a.conns, c)
		a.mu.Unlock()
	}()
	in := bufio.NewScanner(c)
	for in.Scan() {
		if _, err := fmt.Fprintf(c, "%s %s\n", a.name, in.Text()); err != nil {
			return
		}
	}
}

// selfSigned makes a certificate that nobody trusts: the callers' proxies do
// not look at it, and the callers are told not to.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
