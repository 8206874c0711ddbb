package outbound

import (
	"net"

	"github.com/linkerd-go/linkerd-go/proxy/accept"
)

var _ accept.Waiting = (*Conn)(nil)

// Waits is where the next request of an HTTP/1 connection will come from.
func (c *Conn) Waits() net.Conn { return c.conn }
