package detect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol: what a load balancer says of a client before the client's
// own bytes. Source: "The PROXY protocol, versions 1 & 2", haproxy.org, sections
// 2.1 and 2.2.

const (
	proxyV1 = "PROXY "
	proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"
	// maxProxyV1 is the longest line, with its end.
	maxProxyV1 = 107
	// proxyV2Head is the part of a version 2 header that has a fixed length.
	proxyV2Head = 16
)

// MaxProxy is the longest header that is taken. Those of version 2 may say more
// than addresses, of which nobody says that much.
const MaxProxy = 4 << 10

// ProxyHeader is what the first bytes are where a load balancer may speak first.
type ProxyHeader uint8

const (
	// MoreProxy: so far it can be a header, but it is not complete.
	MoreProxy ProxyHeader = iota
	// Proxied: a whole header.
	Proxied
	// NotProxied: no byte that may follow can make it a header.
	NotProxied
)

// errProxy is why a header is of no use.
func errProxy(what string) error { return errors.New("PROXY protocol: " + what) }

// Proxy looks for a header in front of b. If there is one, length is how long it
// is, and client is who it says the client to be: the zero value if it does not
// tell, as for the load balancer's own connections. The error says what is wrong
// with something that begins like a header.
func Proxy(b []byte) (found ProxyHeader, length int, client netip.AddrPort, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(proxyV1)):
		return proxyLine(b)
	case bytes.HasPrefix(b, []byte(proxyV2)):
		return proxyBlock(b)
	case strings.HasPrefix(proxyV1, string(b[:min(len(b), len(proxyV1))])),
		strings.HasPrefix(proxyV2, string(b[:min(len(b), len(proxyV2))])):
		return MoreProxy, 0, client, nil
	}
	return NotProxied, 0, client, nil
}

// proxyLine reads version 1.
func proxyLine(b []byte) (ProxyHeader, int, netip.AddrPort, error) {
	var none netip.AddrPort
	end := bytes.Index(b[:min(len(b), maxProxyV1)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxProxyV1 {
			return Proxied, 0, none, errProxy("line is too long")
		}
		return MoreProxy, 0, none, nil
	}
	length := end + 2
	words := strings.Split(string(b[len(proxyV1):end]), " ")
	if words[0] == "UNKNOWN" {
		return Proxied, length, none, nil
	}
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return Proxied, length, none, errProxy("line is neither TCP4, TCP6 nor UNKNOWN")
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(words[1+i])
		if err != nil || addr.Is4() != (words[0] == "TCP4") || addr.Zone() != "" {
			return Proxied, length, none, errProxy("not an address of its family")
		}
		port, err := strconv.ParseUint(words[3+i], 10, 16)
		if err != nil {
			return Proxied, length, none, errProxy("not a port")
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), uint16(port))
	}
	return Proxied, length, ends[0], nil
}

// proxyBlock reads version 2.
func proxyBlock(b []byte) (ProxyHeader, int, netip.AddrPort, error) {
	var none netip.AddrPort
	if len(b) < proxyV2Head {
		return MoreProxy, 0, none, nil
	}
	version, command := b[12]>>4, b[12]&0xf
	rest := int(binary.BigEndian.Uint16(b[14:]))
	length := proxyV2Head + rest
	switch {
	case version != 2 || command > 1:
		return Proxied, length, none, errProxy("unknown version or command")
	case length > MaxProxy:
		return Proxied, length, none, errProxy("header is too long")
	case len(b) < length:
		return MoreProxy, 0, none, nil
	case command == 0:
		// Its own connection, to see whether anybody is here.
		return Proxied, length, none, nil
	}
	of := func(size int) (ProxyHeader, int, netip.AddrPort, error) {
		// Both addresses, then both ports.
		if rest < 2*size+4 {
			return Proxied, length, none, errProxy("addresses are missing")
		}
		addr, _ := netip.AddrFromSlice(b[proxyV2Head : proxyV2Head+size])
		port := binary.BigEndian.Uint16(b[proxyV2Head+2*size:])
		return Proxied, length, netip.AddrPortFrom(addr.Unmap(), port), nil
	}
	switch b[13] {
	case 0x11: // TCP over IPv4
		return of(4)
	case 0x21: // TCP over IPv6
		return of(16)
	}
	// Other families say nothing of use here, and are to be passed over.
	return Proxied, length, none, nil
}
