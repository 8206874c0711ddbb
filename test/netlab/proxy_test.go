package netlab_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app"
	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/testcontrol"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/redirect/nft"
	"github.com/linkerd-go/linkerd-go/test/netlab"
)

// serveHTTP answers requests with the text and the addresses as it sees them.
func serveHTTP(t *testing.T, u netlab.User, address, text string) {
	t.Helper()
	l := u.Listen(t, "tcp", address)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s host=%s client=%s", text, r.Host, r.Header.Get("L5d-Client-Id"))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// get asks an HTTP server once, from inside.
func get(t *testing.T, u netlab.User, network, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), netlab.Timeout)
	defer cancel()
	c, err := u.Dial(ctx, network, address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(netlab.Timeout))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, b)
}

// TestProxyBehindTheRealRedirection runs a whole proxy in a pod whose traffic the
// kernel redirects to it: original destinations are what the kernel says, and the
// proxy's own traffic is not redirected again.
func TestProxyBehindTheRealRedirection(t *testing.T) {
	lab := netlab.New(t)
	if err := lab.Pod.Do(func() error { return nft.Apply(build(t, options())) }); err != nil {
		t.Fatal(err)
	}
	const id = "pod.ns.serviceaccount.identity.linkerd.cluster.local"
	ctl, ca := testcontrol.New(t), testca.New(t)
	ctl.Identity = ca
	cfg := apptest.Config(t, ctl, ca, id, apptest.Env{
		"INBOUND_LISTEN_ADDR": "[::]:4143", "OUTBOUND_LISTEN_ADDRS": "127.0.0.1:4140,[::1]:4140", "ADMIN_LISTEN_ADDR": "[::]:4191",
		"OUTBOUND_LISTEN_ADDR": apptest.Unset, "DESTINATION_PROFILE_NETWORKS": apptest.Unset,
		"CONTROL_LISTEN_ADDR": "[::]:4190", "TAP_SVC_NAME": tapID,
		"INBOUND_IPS": "10.77.0.2,fd77::2", "INBOUND_DETECT_TIMEOUT": "1s", "OUTBOUND_DETECT_TIMEOUT": "1s",
	})
	var out apptest.Log
	proxy := lab.Pod.As(proxyUID, proxyGID)
	dialer := netx.DialerFunc(func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return proxy.Dial(ctx, "tcp", to.String())
	})
	var a *app.App
	// The sockets are the pod's. Whose the listening ones are does not matter,
	// and root can read the identity directory.
	if err := lab.Pod.Do(func() (err error) {
		a, err = app.New(app.Options{Config: cfg, Log: out.Logger(t, cfg), InboundDialer: dialer, OutboundDialer: dialer})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	apptest.Run(t, a, "the proxy", &out)

	workload := lab.Pod.As(appUID, appUID)
	serveHTTP(t, workload, ":8080", "pod")
	serveHTTP(t, lab.Peer.Root(), ":80", "peer")
	shout := lab.Peer.Listen(t, "tcp", ":25")
	go func() {
		for {
			c, err := shout.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 peer speaks first\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { shout.Close() })

	for _, c := range []struct {
		name, network, address string
		from                   netlab.User
		want                   string
	}{
		{"in", "tcp4", "10.77.0.2:8080", lab.Peer.Root(), "200 pod host=10.77.0.2:8080 client="},
		{"in, IPv6", "tcp6", "[fd77::2]:8080", lab.Peer.Root(), "200 pod host=[fd77::2]:8080 client="},
		{"out", "tcp4", "10.77.0.1:80", workload, "200 peer host=10.77.0.1:80 client="},
		{"out, IPv6", "tcp6", "[fd77::1]:80", workload, "200 peer host=[fd77::1]:80 client="},
		{"in, nobody there", "tcp4", "10.77.0.2:8081", lab.Peer.Root(), "502 "},
		{"out, nobody there", "tcp4", "10.77.0.1:81", workload, "502 "},
		{"admin is not redirected", "tcp4", "10.77.0.2:4191", lab.Peer.Root(), "404 "},
	} {
		if got := get(t, c.from, c.network, c.address); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	conn, err := workload.Dial(t.Context(), "tcp4", "10.77.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(netlab.Timeout))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "220 peer speaks first\n" {
		t.Errorf("got %q, %v", line, err)
	}
	meshServers(t, lab, ca, id)
	text := a.Metrics()
	for _, want := range []string{
		`tcp_open_total{direction="inbound",peer="src",target_addr="10.77.0.2:8080"`,
		`tcp_open_total{direction="inbound",peer="src",target_addr="[fd77::2]:8080"`,
		`tcp_open_total{direction="outbound",peer="dst",target_addr="10.77.0.1:80",target_ip="10.77.0.1",target_port="80",tls="no_identity",no_tls_reason="not_provided_by_service_discovery"} 1`,
		`tcp_open_total{direction="outbound",peer="src",target_addr="[fd77::1]:80"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}
