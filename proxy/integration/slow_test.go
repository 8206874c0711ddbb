package integration

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/app/apptest"
	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/logs"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// firstFlight is what a TLS client says first.
func firstFlight(t *testing.T, cfg *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(a, cfg).Handshake()
	}()
	hello := make([]byte, 16<<10)
	n, err := b.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	<-done
	return hello[:n]
}

// TestSlowClients: connections that an inbound proxy cannot tell from honest ones yet,
// which say nothing more or a byte now and then, have to end. Time is virtual.
func TestSlowClients(t *testing.T) {
	ca := testca.New(t)
	store := ca.Store(t, serverID)
	hello := firstFlight(t, ca.Store(t, clientID).ClientConfig(model.DNSTLS(model.MustIdentity(serverID)), false))
	for _, c := range []struct {
		name string
		// first comes at once, then a byte of drip each second.
		first, drip string
		// within is when the proxy has to be done with it, ends how the answer begins.
		within time.Duration
		ends   string
	}{
		{"a hello and no more", string(hello), "", 10 * time.Second, ""},
		{"a part of a hello", string(hello[:100]), "", 10 * time.Second, ""},
		{"a hello byte by byte", string(hello[:1]), string(hello[1:]), 10 * time.Second, ""},
		{"a handshake that goes on byte by byte", string(hello), "\x14\x03\x03\x00\x01\x01\x17\x03\x03" + strings.Repeat("\x00", 100), 10 * time.Second, ""},
		{"a part of a head", "GET / HTTP/1.1\r\nHost: web\r\n", "", time.Minute, "HTTP/1.1 408 "},
		{"a head byte by byte", "GET / HTTP/1.1\r\nX: ", strings.Repeat("x", 3600), time.Minute, "HTTP/1.1 408 "},
		{"a preface and no more", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 10 * time.Second, "\x00"},
		{"a preface byte by byte", "PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n\x00\x00\x00\x04\x00", 10 * time.Second, "\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := &apptest.Log{}
				l, err := logs.New(logs.Options{Out: log, Filter: "debug"})
				if err != nil {
					t.Fatal(err)
				}
				m := &mesh{t: t, server: watch.New(model.DefaultServerPolicy(model.AllUnauthenticated, nil, 10*time.Second, false))}
				d := drain.New()
				p := inbound.New(inbound.Config{
					Port: proxyAddr.Port(), Detect: 10 * time.Second, Queue: 100, FailFast: patience, MaxInFlight: 1000,
					Policies: knowledge{m}, TLS: store, Dialer: &network{addrs: map[netip.AddrPort]string{}},
					OriginalDst: func(net.Conn) (netip.AddrPort, error) { return serverAddr, nil },
					Series:      series.New(metric.NewRegistry(metric.Options{})), Drain: d, Clock: clock.System, Log: l.Logger(),
				})
				ours, theirs := faultconn.Pipe(64 << 10)
				h, _ := d.Hold()
				began := time.Now()
				served := make(chan time.Duration, 1)
				go func() {
					defer h.Release()
					if rest := p.Accept(ours, h); rest != nil {
						for rest.GoOn() {
						}
					}
					served <- time.Since(began)
				}()
				said := make(chan struct{})
				go func() {
					defer close(said)
					if _, err := io.WriteString(theirs, c.first); err != nil {
						return
					}
					for i := range len(c.drip) {
						time.Sleep(time.Second)
						if _, err := theirs.Write([]byte{c.drip[i]}); err != nil {
							return
						}
					}
				}()
				answer, _ := io.ReadAll(theirs)
				// The proxy may wait a moment for a client to take what it was told.
				const moment = 10 * time.Second
				if after := <-served; after > c.within+moment {
					t.Errorf("it took %v, want %v\n%s", after, c.within, log)
				}
				if !bytes.HasPrefix(answer, []byte(c.ends)) {
					t.Errorf("answered %q", answer)
				}
				theirs.Close()
				<-said
				p.Close()
			})
		})
	}
}
