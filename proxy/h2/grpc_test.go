package h2

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// bytesCodec lets gRPC carry plain bytes, so that the test needs no schema.
type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (bytesCodec) Name() string { return "bytes" }

// TestRelayGRPC puts the codec between grpc-go's client and server.
func TestRelayGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		switch method {
		case "/test/Fail":
			s.SetTrailer(metadata.Pairs("x-trailer", "there"))
			return status.Error(codes.FailedPrecondition, "not today")
		case "/test/Hang":
			<-s.Context().Done()
			return s.Context().Err()
		}
		for {
			var m []byte
			if err := s.RecvMsg(&m); err == io.EOF {
				s.SetTrailer(metadata.Pairs("x-trailer", "there"))
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}))
	done := make(chan struct{})
	go func() { srv.Serve(ln); close(done) }()
	defer func() { srv.Stop(); <-done }()

	addr := listen(t, relay(dial(t, ln.Addr().String(), Options{})), Options{})
	cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(bytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	t.Run("unary", func(t *testing.T) {
		for _, n := range []int{0, 10, 1 << 20} {
			in, out := make([]byte, n), []byte(nil)
			var trailer metadata.MD
			if err := cc.Invoke(ctx, "/test/Echo", &in, &out, grpc.Trailer(&trailer)); err != nil {
				t.Fatal(err)
			}
			if len(out) != n || len(trailer["x-trailer"]) != 1 {
				t.Errorf("sent %d bytes, got %d, trailers %v", n, len(out), trailer)
			}
		}
	})
	t.Run("status without messages", func(t *testing.T) {
		in, out := []byte("x"), []byte(nil)
		err := cc.Invoke(ctx, "/test/Fail", &in, &out)
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not today" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		in, out := []byte("x"), []byte(nil)
		if err := cc.Invoke(short, "/test/Hang", &in, &out); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
	})
	t.Run("both directions", func(t *testing.T) {
		s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test/Echo")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			m := fmt.Appendf(nil, "message %d", i)
			if err := s.SendMsg(&m); err != nil {
				t.Fatal(err)
			}
			var got []byte
			if err := s.RecvMsg(&got); err != nil || string(got) != string(m) {
				t.Fatalf("sent %q, got %q, %v", m, got, err)
			}
		}
		s.CloseSend()
		var got []byte
		if err := s.RecvMsg(&got); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
	t.Run("more than a window each way", func(t *testing.T) {
		s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test/Echo")
		if err != nil {
			t.Fatal(err)
		}
		const n = 200
		go func() {
			for range n {
				m := make([]byte, 20000)
				if s.SendMsg(&m) != nil {
					return
				}
			}
			s.CloseSend()
		}()
		for i := range n {
			var got []byte
			if err := s.RecvMsg(&got); err != nil || len(got) != 20000 {
				t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
			}
		}
	})
}
