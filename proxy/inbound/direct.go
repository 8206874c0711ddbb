package inbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/thdr"
)

// errHeaderTimeout ends a direct connection whose header is late.
var errHeaderTimeout = errors.New("Reading a transport header timed out")

// direct serves a connection that was made to the proxy's own port: it has to
// be a peer's, and begins with a header that says what it is for (proxy
// chapter, section 5.5).
func (c *Conn) direct() error {
	p := c.p
	if err := c.terminate(p.cfg.Detect); err != nil {
		return err
	}
	if c.tls.State != series.TLSMesh || c.tls.Client.IsZero() {
		return errDirectTLS
	}
	if c.alpn != thdr.ALPN {
		return errNoHeader
	}
	conn, header, err := readHeader(c.conn, p.cfg.Detect)
	c.conn = conn
	if err != nil {
		return fmt.Errorf("transport header: %w", err)
	}
	p.cfg.Series.TransportHeaders.Count(metric.Labels("session_protocol", header.Session.String(),
		"target_port", strconv.Itoa(int(header.Port)), "target_name", p.cfg.Series.Names.Label(header.Name), "client_id", c.tls.Client.String()))
	if header.Name != "" {
		return c.gateway(header)
	}
	// The connection is for this pod's own port, under that port's policy.
	c.target = netip.AddrPortFrom(c.local.Addr(), header.Port)
	if err := c.lease(header.Port); err != nil {
		return err
	}
	defer c.release()
	switch header.Session {
	case thdr.HTTP1:
		return c.serveHTTP1(p)
	case thdr.HTTP2:
		return c.serveHTTP2(p)
	}
	return c.forward()
}

// gateway hands the connection over to the gateway, under the policy of the
// proxy's own port.
func (c *Conn) gateway(header thdr.Header) error {
	p := c.p
	if p.cfg.Gateway == nil {
		return errors.New("bad gateway domain")
	}
	if err := c.lease(p.cfg.Port); err != nil {
		return err
	}
	defer c.release()
	if header.Session == thdr.Opaque {
		return c.gatewayTCP(header)
	}
	next, done, err := p.cfg.Gateway.HTTP(header.Name, header.Port, c.tls.Client)
	if err != nil {
		next, done = refusing(err), func() {}
	}
	defer done()
	c.next = next
	if header.Session == thdr.HTTP1 {
		return c.serveHTTP1(p)
	}
	return c.serveHTTP2(p)
}

// past is a deadline that ends what waits.
var past = time.Unix(1, 0)

// gatewayTCP authorizes the connection and lets the gateway balance it.
func (c *Conn) gatewayTCP(header thdr.Header) error {
	conn := c.conn
	f := &forwarding{c: c, end: func(error) { _ = conn.SetDeadline(past) }}
	c.port.join(f)
	defer c.port.leave(f)
	pol := c.port.policy.Load()
	by, reason := pol.permitted(c.who())
	if by == nil {
		c.denied(pol, reason)
		return nil
	}
	c.allow(pol, by)
	c.srcTransport()
	defer c.conn.Close()
	c.drain.Bytes()
	return c.p.cfg.Gateway.TCP(c.conn, header.Name, header.Port)
}

// refusing answers every request with the same error.
func refusing(err error) exchange.Handler {
	return exchange.HandlerFunc(func(x *exchange.Exchange) {
		r := refusal.As(err)
		if r == nil {
			// Not that there is no such name, but that nobody could say.
			r = refusal.Internal(refusal.Unexpected, err)
		}
		Refuse(x, r)
	})
}

// readHeader reads a transport header and leaves what follows in front of the
// connection.
func readHeader(c net.Conn, timeout time.Duration) (net.Conn, thdr.Header, error) {
	if timeout > 0 {
		if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return c, thdr.Header{}, err
		}
	}
	b := buf.Get(4 << 10)
	w := 0
	for {
		if w == len(b.B) {
			b = b.Grow(w, 2*w)
		}
		n, err := c.Read(b.B[w:])
		w += n
		h, size, perr := thdr.Parse(b.B[:w])
		switch {
		case perr == nil:
			_ = c.SetReadDeadline(time.Time{})
			return netx.WithBuffer(c, b, size, w), h, nil
		case !errors.Is(perr, thdr.ErrShort):
			b.Free()
			return c, thdr.Header{}, perr
		case errors.Is(err, os.ErrDeadlineExceeded):
			b.Free()
			return c, thdr.Header{}, errHeaderTimeout
		case err != nil:
			b.Free()
			return c, thdr.Header{}, err
		}
	}
}
