package serve_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	netpb "github.com/linkerd-go/linkerd-go/api/proto/net"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/control/policy/index"
	"github.com/linkerd-go/linkerd-go/control/policy/policytest"
	"github.com/linkerd-go/linkerd-go/control/policy/serve"
)

// reader is a client that keeps the last message, and takes its time with each.
type reader[M any] struct {
	grpc.ServerStream
	ctx   context.Context
	pause func() time.Duration

	mu sync.Mutex // guards what follows
	// last is nil before the first message.
	last *M
	// again counts messages that were like the one before.
	again int
}

func (r *reader[M]) Context() context.Context { return r.ctx }

func (r *reader[M]) Send(m *M) error {
	time.Sleep(r.pause())
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && proto.Equal(any(r.last).(proto.Message), any(m).(proto.Message)) {
		r.again++
	}
	r.last = m
	return nil
}

// check compares what a stream has with what a question is answered with now.
func (r *reader[M]) check(t *testing.T, i int, want *M, err error) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || !proto.Equal(any(r.last).(proto.Message), any(want).(proto.Message)) {
		t.Errorf("stream %d has\n%v\nand not\n%v, %v", i, r.last, want, err)
	}
	if r.again > 0 {
		t.Errorf("stream %d was told %d times what it had been told just before", i, r.again)
	}
}

const fanoutObjects = `
kind: Service
metadata: {name: web, annotations: {timeout.linkerd.io/request: %dms}}
spec: {clusterIP: 10.0.1.1, clusterIPs: [10.0.1.1], ports: [{name: http, port: 80}]}
---
kind: MeshTLSAuthentication
metadata: {name: clients}
spec: {identities: ["client-%d.emo.serviceaccount.identity.linkerd.cluster.local"]}
`

const fanoutBase = `
kind: Server
metadata: {name: web}
spec: {podSelector: {}, port: 8080, proxyProtocol: HTTP/1}
---
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: web}
  requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: clients}]
`

// TestNoStreamMissesAChange has many streams, some of them slow, follow what comes in at pods and what goes out to a Service
// while both change: each ends up with what there is, and is told nothing twice. Streams come meanwhile. The seed is printed.
func TestNoStreamMissesAChange(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := policytest.Config()
		x := index.New(index.Options{Config: c, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { x.Run(ctx) })
		server := serve.New(serve.Options{Index: x, ClusterDomain: c.ClusterDomain, Logger: slog.New(slog.DiscardHandler)})
		var registered services
		server.Register(&registered)
		objects := policytest.Objects{}
		apply := func(text string) {
			for _, object := range objects.Read(t, text) {
				if err := x.Apply(ctx, object); err != nil {
					t.Fatal(err)
				}
			}
		}
		apply(fanoutBase + fmt.Sprintf("---"+fanoutObjects, 1, 1))
		const pods = 4
		for i := range pods {
			apply(fmt.Sprintf(`
kind: Pod
metadata: {name: web-%d, labels: {linkerd.io/control-plane-ns: linkerd, app: "%d"}}
spec: {containers: [{name: app, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.1.0.%d}
`, i, i%2, i+1))
		}
		var inbounds []*reader[inboundpb.Server]
		var outbounds []*reader[outboundpb.OutboundPolicy]
		port := func(i int) *inboundpb.PortSpec {
			return &inboundpb.PortSpec{Workload: fmt.Sprintf("emo:web-%d", i%pods), Port: 8080}
		}
		traffic := func(i int) *outboundpb.TrafficSpec {
			return &outboundpb.TrafficSpec{SourceWorkload: fmt.Sprintf("ns%d:client", i%3), Target: &outboundpb.TrafficSpec_Addr{
				Addr: &netpb.TcpAddress{Ip: &netpb.IPAddress{Ip: &netpb.IPAddress_Ipv4{Ipv4: 10<<24 | 1<<8 | 1}}, Port: 80},
			}}
		}
		streamCtx, leave := context.WithCancel(ctx)
		var streams sync.WaitGroup
		follow := func(watch func() error) {
			streams.Go(func() {
				if err := watch(); err != nil {
					t.Errorf("a stream ended with %v", err)
				}
				if streamCtx.Err() == nil {
					t.Error("a stream ended")
				}
			})
		}
		join := func() {
			pause := func(n int) func() time.Duration {
				slowest := []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second}[r.IntN(3)]
				own := rand.New(rand.NewPCG(seed, uint64(n)))
				return func() time.Duration { return time.Duration(own.Int64N(int64(slowest))) }
			}
			i := len(inbounds)
			in := &reader[inboundpb.Server]{ctx: streamCtx, pause: pause(2*i + 2)}
			out := &reader[outboundpb.OutboundPolicy]{ctx: streamCtx, pause: pause(2*i + 3)}
			inbounds, outbounds = append(inbounds, in), append(outbounds, out)
			follow(func() error { return registered.inbound.WatchPort(port(i), in) })
			follow(func() error { return registered.outbound.Watch(traffic(i), out) })
		}
		for change := range 100 {
			if change%5 == 0 {
				join()
			}
			// Never what there was before: a slow stream that skips what was in between would rightly be told the same again.
			apply(fmt.Sprintf(fanoutObjects, change+2, change+2))
			// Often several changes come at once.
			if r.IntN(3) > 0 {
				time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
			}
		}
		time.Sleep(time.Minute)
		for i := range inbounds {
			want, err := registered.inbound.GetPort(ctx, port(i))
			inbounds[i].check(t, i, want, err)
			policy, err := registered.outbound.Get(ctx, traffic(i))
			outbounds[i].check(t, i, policy, err)
		}
		if seen := inbounds[0].last.String() + outbounds[0].last.String(); seen == "" {
			t.Error("the streams were told nothing")
		}
		leave()
		cancel()
		streams.Wait()
		server.Stop()
		server.Wait()
		running.Wait()
	})
}
