package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/linkerd-go/linkerd-go/cli"
	"github.com/linkerd-go/linkerd-go/control/policy/explain"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/golden"
)

// oneConn hands a server its only connection.
type oneConn struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l oneConn) Close() error   { close(l.closed); return nil }
func (l oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// serving runs a gRPC server on each connection that the returned function is
// given.
func serving(register func(grpc.ServiceRegistrar)) func(net.Conn) {
	return func(c net.Conn) {
		l := oneConn{make(chan net.Conn, 1), make(chan struct{})}
		gone := make(chan struct{})
		l.conns <- &closing{c, gone}
		server := grpc.NewServer()
		register(server)
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(l) }()
		<-gone
		server.Stop()
		<-done
	}
}

// closing says that a connection was closed.
type closing struct {
	net.Conn
	gone chan struct{}
}

func (c *closing) Close() error {
	select {
	case <-c.gone:
	default:
		close(c.gone)
	}
	return c.Conn.Close()
}

// TestExplain runs the commands of testdata/explain.txtar, each a part named
// after it whose content is what it prints, against the policy controller's own
// service with the same objects.
func TestExplain(t *testing.T) {
	const file = "testdata/explain.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config := policytest.Config()
	x := index.New(index.Options{Config: config, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { defer close(stopped); x.Run(ctx) }()
	defer func() { cancel(); <-stopped }()
	service := explain.New(x, &config)

	got := &txtar.Archive{Comment: archive.Comment}
	var list []runtime.Object
	for _, part := range archive.Files {
		if part.Name == "objects" {
			var objects policytest.Objects
			text := strings.ReplaceAll(string(part.Data), "  SIDECAR\n", `  initContainers:
  - name: linkerd-proxy
    env: [{name: LINKERD2_PROXY_IDENTITY_LOCAL_NAME, value: $(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local}]
`)
			for _, u := range objects.Read(t, text) {
				list = append(list, typed(t, u))
				if proxy, _, _ := unstructured.NestedSlice(u.Object, "spec", "initContainers"); u.GetKind() != "Pod" || proxy != nil {
					_ = x.Apply(ctx, u) // what is wrong with an object is part of explanations
				}
			}
			got.Files = append(got.Files, part)
			continue
		}
		line, ok := strings.CutPrefix(part.Name, "linkerd ")
		if !ok {
			t.Fatalf("unknown part %q", part.Name)
		}
		r := commandtest.New(t, commandtest.Cluster(t, list...))
		r.Ports[commandtest.Address("linkerd", "destination", 8090)] = serving(service.Register)
		r.Ports[commandtest.Address("older", "destination", 8090)] = serving(func(grpc.ServiceRegistrar) {})
		code := cli.Run(ctx, r.World, parts(), strings.Fields(line))
		errs, _, _ := strings.Cut(r.Err.String(), "Usage:\n")
		text := r.Out.String() + errs
		if code != 0 {
			text += "exit 1\n"
		}
		got.Files = append(got.Files, txtar.File{Name: part.Name, Data: []byte(text)})
	}
	golden.File(t, file, string(txtar.Format(got)))
}

// typed makes objects of built-in kinds what the fake clients want.
func typed(t *testing.T, u *unstructured.Unstructured) runtime.Object {
	t.Helper()
	text, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	object := commandtest.Objects(t, text)[0]
	if pod, ok := object.(*corev1.Pod); ok {
		pod.Status.Phase = corev1.PodRunning
	}
	return object
}
