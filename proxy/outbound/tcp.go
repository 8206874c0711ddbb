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

// opaque joins a connection with a backend of the target, byte for byte, until
// both sides have ended.
func (p *Proxy) opaque(c net.Conn, t *target, dst netip.AddrPort, log *slog.Logger) error {
	return t.current(kindOpaque, func(s *snapshot) error {
		r := s.tcp[0]
		if r.invalid != "" {
			return errInvalidPolicy
		}
		if r.profile != nil {
			b, ok := r.profile.Pick()
			if !ok {
				return balance.ErrLoadShed
			}
			return p.join(c, b, log)
		}
		if len(r.rules) == 0 {
			return errNoRoute
		}
		set := p.cfg.Series
		labels := metric.Join(r.rules[0].labels, metric.Labels("target_ip", dst.Addr().String(), "target_port", strconv.Itoa(int(dst.Port()))))
		return p.along(c, r.rules[0], labels, set.TCPRouteOpen, set.TCPRouteClose, log)
	})
}

// serveTLS routes the application's own TLS by its server name.
func (c *Conn) serveTLS() error {
	conn, hello, sni, err := sniff.TLS(c.conn, c.p.cfg.Detect)
	c.conn = conn
	c.drain.OnStart(nil)
	switch {
	case errors.Is(err, sniff.ErrTLSTimeout):
		return errSNITimeout
	case err != nil:
		return err
	case hello != detect.TLS || sni == "":
		return errNoSNI
	}
	return c.target.current(kindTLS, func(s *snapshot) error {
		r := s.tcp[kindTLS-kindOpaque]
		if r.invalid != "" {
			return errInvalidPolicy
		}
		found := route.FindSNI(r.policy.Routes, sni)
		for _, ru := range r.rules {
			if ru.TCPRoute == found {
				set := c.p.cfg.Series
				labels := metric.Join(ru.labels, metric.Labels("hostname", sni))
				return c.p.along(c.conn, ru, labels, set.TLSRouteOpen, set.TLSRouteClose, c.log())
			}
		}
		return errNoRoute
	})
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

// along takes a route: filters, distribution, backend.
func (p *Proxy) along(c net.Conn, r *tcpRule, labels string, opened, closed *metric.Family, log *slog.Logger) error {
	opened.Count(labels)
	err := func() error {
		if err := closing(r.Filters); err != nil {
			return err
		}
		b, ok := r.dist.Pick()
		if !ok {
			return balance.ErrLoadShed
		}
		if err := closing(b.filters); err != nil {
			return err
		}
		return p.join(c, b.backend, log)
	}()
	closed.Count(metric.Join(labels, metric.Labels("error", routeErrorLabel(err))))
	if err != nil {
		return fmt.Errorf("route %s: %w", label(r.Meta), err)
	}
	return nil
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

// join connects to an endpoint of the backend and copies both ways.
func (p *Proxy) join(c net.Conn, b *backend, log *slog.Logger) error {
	if b.balancer == nil {
		return fmt.Errorf("backend %s: %w: %s", b, errInvalidBackend, b.fail)
	}
	pick, err := b.balancer.Pick(nil)
	if err != nil {
		return fmt.Errorf("backend %s: %w", b, err)
	}
	defer pick.Release()
	e := pick.Service()
	server, err := e.dial(p.ctx, thdr.Opaque)
	pick.Complete()
	if err != nil {
		return fmt.Errorf("backend %s: endpoint %s: %w", b, e.model.Addr, err)
	}
	var d duplex.Duplex
	res := d.Run(c, server)
	transport.Failed(c, res.SendErr)
	transport.Failed(server, res.ReceiveErr)
	if err := res.Err(); err != nil {
		log.Debug("Connection closed", "error", err)
	}
	return nil
}
