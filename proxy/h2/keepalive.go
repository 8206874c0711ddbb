package h2

import (
	"errors"
	"time"
)

// startKeepAlive arms the timer, if so configured.
func (c *conn) startKeepAlive() {
	if c.o.KeepAliveInterval <= 0 || c.o.KeepAliveTimeout <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.timer = time.AfterFunc(c.o.KeepAliveInterval, c.keepAlive)
	}
}

// keepAlive runs when the timer fires.
func (c *conn) keepAlive() {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	silent := time.Since(c.born) - time.Duration(c.lastRead.Load())
	if c.pinging && silent < time.Since(c.pingAt) {
		c.pinging = false // something came after the PING
	}
	switch {
	case c.pinging:
		c.reason = errKeepAlive
		if c.server {
			c.goAwayLocked(c.lastPeer, codeNo, "keep-alive timed out")
			c.stopLocked()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.fail(errKeepAlive)
		return
	case silent < c.o.KeepAliveInterval:
		c.timer.Reset(c.o.KeepAliveInterval - silent)
	case len(c.streams) == 0 && !c.server && !c.o.KeepAliveWhileIdle:
		c.timer.Reset(c.o.KeepAliveInterval)
	default:
		c.pinging, c.pingAt = true, time.Now()
		c.controlLocked(header{kind: framePing}, pingAlive)
		c.timer.Reset(c.o.KeepAliveTimeout)
	}
	c.mu.Unlock()
}

var errKeepAlive = errors.New("keep-alive timed out")
