package overload

import (
	"net"
	"sync/atomic"
	"time"
)

// Standing is what is known of a client's connection: whether it was of use while
// there was memory for everybody. Those that were go on being served while memory
// is scarce, since it is the others that take it: a flood is made of connections
// that never come to the end of a request. A new connection has none, and nil is
// that of one that never will.
type Standing struct {
	known atomic.Bool
	// over says that the connection is over its client's share, which takes
	// its standing from it while memory is scarce.
	over atomic.Bool
}

// StandingOf gives that of a connection that came from Pace, and nil for others.
func StandingOf(c net.Conn) *Standing {
	if p, ok := c.(*paced); ok {
		return &p.standing
	}
	return nil
}

// Served notes that a request on the connection was answered to its end.
func (g *Guard) Served(s *Standing) {
	if g != nil && s != nil && !s.known.Load() && level(g.level.Load()) == normal {
		s.known.Store(true)
	}
}

// Refuse reports whether a request that came on the connection has to be refused.
// now is the caller's time, for it has looked at the clock already.
func (g *Guard) Refuse(now time.Time, s *Standing) bool {
	return g.Scarce(now) && !g.excuses(s)
}

// TakeOn is Take for who takes memory for requests of the connection.
func (g *Guard) TakeOn(s *Standing) func(n int) bool {
	return func(n int) bool { return g.Take(n) && !g.excuses(s) }
}

// excuses reports whether the connection may go on while others may not.
func (g *Guard) excuses(s *Standing) bool {
	return s != nil && s.known.Load() && !s.over.Load() && level(g.level.Load()) < desperate
}
