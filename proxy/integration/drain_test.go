package integration

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	identitypb "github.com/linkerd-go/linkerd-go/api/proto/identity"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// TestCertificatesRenewWhileDraining: a drain may take longer than a certificate
// lives. Until it is over peers have to accept the proxy as before.
func TestCertificatesRenewWhileDraining(t *testing.T) {
	ctl, _, m, _, server := meshed(t, map[string]string{"IDENTITY_MIN_REFRESH": "50ms", "IDENTITY_MAX_REFRESH": "50ms"})
	began, proceed := make(chan struct{}), make(chan struct{})
	m.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-proceed
	}))
	certified := func() int {
		n := 0
		for _, r := range ctl.Requests() {
			if c, ok := r.(*identitypb.CertifyRequest); ok && c.GetIdentity() == serverID {
				n++
			}
		}
		return n
	}
	inbound := server.Addrs().Inbound.String()
	answer := make(chan int, 1)
	go func() { answer <- m.request(inbound, "GET", "/hold", "Connection", "close").StatusCode }()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- server.stop() }()
	eventually(t, "inbound closed", func() bool {
		c, err := net.Dial("tcp", inbound)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	// One may have been under way.
	before := certified() + 1
	eventually(t, "certificates while draining", func() bool { return certified() > before })
	close(proceed)
	if got := <-answer; got != 200 {
		t.Errorf("the request in flight: %d", got)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// refusing is an HTTP/2 server that refuses the first request of its only
// connection by saying that it goes; from then on nobody is there.
func refusing(t *testing.T, gone func()) (addr string, refused *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused = new(atomic.Int32)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
			return
		}
		fr := xhttp2.NewFramer(c, c)
		_ = fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *xhttp2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *xhttp2.HeadersFrame:
				if refused.Add(1) == 1 {
					gone()
				}
				_ = fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil)
			}
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String(), refused
}

// TestRefusedRequestsGoElsewhere: a request that reaches an endpoint as it leaves,
// and so was not seen by it, is given to another one. It neither fails nor waits
// for the endpoint to come back.
func TestRefusedRequestsGoElsewhere(t *testing.T) {
	m := newMesh(t, nil)
	m.serve(http.HandlerFunc(echo))
	leaving := netip.MustParseAddrPort("10.0.0.7:8080")
	addr, refused := refusing(t, func() { m.net.set(leaving, "") })
	m.net.set(leaving, addr)
	m.endpoints.Set(endpoints(&model.Endpoint{Addr: leaving}, &model.Endpoint{Addr: serverAddr}))
	c := m.client(true)
	c.Timeout = 10 * time.Second
	eventually(t, "a request to be refused", func() bool {
		resp, err := c.Post("http://web.ns.svc.cluster.local/", "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("got %s: %s", resp.Status, resp.Header.Get("l5d-proxy-error"))
		}
		return refused.Load() > 0
	})
}

// TestApplicationLeaves: a request that the application refuses as it ends waits
// for it no longer than one that comes later.
func TestApplicationLeaves(t *testing.T) {
	m := newMesh(t, nil)
	addr, refused := refusing(t, func() { m.net.set(serverAddr, "") })
	m.net.set(serverAddr, addr)
	c := m.client(true)
	m.outAddr = m.inAddr
	for _, want := range []int32{1, 1} {
		resp, err := c.Post("http://web.ns.svc.cluster.local/", "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusGatewayTimeout || refused.Load() != want {
			t.Errorf("got %s: %s; %d refused", resp.Status, resp.Header.Get("l5d-proxy-error"), refused.Load())
		}
	}
}
