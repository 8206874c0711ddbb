package nft

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"

	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// That the kernel takes the rules and lists them like this is tested with a
// real kernel in test/netlab.

func TestRender(t *testing.T) {
	plan, err := rules.Build(rules.Options{
		InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: 2102, ProxyGID: -1,
		InboundPortsToIgnore:    []string{"4191", "4190", "80"},
		OutboundPortsToIgnore:   []string{"25-30"},
		SubnetsToIgnore:         []string{"10.0.0.1/8", "192.0.2.1/32", "0.0.0.0/0", "fd00::/8"},
		OutboundSubnetsToIgnore: []string{"198.51.100.0/24"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `table ip linkerd {
	chain PROXY_INIT_REDIRECT {
		tcp dport { 80, 4190-4191 } counter return comment "proxy-init/ignore-port-4191,4190,80"
		ip saddr 10.0.0.0/8 counter return comment "proxy-init/ignore-subnet-10.0.0.1/8"
		ip saddr 192.0.2.1 counter return comment "proxy-init/ignore-subnet-192.0.2.1/32"
		counter return comment "proxy-init/ignore-subnet-0.0.0.0/0"
		meta l4proto tcp counter redirect to :4143 comment "proxy-init/redirect-all-incoming-to-proxy-port"
	}

	chain PROXY_INIT_OUTPUT {
		meta skuid 2102 counter return comment "proxy-init/ignore-proxy-user-id"
		oifname "lo" counter return comment "proxy-init/ignore-loopback"
		tcp dport 25-30 counter return comment "proxy-init/ignore-port-25:30"
		ip daddr 198.51.100.0/24 counter return comment "proxy-init/ignore-outbound-subnet-198.51.100.0/24"
		meta l4proto tcp counter redirect to :4140 comment "proxy-init/redirect-all-outgoing-to-proxy-port"
	}

	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		counter jump PROXY_INIT_REDIRECT comment "proxy-init/install-proxy-init-prerouting"
	}

	chain OUTPUT {
		type nat hook output priority -100; policy accept;
		counter jump PROXY_INIT_OUTPUT comment "proxy-init/install-proxy-init-output"
	}
}
`
	if diff := cmp.Diff(want, Render(plan)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMergePorts(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"80":                      "80",
		"80,80":                   "80",
		"82,80,81":                "80:82",
		"1:10,5:7,9:12,14":        "1:12,14",
		"65535,0,65534":           "0,65534:65535",
		"0:65535,80":              "0:65535",
		"30:40,10:20,21:29,50:60": "10:40,50:60",
	} {
		if got := rules.JoinPorts(mergePorts(ranges(t, in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// The kernel keeps intervals as points; both ends of the port numbers are
// special.
func TestIntervals(t *testing.T) {
	for in, want := range map[string]string{
		"80:90,100":   "]0 [80 ]91 [100 ]101",
		"0,5:6":       "[0 ]1 [5 ]7",
		"1:2,9:65535": "]0 [1 ]3 [9",
		"0:65535":     "[0",
	} {
		if got := points(intervals(ranges(t, in))); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func ranges(t *testing.T, list string) []rules.PortRange {
	t.Helper()
	var out []rules.PortRange
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		r, err := rules.ParsePortRange(strings.Replace(text, ":", "-", 1))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func points(elements []nftables.SetElement) string {
	var words []string
	for _, e := range elements {
		sign := "["
		if e.IntervalEnd {
			sign = "]"
		}
		p := uint16(e.Key[0])<<8 | uint16(e.Key[1])
		words = append(words, sign+rules.PortRange{First: p, Last: p}.String())
	}
	return strings.Join(words, " ")
}

func TestClip(t *testing.T) {
	long := strings.Repeat("x", maxComment+1)
	if got := clip(long); got != long[:maxComment] {
		t.Errorf("%d characters are left", len(got))
	}
	if got := clip(long[:maxComment]); got != long[:maxComment] {
		t.Errorf("%d characters are left of %d", len(got), maxComment)
	}
}
