package serve_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	"github.com/linkerd-go/linkerd-go/control/destination/serve"
)

// reader is a client that keeps what it is told of, and takes its time with each message.
type reader struct {
	grpc.ServerStream
	ctx   context.Context
	pause func() time.Duration

	mu sync.Mutex // guards view and odd
	// view are the endpoints by address, with their weights.
	view map[netip.Addr]uint32
	// odd are messages that told it nothing.
	odd []string
}

func (r *reader) Context() context.Context { return r.ctx }

func (r *reader) Send(u *destinationpb.Update) error {
	time.Sleep(r.pause())
	r.mu.Lock()
	defer r.mu.Unlock()
	before := maps.Clone(r.view)
	addr := func(ip uint32) netip.Addr {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], ip)
		return netip.AddrFrom4(b)
	}
	for _, a := range u.GetAdd().GetAddrs() {
		r.view[addr(a.GetAddr().GetIp().GetIpv4())] = a.GetWeight()
	}
	for _, a := range u.GetRemove().GetAddrs() {
		delete(r.view, addr(a.GetIp().GetIpv4()))
	}
	if maps.Equal(before, r.view) && u.GetNoEndpoints() == nil {
		r.odd = append(r.odd, u.String())
	}
	return nil
}

// TestNoStreamMissesAChange has many streams, some of them slow, follow a Service that changes at random: each ends up with
// what there is, and is told nothing twice. Streams come and go meanwhile. The seed is printed.
func TestNoStreamMissesAChange(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCluster(t, nil, false, "cluster.local")
		server := serve.New(serve.Options{Index: c.index, ClusterDomain: "cluster.local", Logger: slog.New(slog.DiscardHandler)})
		c.put(t, []byte(webService))
		c.put(t, someOf(nil))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var streams sync.WaitGroup
		var readers []*reader
		join := func() {
			slowest := []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second}[r.IntN(3)]
			own := rand.New(rand.NewPCG(seed, uint64(len(readers)+2)))
			s := &reader{ctx: ctx, view: make(map[netip.Addr]uint32), pause: func() time.Duration { return time.Duration(own.Int64N(int64(slowest))) }}
			readers = append(readers, s)
			streams.Go(func() {
				if err := server.Get(&destinationpb.GetDestination{Path: "web.emo.svc.cluster.local:80"}, s); err != nil {
					t.Errorf("a stream ended with %v", err)
				}
				if ctx.Err() == nil {
					t.Error("a stream ended")
				}
			})
		}
		var want []netip.Addr
		for change := range 100 {
			if change%5 == 0 {
				join()
			}
			want = nil
			for i := range 12 {
				if r.IntN(2) == 0 {
					want = append(want, netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}))
				}
			}
			c.put(t, someOf(want))
			// Often several changes come at once.
			if r.IntN(3) > 0 {
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		for i, s := range readers {
			s.mu.Lock()
			if got := slices.SortedFunc(maps.Keys(s.view), netip.Addr.Compare); !slices.Equal(got, want) {
				t.Errorf("stream %d has %v, want %v", i, got, want)
			}
			for _, m := range s.odd {
				t.Errorf("stream %d was told nothing new: %s", i, m)
			}
			s.mu.Unlock()
		}
		cancel()
		streams.Wait()
		server.Stop()
		server.Wait()
	})
}

// someOf is the slice of the Service with the given addresses.
func someOf(addrs []netip.Addr) []byte {
	text := `
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [`
	for _, a := range addrs {
		text += fmt.Sprintf("{addresses: [%s]}, ", a)
	}
	return []byte(text + "]\n")
}
