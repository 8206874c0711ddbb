package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api-conformance-images/echo-basic/grpcechoserver"
)

// ports collects a flag that may be given several times.
type ports []int

func (p *ports) String() string { return fmt.Sprint(*p) }

func (p *ports) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("%q is not a port", text)
	}
	*p = append(*p, int(n))
	return nil
}

// drain is how long running requests may take when the server stops.
const drain = 5 * time.Second

// serve answers on the ports that args name until ctx is over.
func serve(ctx context.Context, args []string, log io.Writer) error {
	var plain, secure, rpc, raw ports
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.Var(&plain, "port", "port for HTTP/1.1 and HTTP/2; may be repeated")
	flags.Var(&secure, "tls", "which of the ports are TLS")
	flags.Var(&rpc, "grpc", "port for gRPC")
	flags.Var(&raw, "tcp", "port that sends back what it gets")
	// The suite names files that its own image has. Nobody checks the
	// certificate, so one is made instead.
	flags.String("crt", "", "ignored")
	flags.String("key", "", "ignored")
	if err := flags.Parse(args); err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}

	// Every socket is bound before any is served, so that a port that is
	// taken stops the start.
	type service struct {
		listener net.Listener
		run      func(context.Context, net.Listener) error
	}
	var services []service
	add := func(list ports, run func(context.Context, net.Listener) error) error {
		for _, port := range list {
			l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
			if err != nil {
				return err
			}
			if slices.Contains(secure, port) {
				certificate, err := selfSigned(hostname)
				if err != nil {
					return err
				}
				l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}})
			}
			services = append(services, service{l, run})
		}
		return nil
	}
	if err := errors.Join(
		add(plain, func(ctx context.Context, l net.Listener) error { return serveHTTP(ctx, l, hostname, log) }),
		add(rpc, func(ctx context.Context, l net.Listener) error { return serveGRPC(ctx, l, hostname) }),
		add(raw, serveTCP),
	); err != nil {
		for _, s := range services {
			_ = s.listener.Close()
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// Pods that only send requests name no port, and are to stay all the same.
	group.Go(func() error { <-ctx.Done(); return nil })
	for _, s := range services {
		fmt.Fprintf(log, "listening on %s\n", s.listener.Addr())
		group.Go(func() error { return s.run(ctx, s.listener) })
	}
	return group.Wait()
}

// serveHTTP answers every request with what arrived of it, and writes a line
// about it: a mirror is known by that alone. A query parameter delay is how
// long the answer takes.
func serveHTTP(ctx context.Context, l net.Listener, hostname string, log io.Writer) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(log, "request %s %s\n", r.Method, r.URL.RequestURI())
		if delay, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
			select {
			case <-time.After(delay):
			case <-r.Context().Done():
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain")
		(&seen{method: r.Method, proto: r.Proto, url: r.URL.RequestURI(), host: r.Host, headers: r.Header, hostname: hostname}).write(w)
	})}
	defer context.AfterFunc(ctx, func() {
		late, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		_ = server.Shutdown(late)
	})()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// serveTCP sends back what it gets.
func serveTCP(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var open errgroup.Group
	defer func() { _ = open.Wait() }()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		open.Go(func() error {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			// A client that goes away is not a failure of the server's.
			_, _ = io.Copy(conn, conn)
			return nil
		})
	}
}

// echoServer answers calls of the service that the suite's own, simpler echo
// server has.
type echoServer struct {
	pb.UnimplementedGrpcEchoServer
	hostname string
}

func (s *echoServer) Echo(ctx context.Context, _ *pb.EchoRequest) (*pb.EchoResponse, error) {
	assertions := &pb.Assertions{
		FullyQualifiedMethod: pb.GrpcEcho_Echo_FullMethodName,
		Context:              &pb.Context{Pod: s.hostname},
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		for _, value := range values {
			if name == ":authority" {
				assertions.Authority = value
				continue
			}
			assertions.Headers = append(assertions.Headers, &pb.Header{Key: name, Value: value})
		}
	}
	return &pb.EchoResponse{Assertions: assertions}, nil
}

func serveGRPC(ctx context.Context, l net.Listener, hostname string) error {
	server := grpc.NewServer()
	pb.RegisterGrpcEchoServer(server, &echoServer{hostname: hostname})
	defer context.AfterFunc(ctx, server.GracefulStop)()
	return server.Serve(l)
}

// selfSigned makes a certificate that nobody has a reason to trust.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
