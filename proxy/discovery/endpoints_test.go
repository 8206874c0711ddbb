package discovery

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	netpb "github.com/linkerd-go/linkerd-go/api/lean/net"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
)

// update makes a message from "add 1 2", "remove 1", "none", "missing", where a
// number is the last part of an address and 0 an address that cannot be read.
func update(s string) *destinationpb.Update {
	w := strings.Fields(s)
	var list []*netpb.TcpAddress
	for _, n := range w[1:] {
		if n == "0" {
			list = append(list, &netpb.TcpAddress{Port: 80})
			continue
		}
		list = append(list, decode.EncodeAddr(netip.MustParseAddrPort("10.0.0."+n+":80")))
	}
	switch w[0] {
	case "add":
		var set destinationpb.WeightedAddrSet
		for _, a := range list {
			set.Addrs = append(set.Addrs, &destinationpb.WeightedAddr{Addr: a})
		}
		return &destinationpb.Update{Update: &destinationpb.Update_Add{Add: &set}}
	case "remove":
		return &destinationpb.Update{Update: &destinationpb.Update_Remove{Remove: &destinationpb.AddrSet{Addrs: list}}}
	case "none", "missing":
		return &destinationpb.Update{Update: &destinationpb.Update_NoEndpoints{NoEndpoints: &destinationpb.NoEndpoints{Exists: w[0] == "none"}}}
	}
	return &destinationpb.Update{}
}

func TestEndpointUpdates(t *testing.T) {
	for _, c := range []struct{ steps, want string }{
		{"add 1 2|add 3|remove 1", "1 2|1 2 3|2 3"},
		{"add 1|reconnect|add 2", "1|-|2"},
		{"add 1|reconnect|remove 1|add 2", "1|-|-|2"},
		{"remove 1|add 1", "-|1"},
		{"add 0|add|unset|add 0 1", "-|-|-|1"},
		{"add 1|remove|remove 0", "1|-|-"},
		{"add 1|reconnect|add 0|add 2", "1|-|-|2"},
		{"add 1|none|add 2", "1| (exists)|2"},
		{"add 1|missing|add 2", "1| (missing)|2"},
		{"add 2 1 2", "1 2"},
	} {
		s := newEndpoints()
		var got []string
		for step := range strings.SplitSeq(c.steps, "|") {
			if step == "reconnect" {
				s.reconnected()
				got = append(got, "-")
				continue
			}
			set := s.apply(update(step))
			if set == nil {
				got = append(got, "-")
				continue
			}
			var list []string
			for _, e := range set.Endpoints {
				list = append(list, fmt.Sprint(e.Addr.Addr().As4()[3]))
			}
			text := strings.Join(list, " ")
			if len(list) == 0 {
				text = map[bool]string{true: " (exists)", false: " (missing)"}[set.Exists]
			}
			got = append(got, text)
		}
		if s := strings.Join(got, "|"); s != c.want {
			t.Errorf("%s: %s, want %s", c.steps, s, c.want)
		}
	}
}
