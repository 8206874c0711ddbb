package integration

import (
	"bytes"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	spiffepb "github.com/linkerd-go/linkerd-go/api/proto/spiffe"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

// agent is a SPIFFE Workload API: it gives the workload what updates says, once
// each.
type agent struct {
	spiffepb.UnimplementedSpiffeWorkloadAPIServer
	updates chan *spiffepb.X509SVIDResponse
}

func (a *agent) FetchX509SVID(_ *spiffepb.X509SVIDRequest, out grpc.ServerStreamingServer[spiffepb.X509SVIDResponse]) error {
	for {
		select {
		case u := <-a.updates:
			if err := out.Send(u); err != nil {
				return err
			}
		case <-out.Context().Done():
			return nil
		}
	}
}

// startAgent starts an agent; give issues a certificate for an id and sends it.
func startAgent(t *testing.T, ca *testca.CA) (socket string, give func(id string)) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{updates: make(chan *spiffepb.X509SVIDResponse, 8)}
	server := grpc.NewServer()
	spiffepb.RegisterSpiffeWorkloadAPIServer(server, a)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Stop
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return socket, func(id string) {
		key := testca.NewKey(t)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		a.updates <- &spiffepb.X509SVIDResponse{Svids: []*spiffepb.X509SVID{{
			SpiffeId: id, X509Svid: bytes.Join(ca.Issue(t, key.Public(), id), nil), X509SvidKey: der,
		}}}
	}
}

// TestSPIFFE runs two workloads outside of any cluster, whose identities are URIs
// from a SPIFFE Workload API: they find, prove and check each other, and new
// certificates are taken as they come.
func TestSPIFFE(t *testing.T) {
	const server, client = "spiffe://root.linkerd.cluster.local/web", "spiffe://root.linkerd.cluster.local/client"
	ctl, ca := testcontrol.New(t), testca.New(t)
	ctl.SetOutbound(serviceAddr.String(), testcontrol.ServicePolicy("ns", "web", 80))
	ctl.SetProfile(serviceAddr.String(), nil)
	ctl.SetInbound(8080, testcontrol.OpenServer())
	n := &network{addrs: map[netip.AddrPort]string{}}
	m := &mesh{t: t, net: n}
	m.serve(http.HandlerFunc(echo))
	env := func(id, name string) (map[string]string, func(string)) {
		socket, give := startAgent(t, ca)
		return map[string]string{
			"IDENTITY_SPIRE_WORKLOAD_API_ADDRESS": "unix:" + socket, "IDENTITY_LOCAL_NAME": apptest.Unset,
			"IDENTITY_SERVER_ID": id, "IDENTITY_SERVER_NAME": name,
		}, give
	}
	serverEnv, giveServer := env(server, "web.ns.mesh")
	clientEnv, giveClient := env(client, "client.ns.mesh")
	in := startProxy(t, ctl, ca, "web.ns.mesh", n, serverAddr, serviceAddr, serverEnv)
	out := startProxy(t, ctl, ca, "client.ns.mesh", dialVia{n}, serverAddr, serviceAddr, clientEnv)
	n.set(proxyAddr, in.Addrs().Inbound.String())
	endpoint := func(id string) *destinationpb.WeightedAddr {
		e := testcontrol.MeshedEndpoint(serverAddr.String(), "unused", 0)
		e.TlsIdentity = &destinationpb.TlsIdentity{
			Strategy:   &destinationpb.TlsIdentity_UriLikeIdentity_{UriLikeIdentity: &destinationpb.TlsIdentity_UriLikeIdentity{Uri: id}},
			ServerName: &destinationpb.TlsIdentity_DnsLikeIdentity{Name: "web.ns.mesh"},
		}
		return e
	}
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", endpoint(server))
	// Without a certificate nobody is ready.
	if status, _ := in.adminGet(t, "/ready"); status != 503 {
		t.Errorf("ready without a certificate: %d", status)
	}
	giveServer("spiffe://root.linkerd.cluster.local/somebody-else")
	giveServer(server)
	giveClient(client)
	for _, p := range []*proxyProcess{in, out} {
		eventually(t, "ready", func() bool {
			status, _ := p.adminGet(t, "/ready")
			return status == 200
		})
	}
	m.outAddr, m.inAddr = out.Addrs().Outbound[0].String(), in.Addrs().Inbound.String()
	eventually(t, "served over mTLS", func() bool {
		resp, body := m.get(m.client(false), "http://web.ns.svc.cluster.local/")
		return resp.StatusCode == 200 && strings.Contains(body, "client="+client)
	})
	for p, want := range map[*proxyProcess]string{
		in:  `tls="true",client_id="` + client + `"`,
		out: `tls="true",server_id="` + server + `"`,
	} {
		if text := p.Metrics(); !strings.Contains(text, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// A new certificate comes into use while the proxy runs.
	old := in.Store().Leaf().Get()
	giveServer(server)
	eventually(t, "a new certificate", func() bool { return in.Store().Leaf().Get() != old })
	if resp, _ := m.get(m.client(false), "http://web.ns.svc.cluster.local/"); resp.StatusCode != 200 {
		t.Errorf("with the new certificate: %d", resp.StatusCode)
	}
	// A server with another identity is not talked to.
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", endpoint("spiffe://root.linkerd.cluster.local/other"))
	eventually(t, "refused", func() bool {
		resp, _ := m.get(m.client(false), "http://web.ns.svc.cluster.local/")
		return resp.StatusCode >= 502
	})
}
