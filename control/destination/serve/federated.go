package serve

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/control/destination/index"
)

// member is one Service of a federated one. Source: proxy API chapter, section 3.9.
type member struct {
	// cluster is empty for the server's own.
	cluster, service string
}

// members reads the annotations of a federated Service. Malformed entries are left out.
func (s *Server) members(service *core.Service) []member {
	var list []member
	if service.FederatedLocal != "" {
		list = append(list, member{service: service.FederatedLocal})
	}
	for _, entry := range strings.Split(service.FederatedRemotes, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		name, cluster, ok := strings.Cut(entry, "@")
		if !ok || name == "" || cluster == "" {
			s.options.Logger.Error("member of federated service ignored", "service", service.ID, "member", entry)
			continue
		}
		if m := (member{cluster, name}); !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

// union is a federated stream: the subscriptions to its members, and what the client has of each. It belongs to the
// goroutine that sends, but for forwarders.
type union struct {
	server  *Server
	query   index.EndpointsQuery
	stream  grpc.ServerStreamingServer[destinationpb.Update]
	members map[member]*part
	// changed has a member whose subscription has something new.
	changed chan member
	// forwarders pass on the signs of the members' subscriptions.
	forwarders sync.WaitGroup
	// told says that the client has been sent something.
	told bool
}

// part is one member's share in a stream.
type part struct {
	// from is where sub is from. A cluster that is linked in another way has another index.
	from *index.Index
	sub  *index.Subscription[core.Snapshot]
	last *core.Snapshot
	gone chan struct{}
}

// federated follows the endpoints of all members of a federated Service, and the list of members itself.
func (s *Server) federated(stream grpc.ServerStreamingServer[destinationpb.Update], query index.EndpointsQuery) error {
	services, err := s.options.Index.WatchService(stream.Context(), query.Service)
	if err != nil {
		return s.failed(stream.Context(), err, codes.Unknown, err.Error())
	}
	defer services.Close()
	u := &union{
		server: s, query: query, stream: stream,
		members: make(map[member]*part), changed: make(chan member),
	}
	ended := make(chan struct{})
	defer close(ended)
	result := make(chan error, 1)
	overflow := make(chan struct{}, 1)
	s.Go(func() {
		result <- u.run(services, ended, overflow)
		u.closeAll()
		u.forwarders.Wait()
	})
	select {
	case <-stream.Context().Done():
		return nil
	case <-s.Stopping():
		return nil
	case <-overflow:
		s.options.Logger.Warn("stream closed: client does not keep up", "service", query.Service, "port", query.Port)
		s.options.Metrics.endpointsOverflow(query.Service)
		return nil
	case err := <-result:
		if stream.Context().Err() != nil {
			return nil
		}
		return err
	}
}

// run sends until the stream has ended or the Service is not federated any more.
func (u *union) run(services *index.Subscription[core.Service], ended <-chan struct{}, overflow chan<- struct{}) error {
	var service *core.Service
	for {
		// Asked for before the clusters themselves are, so that no change is missed.
		relinked := u.server.options.Clusters.Changed()
		if service != nil {
			members := u.server.members(service)
			if err := u.follow(members, ended, overflow); err != nil {
				return err
			}
			if err := u.nobody(members); err != nil {
				return err
			}
		}
		if again, err := u.wait(services, &service, relinked, ended); err != nil || !again {
			return err
		}
	}
}

// wait sends what members bring until the list of members or that of clusters changes. It reports whether to go on.
func (u *union) wait(services *index.Subscription[core.Service], service **core.Service, relinked, ended <-chan struct{}) (bool, error) {
	for {
		select {
		case <-ended:
			return false, nil
		case <-u.server.options.Index.Stopped():
			return false, nil
		case <-relinked:
			return true, nil
		case <-services.Changed():
			*service = services.Latest()
			return *service != nil && (*service).Federated, nil
		case m := <-u.changed:
			p := u.members[m]
			if p == nil {
				continue
			}
			if err := u.send(p); err != nil {
				return false, err
			}
		}
	}
}

// nobody tells a client that has been told nothing that there are no endpoints. Without a first message it would give the stream
// up after three seconds, again and again, and keep endpoints that are gone. While there is a member of which nothing is known,
// as when a controller has just started, nobody can say that.
func (u *union) nobody(members []member) error {
	if u.told || len(u.members) < len(members) {
		return nil
	}
	u.told = true
	return u.stream.Send(&destinationpb.Update{Update: &destinationpb.Update_NoEndpoints{NoEndpoints: &destinationpb.NoEndpoints{Exists: true}}})
}

// send sends what is new of a member.
func (u *union) send(p *part) error {
	next := p.sub.Latest()
	updates := u.server.encoder.updates(p.last, next)
	if p.last == nil && len(next.Entries) == 0 {
		// One member without endpoints does not mean that the whole has none.
		updates = nil
	}
	p.last = next
	u.told = u.told || len(updates) > 0
	for _, update := range updates {
		if err := update.Send(u.stream); err != nil {
			return err
		}
	}
	return nil
}

// follow brings the subscriptions in line with a list of members.
func (u *union) follow(members []member, ended <-chan struct{}, overflow chan<- struct{}) error {
	for m, p := range u.members {
		if _, ok := u.source(m); ok && slices.Contains(members, m) {
			continue
		}
		u.drop(m)
		if err := u.retract(p); err != nil {
			return err
		}
	}
	for _, m := range members {
		from, ok := u.source(m)
		if !ok {
			u.server.options.Logger.Error("member of federated service left out: unknown cluster",
				"service", u.query.Service, "cluster", m.cluster)
			continue
		}
		var last *core.Snapshot
		if p := u.members[m]; p != nil {
			if p.from == from {
				continue
			}
			// The same cluster, linked anew: only what differs is sent.
			last = p.last
			u.drop(m)
		}
		query := u.query
		if m.cluster == "" {
			query.Service.Name = m.service
		} else {
			query = remoteQuery(query, m.service)
		}
		sub, err := from.Endpoints(u.stream.Context(), query)
		if errors.Is(err, index.ErrStopped) {
			continue // it is about to be taken out of the clusters
		}
		if err != nil {
			return err
		}
		p := &part{from: from, sub: sub, last: last, gone: make(chan struct{})}
		u.members[m] = p
		u.forwarders.Go(func() { u.forward(m, p, ended, overflow) })
		// A new subscription has its answer already. Members are sent in their order.
		if err := u.send(p); err != nil {
			return err
		}
	}
	return nil
}

// source returns the index that knows a member's endpoints.
func (u *union) source(m member) (*index.Index, bool) {
	if m.cluster == "" {
		return u.server.options.Index, true
	}
	return u.server.options.Clusters.Cluster(m.cluster)
}

// retract tells the client that the endpoints of a part that has been dropped are gone.
func (u *union) retract(p *part) error {
	if p.last == nil {
		return nil
	}
	var gone core.Delta
	for _, entry := range p.last.Entries {
		if !u.has(entry.Addr) {
			gone.Remove = append(gone.Remove, entry.Addr)
		}
	}
	for _, update := range u.server.encoder.delta(nil, gone) {
		if err := update.Send(u.stream); err != nil {
			return err
		}
	}
	return nil
}

// forward passes on the signs of a member's subscription.
func (u *union) forward(m member, p *part, ended <-chan struct{}, overflow chan<- struct{}) {
	for {
		select {
		case <-p.sub.Changed():
			select {
			case u.changed <- m:
			case <-p.sub.Overflow():
				select {
				case overflow <- struct{}{}:
				default:
				}
				return
			case <-p.gone:
				return
			case <-ended:
				return
			}
		case <-p.gone:
			return
		case <-ended:
			return
		}
	}
}

// has reports whether a remaining member has an address.
func (u *union) has(addr netip.AddrPort) bool {
	for _, p := range u.members {
		if p.last != nil && slices.ContainsFunc(p.last.Entries, func(e core.Entry) bool { return e.Addr == addr }) {
			return true
		}
	}
	return false
}

func (u *union) drop(m member) {
	p := u.members[m]
	delete(u.members, m)
	close(p.gone)
	p.sub.Close()
}

func (u *union) closeAll() {
	for m := range u.members {
		u.drop(m)
	}
}
