package diagnostics

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	"github.com/linkerd-go/linkerd-go/cli/controlapi"
	"github.com/linkerd-go/linkerd-go/internal/command"
	"github.com/linkerd-go/linkerd-go/internal/command/commandtest"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// destination answers with fixed updates, then says nothing more; streams for
// names that begin with hasty it ends at once, as a server does that sees the
// deadline before its client or is stopping.
type destination struct {
	destinationpb.UnimplementedDestinationServer
	updates map[string][]*destinationpb.Update
}

func (d destination) Get(r *destinationpb.GetDestination, stream grpc.ServerStreamingServer[destinationpb.Update]) error {
	updates, ok := d.updates[r.GetPath()]
	if !ok {
		return status.Error(codes.InvalidArgument, "no such service")
	}
	for _, u := range updates {
		if err := stream.Send(u); err != nil {
			return err
		}
	}
	if !strings.HasPrefix(r.GetPath(), "hasty") {
		<-stream.Context().Done()
	}
	return nil
}

func (d destination) GetProfile(r *destinationpb.GetDestination, stream grpc.ServerStreamingServer[destinationpb.DestinationProfile]) error {
	return stream.Send(&destinationpb.DestinationProfile{FullyQualifiedName: "profile of " + r.GetPath()})
}

type inbound struct {
	inboundpb.UnimplementedInboundServerPoliciesServer
}

func (inbound) GetPort(_ context.Context, r *inboundpb.PortSpec) (*inboundpb.Server, error) {
	return &inboundpb.Server{Labels: map[string]string{"workload": r.GetWorkload()}}, nil
}

// serve runs the services on connections it is handed.
func serve(t *testing.T, register func(*grpc.Server)) func(net.Conn) {
	t.Helper()
	conns := make(chan net.Conn)
	done := make(chan struct{})
	server := grpc.NewServer()
	register(server)
	go func() {
		defer close(done)
		_ = server.Serve(listener{conns, make(chan struct{})})
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return func(c net.Conn) {
		closed := make(chan struct{})
		conns <- &watched{Conn: c, closed: closed}
		<-closed
	}
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l listener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}
func (l listener) Addr() net.Addr { return &net.TCPAddr{} }

// watched says when the server is done with a connection.
type watched struct {
	net.Conn
	closed chan struct{}
}

func (w *watched) Close() error {
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return w.Conn.Close()
}

func addr(last byte, pod string) *destinationpb.WeightedAddr {
	return &destinationpb.WeightedAddr{
		Addr:         &netpb.TcpAddress{Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: 10<<24 | uint32(last)}}, Port: 8080},
		Weight:       10000,
		MetricLabels: map[string]string{"pod": pod},
	}
}

func add(namespace, service string, addrs ...*destinationpb.WeightedAddr) *destinationpb.Update {
	return &destinationpb.Update{Update: &destinationpb.Update_Add{Add: &destinationpb.WeightedAddrSet{
		Addrs: addrs, MetricLabels: map[string]string{"namespace": namespace, "service": service},
	}}}
}

func remove(a *destinationpb.WeightedAddr) *destinationpb.Update {
	return &destinationpb.Update{Update: &destinationpb.Update_Remove{Remove: &destinationpb.AddrSet{Addrs: []*netpb.TcpAddress{a.GetAddr()}}}}
}

func TestCommands(t *testing.T) {
	web1, web2 := addr(1, "web-1"), addr(2, "web-2")
	updates := map[string][]*destinationpb.Update{
		"web.shop.svc.cluster.local:80":    {add("shop", "web", web1, web2, addr(3, "web-3")), remove(web2)},
		"api.default.svc.cluster.local:80": {add("default", "api", addr(9, "api-1"))},
		"none.shop.svc.cluster.local:80":   {},
		"hasty.shop.svc.cluster.local:80":  {add("shop", "hasty", addr(7, "hasty-1"))},
		"hasty-none:80":                    {},
	}
	for _, c := range []struct {
		name, args, out, errs string
	}{
		{
			name: "endpoints of two namespaces",
			args: "endpoints --timeout=200ms web.shop.svc.cluster.local api.default.svc.cluster.local:80",
			out: "NAMESPACE   IP         PORT   POD     SERVICE\ndefault     10.0.0.9   8080   api-1   api.default\n\n" +
				"NAMESPACE   IP         PORT   POD     SERVICE\nshop        10.0.0.1   8080   web-1   web.shop\nshop        10.0.0.3   8080   web-3   web.shop\n",
		},
		{
			name: "endpoints as JSON",
			args: "endpoints --timeout=200ms -o json api.default.svc.cluster.local:80",
			out: "[\n  {\n    \"namespace\": \"default\",\n    \"ip\": \"10.0.0.9\",\n    \"port\": 8080,\n    \"pod\": \"api-1\",\n    \"service\": \"api.default\",\n" +
				"    \"weight\": 10000,\n    \"labels\": {\n      \"namespace\": \"default\",\n      \"pod\": \"api-1\",\n      \"service\": \"api\"\n    }\n  }\n]\n",
		},
		{name: "no endpoints", args: "endpoints --timeout=200ms none.shop.svc.cluster.local", errs: "No endpoints found.\n"},
		{
			name: "a stream that the server ends", args: "endpoints --timeout=1m hasty.shop.svc.cluster.local",
			out: "NAMESPACE   IP         PORT   POD       SERVICE\nshop        10.0.0.7   8080   hasty-1   hasty.shop\n",
		},
		{
			name: "a stream that the server ends at once", args: "endpoints --timeout=1m hasty-none",
			errs: "Destination API error: the control plane ended the stream for hasty-none:80 before it said anything\n",
		},
		{
			name: "refused", args: "endpoints --timeout=200ms nonsense",
			errs: "Destination API error: rpc error: code = InvalidArgument desc = no such service\n",
		},
		{name: "profile", args: "profile 10.0.0.1:80", out: "{\n  \"fullyQualifiedName\": \"profile of 10.0.0.1:80\"\n}\n"},
		{name: "policy", args: "policy po/web-1 8080 -n shop", out: "labels:\n  workload: shop:web-1\n"},
		{name: "policy as JSON", args: "policy po/web-1 8080 -n shop -o json", out: "{\n  \"labels\": {\n    \"workload\": \"shop:web-1\"\n  }\n}\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "dst", Labels: map[string]string{"linkerd.io/control-plane-component": "destination"}},
				Status:     corev1.PodStatus{Phase: corev1.PodRunning},
			}
			r := commandtest.New(t, commandtest.Cluster(t, pod))
			server := serve(t, func(s *grpc.Server) {
				destinationpb.RegisterDestinationServer(s, destination{updates: updates})
				inboundpb.RegisterInboundServerPoliciesServer(s, inbound{})
			})
			r.Ports[commandtest.Address("linkerd", "dst", controlapi.Destination)] = server
			r.Ports[commandtest.Address("linkerd", "dst", controlapi.Policy)] = server
			cmd := New(r.World, &command.Globals{Namespace: "linkerd"})
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(strings.Fields(c.args))
			errs := ""
			if err := cmd.Execute(); err != nil {
				errs = err.Error() + "\n"
			}
			errs = r.Err.String() + errs
			if r.Out.String() != c.out || errs != c.errs {
				t.Errorf("out:\n%s\nwant\n%s\nerr: %q want %q", r.Out, c.out, errs, c.errs)
			}
		})
	}
}

func TestControllerMetrics(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "linkerd", Name: "dst", Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "policy", Ports: []corev1.ContainerPort{{Name: "policy-grpc", ContainerPort: 1}, {Name: "policy-admin", ContainerPort: 9990}}},
			{Name: "destination", Ports: []corev1.ContainerPort{{Name: "dest-admin", ContainerPort: 9996}}},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	r := commandtest.New(t, commandtest.Cluster(t, pod))
	r.Ports[commandtest.Address("linkerd", "dst", 9996)] = commandtest.Metrics("up 1\n")
	cmd := New(r.World, &command.Globals{Namespace: "linkerd"})
	cmd.SetArgs([]string{"controller-metrics"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	want := "#\n# POD dst (1 of 2)\n# CONTAINER destination \n#\nup 1\n#\n# POD dst (2 of 2)\n# ERROR there is no network in this test\n"
	if r.Out.String() != want {
		t.Errorf("output is\n%s\nwant\n%s", r.Out, want)
	}
}

func TestObfuscate(t *testing.T) {
	const in = `request_total{direction="inbound",authority="web.shop:80",client_id="",srv_name="web"} 1` + "\n"
	const want = `request_total{direction="inbound",authority="eb10a21f",client_id="e3b0c442",srv_name="web"} 1` + "\n"
	got := string(Obfuscate([]byte(in)))
	if len(got) != len(want) || !strings.Contains(got, `client_id="e3b0c442"`) || strings.Contains(got, "web.shop") || !strings.Contains(got, `srv_name="web"`) {
		t.Errorf("obfuscated: %s", got)
	}
}
