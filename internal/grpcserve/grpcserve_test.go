package grpcserve

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// idleStream is a stream on which nothing happens.
type idleStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s idleStream) Context() context.Context { return s.ctx }

// TestStreamsEndOneByOne: clients of a server that stops do not come to the others in one moment.
func TestStreamsEndOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 1000
		server := New()
		ends := make(chan time.Duration, streams)
		wait := func(_ any, s grpc.ServerStream) error { <-s.Context().Done(); return s.Context().Err() }
		var all sync.WaitGroup
		begin := time.Now()
		for range streams {
			all.Go(func() {
				if err := server.spread(nil, idleStream{ctx: t.Context()}, nil, wait); err != nil {
					t.Errorf("a stream ends with %v", err)
				}
				ends <- time.Since(begin)
			})
		}
		// Those that end for reasons of their own say so, before and after.
		gone, leave := context.WithCancel(t.Context())
		refusal := errors.New("no such name")
		refuse := func(any, grpc.ServerStream) error { return refusal }
		if err := server.spread(nil, idleStream{ctx: t.Context()}, nil, refuse); !errors.Is(err, refusal) {
			t.Errorf("a refused stream ends with %v", err)
		}
		time.Sleep(time.Hour)
		if len(ends) > 0 {
			t.Fatalf("%d streams end while the server runs", len(ends))
		}
		begin = time.Now()
		all.Go(func() {
			if err := server.spread(nil, idleStream{ctx: gone}, nil, wait); !errors.Is(err, context.Canceled) {
				t.Errorf("a client that goes is told %v", err)
			}
		})
		server.stop()
		leave()
		all.Wait()
		close(ends)
		bySecond := map[int]int{}
		for d := range ends {
			if d > stopSpread {
				t.Fatalf("a stream ends after %s", d)
			}
			bySecond[int(d/time.Second)]++
		}
		// An eighth in each second; a quarter would be by no chance.
		for second, n := range bySecond {
			if n > streams/4 {
				t.Errorf("%d of %d streams end in second %d", n, streams, second)
			}
		}
	})
}

// TestAcceptedConnectionsSendNoProbes is about idle streams that ended when the kernel lost one TCP keep-alive probe.
func TestAcceptedConnectionsSendNoProbes(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	client, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := quiet{lis}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		on, optErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	}); err != nil || optErr != nil {
		t.Fatal(err, optErr)
	}
	if on != 0 {
		t.Error("the connection sends keep-alive probes")
	}
}
