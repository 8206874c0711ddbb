package control

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
)

func TestPodsHaveAddressesOfTheirOwn(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for s := range 500 {
		for i := range EndpointsPerService {
			addr := podAddr(s, i)
			if seen[addr] || !netip.MustParsePrefix("10.32.0.0/11").Contains(addr) {
				t.Fatalf("pod %d of service %d has %s", i, s, addr)
			}
			seen[addr] = true
		}
	}
}

func TestEachDoesAllOnce(t *testing.T) {
	done := make([]atomic.Int32, 100)
	if err := each(10, 100, func(i int) error { done[i].Add(1); return nil }); err != nil {
		t.Fatal(err)
	}
	for i := range done {
		want := int32(1)
		if i < 10 {
			want = 0
		}
		if got := done[i].Load(); got != want {
			t.Errorf("%d was done %d times", i, got)
		}
	}
	wrong := errors.New("wrong")
	if err := each(0, 100, func(i int) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
}

func TestProxyFollowsUpdates(t *testing.T) {
	p := &proxy{view: make(map[netip.AddrPort]struct{})}
	addr := func(last uint32) *netpb.TcpAddress {
		return &netpb.TcpAddress{Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: 10<<24 | last}}, Port: 8080}
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		for a := range p.view {
			got = append(got, a.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	p.apply(&destinationpb.Update{Update: &destinationpb.Update_Add{Add: &destinationpb.WeightedAddrSet{
		Addrs: []*destinationpb.WeightedAddr{{Addr: addr(1)}, {Addr: addr(2)}},
	}}})
	check("10.0.0.1:8080", "10.0.0.2:8080")
	p.apply(&destinationpb.Update{Update: &destinationpb.Update_Remove{Remove: &destinationpb.AddrSet{Addrs: []*netpb.TcpAddress{addr(1)}}}})
	check("10.0.0.2:8080")
	p.apply(&destinationpb.Update{Update: &destinationpb.Update_NoEndpoints{NoEndpoints: &destinationpb.NoEndpoints{Exists: true}}})
	check()
}
