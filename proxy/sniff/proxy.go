package sniff

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
)

// proxyTimeout is how long a header of the PROXY protocol is waited for, which is
// sent at once: long enough for a lost packet to be sent again (section 3 of its
// definition).
const proxyTimeout = 3 * time.Second

// ErrProxyTimeout: a header of the PROXY protocol began, and did not end in time.
var ErrProxyTimeout = errors.New("PROXY protocol: header timed out")

// Proxy takes a header of the PROXY protocol off the connection, if it begins
// with one, and returns the client that it names. That is the zero value if it
// names none, or if there is no header: then every byte is still there.
func Proxy(c net.Conn) (net.Conn, netip.AddrPort, error) {
	if err := limit(c, proxyTimeout); err != nil {
		return c, netip.AddrPort{}, err
	}
	out, client, err := proxyHeader(c)
	_ = limit(c, 0)
	return out, client, err
}

func proxyHeader(c net.Conn) (net.Conn, netip.AddrPort, error) {
	var none netip.AddrPort
	b, w, err := netx.ReadLazy(c, max(first, detect.MaxProxy))
	for {
		if w == 0 && err != nil {
			b.Free()
			if timedOut(err) || errors.Is(err, io.EOF) {
				// Whoever waits for the server, or just looks, is not a load
				// balancer.
				err = nil
			}
			return c, none, err
		}
		found, length, client, wrong := detect.Proxy(b.B[:w])
		switch {
		case wrong != nil:
			b.Free()
			return c, none, wrong
		case found == detect.Proxied:
			return netx.WithBuffer(c, b, length, w), client, nil
		case found == detect.NotProxied, errors.Is(err, io.EOF):
			return netx.WithBuffer(c, b, 0, w), none, nil
		case timedOut(err):
			b.Free()
			return c, none, ErrProxyTimeout
		case err != nil:
			b.Free()
			return c, none, err
		}
		var n int
		n, err = c.Read(b.B[w:])
		w += n
	}
}
