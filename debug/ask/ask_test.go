package ask

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

type command = func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// expect runs a command and looks for each of the texts in what it prints, in their order.
func expect(t *testing.T, run command, code int, want []string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	got := run(t.Context(), args, &out, &out)
	rest := out.String()
	for _, w := range want {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%q is missing, or in another order, in:\n%s", w, out.String())
			return
		}
		rest = after
	}
	if got != code {
		t.Errorf("exit code %d, want %d; output:\n%s", got, code, out.String())
	}
}

func TestGet(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("L5d-Proxy-Error", "service in fail-fast")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%s %s %s %s %q", r.Method, r.Proto, r.Host, r.Header.Get("X-Test"), body)
		w.Header().Set("Grpc-Status", "14")
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	expect(t, Get, 0, []string{
		"* connected from 127.0.0.1:", "* response after ", "HTTP/1.1 503 Service Unavailable\n", "l5d-proxy-error: service in fail-fast\n",
		"\nPOST HTTP/1.1 shop:80 v \"hi\"", "* trailers\ngrpc-status: 14\n", "* body of ",
	}, "-X", "POST", "-H", "Host: shop:80", "-H", "x-test: v", "-d", "hi", strings.TrimPrefix(s.URL, "http://"))
	expect(t, Get, 0, []string{"HTTP/2.0 503", "GET HTTP/2.0"}, "--http2", s.URL)
	s.Close()
	expect(t, Get, 1, []string{"linkerd-debug: get: ", "connection refused"}, s.URL)
}

// TestGetTLS: the image has no authorities, so the error says what is wrong, and -k goes on.
func TestGetTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	expect(t, Get, 1, []string{"linkerd-debug: get: ", "certificate"}, s.URL)
	expect(t, Get, 0, []string{"404 Not Found"}, "-k", s.URL)
}

func TestProxy(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			fmt.Fprintln(w, "request_total 7")
		case "/ready":
			fmt.Fprintln(w, "ready")
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	address := "--address=" + strings.TrimPrefix(s.URL, "http://")
	expect(t, Proxy, 0, []string{"request_total 7\n"}, address)
	expect(t, Proxy, 0, []string{"ready\n"}, address, "/ready")
	expect(t, Proxy, 1, []string{"linkerd-debug: proxy: /other of the proxy at 127.0.0.1:", "404 Not Found"}, address, "other")
}

func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2"}}
	s.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, TLS, 0, []string{
		"connected ", " to " + u.Host, "certificate 0  O=Acme Co", "names        example.com, ", "valid ", "the server asks for a certificate",
		"handshake      TLS 1.3, TLS_", "protocol       h2",
	}, "--alpn", "h2,http/1.1", u.Host)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain := make(chan struct{})
	go func() {
		defer close(plain)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 1))
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, c) // until the client has gone, so that it is not reset before it reads
	}()
	expect(t, TLS, 1, []string{"linkerd-debug: tls: handshake with " + l.Addr().String() + ": "}, l.Addr().String())
	l.Close()
	<-plain
}

func TestValidity(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "web"}, NotBefore: from, NotAfter: from.Add(24 * time.Hour)}
	for at, want := range map[time.Duration]string{-time.Second: ", NOT YET", 25 * time.Hour: ", EXPIRED", time.Hour: ", for another 23h0m0s"} {
		if got := validity(c, from.Add(at)); got != want {
			t.Errorf("after %v: %q, want %q", at, got, want)
		}
	}
}

// TestResolve asks a server that knows one name, which the search domains lead to.
func TestResolve(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		switch {
		case q.Question[0].Name != "web.shop.svc.cluster.local.":
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(10, 43, 0, 7)}}
		}
		_ = w.WriteMsg(m)
	})}
	served := make(chan error, 1)
	go func() { served <- s.ActivateAndServe() }()
	<-started
	defer func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		<-served
	}()
	config := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(config, []byte("nameserver 192.0.2.1\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	server := conn.LocalAddr().String()
	flags := []string{"--config", config, "--server", server, "--timeout", "30s"}
	expect(t, Resolve, 0, []string{
		"web.shop.svc.cluster.local. A  " + server + ": NOERROR, 1 records, by udp, after ",
		"  web.shop.svc.cluster.local.  A  10.43.0.7  ttl 5 s\n",
		"web.shop.svc.cluster.local. AAAA  " + server + ": NOERROR, 0 records",
	}, append(flags, "web")...)
	expect(t, Resolve, 0, []string{
		"web.shop.shop.svc.cluster.local. A  " + server + ": NXDOMAIN", "web.shop.svc.cluster.local.  A  10.43.0.7",
	}, append(flags, "web.shop")...)
	expect(t, Resolve, 1, []string{"other. SRV ", "linkerd-debug: resolve: other: no such name"}, append(flags, "--type", "srv", "other")...)
}

func TestSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, Sockets, 0, []string{l.Addr().String(), fmt.Sprintf("%s/%d\n", strings.TrimSpace(string(comm)), os.Getpid())}, "-l")
}

func TestPrintSockets(t *testing.T) {
	var out strings.Builder
	err := printSockets(&out, []socket{
		{protocol: "tcp", state: state("tcp", 10), local: netip.MustParseAddrPort("0.0.0.0:4143"), remote: netip.MustParseAddrPort("0.0.0.0:0"), uid: proxyUID, inode: 7},
		{protocol: "tcp", state: state("tcp", 8), local: netip.MustParseAddrPort("10.0.0.1:80"), remote: netip.MustParseAddrPort("10.0.0.2:40000"), receive: 3, uid: 1000, inode: 8},
		{protocol: "udp", state: state("udp", 7), local: netip.MustParseAddrPort("[::]:53"), remote: netip.MustParseAddrPort("[::]:0")},
	}, map[uint32]string{8: "shop/1"})
	if err != nil {
		t.Fatal(err)
	}
	const want = `PROTOCOL  STATE       RECV  SEND  LOCAL         REMOTE          USER          PROCESS
tcp       LISTEN      0     0     0.0.0.0:4143  -               2102 (proxy)  -
tcp       CLOSE-WAIT  3     0     10.0.0.1:80   10.0.0.2:40000  1000          shop/1
udp       OPEN        0     0     [::]:53       -               0             -
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
