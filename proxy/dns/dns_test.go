package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/miekg/dns"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// server answers from records in zone file form; names that are not there do
// not exist, with a SOA of the given TTL.
func server(t *testing.T, records ...string) Config {
	t.Helper()
	var zone []dns.RR
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		zone = append(zone, rr)
	}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Rcode = dns.RcodeNameError
		for _, rr := range zone {
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				m.Rcode = dns.RcodeSuccess
				if rr.Header().Rrtype == q.Question[0].Qtype {
					m.Answer = append(m.Answer, rr)
				}
			}
			if rr.Header().Name == "fail." && strings.HasPrefix(q.Question[0].Name, "fail.") {
				m.Rcode = dns.RcodeServerFailure
			}
		}
		if len(m.Answer) == 0 && m.Rcode != dns.RcodeServerFailure {
			soa, _ := dns.NewRR("cluster.local. 30 IN SOA ns.dns. host. 1 7200 1800 86400 20")
			m.Ns = []dns.RR{soa}
		}
		w.WriteMsg(m)
	})}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	done := make(chan struct{})
	go func() { defer close(done); s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { s.Shutdown(); <-done })
	_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
	f := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(f, []byte("nameserver 127.0.0.1\nsearch ns.svc.cluster.local\noptions ndots:5 attempts:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serverPort.Store(&port)
	return Config{File: f}
}

var serverPort atomic.Pointer[string]

func resolver(t *testing.T, cfg Config) *Resolver {
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if p := serverPort.Load(); p != nil {
		r.file.port = *p
	}
	return r
}

func TestResolve(t *testing.T) {
	const host = "dst.linkerd.svc.cluster.local."
	for _, c := range []struct {
		name     string
		records  []string
		min, max time.Duration
		host     string
		want     string
		ttl      time.Duration
		err      string
		counts   string
	}{
		{name: "srv", records: []string{host + " 30 SRV 0 1 8086 10-42-0-5." + host, host + " 10 SRV 0 1 8086 10-42-0-4." + host, host + " 30 SRV 0 1 8087 fd00--1." + host},
			want: "10.42.0.4:8086 10.42.0.5:8086 [fd00::1]:8087", ttl: 10 * time.Second, counts: "SRV/ok"},
		{name: "bad srv falls back", records: []string{host + " 30 SRV 0 1 8086 10-42-0-5." + host, host + " 30 SRV 0 1 8086 name." + host, host + " 7 A 10.0.0.1", host + " 20 AAAA fd00::2"},
			want: "10.0.0.1:99 [fd00::2]:99", ttl: 7 * time.Second, counts: "SRV/not_found A/AAAA/ok"},
		{name: "only A", records: []string{host + " 1 A 10.0.0.1"}, want: "10.0.0.1:99", ttl: 5 * time.Second, counts: "SRV/not_found A/AAAA/ok"},
		{name: "clamped", records: []string{host + " 100 A 10.0.0.1"}, max: 50 * time.Second, want: "10.0.0.1:99", ttl: 50 * time.Second, counts: "SRV/not_found A/AAAA/ok"},
		{name: "raised", records: []string{host + " 10 A 10.0.0.1"}, min: 50 * time.Second, want: "10.0.0.1:99", ttl: 50 * time.Second, counts: "SRV/not_found A/AAAA/ok"},
		{name: "missing", ttl: 20 * time.Second, err: "no addresses found", counts: "SRV/not_found A/AAAA/not_found"},
		{name: "failing", records: []string{"fail. 1 A 1.2.3.4"}, host: "fail.x.", err: "SERVFAIL", counts: "SRV/not_found A/AAAA/not_found"},
		{name: "relative", records: []string{"web.ns.svc.cluster.local. 9 A 10.0.0.9"}, host: "web", want: "10.0.0.9:99", ttl: 9 * time.Second, counts: "SRV/not_found A/AAAA/ok"},
		{name: "absolute is not searched", records: []string{"web.ns.svc.cluster.local. 9 A 10.0.0.9"}, host: "web.", ttl: 20 * time.Second, err: "no addresses found", counts: "SRV/not_found A/AAAA/not_found"},
		{name: "address", host: "10.1.2.3", want: "10.1.2.3:99", ttl: forever},
		{name: "localhost", host: "localhost.", want: "127.0.0.1:99", ttl: forever},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := server(t, c.records...)
			cfg.MinTTL, cfg.MaxTTL = c.min, c.max
			var counts []string
			cfg.Count = func(record, result string) { counts = append(counts, record+"/"+result) }
			if c.host == "" {
				c.host = host
			}
			a, err := resolver(t, cfg).Resolve(context.Background(), c.host, 99)
			var got []string
			for _, x := range a.Addrs {
				got = append(got, x.String())
			}
			if strings.Join(got, " ") != c.want || a.TTL != c.ttl {
				t.Errorf("%v for %v, want %s for %v", got, a.TTL, c.want, c.ttl)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if c.err == "no addresses found" && !errors.Is(err, ErrNotFound) {
				t.Error("not ErrNotFound")
			}
			if s := strings.Join(counts, " "); s != c.counts {
				t.Errorf("counted %s", s)
			}
		})
	}
}

func TestResolveIsCancelled(t *testing.T) {
	cfg := server(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := fmt.Errorf("stopping")
	cancel(stop)
	if _, err := resolver(t, cfg).Resolve(ctx, "x.y.", 1); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestIsLoopback(t *testing.T) {
	for _, h := range []string{"127.0.0.1", "127.9.9.9", "::1", "localhost."} {
		if !IsLoopback(h) {
			t.Error(h)
		}
	}
	for _, h := range []string{"localhost", "10.0.0.1", "x."} {
		if IsLoopback(h) {
			t.Error(h)
		}
	}
	if _, err := New(Config{File: "/nonexistent"}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
