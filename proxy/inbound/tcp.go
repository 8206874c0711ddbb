package inbound

import (
	"errors"
	"fmt"

	"github.com/linkerd-go/linkerd-go/proxy/authz"
	"github.com/linkerd-go/linkerd-go/proxy/balance"
	duplex "github.com/linkerd-go/linkerd-go/proxy/copy"
	"github.com/linkerd-go/linkerd-go/proxy/metric"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/transport"
)

// errTerminated ends a connection that a new policy does not permit.
var errTerminated = errors.New("Connection terminated due to policy change")

// forwarding is a connection that is joined with the application, or about to
// be.
type forwarding struct {
	c      *Conn
	duplex duplex.Duplex
	// end ends the connection.
	end func(error)
}

// forward authorizes the connection and joins it with the application byte for
// byte, until both sides have ended or the policy changes its mind.
func (c *Conn) forward() error {
	f := &forwarding{c: c}
	f.end = f.duplex.Cancel
	// From here on the policy's changes are heard, so that none can fall
	// between the decision and the copying.
	c.port.join(f)
	defer c.port.leave(f)
	pol := c.port.policy.Load()
	by, reason := pol.permitted(c.who())
	if by == nil {
		if c.server != nil {
			c.server.Close()
		}
		c.denied(pol, reason)
		return nil
	}
	c.allow(pol, by)
	// There is no way to say that memory is scarce but to close.
	if c.p.cfg.Memory.Full() {
		if c.server != nil {
			c.server.Close()
		}
		return balance.ErrLoadShed
	}
	c.srcTransport()
	defer c.conn.Close()
	// Bytes may be on their way from now on: a drain waits for the end.
	c.drain.Bytes()
	app := c.server
	if app == nil {
		var err error
		if app, err = c.p.dial(c.p.ctx, c.target); err != nil {
			return fmt.Errorf("server %s: %w", c.target, err)
		}
	}
	res := f.duplex.Run(c.conn, app)
	transport.Failed(c.conn, res.SendErr)
	transport.Failed(app, res.ReceiveErr)
	if err := res.Err(); err != nil {
		c.log().Debug("Connection closed", "error", err)
	}
	return nil
}

// denied counts and logs a connection that is not permitted.
func (c *Conn) denied(pol *policy, reason authz.Reason) {
	c.countTCP(c.p.cfg.Series.TCPDeny, pol, nil)
	if pol.Invalid != "" {
		c.countTCP(c.p.cfg.Series.InvalidPolicy, pol, nil)
		c.log().Info("Connection denied", "server", pol.Meta, "tls", c.tls.Client, "reason", "invalid server policy", "error", pol.Invalid)
		return
	}
	c.log().Info("Connection denied", "server", pol.Meta, "tls", c.tls.Client, "reason", reason)
}

// allow counts a permitted connection, and logs it if it is to be audited.
func (c *Conn) allow(pol *policy, by *model.Authorization) {
	c.countTCP(c.p.cfg.Series.TCPAllow, pol, by)
	if by.Meta.Name == model.AuditName {
		c.log().Info("Connection allowed", "server", pol.Meta, "tls", c.tls.Client, "authz", by.Meta)
	}
}

func (c *Conn) countTCP(f *metric.Family, pol *policy, by *model.Authorization) {
	auth := ""
	if by != nil {
		auth = series.Authz(by.Meta)
	}
	f.Count(metric.Join(series.Target(c.target), pol.srv, auth, c.tls.Labels()))
}

// join adds a connection to those that hear of policy changes.
func (pt *port) join(f *forwarding) {
	pt.mu.Lock()
	pt.tcp[f] = struct{}{}
	pt.mu.Unlock()
}

// leave is the end of join.
func (pt *port) leave(f *forwarding) {
	pt.mu.Lock()
	delete(pt.tcp, f)
	pt.mu.Unlock()
}

// reauthorize ends the connection if the policy does not permit it any more.
func (f *forwarding) reauthorize(pol *policy) {
	c := f.c
	by, reason := pol.permitted(c.who())
	if by != nil {
		return
	}
	c.countTCP(c.p.cfg.Series.TCPTerminate, pol, nil)
	c.log().Info("Connection terminated due to policy change", "server", pol.Meta, "tls", c.tls.Client, "reason", reason)
	f.end(errTerminated)
}
