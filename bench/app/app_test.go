package app_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/linkerd-go/linkerd-go/bench/app"
	"github.com/linkerd-go/linkerd-go/bench/load"
	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

func start(t *testing.T, serve func(net.Listener) error) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestEcho(t *testing.T) {
	addr := start(t, app.Echo)
	for _, c := range []struct {
		protocol string
		streams  int
		rate     int
	}{{load.GRPC, 0, 0}, {load.GRPC, 0, 1000}, {load.Stream, 4, 0}} {
		res, err := load.Run(load.Options{Addr: addr, Protocol: c.protocol, Conns: 2, InFlight: 16, Streams: c.streams, Rate: c.rate,
			Duration: 200 * time.Millisecond, Body: 100, Authority: "a", Path: "/bench.Echo/Call"})
		if err != nil || res.Requests < 100 {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
	}
}

func TestBulk(t *testing.T) {
	addr := start(t, app.Bulk)
	res, err := load.Bulk(load.BulkOptions{Addr: addr, Sending: []bool{true, false}, Duration: 100 * time.Millisecond})
	if err != nil || res.Bytes < 1<<20 {
		t.Errorf("%+v, %v", res, err)
	}
}
