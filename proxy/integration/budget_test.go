package integration

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/linkerd-go/linkerd-go/internal/allocs"
	"github.com/linkerd-go/linkerd-go/proxy/exchange"
	"github.com/linkerd-go/linkerd-go/proxy/h2"
)

// exchangeOn sends the bench request and reads the response.
func exchangeOn(t *testing.T, c net.Conn, r *bufio.Reader, request []byte) {
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if len(line) <= 2 {
			break
		}
	}
	if _, err := r.Discard(64); err != nil {
		t.Fatal(err)
	}
}

// TestRequestsAllocateNothing guards the hot path: both proxies together, with
// TLS and HTTP/2 between them.
func TestRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates and empties pools")
	}
	m := newMesh(t, viaProxy)
	m.serveTCP(benchServer)
	c := m.dial(m.outAddr)
	r := bufio.NewReaderSize(c, 4096)
	request := []byte(benchRequest)
	allocates(t, func() { exchangeOn(t, c, r, request) })
}

// allocates fails a test whose requests allocate in our code: more than the few
// objects that fill pools again after a collection. Those of the TLS library, one
// for each record that it reads, are not counted: into how many records a request
// is cut goes by how busy the machine is.
func allocates(t *testing.T, do func()) {
	t.Helper()
	for range 500 {
		do()
	}
	got := allocs.Least(2000, do, "crypto/tls.")
	t.Logf("%.2f allocations a time", got.PerCall)
	if got.PerCall > 0.2 {
		t.Errorf("%.2f allocations a time:\n%s", got.PerCall, got.Where)
	}
}

// TestCallsAllocateNothing is the same for unary gRPC calls. The client and the
// server of the test are the proxy's own codecs, which allocate nothing either.
func TestCallsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates and empties pools")
	}
	m := newMesh(t, viaProxy)
	message := []byte("\x00\x00\x00\x00\x04data")
	m.serveTCP(func(c net.Conn) {
		_ = h2.NewServer(c, exchange.HandlerFunc(func(x *exchange.Exchange) {
			r := replies.Get().(*reply)
			r.state = 0
			_ = x.Respond(&r.head, r)
			replies.Put(r)
		}), nil, h2.Options{}).Serve()
	})
	c := h2.NewClientConn(m.dial(m.outAddr), h2.Options{})
	defer c.Wait()
	defer c.Close()
	head := &exchange.RequestHead{
		Version: exchange.HTTP2, Method: []byte("POST"), Scheme: []byte("http"), Authority: []byte("web.ns.svc.cluster.local"),
		Path: []byte("/s/Get"), ContentLength: -1,
	}
	head.Add("content-type", "application/grpc")
	head.Add("te", "trailers")
	body := new(exchange.Bytes)
	call := func() {
		*body = exchange.Bytes{Data: message}
		resp, err := c.RoundTrip(nil, head, body)
		if err != nil {
			t.Fatal(err)
		}
		for {
			f, err := resp.Body.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !f.End {
				continue
			}
			if f.Trailers == nil || string(f.Trailers.Get("grpc-status")) != "0" {
				t.Fatal("no status")
			}
			break
		}
		resp.Close()
	}
	allocates(t, call)
}

// reply is a response of one message and a status, and its own body.
type reply struct {
	head     exchange.ResponseHead
	data     []byte
	trailers exchange.Fields
	state    int
}

var replies = sync.Pool{New: func() any {
	r := &reply{data: []byte("\x00\x00\x00\x00\x04data")}
	r.head.Version, r.head.Status, r.head.ContentLength = exchange.HTTP2, 200, -1
	r.head.Add("content-type", "application/grpc")
	r.trailers.Add("grpc-status", "0")
	return r
}}

func (b *reply) Next() (exchange.Frame, error) {
	b.state++
	if b.state == 1 {
		return exchange.Frame{Data: b.data}, nil
	}
	return exchange.Frame{End: true, Trailers: &b.trailers}, nil
}
func (b *reply) Ready() bool { return true }
func (b *reply) Ended() bool { return b.state > 1 }
func (b *reply) Close(error) {}

// TestIdleConnectionsAreSmall guards the memory of clients that keep connections
// open: what the heap and the stacks grow by for each at the outbound proxy.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector's memory counts")
	}
	m := newMesh(t, viaProxy)
	m.serveTCP(benchServer)
	request := []byte(benchRequest)
	open := func(n int) {
		for range n {
			c, err := net.Dial("tcp", m.outAddr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			small := bufio.NewReaderSize(c, 16)
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			// 64 bytes of body after the head; nothing of it is kept.
			for seen := 0; seen < 2; {
				b, err := small.ReadByte()
				if err != nil {
					t.Fatal(err)
				}
				if b == '\n' {
					seen++
				} else if b != '\r' {
					seen = 0
				}
			}
			if _, err := io.CopyN(io.Discard, small, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	used := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc + s.StackInuse
	}
	open(20)
	before := used()
	const n = 300
	open(n)
	per := float64(used()-before) / n
	t.Logf("%.0f bytes per idle connection", per)
	if per > 5<<10 {
		t.Errorf("%.0f bytes per idle connection", per)
	}
}
