package rules_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/golden"
	"github.com/linkerd-go/linkerd-go/redirect/rules"
)

// base is the smallest set of options that makes a plan.
func base() rules.Options {
	return rules.Options{InboundProxyPort: 4143, OutboundProxyPort: 4140, ProxyUID: -1, ProxyGID: -1}
}

// Each case has its plan in testdata/NAME.txt; run with -update to rewrite it.
func TestBuild(t *testing.T) {
	cases := map[string]func(*rules.Options){
		"minimal": func(*rules.Options) {},
		"injected": func(o *rules.Options) {
			o.ProxyUID = 2102
			o.InboundPortsToIgnore = []string{"4190", "4191", "4567", "4568"}
			o.OutboundPortsToIgnore = []string{"4567", "4568"}
			o.IPv6 = true
		},
		"uid-and-gid": func(o *rules.Options) { o.ProxyUID, o.ProxyGID = 2102, 2103 },
		"root-is-not-exempted": func(o *rules.Options) {
			o.ProxyUID, o.ProxyGID = 0, 0
		},
		"ports-to-redirect": func(o *rules.Options) {
			o.PortsToRedirect = []int{80, 8080}
			o.InboundPortsToIgnore = []string{"22"}
		},
		"subnets-go-to-their-family": func(o *rules.Options) {
			o.IPv6 = true
			o.SubnetsToIgnore = []string{" 10.1.2.3/8 ", "fd00::1/64", "::ffff:192.0.2.0/120", "0.0.0.0/0"}
			o.OutboundSubnetsToIgnore = []string{"198.51.100.0/24", "2001:db8::/32"}
		},
		"fifteen-references-per-rule": func(o *rules.Options) {
			o.InboundPortsToIgnore = strings.Split("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", ",")
			// Seven ranges make 14 references, so that the eighth opens a new rule.
			o.OutboundPortsToIgnore = strings.Split("100-101,200-201,300-301,400-401,500-501,600-601,700-701,800-801,900", ",")
		},
		"a-range-of-one-is-a-port": func(o *rules.Options) { o.InboundPortsToIgnore = []string{"25-25", "443-445"} },
		"bad-entries-are-skipped": func(o *rules.Options) {
			o.InboundPortsToIgnore = []string{"80", " 81", "82 - 83", "90-85", "x", "", "65536", "-1", "84-", "+5"}
			o.OutboundPortsToIgnore = []string{"1-2-3", "3306"}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			o := base()
			change(&o)
			plan, err := rules.Build(o)
			if err != nil {
				t.Fatal(err)
			}
			golden.File(t, filepath.Join("testdata", name+".txt"), plan.String())
		})
	}
}

func TestBuildErrors(t *testing.T) {
	cases := []struct {
		name   string
		change func(*rules.Options)
		want   string
	}{
		{"inbound port unset", func(o *rules.Options) { o.InboundProxyPort = -1 }, "--incoming-proxy-port must be a valid TCP port number"},
		{"inbound port too high", func(o *rules.Options) { o.InboundProxyPort = 65536 }, "--incoming-proxy-port must be a valid TCP port number"},
		{"outbound port unset", func(o *rules.Options) { o.OutboundProxyPort = -1 }, "--outgoing-proxy-port must be a valid TCP port number"},
		{"subnet", func(o *rules.Options) { o.SubnetsToIgnore = []string{"10.0.0.0/8", " 10.0.0.1 "} }, "10.0.0.1 is not a valid CIDR address"},
		{"outbound subnet", func(o *rules.Options) { o.OutboundSubnetsToIgnore = []string{"fe80::1%lo/64"} }, "fe80::1%lo/64 is not a valid CIDR address"},
		{"redirected port", func(o *rules.Options) { o.PortsToRedirect = []int{70000} }, "--ports-to-redirect: 70000 is not a valid TCP port number"},
		{"uid", func(o *rules.Options) { o.ProxyUID = 1 << 32 }, "--proxy-uid: 4294967296 is not a valid id"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := base()
			c.change(&o)
			_, err := rules.Build(o)
			if err == nil || err.Error() != c.want {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
	o := base()
	o.InboundProxyPort = -1
	if _, err := rules.Build(o); !errors.Is(err, rules.ErrInboundProxyPort) {
		t.Errorf("callers cannot recognise %v", err)
	}
}
