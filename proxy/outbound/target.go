package outbound

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
)

// targetKey is a destination: the original address of a connection, or a name
// that an ingress controller or a peer of the gateway asks for.
type targetKey struct {
	addr netip.AddrPort
	name string
	port uint16
	// gateway tells names of transport headers from those of ingresses.
	gateway bool
}

// kind is a way in which a target is used. Each has routers and balancers of
// its own, made when they are first used: one protocol's connections are of no
// use to another.
type kind uint8

const (
	kindHTTP1 kind = iota
	kindHTTP2
	kindOpaque
	kindTLS
	kinds
)

// target is everything that is known about one destination, shared by its
// connections.
type target struct {
	p   *Proxy
	key targetKey
	// text is the destination as logs, errors and requests have it.
	text string
	// state is the snapshot that the data path reads.
	state atomic.Pointer[snapshot]

	mu sync.Mutex
	// backends are those of the routers in use, guarded by mu; so are
	// updates of state.
	backends map[backendKey]*backend
	closed   bool
}

// snapshot is a target with the routers that were made of it. It is replaced,
// never changed.
type snapshot struct {
	target *model.Target
	http   [2]*httpRouter // by kind
	tcp    [2]*tcpRouter  // by kind - kindOpaque
}

// watchTarget keeps a target up to date while it is in use.
func (p *Proxy) watchTarget(ctx context.Context, key targetKey, ready func(*target)) error {
	lease, err := p.discover(ctx, key)
	if err != nil {
		return err
	}
	defer lease.Release()
	t := &target{p: p, key: key, text: key.String(), backends: map[backendKey]*backend{}}
	now, changed := lease.Value().Watch()
	t.state.Store(&snapshot{target: now})
	ready(t)
	for {
		select {
		case <-changed:
			now, changed = lease.Value().Watch()
			t.update(now)
		case <-ctx.Done():
			t.close()
			return nil
		}
	}
}

// discover asks the control plane about a destination.
func (p *Proxy) discover(ctx context.Context, key targetKey) (*lookup.Lease[lookup.Targets], error) {
	switch {
	case key.gateway:
		return p.cfg.Lookup.Gateway(ctx, key.name, key.port)
	case key.name != "":
		return p.cfg.Lookup.Ingress(ctx, key.name, key.port)
	}
	return p.cfg.Lookup.Addr(ctx, key.addr)
}

// update publishes routers made of the new target, of the kinds in use, and
// ends the backends that none of them needs.
func (t *target) update(now *model.Target) {
	t.mu.Lock()
	old := t.state.Load()
	next := &snapshot{target: now}
	keep := map[backendKey]*backend{}
	for k := range kinds {
		if !old.has(k) {
			continue
		}
		if !serves(now, k) {
			// Connections of another protocol stay as they were; new ones see
			// the change.
			t.p.cfg.Log.Info("Ignoring a change of protocol for a live stack", "target", t, "protocol", now.Protocol())
			next.take(k, old)
			for _, b := range old.backends(k) {
				keep[b.key] = b
			}
			continue
		}
		t.buildLocked(next, k, keep)
	}
	t.state.Store(next)
	var gone []*backend
	for key, b := range t.backends {
		if keep[key] == nil {
			gone = append(gone, b)
		}
	}
	t.backends = keep
	t.mu.Unlock()
	// Requests that read the old snapshot find them closed and read again.
	for _, b := range gone {
		b.close()
	}
	old.release(next)
}

// serves reports whether a target has routes for a kind of use.
func serves(t *model.Target, k kind) bool {
	switch k {
	case kindHTTP1:
		return !t.Opaque && (t.ProfileHTTP || t.Policy.HTTP1 != nil || t.Policy.HTTP2 != nil)
	case kindHTTP2:
		return !t.Opaque && (t.ProfileHTTP || t.Policy.HTTP2 != nil || t.Policy.HTTP1 != nil)
	case kindTLS:
		if t.Policy.Protocol == model.ProtocolTLS {
			return !t.Opaque
		}
		return t.Policy.TLS != nil && !t.Opaque && !t.ProfileHTTP && !t.ProfileTCP
	}
	return t.ProfileTCP || t.Policy.TCP != nil
}

// router makes sure that the snapshot has a router of the kind.
func (t *target) router(k kind) *snapshot {
	if s := t.state.Load(); s.has(k) {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.state.Load()
	if s.has(k) || t.closed {
		return s
	}
	next := *s
	t.buildLocked(&next, k, t.backends)
	t.state.Store(&next)
	return &next
}

// buildLocked makes the router of a kind. Backends that exist are used again;
// all that the router needs are in keep afterwards.
func (t *target) buildLocked(s *snapshot, k kind, keep map[backendKey]*backend) {
	b := builder{t: t, kind: k, keep: keep}
	switch k {
	case kindHTTP1, kindHTTP2:
		s.http[k] = b.http(s.target)
	default:
		s.tcp[k-kindOpaque] = b.tcp(s.target)
	}
}

func (s *snapshot) has(k kind) bool {
	if k <= kindHTTP2 {
		return s.http[k] != nil
	}
	return s.tcp[k-kindOpaque] != nil
}

func (s *snapshot) take(k kind, old *snapshot) {
	if k <= kindHTTP2 {
		s.http[k] = old.http[k]
	} else {
		s.tcp[k-kindOpaque] = old.tcp[k-kindOpaque]
	}
}

func (s *snapshot) backends(k kind) []*backend {
	if k <= kindHTTP2 {
		return s.http[k].backends
	}
	return s.tcp[k-kindOpaque].backends
}

// release gives back the metric handles of the routers that next does not
// have.
func (s *snapshot) release(next *snapshot) {
	for i, r := range s.http {
		if r != nil && (next == nil || next.http[i] != r) {
			r.release()
		}
	}
}

// close ends the target; nobody uses it any more.
func (t *target) close() {
	t.mu.Lock()
	t.closed = true
	all := t.backends
	t.backends = nil
	old := t.state.Load()
	t.mu.Unlock()
	for _, b := range all {
		b.close()
	}
	old.release(nil)
}

// String is for logs.
func (t *target) String() string { return t.text }

// String is "name:port" or "ip:port".
func (k targetKey) String() string {
	if k.name != "" {
		return fmt.Sprintf("%s:%d", k.name, k.port)
	}
	return k.addr.String()
}
