package actor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// dialer connects for a call.
func dialer(call Call) func(ctx context.Context, network, to string) (net.Conn, error) {
	var d net.Dialer
	if call.Proxied == "" {
		return d.DialContext
	}
	return func(ctx context.Context, network, to string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, to)
		if err != nil {
			return nil, err
		}
		head, err := proxyHeader(call.Proxied, conn.RemoteAddr())
		if err == nil {
			_, err = conn.Write(head)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// proxyHeader is what a load balancer sends in front of the bytes of a client.
// Source: "The PROXY protocol, versions 1 & 2", haproxy.org, sections 2.1 and 2.2.
func proxyHeader(proxied string, to net.Addr) ([]byte, error) {
	client, v2 := strings.CutPrefix(proxied, "v2:")
	src, err := netip.ParseAddr(client)
	if err != nil {
		return nil, err
	}
	server, err := netip.ParseAddrPort(to.String())
	if err != nil {
		return nil, err
	}
	const clientPort = 40000 // of no matter
	dst := server.Addr().Unmap()
	family, code := "TCP4", byte(0x11)
	if src.Is6() {
		family, code = "TCP6", 0x21
	}
	if src.Is6() != dst.Is6() {
		// Balancers connect by another family than their clients, too.
		dst = netip.IPv4Unspecified()
		if src.Is6() {
			dst = netip.IPv6Unspecified()
		}
	}
	if !v2 {
		return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family, src, dst, clientPort, server.Port()), nil
	}
	ends := append(src.AsSlice(), dst.AsSlice()...)
	ends = binary.BigEndian.AppendUint16(ends, clientPort)
	ends = binary.BigEndian.AppendUint16(ends, server.Port())
	head := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), code)
	return append(binary.BigEndian.AppendUint16(head, uint16(len(ends))), ends...), nil
}
