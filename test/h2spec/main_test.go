package main

import (
	"net/netip"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/test/pair"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// TestConformance is `make h2spec` among the other tests. What failed is in the
// output, as the suite prints it.
func TestConformance(t *testing.T) {
	if raceEnabled {
		// Some cases expect an answer that depends on how far the other side
		// of a stream is, and give it two seconds.
		t.Skip("the suite goes by the clock; it runs without the race detector")
	}
	p := pair.New(t, limits)
	stop, err := serve(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for name, addr := range map[string]string{"outbound": p.Outbound(pair.HTTP2), "inbound": p.Inbound(pair.HTTP2)} {
		t.Run(name, func(t *testing.T) {
			ok, err := run(netip.MustParseAddrPort(addr), "", false)
			if err != nil || !ok {
				t.Errorf("passed %v, %v", ok, err)
			}
		})
	}
}
