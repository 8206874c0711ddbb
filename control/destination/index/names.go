package index

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
)

const (
	// nameRefresh is the time between questions for a name. What DNS says of how long an answer is good is not told by
	// the resolver; the servers of clusters keep answers for 5 to 30 seconds themselves.
	nameRefresh = 10 * time.Second
	// nameRetry is the time after a question that was not answered.
	nameRetry = 2 * time.Second
	// nameTimeout is how long a question may take.
	nameTimeout = 5 * time.Second
)

// Resolver asks DNS; *net.Resolver does.
type Resolver interface {
	// LookupNetIP returns the addresses of a host, the ones to prefer first; network is ip or ip4. An error that is a
	// *net.DNSError with IsNotFound says that there are none.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ResolvesNames reports whether aliases of names outside of the cluster have endpoints.
func (x *Index) ResolvesNames() bool { return x.options.Resolver != nil }

// followed is a name that DNS is asked for.
type followed struct{ stop context.CancelFunc }

// follow begins to ask for a name, if nobody does.
func (x *Index) follow(name string) {
	if x.options.Resolver == nil || x.names[name] != nil {
		return
	}
	f := new(followed)
	x.names[name] = f
	f.stop = x.spawn(func(ctx context.Context) {
		x.ask(ctx, name, func(addrs []netip.Addr) {
			x.post(func() {
				// Not if it was given up meanwhile, even if somebody else has begun again.
				if x.names[name] == f && !slices.Equal(x.tables.names[name], addrs) {
					x.tables.names[name] = addrs
					x.answers.Touch(fact{kind: factName, id: core.ID{Name: name}})
				}
			})
		})
	})
}

// forgetNames gives up the names that no answer is made from any more.
func (x *Index) forgetNames() {
	for name, f := range x.names {
		if !x.answers.Read(fact{kind: factName, id: core.ID{Name: name}}) {
			f.stop()
			delete(x.names, name)
			delete(x.tables.names, name)
		}
	}
}

// ask asks for a name again and again until ctx is done, and tells what there is. While DNS cannot be asked it tells
// nothing: old addresses are better than none.
func (x *Index) ask(ctx context.Context, name string, tell func([]netip.Addr)) {
	network := "ip"
	if !x.options.Config.IPv6 {
		network = "ip4"
	}
	failing := false
	for {
		pause := nameRefresh
		question, cancel := context.WithTimeout(ctx, nameTimeout)
		// With the dot no search list comes into it: it is a whole name.
		addrs, err := x.options.Resolver.LookupNetIP(question, network, name+".")
		cancel()
		if ctx.Err() != nil {
			return
		}
		var none *net.DNSError
		switch {
		case err == nil:
			tell(usable(addrs))
		case errors.As(err, &none) && none.IsNotFound:
			tell(nil)
		default:
			pause = nameRetry
		}
		if failed := err != nil; failed != failing {
			failing = failed
			if failed {
				x.options.Logger.Warn("name not resolved", "name", name, "error", err)
			} else {
				x.options.Logger.Info("name resolved again", "name", name)
			}
		}
		// The names of one cluster are not all asked for at the same moment.
		timer := time.NewTimer(pause + rand.N(pause/10))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// usable returns the addresses of the family of the first, in order. The resolver puts those in front that this machine has
// a way to, and clients are in the same cluster.
func usable(addrs []netip.Addr) []netip.Addr {
	var list []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap().WithZone("")
		if len(list) == 0 || addr.Is4() == list[0].Is4() {
			list = append(list, addr)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
