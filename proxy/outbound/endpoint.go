package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
	"github.com/linkerd-go/linkerd-go/proxy/meshtls"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/origproto"
	"github.com/linkerd-go/linkerd-go/proxy/pool"
	"github.com/linkerd-go/linkerd-go/proxy/refusal"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/thdr"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
)

// endpoint is one server, or its proxy, as one balancer reaches it.
type endpoint struct {
	p    *Proxy
	kind kind
	// model is the endpoint as it is reached: without TLS if it is this pod.
	model *model.Endpoint
	// connect is where the connection goes: the endpoint itself, or its
	// proxy's own port.
	connect netip.AddrPort
	tls     *tls.Config
	// carry says that HTTP/1 requests go over HTTP/2.
	carry bool
	// forward says that it is not balanced over.
	forward bool

	metrics   *series.HTTP
	transport *series.Transport
	// why says why there is no TLS, if there is none.
	why series.Reason

	h1 *pool.H1
	h2 *pool.H2
	// suspect is nil if the connection's state, or nobody, says whether the
	// endpoint is well: over HTTP/2, and without another to send to.
	suspect *suspect
}

// errLoopback: traffic to the loopback interface is never meant for a proxy.
var errLoopback = fmt.Errorf("Outbound proxy cannot initiate connections on the loopback interface: %w", syscall.ECONNREFUSED)

// newEndpoint makes the way to an endpoint. It does not block.
func (p *Proxy) newEndpoint(b *backend, m *model.Endpoint, notify func()) *endpoint {
	m, local := reached(m, p.cfg.Own)
	e := &endpoint{p: p, kind: b.key.kind, model: m, connect: m.Addr, forward: b.model.Kind == model.BackendForward}
	if m.TransportPort != 0 {
		e.connect = netip.AddrPortFrom(m.Addr.Addr(), m.TransportPort)
	}
	why := series.NotProvided
	switch {
	case local:
		why = series.Loopback
	case p.cfg.Ingress && b.model.Meta.IsDefault():
		why = series.IngressWithoutOverride
	}
	if !m.TLS.IsZero() {
		e.tls = p.cfg.TLS.ClientConfig(m.TLS, m.UsesTransportHeader())
	}
	authority := ""
	if b.model.Path != "" {
		authority = metric.Labels("authority", b.model.Path)
	}
	labels := metric.Join(authority, series.Target(m.Addr), series.ClientTLS(m.TLS.ID, why), series.Dst(m.Labels))
	e.why = why
	e.transport = p.cfg.Series.Transport(metric.Join(series.OutboundLabel, series.DstLabel, labels)).Zoned(m.Zone)
	if b.key.kind > kindHTTP2 {
		e.watch(thdr.Opaque, notify)
		return e
	}
	e.metrics = p.cfg.Series.Endpoint(metric.Join(series.OutboundLabel, labels))
	e.carry = carries(m, b.key.kind == kindHTTP2)
	if b.key.kind == kindHTTP2 || e.carry {
		e.h2 = pool.NewH2(pool.H2Options{
			Dial:  func(ctx context.Context) (net.Conn, error) { return e.dial(ctx, thdr.HTTP2) },
			HTTP2: http2Options(p.cfg.HTTP2Client, &m.HTTP2), Backoff: p.cfg.Backoff, Clock: p.cfg.Clock,
			// A request whose endpoint goes away is given to another; see lost.
			Choose: true,
			Changed: func(s pool.State, err error) {
				if s == pool.Failing {
					p.cfg.Log.Warn("Failed to connect", "endpoint.addr", m.Addr, "error", err)
				}
				notify()
			},
		})
		e.h2.Connect()
	}
	if b.key.kind == kindHTTP1 {
		// Also beside HTTP/2, for requests that leave HTTP. It connects on
		// demand.
		e.h1 = pool.NewH1(pool.H1Options{
			Dial:    func(ctx context.Context) (net.Conn, error) { return e.dial(ctx, thdr.HTTP1) },
			MaxIdle: p.cfg.MaxIdleConns, IdleTimeout: p.cfg.IdleTimeout, Clock: p.cfg.Clock,
		})
		e.watch(thdr.HTTP1, notify)
	}
	return e
}

// watch has the endpoint avoided while it cannot be connected to.
func (e *endpoint) watch(session thdr.Session, notify func()) {
	if e.h2 == nil && !e.forward {
		e.suspect = newSuspect(e.p, func(ctx context.Context) (net.Conn, error) { return e.open(ctx, session) }, notify)
	}
}

// avoided reports whether the endpoint is better left alone.
func (e *endpoint) avoided() bool { return e.suspect != nil && e.suspect.on.Load() }

// http2Options are the proxy's own, overridden by the endpoint's.
func http2Options(o h2.Options, m *model.HTTP2Params) h2.Options {
	if m.ConnectionWindow != 0 && m.StreamWindow != 0 {
		o.InitialConnectionWindow, o.InitialStreamWindow = m.ConnectionWindow, m.StreamWindow
	}
	if m.Adaptive {
		o.AdaptiveWindow = true
	}
	if m.KeepAliveInterval != 0 && m.KeepAliveTimeout != 0 {
		o.KeepAliveInterval, o.KeepAliveTimeout = m.KeepAliveInterval, m.KeepAliveTimeout
		o.KeepAliveWhileIdle = m.KeepAliveWhileIdle
	}
	if m.MaxFrameSize != 0 {
		o.MaxFrameSize = m.MaxFrameSize
	}
	if m.MaxSendBufSize != 0 {
		o.MaxSendBuffer = m.MaxSendBufSize
	}
	if m.MaxConcurrentResetStreams != 0 {
		o.MaxPendingResets = int(m.MaxConcurrentResetStreams)
	}
	return o
}

// Ready reports whether a request could be sent at once. HTTP/1 connects on
// demand, and so do connections.
func (e *endpoint) Ready() bool {
	if e.h2 == nil {
		return true
	}
	s, _ := e.h2.State()
	return s == pool.Ready
}

// Close lets the connections end.
func (e *endpoint) Close() {
	if e.h1 != nil {
		e.h1.Close()
	}
	if e.h2 != nil {
		e.h2.Close()
		e.p.ending.Go(e.h2.Wait)
	}
	if e.metrics != nil {
		e.metrics.Release()
	}
	if e.suspect != nil {
		e.suspect.close()
	}
	e.transport.Release()
}

// dial connects, and counts the connection.
func (e *endpoint) dial(ctx context.Context, session thdr.Session) (net.Conn, error) {
	c, err := e.open(ctx, session)
	if err != nil {
		// A client that does not wait any longer says nothing about the endpoint.
		if ctx.Err() == nil && e.suspect != nil && e.suspect.failed() {
			e.p.cfg.Log.Warn("Failed to connect", "endpoint.addr", e.model.Addr, "error", err)
		}
		return nil, err
	}
	return transport.Count(c, e.transport), nil
}

// open connects, within the connect timeout.
func (e *endpoint) open(ctx context.Context, session thdr.Session) (net.Conn, error) {
	if e.connect.Addr().IsLoopback() {
		return nil, errLoopback
	}
	limit := e.p.cfg.ConnectTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := e.connectTo(ctx, session)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = &netx.ConnectTimeout{After: limit}
		}
		return nil, err
	}
	return c, nil
}

// connectTo connects: TCP, then TLS, then the transport header.
func (e *endpoint) connectTo(ctx context.Context, session thdr.Session) (net.Conn, error) {
	c, err := e.p.cfg.Dialer.Dial(ctx, e.connect)
	if err != nil || e.tls == nil {
		return c, err
	}
	t := meshtls.Client(c, e.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if t.ConnectionState().NegotiatedProtocol == thdr.ALPN {
		if _, err := t.Write(thdr.Append(nil, e.header(session))); err != nil {
			c.Close()
			return nil, err
		}
	}
	return t, nil
}

// header is what the endpoint's proxy is told (proxy chapter, section 5.4).
func (e *endpoint) header(session thdr.Session) thdr.Header {
	h := thdr.Header{Port: e.model.Addr.Port(), Session: session}
	if a := e.model.Authority; a != "" {
		h.Name, h.Port = splitAuthority(a)
	}
	if e.model.Hint == model.HintOpaque {
		h.Session = thdr.Opaque
	}
	return h
}

// roundTrip sends a request to the endpoint in the version that it takes.
func (e *endpoint) roundTrip(c *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	if a := e.model.Authority; a != "" {
		head.Authority = head.Keep(a)
		head.Del("host")
		head.Del("l5d-dst-canonical")
		if head.Version != exchange.HTTP2 {
			head.Add("host", a)
		}
	}
	want, err := e.requireID(head)
	if err != nil {
		return nil, err
	}
	resp, err := e.exchange(c, head, body)
	if err != nil && want != "" && exchange.Unsent(err) {
		// The next endpoint has to be asked, too.
		head.Add("l5d-require-id", want)
	}
	return resp, err
}

// lost reports whether a request failed because the endpoint went away between
// being chosen and being asked: it was not sent, and another may take it.
func (e *endpoint) lost(err error) bool {
	return e.movable() && exchange.Unsent(err) && (errors.Is(err, pool.ErrNotConnected) || errors.Is(err, pool.ErrClosed))
}

// movable reports whether other endpoints can be given what this one was. What it
// replaced the authority of is not theirs.
func (e *endpoint) movable() bool { return e.model.Authority == "" }

// exchange is roundTrip once the head is the endpoint's.
func (e *endpoint) exchange(c *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	if head.Version == exchange.HTTP2 {
		return e.h2.RoundTrip(c, head, body)
	}
	if !e.carry || head.Upgrade {
		return e.h1.RoundTrip(c, head, body)
	}
	origproto.Upgrade(head)
	resp, err := e.h2.RoundTrip(c, head, body)
	if err != nil {
		// Whoever answers in its place must see what the client sent, and so must
		// another endpoint.
		origproto.Restore(head)
		var reset *exchange.ResetError
		if errors.As(err, &reset) {
			err = fmt.Errorf("upgraded connection failed with HTTP/2 reset: %s", reset.CodeName())
		}
		return nil, err
	}
	origproto.Downgrade(&resp.Head)
	return resp, nil
}

// requireID checks what the application demands of the server's identity. It
// takes the demand off the head and returns it, empty if there is none.
func (e *endpoint) requireID(head *exchange.RequestHead) (string, error) {
	want := head.Get("l5d-require-id")
	if want == nil {
		return "", nil
	}
	id := e.model.TLS.ID.String()
	wanted := string(want)
	head.Del("l5d-require-id")
	if id != "" && id == wanted {
		return wanted, nil
	}
	found := "None"
	if id != "" {
		found = id
	}
	return "", refusal.BadGateway(fmt.Sprintf("required id %s; found %s", wanted, found), nil).Labeled("identity required")
}
