package rpc

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/backoff"
	"github.com/linkerd-go/linkerd-go/proxy/dns"
)

// refresher resolves the server's name again and again.
type refresher struct {
	backoff backoff.Series
	resolve func(context.Context) (dns.Answer, error)
	// found and failed are told the results.
	found  func([]netip.AddrPort)
	failed func(error)
	// hint says that a connection failed, and so that the addresses may be old.
	hint chan struct{}
}

// leastRefresh is how long an answer is used at least, even if connections to
// it fail (proxy chapter, section 19).
const leastRefresh = 5 * time.Second

// run resolves until ctx is done.
func (r *refresher) run(ctx context.Context) {
	for {
		answer, err := r.resolve(ctx)
		answered := time.Now()
		wait := answer.TTL
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			r.backoff.Reset()
			r.found(answer.Addrs)
		default:
			r.failed(err)
			if !errors.Is(err, dns.ErrNotFound) {
				wait = r.backoff.Next()
			}
		}
		timer := time.NewTimer(wait)
		if err == nil {
			// A failing connection asks for fresh addresses, but not all
			// the time.
			select {
			case <-ctx.Done():
			case <-timer.C:
				continue
			case <-r.hint:
				// At once if the answer is old enough: whoever lost a controller
				// has nothing to ask until another is found.
				timer.Reset(min(wait, leastRefresh) - min(wait, leastRefresh, time.Since(answered)))
			}
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// again asks for fresh addresses.
func (r *refresher) again() {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}
