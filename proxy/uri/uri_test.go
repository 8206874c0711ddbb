package uri

import (
	"errors"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

func TestNormalize(t *testing.T) {
	for _, c := range []struct {
		name                         string
		version                      exchange.Version
		authority, host, def, result string
		err                          error
	}{
		{"authority of the URI", exchange.HTTP11, "a:1", "b", "c", "a:1", nil},
		{"host", exchange.HTTP11, "", "b:2", "c", "b:2", nil},
		{"host is not one", exchange.HTTP11, "", "b/x", "10.0.0.1:80", "10.0.0.1:80", nil},
		{"empty host", exchange.HTTP10, "", "", "10.0.0.1:80", "10.0.0.1:80", nil},
		{"nothing", exchange.HTTP11, "", "", "", "", ErrNoAuthority},
		{"http/2 without authority", exchange.HTTP2, "", "b", "c", "", nil},
	} {
		h := &exchange.RequestHead{Version: c.version, Authority: []byte(c.authority), Path: []byte("/")}
		if c.host != "" {
			h.Add("Host", c.host)
		}
		if err := Normalize(h, c.def); !errors.Is(err, c.err) || string(h.Authority) != c.result {
			t.Errorf("%s: got %q, %v", c.name, h.Authority, err)
		}
	}
}

func TestNamePort(t *testing.T) {
	label := strings.Repeat("a", 63)
	full := strings.Join([]string{label, label, label, label[2:]}, ".")
	for in, want := range map[string]string{
		"web.ns:8080": "web.ns 8080", "web": "web 80", "web.ns.": "web.ns. 80", "10.0.0.1:80": "", "[::1]:80": "",
		"a b": "", "web:99999": "", "web:0": "", "": "", ".": "", "1.example": "1.example 80", "a..b": "", ".a": "",
		"Web_1-a.NS": "Web_1-a.NS 80", "az.AZ": "az.AZ 80",
		// Next to the letters, and beyond them.
		"a@b": "", "a[b": "", "a`b": "", "a{b": "", "a/b": "", "bücher.example": "",
		// As long as can be, and longer.
		label: label + " 80", label + "a": "", full: full + " 80", full + ".": full + ". 80", full + "a": "",
	} {
		name, port, ok := NamePort([]byte(in), 80)
		got := ""
		if ok {
			got = string(name) + " " + map[uint16]string{80: "80", 8080: "8080"}[port]
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
