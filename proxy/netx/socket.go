package netx

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SocketOptions are set on every accepted or dialled socket, besides
// TCP_NODELAY, which all have (proxy chapter, sections 2.2 and 4).
type SocketOptions struct {
	// KeepAlive is the idle time before TCP keepalive probes; 0 turns them off.
	KeepAlive time.Duration
	// UserTimeout is TCP_USER_TIMEOUT, how long written data may stay
	// unacknowledged; 0 leaves it to the kernel.
	UserTimeout time.Duration
}

// control sets options on a socket before it is connected or bound.
func (o *SocketOptions) control(_, _ string, c syscall.RawConn) error {
	if o.UserTimeout <= 0 {
		return nil
	}
	var serr error
	err := c.Control(func(fd uintptr) { serr = o.userTimeout(int(fd)) })
	return errors.Join(err, serr)
}

func (o *SocketOptions) userTimeout(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout.Milliseconds()))
}

// keepAlive is the standard library's form of the option.
func (o *SocketOptions) keepAlive() net.KeepAliveConfig {
	if o.KeepAlive <= 0 {
		return net.KeepAliveConfig{}
	}
	// The interval and count are left as the kernel has them, as upstream does.
	return net.KeepAliveConfig{Enable: true, Idle: o.KeepAlive, Interval: -1, Count: -1}
}

// ListenOptions configure a listener.
type ListenOptions struct {
	SocketOptions
	// Backlog is the length of the accept queue; 0 takes the system's.
	Backlog int
}

// Listener accepts TCP connections as *TCP.
type Listener struct{ *net.TCPListener }

// Listen binds addr. The kernel queues connections from then on.
func Listen(addr netip.AddrPort, o ListenOptions) (*Listener, error) {
	network := "tcp4"
	if addr.Addr().Is6() {
		network = "tcp"
	}
	lc := net.ListenConfig{
		Control:         o.SocketOptions.control,
		KeepAlive:       -1,
		KeepAliveConfig: o.keepAlive(),
	}
	if o.KeepAlive > 0 {
		lc.KeepAlive = 0
	}
	ln, err := lc.Listen(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	t := ln.(*net.TCPListener)
	if o.Backlog > 0 {
		raw, err := t.SyscallConn()
		if err == nil {
			// A second listen changes only the length of the queue.
			var serr error
			err = raw.Control(func(fd uintptr) { serr = unix.Listen(int(fd), o.Backlog) })
			err = errors.Join(err, serr)
		}
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("set backlog of %s: %w", addr, err)
		}
	}
	return &Listener{t}, nil
}

// Accept waits for the next connection. The standard library has set
// TCP_NODELAY on it, and UserTimeout is inherited from the listening socket.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return NewTCP(c), nil
}

// AddrPort converts a TCP address, with an IPv4-mapped IPv6 address made plain
// IPv4. It returns the zero value for other kinds of addresses.
func AddrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok || t == nil {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// OriginalDst tells where a redirected connection was meant to go.
type OriginalDst func(net.Conn) (netip.AddrPort, error)

// SocketOriginalDst asks the kernel's connection tracking: SO_ORIGINAL_DST for
// IPv4, IP6T_SO_ORIGINAL_DST for IPv6. For connections that were not redirected
// that is the local address.
func SocketOriginalDst(c net.Conn) (netip.AddrPort, error) {
	s := socketBelow(c)
	if s == nil {
		return netip.AddrPort{}, errors.New("original destination: connection is not TCP")
	}
	v4 := AddrPort(s.LocalAddr()).Addr().Is4()
	var dst netip.AddrPort
	var serr error
	err := control(s, func(fd uintptr) { dst, serr = originalDst(int(fd), v4) })
	if err = errors.Join(err, serr); err != nil {
		if errors.Is(err, unix.ENOENT) {
			// Connection tracking knows nothing of it: nobody redirected it.
			return AddrPort(s.LocalAddr()), nil
		}
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	return dst, nil
}

// ip6tOriginalDst is IP6T_SO_ORIGINAL_DST of linux/netfilter_ipv6/ip6_tables.h.
const ip6tOriginalDst = 80

func originalDst(fd int, v4 bool) (netip.AddrPort, error) {
	if v4 {
		// The structure has the 16 bytes of a sockaddr_in, which is also
		// the size of an IPv6 multicast request: a typed getsockopt that
		// needs no unsafe code.
		m, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, unix.SO_ORIGINAL_DST)
		if err != nil {
			return netip.AddrPort{}, err
		}
		b := m.Multiaddr
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
	}
	// Likewise a sockaddr_in6 is the beginning of ip6_mtuinfo.
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, ip6tOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], m.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}

// Dialer opens connections. It is safe for concurrent use.
type Dialer interface {
	// Dial connects to one concrete address. Cancelling ctx gives up.
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// DialerFunc is a function as a Dialer.
type DialerFunc func(ctx context.Context, to netip.AddrPort) (net.Conn, error)

// Dial calls f.
func (f DialerFunc) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) { return f(ctx, to) }

// ConnectTimeout is the error of a Dialer whose time ran out.
type ConnectTimeout struct{ After time.Duration }

// Error has the text that operators know, for example "connect timed out after 1s".
func (e *ConnectTimeout) Error() string {
	return "connect timed out after " + Duration(e.After)
}

// Timeout implements net.Error.
func (e *ConnectTimeout) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *ConnectTimeout) Temporary() bool { return true }

// Duration writes whole seconds and milliseconds as configuration does ("1s",
// "300ms", "1.5s"), without the standard library's zero minutes ("1m0s").
func Duration(d time.Duration) string {
	if d >= time.Second {
		return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(d.Seconds(), 'f', 9, 64), "0"), ".") + "s"
	}
	return d.String()
}

// TCPDialer dials sockets.
type TCPDialer struct {
	SocketOptions
	// Timeout limits each connect; 0 means no limit but the kernel's.
	Timeout time.Duration
}

var _ Dialer = (*TCPDialer)(nil)

// Dial implements Dialer; the connection is a *TCP.
func (d *TCPDialer) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	nd := net.Dialer{
		Timeout:         d.Timeout,
		FallbackDelay:   -1,
		KeepAlive:       -1,
		KeepAliveConfig: d.keepAlive(),
	}
	if d.KeepAlive > 0 {
		nd.KeepAlive = 0
	}
	if d.UserTimeout > 0 {
		nd.Control = d.SocketOptions.control
	}
	by, limited := ctx.Deadline()
	ours := d.Timeout > 0 && (!limited || by.After(time.Now().Add(d.Timeout)))
	c, err := nd.DialContext(ctx, "tcp", to.String())
	if err != nil {
		var ne net.Error
		if ours && ctx.Err() == nil && errors.As(err, &ne) && ne.Timeout() && !errors.Is(err, syscall.ETIMEDOUT) {
			return nil, &ConnectTimeout{d.Timeout}
		}
		return nil, err
	}
	return NewTCP(c.(*net.TCPConn)), nil
}
