package inbound

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestForwardedFor(t *testing.T) {
	long := strings.Repeat("10.9.9.9, ", 40) + "10.9.9.9"
	for _, c := range []struct {
		f      ForwardedFor
		client string
		before []string
		want   string
	}{
		{ForwardedForNone, "10.0.0.1", []string{"1.2.3.4"}, "1.2.3.4"},
		{ForwardedForAppend, "10.0.0.1", nil, "10.0.0.1"},
		{ForwardedForAppend, "10.0.0.1", []string{"1.2.3.4"}, "1.2.3.4, 10.0.0.1"},
		{ForwardedForAppend, "10.0.0.1", []string{"1.2.3.4", "", "5.6.7.8, 9.9.9.9"}, "1.2.3.4, 5.6.7.8, 9.9.9.9, 10.0.0.1"},
		{ForwardedForAppend, "10.0.0.1", []string{long}, long + ", 10.0.0.1"},
		{ForwardedForReplace, "::ffff:10.0.0.1", []string{"1.2.3.4", "5.6.7.8"}, "10.0.0.1"},
		{ForwardedForReplace, "fe80::1%eth0", nil, "fe80::1"},
	} {
		h := &exchange.RequestHead{}
		for _, v := range c.before {
			h.Add("X-Forwarded-For", v)
		}
		c.f.apply(h, netip.MustParseAddr(c.client))
		var got []string
		for _, e := range h.List {
			got = append(got, string(e.Value))
		}
		if strings.Join(got, "|") != c.want {
			t.Errorf("%s %s after %q: got %q, want %q", c.f, c.client, c.before, got, c.want)
		}
	}
}
