package gateway

import (
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestLooped(t *testing.T) {
	for _, c := range []struct {
		value string
		want  bool
	}{
		{"by=gw.ns;for=a;host=b;proto=https", true},
		{"for=a; BY=\"gw.ns\"", true},
		{"by=other,by=gw.ns", true},
		{"by=other", false},
		{"for=gw.ns", false},
		{"", false},
	} {
		var f exchange.Fields
		f.Add("Forwarded", c.value)
		if got := Looped(&f, "gw.ns"); got != c.want {
			t.Errorf("%q: got %v", c.value, got)
		}
	}
}
