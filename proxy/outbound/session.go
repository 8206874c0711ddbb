package outbound

import (
	"math/rand/v2"
	"net/netip"

	"github.com/linkerd-go/linkerd-go/proxy/balance/affinity"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// self is the key of a pod with the given addresses: it stays the same when the
// proxy starts again.
func self(own []netip.Addr) uint64 {
	if len(own) == 0 {
		return rand.Uint64() | 1
	}
	ip := own[0].As16()
	return affinity.Key(ip[:])
}

// session is the key of the session that a request belongs to at a backend, or a
// connection if head is nil; 0 if it belongs to none.
func (p *Proxy) session(b *backend, head *exchange.RequestHead) uint64 {
	a := &b.model.Affinity
	switch {
	case a.Kind == model.AffinityNone:
		return 0
	case a.Kind == model.AffinityClient:
		return p.self
	case head == nil:
		return 0
	}
	value := sessionValue(a, head)
	if len(value) == 0 {
		return 0
	}
	return affinity.Key(value)
}

// sessionValue is what requests of one session have in common, empty if there is
// no session yet.
func sessionValue(a *model.Affinity, head *exchange.RequestHead) []byte {
	if a.Kind == model.AffinityHeader {
		return head.Get(a.Name)
	}
	// HTTP/2 may cut the field into several (RFC 9113, section 8.2.3).
	for i := range head.List {
		if f := &head.List[i]; f.Is("cookie") {
			if value, ok := affinity.Cookie(f.Value, a.Name); ok {
				return value
			}
		}
	}
	return nil
}
