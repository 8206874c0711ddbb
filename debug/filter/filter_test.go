package filter

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/debug/packet"
)

func TestMatch(t *testing.T) {
	p := packet.Packet{
		Protocol: "tcp", Length: 10, SrcPort: 40000, DstPort: 8080,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.1.2"),
	}
	for expression, want := range map[string]bool{
		"":                                  true,
		"tcp":                               true,
		"udp":                               false,
		"icmp or tcp":                       true,
		"ip6":                               false,
		"host 10.0.0.1":                     true,
		"host 10.0.1.0/24":                  true,
		"host fd00::/8":                     false,
		"src host 10.0.1.2":                 false,
		"dst host 10.0.1.2":                 true,
		"port 8080":                         true,
		"port 8000-8100":                    true,
		"src port 8080":                     false,
		"port 80 or port 443":               false,
		"tcp and not port 8080":             false,
		"udp and port 1 or tcp":             true,
		"udp and (port 1 or tcp)":           false,
		"not (udp or port 80) and payload":  true,
		"out":                               true,
		"in or local":                       false,
		"on eth0":                           true,
		"on lo":                             false,
		"tcp and ( host 10.0.0.1 and out )": true,
	} {
		f, err := Parse(expression)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if got := f.Match(p, Out, "eth0"); got != want {
			t.Errorf("%q: %v, want %v", expression, got, want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for expression, want := range map[string]string{
		"tcp udp":        `unexpected "udp"`,
		"port":           "a port is missing",
		"port 0":         `not a port: "0"`,
		"port 90-80":     `not a port: "90-80"`,
		"port 70000":     `not a port: "70000"`,
		"host example":   `not an address: "example"`,
		"host 1.2.3.4/x": `not a network: "1.2.3.4/x"`,
		"src 1.2.3.4":    `"host" or "port" is wanted`,
		"( tcp":          "a parenthesis is not closed",
		"tcp )":          `unexpected ")"`,
		"tcp and":        "a condition is missing",
		"not":            "a condition is missing",
		"tpc":            `unknown condition "tpc"`,
	} {
		if _, err := Parse(expression); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", expression, err, want)
		}
	}
}
