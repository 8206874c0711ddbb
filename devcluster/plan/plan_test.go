package plan

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"linkerd": true, "a": true, "east-1": true, "a2345678901234567890": true,
		"": false, "East": false, "1st": false, "-a": false, "a-": false, "a.b": false, "a/b": false,
		"a23456789012345678901": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v, want ok=%v", name, err, ok)
		}
	}
}

func TestCheckStateBase(t *testing.T) {
	for dir, ok := range map[string]bool{
		DefaultStateBase:                  true,
		"relative":                        false,
		"/tmp/" + strings.Repeat("x", 60): false,
	} {
		if err := CheckStateBase(dir, DefaultName); (err == nil) != ok {
			t.Errorf("CheckStateBase(%q) = %v, want ok=%v", dir, err, ok)
		}
	}
}

func TestAddressesOfOneCluster(t *testing.T) {
	c := Cluster{Name: "west", Index: 3}
	for what, got := range map[string][2]string{
		"pods":     {c.Pods().String(), "10.203.0.0/16"},
		"subnet":   {c.PodSubnet().String(), "10.203.0.0/20"},
		"start":    {c.PodRangeStart().String(), "10.203.0.16"},
		"node":     {c.NodeIP().String(), "10.203.0.1"},
		"balancer": {c.LoadBalancers().String(), "10.203.255.0/24"},
		"services": {c.Services().String(), "10.153.0.0/16"},
		"api":      {c.APIServiceIP().String(), "10.153.0.1"},
		"dns":      {c.DNSIP().String(), "10.153.0.10"},
		"host":     {c.UplinkHost().String(), "10.149.3.1/30"},
		"cluster":  {c.UplinkCluster().String(), "10.149.3.2/30"},
		"server":   {c.APIServer(), "https://10.203.0.1:6443"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s = %s, want %s", what, got[0], got[1])
		}
	}
	if c.PodSubnet().Overlaps(c.LoadBalancers()) {
		t.Error("pods and load balancers share addresses")
	}
	for i := range MaxClusters {
		if n := len((Cluster{Index: i}).HostLink()); n > 15 {
			t.Errorf("link name of cluster %d has %d bytes, the kernel takes 15", i, n)
		}
	}
}

func TestClustersDoNotOverlap(t *testing.T) {
	var all []netip.Prefix
	for i := range MaxClusters {
		for _, mine := range (Cluster{Index: i}).Ranges() {
			if !mine.IsValid() || mine != mine.Masked() {
				t.Fatalf("cluster %d: %s is no network", i, mine)
			}
			for _, other := range all {
				if mine.Overlaps(other) {
					t.Fatalf("cluster %d: %s overlaps %s", i, mine, other)
				}
			}
			all = append(all, mine)
		}
	}
}

func TestAllocate(t *testing.T) {
	prefixes := func(ss ...string) (out []netip.Prefix) {
		for _, s := range ss {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	full := map[int]string{}
	for i := range MaxClusters {
		full[i] = "x"
	}
	for _, test := range []struct {
		name  string
		taken map[int]string
		busy  []netip.Prefix
		want  int // -1: error
	}{
		{"first", nil, nil, 0},
		{"default route is no obstacle", nil, prefixes("0.0.0.0/0", "192.0.2.0/24"), 0},
		{"gap is filled", map[int]string{0: "a", 2: "c"}, nil, 1},
		{"pod range busy", nil, prefixes("10.200.4.0/24"), 1},
		{"service range busy", nil, prefixes("10.150.0.10/32", "10.151.0.0/16"), 2},
		{"uplink busy", nil, prefixes("10.149.0.0/24"), 1},
		{"all taken", full, nil, -1},
		{"whole block busy", nil, prefixes("10.0.0.0/8"), -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Allocate(test.taken, test.busy)
			if (err != nil) != (test.want < 0) || (err == nil && got != test.want) {
				t.Errorf("Allocate = %d, %v; want %d", got, err, test.want)
			}
		})
	}
}
