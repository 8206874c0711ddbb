package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/linkerd-go/linkerd-go/proxy/inbound"
	"github.com/linkerd-go/linkerd-go/proxy/outbound"
)

const benchRequest = "GET /path HTTP/1.1\r\nHost: web.ns.svc.cluster.local\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
const benchResponse = "HTTP/1.1 200 OK\r\nContent-Length: 64\r\nContent-Type: text/plain\r\n\r\n"

// benchServer answers each request with the same bytes, without allocating.
func benchServer(c net.Conn) {
	out := []byte(benchResponse + strings.Repeat("x", 64))
	r := bufio.NewReaderSize(c, 4096)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) <= 2 {
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
}

// benchmark sends requests one after the other over as many connections as
// there are processors, through both proxies or the outbound one alone.
func benchmark(b *testing.B, edit func(*outbound.Config, *inbound.Config)) {
	m := newMesh(b, edit)
	m.serveTCP(benchServer)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", m.outAddr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReaderSize(c, 4096)
		for pb.Next() {
			if _, err := io.WriteString(c, benchRequest); err != nil {
				b.Error(err)
				return
			}
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					b.Error(err)
					return
				}
				if len(line) <= 2 {
					break
				}
			}
			if _, err := r.Discard(64); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkMeshed is the whole mesh path: HTTP/1 to the outbound proxy, HTTP/2
// with mutual TLS between the proxies, HTTP/1 to the application.
func BenchmarkMeshed(b *testing.B) { benchmark(b, viaProxy) }

// largeBody is the size of the bodies of BenchmarkMeshedLarge, both ways.
const largeBody = 64 << 10

// BenchmarkMeshedLarge is the whole mesh path with large bodies.
func BenchmarkMeshedLarge(b *testing.B) {
	m := newMesh(b, viaProxy)
	m.serveTCP(func(c net.Conn) {
		out := []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", largeBody, strings.Repeat("x", largeBody)))
		r := bufio.NewReaderSize(c, largeBody)
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) > 2 {
				continue
			}
			if _, err := r.Discard(largeBody); err != nil {
				return
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	})
	request := []byte(fmt.Sprintf("POST /path HTTP/1.1\r\nHost: web.ns.svc.cluster.local\r\nContent-Length: %d\r\n\r\n%s", largeBody, strings.Repeat("x", largeBody)))
	b.SetBytes(2 * largeBody)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", m.outAddr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReaderSize(c, largeBody)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					b.Error(err)
					return
				}
				if len(line) <= 2 {
					break
				}
			}
			if _, err := r.Discard(largeBody); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkUnmeshed is the outbound proxy alone, HTTP/1 on both sides.
func BenchmarkUnmeshed(b *testing.B) {
	benchmark(b, func(oc *outbound.Config, _ *inbound.Config) {
		oc.OriginalDst = func(net.Conn) (netip.AddrPort, error) { return serverAddr, nil }
	})
}
