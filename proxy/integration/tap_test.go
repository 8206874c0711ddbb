package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	tappb "github.com/linkerd-go/linkerd-go/api/proto/tap"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

func TestTap(t *testing.T) {
	ctl, ca := testcontrol.New(t), testca.New(t)
	ctl.Identity = ca
	ctl.SetOutbound(serviceAddr.String(), testcontrol.ServicePolicy("ns", "web", 80))
	ctl.SetProfile(serviceAddr.String(), nil)
	n := &network{addrs: map[netip.AddrPort]string{}}
	m := &mesh{t: t, net: n}
	m.serve(http.HandlerFunc(echo))
	ctl.SetEndpoints("web.ns.svc.cluster.local:80", testcontrol.Endpoint(serverAddr.String()))
	p := startProxy(t, ctl, ca, clientID, n, serverAddr, serviceAddr, map[string]string{
		"TAP_SVC_NAME": "tap.linkerd-viz.serviceaccount.identity.linkerd.cluster.local", "CONTROL_LISTEN_ADDR": "127.0.0.1:0",
	})
	eventually(t, "ready", func() bool {
		code, _ := p.adminGet(t, "/ready")
		return code == 200
	})
	m.outAddr = p.Addrs().Outbound[0].String()
	conn, err := grpc.NewClient(p.Addrs().Tap.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := tappb.NewTapClient(conn)
	observe := func(limit uint32, match *tappb.ObserveRequest_Match) grpc.ServerStreamingClient[tappb.TapEvent] {
		s, err := client.Observe(ctx, &tappb.ObserveRequest{Limit: limit, Match: match, Extract: &tappb.ObserveRequest_Extract{
			Extract: &tappb.ObserveRequest_Extract_Http_{Http: &tappb.ObserveRequest_Extract_Http{
				Extract: &tappb.ObserveRequest_Extract_Http_Headers_{Headers: &tappb.ObserveRequest_Extract_Http_Headers{}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := &tappb.ObserveRequest_Match{Match: &tappb.ObserveRequest_Match_All{All: &tappb.ObserveRequest_Match_Seq{}}}
	if _, err := observe(0, all).Recv(); status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != "limit must be positive" {
		t.Errorf("got %v", err)
	}
	if _, err := observe(1, nil).Recv(); status.Code(err) != codes.InvalidArgument || status.Convert(err).Message() != "missing required field" {
		t.Errorf("got %v", err)
	}
	s := observe(1, all)
	// The tap is there once its response's head is, which comes with the first
	// event; ask until one was observed.
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := m.client(false)
		for ctx.Err() == nil {
			resp, err := c.Get("http://web.ns.svc.cluster.local/tapped?x=y")
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	first, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	init := first.GetHttp().GetRequestInit()
	if init.GetPath() != "/tapped" || init.GetAuthority() != "web.ns.svc.cluster.local" || init.GetHeaders() == nil ||
		first.ProxyDirection != tappb.TapEvent_OUTBOUND || first.DestinationMeta.Labels["tls"] != "not_provided_by_service_discovery" ||
		first.Destination.Port != 8080 || first.Source == nil {
		t.Errorf("got %v", first)
	}
	second, err := s.Recv()
	if err != nil || second.GetHttp().GetResponseInit().GetHttpStatus() != 200 {
		t.Errorf("got %v, %v", second, err)
	}
	third, err := s.Recv()
	if end := third.GetHttp().GetResponseEnd(); err != nil || end.GetSinceResponseInit() == nil || end.GetResponseBytes() == 0 {
		t.Errorf("got %v, %v", third, err)
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	cancel()
	<-done
}
