package outbound

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

const overrideHeader = "l5d-dst-override"

// ingress serves a connection of an ingress controller: what is HTTP is routed
// request by request, everything else by its original destination.
func (c *Conn) ingress() error {
	parent := series.Parent(model.Default(model.DefaultIngress))
	c.p.cfg.Series.OutboundProtocols.Count(metric.Join(metric.Labels("protocol", "detect"), parent))
	plan, err := c.sniff(parent)
	if err != nil {
		return err
	}
	switch plan {
	case planHTTP1:
		c.http1 = c.newHTTP1(&Handler{p: c.p, conn: c})
		return nil
	case planHTTP2:
		return c.serveHTTP2(&Handler{p: c.p, conn: c})
	}
	lease, err := c.p.targets.Get(c.p.ctx, targetKey{addr: c.dst})
	if err != nil {
		return fmt.Errorf("discover %s: %w", c.dst, err)
	}
	defer lease.Release()
	c.drain.Bytes()
	return c.p.opaque(c.conn, lease.Value(), c.dst, nil, c.log())
}

// ingressError ends a request outside of the response synthesiser: the
// connection is dropped, or the stream reset (proxy chapter, section 18.1).
type ingressError struct{ text string }

func (e *ingressError) Error() string { return e.text }

// override decides where an ingress controller's request goes: to the name that
// it asks for, or to the connection's destination.
func override(h *exchange.RequestHead) (name string, port uint16, err error) {
	v := h.Get(overrideHeader)
	if v == nil || !uri.Valid(v) {
		return "", 0, nil
	}
	n, port, ok := uri.NamePort(v, 80)
	if !ok {
		return "", 0, &ingressError{overrideHeader + " is not a valid host:port"}
	}
	return string(n), port, nil
}

// discover finds the target of an ingress controller's request.
func (r *request) discover() error {
	name, port, err := override(r.x.Request)
	if err != nil {
		return err
	}
	r.x.Request.Del(overrideHeader)
	key := targetKey{addr: r.h.conn.dst}
	if name != "" {
		key = targetKey{name: name, port: port}
	}
	lease, err := r.p.targets.Get(r.p.ctx, key)
	switch {
	case errors.Is(err, lookup.ErrNotDiscovered) && name != "":
		return &ingressError{"ingress-mode routing requires discovery: " + name}
	case err != nil:
		return err
	}
	r.t, r.done = lease.Value(), lease.Release
	return nil
}

// Gateway finds the handler for what a peer asks the gateway for. done has to
// be called when the connection is over.
func (p *Proxy) Gateway(name string, port uint16) (h *Handler, done func(), err error) {
	lease, err := p.targets.Get(p.ctx, targetKey{name: name, port: port, gateway: true})
	if err != nil {
		return nil, nil, err
	}
	return &Handler{p: p, target: lease.Value(), loud: true}, lease.Release, nil
}

// GatewayTCP joins a connection with what a peer asks the gateway for.
func (p *Proxy) GatewayTCP(c net.Conn, name string, port uint16) error {
	lease, err := p.targets.Get(p.ctx, targetKey{name: name, port: port, gateway: true})
	if err != nil {
		return err
	}
	defer lease.Release()
	return p.opaque(c, lease.Value(), lease.Value().key.addr, nil, p.cfg.Log)
}

// authority is what a request to the target is for that does not say it.
func (t *target) authority() string {
	if path := t.state.Load().target.Path; path != "" {
		return path
	}
	return t.String()
}

// splitAuthority takes "host" or "host:port" apart; the port is 80 if there is
// none.
func splitAuthority(a string) (string, uint16) {
	host, port := uri.Split([]byte(a))
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil {
		n = 80
	}
	return string(host), uint16(n)
}
