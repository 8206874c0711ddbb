package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ServeText listens inside the namespace and answers every connection with one
// line made by text, then closes it. It serves until the test ends.
func (u User) ServeText(t testing.TB, network, address string, text func(net.Conn) string) {
	t.Helper()
	l := u.Listen(t, network, address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s\n", text(c))
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
}

// ServeApp is a stand-in for an application: it answers "app <local address>",
// so that a client sees that it reached the application and by which address.
func (u User) ServeApp(t testing.TB, network, address string) {
	t.Helper()
	u.ServeText(t, network, address, func(c net.Conn) string {
		return "app " + unmapped(c.LocalAddr()).String()
	})
}

// ServeProxy is a stand-in for a proxy: it answers "<name> <original
// destination>", so that a client sees which proxy it was redirected to and
// that the proxy can tell where the client wanted to go.
func (u User) ServeProxy(t testing.TB, name, network, address string) {
	t.Helper()
	u.ServeText(t, network, address, func(c net.Conn) string {
		orig, err := OriginalDst(c)
		if err != nil {
			return name + " " + err.Error()
		}
		return name + " " + orig.String()
	})
}

// AskFrom connects from inside the namespace, from a given local address, and
// returns the one line that a server made by ServeText answers.
func (u User) AskFrom(ctx context.Context, local netip.Addr, address string) (string, error) {
	c, err := u.DialFrom(ctx, "tcp", local, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetReadDeadline(deadline)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(answer)), nil
}

// Timeout bounds what a test waits for in a lab. Everything is local, so only a
// connection that is lost takes this long.
const Timeout = time.Minute

// OriginalDst asks the kernel where a redirected connection was meant to go.
func OriginalDst(c net.Conn) (netip.AddrPort, error) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, errors.New("netlab: not a TCP connection")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	is4 := unmapped(tcp.RemoteAddr()).Addr().Is4()
	var orig netip.AddrPort
	var optErr error
	err = raw.Control(func(fd uintptr) {
		if is4 {
			// Any option type of the size of a sockaddr_in would do.
			var sa *unix.IPv6Mreq
			if sa, optErr = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); optErr == nil {
				b := sa.Multiaddr
				orig = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		// The same for a sockaddr_in6. The option has the same number as for IPv4.
		var sa *unix.IPv6MTUInfo
		if sa, optErr = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST); optErr == nil {
			// The port is in network byte order in a field of host order.
			port := binary.NativeEndian.AppendUint16(nil, sa.Addr.Port)
			orig = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	if err == nil {
		err = optErr
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("netlab: original destination: %w", err)
	}
	return orig, nil
}

func unmapped(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
