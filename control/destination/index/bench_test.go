package index

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/linkerd-go/linkerd-go/control/destination/core"
	"github.com/linkerd-go/linkerd-go/internal/kube"
)

// BenchmarkChange makes one of a thousand pods come and go while a hundred streams from three zones watch. An iteration is
// one change, from the watch to the last stream.
func BenchmarkChange(b *testing.B) {
	x := New(Options{Config: core.Config{H2Upgrade: true}, Capacity: 1 << 30, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go x.Run(ctx)
	x.serviceSink().Apply(kube.Key(web), &core.Service{ID: web, Ports: []core.ServicePort{{Name: "http", Port: 80}}})
	all := &core.Slice{ID: core.ID{Namespace: "emo", Name: "web-1"}, Service: web, Ports: []core.SlicePort{{Name: "http", Port: 8080}}}
	for i := range 1000 {
		id := core.ID{Namespace: "emo", Name: fmt.Sprintf("web-%d", i)}
		x.post(func() {
			x.tables.setPod(id, &core.Pod{ID: id, Labels: map[string]string{"linkerd.io/control-plane-ns": "linkerd"}, Owners: []core.Owner{{Kind: "ReplicaSet", Name: "web"}}})
		})
		all.Endpoints = append(all.Endpoints, core.SliceEndpoint{
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i % 250)})},
			Kind:  core.TargetPod, Target: id, Zone: fmt.Sprintf("z%d", i%3),
		})
	}
	less := *all
	less.Endpoints = all.Endpoints[:999]
	set := func(slice *core.Slice) {
		x.sliceSink().Apply(kube.Key{Namespace: "emo", Name: "web-1"}, []*core.Slice{slice})
	}
	set(all)
	var subs []*Subscription[core.Snapshot]
	for i := range 100 {
		node := fmt.Sprintf("n%d", i)
		x.post(func() { x.tables.setZone(node, fmt.Sprintf("z%d", i%3)) })
		sub, err := x.Endpoints(ctx, EndpointsQuery{Service: web, Port: 80, Node: node})
		if err != nil {
			b.Fatal(err)
		}
		<-sub.Changed()
		subs = append(subs, sub)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			set(&less)
		} else {
			set(all)
		}
		for _, sub := range subs {
			<-sub.Changed()
		}
	}
}
