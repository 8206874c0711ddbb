package discovery

import (
	"net/netip"
	"slices"

	destinationpb "github.com/linkerd-go/linkerd-go/api/lean/destination"
	"github.com/linkerd-go/linkerd-go/proxy/discovery/decode"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// endpoints applies the updates of a Destination.Get stream to a set.
type endpoints struct {
	byAddr  map[netip.AddrPort]*model.Endpoint
	exists  bool
	updates model.EndpointUpdates
	// fresh: no update was applied since the stream was made, so the next add
	// tells all there is.
	fresh bool
}

func newEndpoints() *endpoints {
	return &endpoints{byAddr: make(map[netip.AddrPort]*model.Endpoint), fresh: true}
}

// reconnected says that the next message is the first of a new stream.
func (s *endpoints) reconnected() { s.fresh = true }

// apply applies an update and returns the new snapshot, nil if it changed
// nothing.
func (s *endpoints) apply(u *destinationpb.Update) *model.EndpointSet {
	switch u := u.GetUpdate().(type) {
	case *destinationpb.Update_Add:
		var list []*model.Endpoint
		for _, w := range u.Add.GetAddrs() {
			if e, ok := decode.Endpoint(w, u.Add.GetMetricLabels()); ok {
				list = append(list, e)
			}
		}
		if len(list) == 0 {
			return nil
		}
		if s.fresh {
			clear(s.byAddr)
			s.updates.Reset++
		} else {
			s.updates.Add++
		}
		for _, e := range list {
			s.byAddr[e.Addr] = e
		}
		s.exists = true
	case *destinationpb.Update_Remove:
		var list []netip.AddrPort
		for _, a := range u.Remove.GetAddrs() {
			if ap, ok := decode.AddrPort(a); ok {
				list = append(list, ap)
			}
		}
		// What is removed before anything was added was never there.
		if len(list) == 0 || s.fresh {
			return nil
		}
		s.updates.Remove++
		for _, a := range list {
			delete(s.byAddr, a)
		}
	case *destinationpb.Update_NoEndpoints:
		s.updates.Reset++
		clear(s.byAddr)
		s.exists = u.NoEndpoints.GetExists()
	default:
		return nil
	}
	s.fresh = false
	return s.snapshot()
}

func (s *endpoints) snapshot() *model.EndpointSet {
	out := &model.EndpointSet{Exists: s.exists, Updates: s.updates, Endpoints: make([]*model.Endpoint, 0, len(s.byAddr))}
	for _, e := range s.byAddr {
		out.Endpoints = append(out.Endpoints, e)
	}
	slices.SortFunc(out.Endpoints, func(a, b *model.Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}
