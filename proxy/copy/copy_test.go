package copy

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/proxy/netx"
	"github.com/linkerd-go/linkerd-go/proxy/netx/buf"
	"github.com/linkerd-go/linkerd-go/proxy/netx/faultconn"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// tcp returns both ends of a loopback connection.
func tcp(t testing.TB) (net.Conn, net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return netx.NewTCP(a.(*net.TCPConn)), netx.NewTCP(b.(*net.TCPConn))
}

func pipe(t testing.TB) (net.Conn, net.Conn) { return faultconn.Pipe(64 << 10) }

// TestBothWays moves data of several sizes, with half-closes.
func TestBothWays(t *testing.T) {
	outstanding := buf.Count()
	for _, kind := range []struct {
		name string
		make func(testing.TB) (net.Conn, net.Conn)
	}{{"tcp", tcp}, {"pipe", pipe}} {
		for _, size := range []int{0, 1, 5000, 3 << 20} {
			client, a := kind.make(t)
			b, server := kind.make(t)
			var ca, cb netx.Bytes
			data := make([]byte, size)
			rand.Read(data)
			var wg sync.WaitGroup
			wg.Go(func() {
				client.Write(data)
				netx.CloseWrite(client)
			})
			wg.Go(func() {
				// The server answers only after it saw the end.
				got, err := io.ReadAll(server)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s %d: server got %d bytes, %v", kind.name, size, len(got), err)
				}
				server.Write(got)
				io.WriteString(server, "!")
				netx.CloseWrite(server)
			})
			wg.Go(func() {
				got, err := io.ReadAll(client)
				if err != nil || len(got) != size+1 || !bytes.Equal(got[:size], data) {
					t.Errorf("%s %d: client got %d bytes, %v", kind.name, size, len(got), err)
				}
			})
			var d Duplex
			res := d.Run(netx.WithPrefix(netx.Count(a, &ca), []byte("")), netx.Count(b, &cb))
			wg.Wait()
			if res.Err() != nil || res.Sent != int64(size) || res.Received != int64(size)+1 {
				t.Errorf("%s %d: %+v", kind.name, size, res)
			}
			if ca.Read.Load() != uint64(size) || ca.Written.Load() != uint64(size)+1 || cb.Read.Load() != uint64(size)+1 || cb.Written.Load() != uint64(size) {
				t.Errorf("%s %d: counted %d/%d and %d/%d", kind.name, size, ca.Read.Load(), ca.Written.Load(), cb.Read.Load(), cb.Written.Load())
			}
			client.Close()
			server.Close()
		}
	}
	if n := outstanding(); n != 0 {
		t.Errorf("%d buffers were not freed", n)
	}
}

// TestPrefixIsSentFirst copies from a connection with bytes put back.
func TestPrefixIsSentFirst(t *testing.T) {
	client, a := tcp(t)
	b, server := tcp(t)
	io.WriteString(client, "world")
	netx.CloseWrite(client)
	go func() {
		var d Duplex
		d.Run(netx.WithPrefix(a, []byte("hello ")), b)
	}()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != "hello world" {
		t.Errorf("got %q, %v", got, err)
	}
	netx.CloseWrite(server)
	io.ReadAll(client)
}

func TestReset(t *testing.T) {
	client, a := tcp(t)
	b, server := tcp(t)
	done := make(chan Result)
	go func() {
		var d Duplex
		done <- d.Run(a, b)
	}()
	io.WriteString(client, "x")
	io.ReadFull(server, make([]byte, 1))
	server.(*netx.TCP).SetLinger(0)
	server.Close()
	res := <-done
	if !netx.IsReset(res.ReceiveErr) || netx.Errno(res.ReceiveErr) != "ECONNRESET" {
		t.Errorf("receiving ended with %v", res.ReceiveErr)
	}
	if res.SendErr != nil {
		t.Errorf("sending is blamed too: %v", res.SendErr)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("client was not told")
	}
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("policy changed")
		client, a := faultconn.Pipe(100)
		b, server := faultconn.Pipe(100)
		var d Duplex
		done := make(chan Result)
		go func() { done <- d.Run(a, b) }()
		// One direction waits to read, the other to write.
		go io.Copy(client, strings.NewReader(strings.Repeat("x", 10000)))
		time.Sleep(time.Second)
		d.Cancel(why)
		res := <-done
		if res.SendErr != why || res.ReceiveErr != why {
			t.Errorf("ended with %v and %v", res.SendErr, res.ReceiveErr)
		}
		client.Close()
		server.Close()

		// Cancelled before it runs.
		a, _ = faultconn.Pipe(100)
		b, _ = faultconn.Pipe(100)
		var early Duplex
		early.Cancel(why)
		if res := early.Run(a, b); res.Err() != why {
			t.Errorf("ended with %v", res.Err())
		}
	})
}

// BenchmarkCopy moves bulk data between sockets.
func BenchmarkCopy(b *testing.B) {
	client, a := tcp(b)
	c, server := tcp(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var d Duplex
		d.Run(a, c)
	}()
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	b.ResetTimer()
	go func() {
		for range b.N {
			client.Write(chunk)
		}
		netx.CloseWrite(client)
	}()
	io.Copy(io.Discard, struct{ io.Reader }{server})
	server.Close()
	<-done
}
