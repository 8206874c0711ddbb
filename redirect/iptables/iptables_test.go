package iptables_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/linkerd-go/linkerd-go/redirect/iptables"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

func plan(t *testing.T) rules.Plan {
	t.Helper()
	p, err := rules.Build(rules.Options{
		InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: 2102, ProxyGID: 2103,
		InboundPortsToIgnore:    []string{"4190", "9000-9002"},
		OutboundPortsToIgnore:   []string{"25"},
		SubnetsToIgnore:         []string{"10.0.0.1/8"},
		OutboundSubnetsToIgnore: []string{"198.51.100.0/24"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func lines(commands []iptables.Command) []string {
	var out []string
	for _, c := range commands {
		out = append(out, c.String())
	}
	return out
}

func TestCommands(t *testing.T) {
	inbound := []string{
		"iptables-legacy -t nat -N PROXY_INIT_REDIRECT",
		"iptables-legacy -t nat -A PROXY_INIT_REDIRECT -p tcp --match multiport --dports 4190,9000:9002 -j RETURN -m comment --comment proxy-init/ignore-port-4190,9000:9002",
		"iptables-legacy -t nat -A PROXY_INIT_REDIRECT -p all -s 10.0.0.0/8 -j RETURN -m comment --comment proxy-init/ignore-subnet-10.0.0.1/8",
		"iptables-legacy -t nat -A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143 -m comment --comment proxy-init/redirect-all-incoming-to-proxy-port",
		"iptables-legacy -t nat -A PREROUTING -j PROXY_INIT_REDIRECT -m comment --comment proxy-init/install-proxy-init-prerouting",
	}
	outbound := []string{
		"iptables-legacy -t nat -N PROXY_INIT_OUTPUT",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN -m comment --comment proxy-init/ignore-proxy-user-id",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -m owner --gid-owner 2103 -j RETURN -m comment --comment proxy-init/ignore-proxy-group-id",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -o lo -j RETURN -m comment --comment proxy-init/ignore-loopback",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -p tcp --match multiport --dports 25 -j RETURN -m comment --comment proxy-init/ignore-port-25",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -p all -d 198.51.100.0/24 -j RETURN -m comment --comment proxy-init/ignore-outbound-subnet-198.51.100.0/24",
		"iptables-legacy -t nat -A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140 -m comment --comment proxy-init/redirect-all-outgoing-to-proxy-port",
		"iptables-legacy -t nat -A OUTPUT -j PROXY_INIT_OUTPUT -m comment --comment proxy-init/install-proxy-init-output",
	}
	want := slices.Concat(inbound, outbound)
	family := plan(t).Families[0]
	tools := iptables.ToolsFor(iptables.Legacy, rules.IPv4)

	if diff := cmp.Diff(want, lines(iptables.Commands(family, tools, "", false))); diff != "" {
		t.Errorf("first run (-want +got):\n%s", diff)
	}

	// Chains and jumps that exist are not made again; names that only begin
	// alike do not count.
	saved := `*nat
:PREROUTING ACCEPT [0:0]
:PROXY_INIT_REDIRECT - [0:0]
:PROXY_INIT_OUTPUT_2 - [0:0]
-A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
-A OUTPUT -j PROXY_INIT_OUTPUT_2
COMMIT
`
	again := slices.Concat(inbound[:4], outbound)
	again[0] = "iptables-legacy -t nat -F PROXY_INIT_REDIRECT"
	if diff := cmp.Diff(again, lines(iptables.Commands(family, tools, saved, false))); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}

	for _, c := range iptables.Commands(family, tools, "", true) {
		if c.Args[len(c.Args)-1] != "-w" {
			t.Errorf("%s does not wait", c)
		}
	}

	saved += ":PROXY_INIT_OUTPUT - [0:0]\n"
	remove := []string{
		"iptables-legacy -t nat -D PREROUTING -j PROXY_INIT_REDIRECT -m comment --comment proxy-init/install-proxy-init-prerouting",
		"iptables-legacy -t nat -F PROXY_INIT_REDIRECT",
		"iptables-legacy -t nat -X PROXY_INIT_REDIRECT",
		"iptables-legacy -t nat -F PROXY_INIT_OUTPUT",
		"iptables-legacy -t nat -X PROXY_INIT_OUTPUT",
	}
	if diff := cmp.Diff(remove, lines(iptables.RemoveCommands(family, tools, saved, false))); diff != "" {
		t.Errorf("removal (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	cases := []struct {
		name  string
		want  iptables.Mode
		have  string
		tools string
		found iptables.Mode
	}{
		{"as wanted", iptables.Legacy, "iptables-legacy iptables-legacy-save iptables-nft iptables-nft-save", "iptables-legacy", iptables.Legacy},
		{"nft first", iptables.Legacy, "iptables iptables-save iptables-nft iptables-nft-save", "iptables-nft", iptables.NFT},
		{"then plain", iptables.Legacy, "iptables iptables-save iptables-nft", "iptables", iptables.Plain},
		{"then legacy", iptables.NFT, "iptables-legacy iptables-legacy-save", "iptables-legacy", iptables.Legacy},
		{"half a pair is none", iptables.Plain, "iptables", "iptables", ""},
		{"other family's do not count", iptables.Plain, "ip6tables ip6tables-save", "iptables", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			have := strings.Fields(c.have)
			tools, found := iptables.Find(c.want, rules.IPv4, func(n string) bool { return slices.Contains(have, n) })
			if tools.Run != c.tools || tools.Save != c.tools+"-save" || found != c.found {
				t.Errorf("got %+v, mode %q; want %s, mode %q", tools, found, c.tools, c.found)
			}
		})
	}
	if got := iptables.ToolsFor(iptables.NFT, rules.IPv6); got.Run != "ip6tables-nft" || got.Save != "ip6tables-nft-save" {
		t.Errorf("IPv6 tools are %+v", got)
	}
}

// The first failure ends the run, and a failure to read ends it before any
// change.
func TestFailureStops(t *testing.T) {
	broken := errors.New("exit status 4")
	for _, c := range []struct {
		fail string // the command whose line contains this fails
		ran  int
		save bool
	}{
		{fail: "iptables-save", ran: 1, save: true},
		{fail: "--uid-owner", ran: 8},
		{fail: "nothing", ran: 15},
	} {
		ran := 0
		f := iptables.Firewall{
			Mode: iptables.Plain,
			Log:  slog.New(slog.NewTextHandler(io.Discard, nil)),
			Have: func(string) bool { return true },
			Exec: func(_ context.Context, cmd iptables.Command) (string, error) {
				ran++
				if strings.Contains(cmd.String(), c.fail) {
					return "no chain", broken
				}
				return "", nil
			},
		}
		err := f.Apply(t.Context(), plan(t))
		if ran != c.ran || errors.Is(err, broken) != (c.fail != "nothing") || errors.Is(err, iptables.ErrSave) != c.save {
			t.Errorf("%s: %d commands ran, error %v", c.fail, ran, err)
		}
	}
}
