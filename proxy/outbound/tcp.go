package outbound

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/balance"
	duplex "github.com/linkerd-go/linkerd-go/proxy/copy"
	"github.com/linkerd-go/linkerd-go/proxy/detect"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/sniff"
	"github.com/linkerd-go/linkerd-go/proxy/thdr"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
)

// Reasons why connections are refused. The texts reach the log.
var (
	errNoSNI          = errors.New("Could not find SNI")
	errSNITimeout     = errors.New("SNI detection timed out")
	errNoRoute        = errors.New("no route")
	errForbidden      = errors.New("forbidden")
	errInvalidBackend = errors.New("invalid backend")
	errInvalidPolicy  = errors.New("invalid client policy: invalid client policy configuration")
)

// way is how a connection goes on: along a route, to an endpoint of a backend,
// to which there is a connection.
type way struct {
	// rule is nil for profiles.
	rule   *tcpRule
	pick   balance.Pick[*endpoint]
	server net.Conn
}

// opaque joins a connection with a backend of the target, byte for byte, until
// both sides have ended. w is the way if it was taken already.
func (p *Proxy) opaque(c net.Conn, t *target, dst netip.AddrPort, w *way, log *slog.Logger) error {
	labels := func(r *tcpRule) string {
		return metric.Join(r.labels, metric.Labels("target_ip", dst.Addr().String(), "target_port", strconv.Itoa(int(dst.Port()))))
	}
	var err error
	if w == nil {
		w, err = p.connect(t, nil)
	}
	if w.rule != nil {
		set := p.cfg.Series
		l := labels(w.rule)
		set.TCPRouteOpen.Count(l)
		defer set.TCPRouteClose.Count(metric.Join(l, metric.Labels("error", routeErrorLabel(err))))
	}
	if err != nil {
		return err
	}
	w.join(c, log)
	return nil
}

// connect takes the way of the routers of the moment; again, if they were
// replaced meanwhile. find chooses the rule, nil the only one of opaque traffic.
// The way is never nil, but without connection if there is an error.
func (p *Proxy) connect(t *target, find func(*tcpRouter) *tcpRule) (w *way, err error) {
	k := kindOpaque
	if find != nil {
		k = kindTLS
	}
	w = &way{}
	err = t.current(k, func(s *snapshot) error {
		*w = way{}
		r := s.tcp[k-kindOpaque]
		switch {
		case r.invalid != "":
			return errInvalidPolicy
		case r.profile != nil:
			b, ok := r.profile.Pick()
			if !ok {
				return balance.ErrLoadShed
			}
			return w.reach(p, b)
		case find != nil:
			w.rule = find(r)
		case len(r.rules) > 0:
			w.rule = r.rules[0]
		}
		if w.rule == nil {
			return errNoRoute
		}
		if err := w.along(p); err != nil {
			return fmt.Errorf("route %s: %w", label(w.rule.Meta), err)
		}
		return nil
	})
	return w, err
}

// along takes the rule's way: filters, distribution, backend.
func (w *way) along(p *Proxy) error {
	if err := closing(w.rule.Filters); err != nil {
		return err
	}
	b, ok := w.rule.dist.Pick()
	if !ok {
		return balance.ErrLoadShed
	}
	if err := closing(b.filters); err != nil {
		return err
	}
	return w.reach(p, b.backend)
}

// reach connects to an endpoint of the backend.
func (w *way) reach(p *Proxy, b *backend) error {
	if b.balancer == nil {
		return fmt.Errorf("backend %s: %w: %s", b, errInvalidBackend, b.fail)
	}
	for n := 1; ; n++ {
		pick, err := b.balancer.PickFor(nil, p.session(b, nil))
		if err != nil {
			return fmt.Errorf("backend %s: %w", b, err)
		}
		e := pick.Service()
		server, err := e.dial(p.ctx, thdr.Opaque)
		pick.Complete()
		if err == nil {
			w.pick, w.server = pick, server
			return nil
		}
		pick.Release()
		if n == maxConnects || !b.balancer.Spare() {
			return fmt.Errorf("backend %s: endpoint %s: %w", b, e.model.Addr, err)
		}
	}
}

// join copies both ways until both sides have ended.
func (w *way) join(c net.Conn, log *slog.Logger) {
	defer w.pick.Release()
	var d duplex.Duplex
	res := d.Run(c, w.server)
	transport.Failed(c, res.SendErr)
	transport.Failed(w.server, res.ReceiveErr)
	if err := res.Err(); err != nil {
		log.Debug("Connection closed", "error", err)
	}
}

// serveTLS routes the application's own TLS by its server name.
func (c *Conn) serveTLS() error {
	conn, hello, sni, err := sniff.TLS(c.conn, c.p.cfg.Detect)
	c.conn = conn
	c.drain.Bytes()
	switch {
	case errors.Is(err, sniff.ErrTLSTimeout):
		return errSNITimeout
	case err != nil:
		return err
	case hello != detect.TLS || sni == "":
		return errNoSNI
	}
	return c.along(sni)
}

// serveRoutedTLS is serveTLS for a connection that need not be TLS. It reports
// false if it is not, or if no route is for its server name, and has then left
// it as it was.
func (c *Conn) serveRoutedTLS() (done bool, err error) {
	conn, hello, sni, err := sniff.TLS(c.conn, c.detect())
	c.conn = conn
	switch {
	case errors.Is(err, sniff.ErrTLSTimeout):
		return false, nil
	case err != nil:
		return true, err
	case hello != detect.TLS || sni == "":
		return false, nil
	}
	if p := c.target.state.Load().target.Policy; p.TLS == nil || route.FindSNI(p.TLS.Routes, sni) == nil {
		return false, nil
	}
	c.drain.Bytes()
	return true, c.along(sni)
}

// along takes TLS along the route for its server name.
func (c *Conn) along(sni string) error {
	w, err := c.p.connect(c.target, func(r *tcpRouter) *tcpRule {
		found := route.FindSNI(r.policy.Routes, sni)
		for _, ru := range r.rules {
			if ru.TCPRoute == found {
				return ru
			}
		}
		return nil
	})
	if w.rule != nil {
		set := c.p.cfg.Series
		labels := metric.Join(w.rule.labels, metric.Labels("hostname", set.Names.Label(sni)))
		set.TLSRouteOpen.Count(labels)
		defer set.TLSRouteClose.Count(metric.Join(labels, metric.Labels("error", routeErrorLabel(err))))
	}
	if err != nil {
		return err
	}
	w.join(c.conn, c.log())
	return nil
}

// current calls use with a snapshot that has a router of the kind, again with a
// newer one if its backends were closed meanwhile.
func (t *target) current(k kind, use func(*snapshot) error) error {
	for {
		s := t.router(k)
		if !s.has(k) {
			return errNoRoute
		}
		err := use(s)
		if errors.Is(err, balance.ErrClosed) && t.state.Load() != s {
			continue
		}
		return err
	}
}

// closing is what filters for connections decide.
func closing(filters []model.Filter) error {
	switch v := route.ApplyTCP(filters); v.Action {
	case route.Forbidden:
		return errForbidden
	case route.InvalidBackend:
		return fmt.Errorf("%w: %s", errInvalidBackend, v.Message)
	case route.Broken:
		return errInvalidPolicy
	}
	return nil
}

// routeErrorLabel is the error label of the route's close counters.
func routeErrorLabel(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errForbidden):
		return "forbidden"
	case errors.Is(err, errInvalidBackend):
		return "invalid_backend"
	case errors.Is(err, errInvalidPolicy):
		return "invalid_policy"
	}
	return "unexpected"
}
