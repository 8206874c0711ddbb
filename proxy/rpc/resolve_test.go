package rpc

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/dns"
)

// A controller that was replaced has to be found again, whether its records
// expire or connections to it fail.
func TestControllersAreResolvedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		var got []netip.AddrPort
		r := &refresher{
			hint:  make(chan struct{}, 1),
			found: func(list []netip.AddrPort) { got = append(got, list...) },
			resolve: func(context.Context) (dns.Answer, error) {
				n := calls.Add(1)
				addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 8086)
				return dns.Answer{Addrs: []netip.AddrPort{addr}, TTL: 30 * time.Second}, nil
			},
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.run(ctx)
		}()
		for _, step := range []struct {
			why   string
			hint  bool
			after time.Duration
			calls int
		}{
			{"at first", false, 0, 1},
			{"before the records expire", false, 29 * time.Second, 1},
			{"when they have", false, 2 * time.Second, 2},
			{"when they have again", false, 30 * time.Second, 3},
			{"soon after a connection failed", true, 6 * time.Second, 4},
			{"and only once for it", false, 20 * time.Second, 4},
			{"at once after a connection failed that was good for long", true, 0, 5},
		} {
			if step.hint {
				r.again()
			}
			time.Sleep(step.after)
			synctest.Wait()
			if calls := int(calls.Load()); calls != step.calls {
				t.Errorf("%s: resolved %d times, not %d", step.why, calls, step.calls)
			}
		}
		cancel()
		<-done
		if len(got) != int(calls.Load()) || got[1].String() != "10.0.0.2:8086" {
			t.Errorf("passed on %v", got)
		}
	})
}
