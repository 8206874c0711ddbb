package inbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/pool"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
	"github.com/linkerd-go/linkerd-go/proxy/watch"
)

// appKey is how the application is reached: at an address, in a protocol.
type appKey struct {
	addr  netip.AddrPort
	http2 bool
}

// app is the application as a server of HTTP. It is a balancer over one
// endpoint: its queue holds requests back while an HTTP/2 application is not
// listening yet, and its fail-fast lets them go.
type app struct {
	addr     netip.AddrPort
	balancer *balance.Balancer[*appClient]
}

// appClient is the application's connections.
type appClient struct {
	client exchange.Client
	ready  func() bool
	stop   func()
}

// Ready reports whether a request could be sent at once.
func (c *appClient) Ready() bool { return c.ready() }

// Close lets the connections end.
func (c *appClient) Close() { c.stop() }

// app finds or makes the way to the application.
func (pt *port) app(k appKey) *app {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if a := pt.apps[k]; a != nil {
		return a
	}
	a := pt.p.newApp(k)
	pt.p.cfg.Series.StackCreate.Count(stackLabels)
	pt.apps[k] = a
	return a
}

func (p *Proxy) newApp(k appKey) *app {
	endpoints := &model.EndpointSet{Endpoints: []*model.Endpoint{{Addr: k.addr}}, Exists: true}
	a := &app{addr: k.addr}
	a.balancer = balance.New(balance.Config[*appClient]{
		Endpoints: watch.Const(endpoints),
		Load:      model.DefaultLoad(),
		Capacity:  p.cfg.Queue,
		Failfast:  p.cfg.FailFast,
		New: func(_ *model.Endpoint, notify func()) *appClient {
			dial := func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, k.addr) }
			if !k.http2 {
				c := pool.NewH1(pool.H1Options{Dial: dial, MaxIdle: p.cfg.MaxIdleConns, IdleTimeout: p.cfg.IdleTimeout, Clock: p.cfg.Clock})
				return &appClient{client: c, ready: func() bool { return true }, stop: c.Close}
			}
			c := pool.NewH2(pool.H2Options{
				Dial: dial, HTTP2: p.cfg.HTTP2Client, Backoff: p.cfg.Backoff, Clock: p.cfg.Clock,
				// See queued.
				Choose: true,
				Changed: func(s pool.State, err error) {
					if s == pool.Failing {
						p.cfg.Log.Warn("Failed to connect", "server.addr", k.addr, "error", err)
					}
					notify()
				},
			})
			c.Connect()
			return &appClient{
				client: queued{c, a},
				ready: func() bool {
					s, _ := c.State()
					return s == pool.Ready
				},
				stop: func() {
					c.Close()
					p.ending.Go(c.Wait)
				},
			}
		},
	})
	return a
}

// queued is the HTTP/2 connection to the application. A request that comes upon it
// as it goes away goes back into the queue, whose fail-fast knows how long there
// may be none: the application may have ended.
type queued struct {
	*pool.H2
	a *app
}

// maxQueued is how often a request goes back; a connection that is ready each time
// and gone at once is of no use.
const maxQueued = 8

// RoundTrip implements exchange.Client.
func (q queued) RoundTrip(cn *exchange.Canceler, head *exchange.RequestHead, body exchange.Body) (*exchange.Response, error) {
	for n := 0; ; n++ {
		resp, err := q.H2.RoundTrip(cn, head, body)
		if err == nil || n == maxQueued || !exchange.Unsent(err) || !errors.Is(err, pool.ErrNotConnected) {
			return resp, err
		}
		pick, err := q.a.balancer.Pick(cn)
		if err != nil {
			return nil, err
		}
		pick.Release()
	}
}

// close ends the balancer; requests in flight go on.
func (a *app) close() { a.balancer.Close() }

// errLoop: a connection to the proxy's own port would come back for ever.
type errLoop uint16

func (e errLoop) Error() string {
	return "inbound connection must not target port " + strconv.Itoa(int(e))
}

// dial connects to the application and counts the connection.
func (p *Proxy) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if to.Port() == p.cfg.Port {
		return nil, errLoop(to.Port())
	}
	c, err := p.cfg.Dialer.Dial(ctx, to)
	if local, ok := p.fallback(to, err); ok {
		c, err = p.cfg.Dialer.Dial(ctx, local)
	}
	if err != nil {
		return nil, err
	}
	return transport.Count(c, p.dst), nil
}

// fallback is where an application may listen that does not listen on the pod's
// address: on the loopback interface. Only ports that the pod declares are tried
// there, so that what an application keeps to itself stays so.
func (p *Proxy) fallback(to netip.AddrPort, err error) (netip.AddrPort, bool) {
	if !errors.Is(err, syscall.ECONNREFUSED) || p.cfg.Ports == nil || !p.cfg.Ports.Contains(to.Port()) {
		return to, false
	}
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if to.Addr().Is6() {
		local = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(local, to.Port()), true
}

// stackLabels label stack_create_total and stack_drop_total.
var stackLabels = metric.Join(series.InboundLabel, metric.Labels("protocol", "http", "name", "logical"))

// dstLabels are those of all connections to the application.
var dstLabels = metric.Join(series.InboundLabel, series.DstLabel, series.ClientTLS(model.Identity{}, series.Loopback))
