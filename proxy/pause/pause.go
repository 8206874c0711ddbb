// Package pause holds an exchange for a while.
//
//	if err := pause.For(&x.Canceler, clk, d); err != nil {
//		return err // the client went away meanwhile
//	}
//
// For may be called from the goroutine that serves the exchange, while nothing
// else is bound to its canceler.
package pause

import (
	"sync"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/clock"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// For returns after d, or as soon as the exchange is cancelled, then with the
// reason. The canceler is bound to nothing afterwards.
func For(c *exchange.Canceler, clk clock.Clock, d time.Duration) error {
	over := make(chan struct{})
	var once sync.Once
	end := func() { once.Do(func() { close(over) }) }
	t := clk.AfterFunc(d, end)
	defer t.Stop()
	if err := c.Bind(func(error) { end() }); err != nil {
		return err
	}
	<-over
	c.Bind(nil)
	return c.Cause()
}
