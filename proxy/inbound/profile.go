package inbound

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/lookup"
	"github.com/linkerd-go/linkerd-go/proxy/model"
	"github.com/linkerd-go/linkerd-go/proxy/route"
	"github.com/linkerd-go/linkerd-go/proxy/series"
	"github.com/linkerd-go/linkerd-go/proxy/uri"
)

// maxProfiles bounds how many names are looked up at once, for clients choose
// them.
const maxProfiles = 1000

// profiles finds the service profiles that requests are for, so that their
// routes are counted (proxy chapter, section 8). Requests find what is known
// without a lock.
type profiles struct {
	p  *Proxy
	wg sync.WaitGroup
	// known is replaced, never changed, under mu.
	known atomic.Pointer[map[string]*profileEntry]
	mu    sync.Mutex
	// closed and sweep are guarded by mu.
	closed bool
	sweep  *time.Timer
}

// profileEntry is one name's profile.
type profileEntry struct {
	// dst is the name and port that the metrics have.
	dst    string
	found  chan struct{} // closed once lease is set or the lookup failed
	lease  *lookup.Lease[lookup.Profiles]
	cancel context.CancelFunc
	// used is set by requests and cleared by the sweep.
	used atomic.Bool
	// late says that requests do not wait any more.
	late  atomic.Bool
	state atomic.Pointer[profileState]
	mu    sync.Mutex // guards replacing state, and gone
	// gone says that the entry is forgotten, and takes no state any more.
	gone bool
}

// profileState is a snapshot of a profile with the metric handles of its
// routes.
type profileState struct {
	profile *model.Profile
	routes  []*profileRoute
	def     *profileRoute
}

// profileRoute is a route of a profile. A nil one counts nowhere.
type profileRoute struct {
	route *model.ProfileRoute
	http  *series.HTTP
}

func newProfiles(p *Proxy) *profiles {
	ps := &profiles{p: p}
	ps.known.Store(&map[string]*profileEntry{})
	return ps
}

// logical is the name and port that a request is for: what the client's proxy
// says, else its authority.
func logical(h *exchange.RequestHead) ([]byte, uint16, bool) {
	if v := h.Get("l5d-dst-canonical"); v != nil {
		if name, port, ok := uri.NamePort(v, 80); ok {
			return name, port, true
		}
	}
	return uri.NamePort(route.Authority(h), 80)
}

// find sets the request's profile route. It waits, the first time, no longer
// than the configured while; later requests pass by a lookup that is late.
func (ps *profiles) find(r *request) error {
	if ps.p.cfg.ProfileSuffixes == nil || ps.p.cfg.Profiles == nil {
		return nil
	}
	name, port, ok := logical(r.x.Request)
	if !ok {
		return nil
	}
	var space [280]byte
	key := append(append(space[:0], name...), ':', byte(port>>8), byte(port))
	e := (*ps.known.Load())[string(key)]
	if e == nil {
		if !ps.p.cfg.ProfileSuffixes.Match(string(name)) {
			return nil
		}
		if e = ps.add(string(key), string(name), port); e == nil {
			return nil
		}
	}
	e.used.Store(true)
	if !e.wait(r, ps.p.cfg.ProfileTimeout) {
		return nil
	}
	if e.lease == nil {
		return nil
	}
	if s := e.current(ps.p.cfg.Series); s != nil {
		r.profile = s.def
		if found := route.FindProfile(s.profile, r.x.Request); found != nil {
			for _, pr := range s.routes {
				if pr.route == found {
					r.profile = pr
				}
			}
		}
		r.profile.http.Request()
	}
	return nil
}

// wait reports whether the lookup is over.
func (e *profileEntry) wait(r *request, limit time.Duration) bool {
	select {
	case <-e.found:
		return true
	default:
	}
	if e.late.Load() {
		return false
	}
	gone := make(chan struct{})
	if r.x.Bind(func(error) { close(gone) }) != nil {
		return false
	}
	defer r.x.Bind(nil)
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-e.found:
		return true
	case <-t.C:
		e.late.Store(true)
	case <-gone:
	}
	return false
}

// add begins the lookup of a name.
func (ps *profiles) add(key, name string, port uint16) *profileEntry {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	old := *ps.known.Load()
	if e := old[key]; e != nil {
		return e
	}
	if ps.closed || len(old) >= maxProfiles {
		return nil
	}
	ctx, cancel := context.WithCancel(ps.p.ctx)
	e := &profileEntry{dst: name + ":" + strconv.Itoa(int(port)), found: make(chan struct{}), cancel: cancel}
	next := make(map[string]*profileEntry, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[key] = e
	ps.known.Store(&next)
	ps.wg.Go(func() {
		l, err := ps.p.cfg.Profiles.Profile(ctx, name, port)
		if err != nil {
			ps.p.cfg.Log.Debug("Profile lookup failed", "name", name, "error", err)
		}
		e.lease = l
		close(e.found)
	})
	if ps.sweep == nil {
		ps.sweep = time.AfterFunc(ps.idle(), ps.expire)
	}
	return e
}

// idle is after how long without use a name is forgotten, at the latest twice
// that.
func (ps *profiles) idle() time.Duration { return 90 * time.Second }

// expire forgets the names that were not used since the last time.
func (ps *profiles) expire() {
	ps.mu.Lock()
	if ps.closed {
		ps.mu.Unlock()
		return
	}
	next := map[string]*profileEntry{}
	var gone []*profileEntry
	for k, e := range *ps.known.Load() {
		if e.used.Swap(false) {
			next[k] = e
		} else {
			gone = append(gone, e)
		}
	}
	ps.known.Store(&next)
	if len(next) > 0 {
		ps.sweep.Reset(ps.idle())
	} else {
		ps.sweep = nil
	}
	ps.mu.Unlock()
	for _, e := range gone {
		e.end()
	}
}

// end gives the lookup up.
func (e *profileEntry) end() {
	e.cancel()
	<-e.found
	if e.lease != nil {
		e.lease.Release()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = true
	if s := e.state.Swap(nil); s != nil {
		s.release()
	}
}

func (s *profileState) release() {
	for _, r := range s.routes {
		r.http.Release()
	}
	s.def.http.Release()
}

// current is the state for the profile as it is now, nil if there is none that
// names a service, or the entry is forgotten.
func (e *profileEntry) current(set *series.Set) *profileState {
	profile := e.lease.Value().Get()
	if profile == nil || profile.Name == "" {
		return nil
	}
	if s := e.state.Load(); s != nil && s.profile == profile {
		return s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.state.Load(); s != nil && s.profile == profile {
		return s
	}
	if e.gone {
		// A request found the entry just before it was forgotten. Nobody would
		// give these handles back, and their series would stay for ever.
		return nil
	}
	s := &profileState{profile: profile}
	for i := range profile.Routes {
		pr := &profile.Routes[i]
		s.routes = append(s.routes, &profileRoute{pr, set.ProfileRoute(series.ProfileRoute(series.InboundLabel, e.dst, pr.Labels))})
	}
	s.def = &profileRoute{nil, set.ProfileRoute(series.ProfileRoute(series.InboundLabel, e.dst, nil))}
	if old := e.state.Swap(s); old != nil {
		// Requests in flight may still count in the old handles, which
		// keeps their series alive a little longer at worst.
		old.release()
	}
	return s
}

// classes are the route's response classes.
func (pr *profileRoute) classes() []model.ResponseClass {
	if pr == nil || pr.route == nil {
		return nil
	}
	return pr.route.Classes
}

// over counts a response that is over.
func (pr *profileRoute) over(c series.Class) {
	if pr != nil {
		pr.http.Response(c)
	}
}

// close ends all lookups.
func (ps *profiles) close() {
	ps.mu.Lock()
	ps.closed = true
	if ps.sweep != nil {
		ps.sweep.Stop()
	}
	all := *ps.known.Swap(&map[string]*profileEntry{})
	ps.mu.Unlock()
	for _, e := range all {
		e.end()
	}
	ps.wg.Wait()
}
