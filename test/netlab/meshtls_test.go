package netlab_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	tappb "github.com/linkerd-go/linkerd-go/api/proto/tap"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// tapID may tap the proxy of TestProxyBehindTheRealRedirection.
const tapID = "tap.viz.serviceaccount.identity.linkerd.cluster.local"

// meshServers calls the proxy's own servers from another machine, as meshed
// clients do: mesh TLS is taken by the admin server and demanded by the tap
// server, which looks at who it is.
func meshServers(t *testing.T, lab *netlab.Lab, ca *testca.CA, proxyID string) {
	t.Helper()
	// dial connects as somebody; nobody does not speak TLS.
	dial := func(as, address string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := lab.Peer.Root().Dial(ctx, "tcp4", address)
			if err != nil || as == "" {
				return c, err
			}
			id, err := model.ParseDNSIdentity(proxyID)
			if err != nil {
				return nil, err
			}
			return tls.Client(c, ca.Store(t, as).ClientConfig(model.DNSTLS(id), false)), nil
		}
	}
	const somebody = "web.ns.serviceaccount.identity.linkerd.cluster.local"
	for _, http2 := range []bool{false, true} {
		var protocols http.Protocols
		protocols.SetHTTP1(!http2)
		protocols.SetUnencryptedHTTP2(http2)
		tr := &http.Transport{Protocols: &protocols, DialContext: dial(somebody, "10.77.0.2:4191")}
		resp, err := (&http.Client{Transport: tr, Timeout: netlab.Timeout}).Get("http://admin/metrics")
		if err != nil {
			t.Errorf("metrics over mesh TLS, HTTP/2 %v: %v", http2, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		// The request itself is counted, with its client.
		if err != nil || resp.StatusCode != 200 ||
			!strings.Contains(string(b), `target_port="4191",tls="true",client_id="`+somebody+`"`) {
			t.Errorf("metrics over mesh TLS, HTTP/2 %v: status %d, %v", http2, resp.StatusCode, err)
		}
	}
	// How the proxy is configured is for the pod alone, and for whom a policy
	// names: no policy does here.
	for _, as := range []string{"", somebody} {
		tr := &http.Transport{DisableKeepAlives: true, DialContext: dial(as, "10.77.0.2:4191")}
		resp, err := (&http.Client{Transport: tr, Timeout: netlab.Timeout}).Get("http://admin/env.json")
		if err != nil {
			t.Errorf("environment as %q: %v", as, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != 403 {
			t.Errorf("environment as %q: status %d", as, resp.StatusCode)
		}
	}
	for _, c := range []struct {
		name, as string
		want     codes.Code
	}{
		// Without a limit the request is not valid, which is for the one to
		// hear who may ask.
		{"the tap controller", tapID, codes.InvalidArgument},
		{"somebody", somebody, codes.Unauthenticated},
		{"nobody", "", codes.Unauthenticated},
	} {
		connect := dial(c.as, "10.77.0.2:4190")
		conn, err := grpc.NewClient("passthrough:///tap", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return connect(ctx, "", "") }))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), netlab.Timeout)
		stream, err := tappb.NewTapClient(conn).Observe(ctx, &tappb.ObserveRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != c.want {
			t.Errorf("tap as %s: %v", c.name, err)
		}
		cancel()
		conn.Close()
	}
}
