// Package portforward opens connections to ports of pods through the
// Kubernetes API server.
//
// Usage:
//
//	tunnel, err := portforward.Open(ctx, cluster, "linkerd", "linkerd-destination-abc")
//	defer tunnel.Close()
//	conn, err := tunnel.Dial(8086)
//
// The connections are streams of the tunnel itself; no local port is opened,
// so nobody else on the machine can use them. A Tunnel and its connections may
// be used from any goroutine.
package portforward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"

	"github.com/linkerd-go/linkerd-go/internal/cluster"
)

// ErrNoConfig says that the cluster was made without a way to reach its API
// server, as in tests.
var ErrNoConfig = errors.New("port-forwarding needs a connection to an API server")

// Tunnel is one connection to a pod that carries any number of streams.
type Tunnel struct {
	pod    string
	stream httpstream.Connection
	next   atomic.Int64
}

// Open connects to a pod. ctx bounds only the opening.
func Open(ctx context.Context, c *cluster.Cluster, namespace, pod string) (*Tunnel, error) {
	if c.Config == nil {
		return nil, ErrNoConfig
	}
	url := c.Kube.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(c.Config)
	if err != nil {
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, err)
	}
	overSPDY := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	overWebSocket, err := portforward.NewSPDYOverWebsocketDialer(url, c.Config)
	if err != nil {
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, err)
	}
	// Proxies in front of API servers pass WebSockets more often than SPDY;
	// older API servers know only SPDY.
	dialer := portforward.NewFallbackDialer(overWebSocket, overSPDY, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
	type result struct {
		stream httpstream.Connection
		err    error
	}
	// The dialers take no context. An abandoned attempt closes itself.
	done := make(chan result, 1)
	go func() {
		stream, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
		done <- result{stream, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, r.err)
		}
		return &Tunnel{pod: namespace + "/" + pod, stream: r.stream}, nil
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				_ = r.stream.Close()
			}
		}()
		return nil, fmt.Errorf("port-forward to pod %s/%s: %w", namespace, pod, ctx.Err())
	}
}

// Close ends the tunnel and every connection in it.
func (t *Tunnel) Close() error { return t.stream.Close() }

// Dial connects to a port of the pod.
func (t *Tunnel) Dial(port int32) (net.Conn, error) {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.FormatInt(t.next.Add(1), 10))
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	failure, err := t.stream.CreateStream(headers)
	if err != nil {
		return nil, fmt.Errorf("connection to port %d of pod %s: %w", port, t.pod, err)
	}
	_ = failure.Close() // Our half: only the other side writes errors.
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := t.stream.CreateStream(headers)
	if err != nil {
		t.stream.RemoveStreams(failure)
		return nil, fmt.Errorf("connection to port %d of pod %s: %w", port, t.pod, err)
	}
	c := &conn{Stream: data, tunnel: t, port: port, failed: make(chan struct{})}
	go func() {
		defer close(c.failed)
		message, _ := io.ReadAll(failure)
		t.stream.RemoveStreams(failure)
		if len(message) > 0 {
			c.failure = fmt.Errorf("connection to port %d of pod %s: %s", port, t.pod, message)
			_ = data.Reset()
		}
	}()
	return c, nil
}

// DialContext has the shape net/http and gRPC want; network and address are
// ignored in favour of the port.
func (t *Tunnel) DialContext(port int32) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return t.Dial(port) }
}

// conn is one data stream as a net.Conn. Deadlines work by closing the stream:
// an expired connection cannot be used again.
type conn struct {
	httpstream.Stream
	tunnel *Tunnel
	port   int32
	// failed is closed when the other side ended its error stream; failure
	// may be read after that.
	failed  chan struct{}
	failure error

	mu      sync.Mutex
	timer   *time.Timer // guarded by mu
	expired atomic.Bool
}

var _ net.Conn = (*conn)(nil)

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Stream.Read(p)
	return n, c.explain(err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Stream.Write(p)
	return n, c.explain(err)
}

// explain replaces the bare end of a stream by its reason where one is known.
func (c *conn) explain(err error) error {
	if err == nil {
		return nil
	}
	if c.expired.Load() {
		return os.ErrDeadlineExceeded
	}
	select {
	case <-c.failed:
		if c.failure != nil {
			return c.failure
		}
	default:
	}
	return err
}

func (c *conn) Close() error {
	c.mu.Lock()
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	err := c.Stream.Reset()
	c.tunnel.stream.RemoveStreams(c.Stream)
	return err
}

func (c *conn) SetDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if at.IsZero() {
		return nil
	}
	c.timer = time.AfterFunc(time.Until(at), func() {
		c.expired.Store(true)
		_ = c.Stream.Reset()
	})
	return nil
}

func (c *conn) SetReadDeadline(at time.Time) error  { return c.SetDeadline(at) }
func (c *conn) SetWriteDeadline(at time.Time) error { return c.SetDeadline(at) }

func (c *conn) LocalAddr() net.Addr  { return addr{c.tunnel.pod, c.port} }
func (c *conn) RemoteAddr() net.Addr { return addr{c.tunnel.pod, c.port} }

type addr struct {
	pod  string
	port int32
}

func (a addr) Network() string { return "portforward" }
func (a addr) String() string  { return fmt.Sprintf("%s:%d", a.pod, a.port) }
