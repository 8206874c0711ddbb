package model

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestParseIdentity(t *testing.T) {
	for _, c := range []struct {
		in, want string
		uri, bad bool
	}{
		{in: "foo.ns1.serviceaccount.identity.linkerd.cluster.local", want: "foo.ns1.serviceaccount.identity.linkerd.cluster.local"},
		{in: "Foo.NS1.", want: "foo.ns1"},
		{in: "a_b.c", want: "a_b.c"},
		{in: "spiffe://root.linkerd.cluster.local/proxy", want: "spiffe://root.linkerd.cluster.local/proxy", uri: true},
		{in: "", bad: true},
		{in: ".", bad: true},
		{in: "a..b", bad: true},
		{in: "-a.b", bad: true},
		{in: "10.0.0.1", bad: true},
		{in: "a b", bad: true},
		{in: "://x", bad: true},
		{in: "spiffe:///p", bad: true},
		{in: strings.Repeat("a", 64) + ".b", bad: true},
	} {
		got, err := ParseIdentity(c.in)
		if (err != nil) != c.bad || got.String() != c.want || got.IsURI() != c.uri {
			t.Errorf("ParseIdentity(%q) = %v (uri %v), %v", c.in, got, got.IsURI(), err)
		}
	}
}

func TestRegexSpansLeftmostFirst(t *testing.T) {
	for _, c := range []struct {
		expr, text string
		want       bool
	}{
		{"/a/[0-9]+", "/a/12", true},
		{"/a/[0-9]+", "/a/12/", false},
		{"/a", "x/a", false},
		{"a|ab", "ab", false},
		{"ab|a", "ab", true},
		{".*", "", true},
	} {
		r, err := CompileRegex(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		if r.SpansString(c.text) != c.want || r.Spans([]byte(c.text)) != c.want {
			t.Errorf("%q spans %q: want %v", c.expr, c.text, c.want)
		}
	}
}

func TestNetworkContains(t *testing.T) {
	n := Network{Net: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	for addr, want := range map[string]bool{
		"10.0.0.1": true, "10.1.2.3": false, "11.0.0.1": false, "::ffff:10.0.0.1": true, "::ffff:10.1.0.1": false,
		"fe80::1%eth0": false,
	} {
		if got := n.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("contains %s = %v", addr, got)
		}
	}
}

func TestDefaultServerPolicy(t *testing.T) {
	cluster := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		policy   DefaultPolicy
		opaque   bool
		protocol Protocol
		authn    AuthnKind
		networks int
	}{
		{AllUnauthenticated, false, ProtocolDetect, AuthnNone, 2},
		{AllUnauthenticated, true, ProtocolOpaque, AuthnNone, 2},
		{AllAuthenticated, false, ProtocolDetect, AuthnIdentity, 2},
		{ClusterUnauthenticated, false, ProtocolDetect, AuthnNone, 1},
		{ClusterAuthenticated, false, ProtocolDetect, AuthnIdentity, 1},
		{AuditPolicy, false, ProtocolDetect, AuthnNone, 2},
		{DenyPolicy, false, ProtocolOpaque, 0, 0},
	} {
		p := DefaultServerPolicy(c.policy, cluster, time.Second, c.opaque)
		if p.Meta != Default(string(c.policy)) || p.Protocol != c.protocol {
			t.Errorf("%s: %v %v", c.policy, p.Meta, p.Protocol)
		}
		if c.authn == 0 {
			if len(p.Authorizations) != 0 {
				t.Errorf("%s permits", c.policy)
			}
			continue
		}
		if a := p.Authorizations; len(a) != 1 || a[0].Authn.Kind != c.authn || len(a[0].Networks) != c.networks ||
			a[0].Meta != p.Meta {
			t.Errorf("%s: %+v", c.policy, a)
		}
	}
}

func TestLabels(t *testing.T) {
	l := MakeLabels(map[string]string{"b": "1", "a": "2"}, map[string]string{"b": "3"})
	if !l.Equal(Labels{{"a", "2"}, {"b", "3"}}) {
		t.Fatal(l)
	}
	if v, ok := l.Get("b"); v != "3" || !ok {
		t.Error(v, ok)
	}
	if _, ok := l.Get("c"); ok {
		t.Error("c found")
	}
}

func TestBackendKeyTellsForwardsApart(t *testing.T) {
	e := func(label string) *Backend {
		return &Backend{Kind: BackendForward, Forward: &Endpoint{
			Addr: netip.MustParseAddrPort("10.0.0.1:80"), Labels: Labels{{"pod", label}}}}
	}
	if a, again := e("a"), e("a"); a.Key() != again.Key() {
		t.Error("same backend, different keys")
	}
	if e("a").Key() == e("b").Key() {
		t.Error("different backends, same key")
	}
}

func TestMatchTrees(t *testing.T) {
	re, _ := CompileRegex("^(?:/a/.*)$")
	m := RequestMatch{Op: OpAll, Children: []RequestMatch{
		{Op: OpPath, Path: re},
		{Op: OpNot, Children: []RequestMatch{{Op: OpMethod, Method: "POST"}}},
	}}
	for _, c := range []struct {
		method, path string
		want         bool
	}{{"GET", "/a/b", true}, {"POST", "/a/b", false}, {"GET", "/b", false}} {
		if got := m.Matches([]byte(c.method), []byte(c.path)); got != c.want {
			t.Errorf("%s %s: %v", c.method, c.path, got)
		}
	}
	if (&RequestMatch{Op: OpAny}).Matches(nil, nil) || !(&RequestMatch{Op: OpAll}).Matches(nil, nil) {
		t.Error("empty any or all")
	}
	r := ResponseMatch{Op: OpAny, Children: []ResponseMatch{
		{Op: OpStatus, Status: StatusRange{500, 503}}, {Op: OpStatus, Status: StatusRange{429, 429}}}}
	if !r.Matches(503) || !r.Matches(429) || r.Matches(504) {
		t.Error("response tree")
	}
}
