package inbound

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/drain"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/sniff"
)

// localDetect limits detection on the proxy's own servers: their clients have
// no reason to be slow.
const localDetect = time.Second

// errNotHTTP closes a connection to a server of the proxy's that speaks
// something else.
var errNotHTTP = errors.New("connection is not HTTP")

// Local gives the handler of connections to a server of the proxy's own, such
// as admin: next answers the requests that the policy of the port permits. addr
// is what metrics call the server.
func (p *Proxy) Local(addr netip.AddrPort, next exchange.Handler) func(net.Conn, *drain.Handle) {
	return func(raw net.Conn, h *drain.Handle) {
		defer raw.Close()
		c := &Conn{
			p: p, drain: h, conn: raw, target: addr, next: next, own: true,
			client: netx.AddrPort(raw.RemoteAddr()), local: netx.AddrPort(raw.LocalAddr()),
		}
		if err := c.serveLocal(); err != nil {
			c.log().Debug("Connection closed", "error", err)
		}
	}
}

// serveLocal takes a connection to a server of the proxy's own.
func (c *Conn) serveLocal() error {
	if err := c.lease(c.target.Port()); err != nil {
		return err
	}
	defer c.release()
	// A port-forward comes from loopback and may speak TLS: that is how
	// `linkerd identity` asks for the certificate.
	if err := c.terminate(localDetect); err != nil {
		return err
	}
	if c.client.Addr().IsLoopback() && c.tls.State != series.TLSMesh {
		c.tls = series.ServerTLS{Reason: series.Loopback}
	}
	conn, found, err := sniff.HTTP(c.conn, localDetect)
	c.conn = conn
	switch {
	case found == detect.HTTP1:
		return c.serveHTTP1(c.p)
	case found == detect.HTTP2:
		return c.serveHTTP2(c.p)
	case !errors.Is(err, sniff.ErrReadTimeout):
		return errors.Join(errNotHTTP, err)
	case c.tls.State == series.TLSMesh:
		return c.serveHTTP2(c.p)
	}
	return c.serveHTTP1(c.p)
}
