package grpcserve

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	destinationpb "github.com/linkerd-go/linkerd-go/api/proto/destination"
)

// profiles sends the same messages to everybody.
type profiles struct {
	destinationpb.UnimplementedDestinationServer
	messages []*Message[destinationpb.DestinationProfile]
}

func (p *profiles) GetProfile(_ *destinationpb.GetDestination, stream grpc.ServerStreamingServer[destinationpb.DestinationProfile]) error {
	for _, m := range p.messages {
		if err := m.Send(stream); err != nil {
			return err
		}
	}
	return nil
}

// TestMessageIsTheSameForAll has many streams send the same messages at once.
func TestMessageIsTheSameForAll(t *testing.T) {
	plain := []*destinationpb.DestinationProfile{
		{FullyQualifiedName: "web.emo.svc.cluster.local", OpaqueProtocol: true}, {}, {FullyQualifiedName: string(make([]byte, 100_000))},
	}
	service := &profiles{}
	for _, m := range plain {
		service.messages = append(service.messages, NewMessage(proto.CloneOf(m)))
	}
	client := serveProfiles(t, service)
	var streams sync.WaitGroup
	for range 20 {
		streams.Go(func() {
			stream, err := client.GetProfile(t.Context(), &destinationpb.GetDestination{})
			if err != nil {
				t.Error(err)
				return
			}
			for i, want := range plain {
				if got, err := stream.Recv(); err != nil || !proto.Equal(got, want) {
					t.Errorf("message %d: got %v, %v", i, got, err)
				}
			}
		})
	}
	streams.Wait()
	for i, m := range service.messages {
		if m.plain != nil || m.encoded == nil {
			t.Errorf("message %d was not encoded ahead", i)
		}
	}
}

// TestMessageThatCannotBeEncoded: what is not UTF-8 is an error of each stream.
func TestMessageThatCannotBeEncoded(t *testing.T) {
	client := serveProfiles(t, &profiles{messages: []*Message[destinationpb.DestinationProfile]{
		NewMessage(&destinationpb.DestinationProfile{FullyQualifiedName: "\xff"}),
	}})
	for range 2 {
		stream, err := client.GetProfile(t.Context(), &destinationpb.GetDestination{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.Internal {
			t.Errorf("got %v", err)
		}
	}
}

// sent is a stream without gRPC.
type sent struct {
	grpc.ServerStreamingServer[destinationpb.DestinationProfile]
	messages []*destinationpb.DestinationProfile
}

func (s *sent) Context() context.Context { return context.Background() }

func (s *sent) Send(m *destinationpb.DestinationProfile) error {
	s.messages = append(s.messages, m)
	return nil
}

func TestMessageWithoutGRPC(t *testing.T) {
	plain := &destinationpb.DestinationProfile{FullyQualifiedName: "web"}
	m, s := NewMessage(plain), &sent{}
	for range 2 {
		if err := m.Send(s); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.messages) != 2 || s.messages[0] != plain || s.messages[1] != plain {
		t.Errorf("sent %v", s.messages)
	}
}

// serveProfiles runs a server and returns a client of it.
func serveProfiles(t *testing.T, service destinationpb.DestinationServer) destinationpb.DestinationClient {
	t.Helper()
	server := New()
	destinationpb.RegisterDestinationServer(server.Registrar(), service)
	listener := bufconn.Listen(1 << 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return destinationpb.NewDestinationClient(conn)
}
