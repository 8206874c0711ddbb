package controlplane

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
	inboundpb "github.com/linkerd-go/linkerd-go/api/proto/inbound"
	outboundpb "github.com/linkerd-go/linkerd-go/api/proto/outbound"
	"github.com/linkerd-go/linkerd-go/test/controlplane/child"
)

// The test binary is also a client of the controllers in a process of its own, which a test can stop in its tracks.
const (
	// clientVariable has the addresses of destination and policy, and makes the binary a client.
	clientVariable = "CONTROLPLANE_CLIENT"
	// targetVariable has the question about outbound policy.
	targetVariable = "CONTROLPLANE_TARGET"
	// streamsOfEach is how many streams of each kind the client opens.
	streamsOfEach = 20
	// opened is what the client prints once all streams have had their first message.
	opened = "all streams are open"
)

// runClient opens streams of every kind and reads them until it is killed.
func runClient() int {
	addresses := strings.Split(os.Getenv(clientVariable), ",")
	var target outboundpb.TrafficSpec
	if err := proto.Unmarshal([]byte(os.Getenv(targetVariable)), &target); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var conns []*grpc.ClientConn
	for _, a := range addresses {
		conn, err := grpc.NewClient(a, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		conns = append(conns, conn)
	}
	first := make(chan error)
	ctx := context.Background()
	request := &destinationpb.GetDestination{Scheme: "k8s", Path: authority, ContextToken: context1}
	for range streamsOfEach {
		go read(first, func() (grpc.ServerStreamingClient[destinationpb.Update], error) {
			return destinationpb.NewDestinationClient(conns[0]).Get(ctx, request)
		})
		go read(first, func() (grpc.ServerStreamingClient[destinationpb.DestinationProfile], error) {
			return destinationpb.NewDestinationClient(conns[0]).GetProfile(ctx, request)
		})
		go read(first, func() (grpc.ServerStreamingClient[inboundpb.Server], error) {
			return inboundpb.NewInboundServerPoliciesClient(conns[1]).WatchPort(ctx, &inboundpb.PortSpec{Workload: context1, Port: 8080})
		})
		go read(first, func() (grpc.ServerStreamingClient[outboundpb.OutboundPolicy], error) {
			return outboundpb.NewOutboundPoliciesClient(conns[1]).Watch(ctx, &target)
		})
	}
	for range 4 * streamsOfEach {
		if err := <-first; err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	fmt.Println(opened)
	select {}
}

// read reads a stream for good, and tells of its first message.
func read[M any](first chan<- error, open func() (grpc.ServerStreamingClient[M], error)) {
	stream, err := open()
	if err == nil {
		_, err = stream.Recv()
	}
	first <- err
	for err == nil {
		_, err = stream.Recv()
	}
}

// client starts the client and waits until its streams are open.
func (w *world) client(destination, policy *controller) *child.Process {
	w.t.Helper()
	target, err := proto.Marshal(w.outbound("web"))
	w.check(err)
	self, err := os.Executable()
	w.check(err)
	p := child.Start(w.t, child.Options{Name: "client", Argv: []string{self}, Env: []string{
		clientVariable + "=" + destination.grpc + "," + policy.grpc, targetVariable + "=" + string(target),
	}})
	w.eventually(soon, "the client's streams to open", func() error {
		if !strings.Contains(p.Log(), opened) {
			return fmt.Errorf("it says %q", p.Log())
		}
		return nil
	})
	return p
}
