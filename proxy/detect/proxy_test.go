package detect

import (
	"net/netip"
	"strings"
	"testing"
)

func TestProxy(t *testing.T) {
	const (
		four = "\x11\x00\x0c\x01\x02\x03\x04\x0a\x00\x00\x01\xdc\x04\x01\xbb"
		six  = "\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08" + "\xdc\x04\x01\xbb"
	)
	for _, c := range []struct {
		name, bytes, rest string
		found             ProxyHeader
		client, err       string
	}{
		{name: "version 1", bytes: "PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\n", rest: "GET / HTTP/1.1\r\n", found: Proxied, client: "1.2.3.4:56324"},
		{name: "version 1, IPv6", bytes: "PROXY TCP6 2001:db8::7 2001:db8::8 56324 443\r\n", found: Proxied, client: "[2001:db8::7]:56324"},
		{name: "version 1, not told", bytes: "PROXY UNKNOWN\r\n", rest: "x", found: Proxied},
		{name: "version 1, not told, with more", bytes: "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", found: Proxied},
		{name: "version 1 without an end", bytes: "PROXY TCP4 1.2.3.4", found: MoreProxy},
		{name: "version 1, only a carriage return", bytes: "PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r", found: MoreProxy},
		{name: "version 1, too long", bytes: "PROXY TCP4 " + strings.Repeat("1", 100), found: Proxied, err: "line is too long"},
		{name: "version 1, other family", bytes: "PROXY UDP4 1.2.3.4 10.0.0.1 56324 443\r\n", found: Proxied, err: "neither TCP4, TCP6 nor UNKNOWN"},
		{name: "version 1, lower case", bytes: "PROXY tcp4 1.2.3.4 10.0.0.1 56324 443\r\n", found: Proxied, err: "neither TCP4, TCP6 nor UNKNOWN"},
		{name: "version 1, mixed families", bytes: "PROXY TCP4 2001:db8::7 10.0.0.1 56324 443\r\n", found: Proxied, err: "not an address of its family"},
		{name: "version 1, a name", bytes: "PROXY TCP4 localhost 10.0.0.1 56324 443\r\n", found: Proxied, err: "not an address of its family"},
		{name: "version 1, a zone", bytes: "PROXY TCP6 fe80::1%eth0 fe80::2 56324 443\r\n", found: Proxied, err: "not an address of its family"},
		{name: "version 1, no port", bytes: "PROXY TCP4 1.2.3.4 10.0.0.1 56324\r\n", found: Proxied, err: "neither TCP4, TCP6 nor UNKNOWN"},
		{name: "version 1, port too large", bytes: "PROXY TCP4 1.2.3.4 10.0.0.1 65536 443\r\n", found: Proxied, err: "not a port"},
		{name: "version 1, a sign", bytes: "PROXY TCP4 1.2.3.4 10.0.0.1 +1 443\r\n", found: Proxied, err: "not a port"},
		{name: "version 2", bytes: proxyV2 + "\x21" + four, rest: "\x16\x03\x01", found: Proxied, client: "1.2.3.4:56324"},
		{name: "version 2, IPv6", bytes: proxyV2 + "\x21" + six, found: Proxied, client: "[2001:db8::7]:56324"},
		{name: "version 2, with more to say", bytes: proxyV2 + "\x21\x11\x00\x10" + four[3:] + "\x04\x00\x01x", rest: "y", found: Proxied, client: "1.2.3.4:56324"},
		{name: "version 2, the load balancer's own", bytes: proxyV2 + "\x20\x00\x00\x00", rest: "x", found: Proxied},
		{name: "version 2, its own with addresses", bytes: proxyV2 + "\x20" + four, found: Proxied},
		{name: "version 2, UNIX sockets", bytes: proxyV2 + "\x21\x31\x00\x02ab", rest: "x", found: Proxied},
		{name: "version 2, datagrams", bytes: proxyV2 + "\x21\x12" + four[1:], found: Proxied},
		{name: "version 2, half", bytes: proxyV2 + "\x21" + four[:8], found: MoreProxy},
		{name: "version 2, half of its head", bytes: proxyV2 + "\x21", found: MoreProxy},
		{name: "version 2, too short for addresses", bytes: proxyV2 + "\x21\x11\x00\x0b" + four[3:14], found: Proxied, err: "addresses are missing"},
		{name: "version 3", bytes: proxyV2 + "\x31" + four, found: Proxied, err: "unknown version or command"},
		{name: "another command", bytes: proxyV2 + "\x22" + four, found: Proxied, err: "unknown version or command"},
		{name: "version 2, too long", bytes: proxyV2 + "\x21\x11\xff\xff", found: Proxied, err: "header is too long"},
		{name: "a request", bytes: "POST / HTTP/1.1\r\n", found: NotProxied},
		{name: "TLS", bytes: "\x16\x03\x01", found: NotProxied},
		{name: "the beginning of a header", bytes: "PRO", found: MoreProxy},
		{name: "the preface of HTTP/2", bytes: "PRI *", found: NotProxied},
		{name: "nothing", bytes: "", found: MoreProxy},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, length, client, err := Proxy([]byte(c.bytes + c.rest))
			if found != c.found || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("found %v, %v", found, err)
			}
			if err != nil || found != Proxied {
				return
			}
			want := netip.AddrPort{}
			if c.client != "" {
				want = netip.MustParseAddrPort(c.client)
			}
			if client != want || length != len(c.bytes) {
				t.Errorf("got %v in %d bytes of %d", client, length, len(c.bytes))
			}
		})
	}
}

// Whatever arrives, a decision once made must not be taken back by more bytes.
func FuzzProxy(f *testing.F) {
	f.Add([]byte("PROXY TCP4 1.2.3.4 10.0.0.1 56324 443\r\nGET"))
	f.Add([]byte(proxyV2 + "\x21\x11\x00\x0c\x01\x02\x03\x04\x0a\x00\x00\x01\xdc\x04\x01\xbb"))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, length, client, err := Proxy(b)
		if whole == Proxied && err == nil && (length > len(b) || length > MaxProxy) {
			t.Fatalf("a header of %d bytes in %d", length, len(b))
		}
		for i := range b {
			part, l, c, e := Proxy(b[:i])
			if part != MoreProxy && (part != whole || l != length || c != client || (e != nil) != (err != nil)) {
				t.Fatalf("%d bytes: %v %d %v %v, %d bytes: %v %d %v %v", i, part, l, c, e, len(b), whole, length, client, err)
			}
		}
	})
}
